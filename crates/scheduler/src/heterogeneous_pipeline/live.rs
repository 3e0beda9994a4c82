//! What changes while a pipeline runs: by hand, by other settings, by what the machine tells.

use std::task::{Context, Poll, Waker};

use futures_executor::block_on;
use futures_util::StreamExt;
use gogrid_governor::{Battery, Observation, Policy, Presence, Profile, Reason, Verdict};
use gogrid_testkit::fakes::Faults;

use super::tests::{collect, free, pipeline_that_sees, request};
use super::*;
use crate::generation::{Event, Finish};
use crate::settings::{Mode, Settings};

fn flat_battery() -> Observation {
    Observation {
        battery: Some(Battery {
            discharging: true,
            charge: 0.2,
        }),
        ..Observation::default()
    }
}

/// What a generation has to tell at this moment.
fn told(generation: &mut Generation) -> Vec<Event> {
    let mut context = Context::from_waker(Waker::noop());
    let mut events = Vec::new();
    while let Poll::Ready(event) = generation.poll_next_unpin(&mut context) {
        let event = event.expect("it has no end");
        events.push(event.expect("it goes well"));
    }
    events
}

fn is_paused(event: &Event) -> bool {
    matches!(
        event,
        Event::Paused {
            reason: Reason::Paused,
            left: None
        }
    )
}

#[test]
fn a_pause_stops_what_runs_and_what_waits_and_loses_nothing() {
    let (pipeline, fake) = pipeline_that_sees(Observation::default(), free(), Faults::default());
    let ids = block_on(async {
        pipeline.pause().await.unwrap();
        assert_eq!(pipeline.ruling().verdict, Verdict::Shut(Reason::Paused));
        assert_eq!(pipeline.ruling().compute_share, 0.0);
        let mut generation = pipeline.generate(request(vec![1, 2], 8)).await.unwrap();
        let status = pipeline.status().await;
        assert_eq!((status.queued, status.running), (1, 0));
        // The second is told once the first was taken.
        let first = generation.next().await;
        assert_eq!(first, Some(Ok(Event::Queued { position: 0 })));
        let second = generation.next().await;
        assert!(
            matches!(&second, Some(Ok(event)) if is_paused(event)),
            "{second:?}"
        );
        assert_eq!(told(&mut generation), []);
        pipeline.resume().await.unwrap();
        collect(generation).await.expect("it ends").0
    });
    assert_eq!(ids, super::tests::greedy(&fake, &[1, 2], 8));
    assert_eq!(pipeline.ruling().verdict, Verdict::Open);
}

#[test]
fn a_machine_that_could_compute_nothing_while_nobody_is_there_is_not_opened() {
    let options = MachineOptions {
        away: Some(ResourceConfig {
            max_compute_usage_percent: 0.0,
            ..ResourceConfig::default()
        }),
        ..MachineOptions::default()
    };
    let error = Machine::open(&crate::machine::devices(), options).expect_err("it is refused");
    assert!(matches!(error, OpenError::NoCompute(_)), "{error}");
}

#[test]
fn a_snooze_ends_by_itself() {
    let (pipeline, _) = pipeline_that_sees(Observation::default(), free(), Faults::default());
    block_on(async {
        pipeline.snooze(Duration::from_secs(3600)).await.unwrap();
        let verdict = pipeline.ruling().verdict;
        assert!(
            matches!(verdict, Verdict::Shut(Reason::Snoozed { .. })),
            "{verdict:?}"
        );
        let generation = pipeline.generate(request(vec![1, 2], 4)).await.unwrap();
        // Another takes its place.
        let clock = pipeline.machine.hardware.clock;
        let began = clock.now();
        let time = Duration::from_millis(30);
        pipeline.snooze(time).await.unwrap();
        let (ids, reason, _) = collect(generation).await.expect("it ends");
        assert_eq!((ids.len(), reason), (4, Finish::Length));
        assert!(clock.now().since(began) >= time);
        assert_eq!(pipeline.ruling().verdict, Verdict::Open);
    });
}

