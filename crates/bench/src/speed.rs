//! `gogrid bench`: prefill and decode in tokens a second.

use corpgrid_scheduler::{
    Continuation, Event, Figures, GenerateRequest, HeterogeneousPipeline, Mode, Prompt, Status,
};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use gogrid_host::Resident;
use serde_json::{Map, Value, json};

use crate::bandwidth::DeviceTraffic;
use crate::error::BenchError;
use crate::hog::Hogs;
use crate::ids::{decode_ids, prompt_ids};
use crate::process::OwnCommand;
use crate::stats::median;
use crate::subject::Subject;

/// The measurement that is asked for.
#[derive(Clone, Debug)]
pub struct SpeedOptions {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens decoded, at least 2.
    pub gen_tokens: usize,
    /// Sequences at once.
    pub streams: usize,
    /// Measured runs, of which the medians are given.
    pub runs: usize,
    /// Processes kept busy beside it.
    pub hogs: usize,
    /// The command that each of those runs: it calls [`spin`](crate::spin).
    pub hog: OwnCommand,
    /// Threads on each CPU device that were asked for, which it also copies memory with.
    pub threads: Option<usize>,
}

/// The speed of a pipeline.
#[derive(Clone, Debug)]
pub struct SpeedReport {
    options: SpeedOptions,
    mode: Mode,
    compute_share: f64,
    runs: Runs,
    resident: Option<Resident>,
    traffic: Vec<DeviceTraffic>,
    status: Status,
}

/// Tokens a second of each measured run.
#[derive(Clone, Debug, Default)]
struct Runs {
    prefill: Vec<f64>,
    decode: Vec<f64>,
    decode_at_prompt: Vec<f64>,
}

/// Measures the speed of `subject`. Dropping the future ends all that it started.
pub async fn speed(subject: &Subject, options: SpeedOptions) -> Result<SpeedReport, BenchError> {
    let hogs = Hogs::start(&options.hog, options.hogs)?;
    let bench = Bench {
        options: &options,
        subject,
    };
    let runs = bench.measure().await?;
    let status = subject.pipeline.status().await;
    drop(hogs);
    // Absent where the system does not tell. Looked at before the copies, which are not the pipeline's.
    let resident = gogrid_host::resident().ok();
    let traffic = DeviceTraffic::all(subject, &status, options.streams, options.threads);
    Ok(SpeedReport {
        options,
        mode: subject.mode,
        compute_share: subject.compute_share,
        runs,
        resident,
        traffic,
        status,
    })
}

/// The things that all runs share.
struct Bench<'a> {
    options: &'a SpeedOptions,
    subject: &'a Subject,
}

impl Bench<'_> {
    /// A warm-up, then the measured runs: decode from an empty context, prefill, decode after it.
    async fn measure(&self) -> Result<Runs, BenchError> {
        let mut runs = Runs::default();
        self.after_prompt().await?;
        for _ in 0..self.options.runs {
            runs.decode
                .push(decode_rate(&self.in_empty_context().await?));
            let figures = self.after_prompt().await?;
            runs.prefill.push(prefill_rate(&figures));
            runs.decode_at_prompt.push(decode_rate(&figures));
        }
        Ok(runs)
    }

    /// The first of the decode tokens is the prompt, so that each token has the place it has in
    /// an empty context; the steps counted are the others.
    async fn in_empty_context(&self) -> Result<Vec<Figures>, BenchError> {
        self.all_streams(&|stream| {
            let ids = self.decode_ids(stream);
            (ids[..1].to_vec(), ids[1..].to_vec())
        })
        .await
    }

    async fn after_prompt(&self) -> Result<Vec<Figures>, BenchError> {
        let (count, vocabulary) = (self.options.prompt_tokens, self.subject.vocabulary());
        self.all_streams(&|stream| {
            let prompt = prompt_ids(count, stream, vocabulary);
            (prompt, self.decode_ids(stream))
        })
        .await
    }

    fn decode_ids(&self, stream: usize) -> Vec<u32> {
        decode_ids(self.options.gen_tokens, stream, self.subject.vocabulary())
    }

    /// Runs all streams at once, each with its prompt and the ids it decodes.
    async fn all_streams(
        &self,
        ids: &dyn Fn(usize) -> (Vec<u32>, Vec<u32>),
    ) -> Result<Vec<Figures>, BenchError> {
        let streams = (0..self.options.streams).map(|stream| {
            let (prompt, forced) = ids(stream);
            one_stream(&self.subject.pipeline, forced_request(prompt, forced))
        });
        try_join_all(streams).await
    }
}

/// A request for these tokens after this prompt, whatever the model would say.
pub(crate) fn forced_request(prompt: Vec<u32>, forced: Vec<u32>) -> GenerateRequest {
    let mut request = GenerateRequest::new(Prompt::Ids(prompt), forced.len());
    request.continuation = Continuation::Forced(forced);
    // A prompt that comes again is computed again.
    request.cache_salt = None;
    request
}

