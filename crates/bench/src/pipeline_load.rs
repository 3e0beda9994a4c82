//! One stream of the pipeline that is measured, told when to generate.

use std::convert::Infallible;
use std::iter;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use corpgrid_scheduler::{Event, HeterogeneousPipeline, Status, Verdict};
use futures_executor::block_on;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable};
use gogrid_host::process_cpu_time;

use crate::clock::{now, sleep};
use crate::error::BenchError;
use crate::ids::decode_ids;
use crate::load::{Load, STREAM_TOKENS_MAX, Yield, tokens_between};
use crate::speed::forced_request;
use crate::subject::Subject;

/// How long the policy may hold a stop or a limit that another load caused.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Between two looks at the policy's verdict meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(crate) struct PipelineLoad {
    pipeline: Arc<HeterogeneousPipeline>,
    ids: Arc<[u32]>,
    stream: Option<TokenStream>,
    marks: Vec<Mark>,
    /// Whether the policy limits the pipeline without end.
    is_limited: bool,
}

/// A thread that follows a stream of tokens until it is aborted, and then says when each came.
struct TokenStream {
    began: Instant,
    abort: AbortHandle,
    thread: JoinHandle<Result<Vec<Instant>, BenchError>>,
}

/// The clocks at one moment.
struct Mark {
    at: Instant,
    cpu_s: f64,
    busy_s: f64,
    rest_s: f64,
}

impl PipelineLoad {
    /// Generates the ids that the bench of speed decodes, whatever the model would say.
    pub(crate) fn new(subject: &Subject) -> Self {
        let pipeline = Arc::clone(&subject.pipeline);
        let length = STREAM_TOKENS_MAX.min(block_on(pipeline.status()).context);
        Self {
            pipeline,
            ids: decode_ids(length, 0, subject.vocabulary()).into(),
            stream: None,
            marks: Vec::new(),
            is_limited: false,
        }
    }

    fn status(&self) -> Status {
        block_on(self.pipeline.status())
    }
}

impl Load for PipelineLoad {
    /// The policy holds a stop, and a limit, for some seconds after another load that asked for it has
    /// ended. A limit that does not end is this machine's, and is measured.
    fn wait_until_free(&mut self) -> Result<(), BenchError> {
        let until = now() + WAIT_MAX;
        loop {
            match self.status().ruling.verdict {
                Verdict::Open => return Ok(()),
                Verdict::Limited { .. } if self.is_limited => return Ok(()),
                Verdict::Limited { .. } if now() > until => self.is_limited = true,
                Verdict::Shut(why) if now() > until => {
                    let waited = WAIT_MAX;
                    return Err(BenchError::Shut { waited, why });
                }
                Verdict::Limited { .. } | Verdict::Shut(_) => sleep(LOOK_EVERY),
            }
        }
    }

    fn start(&mut self) -> Result<(), BenchError> {
        self.marks.clear();
        let (pipeline, ids) = (Arc::clone(&self.pipeline), Arc::clone(&self.ids));
        let began = now();
        let (abort, registration) = AbortHandle::new_pair();
        let thread = thread::Builder::new()
            .name("bench-stream".to_owned())
            .spawn(move || follow(&pipeline, &ids, registration))
            .map_err(BenchError::Thread)?;
        self.stream = Some(TokenStream {
            began,
            abort,
            thread,
        });
        Ok(())
    }

    fn mark(&mut self) -> Result<(), BenchError> {
        let devices = self.status().devices;
        self.marks.push(Mark {
            at: now(),
            cpu_s: process_cpu_time()?.as_secs_f64(),
            busy_s: devices.iter().map(|device| device.busy_s).sum(),
            rest_s: devices.iter().map(|device| device.rest_s).sum(),
        });
        Ok(())
    }

    fn stop(&mut self) -> Result<Yield, BenchError> {
        let stream = self.stream.take().expect("stopped only after a start");
        stream.abort.abort();
        let seen = stream.thread.join().expect("the stream never panics")?;
        let [from, to] = &self.marks[..] else {
            let marks = self.marks.len();
            return Err(BenchError::Marks { marks });
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

impl Drop for PipelineLoad {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            stream.abort.abort();
            // Its own failure matters no more: the bench has ended already.
            let _ = stream.thread.join();
        }
    }
}

fn follow(
    pipeline: &HeterogeneousPipeline,
    ids: &[u32],
    registration: AbortRegistration,
) -> Result<Vec<Instant>, BenchError> {
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
) -> Result<Infallible, BenchError> {
    loop {
        let request = forced_request(ids[..1].to_vec(), ids[1..].to_vec());
        let mut generation = pipeline.generate(request).await?;
        while let Some(event) = generation.next().await {
            if let Event::Delta { ids, .. } = event? {
                seen.extend(iter::repeat_n(now(), ids.len()));
            }
        }
    }
}
