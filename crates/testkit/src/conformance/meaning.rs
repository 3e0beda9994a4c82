use gogrid_units::WeightType;

use super::cases::{Case, assert_near};
use super::rig::Rig;
use super::{DeviceContext, Subject, Tolerance};
use crate::random::Family;

/// Pairs of types that the mixed recipes of llama.cpp put into one model.
const MIXED: [(Family, [WeightType; 2]); 5] = [
    (Family::Llama, [WeightType::Q4K, WeightType::Q6K]),
    (Family::Gemma3, [WeightType::Q5_0, WeightType::Q8_0]),
    (Family::Qwen2, [WeightType::Q4K, WeightType::Q5_0]),
    (Family::Phi3, [WeightType::Q2K, WeightType::Q3K]),
    (Family::Llama, [WeightType::Q8_0, WeightType::F16]),
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

fn check_case(subject: &Subject<'_>, case: &Case) {
    let mut backend = (subject.backend)(DeviceContext::default());
    let ours = Rig::whole(&mut *backend, case).run(&case.ids, usize::MAX);
    assert_near(subject, case, "reference", [&ours, &case.reference()]);
}
