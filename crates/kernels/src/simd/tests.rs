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
        let mut bytes = [0; LANES];
        out.push(s.greatest_magnitude(&[*self.vectors[0], *self.vectors[1]]));
        out.push(s.round_to_bytes(a, &mut bytes).cast_unsigned());
        out.extend(bytes.map(u32::from));
        out
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
