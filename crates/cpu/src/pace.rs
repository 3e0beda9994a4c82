use std::sync::Arc;

use gogrid_pipeline::Cancel;
use gogrid_units::{Go, Moment, Pace, TeamPace, Work};

/// The pace of one stage: its device's, until its pipeline is closed.
pub(crate) struct StagePace {
    pub(crate) device: Arc<dyn TeamPace>,
    pub(crate) cancel: Cancel,
}

impl Pace for StagePace {
    fn point(&self, work: Work) -> Go {
        if self.cancel.is_cancelled() {
            return Go::Abandon;
        }
        self.device.point(work)
    }

    fn rest(&self, until: Moment) {
        self.device.rest(until);
    }

    fn is_over(&self) -> bool {
        self.cancel.is_cancelled() || self.device.is_over()
    }

    fn charge(&self, busy_nanos: u64) {
        self.device.charge(busy_nanos);
    }
}

impl TeamPace for StagePace {
    fn width(&self) -> usize {
        self.device.width()
    }

    fn insists(&self) -> bool {
        self.device.insists()
    }

    fn gave_way(&self, nanos: u64) {
        self.device.gave_way(nanos);
    }
}
