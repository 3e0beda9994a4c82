//! The planner against every possible placement, and its refusals.

use gogrid_pipeline::{
    BoundBy, Costs, Limit, Objective, PieceBytes, PlacedSpan, Plan, PlanDevice, PlanDuty,
    PlanError, PlanLink, PlanMemory, PlanRequest, Workload, plan, plan_by_hand, plan_with_effort,
    what_limits_cost,
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
    let memories = 1 + numbers.below(devices as u64);
    // All alike, all different, or differing from piece to piece.
    let style = numbers.below(3);
    let placed = (0..devices).map(|_| {
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
            is_sure: true,
        };
        PlanDevice {
            costs,
            pieces: packed(numbers, &pieces),
            tied: Bytes(tied),
            memory: numbers.below(memories) as usize,
            duty: random_duty(numbers),
        }
    });
    let placed: Vec<_> = placed.collect();
    let memories = (0..memories).map(|_| PlanMemory {
        room: Bytes(numbers.below(total) + numbers.pick(&[0, 0, total])),
    });
    let memories = memories.collect();
    let workload = numbers.pick(&[
        Workload::TOKEN,
        Workload {
            prefill_rows: 3,
            decode_rows: 2,
        },
    ]);
    PlanRequest {
        devices: placed,
        memories,
        links: random_links(numbers, devices),
        row_bytes: Bytes(4),
        workload,
        objective,
    }
}

/// The same pieces, or as a device holds them that packs some of them wider.
fn packed(numbers: &mut Numbers, pieces: &[PieceBytes]) -> Vec<PieceBytes> {
    let wider = numbers.pick(&[0, 0, 2]);
    let piece = pieces.iter().map(|&piece| PieceBytes {
        weights: piece.weights + Bytes(numbers.below(wider + 1)),
        ..piece
    });
    piece.collect()
}

/// Shares by which whole numbers are divided without rounding.
fn random_duty(numbers: &mut Numbers) -> PlanDuty {
    let share = numbers.pick(&[1.0, 1.0, 0.5, 0.5, 0.25, 0.125]);
    PlanDuty {
        share,
        burst: f64::min(1.0, share * numbers.pick(&[1.0, 2.0, 8.0])),
        credit: numbers.pick(&[0.0, 0.0, 1.0, 3.0, 10.0, 40.0, f64::INFINITY]),
    }
}

/// All alike, or each another.
fn random_links(numbers: &mut Numbers, devices: usize) -> Vec<Vec<PlanLink>> {
    let alike = numbers.below(2) == 0;
    let mut link = || PlanLink {
        latency: numbers.pick(&[0.0, 1.0, 2.0, 7.0, 40.0]),
        bytes_per_second: numbers.pick(&[f64::INFINITY, 4.0, 2.0, 1.0]),
    };
    let first = link();
    let mut row = || {
        let mut cell = || if alike { first } else { link() };
        (0..devices).map(|_| cell()).collect::<Vec<_>>()
    };
    (0..devices).map(|_| row()).collect()
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
                stages.push((device, start, end));
                if self.fits(stages) {
                    self.go_on(stages);
                }
                stages.pop();
            }
        }
    }

    fn fits(&self, stages: &[(usize, usize, usize)]) -> bool {
        let mut held = vec![0; self.request.memories.len()];
        for &(device, start, end) in stages {
            let device = &self.request.devices[device];
            let span = &device.pieces[start..end];
            let own: u64 = span.iter().map(|p| p.weights.0 + p.kv.0).sum();
            let scratch = span.iter().map(|p| p.scratch.0).max().unwrap();
            let whole = span.len() == device.pieces.len();
            let twice = if whole { device.tied.0 } else { 0 };
            held[device.memory] += own + scratch - twice;
        }
        let mut rooms = held.iter().zip(&self.request.memories);
        rooms.all(|(held, memory)| *held <= memory.room.0)
    }

    fn value(&self, stages: &[(usize, usize, usize)]) -> f64 {
        let Workload {
            prefill_rows,
            decode_rows,
        } = self.request.workload;
        let (prefill, decode) = (f64::from(prefill_rows), f64::from(decode_rows));
        let (mut slowest, mut chain, mut link) = (0.0_f64, 0.0, 0.0_f64);
        for pair in stages.windows(2) {
            let PlanLink {
                latency,
                bytes_per_second,
            } = self.request.links[pair[0].0][pair[1].0];
            let bytes = (prefill + decode) * self.request.row_bytes.0 as f64;
            let crossing = latency + bytes / bytes_per_second;
            link = link.max(crossing);
            chain += crossing;
        }
        for &(device, start, end) in stages {
            let PlanDevice { costs, duty, .. } = &self.request.devices[device];
            let busy: f64 = (start..end)
                .map(|i| costs.prefill[i] * prefill + costs.decode[i] * decode)
                .sum();
            slowest = slowest.max(busy / duty.share);
            chain += f64::max(busy / duty.burst, (busy - duty.credit) / duty.share);
        }
        match self.request.objective {
            Objective::OneStream => chain.max(slowest),
            Objective::Throughput => slowest.max(link),
        }
    }
}

