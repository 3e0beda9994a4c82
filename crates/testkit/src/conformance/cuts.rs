use gogrid_units::Span;

use super::cases::{Case, VARIED, assert_same};
use super::rig::Rig;
use super::{DeviceContext, Subject};

/// However a model is cut into stages, it gives what one stage gives: cut in two before every
/// piece, and in three at some.
pub fn check_cuts(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let mut backend = (subject.backend)(DeviceContext::default());
        let one = Rig::whole(&mut *backend, &case).run(&case.ids, 33);
        for cuts in cuts_of(case.model.decoder().layers.len()) {
            let ours = Rig::cut(&mut *backend, &case, &cuts).run(&case.ids, 33);
            assert_same(subject, &case, &format!("cut at {cuts:?}"), [&ours, &one]);
        }
    }
}

/// Every way in two, and in three: only the ends, thirds, and one piece alone in the middle.
fn cuts_of(layers: usize) -> Vec<Vec<usize>> {
    let end = Span::whole_model(layers).end;
    let two = (1..end).map(|cut| vec![cut]);
    let three = [
        vec![1, end - 1],
        vec![end / 3, 2 * end / 3],
        vec![3, 4],
        vec![4, 5],
    ];
    two.chain(three).collect()
}
