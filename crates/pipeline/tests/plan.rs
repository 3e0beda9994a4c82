//! The planner against every possible placement, and its refusals.

use gogrid_pipeline::{
    BoundBy, Costs, Limit, Objective, PieceBytes, PlacedSpan, PlanDevice, PlanError, PlanRequest,
    Workload, plan, plan_by_hand, what_limits_cost,
};
use gogrid_units::{Bytes, Span};

/// Whole numbers, so that the brute force needs no care about rounding (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

fn random_request(numbers: &mut Numbers, devices: usize, objective: Objective) -> PlanRequest {
    let pieces = 2 + 2 * numbers.below(4) as usize;
    let weights: Vec<u64> = (0..pieces).map(|_| 1 + numbers.below(20)).collect();
    let kv: Vec<u64> = (0..pieces).map(|_| numbers.below(6)).collect();
    let scratch: Vec<u64> = (0..pieces).map(|_| numbers.below(4)).collect();
    let total = weights.iter().chain(&kv).sum::<u64>();
    let tied = numbers.pick(&[0, weights[0].min(weights[pieces - 1])]);
    let pieces = (0..pieces).map(|i| PieceBytes {
        weights: Bytes(weights[i]),
        kv: Bytes(kv[i]),
        scratch: Bytes(scratch[i]),
    });
    let pieces: Vec<_> = pieces.collect();
    // All alike, all different, or differing from piece to piece.
    let style = numbers.below(3);
    let devices = (0..devices).map(|_| {
        let speed = if style == 0 { 1 } else { 1 + numbers.below(6) };
        let mut seconds = || -> Vec<f64> {
            let jitter = |n: &mut Numbers| if style == 2 { n.below(15) } else { 3 };
            (0..pieces.len())
                .map(|_| (speed * jitter(numbers)) as f64)
                .collect()
        };
        let costs = Costs {
            decode: seconds(),
            prefill: seconds(),
        };
        let room = Bytes(numbers.below(total) + numbers.pick(&[0, 0, total]));
        let duty = numbers.pick(&[1.0, 1.0, 0.8, 0.6, 0.5, 0.37, 0.1]);
        PlanDevice {
            costs,
            pieces: pieces.clone(),
            tied: Bytes(tied),
            room,
            duty,
        }
    });
    let devices = devices.collect();
    let crossing_seconds = numbers.pick(&[0.0, 1.0, 2.0, 7.0, 40.0]);
    let workload = numbers.pick(&[
        Workload::TOKEN,
        Workload {
            prefill_rows: 3,
            decode_rows: 2,
        },
    ]);
    PlanRequest {
        devices,
        crossing_seconds,
        workload,
        objective,
    }
}

/// Tries every order of every choice of devices with every cut.
struct BruteForce<'a> {
    request: &'a PlanRequest,
    /// Value, number of devices, devices in order: the least is the answer.
    best: Option<(f64, usize, Vec<usize>)>,
}

impl BruteForce<'_> {
    fn answer(request: &PlanRequest) -> Option<(f64, usize, Vec<usize>)> {
        let mut search = BruteForce {
            request,
            best: None,
        };
        search.go_on(&mut Vec::new());
        search.best
    }

    fn go_on(&mut self, stages: &mut Vec<(usize, usize, usize)>) {
        let pieces = self.request.devices[0].pieces.len();
        let start = stages.last().map_or(0, |stage| stage.2);
        if start == pieces {
            let order: Vec<_> = stages.iter().map(|stage| stage.0).collect();
            let found = (self.value(stages), order.len(), order);
            if self.best.as_ref().is_none_or(|best| found < *best) {
                self.best = Some(found);
            }
            return;
        }
        for device in 0..self.request.devices.len() {
            if stages.iter().any(|stage| stage.0 == device) {
                continue;
            }
            for end in start + 1..=pieces {
                if self.fits(device, start, end) {
                    stages.push((device, start, end));
                    self.go_on(stages);
                    stages.pop();
                }
            }
        }
    }

    fn fits(&self, device: usize, start: usize, end: usize) -> bool {
        let device = &self.request.devices[device];
        let span = &device.pieces[start..end];
        let own: u64 = span.iter().map(|p| p.weights.0 + p.kv.0).sum();
        let scratch = span.iter().map(|p| p.scratch.0).max().unwrap();
        let twice = if span.len() == device.pieces.len() {
            device.tied.0
        } else {
            0
        };
        own + scratch - twice <= device.room.0
    }

    fn value(&self, stages: &[(usize, usize, usize)]) -> f64 {
        let Workload {
            prefill_rows,
            decode_rows,
        } = self.request.workload;
        let (prefill, decode) = (f64::from(prefill_rows), f64::from(decode_rows));
        let crossing = self.request.crossing_seconds * (prefill + decode);
        let crossings = stages.len() - 1;
        let (mut slowest, mut chain) = (0.0_f64, crossing * crossings as f64);
        for &(device, start, end) in stages {
            let PlanDevice { costs, duty, .. } = &self.request.devices[device];
            let busy: f64 = (start..end)
                .map(|i| costs.prefill[i] * prefill + costs.decode[i] * decode)
                .sum();
            slowest = slowest.max(busy / duty);
            chain += busy;
        }
        match self.request.objective {
            Objective::OneStream => chain.max(slowest),
            Objective::Throughput if crossings > 0 => slowest.max(crossing),
            Objective::Throughput => slowest,
        }
    }
}

