use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

use gogrid_pipeline::{
    BlockId, Finished, Input, Job, OutputBuf, PlacedStage, StageError, StageFailure, Step,
};
use gogrid_units::Moment;

use super::ManualClock;

/// A runner without threads, in virtual time: a job's arithmetic is done when its end is asked
/// for, and its end is when the clock says so.
pub struct FakeRunner {
    stages: Vec<PlacedStage>,
    clock: ManualClock,
    nanos_per_row: u64,
    in_flight_max: usize,
    free_at: Moment,
    queue: VecDeque<Queued>,
}

enum Queued {
    Job(Moment, Job),
    Release(usize, Arc<[BlockId]>),
}

impl FakeRunner {
    /// Runs jobs one after the other through `stages`, each for `nanos_per_row` times its rows.
    pub fn new(stages: Vec<PlacedStage>, clock: ManualClock, nanos_per_row: u64) -> Self {
        Self {
            stages,
            clock,
            nanos_per_row,
            in_flight_max: 4,
            free_at: Moment(0),
            queue: VecDeque::new(),
        }
    }

    /// The same runner with room for `most` jobs; without this there is room for four.
    pub fn in_flight_max(mut self, most: usize) -> Self {
        self.in_flight_max = most;
        self
    }

    /// Takes a job in, or gives it back when as many as may be are in flight.
    pub fn submit(&mut self, job: Job) -> Result<(), Job> {
        if self.in_flight() == self.in_flight_max {
            return Err(job);
        }
        let begin = self.free_at.max(self.clock.now());
        // A job has few rows.
        let nanos = self.nanos_per_row * job.step.rows() as u64;
        self.free_at = Moment(begin.0 + nanos);
        self.queue.push_back(Queued::Job(self.free_at, job));
        Ok(())
    }

    /// Tells every stage to forget blocks, after the jobs submitted before.
    pub fn release(&mut self, group: usize, blocks: Arc<[BlockId]>) {
        self.queue.push_back(Queued::Release(group, blocks));
    }

    /// Jobs in flight.
    pub fn in_flight(&self) -> usize {
        let jobs = self.queue.iter().filter(|q| matches!(q, Queued::Job(..)));
        jobs.count()
    }

    /// When the next job ends, if one is in flight.
    pub fn next_end(&self) -> Option<Moment> {
        self.queue.iter().find_map(|queued| match queued {
            Queued::Job(end, _) => Some(*end),
            Queued::Release(..) => None,
        })
    }

    /// The end of the next job, if the clock has reached it.
    pub fn poll(&mut self) -> Option<Finished> {
        while let Some(Queued::Release(group, blocks)) = self.queue.front() {
            for placed in &mut self.stages {
                placed.stage.release(*group, blocks);
            }
            self.queue.pop_front();
        }
        match self.queue.front()? {
            Queued::Job(end, _) if *end <= self.clock.now() => {}
            _ => return None,
        }
        let Some(Queued::Job(_, job)) = self.queue.pop_front() else {
            return None;
        };
        Some(self.run(&job))
    }

    fn run(&mut self, job: &Job) -> Finished {
        let mut given = OutputBuf::default();
        for (index, placed) in self.stages.iter_mut().enumerate() {
            let input = match index {
                0 => Input::Ids(&job.ids),
                _ => Input::Hidden(&given.hidden),
            };
            let mut out = OutputBuf::default();
            if let Err(error) = run_stage(placed, &job.step, input, &mut out) {
                let failure = StageFailure {
                    stage: index,
                    device: placed.device,
                    span: placed.span,
                    error,
                };
                return Finished {
                    id: job.id,
                    result: Err(failure),
                };
            }
            given = out;
        }
        Finished {
            id: job.id,
            result: Ok(given),
        }
    }
}

fn run_stage(
    placed: &mut PlacedStage,
    step: &Arc<Step>,
    input: Input<'_>,
    out: &mut OutputBuf,
) -> Result<(), StageError> {
    let ticket = placed.stage.submit(step, input)?;
    loop {
        if let Poll::Ready(done) = placed.stage.poll(ticket, out) {
            return done;
        }
    }
}

#[cfg(test)]
mod tests {
    use gogrid_pipeline::{SequenceRows, Want};
    use gogrid_units::Span;

    use super::*;
    use crate::fakes::{FakeModel, FakeStage, Faults};

    #[test]
    fn jobs_end_in_order_when_the_clock_gets_there() {
        let model = FakeModel {
            vocab: 20,
            width: 4,
            windows: vec![None],
            groups: vec![0, 0],
        };
        let (front, back) = Span::whole_model(2).split_at(3);
        let stages = [front, back].map(|span| PlacedStage {
            device: 0,
            span,
            stage: Box::new(FakeStage::new(model.clone(), span, Faults::default())),
        });
        let clock = ManualClock::new();
        let mut runner = FakeRunner::new(stages.into(), clock.clone(), 100).in_flight_max(2);
        let job = |id, start, ids: &[u32]| Job {
            id,
            step: Arc::new(Step {
                sequences: vec![SequenceRows {
                    tables: Arc::new(vec![vec![Some(BlockId(0))]]),
                    start,
                    wants: vec![Want::Logits; ids.len()],
                }],
            }),
            ids: ids.to_vec(),
        };
        assert!(runner.submit(job(1, 0, &[4, 5])).is_ok());
        assert!(runner.submit(job(2, 2, &[6])).is_ok());
        assert!(runner.submit(job(3, 3, &[7])).is_err());
        assert_eq!(runner.next_end(), Some(Moment(200)));
        assert!(runner.poll().is_none());
        clock.advance(300);
        let ends = [runner.poll(), runner.poll()].map(|end| end.expect("both have ended"));
        assert_eq!(ends.each_ref().map(|end| end.id), [1, 2]);
        let [_, last] = ends.map(|end| end.result.expect("both ran"));
        assert_eq!(last.logits, model.logits(&[4, 5, 6]));
    }
}
