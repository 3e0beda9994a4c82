//! Random damage, the same for the same seed.

/// Numbers by the splitmix64 rule.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Numbers at which counts, lengths and offsets go wrong.
const EDGES: [u64; 16] = [
    0,
    1,
    2,
    3,
    7,
    31,
    32,
    255,
    65_536,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 62,
    1 << 63,
    u64::MAX,
];

/// Damages `bytes` in one to four places, mostly within the first `header` of them.
pub(crate) fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, header: usize) {
    for _ in 0..=rng.below(4) {
        let within = if rng.below(8) == 0 {
            bytes.len()
        } else {
            header.min(bytes.len())
        };
        let at = rng.below(within);
        damage(rng, bytes, at);
    }
}

fn damage(rng: &mut Rng, bytes: &mut Vec<u8>, at: usize) {
    let len = bytes.len();
    let some = rng.below(24).min(len - at);
    match rng.below(9) {
        _ if len == 0 => bytes.push(0),
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.pick(&[0, 1, 9, 0x7f, 0x80, 0xff, b'"', b'{', b'9']),
        2 => put(bytes, at, &rng.pick(&EDGES).to_le_bytes()),
        3 => put(bytes, at, &(rng.pick(&EDGES) as u32).to_le_bytes()),
        4 => put(
            bytes,
            at,
            &(len as u64)
                .saturating_sub(rng.below(64) as u64)
                .to_le_bytes(),
        ),
        5 => drop(bytes.drain(at..at + some)),
        6 => {
            let copy = bytes[at..at + some].to_vec();
            let to = rng.below(len);
            bytes.splice(to..to, copy);
        }
        7 => {
            let from = rng.below(len);
            let copy = bytes[from..(from + some).min(len)].to_vec();
            put(bytes, at, &copy);
        }
        _ if rng.below(4) == 0 => bytes.truncate(at),
        _ => put(bytes, at, &rng.next().to_le_bytes()),
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    let len = value.len().min(bytes.len() - at);
    bytes[at..at + len].copy_from_slice(&value[..len]);
}
