//! What a server asks for beside tokens: how requests stand, deadlines, constraints, log-probabilities.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_governor::{Observation, Reason};
use gogrid_testkit::fakes::{FakeModel, Faults};

use super::tests::{collect, free, greedy, next_given, pipeline_that_sees, request};
use super::*;
use crate::constraint::{Allowed, Constraint, Grammar, Matcher};
use crate::error::GenerateError;
use crate::generation::TokenLogProb;
use crate::request::{Continuation, LogProbs, Priority};
use gogrid_model::Pooling;

fn pipeline() -> (HeterogeneousPipeline, FakeModel) {
    pipeline_that_sees(Observation::default(), free(), Faults::default())
}

/// All events up to the end, and the end.
async fn events(mut generation: Generation) -> Vec<Result<Event, GenerateError>> {
    let mut all = Vec::new();
    while let Some(event) = generation.next().await {
        all.push(event);
    }
    all
}

/// Allows the tokens that a test says, as long as it says so.
#[derive(Default)]
struct Script {
    /// The text ends after so many tokens.
    length: usize,
    /// It panics after so many.
    panics_after: Option<usize>,
    /// Each answer waits for a word from here.
    paced_by: Option<std::sync::Mutex<Receiver<()>>>,
    /// Matchers that are not dropped.
    living: Arc<AtomicUsize>,
}

struct Follows {
    script: Arc<Script>,
    taken: usize,
}

struct Scripted(Arc<Script>);

impl Grammar for Scripted {
    fn begin(&self) -> Box<dyn Matcher> {
        self.0.living.fetch_add(1, Ordering::SeqCst);
        let script = Arc::clone(&self.0);
        Box::new(Follows { script, taken: 0 })
    }
}

impl Drop for Follows {
    fn drop(&mut self) {
        self.script.living.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Matcher for Follows {
    fn next(&mut self, token: Option<u32>) -> Result<Allowed, String> {
        self.taken += usize::from(token.is_some());
        if let Some(words) = &self.script.paced_by {
            // A test that is over says no more.
            let _ = words.lock().expect("nobody panics with it").recv();
        }
        assert!(
            self.script.panics_after != Some(self.taken),
            "as a test asked"
        );
        Ok(match self.taken < self.script.length {
            true => Allowed::Tokens([30 + self.taken as u32 % 9, 40].into_iter().collect()),
            false => Allowed::Nothing,
        })
    }
}

fn constrained(script: Script, ids: Vec<u32>) -> (GenerateRequest, Arc<AtomicUsize>) {
    let living = Arc::clone(&script.living);
    let constraint = Constraint::new(Arc::new(Scripted(Arc::new(script))));
    let request = GenerateRequest {
        constraint: Some(constraint),
        ..request(ids, 50)
    };
    (request, living)
}

/// The greedy tokens among those that the script allows.
fn expected(fake: &FakeModel, prompt: &[u32], length: usize) -> Vec<u32> {
    let mut ids = prompt.to_vec();
    for taken in 0..length {
        let logits = fake.logits(&ids);
        let (one, other) = (30 + taken as u32 % 9, 40);
        let is_other = logits[other as usize] > logits[one as usize];
        ids.push(if is_other { other } else { one });
    }
    ids.split_off(prompt.len())
}

fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::yield_now();
    }
}

#[test]
fn a_generation_starts_once_before_its_tokens_and_tells_the_figures() {
    let (pipeline, fake) = pipeline();
    let generation = block_on(pipeline.generate(request(vec![1, 2], 3))).expect("admitted");
    let all = block_on(events(generation));
    let mut all = all.into_iter().map(|event| event.expect("it goes well"));
    let all: Vec<Event> = all
        .by_ref()
        .filter(|e| !matches!(e, Event::Queued { .. }))
        .collect();
    assert_eq!(all[0], Event::Started { cached_tokens: 0 });
    let ids = all[1..4].iter().map(|event| match event {
        Event::Delta { ids, log_probs, .. } => (ids[0], log_probs.len()),
        other => panic!("{other:?}"),
    });
    let expected: Vec<_> = greedy(&fake, &[1, 2], 3)
        .into_iter()
        .map(|id| (id, 0))
        .collect();
    assert_eq!(ids.collect::<Vec<_>>(), expected);
    assert!(
        matches!(all[4], Event::Finished { .. }) && all.len() == 5,
        "{all:?}"
    );
}

