//! How long a thread works between two pause points, by the clock, at the shapes of a 7B model:
//! `cargo bench -p gogrid-kernels --bench pauses`, with `-- scalar` or `-- avx2` for instructions
//! other than the machine's best; other words, such as `decode`, choose the cases that have one of
//! them in their names.
//!
//! Intervals in which a thread was off its core are counted and left out, as far as the system
//! tells; what a hypervisor takes is not seen, and makes the maximum. So for one thread, whose work
//! is the same in each run, `work` is the longest interval without such noise: the greatest, over
//! its intervals, of the median over the runs.
#![allow(clippy::print_stdout, reason = "its output is the terminal")]

mod layer;
mod watch;

use std::sync::Arc;

use gogrid_kernels::{Abandoned, Activations, Forms, Isa, Ops, Team, attention_scratch};
use gogrid_units::{PlainThreads, WeightType};

use layer::{Cache, HEAD_DIM, HEADS, Layer, Shape, Step, Weights, matrix};
use watch::{Interval, Watch};

/// The most time between two pause points.
const BOUND_NANOS: u64 = 500_000;
/// How long a chunk may be for an offer of a core every 50 us, the most often, to mean something.
const OFFER_NANOS: u64 = 100_000;
const RUNS: usize = 9;
/// Weights of one kind are at most so large.
const HEAD_BYTES_MAX: u64 = 3 << 29;
const VOCAB: usize = 262_144;
const HEAD_WIDTH: usize = 2304;

const TYPES: [WeightType; 6] = [
    WeightType::Q4K,
    WeightType::Q4_1,
    WeightType::Q6K,
    WeightType::Q8_0,
    WeightType::F16,
    WeightType::F32,
];
const SHAPES: [Shape; 2] = [
    Shape {
        kv_heads: 32,
        hidden: 11_008,
    },
    Shape {
        kv_heads: 8,
        hidden: 14_336,
    },
];

/// Decode, a batch, a chunk of a prompt.
fn steps(context: usize) -> [(&'static str, Step); 3] {
    let step = |sequences, rows_each| Step {
        sequences,
        rows_each,
        context,
    };
    [
        ("decode", step(1, 1)),
        ("batch of 16", step(16, 1)),
        ("128 of a prompt", step(1, 128)),
    ]
}

type Body<'a> = dyn FnMut(&mut Ops<'_>) -> Result<(), Abandoned> + 'a;

/// Runs steps and prints the times between their pause points.
struct Bench {
    isa: Isa,
    /// Words in the names of the cases to run; all when there are none.
    words: Vec<String>,
    teams: Vec<Team>,
    all: Total,
}

/// Over all cases.
#[derive(Default)]
struct Total {
    intervals: usize,
    over: usize,
    work: u64,
}

impl Bench {
    fn new(isa: Isa, words: Vec<String>) -> Self {
        let team = |threads| {
            let mut team = Team::new(threads, Arc::new(PlainThreads)).expect("threads");
            team.keep_scratch(attention_scratch(HEADS, HEAD_DIM, 8192))
                .expect("there is memory");
            team
        };
        Self {
            isa,
            words,
            teams: (1..=2).map(team).collect(),
            all: Total::default(),
        }
    }

    fn case(&mut self, name: &str, body: &mut Body<'_>) {
        let named = |word: &String| name.contains(word.as_str());
        if !self.words.is_empty() && !self.words.iter().any(named) {
            return;
        }
        for index in 0..self.teams.len() {
            let runs = self.runs(index, body);
            self.print((name, index + 1), &runs);
        }
    }

    /// The intervals of each run.
    fn runs(&mut self, team: usize, body: &mut Body<'_>) -> Vec<Vec<Interval>> {
        let team = &mut self.teams[team];
        let watch = Watch::new(team.threads());
        let mut run = || {
            watch.begin_step();
            let done = team.step(&watch, self.isa, |ops| body(ops));
            done.expect("full speed");
            watch.end_step()
        };
        // The first one touches the memory.
        run();
        (0..RUNS).map(|_| run()).collect()
    }

