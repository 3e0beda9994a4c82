use crate::budget::Budget;
use crate::error::Error;
use crate::text::{Builder, Text};

/// A date and a time of day, by the clock of the place where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CivilTime {
    year: i32,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

/// A directive may be short for seven others.
const STEPS_PER_DIRECTIVE: u64 = 8;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = [
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
];

impl CivilTime {
    /// A time of the Gregorian calendar, from the year 1 to 9999; `None` where there is no such
    /// day or time.
    pub fn new([year, month, day]: [i32; 3], [hour, minute, second]: [u8; 3]) -> Option<Self> {
        let (month, day) = (u8::try_from(month).ok()?, u8::try_from(day).ok()?);
        let is_day = (1..=9999).contains(&year)
            && (1..=12).contains(&month)
            && (1..=days_of(year, month)).contains(&day);
        let is_time = hour < 24 && minute < 60 && second < 60;
        (is_day && is_time).then_some(Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        })
    }

    /// Days since 1 January, from 0.
    fn day_of_year(&self) -> i32 {
        let before = (1..self.month).map(|month| i32::from(days_of(self.year, month)));
        before.sum::<i32>() + i32::from(self.day) - 1
    }

    /// 0 is Sunday.
    fn weekday(&self) -> i32 {
        let before = self.year - 1;
        let days = before * 365 + before / 4 - before / 100 + before / 400 + self.day_of_year();
        // 1 January of the year 1 is a Monday.
        (days + 1) % 7
    }

    /// The year and the week of ISO 8601.
    fn iso_week(&self) -> (i32, i32) {
        let from_monday = (self.weekday() + 6) % 7;
        let week = (self.day_of_year() - from_monday + 10) / 7;
        let first = |year| {
            Self {
                year,
                month: 1,
                day: 1,
                ..*self
            }
            .weekday()
        };
        let has_53 = |year| first(year) == 4 || (is_leap(year) && first(year) == 3);
        match week {
            0 => (self.year - 1, if has_53(self.year - 1) { 53 } else { 52 }),
            53 if !has_53(self.year) => (self.year + 1, 1),
            week => (self.year, week),
        }
    }

    /// What Python's `strftime` writes for `format` in the C locale. What stands for a directive
    /// is the template's own only where all of the directive is.
    pub(crate) fn format(&self, format: &Text, budget: &Budget) -> Result<Text, Error> {
        budget.work(4 * format.len())?;
        let mut out = Builder::default();
        let mut chars = format.chars();
        while let Some((char, mut own)) = chars.next() {
            if char != '%' {
                out.char(char, own, budget)?;
                continue;
            }
            let mut next = || {
                let (char, is_own) = chars
                    .next()
                    .ok_or_else(|| Error::unsupported("a '%' at the end of a date's format"))?;
                own &= is_own;
                Ok::<_, Error>(char)
            };
            budget.steps(STEPS_PER_DIRECTIVE)?;
            let first = next()?;
            let (directive, unpadded) = match first {
                '-' => (next()?, true),
                directive => (directive, false),
            };
            let mut written = String::new();
            self.directive(directive, unpadded, &mut written)?;
            out.push_str(&written, own, budget)?;
        }
        Ok(out.finish())
    }

    /// Adds what a directive stands for that is short for several.
    fn several(&self, directives: &str, out: &mut String) -> Result<(), Error> {
        let mut chars = directives.chars();
        while let Some(char) = chars.next() {
            match char {
                '%' => self.directive(chars.next().unwrap_or('%'), false, out)?,
                char => out.push(char),
            }
        }
        Ok(())
    }

    fn directive(&self, directive: char, unpadded: bool, out: &mut String) -> Result<(), Error> {
        if let Some((value, width, pad)) = self.number(directive) {
            let digits = value.to_string();
            let missing = if unpadded {
                0
            } else {
                usize::saturating_sub(width, digits.len())
            };
            out.extend(std::iter::repeat_n(pad, missing));
            out.push_str(&digits);
            return Ok(());
        }
        let (month, weekday) = (
            MONTHS[usize::from(self.month) - 1],
            WEEKDAYS[self.weekday() as usize],
        );
        let parts = match directive {
            _ if unpadded => None,
            'a' => Some(&weekday[..3]),
            'A' => Some(weekday),
            'b' | 'h' => Some(&month[..3]),
            'B' => Some(month),
            'p' => Some(if self.hour < 12 { "AM" } else { "PM" }),
            'P' => Some(if self.hour < 12 { "am" } else { "pm" }),
            '%' => Some("%"),
            'n' => Some("\n"),
            't' => Some("\t"),
            // A time without a zone has no name and no offset.
            'z' | 'Z' => Some(""),
            _ => None,
        };
        let whole = match directive {
            _ if unpadded => None,
            'c' => Some("%a %b %e %H:%M:%S %Y"),
            'x' | 'D' => Some("%m/%d/%y"),
            'X' | 'T' => Some("%H:%M:%S"),
            'F' => Some("%Y-%m-%d"),
            'R' => Some("%H:%M"),
            'r' => Some("%I:%M:%S %p"),
            _ => None,
        };
        match (parts, whole) {
            (Some(part), _) => out.push_str(part),
            (None, Some(whole)) => self.several(whole, out)?,
            (None, None) => {
                let sign = if unpadded { "-" } else { "" };
                return Err(Error::unsupported(format!(
                    "'%{sign}{directive}' in a date's format"
                )));
            }
        }
        Ok(())
    }

    /// A number, its width and what fills it up.
    fn number(&self, directive: char) -> Option<(i32, usize, char)> {
        let hour = i32::from(self.hour);
        let twelve = (hour + 11) % 12 + 1;
        let (day, weekday) = (self.day_of_year(), self.weekday());
        Some(match directive {
            'd' => (i32::from(self.day), 2, '0'),
            'e' => (i32::from(self.day), 2, ' '),
            'H' => (hour, 2, '0'),
            'k' => (hour, 2, ' '),
            'I' => (twelve, 2, '0'),
            'l' => (twelve, 2, ' '),
            'j' => (day + 1, 3, '0'),
            'm' => (i32::from(self.month), 2, '0'),
            'M' => (i32::from(self.minute), 2, '0'),
            'S' => (i32::from(self.second), 2, '0'),
            'u' => ((weekday + 6) % 7 + 1, 1, '0'),
            'w' => (weekday, 1, '0'),
            'U' => ((day + 7 - weekday) / 7, 2, '0'),
            'W' => ((day + 7 - (weekday + 6) % 7) / 7, 2, '0'),
            'V' => (self.iso_week().1, 2, '0'),
            'G' => (self.iso_week().0, 4, '0'),
            'g' => (self.iso_week().0 % 100, 2, '0'),
            'y' => (self.year % 100, 2, '0'),
            'C' => (self.year / 100, 2, '0'),
            // The C library writes years below 1000 without zeros.
            'Y' => (self.year, 1, '0'),
            _ => return None,
        })
    }
}

