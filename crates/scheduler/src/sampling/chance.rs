/// The `index`-th draw of a seed, uniform in 0..1: a counter, so that a draw depends on nothing
/// that happened before it. SplitMix64 (Steele, Lea, Flood 2014), keyed twice so that
/// neighbouring seeds do not walk the same sequence one step apart.
pub(super) fn unit(seed: u64, index: u64) -> f64 {
    let bits = mix(mix(seed).wrapping_add(index.wrapping_mul(GOLDEN)));
    // The top 53 bits are exactly a double's.
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// 2^64 over the golden ratio, odd.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixer_is_splitmix64() {
        // The first three outputs for seed 1234567, from the reference implementation.
        let mut counter = 1_234_567_u64;
        let mut next = || {
            let out = mix(counter);
            counter = counter.wrapping_add(GOLDEN);
            out
        };
        assert_eq!(next(), 6_457_827_717_110_365_317);
        assert_eq!(next(), 3_203_168_211_198_807_973);
        assert_eq!(next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn draws_fill_the_unit_interval_evenly() {
        let mut tenths = [0_u32; 10];
        for index in 0..100_000 {
            let draw = unit(7, index);
            assert!((0.0..1.0).contains(&draw));
            tenths[(draw * 10.0) as usize] += 1;
        }
        // Five standard deviations of a binomial(100000, 0.1) are 475.
        assert!(
            tenths.iter().all(|&n| n.abs_diff(10_000) < 475),
            "{tenths:?}"
        );
    }

    #[test]
    fn neighbouring_seeds_do_not_repeat_each_other() {
        let draws = |seed| (0..64).map(|i| unit(seed, i).to_bits()).collect::<Vec<_>>();
        let (a, b) = (draws(1), draws(2));
        assert!(a.iter().all(|x| !b.contains(x)));
    }
}
