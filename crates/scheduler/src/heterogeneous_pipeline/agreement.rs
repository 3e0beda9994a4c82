//! `score` and `generate` on real CPU stages: one way, one set of figures.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures_executor::block_on;
use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_lease::Ledger;
use gogrid_model::Model;
use gogrid_pipeline::{
    BLOCK_TOKENS, Backend, BlockId, EmbeddedRows, Footprint, Input, LayerKv, Opening, OutputBuf,
    PlacedSpan, Positions, Rows, SequenceRows, Stage, StageError, Step, Ticket, Want,
};
use gogrid_units::{Bytes, FullSpeed, Span};

use super::tests::{collect, free, model, next_given, request};
use super::*;
use crate::error::GenerateError;
use crate::fixture::{TestDevice, TestMachine};
use crate::request::{Continuation, Prompt, PromptRows, Sampling};

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
    fn check(&self, model: &Model, span: Span) -> Result<(), StageError> {
        self.inner.check(model, span)
    }

    fn predict(&self, model: &Model, span: Span, rows_max: usize) -> Footprint {
        self.inner.predict(model, span, rows_max)
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

    fn export(&mut self, group: usize, block: BlockId) -> Result<Vec<LayerKv>, StageError> {
        self.inner.export(group, block)
    }

    fn import(
        &mut self,
        group: usize,
        block: BlockId,
        layers: &[LayerKv],
    ) -> Result<(), StageError> {
        self.inner.import(group, block, layers)
    }
}

