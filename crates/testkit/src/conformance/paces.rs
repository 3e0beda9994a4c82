use std::sync::Arc;

use gogrid_units::TeamPace;

use super::cases::{Case, VARIED, assert_same};
use super::rig::Rig;
use super::{DeviceContext, Subject};
use crate::fakes::PaceScript;

/// A step that was abandoned at any pause point, early or late, and is run again gives what it
/// would have given at once; so do the steps after it.
pub fn check_abandoned_steps(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let cut = case.model.decoder().layers.len();
        let through = Arc::new(PaceScript::new(Vec::new()));
        let run = |pace: &Arc<PaceScript>| {
            let mut backend = (subject.backend)(at_pace(Arc::clone(pace) as _));
            let mut rig = Rig::cut(&mut *backend, &case, &[cut]);
            (rig.run(&case.ids, 40), rig.abandoned)
        };
        let (at_once, _) = run(&through);
        let points = through.asked();
        assert!(points > 0, "{}: the pace was never asked", case.name);
        let mut abandonments = 0;
        for part in 0..8 {
            let after = points * part / 8;
            let pace = Arc::new(PaceScript::abandon_after(after));
            let (ours, abandoned) = run(&pace);
            // There are fewer points while a thread is away, for those who want its core.
            let came_to_it = pace.asked() > after;
            let what = format!("abandoned at point {after} of {points}");
            assert_eq!(abandoned, usize::from(came_to_it), "{}: {what}", case.name);
            assert_same(subject, &case, &what, [&ours, &at_once]);
            abandonments += abandoned;
        }
        assert!(abandonments >= 2, "{}: {abandonments}", case.name);
    }
}

/// Rests, and how many threads a region may use, change nothing.
pub fn check_rests_and_widths(subject: &Subject<'_>) {
    for &case in VARIED {
        let case = Case::open(case);
        let run = |pace: PaceScript| {
            let mut backend = (subject.backend)(at_pace(Arc::new(pace)));
            Rig::whole(&mut *backend, &case).run(&case.ids, 40)
        };
        let free = run(PaceScript::new(Vec::new()));
        for (what, pace) in [
            ("one thread wide", PaceScript::new(Vec::new()).wide(1)),
            ("two threads wide", PaceScript::new(Vec::new()).wide(2)),
            ("resting", PaceScript::rest_before(100)),
        ] {
            assert_same(subject, &case, what, [&run(pace), &free]);
        }
    }
}

/// A device that keeps this pace.
pub(crate) fn at_pace(pace: Arc<dyn TeamPace>) -> DeviceContext {
    DeviceContext {
        pace,
        ..DeviceContext::default()
    }
}
