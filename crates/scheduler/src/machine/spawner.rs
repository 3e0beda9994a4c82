//! The thread that starts every other thread of a machine, and the list of them.
//!
//! It is started on the caller's thread, keeps the priorities it finds there, and sleeps until a
//! thread is to be started or the priorities change. A program that may not raise a thread again, as
//! Linux lets nobody without privilege, so has one thread that never fell, and fresh threads begin
//! where it stands. It alone changes the priorities of listed threads and fills in what came of it:
//! what is asked of all of them is asked of one after the other, and no lock is held at a low priority
//! for longer than it takes to enter or leave the list.

use std::cell::Cell;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{Builder, JoinHandle};

use gogrid_host::{
    CoreSet, Priority, Restraints, ThreadId, current_thread, pin_thread, restrain, restrain_thread,
};
use gogrid_units::{ThreadBody, contain, system_name};

use crate::limits::SPAWNS_MAX;
use crate::log;
use crate::status::ThreadStatus;

/// A thread to be started.
pub(crate) struct Birth {
    /// What the status calls it; the thread that takes over from another has its name.
    pub(crate) name: String,
    /// What the system calls it, for short.
    pub(crate) short_name: String,
    /// The cores it is kept to.
    pub(crate) cores: Option<CoreSet>,
    /// Why it keeps the priorities that the process had, where it does.
    pub(crate) excepted: Option<&'static str>,
    pub(crate) body: ThreadBody,
}

/// The asking end of a spawner. Dropping it ends the thread, and no other.
#[derive(Debug)]
pub(crate) struct Spawner {
    requests: SyncSender<Request>,
    roster: Arc<Roster>,
    thread: Option<JoinHandle<()>>,
}

enum Request {
    Start(Birth, SyncSender<io::Result<JoinHandle<()>>>),
    /// Answered with whether all listed threads have this priority.
    Restrain(Priority, SyncSender<bool>),
    Stop,
    /// A fault, for tests.
    #[cfg(test)]
    Panic,
}

impl Spawner {
    /// Starts it with what the calling thread has. Threads begin with `priority`.
    pub(crate) fn start(priority: Priority) -> io::Result<Self> {
        let (requests, asked) = sync_channel(SPAWNS_MAX);
        let roster = Arc::new(Roster::default());
        let its = Arc::clone(&roster);
        let thread = Builder::new().name(system_name("spawner")).spawn(move || {
            let roster = Arc::clone(&its);
            if let Err(problem) = contain(|| run(&asked, &its, priority)) {
                roster.note_end(&problem);
            }
        })?;
        Ok(Self {
            requests,
            roster,
            thread: Some(thread),
        })
    }

    /// Starts a thread, and returns once it has its priorities and cores and is listed with them.
    pub(crate) fn spawn(&self, birth: Birth) -> io::Result<JoinHandle<()>> {
        let ended = || io::Error::other("the thread that starts others has ended");
        let (answer, started) = sync_channel(1);
        let request = Request::Start(birth, answer);
        self.requests.send(request).map_err(|_| ended())?;
        started.recv().unwrap_or_else(|_| Err(ended()))
    }

    /// For a thread that a library starts: called first thing on it, gives it this priority and
    /// lists it under this name until it ends.
    pub(crate) fn adoption(
        &self,
        name: &str,
        priority: Priority,
    ) -> impl FnOnce() + Send + 'static {
        let (roster, name) = (Arc::clone(&self.roster), name.to_owned());
        move || {
            let place = roster.enter(name, None);
            roster.fill_in(place.id, Some(&restrain_thread(priority)), None);
            ADOPTED.set(Some(place));
        }
    }

    /// Gives every listed thread this priority, and every thread started from here on. False where
    /// some thread could not be given it.
    pub(crate) fn restrain(&self, priority: Priority) -> bool {
        let (answer, restrained) = sync_channel(1);
        let told = self.requests.send(Request::Restrain(priority, answer));
        // A spawner that ended by a panic changes nothing.
        told.is_ok() && restrained.recv().unwrap_or(false)
    }

    /// Every thread that lives, this one first.
    pub(crate) fn statuses(&self) -> Vec<ThreadStatus> {
        let own = ThreadStatus {
            name: "spawner".to_owned(),
            nice: None,
            io: None,
            problems: self.roster.end().into_iter().collect(),
            excepted: Some("sleeps, and keeps the priorities that the process had".to_owned()),
        };
        let listed = self.roster.lock();
        let others = listed.iter().map(|listed| listed.status.clone());
        [own].into_iter().chain(others).collect()
    }
}

#[cfg(test)]
impl Spawner {
    pub(crate) fn count(&self) -> impl Fn() -> usize + Send + 'static {
        let roster = Arc::clone(&self.roster);
        move || roster.lock().len()
    }

    /// Kills the thread.
    pub(crate) fn kill(&self) {
        let _ = self.requests.send(Request::Panic);
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        let _ = self.requests.send(Request::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported on its own thread.
            let _ = thread.join();
        }
    }
}

fn run(requests: &Receiver<Request>, roster: &Arc<Roster>, mut priority: Priority) {
    while let Ok(request) = requests.recv() {
        match request {
            Request::Start(birth, answer) => {
                // The caller waits for the answer.
                let _ = answer.send(start(birth, priority, roster));
            }
            Request::Restrain(asked, answer) => {
                priority = asked;
                let _ = answer.send(roster.restrain(priority));
            }
            Request::Stop => return,
            #[cfg(test)]
            Request::Panic => panic!("as a test asked"),
        }
    }
}