#[test]
fn a_pause_is_told_to_what_runs_with_its_reason_and_its_end_and_is_counted() {
    let (pipeline, _) = pipeline();
    block_on(async {
        let (script, say) = paced(3);
        let (request, _) = constrained(script, vec![1, 2]);
        let mut generation = pipeline.generate(request).await.unwrap();
        say.send(()).expect("it listens");
        let first = next_given(&mut generation).await;
        assert!(matches!(first, Some(Ok(Event::Delta { .. }))), "{first:?}");
        let hour = Duration::from_secs(3600);
        pipeline.snooze(hour).await.unwrap();
        // The stop by hand may be told before how long it lasts.
        loop {
            match generation.next().await.expect("it goes on") {
                Ok(Event::Paused {
                    reason: Reason::Snoozed { .. },
                    left,
                }) => break assert!(left.is_some_and(|left| left <= hour), "{left:?}"),
                Ok(Event::Paused { reason, left }) => {
                    assert_eq!((reason, left), (Reason::Paused, None));
                }
                other => panic!("{other:?}"),
            }
        }
        let paused_from = pipeline.now();
        let spent = |time| pipeline.now().since(paused_from) >= time;
        wait_until(|| spent(Duration::from_millis(30)));
        pipeline.resume().await.unwrap();
        assert_eq!(generation.next().await, Some(Ok(Event::Resumed)));
        for _ in 0..3 {
            say.send(()).expect("it listens");
        }
        let figures = collect(generation).await.expect("it goes well").2;
        let Figures {
            prefill_s,
            decode_s,
            paused_s,
            ..
        } = figures;
        assert!(
            paused_s >= 0.03 && paused_s <= prefill_s + decode_s,
            "{figures:?}"
        );
        assert_eq!(figures.generated_tokens, 3);
    });
}

#[test]
fn a_caller_that_does_not_listen_has_one_word_of_how_it_stands() {
    let (pipeline, _) = pipeline();
    block_on(async {
        pipeline.pause().await.unwrap();
        let mut ahead = Vec::new();
        for _ in 0..20 {
            ahead.push(pipeline.generate(request(vec![1], 1)).await.unwrap());
        }
        let last = pipeline.generate(request(vec![2], 1)).await.unwrap();
        // The engine has heard of all.
        assert_eq!(pipeline.status().await.queued, 21);
        // Its place changes with each of these.
        while let Some(gone) = ahead.pop() {
            drop(gone);
            let queued = ahead.len() + 1;
            while pipeline.status().await.queued > queued {}
        }
        pipeline.resume().await.unwrap();
        let all = events(last).await;
        let is_state = |event: &&Result<Event, _>| {
            let event = event.as_ref().expect("it goes well");
            matches!(
                event,
                Event::Queued { .. } | Event::Paused { .. } | Event::Resumed
            )
        };
        let states: Vec<_> = all.iter().filter(is_state).collect();
        assert!(states.len() <= 2, "{states:?}");
        assert_eq!(all[0], Ok(Event::Queued { position: 20 }));
    });
}

#[test]
fn a_deadline_passes_in_a_pause_with_its_reason_and_the_time_left() {
    let (pipeline, _) = pipeline();
    block_on(async {
        pipeline.snooze(Duration::from_secs(3600)).await.unwrap();
        let deadline = Duration::from_millis(20);
        let hurried = GenerateRequest {
            deadline: Some(deadline),
            ..request(vec![1, 2], 5)
        };
        let patient = pipeline.generate(request(vec![1, 2], 5)).await.unwrap();
        let generation = pipeline.generate(hurried).await.unwrap();
        let outcome = collect(generation).await;
        let Err(GenerateError::Refused(Refusal::Deadline {
            deadline: given,
            why,
            retry_after,
        })) = outcome
        else {
            panic!("{outcome:?}")
        };
        assert_eq!(given, deadline);
        assert!(matches!(why, Some(Reason::Snoozed { .. })), "{why:?}");
        assert!(retry_after > Duration::from_secs(3500), "{retry_after:?}");
        pipeline.resume().await.unwrap();
        collect(patient).await.expect("it has no deadline");
    });
}

