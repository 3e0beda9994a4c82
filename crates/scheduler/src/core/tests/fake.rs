//! A model that is a hash, a stage that remembers tokens in blocks, and what a request alone gives.

use std::collections::HashMap;

use gogrid_pipeline::{BLOCK_TOKENS, SequenceRows, Want};

use crate::core::sequence::Decode;
use crate::generation::Finish;
use crate::request::Sampling;
use crate::sampling::Sampler;

pub(super) const VOCAB: usize = 23;
pub(super) const WINDOWS: [Option<usize>; 2] = [None, Some(40)];

/// SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Logits after a history: a hash of all of it.
pub(super) fn logits(history: &[u32]) -> Vec<f32> {
    let fold = |h: u64, &id: &u32| (h ^ u64::from(id)).wrapping_mul(0x0100_0000_01B3);
    let mut dice = Dice(history.iter().fold(0xCBF2_9CE4_8422_2325, fold));
    (0..VOCAB)
        .map(|_| dice.below(8000) as f32 / 1000.0 - 4.0)
        .collect()
}

/// Blocks of all groups, by group and number, with the token of each position that was written.
#[derive(Default)]
pub(super) struct Memory {
    blocks: HashMap<(usize, u32), [Option<u32>; BLOCK_TOKENS]>,
}

impl Memory {
    pub(super) fn release(&mut self, group: usize, blocks: impl Iterator<Item = u32>) {
        for block in blocks {
            self.blocks.remove(&(group, block));
        }
    }

    /// Writes rows, and gives the values that were wanted: logits, log-probabilities.
    pub(super) fn run(&mut self, rows: &SequenceRows, ids: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let (mut all_logits, mut log_probs) = (Vec::new(), Vec::new());
        for (row, (&id, want)) in ids.iter().zip(&rows.wants).enumerate() {
            let position = rows.start + row;
            for (group, table) in rows.tables.iter().enumerate() {
                let block = table[position / BLOCK_TOKENS].expect("a block for what is written");
                let slots = self.blocks.entry((group, block.0)).or_default();
                slots[position % BLOCK_TOKENS] = Some(id);
            }
            match *want {
                Want::Nothing | Want::Hidden => {}
                Want::Logits => all_logits.extend(logits(&self.history(rows, position))),
                Want::LogProb(next) => {
                    log_probs.push(logits(&self.history(rows, position))[next as usize]);
                }
            }
        }
        (all_logits, log_probs)
    }

    /// The tokens up to a position; a window's blocks must hold the same ones.
    fn history(&self, rows: &SequenceRows, position: usize) -> Vec<u32> {
        let read = |group: usize, at: usize| {
            let block = rows.tables[group][at / BLOCK_TOKENS].expect("a block for what is read");
            self.blocks[&(group, block.0)][at % BLOCK_TOKENS].expect("it was written")
        };
        let all: Vec<u32> = (0..=position).map(|at| read(0, at)).collect();
        let window = WINDOWS[1].expect("the second group has one");
        let first = (position + 1).saturating_sub(window);
        for (at, &id) in all.iter().enumerate().skip(first) {
            assert_eq!(read(1, at), id, "the groups disagree");
        }
        all
    }
}

/// A request of the simulation.
#[derive(Clone, Debug)]
pub(super) enum Wish {
    Sample {
        ids: Vec<u32>,
        most: usize,
        sampling: Sampling,
    },
    Force {
        ids: Vec<u32>,
        fed: Vec<u32>,
    },
    Score {
        ids: Vec<u32>,
    },
}

pub(super) fn greedy(ids: Vec<u32>, most: usize) -> Wish {
    Wish::Sample {
        ids,
        most,
        sampling: Sampling::default(),
    }
}

pub(super) fn any_wish(dice: &mut Dice) -> Wish {
    let len = 1 + if dice.chance(20) {
        dice.below(400)
    } else {
        dice.below(50)
    };
    let ids: Vec<u32> = (0..len).map(|_| dice.below(VOCAB as u64) as u32).collect();
    match dice.below(10) {
        0 => Wish::Score { ids },
        1 => Wish::Force {
            ids,
            fed: vec![2; 1 + dice.below(20) as usize],
        },
        _ => {
            let sampling = Sampling {
                temperature: dice.below(3) as f32 * 0.7,
                top_p: 0.9,
                repetition_penalty: 1.1,
                seed: dice.next(),
                stop: if dice.chance(50) {
                    vec!["bc".into(), "dd".into()]
                } else {
                    Vec::new()
                },
                ignore_eos: dice.chance(30),
                ..Sampling::default()
            };
            Wish::Sample {
                ids,
                most: 1 + dice.below(60) as usize,
                sampling,
            }
        }
    }
}

/// One letter for each token.
pub(super) struct Letters;

impl Decode for Letters {
    fn push(&mut self, id: u32) -> String {
        letter(id).to_string()
    }

    fn finish(&mut self) -> String {
        String::new()
    }
}

fn letter(id: u32) -> char {
    char::from(b'a' + id as u8)
}

/// What a request gives when nothing else runs: tokens, text, reason.
pub(super) fn alone(wish: &Wish) -> (Vec<u32>, String, Finish) {
    let text = |ids: &[u32]| ids.iter().map(|&id| letter(id)).collect::<String>();
    let (ids, most, sampling) = match wish {
        Wish::Sample {
            ids,
            most,
            sampling,
        } => (ids, *most, sampling),
        Wish::Force { fed, .. } => return (fed.clone(), text(fed), Finish::Stop),
        Wish::Score { .. } => return (Vec::new(), String::new(), Finish::Stop),
    };
    let mut history = ids.clone();
    let mut sampler = Sampler::new(sampling.clone());
    loop {
        let made = history.len() - ids.len();
        let next = sampler.choose(&logits(&history), &history, made as u64);
        let next = next.expect("the logits are finite");
        if next == 0 && !sampling.ignore_eos {
            let made = history.split_off(ids.len());
            return (made.clone(), text(&made), Finish::Stop);
        }
        history.push(next);
        let made = &history[ids.len()..];
        let text = text(made);
        if let Some(at) = sampling
            .stop
            .iter()
            .filter_map(|stop| text.find(stop))
            .min()
        {
            return (made.to_vec(), text[..at].to_owned(), Finish::StopString);
        }
        if made.len() == most {
            return (made.to_vec(), text, Finish::Length);
        }
    }
}
