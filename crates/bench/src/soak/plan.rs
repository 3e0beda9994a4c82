//! What the actors of a soak do, one choice after the other. Choices depend on the seed alone; how
//! many of them there is time for depends on the machine.

use std::time::Duration;

use corpgrid_scheduler::{
    GenerateRequest, Message, PlacedSpan, Policy, Prompt, ResourceConfig, Sampling, Settings, Span,
};

use super::chance::Chance;
use super::watched::BROKEN;

/// What becomes of a request that was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Heard to its end.
    Whole,
    /// Dropped after so many events.
    DroppedAfter(usize),
    /// Dropped while its caller's thread unwinds.
    DroppedByPanic,
    /// Its waker panics when it is woken.
    WakerPanics,
}

/// A request and what becomes of it.
pub(super) struct RequestPlan {
    pub(super) ask: Ask,
    pub(super) ending: Ending,
    /// Whether it goes to the second model, where that is open.
    pub(super) to_second: bool,
    /// Whether its caller takes a start first.
    pub(super) throttled: bool,
}

pub(super) enum Ask {
    Generate(Box<GenerateRequest>),
    Score(Vec<u32>),
}

/// A change while requests run.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Limits(ResourceConfig),
    Settings(Box<Settings>),
    /// Settings that are written to the watched file.
    WatchedFile(Box<Settings>),
    /// A text for the watched file that is no limits; `None` takes the file away.
    BrokenFile(Option<String>),
    /// A memory cap at so many times what is held, for so long.
    TightMemory {
        times: f64,
        time: Duration,
    },
    Pause(Duration),
    Snooze(Duration),
    Finish(Duration),
    CancelAll,
    Move,
}

impl Change {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Limits(_) => "limits",
            Self::Settings(_) => "settings",
            Self::WatchedFile(_) => "watched files",
            Self::BrokenFile(_) => "watched files broken",
            Self::TightMemory { .. } => "tight memory",
            Self::Pause(_) => "pauses",
            Self::Snooze(_) => "snoozes",
            Self::Finish(_) => "finishes",
            Self::CancelAll => "cancellations of all",
            Self::Move => "moves",
        }
    }
}

/// Text that a prompt may be made of: plain words, then what tokenizers and templates stumble over.
const WORDS: [&str; 12] = [
    "the", "river", "of", "numbers", "seven", "ran", "under", "a", "bridge", "and", "nobody", "saw",
];
const HOSTILE: [&str; 10] = [
    "<|im_start|>system\n",
    "<|im_end|>",
    "</s><s>",
    "\0",
    "{{ 7 * 7 }}{% for x in y %}",
    "\u{202e}\u{200d}\u{feff}",
    "e\u{301}\u{301}\u{301}",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "\u{1b}[2J",
    "                                                                ",
];

/// Makes an actor's choices.
pub(super) struct Plan {
    chance: Chance,
    least_nice: i32,
}

/// The least nice value that is asked for.
pub(super) const NICE_LEAST: i32 = 5;
const NICE_MOST: i32 = 19;

impl Plan {
    pub(super) fn new(seed: u64, round: u64, actor: u64) -> Self {
        Self {
            chance: Chance::new(seed, round, actor),
            least_nice: NICE_LEAST,
        }
    }

    /// The same, with nice values from this one on.
    pub(super) fn with_least_nice(self, least_nice: i32) -> Self {
        Self { least_nice, ..self }
    }

    pub(super) fn request(&mut self) -> RequestPlan {
        let ask = match self.chance.whole(1, 100) {
            1..=5 => Ask::Score(self.ids(64)),
            _ => Ask::Generate(Box::new(self.generation())),
        };
        let ending = match self.chance.whole(1, 100) {
            1..=60 => Ending::Whole,
            61..=90 => Ending::DroppedAfter(self.chance.whole(0, 12)),
            91..=96 => Ending::DroppedByPanic,
            _ => Ending::WakerPanics,
        };
        RequestPlan {
            ask,
            ending,
            to_second: self.chance.happens(40),
            throttled: self.chance.happens(15),
        }
    }

