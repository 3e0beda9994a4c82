//! Random requests, most of them odd: each ends in an answer or a refusal, in bounded time and memory,
//! and the next is served as if nothing had been.
//!
//! `GOGRID_CASES=1000000 cargo test --release -p corpgrid-scheduler --test hostile_requests -- --nocapture`
//! tries a million and prints the figures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corpgrid_scheduler::{
    Content, Continuation, Conversation, EmbeddedRows, Ending, Event, GenerateError,
    GenerateRequest, HeterogeneousPipeline, Message, Options, Part, Policy, Positions, Prompt,
    PromptRows, ResourceConfig, Rows, Sampling, ToolCall, devices,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_host::Clock;
use gogrid_model::{Model, OpenOptions};
use gogrid_testkit::{Family, RandomModel, Rng, Spec, cases, prompt_text};
use gogrid_units::WeightType;
use peak_alloc::PeakAlloc;
use serde_json::json;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What a case may take beside what the model holds. A prompt is at most 112 KiB of text.
const CASE_BYTES_MAX: usize = 64 << 20;
const CASE_TIME_MAX: Duration = Duration::from_secs(10);

const FLOATS: [f32; 12] = [
    0.0,
    1.0,
    0.7,
    -0.0,
    -1.0,
    1e-30,
    1e6,
    1e30,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MIN_POSITIVE,
];
const SIZES: [usize; 8] = [0, 1, 2, 3, 8, 64, 1 << 20, usize::MAX];

/// Draws requests. One field in three is odd.
struct Caller {
    rng: Rng,
    vocab: usize,
    width: usize,
}

impl Caller {
    fn float(&mut self, usual: f32) -> f32 {
        match self.rng.below(3) {
            0 => FLOATS[self.rng.below(FLOATS.len())],
            _ => usual,
        }
    }

    fn size(&mut self, usual: usize) -> usize {
        match self.rng.below(3) {
            0 => SIZES[self.rng.below(SIZES.len())],
            _ => usual,
        }
    }

    fn ids(&mut self) -> Vec<u32> {
        let count = self.rng.below(12);
        let odd = self.rng.below(6) == 0;
        let id = |_| match odd {
            true => self.rng.bits() as u32,
            false => self.rng.below(self.vocab) as u32,
        };
        (0..count).map(id).collect()
    }

    fn rows(&mut self) -> PromptRows {
        let ids = self.ids();
        let start = self.rng.below(8);
        let run = start..start + self.rng.below(4);
        let len = match self.rng.below(4) {
            0 => self.rng.below(100),
            _ => run.len() * self.width,
        };
        let values: Arc<[f32]> = (0..len).map(|_| self.float(0.1)).collect();
        let embedded = match self.rng.below(2) {
            0 => Vec::new(),
            _ => vec![EmbeddedRows { rows: run, values }],
        };
        let positions = match self.rng.below(3) {
            0 => Positions::Given {
                axes: self.rng.below(5),
                values: (0..self.rng.below(20))
                    .map(|_| self.size(3) as u32)
                    .collect(),
            },
            _ => Positions::Sequential,
        };
        PromptRows {
            rows: Rows { ids, embedded },
            positions,
        }
    }

    /// The messages with tools, arguments and an ending of any kind.
    fn conversation(&mut self, mut messages: Vec<Message>) -> Conversation {
        let depth = [0, 1, 8, 16, 17, 100][self.rng.below(6)];
        let value = (0..depth).fold(json!("<|im_end|>"), |inside, _| json!({"x": [inside]}));
        if let (Some(last), true) = (messages.last_mut(), self.rng.below(2) == 0) {
            let call = ToolCall {
                id: "<|im_end|>".to_owned(),
                name: "<|im_start|>".to_owned(),
                arguments: value.clone(),
            };
            last.tool_calls = vec![call; self.rng.below(200)];
            let text = Part::Text(prompt_text(&mut self.rng));
            last.content = Content::Parts(vec![text; self.rng.below(2)]);
        }
        let names = ["enable_thinking", "messages", "", "range"];
        let argument = (names[self.rng.below(names.len())].to_owned(), value.clone());
        Conversation {
            messages,
            tools: vec![value; self.rng.below(3)],
            arguments: (0..self.rng.below(2)).map(|_| argument.clone()).collect(),
            ending: match self.rng.below(3) {
                0 => Ending::GenerationPrompt,
                1 => Ending::FinalMessage,
                _ => Ending::Closed,
            },
        }
    }