fn check_equals_brute_force(objective: Objective, seed: u64) {
    let mut numbers = Numbers(seed);
    let (mut planned, mut refused, mut crossed) = (0, 0, 0);
    for (devices, instances) in [
        (1, 300),
        (2, 1500),
        (3, 1500),
        (4, 1000),
        (5, 500),
        (6, 200),
    ] {
        for instance in 0..instances {
            let request = random_request(&mut numbers, devices, objective);
            let expected = BruteForce::answer(&request);
            match (plan(&request), expected) {
                (Ok(plan), Some((seconds, _, order))) => {
                    let name = format!("instance {instance} with {devices} devices: {request:?}");
                    let got: Vec<_> = plan.stages.iter().map(|stage| stage.device).collect();
                    assert_eq!(plan.seconds(), seconds, "{name}");
                    assert_eq!(got, order, "{name}");
                    assert_eq!(plan_by_hand(&request, &plan.stages), Ok(plan), "{name}");
                    planned += 1;
                    crossed += usize::from(order.len() > 1);
                }
                (Err(PlanError::DoesNotFit { .. }), None) => refused += 1,
                (got, expected) => panic!("{got:?}, expected {expected:?}: {request:?}"),
            }
        }
    }
    assert!(
        planned > 2000 && crossed > 1000 && refused > 300,
        "{planned} {crossed} {refused}"
    );
}

#[test]
fn the_shortest_period_equals_brute_force() {
    check_equals_brute_force(Objective::Throughput, 1);
}

#[test]
fn the_shortest_latency_equals_brute_force() {
    check_equals_brute_force(Objective::OneStream, 2);
}

/// Devices with these seconds per piece, duty and room; every piece of 10 bytes.
fn request(pieces: usize, devices: &[(f64, f64, u64)]) -> PlanRequest {
    let devices = devices.iter().map(|&(seconds, duty, room)| PlanDevice {
        costs: Costs {
            decode: vec![seconds; pieces],
            prefill: vec![seconds / 8.0; pieces],
        },
        pieces: vec![
            PieceBytes {
                weights: Bytes(10),
                ..PieceBytes::default()
            };
            pieces
        ],
        tied: Bytes(10),
        room: Bytes(room),
        duty,
    });
    PlanRequest {
        devices: devices.collect(),
        crossing_seconds: 0.0,
        workload: Workload::TOKEN,
        objective: Objective::Throughput,
    }
}

fn on(device: usize, start: usize, end: usize) -> PlacedSpan {
    PlacedSpan {
        device,
        span: Span::new(start, end),
    }
}

#[test]
fn an_even_split_on_equal_devices_and_a_full_one_alone() {
    let even = plan(&request(8, &[(1.0, 1.0, 100), (1.0, 1.0, 100)])).unwrap();
    assert_eq!(even.stages, [on(0, 0, 4), on(1, 4, 8)]);
    assert_eq!(
        (even.period, even.latency, even.bound_by),
        (4.0, 8.0, BoundBy::Device(0))
    );
    // Half the duty is half the pieces of a device that has all of it.
    let rested = plan(&request(6, &[(1.0, 0.5, 100), (1.0, 1.0, 100)])).unwrap();
    assert_eq!(rested.stages, [on(0, 0, 2), on(1, 2, 6)]);
    assert_eq!(rested.loads[0].paced, 4.0);
}

#[test]
fn a_crossing_that_costs_more_than_it_gains_is_not_made() {
    let mut dear = request(8, &[(1.0, 1.0, 100), (1.0, 1.0, 100)]);
    dear.crossing_seconds = 9.0;
    assert_eq!(plan(&dear).unwrap().stages, [on(0, 0, 8)]);
    // When memory forces it, it is what bounds the period.
    for device in &mut dear.devices {
        device.room = Bytes(50);
    }
    let forced = plan(&dear).unwrap();
    assert_eq!((forced.period, forced.bound_by), (9.0, BoundBy::Crossing));
}

