use gogrid_units::WeightType;

use super::Subject;
use super::cases::{Case, assert_near};
use super::rig::Rig;
use crate::random::Family;

/// One stage's logits are the reference's, within the tolerance: every weight type on llama, and
/// every family with a float, a block of 32 and a block of 256.
pub fn check_meaning(subject: &Subject<'_>) {
    let all_types = WeightType::ALL.map(|weights| (Family::Llama, weights));
    let types = [WeightType::F32, WeightType::Q4_1, WeightType::Q4K];
    let others = Family::ALL.into_iter().filter(|f| *f != Family::Llama);
    let others = others.flat_map(|family| types.map(|weights| (family, weights)));
    for case in all_types.into_iter().chain(others) {
        let case = Case::open(case);
        let mut backend = (subject.backend)();
        let ours = Rig::whole(&mut *backend, &case).run(&case.ids, usize::MAX);
        assert_near(subject, &case, "reference", [&ours, &case.reference()]);
    }
}
