//! Prompts of text: how long they may be, and whose thread tokenises them.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures_executor::block_on;
use gogrid_testkit::fakes::Faults;

use super::tests::{collect, fake_cpu, free};
use super::*;
use crate::fixture::{TestMachine, model_claiming};
use crate::limits::{PROMPT_BYTES_MAX, TEXT_INLINE_BYTES_MAX};
use crate::request::Prompt;

/// Room for the fewest tokens that [`long`] may have by its bytes, and not for those it has.
const CONTEXT: usize = 4096;

fn pipeline() -> HeterogeneousPipeline {
    let machine = TestMachine::of(vec![fake_cpu(0, Faults::default())]).open(&free());
    let model = model_claiming(CONTEXT);
    HeterogeneousPipeline::under(&machine, model, &free()).expect("it opens")
}

fn text(text: String) -> GenerateRequest {
    GenerateRequest::new(Prompt::Text(text), 1)
}

/// More than a caller's thread does. Its tokens do not fit the context, which its bytes do not show.
fn long() -> GenerateRequest {
    text("ab cd ".repeat(TEXT_INLINE_BYTES_MAX / 3))
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn tokenizers(pipeline: &HeterogeneousPipeline) -> usize {
    let threads = pipeline.machine.hardware.threads.statuses();
    let its = |name: &str| name.starts_with("tokenizer ");
    threads.iter().filter(|thread| its(&thread.name)).count()
}

#[test]
fn a_prompt_that_cannot_fit_is_refused_before_it_is_tokenised() {
    let pipeline = pipeline();
    let refused = |request| match poll_once(pin!(pipeline.generate(request))) {
        Poll::Ready(Err(refusal)) => refusal.to_string(),
        Poll::Ready(Ok(_)) => panic!("it does not fit"),
        Poll::Pending => panic!("it is being tokenised"),
    };
    let words = refused(text("a".repeat(PROMPT_BYTES_MAX)));
    let least = pipeline
        .intake
        .model
        .tokenizer()
        .tokens_at_least(PROMPT_BYTES_MAX);
    let expected = format!("prompt of {least} tokens does not fit");
    assert!(least > CONTEXT && words.starts_with(&expected), "{words}");
    let words = refused(text("a".repeat(PROMPT_BYTES_MAX + 1)));
    assert!(words.contains("bytes of text; at most"), "{words}");
    // Of a chat as of a text, however many messages it is spread over.
    let half = gogrid_model::Message {
        role: "user".to_owned(),
        content: "a".repeat(PROMPT_BYTES_MAX / 2),
    };
    let chat = Prompt::Chat(vec![half.clone(), half]);
    let words = refused(GenerateRequest::new(chat, 1));
    assert!(words.contains("bytes of text; at most"), "{words}");
    // What else is wrong is found first.
    let mut request = text("a".repeat(PROMPT_BYTES_MAX));
    request.sampling.top_p = f32::NAN;
    assert!(refused(request).starts_with("top_p"));
}

#[test]
fn a_long_text_is_tokenised_on_a_thread_of_the_pipeline() {
    let pipeline = pipeline();
    let error = block_on(pipeline.generate(long())).expect_err("it has too many tokens");
    assert!(matches!(error, Refusal::PromptTooLong { .. }), "{error}");
    let short = text("ab cd".to_owned());
    let generation = block_on(pipeline.generate(short)).expect("admitted");
    block_on(collect(generation)).expect("it ends");
}

/// While all work is stopped, a text is not tokenised, and nobody has to wait for it.
#[test]
fn a_long_text_waits_while_work_is_stopped_and_ends_with_its_caller() {
    let pipeline = pipeline();
    block_on(pipeline.pause()).expect("it holds");
    {
        let (mut first, mut second) = (
            pin!(pipeline.generate(long())),
            pin!(pipeline.generate(long())),
        );
        let mut third = pin!(pipeline.generate(long()));
        assert!(poll_once(first.as_mut()).is_pending());
        assert!(poll_once(second.as_mut()).is_pending());
        assert!(poll_once(third.as_mut()).is_pending());
        assert_eq!(tokenizers(&pipeline), 2, "the third waits for one of them");
    }
    while tokenizers(&pipeline) > 0 {
        std::thread::yield_now();
    }
    let mut waits = Box::pin(pipeline.generate(long()));
    assert!(poll_once(waits.as_mut()).is_pending());
    block_on(pipeline.resume()).expect("it holds");
    let error = block_on(waits).expect_err("it has too many tokens");
    assert!(matches!(error, Refusal::PromptTooLong { .. }), "{error}");
    // One whose caller forgot it ends with the pipeline.
    block_on(pipeline.pause()).expect("it holds");
    let mut forgotten = Box::pin(pipeline.generate(long()));
    assert!(poll_once(forgotten.as_mut()).is_pending());
    std::mem::forget(forgotten);
    drop(pipeline);
}

#[test]
fn without_a_thread_a_long_text_is_refused_and_a_short_one_is_not() {
    let pipeline = pipeline();
    pipeline.machine.hardware.threads.kill_spawner();
    let error = block_on(pipeline.generate(long())).expect_err("nothing tokenises it");
    assert!(matches!(error, Refusal::NoThread(_)), "{error}");
    let short = text("ab cd".to_owned());
    let generation = block_on(pipeline.generate(short)).expect("admitted");
    block_on(collect(generation)).expect("it ends");
}
