use std::collections::BTreeMap;

use gogrid_units::Bytes;

use super::table::{Table, in_turn};
use super::{BoundBy, DeviceLoad, Objective, PlacedSpan, Plan, PlanDevice, PlanRequest};

impl Table {
    /// The plan that has these stages, not proven to be the best.
    pub(super) fn describe(&self, request: &PlanRequest, stages: Vec<PlacedSpan>) -> Plan {
        let loads: Vec<_> = (0..self.lanes.len())
            .map(|index| self.load(index, &request.devices[index], &stages))
            .collect();
        let slowest = (0..loads.len())
            .reduce(|a, b| match loads[b].paced > loads[a].paced {
                true => b,
                false => a,
            })
            .expect("a plan has a device");
        let mut carried = BTreeMap::new();
        for pair in stages.windows(2) {
            let (from, to) = (pair[0].device, pair[1].device);
            *carried.entry((from, to)).or_insert(0.0) += self.links[from][to];
        }
        let busiest_link = carried.values().copied().fold(0.0, f64::max);
        let in_turn = loads.iter().map(|load| load.in_turn).sum::<f64>();
        let chain = in_turn + carried.values().sum::<f64>();
        let paced = loads[slowest].paced;
        let bound_by = match request.objective {
            Objective::Throughput if busiest_link > paced => BoundBy::Crossing,
            Objective::OneStream if chain > paced => BoundBy::Chain,
            _ => BoundBy::Device(slowest),
        };
        Plan {
            stages,
            objective: request.objective,
            period: paced.max(busiest_link),
            latency: paced.max(chain),
            bound_by,
            is_proven: false,
            loads,
        }
    }

    fn load(&self, index: usize, device: &PlanDevice, stages: &[PlacedSpan]) -> DeviceLoad {
        let lane = &self.lanes[index];
        let mut load = DeviceLoad::default();
        let (mut at_once, mut ends) = (0.0, 0);
        for stage in stages.iter().filter(|stage| stage.device == index) {
            let (start, end) = (stage.span.start, stage.span.end);
            load.busy += lane.busy[end] - lane.busy[start];
            load.paced += lane.paced(stage.span);
            at_once += lane.at_once[end] - lane.at_once[start];
            let pieces = &device.pieces[start..end];
            load.weights += pieces.iter().map(|piece| piece.weights).sum();
            load.kv += pieces.iter().map(|piece| piece.kv).sum();
            let scratch = pieces.iter().map(|piece| piece.scratch).max();
            load.scratch += scratch.unwrap_or(Bytes::ZERO);
            ends += usize::from(start == 0) + usize::from(end == self.pieces);
        }
        if ends == 2 {
            load.weights = load.weights.saturating_sub(device.tied);
        }
        load.in_turn = in_turn(at_once, load.paced, lane.credit);
        load
    }
}