    fn generation(&mut self) -> GenerateRequest {
        let prompt = match self.chance.whole(1, 100) {
            1..=32 => Prompt::Text(self.words(1, 20)),
            // More than 8 KiB, which a text worker tokenises.
            33..=35 => Prompt::Text(self.words(1650, 1850)),
            36..=50 => Prompt::Text(self.words(100, 400)),
            51..=70 => Prompt::Chat(self.chat().into()),
            71..=85 => Prompt::Text(self.hostile()),
            86..=95 => Prompt::Ids(self.ids(200)),
            // Refused: no vocabulary has them.
            _ => Prompt::Ids(vec![u32::MAX; self.chance.whole(0, 3)]),
        };
        GenerateRequest {
            sampling: self.sampling(),
            ..GenerateRequest::new(prompt, self.chance.whole(1, 48))
        }
    }

    fn words(&mut self, least: usize, most: usize) -> String {
        let count = self.chance.whole(least, most);
        let words = (0..count).map(|_| *self.chance.one_of(&WORDS));
        words.collect::<Vec<_>>().join(" ")
    }

    fn hostile(&mut self) -> String {
        let count = self.chance.whole(1, 24);
        (0..count).map(|_| *self.chance.one_of(&HOSTILE)).collect()
    }

    /// A chat of one short answer.
    pub(super) fn short_chat(&mut self) -> GenerateRequest {
        GenerateRequest::new(Prompt::Chat(self.chat().into()), self.chance.whole(1, 8))
    }

    fn chat(&mut self) -> Vec<Message> {
        let turns = self.chance.whole(1, 4);
        let turn = |number: usize| {
            let content = match self.chance.happens(30) {
                true => self.hostile(),
                false => self.words(1, 40),
            };
            Message::new(["user", "assistant"][number % 2], content)
        };
        (0..2 * turns - 1).map(turn).collect()
    }

    /// Ids that every vocabulary has.
    fn ids(&mut self, most: usize) -> Vec<u32> {
        let count = self.chance.whole(2, most);
        (0..count)
            .map(|_| self.chance.whole(5, 20_000) as u32)
            .collect()
    }

    fn sampling(&mut self) -> Sampling {
        let chance = &mut self.chance;
        Sampling {
            temperature: if chance.happens(40) {
                0.0
            } else {
                chance.real(0.1, 2.0) as f32
            },
            top_k: chance.whole(0, 60),
            top_p: chance.real(0.3, 1.0) as f32,
            min_p: chance.real(0.0, 0.2) as f32,
            repetition_penalty: chance.real(0.8, 1.4) as f32,
            frequency_penalty: chance.real(-0.5, 0.5) as f32,
            presence_penalty: chance.real(-0.5, 0.5) as f32,
            last_n: chance.whole(0, 256),
            seed: chance.whole(0, 1 << 30) as u64,
            stop: if chance.happens(20) {
                vec![" the".to_owned()]
            } else {
                Vec::new()
            },
            ignore_eos: chance.happens(30),
            ..Sampling::default()
        }
    }

    pub(super) fn change(&mut self) -> Change {
        let short = |chance: &mut Chance| Duration::from_millis(chance.whole(400, 1500) as u64);
        match self.chance.whole(1, 100) {
            1..=29 => Change::Limits(self.limits()),
            30..=36 => Change::Settings(Box::new(self.settings())),
            37..=41 => Change::WatchedFile(Box::new(self.settings())),
            42..=45 => Change::BrokenFile(self.broken_limits()),
            46..=58 => Change::TightMemory {
                times: self.chance.real(0.7, 1.2),
                time: short(&mut self.chance),
            },
            59..=70 => Change::Pause(short(&mut self.chance)),
            71..=77 => Change::Snooze(short(&mut self.chance)),
            78..=82 => Change::Finish(short(&mut self.chance)),
            83..=87 => Change::CancelAll,
            _ => Change::Move,
        }
    }

    fn settings(&mut self) -> Settings {
        Settings {
            limits: self.limits(),
            away: self.limits(),
            policy: Policy::server(),
        }
    }

    fn broken_limits(&mut self) -> Option<String> {
        let text = *self.chance.one_of::<&str>(&BROKEN);
        // A text that is the same is no change.
        let differs = self.chance.whole(0, 1 << 30);
        (!self.chance.happens(30)).then(|| format!("{text}\n# {differs}"))
    }

