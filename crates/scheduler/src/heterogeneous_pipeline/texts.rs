//! Prompts of text: how long they may be, and whose thread tokenises them.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_governor::{Observation, Policy};
use gogrid_lease::Kind;
use gogrid_model::{Conversation, Ending, Message};
use gogrid_testkit::fakes::Faults;

use super::tests::{collect, fake_cpu, free};
use super::*;
use crate::fixture::{TestMachine, model_claiming, model_that_chats};
use crate::generation::{Event, Finish};
use crate::limits::{OWNER_PLACES, PROMPT_BYTES_MAX, TEXT_INLINE_BYTES_MAX, TEXT_MEMORY_PER_BYTE};
use crate::request::Prompt;

/// Room for the fewest tokens that [`long`] may have by its bytes, and not for those it has.
pub(super) const CONTEXT: usize = 4096;

fn pipeline() -> HeterogeneousPipeline {
    pipeline_of(model_claiming(CONTEXT))
}

fn pipeline_of(model: Arc<Model>) -> HeterogeneousPipeline {
    let machine = TestMachine::of(vec![fake_cpu(0, Faults::default())]).open(&free());
    HeterogeneousPipeline::under(&machine, model, &free()).expect("it opens")
}

fn text(text: String) -> GenerateRequest {
    GenerateRequest::new(Prompt::Text(text), 1)
}

/// More than a caller's thread does. Its tokens do not fit the context, which its bytes do not show.
pub(super) fn long() -> GenerateRequest {
    text("ab cd ".repeat(TEXT_INLINE_BYTES_MAX / 3))
}

fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
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
    let half = Message::user("a".repeat(PROMPT_BYTES_MAX / 2));
    let chat = Prompt::Chat(vec![half.clone(), half].into());
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

/// A request that is not admitted yet.
type Admission<'a> = Pin<Box<dyn Future<Output = Result<Generation, Refusal>> + 'a>>;

/// Two texts in the middle of a pause, and one that waits for their threads.
fn three_that_wait(pipeline: &HeterogeneousPipeline) -> Vec<Admission<'_>> {
    block_on(pipeline.pause()).expect("it holds");
    let mut waiting: Vec<Admission<'_>> = Vec::new();
    for _ in 0..3 {
        waiting.push(Box::pin(pipeline.generate(long())));
    }
    for text in &mut waiting {
        assert!(poll_once(text.as_mut()).is_pending());
    }
    waiting
}

#[test]
fn long_texts_end_with_the_thread_that_holds_the_limits() {
    let pipeline = pipeline();
    let waiting = three_that_wait(&pipeline);
    pipeline.machine.kill_observer();
    for text in waiting {
        let error = block_on(text).expect_err("nothing runs any more");
        assert!(matches!(error, Refusal::ThreadFailed(_)), "{error}");
    }
}

#[test]
fn long_texts_are_cancelled_with_all_others_and_later_ones_are_not() {
    let pipeline = pipeline();
    let waiting = three_that_wait(&pipeline);
    block_on(pipeline.cancel_all());
    for text in waiting {
        let mut generation = block_on(text).expect("it is no refusal");
        let end = block_on(generation.next()).expect("it has an end");
        assert!(
            matches!(
                end,
                Ok(Event::Finished {
                    reason: Finish::Cancelled,
                    ..
                })
            ),
            "{end:?}"
        );
    }
    block_on(pipeline.resume()).expect("it holds");
    let error = block_on(pipeline.generate(long())).expect_err("it has too many tokens");
    assert!(matches!(error, Refusal::PromptTooLong { .. }), "{error}");
}

/// A caller that waits for a thread holds its text, so it counts among those that wait.
#[test]
fn callers_with_long_texts_are_as_many_as_may_wait() {
    let pipeline = pipeline();
    let mut waiting = three_that_wait(&pipeline);
    while waiting.len() < QUEUED_MAX - OWNER_PLACES as usize {
        let mut text = Box::pin(pipeline.generate(long()));
        assert!(poll_once(text.as_mut()).is_pending());
        waiting.push(text);
    }
    for request in [long(), text("ab cd".to_owned())] {
        let refused = block_on(pipeline.generate(request)).map(drop);
        assert!(
            matches!(refused, Err(Refusal::TooManyQueued { .. })),
            "{refused:?}"
        );
    }
    // Guests leave some places to the owner.
    let owners = GenerateRequest {
        whose: Whose::Owner,
        ..text("ab cd".to_owned())
    };
    assert!(block_on(pipeline.generate(owners)).is_ok());
    drop(waiting);
    let mut text = pin!(pipeline.generate(long()));
    assert!(poll_once(text.as_mut()).is_pending(), "there is a place");
}

