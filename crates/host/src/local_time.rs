use jiff::ZonedDateTime;

/// The time on the wall, by the system's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// 0 is Monday, 6 Sunday.
    pub weekday: u8,
    /// Minutes since midnight, 0 to 1439.
    pub minute_of_day: u16,
}

/// The time now; in UTC where the system does not tell its zone.
pub fn local_time() -> LocalTime {
    of(&ZonedDateTime::now())
}

fn of(time: &ZonedDateTime) -> LocalTime {
    // All three are small and not negative by their own ranges.
    LocalTime {
        weekday: time.weekday().to_monday_zero_offset() as u8,
        minute_of_day: time.hour() as u16 * 60 + time.minute() as u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weekdays_begin_with_monday_and_the_zone_counts() {
        let check = |time: &str, weekday, minute_of_day| {
            let time: ZonedDateTime = time.parse().unwrap();
            let expected = LocalTime {
                weekday,
                minute_of_day,
            };
            assert_eq!(of(&time), expected, "{time}");
        };
        check("2026-11-23T00:00[UTC]", 0, 0);
        check("2026-11-22T23:59:59[UTC]", 6, 1439);
        check("2026-11-23T01:30+05:30[+05:30]", 0, 90);
        let now = local_time();
        assert!(now.weekday < 7 && now.minute_of_day < 1440, "{now:?}");
    }
}