async fn one_stream(
    pipeline: &HeterogeneousPipeline,
    request: GenerateRequest,
) -> Result<Figures, BenchError> {
    let mut generation = pipeline.generate(request).await?;
    while let Some(event) = generation.next().await {
        if let Event::Finished { figures, .. } = event? {
            return Ok(figures);
        }
    }
    Err(BenchError::NoFigures)
}

/// Of all streams together, from the first one's start to the last one's first token.
fn prefill_rate(streams: &[Figures]) -> f64 {
    let tokens: usize = streams.iter().map(|figures| figures.prompt_tokens).sum();
    let began = streams
        .iter()
        .map(|figures| figures.queue_s)
        .fold(f64::INFINITY, f64::min);
    let ended = streams
        .iter()
        .map(|figures| figures.queue_s + figures.prefill_s);
    tokens as f64 / (ended.fold(0.0, f64::max) - began)
}

/// The sum of the streams' own rates while they ran.
fn decode_rate(streams: &[Figures]) -> f64 {
    streams
        .iter()
        .map(|figures| figures.decoded_tokens() as f64 / figures.decode_s)
        .sum()
}

impl SpeedReport {
    /// All figures by name.
    pub fn json(&self) -> Map<String, Value> {
        let (options, status) = (&self.options, &self.status);
        let resident = self.resident.as_ref();
        let devices = status.devices.iter();
        let held: u64 = devices.clone().map(|device| device.memory_used_bytes).sum();
        let names: Vec<_> = devices.map(|device| &device.device).collect();
        let entries = [
            ("engine", json!("gogrid")),
            // All crates of the workspace have the program's version.
            ("version", json!(env!("CARGO_PKG_VERSION"))),
            ("model", json!(status.model)),
            ("mode", json!(self.mode)),
            ("devices", json!(names)),
            ("compute_share", json!(self.compute_share)),
            ("not_enforced", json!(status.not_enforced)),
            ("threads", json!(options.threads)),
            ("streams", json!(options.streams)),
            ("hog", json!(options.hogs)),
            ("prompt_tokens", json!(options.prompt_tokens)),
            ("gen_tokens", json!(options.gen_tokens)),
            ("memory_held_bytes", json!(held)),
            ("resident_bytes", json!(resident.map(|r| r.total.0))),
            ("resident_peak_bytes", json!(resident.map(|r| r.peak.0))),
        ];
        let entries = entries.map(|(key, value)| (key.to_owned(), value));
        let decode = median(&self.runs.decode);
        let traffic: Vec<_> = self.traffic.iter().map(|its| its.json(decode)).collect();
        let traffic = [("device_bandwidths".to_owned(), json!(traffic))];
        let rates = self.rates().into_iter().chain(traffic);
        entries.into_iter().chain(rates).collect()
    }

    /// Tokens a second, to a tenth: the medians, and those of each run.
    fn rates(&self) -> [(String, Value); 6] {
        let at_prompt = format!("decode_tok_s_at_{}", self.options.prompt_tokens);
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        let middle = |runs: &[f64]| json!(tenth(median(runs)));
        let all = |runs: &[f64]| json!(runs.iter().map(|&run| tenth(run)).collect::<Vec<_>>());
        let runs = &self.runs;
        [
            ("prefill_tok_s".to_owned(), middle(&runs.prefill)),
            ("decode_tok_s".to_owned(), middle(&runs.decode)),
            (at_prompt, middle(&runs.decode_at_prompt)),
            ("prefill_runs".to_owned(), all(&runs.prefill)),
            ("decode_runs".to_owned(), all(&runs.decode)),
            (
                "decode_at_prompt_runs".to_owned(),
                all(&runs.decode_at_prompt),
            ),
        ]
    }

    /// The medians in words.
    pub fn table(&self) -> String {
        let (options, runs) = (&self.options, &self.runs);
        let traffic = self.traffic.iter();
        let traffic: String = traffic.map(|its| its.line(median(&runs.decode))).collect();
        format!(
            "prefill of {} tokens: {:.1} tok/s\ndecode from an empty context: {:.1} tok/s\n\
             decode after the prompt: {:.1} tok/s\n{traffic}medians of {} runs, {} streams, mode \
             {}, {} busy processes beside it\n",
            options.prompt_tokens,
            median(&runs.prefill),
            median(&runs.decode),
            median(&runs.decode_at_prompt),
            options.runs,
            options.streams,
            self.mode.name(),
            options.hogs
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefill_of_many_streams_counts_from_the_first_start() {
        let stream = |queue_s, prefill_s| Figures {
            prompt_tokens: 100,
            queue_s,
            prefill_s,
            ..Figures::default()
        };
        assert_eq!(prefill_rate(&[stream(1.0, 2.0)]), 50.0);
        assert_eq!(prefill_rate(&[stream(1.0, 2.0), stream(1.5, 3.5)]), 50.0);
    }
}
