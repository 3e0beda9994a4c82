//! Decode against the memory it reads from: bytes of weights a token, and how fast a device copies.

use corpgrid_scheduler::{Device, DeviceKind, Status};
use gogrid_host::{BandwidthProbe, CoreSet, copy_bandwidth};
use gogrid_model::Decoder;
use gogrid_units::{Bytes, Span};
use serde_json::{Value, json};

use crate::error::BenchError;
use crate::subject::Subject;

/// Bytes of a CPU's copies, half of them read: more than caches hold.
const COPY_FOOTPRINT: Bytes = Bytes::mib(256);
/// For how long a CPU copies.
const COPY_MILLIS: u64 = 200;

/// The device of this name among those that a machine was opened on, which may have left some out: their
/// places differ.
fn given<'a>(devices: &'a [Device], name: &str) -> Option<&'a Device> {
    devices.iter().find(|device| device.to_string() == name)
}

/// Bytes a second that a device of the pipeline, by its index and name, reads and writes, added up, when it copies
/// within its own memory; `None` where nothing measures it. A CPU copies with as many threads as it
/// computes with, and not under the limits, which are for models.
pub(crate) fn copy_rate(
    subject: &Subject,
    (index, name): (usize, &str),
    threads: Option<usize>,
) -> Result<Option<f64>, BenchError> {
    match given(&subject.devices, name).map(|device| &device.kind) {
        Some(DeviceKind::Cpu { cores, .. }) => {
            let probe = BandwidthProbe {
                cores: CoreSet::new(cores.iter().copied()),
                footprint: COPY_FOOTPRINT,
                millis: COPY_MILLIS,
                ..BandwidthProbe::new(threads.unwrap_or(cores.len()))
            };
            Ok(Some(copy_bandwidth(&probe)?))
        }
        _ => {
            let machine = subject.pipeline.machine();
            Ok(machine.copy_bytes_per_second(index)?)
        }
    }
}

/// What a device reads for a token of decode, and how fast it copies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DeviceTraffic {
    device: String,
    /// Weights. Sequences that decode in one step share what it reads.
    weights_bytes_per_token: f64,
    /// As [`copy_rate`] has it, or why it could not be measured.
    copy_bytes_per_second: Result<Option<f64>, String>,
}

impl DeviceTraffic {
    /// Of each device. `streams` sequences decode at once, as many in a step as the limits let. The copies
    /// are made here, and take memory.
    pub(crate) fn all(
        subject: &Subject,
        status: &Status,
        streams: usize,
        threads: Option<usize>,
    ) -> Vec<Self> {
        let decoder = subject.pipeline.model().decoder();
        let together = streams.min(status.limits.max_batch_size).max(1);
        let of = |device: &str| {
            let stages = status.stages.iter().filter(|stage| stage.device == device);
            let spans = stages.map(|stage| Span::new(stage.first_piece, stage.end_piece));
            // Below 2^53.
            bytes_read(decoder, spans).0 as f64 / together as f64
        };
        let devices = status.devices.iter().enumerate();
        devices
            .map(|(index, device)| Self {
                device: device.device.clone(),
                weights_bytes_per_token: of(&device.device),
                copy_bytes_per_second: copy_rate(subject, (index, &device.device), threads)
                    .map_err(|error| error.to_string()),
            })
            .collect()
    }

    /// The part of the copy bandwidth that weights alone take at so many tokens a second, counted over
    /// all of the time, also while the device waits for another.
    fn copy_share(&self, tokens_per_second: f64) -> Option<f64> {
        let copied = self.copy_bytes_per_second.as_ref().ok()?.as_ref()?;
        Some(self.weights_bytes_per_token * tokens_per_second / copied)
    }

