use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const MINUTES_A_DAY: u16 = 24 * 60;
const MINUTES_A_WEEK: u32 = 7 * 24 * 60;

/// A day of the week; `"mon"` to `"sun"` in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Weekday {
    /// All of them, Monday first.
    pub const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];
}

/// A time of day by the machine's own clock, to the minute; `"22:00"` in a file, and `"24:00"` for
/// a day's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay {
    minute: u16,
}

impl TimeOfDay {
    /// `None` unless it is a time from 00:00 to 24:00.
    pub fn new(hour: u16, minute: u16) -> Option<Self> {
        let of_day = hour.checked_mul(60)?.checked_add(minute)?;
        (minute < 60 && of_day <= MINUTES_A_DAY).then_some(Self { minute: of_day })
    }

    /// Minutes since midnight, 0 to 1440.
    pub fn minute_of_day(self) -> u16 {
        self.minute
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

impl FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = |part: &str| match part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())
        {
            true => part.parse().ok(),
            false => None,
        };
        let time = text
            .split_once(':')
            .and_then(|(hour, minute)| Self::new(digits(hour)?, digits(minute)?));
        time.ok_or_else(|| format!("{text:?} is not a time from \"00:00\" to \"24:00\""))
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// When work is welcome: from one time of day to another, on some days. A window whose end is
/// not after its beginning ends on the next day, and belongs to the day it begins on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// The days on which it begins.
    pub days: Vec<Weekday>,
    /// Its first minute.
    pub from: TimeOfDay,
    /// The first minute after it.
    pub to: TimeOfDay,
}

/// Where a moment lies in the machine's own week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// The day.
    pub weekday: Weekday,
    /// Minutes since midnight, 0 to 1439.
    pub minute_of_day: u16,
}

impl Window {
    /// Whether `time` lies in it.
    pub(crate) fn contains(&self, time: LocalTime) -> bool {
        let length = self.minutes();
        let begins = self
            .days
            .iter()
            .map(|&day| minute_of_week(day, self.from.minute));
        let mut since = begins.map(|begin| minutes_until(begin, time.minute_of_week()));
        since.any(|since| since < length)
    }

    /// Minutes from the beginning of `time`'s until it next begins or ends; at least one.
    pub(crate) fn next_change(&self, time: LocalTime) -> u32 {
        let now = time.minute_of_week();
        let changes = self.days.iter().flat_map(|&day| {
            let begin = minute_of_week(day, self.from.minute);
            [begin, (begin + self.minutes()) % MINUTES_A_WEEK]
        });
        let waits = changes.map(|change| minutes_until(now, change));
        waits
            .filter(|&wait| wait > 0)
            .min()
            .unwrap_or(MINUTES_A_WEEK)
    }

    fn minutes(&self) -> u32 {
        let (from, to) = (u32::from(self.from.minute), u32::from(self.to.minute));
        match to > from {
            true => to - from,
            false => to + u32::from(MINUTES_A_DAY) - from,
        }
    }
}

impl LocalTime {
    /// Whether there is such a minute.
    pub(crate) fn is_valid(self) -> bool {
        self.minute_of_day < MINUTES_A_DAY
    }

    fn minute_of_week(self) -> u32 {
        minute_of_week(self.weekday, self.minute_of_day)
    }
}

fn minute_of_week(day: Weekday, minute: u16) -> u32 {
    // Days are numbered from Monday in the enum's own order.
    day as u32 * u32::from(MINUTES_A_DAY) + u32::from(minute)
}

/// Minutes from one minute of the week to the next time that it is the other.
fn minutes_until(from: u32, to: u32) -> u32 {
    (to + MINUTES_A_WEEK - from % MINUTES_A_WEEK) % MINUTES_A_WEEK
}

#[cfg(test)]
mod tests;