    fn print(&mut self, (name, threads): (&str, usize), runs: &[Vec<Interval>]) {
        let all = runs.iter().flatten();
        let mut nanos: Vec<_> = all
            .clone()
            .filter(|i| !i.interrupted)
            .map(|i| i.nanos)
            .collect();
        nanos.sort_unstable();
        let interrupted = all.count() - nanos.len();
        let over = |bound| {
            nanos
                .iter()
                .rev()
                .take_while(|nanos| **nanos > bound)
                .count()
        };
        let work = (threads == 1).then(|| longest(runs));
        self.all.intervals += nanos.len();
        self.all.over += over(BOUND_NANOS);
        self.all.work = self.all.work.max(work.unwrap_or(0));
        print!("{name:38} {threads} {:7} {interrupted:5}", nanos.len());
        for thousandth in [500, 990, 999, 1000] {
            print!(" {:7.1}", micros(quantile(&nanos, thousandth)));
        }
        print!(
            " {:6.2}%",
            100.0 * over(OFFER_NANOS) as f64 / nanos.len().max(1) as f64
        );
        print!(" {:5}", over(BOUND_NANOS));
        match work {
            Some(work) => println!(" {:7.1}", micros(work)),
            None => println!("       -"),
        }
    }
}

/// The longest interval of the work itself, of runs on one thread.
fn longest(runs: &[Vec<Interval>]) -> u64 {
    let points = runs[0].len();
    assert!(
        runs.iter().all(|run| run.len() == points),
        "the same work has the same pause points"
    );
    let median = |point: usize| {
        let clean = runs.iter().map(|run| run[point]).filter(|i| !i.interrupted);
        let mut nanos: Vec<_> = clean.map(|i| i.nanos).collect();
        nanos.sort_unstable();
        quantile(&nanos, 500)
    };
    (0..points).map(median).max().unwrap_or(0)
}

fn quantile(sorted: &[u64], thousandth: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * thousandth / 1000).copied().unwrap_or(0)
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

fn layers(bench: &mut Bench) {
    for ty in TYPES {
        for shape in SHAPES {
            let weights = Weights::new(ty, shape);
            for (what, step) in steps(2000) {
                let mut layer = Layer::new(&weights, step);
                let name = format!("layer {ty}, {}, {what}", shape.hidden);
                bench.case(&name, &mut |ops| layer.run(ops));
            }
        }
    }
}

fn attentions(bench: &mut Bench) {
    for context in [2000, 8000] {
        for Shape { kv_heads, .. } in SHAPES {
            for (what, step) in steps(context) {
                let mut cache = Cache::new(kv_heads, step);
                let name = format!("attention {kv_heads}, {context}, {what}");
                bench.case(&name, &mut |ops| cache.attend(step, ops));
            }
        }
    }
}

fn heads(bench: &mut Bench) {
    for ty in TYPES {
        let bytes = ty.row_bytes(HEAD_WIDTH).expect("whole blocks") * VOCAB;
        if bytes as u64 > HEAD_BYTES_MAX {
            println!("head {ty}: {bytes} bytes are too many here");
            continue;
        }
        let head = matrix(ty, VOCAB, HEAD_WIDTH);
        for rows in [1, 16] {
            let x = Activations::new(Forms::of(ty), rows, HEAD_WIDTH).expect("there is memory");
            let mut out = vec![0.0; rows * VOCAB];
            let name = format!("head {ty}, {rows} rows");
            bench.case(&name, &mut |ops| ops.matmul(&x, &mut [(&head, &mut out)]));
        }
    }
}

fn main() {
    let available = Isa::available();
    let isa_of = |word: &String| available.iter().find(|isa| isa.to_string() == *word);
    // Cargo gives benches a flag of its own.
    let words = std::env::args().skip(1).filter(|arg| !arg.starts_with('-'));
    let (isas, words): (Vec<_>, Vec<_>) = words.partition(|word| isa_of(word).is_some());
    let isa = isas.first().and_then(isa_of);
    let mut bench = Bench::new(isa.copied().unwrap_or_else(Isa::detect), words);
    println!(
        "{}, microseconds; {} whether a thread was off its core",
        bench.isa,
        match watch::turns() {
            Some(_) => "the system tells",
            None => "no telling",
        }
    );
    println!(
        "{:38} n {:>7} {:>5} {:>7} {:>7} {:>7} {:>7} {:>7} {:>5} {:>7}",
        "", "points", "off", "p50", "p99", "p99.9", "max", ">0.1ms", ">0.5", "work"
    );
    attentions(&mut bench);
    layers(&mut bench);
    heads(&mut bench);
    let Total {
        intervals,
        over,
        work,
    } = bench.all;
    println!(
        "{intervals} intervals, {over} above 0.5 ms; the longest of the work itself {:.1} us: 0.5 ms {}",
        micros(work),
        if work <= BOUND_NANOS {
            "holds"
        } else {
            "does not hold"
        }
    );
}
