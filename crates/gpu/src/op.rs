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

/// A copy between buffers.
struct Copying<R: Recorder> {
    from: (Arc<Buf<R>>, u64),
    to: (Arc<Buf<R>>, u64),
    bytes: u64,
}

impl<R: Recorder> Copying<R> {
    fn cost(&self) -> Cost {
        Cost {
            class: Class::Copy,
            amount: self.bytes as f64,
            work: Work::default(),
        }
    }

    /// As much of it as a dispatch may take, and the rest.
    fn cut(self, rates: &Rates) -> (Self, Option<Self>) {
        let pieces = (rates.nanos(&self.cost()) / DISPATCH_NANOS).ceil().max(1.0);
        // Whole multiples of 256 bytes, at least one.
        let at_once = (((self.bytes as f64 / pieces) as u64) & !255).max(256);
        if at_once >= self.bytes {
            return (self, None);
        }
        let later = Self {
            from: (Arc::clone(&self.from.0), self.from.1 + at_once),
            to: (Arc::clone(&self.to.0), self.to.1 + at_once),
            bytes: self.bytes - at_once,
        };
        let now = Self {
            bytes: at_once,
            ..self
        };
        (now, Some(later))
    }

    fn into_op(self) -> Op<R> {
        let Self { from, to, bytes } = self;
        Op::Copy { from, to, bytes }
    }
}

/// Operations that go to the device together.
pub(crate) struct Batch<R: Recorder> {
    pub(crate) ops: Vec<Op<R>>,
    pub(crate) costs: Vec<Cost>,
    pub(crate) work: Work,
}

/// Takes the next operations that take no longer together than a submission may. A dispatch that would take
/// longer than one may is cut.
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
        let dispatch = match op {
            Op::Dispatch(dispatch) => dispatch,
            Op::Copy { from, to, bytes } => {
                let copy = Copying { from, to, bytes };
                let (now, later) = copy.cut(rates);
                let takes = rates.nanos(&now.cost());
                let is_first = batch.costs.is_empty();
                if let Some(later) = later {
                    ops.push_front(later.into_op());
                }
                if !is_first && nanos + takes > SUBMISSION_NANOS {
                    ops.push_front(now.into_op());
                    break;
                }
                nanos += takes;
                batch.costs.push(now.cost());
                batch.ops.push(now.into_op());
                continue;
            }
        };
        let takes = rates.nanos(&dispatch.cost);
        let pieces = (takes / DISPATCH_NANOS).ceil().max(1.0);
        let groups = dispatch.groups[0];
        // At least one, and no more than there are.
        let at_once =
            ((f64::from(groups) / pieces).floor() as u32).clamp(1, groups.min(groups_max));
        let dispatch = match at_once < groups {
            true => {
                let (first, rest) = dispatch.split(at_once);
                ops.push_front(Op::Dispatch(rest));
                first
            }
            false => dispatch,
        };
        let takes = rates.nanos(&dispatch.cost);
        if !batch.costs.is_empty() && nanos + takes > SUBMISSION_NANOS {
            ops.push_front(Op::Dispatch(dispatch));
            break;
        }
        nanos += takes;
        batch.work.bytes += dispatch.cost.work.bytes;
        batch.work.multiply_adds += dispatch.cost.work.multiply_adds;
        batch.costs.push(dispatch.cost);
        batch.ops.push(Op::Dispatch(dispatch));
    }
    batch
}