#[test]
fn who_finishes_accepts_nothing_and_ends_what_was_accepted() {
    let (pipeline, _) = pipeline_that_sees(Observation::default(), free(), Faults::default());
    block_on(async {
        pipeline.pause().await.unwrap();
        let accepted = pipeline.generate(request(vec![1], 4)).await.unwrap();
        pipeline.finish().await.unwrap();
        let refused = pipeline.generate(request(vec![1], 4)).await;
        assert_eq!(refused.map(drop), Err(Refusal::Finishing));
        assert_eq!(collect(accepted).await.expect("it ends").0.len(), 4);
        pipeline.resume().await.unwrap();
        let again = pipeline.generate(request(vec![1], 4)).await.unwrap();
        assert_eq!(collect(again).await.expect("it ends").0.len(), 4);
    });
}

#[test]
fn a_snooze_does_not_undo_a_finish() {
    let (pipeline, _) = pipeline_that_sees(Observation::default(), free(), Faults::default());
    block_on(async {
        pipeline.finish().await.unwrap();
        pipeline.snooze(Duration::from_secs(3600)).await.unwrap();
        let refused = pipeline.generate(request(vec![1], 4)).await;
        assert_eq!(refused.map(drop), Err(Refusal::Finishing));
        assert!(!pipeline.ruling().admits);
        pipeline.resume().await.unwrap();
        let generation = pipeline.generate(request(vec![1], 4)).await.unwrap();
        assert_eq!(collect(generation).await.expect("it ends").0.len(), 4);
    });
}

/// Others have taken nearly all of the memory.
fn full_memory() -> Observation {
    Observation {
        memory_available: Some(0.01),
        ..Observation::default()
    }
}

#[test]
fn the_owners_request_runs_on_a_machine_that_is_needed_and_a_guests_waits() {
    let options = Options {
        policy: Policy::desktop(),
        ..free()
    };
    let (pipeline, fake) = pipeline_that_sees(full_memory(), options, Faults::default());
    let expected = super::tests::greedy(&fake, &[1, 2], 8);
    block_on(async {
        let mut guest = pipeline.generate(request(vec![1, 2], 8)).await.unwrap();
        assert_eq!(pipeline.status().await.queued, 1);
        let owners = GenerateRequest {
            whose: Whose::Owner,
            ..request(vec![1, 2], 8)
        };
        // All that it wants, though a guest came before.
        let owners = pipeline.generate(owners).await.unwrap();
        let (ids, _, figures) = collect(owners).await.expect("it ends");
        assert_eq!((ids, figures.paused_s), (expected.clone(), 0.0));
        let scored = pipeline.score(vec![1, 2, 3], Whose::Owner).await;
        assert_eq!(scored.expect("it ends").len(), 2);
        let queued = guest.next().await;
        assert_eq!(queued, Some(Ok(Event::Queued { position: 0 })));
        let paused = guest.next().await;
        let is_it = |reason: &Reason| matches!(reason, Reason::MemoryAvailable { .. });
        assert!(
            matches!(&paused, Some(Ok(Event::Paused { reason, .. })) if is_it(reason)),
            "{paused:?}"
        );
        let ruling = pipeline.ruling();
        assert!(matches!(ruling.verdict, Verdict::Shut(_)), "{ruling:?}");
        assert_eq!(ruling.owner_more(), Some(0.1));
        let mut settings = pipeline.settings();
        settings.policy = Policy::server();
        pipeline.set_settings(settings).await.unwrap();
        assert_eq!(collect(guest).await.expect("it ends").0, expected);
    });
}

#[test]
fn a_hand_stops_the_owners_request_too() {
    let (pipeline, fake) = pipeline_that_sees(Observation::default(), free(), Faults::default());
    block_on(async {
        pipeline.pause().await.unwrap();
        let owners = GenerateRequest {
            whose: Whose::Owner,
            ..request(vec![1, 2], 8)
        };
        let generation = pipeline.generate(owners).await.unwrap();
        assert_eq!(pipeline.status().await.queued, 1);
        pipeline.resume().await.unwrap();
        let ids = collect(generation).await.expect("it ends").0;
        assert_eq!(ids, super::tests::greedy(&fake, &[1, 2], 8));
    });
}