/// Starts a thread, which lists itself before it falls to `priority`, unless it is excepted, and waits until it
/// has.
fn start(birth: Birth, priority: Priority, roster: &Arc<Roster>) -> io::Result<JoinHandle<()>> {
    let Birth {
        name,
        short_name,
        cores,
        excepted,
        body,
    } = birth;
    let (tell, told) = sync_channel(1);
    let (its_roster, its_name) = (Arc::clone(roster), name.clone());
    let spawned = Builder::new()
        .name(system_name(&short_name))
        .spawn(move || {
            let listed = its_roster.enter(its_name, excepted);
            let pinned = cores.and_then(|cores| pin_thread(&cores).problem);
            let held = excepted.is_none().then(|| restrain_thread(priority));
            let _ = tell.send((listed.id, held, pinned));
            body();
        });
    let handle = spawned.inspect_err(|error| roster.keeps_the_one_before(&name, error))?;
    let (id, held, pinned) = told
        .recv()
        .map_err(|_| io::Error::other(format!("the thread {name} ended at its start")))?;
    roster.fill_in(id, held.as_ref(), pinned);
    Ok(handle)
}

thread_local! {
    /// The place of a thread that was not started here; left when it ends.
    static ADOPTED: Cell<Option<Place>> = const { Cell::new(None) };
}

/// The threads that live.
#[derive(Debug, Default)]
struct Roster {
    listed: Mutex<Vec<Listed>>,
    /// Why the thread that starts the others has ended.
    end: OnceLock<String>,
}

#[derive(Debug)]
struct Listed {
    id: ThreadId,
    status: ThreadStatus,
    /// Why it is not kept to its cores.
    pinned: Option<String>,
}

/// A thread's place in the list, which it leaves before its id can be another's.
struct Place {
    roster: Arc<Roster>,
    id: ThreadId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.roster.lock().retain(|listed| listed.id != self.id);
    }
}

impl Roster {
    fn note_end(&self, problem: &str) {
        let told = format!("it has ended, and no thread can be started: {problem}");
        // It ends once.
        let _ = self.end.set(told);
        log::error(&format_args!("the thread `spawner` has ended: {problem}"));
    }

    fn end(&self) -> Option<String> {
        self.end.get().cloned()
    }

    /// Lists the calling thread, in the place of the one it takes over from; with the reason why it keeps its
    /// priorities, where it does.
    fn enter(self: &Arc<Self>, name: String, excepted: Option<&str>) -> Place {
        let id = current_thread();
        let status = ThreadStatus {
            name,
            nice: None,
            io: None,
            problems: vec![],
            excepted: excepted.map(str::to_owned),
        };
        let fresh = Listed {
            id,
            status,
            pinned: None,
        };
        let mut all = self.lock();
        let before = all
            .iter_mut()
            .find(|listed| listed.status.name == fresh.status.name);
        match before {
            Some(before) => *before = fresh,
            None => all.push(fresh),
        }
        let roster = Arc::clone(self);
        Place { roster, id }
    }

    /// Writes down what a thread began with, if it lives still; no priority, where it is excepted.
    fn fill_in(&self, id: ThreadId, held: Option<&Restraints>, pinned: Option<String>) {
        let mut all = self.lock();
        if let Some(listed) = all.iter_mut().find(|listed| listed.id == id) {
            listed.status.problems.extend(pinned.clone());
            listed.pinned = pinned;
            if let Some(held) = held {
                listed.hold(held);
            }
        }
    }

    /// Gives all of them this priority but those that are excepted; false where some thread does not have it.
    /// The list is locked meanwhile, so that nobody leaves and an id stays its thread's.
    fn restrain(&self, priority: Priority) -> bool {
        let mut all = self.lock();
        let held = all
            .iter_mut()
            .filter(|listed| listed.status.excepted.is_none())
            .map(|listed| listed.hold(&restrain(listed.id, priority)));
        held.fold(true, |all_hold, holds| all_hold & holds)
    }

    /// Notes that the thread of this name goes on, since the one that should take over from it
    /// could not be started.
    fn keeps_the_one_before(&self, name: &str, error: &io::Error) {
        let mut all = self.lock();
        if let Some(listed) = all.iter_mut().find(|listed| listed.status.name == name) {
            let problem = format!("a thread in its place could not be started: {error}");
            listed.status.problems.push(problem);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Listed>> {
        // Every write leaves it sound.
        self.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed {
    /// Writes down what became of a priority, and says whether all of it holds.
    fn hold(&mut self, held: &Restraints) -> bool {
        let Restraints { nice, io, system } = held;
        let system = system.iter().filter_map(|one| {
            let problem = one.restraint.problem.as_ref()?;
            Some(format!("{}: {problem}", one.name))
        });
        let of_priority = [&nice.problem, &io.problem].into_iter().flatten().cloned();
        let mut problems: Vec<String> = of_priority.chain(system).collect();
        let holds = problems.is_empty();
        problems.extend(self.pinned.clone());
        self.status.nice = nice.in_effect;
        self.status.io = io.in_effect.map(|io| (io.class, io.level));
        self.status.problems = problems;
        holds
    }
}
