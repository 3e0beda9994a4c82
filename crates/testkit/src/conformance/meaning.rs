use gogrid_units::WeightType;

use super::cases::{Case, assert_near, assert_same, distance};
use super::rig::Rig;
use super::{DeviceContext, Subject, Tolerance};
use crate::random::{Family, Spec};

/// Pairs of types that the mixed recipes of llama.cpp put into one model.
const MIXED: [(Family, [WeightType; 2]); 9] = [
    (Family::Llama, [WeightType::Q4K, WeightType::Q6K]),
    (Family::Gemma3, [WeightType::Q5_0, WeightType::Q8_0]),
    (Family::Qwen2, [WeightType::Q4K, WeightType::Q5_0]),
    (Family::Phi3, [WeightType::Q2K, WeightType::Q3K]),
    (Family::Llama, [WeightType::Q8_0, WeightType::F16]),
    (Family::Llama, [WeightType::Iq4Xs, WeightType::Q6K]),
    (Family::Qwen2, [WeightType::Iq4Nl, WeightType::Q5K]),
    (Family::Phi3, [WeightType::Iq2Xxs, WeightType::Iq4Xs]),
    (Family::Gemma3, [WeightType::Iq3Xxs, WeightType::Iq3S]),
];

/// One stage's logits are the reference's, within the tolerance: every weight type on llama; every
/// family with a float, a block of 32 and a block of 256; types mixed in one model.
pub fn check_meaning(subject: &Subject<'_>) {
    let all_types = WeightType::ALL.map(|weights| (Family::Llama, weights));
    let types = [WeightType::F32, WeightType::Q4_1, WeightType::Q4K];
    let others = Family::ALL.into_iter().filter(|f| *f != Family::Llama);
    let others = others.flat_map(|family| types.map(|weights| (family, weights)));
    let plain = all_types.into_iter().chain(others);
    let plain = plain.map(|(family, weights)| (family, [weights; 2]));
    for case in plain.chain(MIXED) {
        check_case(subject, &Case::open(case));
    }
}

/// Float weights that are kept as Q8_0 mean the floats still: within twice the tolerance of Q8_0,
/// since rounding a weight to eight bits loses about what rounding an input does.
pub fn check_quantised_while_opening(subject: &Subject<'_>) {
    let twice = |weights| {
        let Tolerance { mean, max } = (subject.tolerance)(weights);
        Tolerance {
            mean: 2.0 * mean,
            max: 2.0 * max,
        }
    };
    let subject = Subject {
        tolerance: &twice,
        ..*subject
    };
    for family in [Family::Llama, Family::Gemma3] {
        check_case(&subject, &Case::open_quantised(family, WeightType::Q8_0));
    }
}

/// Heads of any even width up to 512 mean what the reference means: in float types and a quantised
/// one, with each kind of pairs, head norms and windows.
pub fn check_head_widths(subject: &Subject<'_>) {
    let spec = |family, weights| Spec {
        family,
        weights,
        seed: 30,
    };
    for head_dim in [2, 6, 20, 36, 50, 80, 96, 100, 250, 320, 510, 512] {
        let plain = spec(Family::Llama, WeightType::F32);
        check_case(subject, &Case::open_with_heads(plain, (3, 1), head_dim));
    }
    for head_dim in [20, 36, 100, 320] {
        // Sixteen heads make rows of whole blocks.
        let blocks = spec(Family::Qwen2, WeightType::Q8_0);
        check_case(subject, &Case::open_with_heads(blocks, (16, 2), head_dim));
        for family in [Family::Qwen3, Family::Gemma2, Family::Gemma3, Family::Phi3] {
            let other = spec(family, WeightType::F16);
            check_case(subject, &Case::open_with_heads(other, (4, 2), head_dim));
        }
    }
}

/// Where a model turns the rows of long sequences otherwise, a sequence is turned by its own length,
/// whatever it is beside and in whatever chunks it comes.
pub fn check_long_sequences(subject: &Subject<'_>) {
    let case = Case::open((Family::Phi3Long, [WeightType::F32; 2]));
    let border = case.model.decoder().rotations_change_above();
    let border = border.expect("LongRoPE has a border");
    let mut backend = (subject.backend)(DeviceContext::default());
    let mut rig = Rig::whole(&mut *backend, &case);
    let lengths = [border, border + 1];
    let alone = lengths.map(|length| {
        let ids = case.some_ids(length);
        let ours = rig.run(&ids, super::rig::ROWS_MAX);
        let reference = case.reference_of(&ids);
        assert_near(subject, &case, "reference", [&ours, &reference]);
        assert_same(subject, &case, "chunks of 50", [&rig.run(&ids, 50), &ours]);
        ours
    });
    let apart = distance(&alone[0], &alone[1][..border]).max;
    assert!(
        apart > 0.1,
        "long sequences are turned as short ones: {apart}"
    );

    let mut both = lengths.map(|length| rig.sequence(case.some_ids(length)));
    let mut together = [const { Vec::new() }; 2];
    while both.iter().any(|sequence| sequence.left() > 0) {
        let [short, long] = &mut both;
        let mut batch = Vec::new();
        for (index, sequence) in [short, long].into_iter().enumerate() {
            let rows = sequence.left().min(40);
            if rows > 0 {
                batch.push((index, (sequence, rows)));
            }
        }
        let (indices, mut rows): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        for (index, logits) in indices.into_iter().zip(rig.feed(&mut rows)) {
            together[index].extend(logits);
        }
    }
    for (together, alone) in together.iter().zip(&alone) {
        assert_same(subject, &case, "beside another length", [together, alone]);
    }
}

fn check_case(subject: &Subject<'_>, case: &Case) {
    let mut backend = (subject.backend)(DeviceContext::default());
    let ours = Rig::whole(&mut *backend, case).run(&case.ids, usize::MAX);
    assert_near(subject, case, "reference", [&ours, &case.reference()]);
}