#[test]
fn a_tied_table_counts_twice_on_two_devices_and_once_on_one() {
    // Eight pieces of ten bytes, ten of them the same at both ends.
    assert!(plan(&request(8, &[(1.0, 1.0, 70)])).is_ok());
    assert!(plan(&request(8, &[(1.0, 1.0, 39), (1.0, 1.0, 40)])).is_err());
    assert!(plan(&request(8, &[(1.0, 1.0, 40), (1.0, 1.0, 40)])).is_ok());
    let (first, third) = (on(0, 0, 2), on(0, 6, 8));
    let back = plan_by_hand(
        &request(8, &[(1.0, 1.0, 30), (1.0, 1.0, 40)]),
        &[first, on(1, 2, 6), third],
    );
    assert_eq!(back.unwrap().loads[0].bytes(), Bytes(30));
}

#[test]
fn what_does_not_fit_is_refused_with_the_figures() {
    let refused = plan(&request(8, &[(1.0, 1.0, 30), (1.0, 1.0, 25)])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the model needs 70 B on one device and does not fit; room: 30 B, 25 B; the first 5 of 8 \
         pieces would fit, 50 B"
    );
}

#[test]
fn requests_that_make_no_sense_are_refused_by_name() {
    let check = |change: &dyn Fn(&mut PlanRequest), expected: &str| {
        let mut changed = request(8, &[(1.0, 1.0, 100), (1.0, 1.0, 100)]);
        change(&mut changed);
        assert_eq!(plan(&changed).unwrap_err().to_string(), expected);
    };
    check(&|r| r.devices.clear(), "no device to plan for");
    check(
        &|r| r.devices = vec![r.devices[0].clone(); 9],
        "9 devices; a plan is made for at most 8, choose among them",
    );
    check(
        &|r| r.devices[1].duty = 0.0,
        "device 1: a duty of 0; above 0 and at most 1 expected",
    );
    check(
        &|r| r.devices[1].costs.decode[3] = f64::NAN,
        "device 1: a piece or crossing that takes NaN seconds",
    );
    check(
        &|r| r.devices[1].costs.prefill.truncate(3),
        "device 1: bytes of 8 pieces, decode seconds of 8, prefill seconds of 3; 8 expected",
    );
    check(
        &|r| r.devices[0].tied = Bytes(11),
        "device 0: a tied table of 11 B in an embedding or head of 10 B",
    );
}

#[test]
fn a_plan_by_hand_must_hold_every_piece_once_in_order_and_fit() {
    let request = request(6, &[(1.0, 1.0, 30), (1.0, 1.0, 100)]);
    let check = |stages: &[PlacedSpan], expected: &str| {
        let refused = plan_by_hand(&request, stages).unwrap_err();
        assert_eq!(refused.to_string(), expected);
    };
    check(
        &[on(1, 0, 3), on(0, 4, 6)],
        "stage 1 has pieces 4..6; it must have at least one piece and begin at 3",
    );
    check(
        &[on(1, 0, 3), on(0, 3, 3)],
        "stage 1 has pieces 3..3; it must have at least one piece and begin at 3",
    );
    check(&[on(1, 0, 5)], "the stages end at piece 5 of 6");
    check(&[], "the stages end at piece 0 of 6");
    check(&[on(1, 0, 7)], "the stages end at piece 7 of 6");
    check(&[on(2, 0, 6)], "stage 0 is on device 2, and there are 2");
    check(
        &[on(0, 0, 4), on(1, 4, 6)],
        "device 0 would hold 40 B, and has room for 30 B",
    );
    let thirds = [on(1, 0, 2), on(0, 2, 4), on(1, 4, 6)];
    let plan = plan_by_hand(&request, &thirds).unwrap();
    assert_eq!(
        (plan.period, plan.latency, plan.loads[1].busy),
        (4.0, 6.0, 4.0)
    );
}

#[test]
fn what_a_limit_costs_is_the_ratio_to_the_plan_without_it() {
    let request = request(8, &[(1.0, 0.5, 100), (4.0, 1.0, 100)]);
    let costs = what_limits_cost(&request).unwrap();
    let of = |device, limit| {
        costs
            .iter()
            .find(|c| (c.device, c.limit) == (device, limit))
            .unwrap()
    };
    // With half its duty the fast device takes 6 pieces in 12 seconds; with all of it, 7 in 7.
    assert_eq!(plan(&request).unwrap().period, 12.0);
    assert_eq!(of(0, Limit::Duty).seconds_without, 7.0);
    assert_eq!(of(0, Limit::Duty).ratio, 12.0 / 7.0);
    assert_eq!(of(0, Limit::Room).ratio, 1.0);
}