#[test]
fn of_those_that_wait_the_higher_class_starts_first() {
    let mut options = free();
    options.limits.max_batch_size = 1;
    let (pipeline, _) = pipeline_that_sees(Observation::default(), options, Faults::default());
    let of = |priority| GenerateRequest {
        priority,
        ..request(vec![1], 1)
    };
    block_on(async {
        pipeline.pause().await.unwrap();
        let low = pipeline.generate(of(Priority::Low)).await.unwrap();
        let normal = pipeline.generate(of(Priority::Normal)).await.unwrap();
        let high = pipeline.generate(of(Priority::High)).await.unwrap();
        pipeline.resume().await.unwrap();
        let mut queues = Vec::new();
        for generation in [low, normal, high] {
            queues.push(collect(generation).await.expect("it ends").2.queue_s);
        }
        assert!(queues[2] < queues[1] && queues[1] < queues[0], "{queues:?}");
    });
}

#[test]
fn constrained_tokens_are_the_likeliest_of_those_allowed_beside_others() {
    let (pipeline, fake) = pipeline();
    block_on(async {
        let mut all = Vec::new();
        for first in 1..5 {
            let script = Script {
                length: 9,
                ..Script::default()
            };
            let (constrained, _) = constrained(script, vec![first; 40]);
            all.push((first, pipeline.generate(constrained).await.unwrap()));
        }
        let free = pipeline.generate(request(vec![9; 70], 20)).await.unwrap();
        for (first, generation) in all {
            let (ids, reason, _) = collect(generation).await.expect("it goes well");
            assert_eq!(ids, expected(&fake, &[first; 40], 9));
            assert_eq!(reason, Finish::Stop);
        }
        let (ids, ..) = collect(free).await.expect("it goes well");
        assert_eq!(ids, greedy(&fake, &[9; 70], 20));
    });
}

#[test]
fn a_matcher_that_panics_ends_its_own_request_and_no_other() {
    let (pipeline, fake) = pipeline();
    block_on(async {
        let script = Script {
            length: 9,
            panics_after: Some(3),
            ..Script::default()
        };
        let (bad, living) = constrained(script, vec![1, 2]);
        let other = pipeline.generate(request(vec![3; 9], 30)).await.unwrap();
        let outcome = collect(pipeline.generate(bad).await.unwrap()).await;
        let panicked = GenerateError::Constraint("it panicked: as a test asked".to_owned());
        assert_eq!(outcome, Err(panicked));
        assert_eq!(
            collect(other).await.expect("it goes well").0,
            greedy(&fake, &[3; 9], 30)
        );
        wait_until(|| living.load(Ordering::SeqCst) == 0);
        let status = pipeline.status().await;
        assert_eq!((status.degraded, status.failures.len()), (None, 0));
    });
}

/// A matcher that answers when a test says so.
fn paced(length: usize) -> (Script, SyncSender<()>) {
    let (say, words) = sync_channel(100);
    let script = Script {
        length,
        paced_by: Some(std::sync::Mutex::new(words)),
        ..Script::default()
    };
    (script, say)
}

