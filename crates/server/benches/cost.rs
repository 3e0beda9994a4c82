//! What the server itself costs one stream: the same request through HTTP and through the library, in turn,
//! in one process.
//!
//! `cargo bench -p gogrid-server --bench cost -- MODEL` prints a line of JSON: seconds of a decode step
//! through the server over those through the library, in the median of pairs with its quartiles, and the
//! milliseconds that the server adds to the first token, beyond what the engine counts. The two are two
//! openings of the model, whose weights lie in other pages, so the ratio carries that too: `--swap` opens
//! them in the other order.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "it measures, and says what it found"
)]

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use corpgrid_scheduler::{
    Event, Figures, GenerateRequest, HeterogeneousPipeline, Machine, MachineOptions, Message, Mode,
    Options, Prompt, Sampling, Settings, devices,
};
use futures_util::StreamExt;
use gogrid_server::{ModelCard, NotOpened, ServeOptions, Serving, Shelf, serve};
use serde_json::{Value, json};

const PAIRS: usize = 41;
const TOKENS: usize = 128;
const QUESTION: &str = "Tell me a story.";

type Fallible<T> = Result<T, Box<dyn Error>>;

/// One model, by one name.
struct OneModel(PathBuf);

impl Shelf for OneModel {
    fn models(&self) -> Vec<ModelCard> {
        vec![ModelCard {
            name: "model".to_owned(),
            bytes: 0,
            created: 0,
            is_here: true,
            licence: None,
        }]
    }

    fn open(
        &self,
        _name: &str,
        machine: &Arc<Machine>,
    ) -> Result<HeterogeneousPipeline, NotOpened> {
        let opened = HeterogeneousPipeline::open_on(machine, &*self.0, &Options::default());
        opened.map_err(|problem| NotOpened::Open(Arc::new(problem)))
    }
}

/// What one request came to.
struct Run {
    step_s: f64,
    /// From the request to its first text, without what the engine counts.
    added_s: f64,
}

fn run(figures: (f64, f64, f64), first_s: f64) -> Run {
    let (queue_s, prefill_s, decode_s) = figures;
    Run {
        step_s: decode_s / (TOKENS - 1) as f64,
        added_s: first_s - queue_s - prefill_s,
    }
}

async fn through_library(pipeline: &HeterogeneousPipeline) -> Fallible<Run> {
    let began = Instant::now();
    let prompt = Prompt::Chat(vec![Message::user(QUESTION)].into());
    let mut request = GenerateRequest::new(prompt, TOKENS);
    request.sampling = Sampling {
        ignore_eos: true,
        ..Sampling::default()
    };
    request.cache_salt = None;
    let mut events = pin!(pipeline.generate(request).await?);
    let mut first_s = None;
    while let Some(event) = events.next().await {
        match event? {
            Event::Delta { text, .. } if !text.is_empty() => {
                first_s.get_or_insert_with(|| began.elapsed().as_secs_f64());
            }
            Event::Finished { figures, .. } => {
                let Figures {
                    queue_s,
                    prefill_s,
                    decode_s,
                    ..
                } = figures;
                let first_s = first_s.ok_or("no text")?;
                return Ok(run((queue_s, prefill_s, decode_s), first_s));
            }
            _ => {}
        }
    }
    Err("it did not end".into())
}

fn through_server(serving: &Serving) -> Fallible<Run> {
    let body = json!({
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": TOKENS, "ignore_eos": true, "temperature": 0, "stream": true,
        "stream_options": {"include_usage": true},
    });
    let body = body.to_string();
    let mut stream = TcpStream::connect(serving.address())?;
    let began = Instant::now();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut first_s = None;
    let mut usage = Value::Null;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let Some(data) = line.strip_prefix("data: {") else {
            continue;
        };
        if first_s.is_none()
            && data.contains("\"content\":\"")
            && !data.contains("\"content\":\"\"")
        {
            first_s = Some(began.elapsed().as_secs_f64());
        }
        if data.contains("\"usage\":{") {
            usage = serde_json::from_str(&format!("{{{data}"))?;
        }
    }
    let figure = |name: &str| usage["usage"]["gogrid"][name].as_f64().ok_or("no figures");
    let figures = (
        figure("queue_s")?,
        figure("prefill_s")?,
        figure("decode_s")?,
    );
    Ok(run(figures, first_s.ok_or("no text")?))
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[quarter * (values.len() - 1) / 4])
}

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let swaps = arguments.iter().any(|argument| argument == "--swap");
    let model = arguments
        .iter()
        .find(|argument| !argument.starts_with("--"));
    let model = PathBuf::from(model.ok_or("which model? give the path of one")?);
    let Settings {
        limits,
        away,
        policy,
    } = Settings::of(Mode::Aggressive);
    let options = MachineOptions {
        limits,
        away: Some(away),
        policy,
        ..MachineOptions::default()
    };
    let machine = Machine::open(&[devices().swap_remove(0)], options)?;
    let machine = Arc::new(machine);
    let shelf = Arc::new(OneModel(model.clone()));
    let address = "127.0.0.1:0".parse()?;
    let serve = || -> Fallible<Serving> {
        let serving = serve(
            ServeOptions::new(address, "model"),
            Arc::clone(&machine),
            shelf.clone(),
        )?;
        serving.open("model")?;
        Ok(serving)
    };
    let open = || HeterogeneousPipeline::open_on(&machine, &*model, &Options::default());
    let (serving, pipeline) = match swaps {
        false => (serve()?, open()?),
        true => {
            let pipeline = open()?;
            (serve()?, pipeline)
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let library = || runtime.block_on(through_library(&pipeline));
    through_server(&serving)?;
    library()?;
    let (mut ratios, mut added, mut added_alone) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let (theirs, ours) = (through_server(&serving)?, library()?);
        ratios.push(theirs.step_s / ours.step_s);
        added.push(1e3 * theirs.added_s);
        added_alone.push(1e3 * ours.added_s);
    }
    let result = json!({
        "pairs": PAIRS,
        "step_time_ratio": quartiles(ratios),
        "added_to_first_token_ms": quartiles(added),
        "library_s_own_ms": quartiles(added_alone),
    });
    println!("{result}");
    Ok(())
}
