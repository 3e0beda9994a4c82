//! The buffers of a line that no flight has. A step writes what a step before it wrote, so that memory
//! is not asked of the system and given back to it with each.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::step::OutputBuf;

/// The end that takes: whoever begins flights.
pub(crate) struct Spares {
    outputs: Receiver<OutputBuf>,
    hidden: Receiver<OutputBuf>,
}

/// The end that puts: drivers, where flights end, and the caller that has read an output.
pub(crate) struct SparesReturn {
    outputs: SyncSender<OutputBuf>,
    hidden: SyncSender<OutputBuf>,
}

/// What a flight's stages write.
#[derive(Default)]
pub(crate) struct FlightBuffers {
    /// What the caller is given.
    pub(crate) output: OutputBuf,
    /// What the next stage but the last is to fill; it and the stage's input change places at every
    /// hand-over.
    pub(crate) hidden: OutputBuf,
}

/// Keeps what as many flights use as may be at once: an output, and the rows that go into a stage and
/// those that come out of it.
pub(crate) fn spares(flights: usize) -> (Spares, SparesReturn) {
    let (put_output, outputs) = sync_channel(flights);
    let (put_hidden, hidden) = sync_channel(2 * flights);
    let spares = Spares { outputs, hidden };
    let back = SparesReturn {
        outputs: put_output,
        hidden: put_hidden,
    };
    (spares, back)
}

impl Spares {
    /// Buffers for a flight; empty ones, which grow, where no flight left any.
    pub(crate) fn take(&self) -> FlightBuffers {
        FlightBuffers {
            output: self.outputs.try_recv().unwrap_or_default(),
            hidden: self.hidden.try_recv().unwrap_or_default(),
        }
    }

    /// Gives the memory of all back to the system.
    pub(crate) fn free(&self) {
        self.outputs.try_iter().for_each(drop);
        self.hidden.try_iter().for_each(drop);
    }
}

impl SparesReturn {
    pub(crate) fn output(&self, buffer: OutputBuf) {
        put(&self.outputs, buffer);
    }

    pub(crate) fn hidden(&self, buffer: OutputBuf) {
        put(&self.hidden, buffer);
    }
}

/// Puts a buffer back, empty, unless it has no memory. One beyond what is kept goes, as does every one
/// whose line is gone.
fn put(to: &SyncSender<OutputBuf>, mut buffer: OutputBuf) {
    for values in [
        &mut buffer.hidden,
        &mut buffer.logits,
        &mut buffer.log_probs,
    ] {
        give_up_excess(values);
    }
    buffer.clear();
    if !buffer.holds_memory() {
        return;
    }
    match to.try_send(buffer) {
        Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
    }
}

/// Gives up what a step of many rows needed and this one of fewer did not. A step without such rows
/// tells nothing of those after it.
fn give_up_excess(values: &mut Vec<f32>) {
    if !values.is_empty() && values.capacity() / 2 > values.len() {
        values.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(count: usize) -> OutputBuf {
        OutputBuf {
            logits: vec![1.0; count],
            ..OutputBuf::default()
        }
    }

    #[test]
    fn a_buffer_comes_back_empty_with_its_memory() {
        let (spares, back) = spares(1);
        let output = logits(1000);
        let place = output.logits.as_ptr();
        back.output(output);
        let FlightBuffers { output, hidden } = spares.take();
        assert_eq!((output.logits.as_ptr(), output.logits.len()), (place, 0));
        assert_eq!(hidden.hidden.capacity(), 0);
    }

    #[test]
    fn what_a_larger_step_needed_is_given_up() {
        let (spares, back) = spares(1);
        let capacity_after = |used: usize| {
            let mut output = logits(1000);
            output.logits.truncate(used);
            back.output(output);
            spares.take().output.logits.capacity()
        };
        assert_eq!(capacity_after(500), 1000);
        assert!(capacity_after(499) < 500);
        // A step of rows that want no logits, between others that do.
        assert_eq!(capacity_after(0), 1000);
    }

    #[test]
    fn no_more_is_kept_than_flights_use_and_nothing_when_it_is_freed() {
        let (spares, back) = spares(2);
        for _ in 0..9 {
            back.output(logits(1));
            back.hidden(logits(1));
        }
        assert_eq!(spares.outputs.try_iter().count(), 2);
        assert_eq!(spares.hidden.try_iter().count(), 4);
        back.output(logits(1));
        back.hidden(logits(1));
        spares.free();
        assert_eq!(spares.take().output.logits.capacity(), 0);
        assert_eq!(spares.take().hidden.logits.capacity(), 0);
    }
}
