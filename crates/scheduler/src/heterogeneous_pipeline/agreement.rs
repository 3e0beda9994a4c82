//! `score` and `generate` on real CPU stages: one way, one set of figures.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_lease::Ledger;
use gogrid_model::Model;
use gogrid_pipeline::{
    Backend, BlockId, Costs, Footprint, Input, Opening, OutputBuf, PlacedSpan, Stage, StageError,
    Step, Ticket,
};
use gogrid_units::Span;

use super::tests::{collect, device, free, model, request};
use super::*;
use crate::request::{Continuation, Sampling};
use crate::senses::Told;

/// All logits that left the last stage, row after row.
type Heard = Arc<Mutex<Vec<f32>>>;

/// A CPU backend whose stages can be overheard.
struct Overheard {
    inner: CpuBackend,
    heard: Heard,
}

struct OverheardStage {
    inner: Box<dyn Stage>,
    heard: Heard,
}

impl Backend for Overheard {
    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        self.inner.predict(model, span, rows_max)
    }

    fn measure(&mut self, model: &Model, memory: &Ledger) -> Result<Costs, StageError> {
        self.inner.measure(model, memory)
    }

    fn open(&mut self, request: Opening<'_>) -> Result<Box<dyn Stage>, StageError> {
        let (inner, heard) = (self.inner.open(request)?, Arc::clone(&self.heard));
        Ok(Box::new(OverheardStage { inner, heard }))
    }
}

impl Stage for OverheardStage {
    fn footprint(&self) -> Footprint {
        self.inner.footprint()
    }

    fn depth(&self) -> usize {
        self.inner.depth()
    }

    fn submit(&mut self, step: &Arc<Step>, input: Input<'_>) -> Result<Ticket, StageError> {
        self.inner.submit(step, input)
    }

    fn poll(&mut self, ticket: Ticket, out: &mut OutputBuf) -> Poll<Result<(), StageError>> {
        let polled = self.inner.poll(ticket, out);
        self.heard.lock().expect("no panic").extend(&out.logits);
        polled
    }

    fn release(&mut self, group: usize, blocks: &[BlockId]) {
        self.inner.release(group, blocks);
    }
}

/// A pipeline with a stage for each span, on the device that stands before it.
fn pipeline(model: &Arc<Model>, places: &[(usize, Span)]) -> (HeterogeneousPipeline, Heard) {
    let heard = Heard::default();
    let ground = |core: usize| {
        let inner = CpuBackend::new(&CpuOptions::threads(1)).expect("a team of one");
        let heard = Arc::clone(&heard);
        (
            device(core),
            Box::new(Overheard { inner, heard }) as Box<dyn Backend>,
        )
    };
    let devices = places.iter().map(|place| place.0 + 1).max();
    let grounds = (0..devices.unwrap_or(0)).map(ground).collect();
    let plan = places
        .iter()
        .map(|&(device, span)| PlacedSpan { device, span })
        .collect();
    let options = Options {
        plan: Some(plan),
        ..free()
    };
    let grounds = Ground::on_one_memory(grounds, &options.limits);
    let threads = Threads::new(&options.limits).expect("a thread");
    let pipeline = HeterogeneousPipeline::under(
        Arc::clone(model),
        grounds,
        &options,
        (threads, Box::<Told>::default()),
    );
    (pipeline.expect("it opens"), heard)
}

fn prompt() -> Vec<u32> {
    (0..200).map(|i| i * 13 % 90 + 3).collect()
}

