use corpgrid_scheduler::{
    Continuation, Event, Figures, GenerateRequest, HeterogeneousPipeline, Mode, Prompt, Status,
};
use futures_util::StreamExt;
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::{BenchArgs, BenchCommand};
use crate::desktop::stats::median;
use crate::hog::Hogs;
use crate::interrupt::{Interrupt, Watch};
use crate::open::Wish;
use crate::{desktop, out, stream};

/// Token ids as the script that times llama.cpp feeds them stay under this.
const IDS: usize = 20_000;

/// Tokens a second of each measured run.
#[derive(Default, Serialize)]
struct Runs {
    prefill: Vec<f64>,
    decode: Vec<f64>,
    decode_at_prompt: Vec<f64>,
}

/// What all runs share.
struct Bench<'a> {
    args: &'a BenchArgs,
    pipeline: &'a HeterogeneousPipeline,
    vocabulary: usize,
    watch: &'a Watch,
}

pub(crate) fn run(args: &BenchArgs, interrupt: &Interrupt) -> anyhow::Result<()> {
    match &args.command {
        Some(BenchCommand::Desktop(args)) => return desktop::run(args, interrupt),
        Some(BenchCommand::Pause(args)) => return desktop::pause::run(args, interrupt),
        None => {}
    }
    let wish = Wish::new(&args.run, interrupt)?;
    let vocabulary = wish.vocabulary()?;
    let share = wish.options.limits.max_compute_usage_percent;
    let pipeline = wish.open()?;
    let watch = interrupt.watch();
    let hogs = Hogs::start(args.hog)?;
    let bench = Bench {
        args,
        pipeline: &pipeline,
        vocabulary,
        watch: &watch,
    };
    let (runs, status) = bench.measure()?;
    drop(hogs);
    let terms = (pipeline.mode, share);
    let report = report(args, &runs, &status, terms);
    if args.json.json {
        return out::json(&report);
    }
    Ok(out::text(&table(args, &runs, pipeline.mode))?)
}

impl Bench<'_> {
    /// A warm-up, then the measured runs: decode from an empty context, prefill, decode after it.
    fn measure(&self) -> anyhow::Result<(Runs, Status)> {
        let mut runs = Runs::default();
        self.after_prompt()?;
        for _ in 0..self.args.runs {
            runs.decode.push(decode_rate(&self.in_empty_context()?));
            let figures = self.after_prompt()?;
            runs.prefill.push(prefill_rate(&figures));
            runs.decode_at_prompt.push(decode_rate(&figures));
        }
        let status = stream::wait(self.watch, self.pipeline.status())?;
        Ok((runs, status))
    }

    /// The first of the decode tokens is the prompt, so that each token has the place it has in
    /// an empty context; the steps counted are the others.
    fn in_empty_context(&self) -> anyhow::Result<Vec<Figures>> {
        self.all_streams(&|stream| {
            let ids = self.decode_ids(stream);
            (ids[..1].to_vec(), ids[1..].to_vec())
        })
    }

    fn after_prompt(&self) -> anyhow::Result<Vec<Figures>> {
        self.all_streams(&|stream| (self.prompt_ids(stream), self.decode_ids(stream)))
    }

    fn prompt_ids(&self, stream: usize) -> Vec<u32> {
        (0..self.args.prompt_tokens)
            .map(|i| id(i * 37 + 11 + stream, self.vocabulary))
            .collect()
    }

    fn decode_ids(&self, stream: usize) -> Vec<u32> {
        (0..self.args.gen_tokens)
            .map(|k| decode_id(k, stream, self.vocabulary))
            .collect()
    }

    fn all_streams(
        &self,
        ids: &dyn Fn(usize) -> (Vec<u32>, Vec<u32>),
    ) -> anyhow::Result<Vec<Figures>> {
        let streams = (0..self.args.streams).map(|stream| {
            let (prompt, forced) = ids(stream);
            let mut request = GenerateRequest::new(Prompt::Ids(prompt), forced.len());
            request.continuation = Continuation::Forced(forced);
            self.one(request)
        });
        stream::wait(self.watch, try_join_all(streams))?
    }

    async fn one(&self, request: GenerateRequest) -> anyhow::Result<Figures> {
        let mut generation = self.pipeline.generate(request).await?;
        while let Some(event) = generation.next().await {
            if let Event::Finished { figures, .. } = event? {
                return Ok(figures);
            }
        }
        anyhow::bail!("a generation ended without figures")
    }
}

