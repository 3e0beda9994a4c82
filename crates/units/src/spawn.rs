use std::io;
use std::sync::mpsc::{SendError, sync_channel};
use std::thread::{Builder, JoinHandle};

/// What a thread does from its start to its end.
pub type ThreadBody = Box<dyn FnOnce() + Send>;

/// How threads are started. Code that needs a thread is handed one of these, so that a single owner
/// decides what each thread begins with: priorities, cores, a place in the status.
pub trait Spawn: Send + Sync {
    /// Starts a thread that runs `body`; `name` says what it does, as `driver` or `worker 3`. A
    /// name that was given before is that of a thread that takes over from the one before.
    ///
    /// # Errors
    /// When the system refuses a thread; then nothing of `body` has run.
    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<JoinHandle<()>>;

    /// The core that the calling thread runs on at this moment, where the system tells. Threads of
    /// one team that find themselves on the same core know that no other program wants it. Cheap:
    /// tens of nanoseconds.
    fn core(&self) -> Option<usize> {
        None
    }

    /// Keeps the calling thread off this core from here on, where there is another that it may run
    /// on, and no longer off the one before. Where the system cannot, nothing happens.
    fn keep_off(&self, core: usize) {
        let _ = core;
    }

    /// Whether two cores are hardware threads of one physical core, or the same core; `None` where
    /// the system does not know it, as in a virtual machine. As cheap as [`core`](Self::core).
    fn are_siblings(&self, cores: [usize; 2]) -> Option<bool> {
        let _ = cores;
        None
    }
}

/// Threads as the standard library starts them: with whatever the calling thread has.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainThreads;

impl Spawn for PlainThreads {
    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<JoinHandle<()>> {
        Builder::new().name(system_name(name)).spawn(body)
    }
}

/// A thread's name for the system, which may keep 15 bytes of it.
pub fn system_name(name: &str) -> String {
    format!("gogrid-{}", name.replace(' ', ""))
}

/// Starts a thread that goes on with `state` and is given its own handle, to pass on to the thread
/// that joins it.
///
/// # Errors
/// When the thread could not be started, with the state as it was.
pub fn hand_over<S: Send + 'static>(
    spawn: &dyn Spawn,
    name: &str,
    state: S,
    go_on: fn(S, JoinHandle<()>),
) -> Result<(), (S, io::Error)> {
    let (give, take) = sync_channel(1);
    let body = Box::new(move || {
        if let Ok((state, own)) = take.recv() {
            go_on(state, own);
        }
    });
    match spawn.spawn(name, body) {
        Err(error) => Err((state, error)),
        Ok(own) => give.send((state, own)).map_err(|SendError((state, _))| {
            let why = format!("the thread `{name}` ended at its start");
            (state, io::Error::other(why))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts nothing, or threads that end before they do anything.
    struct Fails(bool);

    impl Spawn for Fails {
        fn spawn(&self, _name: &str, body: ThreadBody) -> io::Result<JoinHandle<()>> {
            drop(body);
            match self.0 {
                true => Err(io::Error::other("no more threads")),
                false => PlainThreads.spawn("nothing", Box::new(|| {})),
            }
        }
    }

    #[test]
    fn state_goes_on_in_a_thread_that_knows_its_handle() {
        let (tell, told) = sync_channel(1);
        let state = (vec![1, 2], tell);
        hand_over(&PlainThreads, "worker 12", state, |(ids, tell), own| {
            let name = std::thread::current().name().map(str::to_owned);
            let _ = tell.send((ids, name, own));
        })
        .expect("a thread");
        let (ids, name, own) = told.recv().expect("it goes on");
        assert_eq!(
            (ids, name.as_deref()),
            (vec![1, 2], Some("gogrid-worker12"))
        );
        own.join().expect("it ends well");
    }

    #[test]
    fn state_comes_back_when_there_is_no_thread() {
        for (refused, why) in [(true, "no more threads"), (false, "ended at its start")] {
            let (state, error) = hand_over(&Fails(refused), "driver", "state", |_, _| {})
                .expect_err("nobody goes on");
            assert_eq!(state, "state");
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
