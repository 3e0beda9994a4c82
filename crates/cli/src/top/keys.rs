//! Which key asks for what.

use corpgrid_scheduler::{Changes, Profile};
use gogrid_control::Request;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::seen::Seen;

pub(super) const HELP: &str = "p pause  r resume  s snooze 30 min  + - compute  q quit";

const SNOOZE_S: u64 = 30 * 60;

/// What `+` and `-` change the share of compute by.
const STEP: f64 = 0.05;

/// What a key asks for.
#[derive(Debug, PartialEq)]
pub(super) enum Wish {
    Ask(Request),
    Quit,
    /// Ctrl-C, which a terminal that gives single keys does not turn into a signal.
    Interrupt,
    Scroll(i32),
    Choose,
}

pub(super) fn wish(key: &KeyEvent, seen: &Seen) -> Option<Wish> {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Wish::Interrupt);
    }
    Some(match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Wish::Quit,
        KeyCode::Char('p') => Wish::Ask(Request::Pause),
        KeyCode::Char('r') => Wish::Ask(Request::Resume),
        KeyCode::Char('s') => Wish::Ask(Request::Snooze { seconds: SNOOZE_S }),
        KeyCode::Char('+' | '=') => Wish::Ask(compute(seen, STEP)?),
        KeyCode::Char('-') => Wish::Ask(compute(seen, -STEP)?),
        KeyCode::Up | KeyCode::Char('k') => Wish::Scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => Wish::Scroll(1),
        KeyCode::PageUp => Wish::Scroll(-10),
        KeyCode::PageDown => Wish::Scroll(10),
        KeyCode::Enter => Wish::Choose,
        _ => return None,
    })
}

/// The share of compute that is in force for now, moved by `step`; none where it stays as it is.
fn compute(seen: &Seen, step: f64) -> Option<Request> {
    let (view, machine) = (seen.view.as_ref()?, seen.machine.as_ref()?);
    let (section, limits) = match machine.ruling.profile {
        Profile::Present => ("limits", &view.settings.limits),
        Profile::Away => ("away", &view.settings.away),
    };
    let share = limits.max_compute_usage_percent;
    // To the next multiple of the step, and never to nothing: that is what a pause is for.
    let steps = match step > 0.0 {
        true => (share / STEP + 1.0 + 1e-6).floor(),
        false => (share / STEP - 1.0 - 1e-6).ceil(),
    };
    let moved = (steps * STEP).clamp(STEP, 1.0);
    if (moved - share).abs() < 1e-6 || (moved > share) != (step > 0.0) {
        return None;
    }
    let change = format!("{section}.max_compute_usage_percent = {moved:.2}\n");
    Some(Request::Set(
        Changes::from_toml(&change).expect("a key and a number in its range"),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::lines::tests::seen;
    use super::*;

    fn pressed(char: char, share: f64) -> Option<Wish> {
        let mut seen = seen();
        let view = seen.view.as_mut().unwrap();
        view.settings.limits.max_compute_usage_percent = share;
        wish(&KeyEvent::from(KeyCode::Char(char)), &seen)
    }

    fn set(share: &str) -> Option<Wish> {
        let change = format!("limits.max_compute_usage_percent = {share}\n");
        Some(Wish::Ask(Request::Set(
            Changes::from_toml(&change).unwrap(),
        )))
    }

    #[test]
    fn plus_and_minus_move_the_share_by_a_twentieth_and_stay_in_its_range() {
        assert_eq!(pressed('+', 0.6), set("0.65"));
        assert_eq!(pressed('-', 0.6), set("0.55"));
        assert_eq!(pressed('+', 0.62), set("0.65"), "to the next round one");
        assert_eq!(pressed('-', 0.62), set("0.60"));
        assert_eq!(pressed('+', 0.98), set("1.00"));
        assert_eq!(pressed('+', 1.0), None);
        assert_eq!(pressed('-', 0.05), None);
        assert_eq!(pressed('-', 0.02), None, "it never rises by a minus");
        assert_eq!(pressed('+', 0.02), set("0.05"));
    }

    #[test]
    fn the_limit_that_is_in_force_is_moved() {
        let mut seen = seen();
        seen.machine.as_mut().unwrap().ruling.profile = Profile::Away;
        seen.view
            .as_mut()
            .unwrap()
            .settings
            .away
            .max_compute_usage_percent = 0.9;
        let change = "away.max_compute_usage_percent = 0.95\n";
        let expected = Request::Set(Changes::from_toml(change).unwrap());
        let wish = wish(&KeyEvent::from(KeyCode::Char('+')), &seen);
        assert_eq!(wish, Some(Wish::Ask(expected)));
    }

    #[test]
    fn before_anything_was_seen_nothing_is_moved_and_the_rest_works() {
        let nothing = Seen::new(7);
        let press = |code: KeyCode| wish(&KeyEvent::from(code), &nothing);
        assert_eq!(press(KeyCode::Char('+')), None);
        assert_eq!(press(KeyCode::Char('x')), None);
        assert_eq!(press(KeyCode::Char('q')), Some(Wish::Quit));
        assert_eq!(press(KeyCode::Char('p')), Some(Wish::Ask(Request::Pause)));
        assert_eq!(press(KeyCode::Char('r')), Some(Wish::Ask(Request::Resume)));
        let snooze = Request::Snooze { seconds: 1800 };
        assert_eq!(press(KeyCode::Char('s')), Some(Wish::Ask(snooze)));
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(wish(&interrupt, &nothing), Some(Wish::Interrupt));
        let other = KeyEvent::new(KeyCode::Char('p'), KeyModifiers::CONTROL);
        assert_eq!(wish(&other, &nothing), None);
    }
}
