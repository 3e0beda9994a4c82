use serde::{Deserialize, Serialize};

/// Other processes of the same user that take of the same machine under the same caps. The caps are
/// the machine's: what others hold counts against them.
pub trait Peers: Send {
    /// What they hold at this moment, as far as it is known; `is_busy` says whether this process has
    /// requests. Called a few times a second at most, by the thread that holds the limits, and once
    /// while the machine is opened: must not wait. One that panics is not asked again; the memory that
    /// it told of last counts from then on, and the time that others take as load.
    fn look(&mut self, is_busy: bool) -> SeenPeers;
}

/// What is known of other processes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SeenPeers {
    /// One for each process.
    pub peers: Vec<PeerUse>,
    /// What is not known, each with the reason: a process that does not answer, a folder that cannot
    /// be read.
    pub unknown: Vec<String>,
}

/// What one process takes of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerUse {
    /// Its process id.
    pub pid: u32,
    /// Bytes it has leased, by the memory's name.
    pub memory_bytes: Vec<(String, u64)>,
    /// The share of the machine's processor time that it took between the last two looks, 0..=1.
    pub cpu_share: f64,
    /// Seconds of processor time that its threads took since it began, if its system tells.
    pub cpu_s: Option<f64>,
    /// Whether it has requests: the processes that have share the machine's time evenly.
    pub is_busy: bool,
}

impl SeenPeers {
    /// Bytes they hold in the memory of this name.
    pub(crate) fn bytes_in(&self, memory: &str) -> u64 {
        let held = self.peers.iter().flat_map(|peer| &peer.memory_bytes);
        let its = held.filter(|(name, _)| name == memory);
        // They come from other processes, and may be any numbers.
        its.fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// Their share of the machine's processor time.
    pub(crate) fn cpu_share(&self) -> f64 {
        let shares = self.peers.iter().map(|peer| peer.cpu_share);
        // They come from other processes, and may be no numbers.
        let sane = shares.filter(|share| (0.0..=1.0).contains(share));
        sane.sum::<f64>().min(1.0)
    }

    /// What told of them panicked.
    pub(crate) fn tell_no_more(&mut self, problem: &str) {
        for peer in &mut self.peers {
            peer.cpu_share = 0.0;
        }
        self.unknown = vec![format!(
            "other processes: what told of them panicked, and is not asked again: {problem}"
        )];
    }

    /// How many processes share the machine's time with this one, itself included.
    pub(crate) fn sharers(&self) -> usize {
        1 + self.peers.iter().filter(|peer| peer.is_busy).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_peers_hold_adds_up_by_memory_and_only_busy_ones_share() {
        let peer = |bytes, is_busy| PeerUse {
            memory_bytes: vec![("system".to_owned(), bytes), ("other".to_owned(), 1)],
            cpu_share: 0.25,
            is_busy,
            ..PeerUse::default()
        };
        let seen = SeenPeers {
            peers: vec![peer(10, true), peer(5, false)],
            unknown: Vec::new(),
        };
        assert_eq!((seen.bytes_in("system"), seen.bytes_in("none")), (15, 0));
        assert_eq!((seen.cpu_share(), seen.sharers()), (0.5, 2));
        let odd = [f64::NAN, f64::INFINITY, -1.0, 1e9, 0.75, 0.75];
        let peers = odd.map(|cpu_share| PeerUse {
            cpu_share,
            ..peer(u64::MAX, false)
        });
        let seen = SeenPeers {
            peers: peers.to_vec(),
            unknown: Vec::new(),
        };
        assert_eq!((seen.bytes_in("system"), seen.cpu_share()), (u64::MAX, 1.0));
    }
}