fn check_equals_brute_force(objective: Objective, seed: u64) {
    let mut numbers = Numbers(seed);
    let (mut planned, mut refused, mut crossed, mut bound) = (0, 0, 0, 0);
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
                    assert!(plan.is_proven, "{name}");
                    check_equals_by_hand(&request, &plan);
                    planned += 1;
                    bound += usize::from(sharing_binds(&request, seconds));
                    crossed += usize::from(order.len() > 1);
                }
                (Err(PlanError::DoesNotFit { .. }), None) => refused += 1,
                (got, expected) => panic!("{got:?}, expected {expected:?}: {request:?}"),
            }
        }
    }
    assert!(
        planned > 2000 && crossed > 1000 && refused > 300 && bound > 100,
        "{planned} {crossed} {refused} {bound}"
    );
}

/// Whether the same stages by hand are predicted to do the same.
fn check_equals_by_hand(request: &PlanRequest, plan: &Plan) {
    let by_hand = plan_by_hand(request, &plan.stages).unwrap();
    assert!(!by_hand.is_proven);
    let is_proven = plan.is_proven;
    assert_eq!(
        Plan {
            is_proven,
            ..by_hand
        },
        *plan,
        "{request:?}"
    );
}

/// Whether there would be a better plan if every device had its memory for itself.
fn sharing_binds(request: &PlanRequest, seconds: f64) -> bool {
    let mut alone = request.clone();
    let rooms = request.devices.iter().map(|d| request.memories[d.memory]);
    alone.memories = rooms.collect();
    for (memory, device) in alone.devices.iter_mut().enumerate() {
        device.memory = memory;
    }
    plan(&alone).unwrap().seconds() < seconds
}

#[test]
fn the_shortest_period_equals_brute_force() {
    check_equals_brute_force(Objective::Throughput, 1);
}

#[test]
fn the_shortest_latency_equals_brute_force() {
    check_equals_brute_force(Objective::OneStream, 2);
}

/// How far a plan's seconds may be from those of the brute force, which rounds nothing.
///
/// The planner takes each figure to the nearest multiple of a unit of at most 2^-47 of the longest
/// way: the whole model on the slowest device, and the slowest crossing. So each is off by 2^-48 of
/// that way at most. The requests here have up to 8 pieces on 4 devices, and a plan's seconds are a
/// sum of at most 8 pieces, 3 crossings and 4 credits: 15 figures. One more is for the sums of the
/// brute force, which are off by some 2^-50 of the way. Both take the least over the same plans, and
/// two least values are no further apart than the values of any one plan.
fn rounding(request: &PlanRequest) -> f64 {
    let rows = [request.workload.prefill_rows, request.workload.decode_rows].map(f64::from);
    let whole = request.devices.iter().map(|device| {
        let [prefill, decode] = [&device.costs.prefill, &device.costs.decode]
            .map(|seconds| seconds.iter().sum::<f64>());
        (prefill * rows[0] + decode * rows[1]) / device.duty.share
    });
    let bytes = (rows[0] + rows[1]) * request.row_bytes.0 as f64;
    let links = request.links.iter().flatten();
    let crossings = links.map(|link| link.latency + bytes / link.bytes_per_second);
    let longest = whole.fold(0.0, f64::max) + crossings.fold(0.0, f64::max);
    16.0 * longest / (1_u64 << 48) as f64
}

/// A request with shares, seconds and links that no binary fraction is.
fn with_fractions(numbers: &mut Numbers, mut request: PlanRequest) -> PlanRequest {
    for device in &mut request.devices {
        let seconds = device.costs.decode.iter_mut();
        for seconds in seconds.chain(&mut device.costs.prefill) {
            *seconds *= 0.001 * numbers.pick(&[0.1, 0.7, 1.3, 1.0 / 3.0]);
        }
        let share = numbers.pick(&[0.37, 0.1, 0.55, 0.83, 1.0]);
        device.duty = PlanDuty {
            share,
            burst: f64::min(1.0, share * numbers.pick(&[1.0, 1.7, 3.0])),
            credit: numbers.pick(&[0.0, 0.0007, 0.013, f64::INFINITY]),
        };
    }
    for link in request.links.iter_mut().flatten() {
        link.latency *= 0.0003;
        link.bytes_per_second *= 700.0;
    }
    request
}

