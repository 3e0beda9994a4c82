use super::{Floats, Isa, Kernel, LANES, Simd};

/// Every operation on given vectors, as bits.
struct Everything<'a> {
    vectors: [&'a [f32; LANES]; 3],
    halves: &'a [u16; LANES],
}

impl Kernel for Everything<'_> {
    type Out = Vec<u32>;

    #[inline(always)]
    fn run<S: Floats>(self, s: S) -> Vec<u32> {
        let [a, b, c] = [
            s.load(self.vectors[0]),
            s.load(self.vectors[1]),
            s.load(self.vectors[2]),
        ];
        let values = [
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, b),
            s.fma(a, b, c),
            s.max(a, b),
            s.if_less([a, b], b, c),
            s.low_bits_to_exponent(a),
            s.load_half(self.halves),
            s.splat(s.sum(a)),
            s.splat(s.greatest(a)),
        ];
        let mut out = vec![];
        for v in values {
            let mut lanes = [0.0; LANES];
            s.store(v, &mut lanes);
            out.extend(lanes.map(f32::to_bits));
        }
        out.push(s.greatest_magnitude(&[*self.vectors[0], *self.vectors[1]]));
        let mut halves = [0; LANES];
        s.store_half(a, &mut halves);
        // What is no number may be any that is none.
        let number = |bits| half::f16::from_bits(bits).to_f32().to_bits();
        out.extend(halves.map(number));
        if self.vectors[0].iter().all(|x| x.abs() < 127.5) {
            let mut bytes = [0; LANES];
            out.push(s.round_to_bytes(a, &mut bytes).cast_unsigned());
            out.extend(bytes.map(u32::from));
        }
        out
    }
}

/// The bits, those of all NaNs alike.
fn alike(bits: Vec<u32>) -> Vec<u32> {
    let alike = |bits| match f32::from_bits(bits).is_nan() {
        true => f32::NAN.to_bits(),
        false => bits,
    };
    bits.into_iter().map(alike).collect()
}

#[test]
fn what_is_no_number_no_normal_one_or_zero_is_the_same_on_every_instruction_set() {
    let special = [
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        0.0,
        -0.0,
        1e-45,
        -f32::MIN_POSITIVE,
        f32::MAX,
        -1.5,
        3.0,
        // Halves: no longer finite, the greatest, ties at the least and at one, and what is no normal half.
        65_520.0,
        -65_519.996,
        2.980_232_2e-8,
        1.000_488_3,
        -8.9e-8,
    ];
    // A signalling NaN among the halves, and those that are no normal numbers.
    let halves = [
        0x7d00, 0xfe00, 0x7c00, 0xfc00, 0, 0x8000, 1, 0x83ff, 0x0400, 0x7bff, 0x3c00,
    ];
    for shift in 0..special.len() * special.len() {
        let [by_one, by_two] = [shift % special.len(), shift / special.len()];
        let at = |by: usize| std::array::from_fn(|i| special[(i + by) % special.len()]);
        let [a, b, c] = [at(0), at(by_one), at(by_two)];
        let halves = std::array::from_fn(|i| halves[(i + shift) % halves.len()]);
        let everything = |isa| {
            let vectors = [&a, &b, &c];
            let halves = &halves;
            alike(Simd::expect(isa).run(Everything { vectors, halves }))
        };
        let want = everything(Isa::Scalar);
        for isa in Isa::available() {
            assert_eq!(everything(isa), want, "{isa}, {shift}");
        }
    }
}

#[test]
fn every_operation_gives_the_same_bits_on_every_instruction_set() {
    let mut seed = 1u64;
    let mut float = || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        let x = ((seed >> 40) as f32 / (1u32 << 23) as f32 - 1.0) * 8.0;
        if seed & 0xf00 == 0 { 0.0 } else { x }
    };
    for _ in 0..1000 {
        let [a, b, c] = std::array::from_fn(|_| std::array::from_fn(|_| float()));
        let halves = std::array::from_fn(|_| half::f16::from_f32(float() * 1e-5).to_bits());
        let everything = |isa| {
            Simd::expect(isa).run(Everything {
                vectors: [&a, &b, &c],
                halves: &halves,
            })
        };
        let want = everything(Isa::Scalar);
        for isa in Isa::available() {
            assert_eq!(everything(isa), want, "{isa}");
        }
    }
}
