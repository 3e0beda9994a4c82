//! Many callers at once, and callers that go away.

use std::pin::Pin;
use std::task::{Context, Waker};
use std::thread;

use futures_executor::block_on;
use futures_util::future::join_all;
use gogrid_testkit::fakes::Faults;

use super::tests::{fake_cpu, model};
use super::*;
use crate::fixture::TestMachine;
use crate::limits::TELLS_MAX;

const CROWD: usize = 300;

fn pipeline(min_request_interval_ms: u64) -> HeterogeneousPipeline {
    let options = Options {
        limits: every(min_request_interval_ms),
        ..Options::default()
    };
    let machine = TestMachine::of(vec![fake_cpu(0, Faults::default())]).open(&options);
    HeterogeneousPipeline::under(&machine, model(), &options).expect("it opens")
}

fn every(min_request_interval_ms: u64) -> ResourceConfig {
    ResourceConfig {
        min_request_interval_ms,
        ..ResourceConfig::default()
    }
}

#[test]
fn callers_who_stop_waiting_take_no_start() {
    let pipeline = pipeline(3_600_000);
    block_on(async {
        pipeline.throttle_if_needed().await;
        let mut context = Context::from_waker(Waker::noop());
        let mut crowd: Vec<Pin<Box<_>>> = (0..CROWD)
            .map(|_| Box::pin(pipeline.throttle_if_needed()))
            .collect();
        for caller in &mut crowd {
            assert!(caller.as_mut().poll(&mut context).is_pending());
        }
        // The engine has heard all that found a place.
        assert_eq!(pipeline.status().await.stats.total_requests, 1);
        drop(crowd);
        pipeline.set_limits(every(0)).await.expect("they are valid");
        pipeline.throttle_if_needed().await;
        assert_eq!(pipeline.get_resource_stats().await.total_requests, 2);
    });
}

#[test]
fn a_crowd_larger_than_the_places_is_served() {
    const { assert!(CROWD > ASKS_MAX && CROWD > TELLS_MAX) };
    let pipeline = pipeline(0);
    block_on(async {
        join_all((0..CROWD).map(|_| pipeline.throttle_if_needed())).await;
        let all = join_all((0..CROWD).map(|_| pipeline.get_resource_stats())).await;
        assert!(all.iter().all(|stats| stats.total_requests == CROWD as u64));
    });
}

#[test]
fn limits_set_from_two_sides_at_once_are_one_sides() {
    let pipeline = pipeline(0);
    let set = |share: f64| {
        let limits = ResourceConfig {
            max_vram_usage_percent: share,
            ..every(0)
        };
        for _ in 0..200 {
            block_on(pipeline.set_limits(limits.clone())).expect("they are valid");
        }
    };
    for _ in 0..5 {
        thread::scope(|scope| {
            scope.spawn(|| set(0.25));
            scope.spawn(|| set(0.75));
        });
        let limits = block_on(pipeline.status()).limits;
        let hardware = &pipeline.machine.hardware;
        let total = hardware.memories[0].total;
        let cap = total.share(limits.max_vram_usage_percent);
        assert_eq!(hardware.memories[0].ledger.cap(), cap);
        assert_eq!(hardware.threads.asked(), limits);
    }
}