#[test]
fn score_gives_the_log_probabilities_that_generate_chooses_by() {
    let model = model();
    let whole = [(0, Span::whole_model(model.decoder().layers.len()))];
    let (pipeline, heard) = pipeline(&model, &whole);
    let (prompt, forced) = (prompt(), vec![7, 90, 14, 3, 55, 8, 21]);
    let scores = block_on(pipeline.score([&prompt[..], &forced].concat())).expect("it goes well");
    heard.lock().expect("no panic").clear();
    let continuation = Continuation::Forced(forced.clone());
    let generation = block_on(pipeline.generate(GenerateRequest {
        continuation,
        ..request(prompt.clone(), 1)
    }));
    block_on(collect(generation.expect("admitted"))).expect("it goes well");
    let heard = heard.lock().expect("no panic");
    let rows: Vec<&[f32]> = heard.chunks_exact(model.decoder().vocab).collect();
    assert_eq!(rows.len(), forced.len() + 1);
    for (index, (row, &id)) in rows.iter().zip(&forced).enumerate() {
        let all: f64 = row.iter().map(|&logit| f64::from(logit).exp()).sum();
        let expected = f64::from(row[id as usize]) - all.ln();
        let found = f64::from(scores[prompt.len() - 1 + index]);
        // Equal logits; the sums differ in how they round.
        assert!(
            (found - expected).abs() < 1e-5,
            "{index}: {found}, {expected}"
        );
    }
}

#[test]
fn stages_company_and_batch_change_no_token() {
    let model = model();
    let pieces = Span::whole_model(model.decoder().layers.len());
    let (front, back) = pieces.split_at(pieces.len() / 2 + 1);
    let (middle, head) = back.split_at(1);
    let sampled = |seed: u64| {
        let sampling = Sampling {
            temperature: 0.9,
            seed,
            ignore_eos: true,
            ..Sampling::default()
        };
        GenerateRequest {
            sampling,
            ..request(prompt(), 24)
        }
    };
    let tokens = |places: &[(usize, Span)], company: u64| {
        let (pipeline, _) = pipeline(&model, places);
        block_on(async {
            let first = pipeline.generate(sampled(1)).await.expect("admitted");
            let mut others = Vec::new();
            for seed in 0..company {
                others.push(
                    pipeline
                        .generate(sampled(100 + seed))
                        .await
                        .expect("admitted"),
                );
            }
            let tokens = collect(first).await.expect("it goes well").0;
            let scores = pipeline.score(prompt()).await.expect("it goes well");
            (
                tokens,
                scores.into_iter().map(f32::to_bits).collect::<Vec<_>>(),
            )
        })
    };
    let alone = tokens(&[(0, pieces)], 0);
    assert_eq!(tokens(&[(0, pieces)], 5), alone, "in company");
    assert_eq!(tokens(&[(0, front), (1, back)], 0), alone, "two stages");
    let three = [(0, front), (1, middle), (2, head)];
    assert_eq!(tokens(&three, 5), alone, "three stages, in company");
    let there_and_back = [(0, front), (1, middle), (0, head)];
    assert_eq!(
        tokens(&there_and_back, 5),
        alone,
        "first and last on one device"
    );
}

/// On CPU stages, whose pause points are where the steps rest and are given up.
#[test]
fn a_drop_does_not_wait_for_a_step_that_hardly_moves() {
    let model = model();
    let whole = [(0, Span::whole_model(model.decoder().layers.len()))];
    let (pipeline, _) = pipeline(&model, &whole);
    let mut generations = block_on(async {
        // Several, so that none is done before the limits hold.
        let mut generations = Vec::new();
        for _ in 0..8 {
            let admitted = pipeline.generate(request(prompt(), 1000)).await;
            generations.push(admitted.expect("admitted"));
        }
        let first = generations[0].next().await;
        assert!(matches!(first, Some(Ok(_))), "{first:?}");
        let hardly = ResourceConfig {
            max_compute_usage_percent: 1e-9,
            ..pipeline.status().await.limits
        };
        pipeline.set_limits(hardly).await.expect("in range");
        generations
    });
    // A millisecond of work would take weeks.
    drop(pipeline);
    let last = generations.pop().expect("several");
    let outcome = block_on(collect(last));
    assert!(
        matches!(outcome, Err(GenerateError::Stopped)),
        "{outcome:?}"
    );
}