/// What a stream decodes in its step `k`.
pub(crate) fn decode_id(k: usize, stream: usize, vocabulary: usize) -> u32 {
    id(k * 13 + 7 + stream, vocabulary)
}

fn id(n: usize, vocabulary: usize) -> u32 {
    // Under 20,000, and so a u32.
    (n % IDS % vocabulary) as u32
}

/// Of all streams together, from the first one's start to the last one's first token.
fn prefill_rate(streams: &[Figures]) -> f64 {
    let tokens = streams.iter().map(|figures| figures.prompt_tokens).sum();
    let began = streams
        .iter()
        .map(|figures| figures.queue_s)
        .fold(f64::INFINITY, f64::min);
    let ended = streams
        .iter()
        .map(|figures| figures.queue_s + figures.prefill_s);
    stream::rate(tokens, ended.fold(0.0, f64::max) - began)
}

/// The sum of what each stream had while it ran.
fn decode_rate(streams: &[Figures]) -> f64 {
    streams
        .iter()
        .map(|figures| stream::rate(figures.decode_steps, figures.decode_s))
        .sum()
}

fn report(
    args: &BenchArgs,
    runs: &Runs,
    status: &Status,
    (mode, share): (Mode, f64),
) -> Map<String, Value> {
    // Absent where the system does not tell.
    let resident = gogrid_host::resident().ok();
    let tenth = |value: f64| (value * 10.0).round() / 10.0;
    let tenths = |values: &[f64]| values.iter().map(|&value| tenth(value)).collect::<Vec<_>>();
    let devices: Vec<_> = status.devices.iter().map(|device| &device.device).collect();
    let at = format!("decode_tok_s_at_{}", args.prompt_tokens);
    let entries = [
        ("engine", json!("gogrid")),
        ("version", json!(env!("CARGO_PKG_VERSION"))),
        ("model", json!(status.model)),
        ("mode", json!(mode)),
        ("devices", json!(devices)),
        ("compute_share", json!(share)),
        ("not_enforced", json!(status.not_enforced)),
        ("threads", json!(args.run.threads)),
        ("streams", json!(args.streams)),
        ("hog", json!(args.hog)),
        ("prompt_tokens", json!(args.prompt_tokens)),
        ("gen_tokens", json!(args.gen_tokens)),
        ("prefill_tok_s", json!(tenth(median(&runs.prefill)))),
        ("decode_tok_s", json!(tenth(median(&runs.decode)))),
        (at.as_str(), json!(tenth(median(&runs.decode_at_prompt)))),
        ("prefill_runs", json!(tenths(&runs.prefill))),
        ("decode_runs", json!(tenths(&runs.decode))),
        (
            "decode_at_prompt_runs",
            json!(tenths(&runs.decode_at_prompt)),
        ),
        ("memory_held_bytes", json!(stream::held(status).0)),
        ("resident_bytes", json!(resident.map(|r| r.total.0))),
        ("resident_peak_bytes", json!(resident.map(|r| r.peak.0))),
    ];
    entries
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}

fn table(args: &BenchArgs, runs: &Runs, mode: Mode) -> String {
    format!(
        "prefill of {} tokens: {:.1} tok/s\ndecode from an empty context: {:.1} tok/s\n\
         decode after the prompt: {:.1} tok/s\nmedians of {} runs, {} streams, mode {}, {} busy \
         processes beside it\n",
        args.prompt_tokens,
        median(&runs.prefill),
        median(&runs.decode),
        median(&runs.decode_at_prompt),
        args.runs,
        args.streams,
        mode.name(),
        args.hog
    )
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
