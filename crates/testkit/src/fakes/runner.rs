use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Poll;

use gogrid_pipeline::{
    BlockId, Finished, Input, Job, OutputBuf, PlacedStage, StageError, StageFailure, Step,
};
use gogrid_units::Moment;

use super::{AcceleratorHandle, ManualClock};

/// A runner without threads, in virtual time: a job's arithmetic is done when its end is asked
/// for, and its end is when the clock says so.
pub struct FakeRunner {
    stages: Vec<PlacedStage>,
    clock: ManualClock,
    nanos_per_row: u64,
    in_flight_max: usize,
    free_at: Moment,
    queue: VecDeque<Queued>,
    devices: Vec<AcceleratorHandle>,
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
            devices: Vec::new(),
        }
    }

    /// The same runner with room for `most` jobs; without this there is room for four.
    pub fn in_flight_max(mut self, most: usize) -> Self {
        self.in_flight_max = most;
        self
    }

    /// The same runner for stages of these devices too: while a stage waits for one, each does its
    /// oldest work.
    pub fn beside(mut self, devices: Vec<AcceleratorHandle>) -> Self {
        self.devices = devices;
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
                0 => Input::Rows(&job.rows),
                _ => Input::Hidden(&given.hidden),
            };
            let mut out = OutputBuf::default();
            if let Err(error) = run_stage((placed, &self.devices), &job.step, input, &mut out) {
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
    (placed, devices): (&mut PlacedStage, &[AcceleratorHandle]),
    step: &Arc<Step>,
    input: Input<'_>,
    out: &mut OutputBuf,
) -> Result<(), StageError> {
    let ticket = placed.stage.submit(step, input)?;
    loop {
        if let Poll::Ready(done) = placed.stage.poll(ticket, out) {
            return done;
        }
        if devices.iter().any(AcceleratorHandle::hangs) {
            return Err(StageError::Device("it hangs".to_owned()));
        }
        for device in devices {
            device.answer();
        }
    }
}

#[cfg(test)]
mod tests {
    use gogrid_lease::Ledger;
    use gogrid_model::{Model, OpenOptions};
    use gogrid_pipeline::{Backend, Opening, Positions, Rows, SequenceRows, Want};
    use gogrid_units::{Bytes, FullSpeed, Span, WeightType, Whose};

    use super::*;
    use crate::fakes::{AcceleratorScript, FakeAccelerator, FakeModel, FakeStage, Faults};
    use crate::random::{Family, RandomModel, Spec};

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

    #[test]
    fn stages_of_an_accelerator_run_in_virtual_time() {
        let model = tiny_model();
        let script = AcceleratorScript {
            nanos_per_row: 1_000,
            lost_at: vec![1],
            ..AcceleratorScript::default()
        };
        let memory = Ledger::new(Bytes::gib(1));
        let mut fake = FakeAccelerator::new(memory, Arc::new(FullSpeed), script);
        let span = Span::whole_model(model.decoder().layers.len());
        let stage = fake.open(Opening::new(&model, span, 4));
        let stages = vec![PlacedStage {
            device: 0,
            span,
            stage: stage.expect("there is memory"),
        }];
        let device = fake.handle();
        let clock = ManualClock::new();
        let mut runner = FakeRunner::new(stages, clock.clone(), 100).beside(vec![device.clone()]);
        for id in 0..2 {
            assert!(runner.submit(job(id, 0, &[4, 5])).is_ok());
        }
        clock.advance(400);
        let first = runner.poll().expect("it has ended").result;
        let logits = first.expect("it ran").logits;
        let fake = FakeModel::of(model.decoder());
        assert_eq!(logits[fake.vocab..], fake.logits(&[4, 5]));
        assert_eq!(device.busy_nanos(), 2_000);
        let lost = runner.poll().expect("it has ended").result;
        assert!(matches!(lost.unwrap_err().error, StageError::Lost(_)));
    }

    fn tiny_model() -> Model {
        let spec = Spec {
            family: Family::Llama,
            weights: WeightType::Q8_0,
            seed: 1,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tiny.gguf");
        let written = RandomModel::new(spec).write_gguf(&path);
        written.expect("a tiny model is written");
        Model::open(&path, &OpenOptions::default()).expect("it opens")
    }

    fn job(id: u64, start: usize, ids: &[u32]) -> Job {
        Job {
            id,
            step: Arc::new(Step {
                sequences: vec![SequenceRows {
                    tables: Arc::new(vec![vec![Some(BlockId(0))]]),
                    start,
                    length: start + ids.len(),
                    positions: Positions::Sequential,
                    wants: vec![Want::Logits; ids.len()],
                }],
            }),
            rows: Rows::of_ids(ids.to_vec()),
            whose: Whose::Guest,
        }
    }
}