#[test]
fn an_owners_long_text_waits_for_no_guests_that_are_stopped() {
    let seen = Observation {
        memory_available: Some(0.01),
        ..Observation::default()
    };
    let options = Options {
        policy: Policy::desktop(),
        ..free()
    };
    let machine = TestMachine {
        seen,
        ..TestMachine::of(vec![fake_cpu(0, Faults::default())])
    };
    let machine = machine.open(&options);
    let model = model_claiming(CONTEXT);
    let pipeline = HeterogeneousPipeline::under(&machine, model, &options).expect("it opens");
    let mut guests: Vec<_> = (0..4)
        .map(|_| Box::pin(pipeline.generate(long())))
        .collect();
    for guest in &mut guests {
        assert!(poll_once(guest.as_mut()).is_pending());
    }
    let owners = GenerateRequest {
        whose: Whose::Owner,
        ..long()
    };
    // It was tokenised: its tokens are too many.
    let error = block_on(pipeline.generate(owners)).expect_err("it has too many tokens");
    assert!(matches!(error, Refusal::PromptTooLong { .. }), "{error}");
    for guest in &mut guests {
        assert!(poll_once(guest.as_mut()).is_pending());
    }
}

#[test]
fn a_long_text_is_work_and_has_a_lease_for_its_memory() {
    let pipeline = pipeline();
    let hardware = Arc::clone(&pipeline.machine.hardware);
    let ledger = &hardware.memories[0].ledger;
    block_on(pipeline.pause()).expect("it holds");
    assert!(!hardware.engines.is_busy());
    {
        let mut text = pin!(pipeline.generate(long()));
        assert!(poll_once(text.as_mut()).is_pending());
        let bytes = TEXT_INLINE_BYTES_MAX / 3 * "ab cd ".len();
        let leased = Bytes(bytes as u64).times(TEXT_MEMORY_PER_BYTE);
        assert_eq!(ledger.used_by(Kind::Text), leased);
        assert!(hardware.engines.is_busy());
    }
    while tokenizers(&pipeline) > 0 {
        std::thread::yield_now();
    }
    assert_eq!(ledger.used_by(Kind::Text), Bytes::ZERO);
    assert!(!hardware.engines.is_busy());
    // Where there is no room now, and where there is none under the cap.
    let _all = ledger
        .reserve(Kind::Scratch, ledger.room())
        .expect("it is free");
    let refused = block_on(pipeline.generate(long())).map(drop);
    assert!(
        matches!(refused, Err(Refusal::NoRoomForText { .. })),
        "{refused:?}"
    );
    ledger.set_cap(Bytes(1));
    let refused = block_on(pipeline.generate(long())).map(drop);
    assert!(
        matches!(refused, Err(Refusal::MemoryCap { .. })),
        "{refused:?}"
    );
    assert_eq!(block_on(pipeline.status()).refused_memory, 2);
    assert_eq!(tokenizers(&pipeline), 0);
}

/// What a template makes of a chat decides whose thread tokenises it, not what the chat says.
#[test]
fn a_short_chat_that_its_template_makes_long_has_a_thread_of_its_own() {
    let pipeline = pipeline_of(model_that_chats(TEXT_INLINE_BYTES_MAX * 8));
    let chat = |messages| {
        let chat = vec![Message::user(""); messages];
        GenerateRequest::new(Prompt::Chat(chat.into()), 1)
    };
    let messages = TEXT_INLINE_BYTES_MAX / "user".len();
    block_on(pipeline.pause()).expect("it holds");
    let mut long = Box::pin(pipeline.generate(chat(messages)));
    assert!(poll_once(long.as_mut()).is_pending());
    assert_eq!(tokenizers(&pipeline), 1);
    assert!(poll_once(pin!(pipeline.generate(chat(1)))).is_ready());
    block_on(pipeline.resume()).expect("it holds");
    // It fits, and is a request like any other then.
    drop(block_on(long).expect("it fits"));
}

/// All of a conversation reaches the template, and what it may not say is refused by name.
#[test]
fn a_chat_is_rendered_as_its_conversation_says() {
    let pipeline = pipeline_of(model_that_chats(CONTEXT));
    let mut chat = Conversation::from(vec![Message::user("x"), Message::assistant("It is ")]);
    chat.ending = Ending::FinalMessage;
    let text = pipeline.render_chat(&chat).expect("it is rendered");
    let expected = "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\nIt is ";
    assert_eq!(text, expected);
    assert_eq!(pipeline.opens_reasoning(&chat), Ok(false));
    chat.arguments.insert("messages".into(), "none".into());
    let rendered = pipeline.render_chat(&chat).expect_err("it is told twice");
    let request = GenerateRequest::new(Prompt::Chat(chat), 1);
    let asked = block_on(pipeline.generate(request)).map(drop);
    for refusal in [rendered, asked.expect_err("it is told twice")] {
        let words = refusal.to_string();
        assert!(words.contains("`messages` cannot be among"), "{words}");
    }
}
