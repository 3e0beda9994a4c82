//! Operations of a step, and how they are cut into submissions of bounded time.

use std::collections::VecDeque;

use gogrid_units::Work;

use crate::cost::{Class, Cost, Rates};
use crate::device::{Buf, Part};
use crate::kernel::Kernel;
use crate::limits::{DISPATCH_NANOS, SUBMISSION_NANOS};
use crate::recorder::Recorder;
use std::sync::Arc;

/// One dispatch, or one copy.
pub(crate) enum Op<R: Recorder> {
    Dispatch(Dispatch<R>),
    Copy {
        from: (Arc<Buf<R>>, u64),
        to: (Arc<Buf<R>>, u64),
        bytes: u64,
    },
}

/// A kernel on buffers. Its first immediate word is the number of its first workgroup along the first axis,
/// so that it can be cut there.
pub(crate) struct Dispatch<R: Recorder> {
    pub(crate) kernel: Kernel,
    pub(crate) parts: Vec<Part<R>>,
    pub(crate) immediates: Vec<u32>,
    pub(crate) groups: [u32; 3],
    pub(crate) cost: Cost,
}

impl<R: Recorder> Clone for Dispatch<R> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            immediates: self.immediates.clone(),
            ..*self
        }
    }
}

impl<R: Recorder> Dispatch<R> {
    /// Its first `groups` workgroups along the first axis, and the rest.
    fn split(self, groups: u32) -> (Self, Self) {
        let whole = f64::from(self.groups[0]);
        let part = |groups: u32, base: u32| {
            let mut part = self.clone();
            let share = f64::from(groups) / whole;
            part.groups[0] = groups;
            part.immediates[0] += base;
            part.cost.amount *= share;
            // Shares of a whole amount.
            part.cost.work.bytes = (part.cost.work.bytes as f64 * share) as u64;
            part.cost.work.multiply_adds = (part.cost.work.multiply_adds as f64 * share) as u64;
            part
        };
        (part(groups, 0), part(self.groups[0] - groups, groups))
    }
}

impl<R: Recorder> Op<R> {
    fn cost(&self) -> Cost {
        match self {
            Self::Dispatch(dispatch) => dispatch.cost,
            Self::Copy { bytes, .. } => Cost {
                class: Class::Copy,
                amount: *bytes as f64,
                work: Work::default(),
            },
        }
    }

    /// As much of it as may take [`DISPATCH_NANOS`], and the rest: workgroups along the first axis, or whole
    /// multiples of 256 bytes. At least one of either.
    fn cut(self, rates: &Rates, groups_max: u32) -> (Self, Option<Self>) {
        let pieces = (rates.nanos(&self.cost()) / DISPATCH_NANOS).ceil().max(1.0);
        match self {
            Self::Dispatch(dispatch) => {
                let groups = dispatch.groups[0];
                // No more than there are.
                let at_once = (f64::from(groups) / pieces).floor() as u32;
                let at_once = at_once.clamp(1, groups.min(groups_max));
                if at_once >= groups {
                    return (Self::Dispatch(dispatch), None);
                }
                let (first, rest) = dispatch.split(at_once);
                (Self::Dispatch(first), Some(Self::Dispatch(rest)))
            }
            Self::Copy { from, to, bytes } => {
                let at_once = (((bytes as f64 / pieces) as u64) & !255).max(256);
                if at_once >= bytes {
                    return (Self::Copy { from, to, bytes }, None);
                }
                let rest = Self::Copy {
                    from: (Arc::clone(&from.0), from.1 + at_once),
                    to: (Arc::clone(&to.0), to.1 + at_once),
                    bytes: bytes - at_once,
                };
                let bytes = at_once;
                (Self::Copy { from, to, bytes }, Some(rest))
            }
        }
    }
}

/// Operations that go to the device together.
pub(crate) struct Batch<R: Recorder> {
    pub(crate) ops: Vec<Op<R>>,
    pub(crate) costs: Vec<Cost>,
    pub(crate) work: Work,
}

/// Takes the next operations that take no longer together than a submission may. One that would take longer
/// than a dispatch may is cut.
pub(crate) fn next_batch<R: Recorder>(
    ops: &mut VecDeque<Op<R>>,
    rates: &Rates,
    groups_max: u32,
) -> Batch<R> {
    let mut batch = Batch {
        ops: Vec::new(),
        costs: Vec::new(),
        work: Work::default(),
    };
    let mut nanos = 0.0;
    while let Some(op) = ops.pop_front() {
        let (now, later) = op.cut(rates, groups_max);
        if let Some(later) = later {
            ops.push_front(later);
        }
        let cost = now.cost();
        let takes = rates.nanos(&cost);
        if !batch.costs.is_empty() && nanos + takes > SUBMISSION_NANOS {
            ops.push_front(now);
            break;
        }
        nanos += takes;
        batch.work.bytes += cost.work.bytes;
        batch.work.multiply_adds += cost.work.multiply_adds;
        batch.costs.push(cost);
        batch.ops.push(now);
    }
    batch
}