#[test]
fn seconds_that_need_rounding_equal_brute_force_within_it() {
    let mut numbers = Numbers(3);
    let mut planned = 0;
    for instance in 0..2000 {
        let devices = 1 + instance % 4;
        let objective = numbers.pick(&[Objective::Throughput, Objective::OneStream]);
        let request = random_request(&mut numbers, devices, objective);
        let request = with_fractions(&mut numbers, request);
        let Some((seconds, ..)) = BruteForce::answer(&request) else {
            assert!(plan(&request).is_err(), "{request:?}");
            continue;
        };
        let plan = plan(&request).unwrap();
        let off = (plan.seconds() - seconds).abs();
        assert!(
            off <= rounding(&request),
            "{off} off {seconds}: {request:?}"
        );
        check_equals_by_hand(&request, &plan);
        planned += 1;
    }
    assert!(planned > 800, "{planned}");
}

#[test]
fn a_search_that_is_cut_short_says_so_and_gives_what_it_found() {
    let mut numbers = Numbers(4);
    let (mut proven, mut unproven, mut worse, mut none) = (0, 0, 0, 0);
    for instance in 0..2000 {
        let objective = numbers.pick(&[Objective::Throughput, Objective::OneStream]);
        let request = random_request(&mut numbers, 2 + instance % 4, objective);
        let effort = numbers.pick(&[1, 10, 30, 100, 300]);
        let best = plan(&request);
        match plan_with_effort(&request, effort) {
            Ok(plan) if plan.is_proven => {
                assert_eq!(Ok(plan), best, "{effort}: {request:?}");
                proven += 1;
            }
            Ok(plan) => {
                let best = best.unwrap();
                assert!(plan.seconds() >= best.seconds(), "{effort}: {request:?}");
                check_equals_by_hand(&request, &plan);
                unproven += 1;
                worse += usize::from(plan.seconds() > best.seconds());
            }
            Err(PlanError::CutShort { effort: told }) => {
                assert_eq!(told, effort);
                none += 1;
            }
            Err(refused) => assert_eq!(Err(refused), best, "{effort}: {request:?}"),
        }
    }
    let counts = (proven, unproven, worse, none);
    assert!(
        proven > 100 && unproven > 100 && worse > 10 && none > 10,
        "{counts:?}"
    );
}

