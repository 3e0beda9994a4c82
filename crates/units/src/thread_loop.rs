use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use crate::contain::contain;
use crate::spawn::{Spawn, hand_over};

/// Dropped when a renewal is done, by each thread that it reaches.
pub type Renewal = Arc<dyn Any + Send + Sync>;

/// A long-lived thread's work: it goes on until it is stopped, can be handed to a fresh thread (the
/// only way for an unprivileged thread to get a higher priority), and a panic of it is told.
pub trait ThreadLoop: Send + 'static {
    /// What the thread is called.
    const NAME: &'static str;

    /// What starts the thread, and those that take over from it.
    fn spawn(&self) -> Arc<dyn Spawn>;

    /// Works until it is told to end, or to go on in a fresh thread.
    fn run(&mut self) -> LoopEnd;

    /// Told on the thread when `run` panicked, before the state is dropped. What it must do comes
    /// before what may panic again, such as a word to an operator.
    fn failed(&mut self, problem: &str);
}

/// Why a loop's time on one thread ends.
pub enum LoopEnd {
    /// For good; answered with the thread, once its state is dropped.
    Stopped(SyncSender<JoinHandle<()>>),
    /// To go on in a fresh thread. Where none is to be had, the one before goes on.
    Renewed(Renewal),
}

/// A loop with the threads it runs on.
struct Seat<T> {
    state: T,
    /// The thread that ran it before this one, which ends or has ended. Joined when this one ends or
    /// is followed itself: waiting for it at once could take as long as its priority is low.
    before: Option<JoinHandle<()>>,
}

/// Starts a loop in a thread of its own.
///
/// # Errors
/// When the thread could not be started; the state is dropped.
pub fn start_loop<T: ThreadLoop>(state: T) -> io::Result<()> {
    let spawn = state.spawn();
    let seat = Seat {
        state,
        before: None,
    };
    hand_over(&*spawn, T::NAME, seat, Seat::run).map_err(|(_, error)| error)
}

impl<T: ThreadLoop> Seat<T> {
    fn run(mut self, mut own: JoinHandle<()>) {
        loop {
            match contain(|| self.state.run()) {
                Ok(LoopEnd::Renewed(renewal)) => match self.renew(own, renewal) {
                    Some(kept) => (self, own) = kept,
                    None => return,
                },
                Ok(LoopEnd::Stopped(answer)) => {
                    self.follow(None);
                    // The owner waits for the answer, whatever the state does as it goes.
                    let _ = contain(|| drop(self));
                    // Nobody may wait for it.
                    let _ = answer.try_send(own);
                    return;
                }
                Err(problem) => return self.fail(&problem),
            }
        }
    }

    /// Goes on in a fresh thread. Gives back what it took where there is none.
    fn renew(self, own: JoinHandle<()>, renewal: Renewal) -> Option<(Self, JoinHandle<()>)> {
        let spawn = self.state.spawn();
        let go_on = |(mut seat, before, renewal): (Self, _, Renewal), own| {
            let _ = contain(|| drop(renewal));
            seat.follow(Some(before));
            seat.run(own);
        };
        let (seat, own, _) = hand_over(&*spawn, T::NAME, (self, own, renewal), go_on)
            .err()?
            .0;
        Some((seat, own))
    }

    /// Tells of the panic that ended the loop, and drops the state: each on its own, since a panic of
    /// one must not keep the other from happening, and two at once end the process.
    fn fail(mut self, problem: &str) {
        let _ = contain(|| self.state.failed(problem));
        let _ = contain(|| drop(self));
    }

    /// Keeps the handle of the thread before, and joins the one before that.
    fn follow(&mut self, before: Option<JoinHandle<()>>) {
        if let Some(ended) = std::mem::replace(&mut self.before, before) {
            // A panic in it was told of on its own thread.
            let _ = ended.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
    use std::thread::{ThreadId, current};

    use super::*;
    use crate::spawn::PlainThreads;

    enum Order {
        Stop(SyncSender<JoinHandle<()>>),
        Renew(Renewal),
        Panic,
    }

    /// Tells which thread it runs on, and what it panicked with.
    struct Obeys {
        orders: Receiver<Order>,
        news: Sender<Result<ThreadId, String>>,
    }

    impl ThreadLoop for Obeys {
        const NAME: &'static str = "obeys";

        fn spawn(&self) -> Arc<dyn Spawn> {
            Arc::new(PlainThreads)
        }

        fn run(&mut self) -> LoopEnd {
            let _ = self.news.send(Ok(current().id()));
            match self.orders.recv() {
                Ok(Order::Stop(answer)) => LoopEnd::Stopped(answer),
                Ok(Order::Renew(renewal)) => LoopEnd::Renewed(renewal),
                Ok(Order::Panic) | Err(_) => panic!("as it was told"),
            }
        }

        fn failed(&mut self, problem: &str) {
            let _ = self.news.send(Err(problem.to_owned()));
        }
    }

    fn started() -> (Sender<Order>, Receiver<Result<ThreadId, String>>) {
        let ((order, orders), (news, heard)) = (channel(), channel());
        start_loop(Obeys { orders, news }).expect("a thread");
        (order, heard)
    }

    #[test]
    fn a_loop_goes_on_in_a_fresh_thread_and_ends_when_it_is_stopped() {
        let (order, heard) = started();
        let first = heard.recv().unwrap();
        let (done, is_done) = channel::<()>();
        order.send(Order::Renew(Arc::new(done))).unwrap();
        assert_ne!(heard.recv().unwrap(), first);
        assert!(is_done.recv().is_err(), "the renewal is over");
        let (answer, ended) = sync_channel(1);
        order.send(Order::Stop(answer)).unwrap();
        ended.recv().unwrap().join().unwrap();
        assert!(heard.recv().is_err(), "its state is dropped");
    }

    /// Panics in all it does, and tells that it was dropped.
    struct Fails(Sender<()>);

    impl ThreadLoop for Fails {
        const NAME: &'static str = "fails";

        fn spawn(&self) -> Arc<dyn Spawn> {
            Arc::new(PlainThreads)
        }

        fn run(&mut self) -> LoopEnd {
            panic!("in its work")
        }

        fn failed(&mut self, _problem: &str) {
            panic!("while it tells")
        }
    }

    impl Drop for Fails {
        fn drop(&mut self) {
            let _ = self.0.send(());
            panic!("as it is dropped");
        }
    }

    #[test]
    fn a_loop_that_panics_at_every_turn_is_dropped_once_and_ends_no_process() {
        let (dropped, heard) = channel();
        start_loop(Fails(dropped)).expect("a thread");
        assert_eq!(heard.iter().count(), 1);
    }

    #[test]
    fn a_panic_is_told_with_its_text_before_the_state_is_dropped() {
        let (order, heard) = started();
        heard.recv().unwrap().unwrap();
        order.send(Order::Panic).unwrap();
        assert_eq!(heard.recv().unwrap(), Err("as it was told".to_owned()));
        assert!(heard.recv().is_err());
    }
}