fn is_leap(year: i32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i32, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u8::from(is_leap(year)),
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format_of(time: &CivilTime, format: &str) -> Result<Text, Error> {
        let budget = Budget::of_given(0, 0, &|| true);
        time.format(&Text::own(format), &budget)
    }

    #[test]
    fn dates_are_as_the_c_library_writes_them() {
        let check = |date, format: &str, expected: &str| {
            let time = CivilTime::new(date, [15, 4, 9]).unwrap();
            let written = format_of(&time, format).unwrap();
            assert_eq!(written.as_str(), expected, "{format}");
        };
        check(
            [2026, 11, 29],
            "%d %B %Y, %A, %b %a",
            "29 November 2026, Sunday, Nov Sun",
        );
        check(
            [2026, 11, 29],
            "%H:%M:%S %I %p %y %j %%",
            "15:04:09 03 PM 26 333 %",
        );
        check([2026, 11, 29], "%U %W %u %w %G-W%V", "48 47 7 0 2026-W48");
        check(
            [2026, 11, 29],
            "%c|%x|%X|%z%Z",
            "Sun Nov 29 15:04:09 2026|11/29/26|15:04:09|",
        );
        check(
            [2024, 2, 29],
            "%-d/%-m %e %F %T %R %D",
            "29/2 29 2024-02-29 15:04:09 15:04 02/29/24",
        );
        check([2021, 1, 3], "%G-W%V %U %W %-d %-I", "2020-W53 01 00 3 3");
        check([2024, 12, 30], "%G-W%V %g %C", "2025-W01 25 20");
        check([2000, 1, 1], "%A %j", "Saturday 001");
    }

    #[test]
    fn what_is_no_date_or_no_directive_is_refused() {
        for date in [
            [2023, 2, 29],
            [2024, 13, 1],
            [2024, 4, 31],
            [0, 1, 1],
            [2024, 1, 256],
        ] {
            assert_eq!(CivilTime::new(date, [0; 3]), None, "{date:?}");
        }
        assert_eq!(CivilTime::new([2024, 1, 1], [24, 0, 0]), None);
        let time = CivilTime::new([2024, 1, 1], [0; 3]).unwrap();
        for format in ["%Q", "%f", "%-A", "%", "%-"] {
            let error = format_of(&time, format).unwrap_err().to_string();
            assert!(
                error.contains('%') && error.contains("not supported"),
                "{error}"
            );
        }
    }
}