/// Devices with these seconds per piece, duty and room, each with a memory of its own; every piece
/// of 10 bytes.
fn request(pieces: usize, devices: &[(f64, f64, u64)]) -> PlanRequest {
    let count = devices.len();
    let memories = devices
        .iter()
        .map(|&(_, _, room)| PlanMemory { room: Bytes(room) });
    let memories = memories.collect();
    let devices = devices
        .iter()
        .enumerate()
        .map(|(memory, &(seconds, share, _))| PlanDevice {
            costs: Costs {
                decode: vec![seconds; pieces],
                prefill: vec![seconds / 8.0; pieces],
                is_sure: true,
            },
            pieces: vec![
                PieceBytes {
                    weights: Bytes(10),
                    ..PieceBytes::default()
                };
                pieces
            ],
            tied: Bytes(10),
            memory,
            duty: PlanDuty {
                share,
                burst: 1.0,
                credit: 0.0,
            },
        });
    PlanRequest {
        devices: devices.collect(),
        memories,
        links: vec![vec![PlanLink::same_memory(0.0); count]; count],
        row_bytes: Bytes(4),
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
    dear.links = vec![vec![PlanLink::same_memory(9.0); 2]; 2];
    assert_eq!(plan(&dear).unwrap().stages, [on(0, 0, 8)]);
    // When memory forces it, it is what bounds the period.
    for memory in &mut dear.memories {
        memory.room = Bytes(50);
    }
    let forced = plan(&dear).unwrap();
    assert_eq!((forced.period, forced.bound_by), (9.0, BoundBy::Crossing));
}

#[test]
fn a_crossing_takes_a_latency_and_the_time_of_its_bytes_one_way() {
    let mut request = request(8, &[(1.0, 1.0, 50), (1.0, 1.0, 50)]);
    request.objective = Objective::OneStream;
    request.links[0][1] = PlanLink::same_memory(9.0);
    request.links[1][0] = PlanLink {
        latency: 0.5,
        bytes_per_second: 8.0,
    };
    let back = plan(&request).unwrap();
    let devices: Vec<_> = back.stages.iter().map(|stage| stage.device).collect();
    // Eight pieces, and one row of 4 bytes over the quicker way.
    assert_eq!((devices, back.latency), (vec![1, 0], 8.0 + 0.5 + 0.5));
    // A chunk crosses at once: its latency is paid once, and its bytes for each row.
    request.workload = Workload {
        prefill_rows: 16,
        decode_rows: 0,
    };
    assert_eq!(plan(&request).unwrap().latency, 16.0 + 0.5 + 8.0);
}

#[test]
fn credit_spares_a_rest_once_a_unit_and_only_where_a_device_waits() {
    let mut request = request(8, &[(1.0, 0.5, 100), (1.0, 0.5, 100)]);
    for device in &mut request.devices {
        device.duty.credit = 1.0;
    }
    // Alone a device comes to no credit: half the duty is twice the time.
    assert_eq!(
        plan_by_hand(&request, &[on(0, 0, 8)]).unwrap().latency,
        16.0
    );
    // Four seconds of work less one of credit, at half the duty.
    let two = plan_by_hand(&request, &[on(0, 0, 4), on(1, 4, 8)]).unwrap();
    assert_eq!((two.loads[0].in_turn, two.latency), (6.0, 12.0));
    // So much credit that no rest is due, but no faster than it bursts.
    for device in &mut request.devices {
        (device.duty.credit, device.duty.burst) = (10.0, 0.8);
    }
    let two = plan_by_hand(&request, &[on(0, 0, 4), on(1, 4, 8)]).unwrap();
    assert_eq!((two.loads[0].in_turn, two.latency), (5.0, 10.0));
}

#[test]
fn devices_of_one_memory_share_its_room() {
    // Eight pieces of ten bytes; a table of ten is held twice by two devices.
    let mut shared = request(8, &[(1.0, 1.0, 79), (1.0, 1.0, 0), (9.0, 1.0, 40)]);
    shared.devices[1].memory = 0;
    assert_eq!(plan(&shared).unwrap().stages, [on(0, 0, 8)]);
    let refused = plan_by_hand(&shared, &[on(0, 0, 4), on(1, 4, 8)]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "memory 0 would hold 80 B, and has room for 79 B"
    );
    shared.memories[0].room = Bytes(80);
    assert_eq!(plan(&shared).unwrap().stages, [on(0, 0, 4), on(1, 4, 8)]);
    shared.memories[0].room = Bytes(39);
    assert_eq!(
        plan(&shared).unwrap_err().to_string(),
        "the model does not fit: memory 0 has room for 39 B of 70 B, memory 2 has room for 40 B of \
         70 B; the first 7 of 8 pieces would fit, 70 B"
    );
    shared.memories[0].room = Bytes(80);
    // No device is on memory 1, whose limit so costs nobody anything.
    let costs = what_limits_cost(&shared).unwrap();
    let rooms = costs.iter().filter_map(|cost| match cost.limit {
        Limit::Room(memory) => Some(memory),
        Limit::Duty(_) => None,
    });
    assert_eq!(rooms.collect::<Vec<_>>(), [0, 2]);
    let costs = what_limits_cost(&request(8, &[(1.0, 1.0, 70), (1.0, 1.0, 10)])).unwrap();
    let room = costs.iter().find(|c| c.limit == Limit::Room(1)).unwrap();
    assert_eq!(room.ratio, 7.0 / 4.0);
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
        "the model does not fit: memory 0 has room for 30 B of 70 B, memory 1 has room for 25 B of \
         70 B; the first 5 of 8 pieces would fit, 50 B"
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
        &|r| r.devices[1].duty.share = 0.0,
        "device 1: a duty of 0; above 0 and at most 1 expected",
    );
    check(
        &|r| r.devices[1].costs.decode[3] = f64::NAN,
        "device 1: a piece that takes NaN seconds",
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
        "memory 0 would hold 40 B, and has room for 30 B",
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
    let of = |limit| costs.iter().find(|c| c.limit == limit).unwrap();
    // With half its duty the fast device takes 6 pieces in 12 seconds; with all of it, 7 in 7.
    assert_eq!(plan(&request).unwrap().period, 12.0);
    assert_eq!(of(Limit::Duty(0)).seconds_without, 7.0);
    assert_eq!(of(Limit::Duty(0)).ratio, 12.0 / 7.0);
    assert_eq!(of(Limit::Room(0)).ratio, 1.0);
}
