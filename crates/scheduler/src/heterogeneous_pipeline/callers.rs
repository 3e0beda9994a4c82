//! Callers whose own code panics: their request ends, and nobody else's.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Wake, Waker};

use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_lease::Kind;
use gogrid_testkit::fakes::Faults;

use super::tests::{collect, fake_cpu, free, greedy, model, next_given, request};
use super::*;
use crate::error::GenerateError;
use crate::fixture::TestMachine;

/// What a waker does that its maker did not mean.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Panics {
    WhenWoken,
    WhenDropped,
}

struct Bad(Panics);

impl Wake for Bad {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        assert!(self.0 != Panics::WhenWoken, "woken, as a test asked");
    }
}

impl Drop for Bad {
    fn drop(&mut self) {
        let may = self.0 == Panics::WhenDropped && !std::thread::panicking();
        assert!(!may, "dropped, as a test asked");
    }
}

/// When it is woken or dropped by a thread of ours.
#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    BeforeItsStart,
    WhileTokensCome,
    AtItsEnd,
    AtItsDrop,
    AtCancelAll,
}

const WHENS: [When; 5] = [
    When::BeforeItsStart,
    When::WhileTokensCome,
    When::AtItsEnd,
    When::AtItsDrop,
    When::AtCancelAll,
];

/// Polls with a waker of which only what is polled keeps a clone.
fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>, panics: Panics) -> Poll<F::Output> {
    let waker = Waker::from(Arc::new(Bad(panics)));
    let polled = future.poll(&mut Context::from_waker(&waker));
    // What nobody keeps is this test's own to drop.
    let _ = gogrid_units::contain(|| drop(waker));
    polled
}

fn pipeline() -> (HeterogeneousPipeline, gogrid_testkit::fakes::FakeModel) {
    let model = model();
    let devices = vec![fake_cpu(0, Faults::default())];
    let fake = gogrid_testkit::fakes::FakeModel::of(model.decoder());
    let machine = TestMachine::of(devices).open(&free());
    let pipeline = HeterogeneousPipeline::under(&machine, model, &free());
    (pipeline.expect("it opens"), fake)
}

/// A request with such a waker, which has it woken or dropped.
fn misbehave(pipeline: &HeterogeneousPipeline, panics: Panics, when: When) -> Option<Generation> {
    block_on(pipeline.pause()).expect("it holds");
    let tokens = if when == When::AtItsEnd { 1 } else { 300 };
    let mut bad = block_on(pipeline.generate(request(vec![7; 5], tokens))).expect("admitted");
    if when == When::WhileTokensCome {
        block_on(pipeline.resume()).expect("it holds");
        block_on(next_given(&mut bad))
            .expect("a token")
            .expect("it goes well");
        block_on(pipeline.pause()).expect("it holds");
    }
    // Until there is nothing to tell, and the waker is kept. One that is woken by the word that it stands
    // still has ended its request already.
    loop {
        match poll_once(pin!(bad.next()), panics) {
            Poll::Pending => break,
            Poll::Ready(Some(Ok(_))) => {}
            Poll::Ready(_) => {
                block_on(pipeline.resume()).expect("it holds");
                return None;
            }
        }
    }
    match when {
        When::AtItsDrop => {
            drop(bad);
            block_on(pipeline.resume()).expect("it holds");
            return None;
        }
        When::AtCancelAll => block_on(pipeline.cancel_all()),
        _ => {}
    }
    block_on(pipeline.resume()).expect("it holds");
    Some(bad)
}

/// That others are served as ever, and nothing is held any more.
fn check_sound(pipeline: &HeterogeneousPipeline, expected: &[u32], what: &str) {
    let (ids, ..) = block_on(async {
        let good = pipeline.generate(request(vec![3; 9], 12)).await;
        collect(good.expect("admitted"))
            .await
            .expect("it goes well")
    });
    assert_eq!(ids, expected, "{what}");
    let set = block_on(pipeline.set_limits(free().limits));
    assert_eq!(set, Ok(()), "{what}");
    while block_on(pipeline.status()).running > 0 {}
    let machine = pipeline.machine();
    assert_eq!(machine.hardware.health.failures(), [], "{what}");
    let held = machine.hardware.memories[0].ledger.used_by(Kind::Kv);
    assert_eq!(held, Bytes::ZERO, "{what}");
}

#[test]
fn a_waker_that_panics_ends_its_own_request_and_no_other() {
    for panics in [Panics::WhenWoken, Panics::WhenDropped] {
        for when in WHENS {
            let what = format!("{panics:?}, {when:?}");
            let (pipeline, fake) = pipeline();
            let other = block_on(pipeline.generate(request(vec![1, 2], 40))).expect("admitted");
            let bad = misbehave(&pipeline, panics, when);
            if when != When::AtCancelAll {
                let (ids, ..) = block_on(collect(other)).expect("it goes on");
                assert_eq!(ids, greedy(&fake, &[1, 2], 40), "{what}");
            }
            check_sound(&pipeline, &greedy(&fake, &[3; 9], 12), &what);
            let Some(mut bad) = bad else { continue };
            let told = block_on(bad.next()).expect("it says how it ended");
            let is_named =
                matches!(&told, Err(GenerateError::Waker(why)) if why.ends_with("as a test asked"));
            // A waker that is dropped with the generation has told nobody before.
            let is_event = panics == Panics::WhenDropped && told.is_ok();
            assert!(is_named || is_event, "{what}: {told:?}");
        }
    }
}

/// Everything else that a caller waits for.
#[test]
fn a_waker_that_panics_where_an_answer_is_waited_for_ends_nothing_else() {
    for panics in [Panics::WhenWoken, Panics::WhenDropped] {
        let what = format!("{panics:?}");
        let (pipeline, fake) = pipeline();
        let whole = pipeline.stages();
        let mut waits: Vec<Pin<Box<dyn Future<Output = ()> + '_>>> = vec![
            Box::pin(async { drop(pipeline.status().await) }),
            Box::pin(async { drop(pipeline.set_limits(free().limits).await) }),
            Box::pin(async { drop(pipeline.set_settings(pipeline.settings()).await) }),
            Box::pin(async { drop(pipeline.resume().await) }),
            Box::pin(pipeline.throttle_if_needed()),
            Box::pin(pipeline.cancel_all()),
            Box::pin(async { drop(pipeline.score(vec![1; 200], Whose::Guest).await) }),
            Box::pin(async { drop(pipeline.move_to(whole.clone()).await) }),
            Box::pin(async { _ = pipeline.get_resource_stats().await }),
        ];
        waits.retain_mut(|wait| poll_once(wait.as_mut(), panics).is_pending());
        check_sound(&pipeline, &greedy(&fake, &[3; 9], 12), &what);
        // Each ends when it is asked again, with what it got or why it got nothing.
        waits.into_iter().for_each(block_on);
        check_sound(&pipeline, &greedy(&fake, &[3; 9], 12), &what);
    }
}
