use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::error::{SettingsError, place};
use super::{Mode, Settings};
use crate::limits::SETTINGS_BYTES_MAX;
use crate::resource_manager::{self, ResourceConfig};

/// What a file or a command changes: a mode, if it names one, and values of some keys. Keys and
/// values are looked at when they meet the settings they change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct Changes {
    mode: Option<Mode>,
    table: Table,
    /// Where each key is in the text, if these came from one: line and column.
    places: BTreeMap<String, (usize, usize)>,
}

impl Changes {
    /// Reads a file's text.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        if text.len() > SETTINGS_BYTES_MAX {
            return Err(SettingsError::too_long(text.len(), SETTINGS_BYTES_MAX));
        }
        let syntax = |error: toml::de::Error| SettingsError::syntax(text, &error);
        let mut places = BTreeMap::new();
        note(
            text,
            "",
            DeTable::parse(text).map_err(syntax)?.get_ref(),
            &mut places,
        );
        let table: Table = toml::from_str(text).map_err(syntax)?;
        let changes = Self::try_from(table).map_err(|error| at(&places, error))?;
        Ok(Self { places, ..changes })
    }

    /// The mode, and nothing else.
    pub fn of_mode(mode: Mode) -> Self {
        Self {
            mode: Some(mode),
            ..Self::default()
        }
    }

    /// The mode it names, whose settings the rest then changes.
    pub fn mode(&self) -> Option<Mode> {
        self.mode
    }

    /// `base`, or the settings of the mode named, with these changes; an error if any of them
    /// cannot be taken.
    pub fn onto(&self, base: &Settings) -> Result<Settings, SettingsError> {
        let changed = match self.mode {
            Some(mode) => self.merged(&Settings::of(mode)),
            None => self.merged(base),
        };
        changed.map_err(|error| at(&self.places, error))
    }

    fn merged(&self, base: &Settings) -> Result<Settings, SettingsError> {
        let base = Table::try_from(base);
        let mut table = base.map_err(|error| SettingsError::unwritable(&error))?;
        merge(&mut table, &self.table, "")?;
        let settings: Settings = serde_path_to_error::deserialize(Value::Table(table.clone()))
            .map_err(|error| misfit(&table, &error))?;
        settings.validate()?;
        check_compute("limits", &settings.limits)?;
        check_compute("away", &settings.away)?;
        Ok(settings)
    }
}

impl TryFrom<Table> for Changes {
    type Error = SettingsError;

    fn try_from(mut table: Table) -> Result<Self, SettingsError> {
        let named = |value: &Value| {
            let known = Mode::ALL.into_iter();
            let mut known = known.filter(|mode| value.as_str() == Some(mode.name()));
            known.next().ok_or_else(|| {
                let [first, second, third] = Mode::ALL.map(Mode::name);
                let must_be = format!("{first:?}, {second:?} or {third:?}");
                SettingsError::value("mode".to_owned(), &quoted(value), &must_be)
            })
        };
        let mode = table.remove("mode").as_ref().map(named).transpose()?;
        Ok(Self {
            mode,
            table,
            places: BTreeMap::new(),
        })
    }
}

impl From<Changes> for Table {
    fn from(changes: Changes) -> Self {
        let mut table = changes.table;
        if let Some(mode) = changes.mode {
            table.insert("mode".to_owned(), mode.name().into());
        }
        table
    }
}

/// Puts `changes` over `table`. Lists are taken whole.
fn merge(table: &mut Table, changes: &Table, path: &str) -> Result<(), SettingsError> {
    for (key, value) in changes {
        let path = joined(path, key);
        if !table.contains_key(key) {
            let known: Vec<_> = table.keys().map(String::as_str).collect();
            let message = format!("{path} is no key, known are {}", known.join(", "));
            return Err(SettingsError::at_key(path, message));
        }
        match (&mut table[key], value) {
            (Value::Table(inner), Value::Table(changes)) => merge(inner, changes, &path)?,
            // `1` is a share as good as `1.0`.
            (old @ Value::Float(_), Value::Integer(new)) => *old = Value::Float(*new as f64),
            (old, new) if old.same_type(new) => *old = new.clone(),
            (old, new) => {
                return Err(SettingsError::value(path, &quoted(new), kind(old)));
            }
        }
    }
    Ok(())
}

/// Refuses a share of compute with which nothing would ever end, by the name of its key.
fn check_compute(section: &str, limits: &ResourceConfig) -> Result<(), SettingsError> {
    limits.check_compute().map_err(|_| {
        let key = format!("{section}.max_compute_usage_percent");
        SettingsError::value(key, "0", "over 0: nothing could be computed with it")
    })
}

/// A value of the right kind that the settings' own type does not take.
fn misfit(table: &Table, error: &serde_path_to_error::Error<toml::de::Error>) -> SettingsError {
    let key = error.path().to_string();
    let message = error.inner().message();
    let value = key
        .split('.')
        .try_fold(None::<&Value>, |found, part| match found {
            None => table.get(part).map(Some),
            Some(value) => value.get(part).map(Some),
        })
        .flatten();
    match value {
        Some(Value::Integer(value)) => {
            let field = key.rsplit('.').next().unwrap_or(&key);
            let range = resource_manager::range(field).unwrap_or(SECONDS);
            let must_be = format!("in {range}");
            SettingsError::value(key, &value.to_string(), &must_be)
        }
        _ => {
            let message = format!("{key}: {message}");
            SettingsError::at_key(key, message)
        }
    }
}

fn joined(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    }
}

/// A value as a message shows it: whole, unless it is long.
fn quoted(value: &Value) -> String {
    match value {
        Value::Table(_) => "a table".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        _ => {
            let text = value.to_string();
            match text.char_indices().nth(VALUE_CHARS_MAX) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text,
            }
        }
    }
}

const VALUE_CHARS_MAX: usize = 60;

/// What the whole numbers of a policy may be, all of them seconds in 32 bits.
const SECONDS: &str = "0..=4294967295";

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text in quotation marks",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// Writes down where each key of `table` is.
fn note(
    text: &str,
    path: &str,
    table: &DeTable<'_>,
    places: &mut BTreeMap<String, (usize, usize)>,
) {
    for (key, value) in table {
        let path = joined(path, key.get_ref());
        places.insert(path.clone(), place(text, key.span().start));
        note_inside(text, &path, value.get_ref(), places);
    }
}

fn note_inside(
    text: &str,
    path: &str,
    value: &DeValue<'_>,
    places: &mut BTreeMap<String, (usize, usize)>,
) {
    match value {
        DeValue::Table(table) => note(text, path, table, places),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                places.insert(path.clone(), place(text, item.span().start));
                note_inside(text, &path, item.get_ref(), places);
            }
        }
        _ => {}
    }
}

/// The error with the place of its key, or of the nearest thing around it that the text has.
fn at(places: &BTreeMap<String, (usize, usize)>, error: SettingsError) -> SettingsError {
    let mut key = error.key();
    let mut found = None;
    while let (None, Some(path)) = (found, key) {
        found = places.get(path).copied();
        key = path.rfind(['.', '[']).map(|end| &path[..end]);
    }
    error.with_place(found)
}
