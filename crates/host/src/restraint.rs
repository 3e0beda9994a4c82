use crate::imp;

/// What a thread is to be held to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restraint {
    /// Nice value, -20..=19; higher gives way to others.
    pub nice: i32,
    /// I/O class, 0..=3: none, real time, best effort, idle.
    pub io_class: u8,
    /// I/O level within the class, 0..=7; higher gives way to others.
    pub io_level: u8,
    /// The logical cores it may run on; any if `None`.
    pub cores: Option<Vec<usize>>,
}

/// What a thread is, read back from the system after it was restrained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InEffect {
    /// Its nice value.
    pub nice: Option<i32>,
    /// Its I/O class and level.
    pub io: Option<(u8, u8)>,
    /// The logical cores it may run on.
    pub cores: Option<Vec<usize>>,
    /// What of the restraint did not take effect, and why.
    pub problems: Vec<String>,
}

/// Restrains the calling thread, and no other; then reads back what is in effect.
///
/// An unprivileged thread may raise its nice value and never lower it again, so a thread that has
/// to be loosened later is better made anew.
pub fn restrain_this_thread(asked: &Restraint) -> InEffect {
    let mut held = imp::restrain(asked);
    let io = (asked.io_class, asked.io_level);
    // The idle class has no levels, and none is none.
    let io_holds = |held: (u8, u8)| held == io || (held.0 == io.0 && matches!(io.0, 0 | 3));
    if held.nice.is_some_and(|nice| nice != asked.nice) {
        held.problems
            .push(format!("nice is {:?}, asked {}", held.nice, asked.nice));
    }
    if held.io.is_some_and(|io| !io_holds(io)) {
        held.problems
            .push(format!("i/o priority is {:?}, asked {io:?}", held.io));
    }
    if asked.cores.is_some() && held.cores.is_some() && held.cores != asked.cores {
        held.problems.push(format!(
            "cores are {:?}, asked {:?}",
            held.cores, asked.cores
        ));
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs on a thread of its own, which nothing else is to be restrained with.
    fn restrained(asked: Restraint) -> InEffect {
        std::thread::spawn(move || restrain_this_thread(&asked))
            .join()
            .unwrap()
    }

    #[test]
    fn a_nicer_thread_is_read_back_and_its_neighbours_stay() {
        let before = restrained(imp::unrestrained());
        let core = crate::cores()[0];
        let asked = Restraint {
            nice: 15,
            io_class: 3,
            io_level: 7,
            cores: Some(vec![core]),
        };
        let held = restrained(asked);
        if held.problems.is_empty() {
            assert_eq!(held.nice, Some(15));
            assert_eq!(held.io.map(|io| io.0), Some(3));
            assert_eq!(held.cores, Some(vec![core]));
        } else {
            println!("not all of it can be had here: {:?}", held.problems);
        }
        assert_eq!(restrained(imp::unrestrained()).nice, before.nice);
    }

    #[test]
    fn a_core_that_is_not_there_is_a_problem() {
        let cores = Some(vec![1023]);
        let held = restrained(Restraint {
            cores,
            ..imp::unrestrained()
        });
        assert!(!held.problems.is_empty());
    }
}
