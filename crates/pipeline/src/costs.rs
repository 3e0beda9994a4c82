//! Costs that were measured before: kept for each device, driver and model, and made truer by what
//! generation takes.

use gogrid_units::Span;
use serde::{Deserialize, Serialize};

use crate::stage::Costs;

/// The form of the text that a book is kept as.
const VERSION: u32 = 1;
/// Costs that a book keeps; the one that was not used for longest goes first.
const ENTRIES_MAX: usize = 64;
/// Bytes of a book's text, at most.
const TEXT_MAX: usize = 8 << 20;
/// What one observation may change, as a factor up or down.
const STEP_MAX: f64 = 2.0;
/// How far observations may take a cost from what was measured, as a factor up or down.
const SCALE_MAX: f64 = 8.0;
/// The weight of one observation in the average.
const WEIGHT: f64 = 0.2;

/// What costs are of: one model on one device with one driver. A change of any is another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostKey {
    /// The device, as the system names it, with what else changes its speed, such as its threads.
    pub device: String,
    /// The driver's version, or what else computes there.
    pub driver: String,
    /// A fingerprint of the model's shapes and types.
    pub model: String,
}

/// Costs by device, driver and model. It is plain data: its owner keeps the text in a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CostBook {
    /// The last used at the end.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: CostKey,
    /// As measured.
    costs: Costs,
    /// What decode takes by what was measured.
    decode_scale: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    version: u32,
    entries: Vec<Entry>,
}

/// Why a text is no book of costs. The caller may start from an empty one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CostBookError {
    /// The text cannot be read.
    #[error("broken cost book: {0}")]
    Broken(String),
    /// It was written in another form.
    #[error("cost book of version {has}; this is version {VERSION}")]
    Version {
        /// What it says.
        has: u64,
    },
}

impl CostBook {
    /// Reads what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// When it is broken, or of another version.
    pub fn from_text(text: &str) -> Result<Self, CostBookError> {
        if text.len() > TEXT_MAX {
            let what = format!("{} bytes of at most {TEXT_MAX}", text.len());
            return Err(CostBookError::Broken(what));
        }
        let broken = |error: serde_json::Error| CostBookError::Broken(error.to_string());
        let value: serde_json::Value = serde_json::from_str(text).map_err(broken)?;
        let version = value.get("version").and_then(serde_json::Value::as_u64);
        if let Some(has) = version.filter(|&has| has != u64::from(VERSION)) {
            return Err(CostBookError::Version { has });
        }
        let page: Page = serde_json::from_value(value).map_err(broken)?;
        let entries = page.entries;
        if entries.len() > ENTRIES_MAX {
            let what = format!("{} entries of at most {ENTRIES_MAX}", entries.len());
            return Err(CostBookError::Broken(what));
        }
        match entries.iter().find(|entry| !entry.is_sound()) {
            Some(Entry { key, .. }) => {
                let what = format!("impossible costs of {} on {}", key.model, key.device);
                Err(CostBookError::Broken(what))
            }
            None => Ok(Self { entries }),
        }
    }

    /// The book as text.
    pub fn to_text(&self) -> String {
        let page = Page {
            version: VERSION,
            entries: self.entries.clone(),
        };
        serde_json::to_string(&page).expect("finite numbers and strings can be written")
    }

    /// Costs of a model of `pieces` pieces, as learnt so far.
    pub fn get(&self, key: &CostKey, pieces: usize) -> Option<Costs> {
        let entry = self.entries.iter().find(|entry| entry.key == *key)?;
        (entry.costs.decode.len() == pieces).then(|| entry.learnt())
    }

    /// Keeps what was measured, in the place of what was known.
    pub fn put(&mut self, key: CostKey, costs: Costs) {
        self.entries.retain(|entry| entry.key != key);
        let entry = Entry {
            key,
            costs,
            decode_scale: 1.0,
        };
        if !entry.is_sound() {
            return;
        }
        if self.entries.len() == ENTRIES_MAX {
            self.entries.remove(0);
        }
        self.entries.push(entry);
    }

    /// Takes in what the pieces `spans` of a model took for one decoded row on a device, in seconds
    /// for which it was busy: decode's costs there move some way towards it.
    pub fn learn(&mut self, key: &CostKey, spans: &[Span], seconds: f64) {
        let Some(index) = self.entries.iter().position(|entry| entry.key == *key) else {
            return;
        };
        let mut entry = self.entries.remove(index);
        entry.learn(spans, seconds);
        self.entries.push(entry);
    }
}

impl Entry {
    fn learnt(&self) -> Costs {
        let mut costs = self.costs.clone();
        costs
            .decode
            .iter_mut()
            .for_each(|c| *c *= self.decode_scale);
        costs
    }