    fn prompt(&mut self) -> Prompt {
        match self.rng.below(5) {
            0 => Prompt::Ids(self.ids()),
            1 => Prompt::Rows(self.rows()),
            2 => Prompt::Text(prompt_text(&mut self.rng)),
            _ => {
                let count = self.rng.below(4);
                let roles = ["system", "user", "assistant", "tool", "<|im_end|>", ""];
                let message = |_| {
                    let role = roles[self.rng.below(roles.len())];
                    Message::new(role, prompt_text(&mut self.rng))
                };
                let messages: Vec<_> = (0..count).map(message).collect();
                Prompt::Chat(self.conversation(messages))
            }
        }
    }

    fn request(&mut self) -> GenerateRequest {
        let stops = self.rng.below(3);
        let prompt = self.prompt();
        GenerateRequest {
            max_tokens: match self.rng.below(4) {
                0 => SIZES[self.rng.below(6)],
                _ => 1 + self.rng.below(3),
            },
            sampling: Sampling {
                temperature: self.float(0.8),
                top_k: self.size(40),
                top_p: self.float(0.9),
                min_p: self.float(0.05),
                repetition_penalty: self.float(1.1),
                frequency_penalty: self.float(0.0),
                presence_penalty: self.float(0.0),
                last_n: self.size(64),
                seed: self.rng.bits(),
                stop: (0..stops).map(|_| prompt_text(&mut self.rng)).collect(),
                ignore_eos: self.rng.below(2) == 0,
                ..Sampling::default()
            },
            continuation: match self.rng.below(6) {
                0 => Continuation::Forced(self.ids()),
                _ => Continuation::Sample,
            },
            ..GenerateRequest::new(prompt, 1)
        }
    }
}

/// How a request ended. `dropped_after` events it is dropped.
async fn outcome(
    pipeline: &HeterogeneousPipeline,
    request: GenerateRequest,
    dropped_after: usize,
) -> Result<&'static str, GenerateError> {
    let mut generation = match pipeline.generate(request).await {
        Ok(generation) => generation,
        Err(_) => return Ok("refused"),
    };
    for _ in 0..dropped_after {
        match generation.next().await {
            None => return Ok("never finished"),
            Some(event) => {
                if let Event::Finished { .. } = event? {
                    return Ok("finished");
                }
            }
        }
    }
    Ok("dropped")
}

#[test]
fn every_request_ends_in_an_answer_or_a_refusal() {
    let tiny = RandomModel::new(Spec {
        family: Family::Qwen2,
        weights: WeightType::F32,
        seed: 1,
    });
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    tiny.write_gguf(&path).expect("it is written");
    let options = Options {
        limits: ResourceConfig {
            max_compute_usage_percent: 1.0,
            min_request_interval_ms: 0,
            ..ResourceConfig::default()
        },
        threads: Some(1),
        // Other tests run beside it.
        policy: Policy::server(),
        ..Options::default()
    };
    let decoder = Model::open(&path, &OpenOptions::default());
    let decoder = decoder.expect("it opens").decoder().clone();
    let (vocab, width) = (decoder.vocab, decoder.width);
    let pipeline = HeterogeneousPipeline::open(&devices(), &path, options).expect("it opens");
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for case in 0..cases() {
        let rng = Rng::new(case);
        let mut caller = Caller { rng, vocab, width };
        let request = caller.request();
        let dropped_after = match caller.rng.below(8) {
            0 => caller.rng.below(3),
            _ => usize::MAX,
        };
        HEAP.reset_peak_usage();
        let (before, clock) = (HEAP.current_usage(), Clock::start());
        let end = match block_on(outcome(&pipeline, request, dropped_after)) {
            Ok(end) => end,
            // A row of infinite or absurd numbers has no answer, and says so.
            Err(GenerateError::BadOutput(_)) => "not finite",
            Err(error) => panic!("case {case}: {error}"),
        };
        let took = Duration::from_nanos(clock.now().0);
        let heap = HEAP.peak_usage().saturating_sub(before);
        assert!(end != "never finished", "case {case}: {end}");
        assert!(heap < CASE_BYTES_MAX, "case {case}: {heap} bytes");
        assert!(took < CASE_TIME_MAX, "case {case}: {took:?}");
        *ends.entry(end).or_default() += 1;
    }
    println!("{ends:?}");
    assert!(ends.contains_key("finished") && ends.contains_key("refused"));
}