    /// All figures by name, at so many tokens a second: bandwidths to a whole byte, the share to a
    /// thousandth.
    pub(crate) fn json(&self, tokens_per_second: f64) -> Value {
        let thousandth = |share: f64| (share * 1000.0).round() / 1000.0;
        let read = self.weights_bytes_per_token * tokens_per_second;
        let copied = self.copy_bytes_per_second.as_ref();
        json!({
            "device": self.device,
            "weights_bytes_per_token": self.weights_bytes_per_token.round(),
            "weights_bytes_per_s": read.round(),
            "copy_bytes_per_s": copied.ok().and_then(|copied| copied.map(f64::round)),
            "copy_problem": copied.err(),
            "copy_share": self.copy_share(tokens_per_second).map(thousandth),
        })
    }

    /// The same in words.
    pub(crate) fn line(&self, tokens_per_second: f64) -> String {
        let gigabytes = |bytes: f64| bytes / 1e9;
        let percent = 100.0 * self.copy_share(tokens_per_second).unwrap_or(0.0);
        let copies = match &self.copy_bytes_per_second {
            Ok(Some(copied)) => {
                let copied = gigabytes(*copied);
                format!("{percent:.0} % of the {copied:.1} GB/s at which it copies")
            }
            Ok(None) => "copying not measured".to_owned(),
            Err(problem) => format!("copying not measured: {problem}"),
        };
        format!(
            "{}: {:.3} GB of weights a token, {:.1} GB/s, {copies}\n",
            self.device,
            gigabytes(self.weights_bytes_per_token),
            gigabytes(self.weights_bytes_per_token * tokens_per_second),
        )
    }
}

/// Weights that a step of one row reads in these spans.
fn bytes_read(decoder: &Decoder, spans: impl Iterator<Item = Span>) -> Bytes {
    let pieces = spans.flat_map(|span| span.pieces(decoder.layers.len()));
    pieces.map(|piece| decoder.bytes_read(piece)).sum()
}

#[cfg(test)]
mod tests {
    use gogrid_model::{Model, OpenOptions, SyntheticShape};

    use super::*;

    fn traffic(copy_bytes_per_second: Result<Option<f64>, String>) -> DeviceTraffic {
        DeviceTraffic {
            device: "cpu".to_owned(),
            weights_bytes_per_token: 4e9,
            copy_bytes_per_second,
        }
    }

    #[test]
    fn the_share_is_of_what_is_read_in_a_second() {
        let json = traffic(Ok(Some(80e9))).json(10.0);
        assert_eq!(json["weights_bytes_per_s"], 40e9);
        assert_eq!(json["copy_share"], 0.5);
        let line = traffic(Ok(Some(80e9))).line(10.0);
        let expected = "cpu: 4.000 GB of weights a token, 40.0 GB/s, 50 % of the 80.0 GB/s at which it \
                        copies\n";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_bandwidth_that_nothing_measures_is_null() {
        let json = traffic(Ok(None)).json(10.0);
        assert!(json["copy_bytes_per_s"].is_null() && json["copy_share"].is_null());
        assert!(
            traffic(Ok(None))
                .line(10.0)
                .ends_with("copying not measured\n")
        );
        let json = traffic(Err("no room".to_owned())).json(10.0);
        assert!(json["copy_share"].is_null() && json["copy_problem"] == "no room");
    }

    #[test]
    fn spans_read_together_what_the_model_reads() {
        let shape: SyntheticShape = "7b-q4_k".parse().unwrap();
        let model = Model::synthetic(&shape, &OpenOptions::default()).unwrap();
        let read = |spans: &[(usize, usize)]| {
            let spans = spans.iter().map(|&(start, end)| Span::new(start, end));
            bytes_read(model.decoder(), spans).0
        };
        let whole = read(&[(0, 66)]);
        assert_eq!(read(&[(0, 20)]) + read(&[(20, 66)]), whole);
        assert_eq!(read(&[(0, 10), (30, 66)]) + read(&[(10, 30)]), whole);
        // All but the embedding table.
        let table = model.decoder().embedding.table.kept_bytes().0;
        let all = model.weight_bytes().0;
        assert!((all - table..all - table + 10_000).contains(&whole));
    }
}
