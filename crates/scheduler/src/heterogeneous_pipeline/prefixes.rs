//! The prefix cache over real CPU stages, and what it gives back to others on its machine.

use futures_executor::block_on;
use gogrid_cpu::{CpuBackend, CpuOptions};
use gogrid_lease::{Kind, Ledger};
use gogrid_pipeline::Backend;
use gogrid_testkit::Family;
use gogrid_testkit::fakes::Faults;

use super::tests::{collect, fake_cpu, free, model, request};
use super::*;
use crate::fixture::{TestDevice, TestMachine, model_claiming, model_of};
use crate::machine::Process;

fn pipeline_on_cpu(model: Arc<Model>, batch: usize) -> HeterogeneousPipeline {
    let device = TestDevice::cpu(0, |loan| {
        let options = CpuOptions {
            spawn: loan.spawn,
            ..CpuOptions::new(1, loan.memory, loan.pace)
        };
        let backend = CpuBackend::new(&options).expect("a team of one");
        Box::new(backend) as Box<dyn Backend>
    });
    let mut options = free();
    options.limits.max_batch_size = batch;
    let machine = TestMachine::of(vec![device]).open(&options);
    HeterogeneousPipeline::under(&machine, model, &options).expect("it opens")
}

/// What each of some prompts is answered at the same time, and how many tokens of it were there.
fn answers(
    pipeline: &HeterogeneousPipeline,
    prompts: &[Vec<u32>],
    salt: Option<u64>,
) -> Vec<(Vec<u32>, usize)> {
    block_on(async {
        let mut generations = Vec::new();
        for prompt in prompts {
            let request = GenerateRequest {
                cache_salt: salt,
                ..request(prompt.clone(), 20)
            };
            generations.push(pipeline.generate(request).await.expect("admitted"));
        }
        let mut answers = Vec::new();
        for generation in generations {
            let (ids, _, figures) = collect(generation).await.expect("it goes well");
            answers.push((ids, figures.cached_tokens));
        }
        answers
    })
}

/// Two turns of some chats: the second finds all whole blocks of the first, and says the same as without.
fn check_chats(family: Family, batch: usize) {
    let pipeline = pipeline_on_cpu(model_of(family), batch);
    let first = |chat: u32| (0..150).map(|i| i * (7 + chat) % 90 + 3).collect();
    let firsts: Vec<Vec<u32>> = (0..batch as u32).map(first).collect();
    let plain = answers(&pipeline, &firsts, None);
    let told = answers(&pipeline, &firsts, Some(1));
    assert_eq!(told, plain, "{family:?}: nothing was there");
    let seconds = firsts.iter().zip(&told);
    let seconds: Vec<Vec<u32>> = seconds
        .map(|(first, (answer, _))| [&first[..], answer, &[5; 30]].concat())
        .collect();
    let plain = answers(&pipeline, &seconds, None);
    for (salt, cached) in [(2, 0), (1, 160)] {
        // 150 tokens and 19 of the answer were written: five blocks.
        let expected: Vec<_> = plain.iter().map(|(ids, _)| (ids.clone(), cached)).collect();
        assert_eq!(
            answers(&pipeline, &seconds, Some(salt)),
            expected,
            "{family:?}"
        );
    }
}

#[test]
fn a_second_turn_computes_what_is_new_and_says_the_same() {
    let families = [
        Family::Llama,
        Family::Mistral,
        Family::Qwen3,
        Family::Gemma2,
        Family::Gemma3,
        Family::Phi3,
    ];
    for family in families {
        for batch in [1, 4] {
            check_chats(family, batch);
        }
    }
}

/// A pipeline of fake stages that keeps much, and the account that it is in.
fn full(machine: &Arc<Machine>) -> (HeterogeneousPipeline, Ledger) {
    let pipeline = HeterogeneousPipeline::under(machine, model_claiming(4096), &free());
    let pipeline = pipeline.expect("it opens");
    let prompts: Vec<Vec<u32>> = (1..5)
        .map(|n| (0..3000).map(|i| i * n % 90).collect())
        .collect();
    answers(&pipeline, &prompts, Some(1));
    let ledger = machine.hardware.memories[0].ledger.clone();
    assert!(ledger.used_by(Kind::Prefix) > Bytes::ZERO);
    (pipeline, ledger)
}

fn machine() -> Arc<Machine> {
    machine_in(&Arc::default())
}

fn machine_in(process: &Arc<Process>) -> Arc<Machine> {
    let machine = TestMachine {
        process: Arc::clone(process),
        ..TestMachine::of(vec![fake_cpu(0, Faults::default())])
    };
    machine.open(&free())
}

#[test]
fn a_request_of_another_model_gets_the_room_that_one_keeps() {
    let process = Arc::default();
    let (machine, beside) = (machine_in(&process), machine_in(&process));
    for others in [&machine, &beside] {
        check_gets_room(&machine, others);
    }
}

/// A request on one machine gets the room that a model on another, or the same, keeps.
fn check_gets_room(machine: &Arc<Machine>, others: &Arc<Machine>) {
    let other = HeterogeneousPipeline::under(others, model(), &free()).expect("it opens");
    let (keeps, ledger) = full(machine);
    let _rest = ledger
        .reserve(Kind::Scratch, ledger.room())
        .expect("it is free");
    let answer = answers(&other, &[vec![3; 100]], None);
    assert_eq!(answer[0].0.len(), 20);
    assert_eq!(ledger.used_by(Kind::Prefix), Bytes::ZERO);
    drop(keeps);
}

#[test]
fn another_model_is_opened_where_one_keeps_something() {
    let machine = machine();
    let (_keeps, ledger) = full(&machine);
    let kept = ledger.used_by(Kind::Prefix);
    // Less than a model takes is left beside what is kept.
    let rest = ledger.room();
    let opened = HeterogeneousPipeline::under(&machine, model(), &free()).expect("it opens");
    assert_eq!(ledger.used_by(Kind::Prefix), Bytes::ZERO);
    drop(opened);
    assert_eq!(ledger.room(), rest + kept);
}

#[test]
fn a_long_text_gets_the_room_that_a_model_keeps() {
    let machine = machine();
    let (pipeline, ledger) = full(&machine);
    let _rest = ledger
        .reserve(Kind::Scratch, ledger.room())
        .expect("it is free");
    let refused = block_on(pipeline.generate(super::texts::long())).map(drop);
    // It was tokenised, as it has more tokens than the context.
    assert!(
        matches!(refused, Err(Refusal::PromptTooLong { .. })),
        "{refused:?}"
    );
    assert_eq!(ledger.used_by(Kind::Prefix), Bytes::ZERO);
}

#[test]
fn what_is_kept_goes_at_once_when_the_limit_on_memory_falls() {
    let machine = machine();
    let (pipeline, ledger) = full(&machine);
    let status = block_on(pipeline.status());
    assert_eq!(
        status.devices[0].prefix_bytes,
        ledger.used_by(Kind::Prefix).0
    );
    let others = ledger.used().saturating_sub(ledger.used_by(Kind::Prefix));
    let limits = ResourceConfig {
        max_vram_usage_percent: (others.0 + 1) as f64 / (1_u64 << 30) as f64,
        ..status.limits
    };
    block_on(pipeline.set_limits(limits)).expect("in range");
    assert_eq!(ledger.used(), others);
}