    fn learn(&mut self, spans: &[Span], seconds: f64) {
        let piece = |piece: usize| self.costs.decode.get(piece).copied();
        let pieces = spans.iter().flat_map(|span| span.start..span.end);
        let measured: Option<f64> = pieces.map(piece).sum();
        let observed = measured.map_or(f64::NAN, |m| seconds / (m * self.decode_scale));
        if !(observed.is_finite() && observed > 0.0) {
            return;
        }
        // An average of logarithms: twice as long and half as long are equally far.
        let factor = observed.clamp(1.0 / STEP_MAX, STEP_MAX).powf(WEIGHT);
        self.decode_scale = (self.decode_scale * factor).clamp(1.0 / SCALE_MAX, SCALE_MAX);
    }

    fn is_sound(&self) -> bool {
        let Costs {
            decode, prefill, ..
        } = &self.costs;
        let possible = |seconds: &f64| seconds.is_finite() && *seconds >= 0.0;
        let scale = self.decode_scale;
        !decode.is_empty()
            && decode.len() == prefill.len()
            && decode.iter().chain(prefill).all(possible)
            && (1.0 / SCALE_MAX..=SCALE_MAX).contains(&scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(device: &str) -> CostKey {
        CostKey {
            device: device.to_owned(),
            driver: "avx2, 2 threads".to_owned(),
            model: "tiny".to_owned(),
        }
    }

    fn costs() -> Costs {
        Costs {
            decode: vec![0.001, 0.1, 0.3, 0.02],
            prefill: vec![0.001, 0.01, 0.03, 0.002],
            is_sure: true,
        }
    }

    #[test]
    fn a_book_comes_back_from_its_text_with_every_bit() {
        let mut book = CostBook::default();
        book.put(key("one"), costs());
        book.put(key("other"), costs());
        book.learn(&key("one"), &[Span::new(1, 3)], 0.5);
        let back = CostBook::from_text(&book.to_text()).unwrap();
        assert_eq!(back, book);
        assert_eq!(back.get(&key("other"), 4), Some(costs()));
        assert_eq!(back.get(&key("other"), 6), None, "another number of pieces");
        assert_eq!(back.get(&key("third"), 4), None);
    }

    #[test]
    fn what_generation_takes_moves_decode_towards_it_and_one_outlier_hardly_does() {
        let mut book = CostBook::default();
        book.put(key("one"), costs());
        let decode = |book: &CostBook| book.get(&key("one"), 4).unwrap().decode[2];
        // A hundred times as long, once: the machine slept, perhaps.
        book.learn(&key("one"), &[Span::new(1, 3)], 40.0);
        assert!(decode(&book) < 0.3 * 1.16, "{}", decode(&book));
        for _ in 0..60 {
            book.learn(&key("one"), &[Span::new(1, 2), Span::new(2, 3)], 0.6);
        }
        assert!(
            (decode(&book) / 0.45 - 1.0).abs() < 0.01,
            "{}",
            decode(&book)
        );
        let prefill = book.get(&key("one"), 4).unwrap().prefill;
        assert_eq!(prefill, costs().prefill);
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let before = book.clone();
            book.learn(&key("one"), &[Span::new(1, 3)], nonsense);
            book.learn(&key("one"), &[Span::new(1, 99)], 1.0);
            assert_eq!(book, before);
        }
        // It never leaves what was measured far behind.
        for _ in 0..1000 {
            book.learn(&key("one"), &[Span::new(1, 3)], 1e9);
        }
        assert_eq!(decode(&book), 0.3 * SCALE_MAX);
    }

    #[test]
    fn the_costs_that_were_used_last_stay() {
        let mut book = CostBook::default();
        let name = |i: usize| key(&i.to_string());
        for i in 0..ENTRIES_MAX {
            book.put(name(i), costs());
        }
        book.learn(&name(0), &[Span::new(1, 3)], 0.4);
        book.put(name(ENTRIES_MAX), costs());
        assert!(book.get(&name(0), 4).is_some());
        assert!(book.get(&name(1), 4).is_none());
    }

    #[test]
    fn a_text_that_is_no_book_is_an_error() {
        let mut book = CostBook::default();
        book.put(key("one"), costs());
        let text = book.to_text();
        let other = text.replace("\"version\":1", "\"version\":2");
        let error = CostBook::from_text(&other).unwrap_err();
        assert_eq!(error, CostBookError::Version { has: 2 });
        let broken = [
            String::new(),
            "[]".to_owned(),
            text.replace("0.3", "-0.3"),
            text.replace("0.3", "1e999"),
            text.replace("[0.001,0.1,", "["),
            text.replace("\"decode_scale\":1.0", "\"decode_scale\":0.0"),
            text.replace("\"driver\"", "\"drover\""),
            text[..text.len() - 1].to_owned(),
            " ".repeat(TEXT_MAX + 1),
        ];
        for text in broken {
            let error = CostBook::from_text(&text);
            assert!(matches!(error, Err(CostBookError::Broken(_))), "{text:.99}");
        }
    }
}