/// A pipeline with a stage for each span, on the device that stands before it.
fn pipeline(model: &Arc<Model>, places: &[(usize, Span)]) -> (HeterogeneousPipeline, Heard) {
    let heard = Heard::default();
    let device = |core: usize| {
        let heard = Arc::clone(&heard);
        TestDevice::cpu(core, move |loan| {
            let options = CpuOptions {
                spawn: loan.spawn,
                ..CpuOptions::new(1, loan.memory, loan.pace)
            };
            let inner = CpuBackend::new(&options).expect("a team of one");
            let heard = Arc::clone(&heard);
            Box::new(Overheard { inner, heard }) as Box<dyn Backend>
        })
    };
    let devices = places.iter().map(|place| place.0 + 1).max();
    let devices = (0..devices.unwrap_or(0)).map(device).collect();
    let plan = places.iter();
    let plan = plan.map(|&(device, span)| PlacedSpan { device, span });
    let options = Options {
        plan: Some(plan.collect()),
        ..free()
    };
    let machine = TestMachine::of(devices).open(&options);
    let pipeline = HeterogeneousPipeline::under(&machine, Arc::clone(model), &options);
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
    let scores = block_on(pipeline.score([&prompt[..], &forced].concat(), Whose::Guest))
        .expect("it goes well");
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
            let scores = pipeline
                .score(prompt(), Whose::Guest)
                .await
                .expect("it goes well");
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

/// What the model's own embedding gives for each id.
fn embeddings(model: &Model, ids: &[u32]) -> Vec<f32> {
    let memory = Ledger::new(Bytes::gib(1));
    let options = CpuOptions::new(1, memory, Arc::new(FullSpeed));
    let mut backend = CpuBackend::new(&options).expect("a team of one");
    let opening = Opening::new(model, Span::new(0, 1), ids.len());
    let mut stage = backend.open(opening).expect("it fits");
    let blocks = (0..ids.len().div_ceil(BLOCK_TOKENS)).map(|block| Some(BlockId(block as u32)));
    let tables = vec![blocks.collect(); model.decoder().kv_groups.len()];
    let sequence = SequenceRows {
        tables: Arc::new(tables),
        start: 0,
        length: ids.len(),
        positions: Positions::Sequential,
        wants: vec![Want::Nothing; ids.len()],
    };
    let step = Arc::new(Step {
        sequences: vec![sequence],
    });
    let rows = Rows::of_ids(ids.to_vec());
    let ticket = stage
        .submit(&step, Input::Rows(&rows))
        .expect("it is taken");
    let mut out = OutputBuf::default();
    let Poll::Ready(Ok(())) = stage.poll(ticket, &mut out) else {
        panic!("a CPU computes when it is asked")
    };
    out.hidden
}

#[test]
fn a_prompt_of_embeddings_and_positions_gives_the_logits_of_its_ids() {
    let model = model();
    let (ids, count) = (prompt(), prompt().len() as u32);
    let whole = [(0, Span::whole_model(model.decoder().layers.len()))];
    let (pipeline, heard) = pipeline(&model, &whole);
    let logits = |prompt: Prompt| {
        let request = GenerateRequest {
            prompt,
            ..request(Vec::new(), 24)
        };
        let generation = block_on(pipeline.generate(request)).expect("admitted");
        let (tokens, ..) = block_on(collect(generation)).expect("it goes well");
        let heard = std::mem::take(&mut *heard.lock().expect("no panic"));
        assert_eq!(heard.len(), tokens.len() * model.decoder().vocab);
        heard.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let expected = logits(Prompt::Ids(ids.clone()));
    // Both runs cross from one block to the next, and one ends in the middle of a prefill chunk.
    let runs = [20..70, 90..140].map(|rows| EmbeddedRows {
        values: embeddings(&model, &ids[rows.clone()]).into(),
        rows,
    });
    let mut rows = Rows::of_ids(ids);
    for run in runs {
        rows.ids[run.rows.clone()].fill(u32::MAX);
        rows.embedded.push(run);
    }
    let own = Positions::Given {
        axes: 3,
        values: (0..count).flat_map(|position| [position; 3]).collect(),
    };
    for positions in [Positions::Sequential, own] {
        let rows = rows.clone();
        let found = logits(Prompt::Rows(PromptRows { rows, positions }));
        assert!(found == expected);
    }
    // Positions count: the same rows elsewhere are another prompt.
    let positions = Positions::Given {
        axes: 1,
        values: (0..count).map(|position| position / 2).collect(),
    };
    assert!(logits(Prompt::Rows(PromptRows { rows, positions })) != expected);
}

/// On CPU stages: what moves is the keys and values that real arithmetic wrote.
#[test]
fn layers_that_move_between_cpu_devices_change_no_token() {
    let model = model();
    let pieces = Span::whole_model(model.decoder().layers.len());
    let end = pieces.end;
    let wish = |seed: u64| GenerateRequest {
        sampling: Sampling {
            temperature: 0.9,
            seed,
            ignore_eos: true,
            ..Sampling::default()
        },
        ..request(prompt(), 60)
    };
    let ids = |moves: bool| {
        let (pipeline, _) = pipeline(
            &model,
            &[(0, pieces.split_at(3).0), (1, pieces.split_at(3).1)],
        );
        block_on(async {
            let mut running = Vec::new();
            for seed in 0..3 {
                running.push((
                    pipeline.generate(wish(seed)).await.expect("admitted"),
                    Vec::new(),
                ));
            }
            let placed = |device, start, end| PlacedSpan {
                device,
                span: Span::new(start, end),
            };
            let plans = [
                vec![placed(0, 0, end)],
                vec![placed(1, 0, 6), placed(0, 6, end)],
                vec![placed(0, 0, 2), placed(1, 2, 5), placed(0, 5, end)],
            ];
            for plan in plans.iter().cycle().take(if moves { 9 } else { 0 }) {
                for (generation, ids) in &mut running {
                    if let Some(Ok(crate::Event::Delta { ids: new, .. })) =
                        next_given(generation).await
                    {
                        ids.extend(new);
                    }
                }
                pipeline.move_to(plan.clone()).await.expect("there is room");
            }
            let mut all = Vec::new();
            for (generation, mut ids) in running {
                ids.extend(collect(generation).await.expect("it goes well").0);
                all.push(ids);
            }
            let ledger = &pipeline.machine().hardware.memories[0].ledger;
            assert_eq!(ledger.used_by(gogrid_lease::Kind::Kv), Bytes::ZERO);
            all
        })
    };
    assert_eq!(ids(true), ids(false));
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
        let first = next_given(&mut generations[0]).await;
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
