use std::ffi::OsStr;
use std::path::Path;
use std::{env, fs};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// The time on the wall, by the system's time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// 0 is Monday, 6 Sunday.
    pub weekday: u8,
    /// Minutes since midnight, 0 to 1439.
    pub minute_of_day: u16,
}

/// The date and the time on the wall, by the system's time zone and the Gregorian calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalDate {
    /// Year, month and day, the latter two from 1.
    pub year_month_day: [i32; 3],
    /// Hour, minute and second, from 0.
    pub hour_minute_second: [u8; 3],
}

/// The date and time now, as [`local_time`] has them.
pub fn local_date() -> LocalDate {
    date_of(&now())
}

fn date_of(time: &ZonedDateTime) -> LocalDate {
    // All of them are small by their own ranges, and those of a time not negative.
    LocalDate {
        year_month_day: [time.year().into(), time.month().into(), time.day().into()],
        hour_minute_second: [time.hour() as u8, time.minute() as u8, time.second() as u8],
    }
}

/// The time now; in UTC where the system does not tell its zone, or names as its zone what is no file of one.
pub fn local_time() -> LocalTime {
    of(&now())
}

fn now() -> ZonedDateTime {
    let folder = env::var_os("TZDIR");
    match is_readable(env::var_os("TZ").as_deref(), folder.as_deref()) {
        true => ZonedDateTime::now(),
        false => ZonedDateTime::new(Timestamp::now(), TimeZone::UTC),
    }
}

/// Whether reading the zone that the environment names waits for nobody, as a pipe would: a name of a file, or
/// of one in a folder of zones.
fn is_readable(zone: Option<&OsStr>, folder: Option<&OsStr>) -> bool {
    let Some(zone) = zone else {
        return folder.is_none();
    };
    let name = zone.to_string_lossy();
    let name = name.strip_prefix(':').unwrap_or(&name);
    let is_path = Path::new(name).has_root();
    // A folder that somebody names is looked through as a whole.
    let of_folder = folder.is_none() || is_path;
    let file = fs::metadata(name);
    of_folder && file.map_or(true, |found| found.is_file() || !is_path)
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
    fn a_zone_is_read_from_a_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (file, none) = (folder.path().join("file"), folder.path().join("none"));
        fs::write(&file, "").unwrap();
        let check = |zone: Option<&OsStr>, folder: Option<&OsStr>, expected| {
            assert_eq!(is_readable(zone, folder), expected, "{zone:?} {folder:?}");
        };
        check(None, None, true);
        check(Some("Europe/Berlin".as_ref()), None, true);
        check(Some("".as_ref()), None, true);
        check(Some(file.as_os_str()), None, true);
        check(Some(folder.path().as_os_str()), None, false);
        check(
            Some(format!(":{}", folder.path().display()).as_ref()),
            None,
            false,
        );
        check(Some(none.as_os_str()), None, true);
        check(
            Some("Europe/Berlin".as_ref()),
            Some(folder.path().as_os_str()),
            false,
        );
        check(None, Some(folder.path().as_os_str()), false);
    }

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
        let time: ZonedDateTime = "2026-11-22T23:59:58[UTC]".parse().unwrap();
        let date = date_of(&time);
        assert_eq!(date.year_month_day, [2026, 11, 22]);
        assert_eq!(date.hour_minute_second, [23, 59, 58]);
        let now = local_time();
        assert!(now.weekday < 7 && now.minute_of_day < 1440, "{now:?}");
    }
}