#[test]
fn a_slow_matcher_delays_its_own_request_and_no_other_and_changes_no_token() {
    let (pipeline, fake) = pipeline();
    block_on(async {
        let (script, say) = paced(6);
        let (slow, _) = constrained(script, vec![1, 2]);
        let mut slow = pipeline.generate(slow).await.unwrap();
        let free = pipeline.generate(request(vec![3; 9], 30)).await.unwrap();
        assert_eq!(
            collect(free).await.expect("it goes well").0,
            greedy(&fake, &[3; 9], 30)
        );
        assert_eq!(pipeline.status().await.running, 1);
        let mut ids = Vec::new();
        // The last word is that nothing may follow.
        for _ in 0..6 {
            say.send(()).expect("it listens");
            match next_given(&mut slow).await {
                Some(Ok(Event::Delta { ids: new, .. })) => ids.extend(new),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(ids, expected(&fake, &[1, 2], 6));
        say.send(()).expect("it listens");
        let end = next_given(&mut slow).await;
        assert!(
            matches!(
                end,
                Some(Ok(Event::Finished {
                    reason: Finish::Stop,
                    ..
                }))
            ),
            "{end:?}"
        );
    });
}

#[test]
fn a_matcher_goes_with_its_request_wherever_it_is() {
    let (pipeline, fake) = pipeline();
    block_on(async {
        // At work, with others waiting for the threads.
        let mut said = Vec::new();
        let mut counts = Vec::new();
        let mut generations = Vec::new();
        for _ in 0..4 {
            let (script, say) = paced(6);
            let (slow, living) = constrained(script, vec![1, 2]);
            generations.push(pipeline.generate(slow).await.unwrap());
            said.push(say);
            counts.push(living);
        }
        wait_until(|| {
            counts
                .iter()
                .any(|living| living.load(Ordering::SeqCst) > 0)
        });
        drop(generations);
        drop(said);
        wait_until(|| {
            counts
                .iter()
                .all(|living| living.load(Ordering::SeqCst) == 0)
        });
        // In the queue, before it has begun.
        pipeline.pause().await.unwrap();
        let (waits, living) = constrained(Script::default(), vec![1]);
        drop(pipeline.generate(waits).await.unwrap());
        pipeline.resume().await.unwrap();
        let (ids, ..) = collect(pipeline.generate(request(vec![3], 4)).await.unwrap())
            .await
            .expect("it goes well");
        assert_eq!(ids, greedy(&fake, &[3], 4));
        assert_eq!(living.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn dropping_the_pipeline_waits_for_no_matcher_that_waits_for_its_turn() {
    let (pipeline, _) = pipeline();
    let script = Script {
        length: 1000,
        ..Script::default()
    };
    let (constrained, living) = constrained(script, vec![1, 2]);
    let generation = block_on(async {
        let mut generation = pipeline.generate(constrained).await.unwrap();
        next_given(&mut generation)
            .await
            .expect("a token")
            .expect("it goes well");
        pipeline.pause().await.unwrap();
        generation
    });
    drop(pipeline);
    assert_eq!(living.load(Ordering::SeqCst), 0);
    drop(generation);
}

#[test]
fn matchers_go_on_where_a_fresh_thread_takes_over() {
    let (pipeline, fake) = pipeline();
    block_on(async {
        let mut all = Vec::new();
        // More tokens than all threads take in before others take over.
        for first in 1..5 {
            let script = Script {
                length: 200,
                ..Script::default()
            };
            let (long, _) = constrained(script, vec![first; 2]);
            let long = GenerateRequest {
                max_tokens: 250,
                ..long
            };
            all.push((first, pipeline.generate(long).await.unwrap()));
        }
        for (first, generation) in all {
            let (ids, reason, _) = collect(generation).await.expect("it goes well");
            assert_eq!((ids.len(), reason), (200, Finish::Stop));
            assert_eq!(ids, expected(&fake, &[first; 2], 200));
        }
    });
}

#[test]
fn log_probabilities_come_with_the_prompts_before_the_first_token() {
    let (pipeline, fake) = pipeline();
    let prompt: Vec<u32> = (0..50).collect();
    let wanted = GenerateRequest {
        log_probs: Some(LogProbs {
            top: 2,
            prompt: true,
        }),
        ..request(prompt.clone(), 3)
    };
    block_on(async {
        let mut generation = pipeline.generate(wanted).await.unwrap();
        let Some(Ok(Event::Prompt { log_probs })) = next_given(&mut generation).await else {
            panic!("the prompt comes first")
        };
        assert_eq!((log_probs.len(), &log_probs[0]), (50, &None));
        for (row, told) in log_probs.iter().enumerate().skip(1) {
            check_told(&fake, &prompt[..row], (told.as_ref(), prompt[row]));
        }
        let mut ids = prompt.clone();
        while let Some(Ok(Event::Delta {
            ids: new,
            log_probs,
            ..
        })) = next_given(&mut generation).await
        {
            check_told(&fake, &ids, (log_probs.first(), new[0]));
            ids.extend(new);
        }
        assert_eq!(ids[50..], greedy(&fake, &prompt, 3));
    });
}

fn check_told(fake: &FakeModel, before: &[u32], (told, id): (Option<&TokenLogProb>, u32)) {
    let told = told.expect("it was asked for");
    let logits = fake.logits(before);
    let total: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
    let expected = f64::from(logits[id as usize]) - total.ln();
    assert!(
        (f64::from(told.log_prob) - expected).abs() < 1e-4,
        "{told:?} {expected}"
    );
    assert_eq!((told.id, told.top.len()), (id, 2));
    assert_eq!(told.top[0].0, fake.next(before));
    assert!(told.top[0].1 >= told.top[1].1);
}

#[test]
fn an_embedding_is_the_mean_of_the_rows_or_the_last_after_the_final_norm() {
    let (pipeline, _) = pipeline();
    let ids: Vec<u32> = (0..200).map(|id| id % 50).collect();
    let embed = |ids: &[u32], pooling| {
        let vector = block_on(pipeline.embed(ids.to_vec(), pooling, Whose::Guest));
        vector.expect("it goes well")
    };
    let decoder = pipeline.model().decoder();
    let mut sum = vec![0.0; decoder.width];
    for end in 1..=ids.len() {
        // A row knows only those before it.
        let last = embed(&ids[..end], Pooling::Last);
        let unweighted = last.iter().zip(&decoder.head.norm.values);
        let squares: f32 = unweighted.map(|(x, weight)| (x / weight).powi(2)).sum();
        assert!(
            (squares / decoder.width as f32 - 1.0).abs() < 1e-3,
            "{squares}"
        );
        sum.iter_mut().zip(last).for_each(|(sum, x)| *sum += x);
    }
    let mean = embed(&ids, Pooling::Mean);
    for (sum, mean) in sum.iter().zip(mean) {
        assert!((sum / 200.0 - mean).abs() < 1e-3, "{sum} {mean}");
    }
    let none = block_on(pipeline.embed(Vec::new(), Pooling::Mean, Whose::Guest))
        .expect_err("there is nothing");
    assert_eq!(none.to_string(), "ids: no tokens");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let (pipeline, _) = pipeline();
    let check = |change: &dyn Fn(&mut GenerateRequest), expected: &str| {
        let mut request = request(vec![1; 40], 3);
        change(&mut request);
        let refusal = block_on(pipeline.generate(request)).expect_err(expected);
        assert!(refusal.to_string().starts_with(expected), "{refusal}");
    };
    let bias = |id: u32, value: f32| {
        move |request: &mut GenerateRequest| request.sampling.logit_bias = [(id, value)].into()
    };
    check(&bias(1, 100.5), "logit_bias: 100.5 for token 1; must be in");
    check(&bias(1, f32::NAN), "logit_bias: NaN for token 1");
    check(
        &bias(u32::MAX, 1.0),
        "logit_bias: token 4294967295; the model has",
    );
    let many = |request: &mut GenerateRequest| {
        request.sampling.logit_bias = (0..1025).map(|id| (id, 0.0)).collect();
    };
    check(&many, "logit_bias: 1025 tokens; at most 1024");
    let top = |request: &mut GenerateRequest| {
        request.log_probs = Some(LogProbs {
            top: 21,
            prompt: false,
        });
    };
    check(&top, "log_probs: 21 of the likeliest; at most 20");
    let forced = |request: &mut GenerateRequest| {
        let (constrained, _) = constrained(Script::default(), vec![1]);
        request.constraint = constrained.constraint;
        request.continuation = Continuation::Forced(vec![1]);
    };
    check(&forced, "constraint: tokens that are given");
}
