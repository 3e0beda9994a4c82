//! Our own pipeline, told when to generate.

use std::convert::Infallible;
use std::iter;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use corpgrid_scheduler::{
    Continuation, Event, GenerateRequest, HeterogeneousPipeline, Prompt, Status, Verdict,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use gogrid_host::process_cpu_time;

use super::foreground::{now, thread_sleep_until};
use super::load::{Load, Yield, tokens_between};
use crate::bench::decode_id;
use crate::live::Live;

/// One stream that generates, from an empty context again when it is this long.
pub(crate) const TOKENS_MAX: usize = 512;

/// How long what runs before may keep the policy from letting us generate.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at the policy's verdict meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct Ours {
    pipeline: Arc<Live>,
    ids: Arc<[u32]>,
    stream: Option<Stream>,
    marks: Vec<Mark>,
    /// Whether the policy limits us without end.
    is_limited: bool,
}

/// A thread that follows a stream of tokens until it is aborted, and then says when each came.
struct Stream {
    began: Instant,
    abort: AbortHandle,
    thread: JoinHandle<anyhow::Result<Vec<Instant>>>,
}

struct Mark {
    at: Instant,
    cpu_s: f64,
    busy_s: f64,
    rest_s: f64,
}

impl Ours {
    /// Generates the ids that the bench of speed decodes, whatever the model would say.
    pub(crate) fn new(pipeline: Live, vocabulary: usize) -> Self {
        let length = TOKENS_MAX.min(block_on(pipeline.status()).context);
        Self {
            pipeline: Arc::new(pipeline),
            ids: (0..length).map(|k| decode_id(k, 0, vocabulary)).collect(),
            stream: None,
            marks: Vec::new(),
            is_limited: false,
        }
    }

    pub(crate) fn pipeline(&self) -> &HeterogeneousPipeline {
        &self.pipeline
    }

    pub(crate) fn status(&self) -> Status {
        block_on(self.pipeline.status())
    }
}

impl Load for Ours {
    /// The policy holds a stop, and a limit, for some seconds after another load that asked for it has
    /// ended. A limit that does not end is this machine's, and is measured.
    fn wait_until_free(&mut self) -> anyhow::Result<()> {
        let until = now() + WAIT_MAX;
        loop {
            match self.status().ruling.verdict {
                Verdict::Open => return Ok(()),
                Verdict::Limited { .. } if self.is_limited => return Ok(()),
                Verdict::Limited { .. } if now() > until => self.is_limited = true,
                Verdict::Shut(why) if now() > until => anyhow::bail!(
                    "for {} s the policy has not let gogrid generate: {why}; --limits FILE can hold \
                     another policy",
                    WAIT_MAX.as_secs()
                ),
                Verdict::Limited { .. } | Verdict::Shut(_) => {
                    thread_sleep_until(now() + LOOK_EVERY);
                }
            }
        }
    }

    fn start(&mut self) -> anyhow::Result<()> {
        self.marks.clear();
        let (pipeline, ids) = (Arc::clone(&self.pipeline), Arc::clone(&self.ids));
        let began = now();
        let (abort, registration) = AbortHandle::new_pair();
        let thread = thread::Builder::new()
            .name("bench-stream".to_owned())
            .spawn(move || follow(&pipeline, &ids, registration))?;
        self.stream = Some(Stream {
            began,
            abort,
            thread,
        });
        Ok(())
    }

    fn mark(&mut self) -> anyhow::Result<()> {
        let devices = self.status().devices;
        self.marks.push(Mark {
            at: now(),
            cpu_s: process_cpu_time()?.as_secs_f64(),
            busy_s: devices.iter().map(|device| device.busy_s).sum(),
            rest_s: devices.iter().map(|device| device.rest_s).sum(),
        });
        Ok(())
    }

    fn stop(&mut self) -> anyhow::Result<Yield> {
        let stream = self.stream.take().context("nothing was started")?;
        stream.abort.abort();
        let seen = stream.thread.join().expect("the stream never panics")?;
        let [from, to] = &self.marks[..] else {
            anyhow::bail!("{} marks instead of two", self.marks.len());
        };
        let since_start = |at: Instant| at.saturating_duration_since(stream.began).as_secs_f64();
        let times: Vec<_> = seen.into_iter().map(since_start).collect();
        let (began, ended) = (since_start(from.at), since_start(to.at));
        Ok(Yield {
            wall_s: ended - began,
            tokens: tokens_between(&times, began, ended),
            cpu_s: to.cpu_s - from.cpu_s,
            busy_s: Some(to.busy_s - from.busy_s),
            rest_s: Some(to.rest_s - from.rest_s),
        })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.abort.abort();
            // What it failed with has been overtaken by what ends the bench.
            let _ = stream.thread.join();
        }
    }
}

fn follow(
    pipeline: &HeterogeneousPipeline,
    ids: &[u32],
    registration: AbortRegistration,
) -> anyhow::Result<Vec<Instant>> {
    let mut seen = Vec::new();
    match block_on(Abortable::new(
        generate(pipeline, ids, &mut seen),
        registration,
    )) {
        Ok(Err(error)) => Err(error),
        Err(_aborted) => Ok(seen),
    }
}

async fn generate(
    pipeline: &HeterogeneousPipeline,
    ids: &[u32],
    seen: &mut Vec<Instant>,
) -> anyhow::Result<Infallible> {
    loop {
        let (prompt, forced) = (ids[..1].to_vec(), ids[1..].to_vec());
        let mut request = GenerateRequest::new(Prompt::Ids(prompt), forced.len());
        request.continuation = Continuation::Forced(forced);
        let mut generation = pipeline.generate(request).await?;
        while let Some(event) = generation.next().await {
            if let Event::Delta { ids, .. } = event? {
                seen.extend(iter::repeat_n(now(), ids.len()));
            }
        }
    }
}