    /// Limits under which work goes on, if slowly.
    fn limits(&mut self) -> ResourceConfig {
        let (chance, least_nice) = (&mut self.chance, self.least_nice);
        ResourceConfig {
            max_vram_usage_percent: chance.real(0.3, 0.95),
            max_compute_usage_percent: chance.real(0.25, 0.95),
            process_priority: chance.whole_i32(least_nice, NICE_MOST),
            io_priority_class: chance.whole(2, 3) as u8,
            io_priority_level: chance.whole(0, 7) as u8,
            enable_auto_throttle: chance.happens(50),
            min_request_interval_ms: chance.whole(0, 60) as u64,
            max_batch_size: chance.whole(1, 16),
        }
    }

    /// One to three stages that follow one another, anywhere on so many devices.
    pub(super) fn stages(&mut self, pieces: usize, devices: usize) -> Vec<PlacedSpan> {
        let mut cuts: Vec<usize> = (0..self.chance.whole(0, 2))
            .map(|_| self.chance.whole(1, pieces - 1))
            .collect();
        cuts.extend([0, pieces]);
        cuts.sort_unstable();
        cuts.dedup();
        let spans = cuts.windows(2).map(|cut| Span::new(cut[0], cut[1]));
        let place = |span| PlacedSpan {
            device: self.chance.whole(0, devices - 1),
            span,
        };
        spans.map(place).collect()
    }

    /// A time between two things that an actor does.
    pub(super) fn wait(&mut self, least: Duration, most: Duration) -> Duration {
        least + (most - least).mul_f64(self.chance.real(0.0, 1.0))
    }

    /// Makes some bytes others, and cuts some off.
    pub(super) fn spoil(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.chance.whole(1, 20) {
            if let Some(last) = bytes.len().checked_sub(1) {
                bytes[self.chance.whole(0, last)] = self.chance.whole(0, 255) as u8;
            }
        }
        bytes.truncate(self.chance.whole(0, bytes.len()));
    }

    pub(super) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        self.chance.one_of(all)
    }

    pub(super) fn happens(&mut self, percent: usize) -> bool {
        self.chance.happens(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_alone_decides() {
        let choices = |seed| {
            let mut plan = Plan::new(seed, 3, 1);
            let changes = (0..50).map(|_| format!("{:?}", plan.change()));
            let changes: Vec<_> = changes.collect();
            let requests = (0..50).map(|_| match plan.request().ask {
                Ask::Generate(request) => format!("{request:?}"),
                Ask::Score(ids) => format!("{ids:?}"),
            });
            (changes, requests.collect::<Vec<_>>())
        };
        assert_eq!(choices(7), choices(7));
        assert_ne!(choices(7), choices(8));
    }

    #[test]
    fn stages_cover_the_model_and_limits_are_in_their_ranges() {
        let mut plan = Plan::new(1, 0, 0);
        for _ in 0..200 {
            let stages = plan.stages(62, 2);
            assert_eq!(stages[0].span.start, 0);
            assert_eq!(stages[stages.len() - 1].span.end, 62);
            let next = stages
                .windows(2)
                .all(|pair| pair[0].span.end == pair[1].span.start);
            assert!(
                next && stages.iter().all(|stage| stage.device < 2),
                "{stages:?}"
            );
            plan.limits().validate().unwrap();
        }
    }

    #[test]
    fn nice_values_begin_where_the_process_may_go_back_to() {
        for least in [NICE_LEAST, 12, NICE_MOST] {
            let mut plan = Plan::new(1, 0, 0).with_least_nice(least);
            let values = (0..200).map(|_| plan.limits().process_priority);
            let values: Vec<_> = values.collect();
            assert_eq!(values.iter().min(), Some(&least));
            assert_eq!(values.iter().max(), Some(&NICE_MOST));
        }
    }

    #[test]
    fn some_prompts_need_a_text_worker() {
        let mut plan = Plan::new(1, 0, 0);
        let longest = (0..500).filter_map(|_| match plan.request().ask {
            Ask::Generate(request) => match request.prompt {
                Prompt::Text(text) => Some(text.len()),
                _ => None,
            },
            _ => None,
        });
        assert!(longest.filter(|bytes| *bytes > 8 << 10).count() >= 5);
    }
}
