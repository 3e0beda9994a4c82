//! The life of a thread that must not end unseen: turn after turn, of which one that panics is told
//! and followed by the next.

use std::ops::ControlFlow;
use std::thread;

use gogrid_units::contain;

use crate::limits::{AFTER_PANIC, PANICS_MAX};

/// Takes turns until one says that it was the last. A panic in a turn is told to `failed`, and after
/// a moment the next turn is taken; false where `PANICS_MAX` turns in a row have panicked, which
/// `failed` is told as well.
pub(crate) fn take_turns(
    mut turn: impl FnMut() -> ControlFlow<()>,
    failed: &mut dyn FnMut(&str),
) -> bool {
    let mut in_a_row = 0;
    while in_a_row < PANICS_MAX {
        match contain(&mut turn) {
            Ok(ControlFlow::Continue(())) => in_a_row = 0,
            Ok(ControlFlow::Break(())) => return true,
            Err(problem) => {
                in_a_row += 1;
                tell(failed, &problem);
                pause();
            }
        }
    }
    tell(failed, "it has ended: it failed again and again");
    false
}

/// The listener to failures is other code, which may fail itself.
fn tell(failed: &mut dyn FnMut(&str), problem: &str) {
    let _ = contain(|| failed(problem));
}

#[expect(
    clippy::disallowed_methods,
    reason = "a turn that fails at once must not keep a core busy"
)]
fn pause() {
    thread::sleep(AFTER_PANIC);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_at_any_turn_is_told_and_every_other_turn_is_taken() {
        const LAST: usize = 6;
        for moment in 1..LAST {
            let (mut taken, mut told) = (0, Vec::new());
            let turn = || {
                taken += 1;
                assert!(taken != moment, "fault at turn {moment}");
                match taken {
                    LAST => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            };
            let ended = take_turns(turn, &mut |problem| told.push(problem.to_owned()));
            assert!(ended);
            assert_eq!(taken, LAST);
            assert_eq!(told, [format!("fault at turn {moment}")]);
        }
    }

    #[test]
    fn turns_that_all_panic_come_to_an_end_that_is_told() {
        let mut told = Vec::new();
        let ended = take_turns(|| panic!("always"), &mut |problem| {
            told.push(problem.to_owned());
        });
        assert!(!ended);
        let (last, others) = told.split_last().unwrap();
        assert_eq!(others.len(), PANICS_MAX);
        assert!(last.contains("it has ended"), "{last}");
    }

    #[test]
    fn a_listener_that_panics_ends_nothing() {
        let mut turns = 0;
        let turn = || {
            turns += 1;
            assert!(turns > 1, "the first");
            ControlFlow::Break(())
        };
        assert!(take_turns(turn, &mut |_| panic!("the listener too")));
    }
}
