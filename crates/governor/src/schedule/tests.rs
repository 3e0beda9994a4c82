use proptest::prelude::*;

use super::*;

const A_WEEK: usize = 7 * 24 * 60;

fn window(days: &[Weekday], from: &str, to: &str) -> Window {
    Window {
        days: days.to_vec(),
        from: from.parse().expect("a time"),
        to: to.parse().expect("a time"),
    }
}

fn minute(day: usize, time: &str) -> LocalTime {
    let time: TimeOfDay = time.parse().expect("a time");
    LocalTime {
        weekday: Weekday::ALL[day],
        minute_of_day: time.minute_of_day(),
    }
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
    let friday_night = window(&[Weekday::Fri], "22:00", "06:00");
    for (day, time, inside) in [
        (4, "21:59", false),
        (4, "22:00", true),
        (5, "00:00", true),
        (5, "05:59", true),
        (5, "06:00", false),
        (4, "05:00", false),
    ] {
        let at = minute(day, time);
        assert_eq!(friday_night.contains(at), inside, "{at:?}");
    }
    // From the week's last day into its first.
    let sunday_night = window(&[Weekday::Sun], "22:00", "06:00");
    assert!(sunday_night.contains(minute(0, "05:59")));
    assert_eq!(sunday_night.next_change(minute(6, "21:00")), 60);
    assert_eq!(sunday_night.next_change(minute(6, "22:00")), 8 * 60);
}

#[test]
fn a_whole_day_has_two_spellings() {
    for whole in [
        window(&[Weekday::Tue], "00:00", "24:00"),
        window(&[Weekday::Tue], "00:00", "00:00"),
    ] {
        let inside = |day, time| whole.contains(minute(day, time));
        assert!(inside(1, "00:00") && inside(1, "23:59"));
        assert!(!inside(0, "23:59") && !inside(2, "00:00"));
    }
}

/// Every minute of the week, walked through one by one from each beginning.
fn model(window: &Window) -> Vec<bool> {
    let mut inside = vec![false; A_WEEK];
    for (day, weekday) in Weekday::ALL.into_iter().enumerate() {
        if !window.days.contains(&weekday) {
            continue;
        }
        let mut minute = day * 1440 + usize::from(window.from.minute_of_day());
        loop {
            inside[minute % A_WEEK] = true;
            minute += 1;
            if minute % 1440 == usize::from(window.to.minute_of_day()) % 1440 {
                break;
            }
        }
    }
    inside
}

fn any_window() -> impl Strategy<Value = Window> {
    let days = proptest::sample::subsequence(Weekday::ALL.to_vec(), 1..=7);
    (days, 0..1440u16, 0..=1440u16).prop_map(|(days, from, to)| Window {
        days,
        from: TimeOfDay { minute: from },
        to: TimeOfDay { minute: to },
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn windows_are_what_walking_through_the_week_gives(window in any_window()) {
        let model = model(&window);
        for (at, &inside) in model.iter().enumerate() {
            let time = LocalTime {
                weekday: Weekday::ALL[at / 1440],
                minute_of_day: (at % 1440) as u16,
            };
            prop_assert_eq!(window.contains(time), inside, "{:?}", time);
            let wait = window.next_change(time) as usize;
            let same = (at..at + wait).all(|m| model[m % A_WEEK] == inside);
            prop_assert!(wait > 0 && same, "a change before {} at {:?}", wait, time);
        }
    }
}