#[test]
fn a_policy_that_says_stop_is_obeyed_from_the_first_request_on_and_another_at_once() {
    let options = Options {
        policy: Policy::desktop(),
        ..free()
    };
    let (pipeline, _) = pipeline_that_sees(flat_battery(), options, Faults::default());
    let verdict = pipeline.ruling().verdict;
    assert!(matches!(verdict, Verdict::Shut(_)), "{verdict:?}");
    block_on(async {
        let generation = pipeline.generate(request(vec![1], 4)).await.unwrap();
        assert_eq!(pipeline.status().await.queued, 1);
        let mut settings = pipeline.settings();
        settings.policy.battery.share_max = 1.0;
        settings.policy.battery.charge_min = 0.0;
        settings.policy.battery.resume_charge = 0.0;
        pipeline.set_settings(settings).await.unwrap();
        assert_eq!(pipeline.ruling().verdict, Verdict::Open);
        assert_eq!(collect(generation).await.expect("it ends").0.len(), 4);
    });
}

#[test]
fn nobody_there_means_the_limits_for_that() {
    let gone = Observation {
        presence: Some(Presence {
            idle: Duration::from_secs(24 * 3600),
            locked: false,
            full_screen: false,
        }),
        ..Observation::default()
    };
    let Settings {
        limits,
        away,
        policy,
    } = Settings::of(Mode::Conservative);
    let options = Options {
        limits: limits.clone(),
        away: Some(away.clone()),
        policy,
        ..free()
    };
    let (pipeline, _) = pipeline_that_sees(gone, options.clone(), Faults::default());
    let status = block_on(pipeline.status());
    assert_eq!(status.ruling.profile, Profile::Away);
    assert_eq!(status.limits, away);
    let cap = status.devices[0].memory_cap_bytes as f64;
    let total = status.devices[0].memory_total_bytes as f64;
    assert!((cap / total - away.max_vram_usage_percent).abs() < 1e-6);
    // Nobody can tell: somebody may be there.
    let (pipeline, _) = pipeline_that_sees(Observation::default(), options, Faults::default());
    let status = block_on(pipeline.status());
    assert_eq!(
        (status.ruling.profile, status.limits),
        (Profile::Present, limits)
    );
}

#[test]
fn settings_that_make_no_sense_leave_the_old_ones() {
    let (pipeline, _) = pipeline_that_sees(Observation::default(), free(), Faults::default());
    let before = pipeline.settings();
    let mut settings = before.clone();
    settings.away.max_batch_size = 0;
    let error = block_on(pipeline.set_settings(settings)).expect_err("no step has none");
    assert!(error.to_string().contains("away.max_batch_size"), "{error}");
    assert_eq!(pipeline.settings(), before);
}

#[test]
fn callers_who_change_their_minds_at_once_leave_one_answer() {
    let (pipeline, _) = pipeline_that_sees(Observation::default(), free(), Faults::default());
    std::thread::scope(|scope| {
        for caller in 0..8 {
            let pipeline = &pipeline;
            scope.spawn(move || {
                for turn in 0..40 {
                    block_on(async {
                        match (caller + turn) % 4 {
                            0 => pipeline.pause().await.unwrap(),
                            1 => pipeline.finish().await.unwrap(),
                            2 => pipeline
                                .set_limits(pipeline.settings().limits)
                                .await
                                .unwrap(),
                            _ => pipeline.resume().await.unwrap(),
                        }
                    });
                }
            });
        }
    });
    block_on(async {
        pipeline.resume().await.unwrap();
        let generation = pipeline.generate(request(vec![1], 4)).await.unwrap();
        assert_eq!(collect(generation).await.expect("it ends").0.len(), 4);
    });
}
