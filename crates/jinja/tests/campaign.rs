//! Random templates, good ones and broken ones: none panics, hangs, takes more than it was granted
//! or counts what a caller said as the template's own. `GOGRID_CASES` says how many are tried,
//! `GOGRID_SEED` which.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use gogrid_jinja::{CivilTime, Data, Rendered, Template};
use gogrid_testkit::{FOREIGN_CHARS, Rng, cases, chat_template, foreign_text};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// What a case may take of the heap: its conversation is small.
const HEAP_BYTES_MAX: usize = 64 << 20;
/// A case that is still the same after so long hangs.
const CASE_SECONDS_MAX: u32 = 10;

/// What became of the cases.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    broken: u64,
    failed: u64,
    rendered: u64,
    /// Of those rendered, with something that a caller said.
    quoting: u64,
    heap: usize,
    steps: u64,
}

struct Said([String; 2]);

impl Said {
    fn conversation(&self) -> [(&'static str, Data<'_>); 5] {
        let message = |role: &'static str, content: &'_ str| {
            Data::Dict(vec![
                ("role".into(), Data::Given(role.into())),
                ("content".into(), Data::Given(content.to_owned().into())),
            ])
        };
        let messages = vec![
            message("user", &self.0[0]),
            message("assistant", &self.0[1]),
        ];
        [
            ("messages", Data::List(messages)),
            ("a", Data::Int(7)),
            ("m", Data::Given(self.0[1].as_str().into())),
            ("ns", Data::Given("no namespace".into())),
            ("bos_token", Data::Trusted("<s>".into())),
        ]
    }
}

/// The own ranges are in order and apart, and nothing of a caller is in one. Gives whether the text
/// has anything of a caller.
fn check_own(rendered: &Rendered, source: &str) -> bool {
    let mut before = 0;
    for own in &rendered.own {
        assert!(own.start >= before && own.end > own.start, "{source}");
        let text = rendered.text.get(own.clone());
        let text = text.unwrap_or_else(|| panic!("{own:?} is no range of characters: {source}"));
        assert!(
            !text.contains(FOREIGN_CHARS),
            "a caller's text became the template's own in {text:?}: {source}"
        );
        before = own.end + 1;
    }
    rendered.text.contains(FOREIGN_CHARS)
}

fn case(source: &str, said: &Said, counts: &mut Counts) {
    let Ok(template) = Template::parse(source) else {
        counts.broken += 1;
        return;
    };
    let now = CivilTime::new([2026, 11, 29], [1, 2, 3]);
    let variables = said.conversation();
    let measured = template.measure(&variables, now.as_ref()).unwrap();
    counts.steps = counts.steps.max(measured.spent.steps);
    match measured.result {
        Ok(rendered) => {
            counts.rendered += 1;
            assert!(
                rendered.text.len() as u64 <= measured.spent.bytes,
                "{source}"
            );
            counts.quoting += u64::from(check_own(&rendered, source));
        }
        Err(error) => {
            counts.failed += 1;
            assert!(!error.to_string().contains(char::is_control), "{source}");
        }
    }
}

/// How many cases were begun, and the template of the last.
#[derive(Default)]
struct Progress {
    begun: AtomicU64,
    current: Mutex<String>,
}

fn run(cases: u64, seed: u64, progress: &Progress) -> Counts {
    let mut counts = Counts::default();
    for number in 0..cases {
        let mut rng = Rng::new(seed.wrapping_mul(0x1_0000_0001).wrapping_add(number));
        let source = chat_template(&mut rng);
        let said = Said([foreign_text(&mut rng), foreign_text(&mut rng)]);
        progress.current.lock().unwrap().clone_from(&source);
        progress.begun.store(number + 1, Ordering::Release);
        HEAP.reset_peak_usage();
        let before = HEAP.current_usage();
        case(&source, &said, &mut counts);
        let heap = HEAP.peak_usage().saturating_sub(before);
        assert!(heap <= HEAP_BYTES_MAX, "{heap} bytes: {source}");
        counts.heap = counts.heap.max(heap);
    }
    counts
}

fn seed() -> u64 {
    match env::var("GOGRID_SEED") {
        Ok(seed) => seed.parse().expect("GOGRID_SEED is a number"),
        Err(_) => 1,
    }
}

/// Runs the cases on a thread with a small stack, so that a recursion without a bound is found, and
/// fails when one does not come to its end.
fn watched(cases: u64, seed: u64) -> Counts {
    let progress = Arc::new(Progress::default());
    let (done, ended) = sync_channel::<()>(0);
    let told = Arc::clone(&progress);
    let run = move || {
        // Its end, also by a panic, closes the channel.
        let _done = done;
        run(cases, seed, &told)
    };
    let thread = thread::Builder::new().stack_size(256 << 10).spawn(run);
    let thread = thread.unwrap();
    let (mut last, mut seconds) = (0, 0);
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_secs(1)) {
        let now = progress.begun.load(Ordering::Acquire);
        seconds = if now == last { seconds + 1 } else { 0 };
        last = now;
        assert!(
            seconds <= CASE_SECONDS_MAX,
            "case {now} of seed {seed} hangs: {}",
            progress.current.lock().unwrap()
        );
    }
    thread.join().unwrap()
}

#[test]
fn no_template_panics_hangs_or_takes_more_than_granted() {
    let (cases, seed) = (cases(), seed());
    let counts = watched(cases, seed);
    println!("{cases} templates: {counts:?}");
    for count in [counts.rendered, counts.failed, counts.broken] {
        assert!(count >= cases / 20, "{counts:?}");
    }
    assert!(counts.quoting >= cases / 100, "{counts:?}");
}
