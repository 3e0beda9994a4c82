use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use corpgrid_scheduler::{
    Constraint, HeterogeneousPipeline, Machine, MachineStatus, ModelStatus, OpenError,
    ResourceStats,
};
use gogrid_grammar::{GrammarError, Grammars};
use tokio::sync::watch;

use crate::ask::Form;
use crate::error::ApiError;
use crate::limits::{MODELS_OPEN_MAX, SHELF_EVERY};
use crate::shared::now;

/// Where models come from: the catalogue and the folders of the program that serves.
pub trait Shelf: Send + Sync + 'static {
    /// The models that there are, in order.
    fn models(&self) -> Vec<ModelCard>;

    /// Opens a model on the machine; called on a thread that may wait. `context` is for a model that is
    /// asked for with another one than it has.
    ///
    /// # Errors
    /// A model that is not there, and all that keeps one from being opened.
    fn open(&self, name: &str, machine: &Arc<Machine>) -> Result<HeterogeneousPipeline, NotOpened>;
}

/// A model as a list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// What clients call it.
    pub name: String,
    /// Bytes of its file.
    pub bytes: u64,
    /// Seconds since 1970 when its file came here; 0 where it has not.
    pub created: u64,
    /// Whether its file is here; others are fetched when they are asked for.
    pub is_here: bool,
    /// Its licence, where that is known.
    pub licence: Option<String>,
}

/// Why a model was not opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotOpened {
    /// There is no such model.
    #[error("there is no model {name:?}")]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The library refused.
    #[error(transparent)]
    Open(Arc<OpenError>),
    /// Its file is not on this machine.
    #[error("{0} is not on this machine; `gogrid pull {0}` fetches it")]
    NotHere(String),
    /// As many models are open as may be, and each is in use.
    #[error("{0} models are open and in use")]
    Full(usize),
    /// Its file could not be had.
    #[error("{0}")]
    Other(String),
}

/// The models that are open, and those on their way.
pub(crate) struct Models {
    shelf: Arc<dyn Shelf>,
    machine: Arc<Machine>,
    keep_alive: Option<Duration>,
    /// A lock held for a look or a change of the table, never while a model opens or ends.
    open: Mutex<BTreeMap<String, Slot>>,
    /// What the starts of models came to that have closed since.
    closed: Mutex<ResourceStats>,
    /// What the shelf had, and when. A lock, held for a copy.
    seen: Mutex<Option<(Instant, Vec<ModelCard>)>>,
    /// One model at a time is opened or closed.
    doors: tokio::sync::Mutex<()>,
}

/// A model's place.
enum Slot {
    Opening(watch::Receiver<Option<Result<(), NotOpened>>>),
    Open(Arc<OpenModel>),
}

/// A model that is open.
pub(crate) struct OpenModel {
    pub(crate) name: String,
    pub(crate) pipeline: HeterogeneousPipeline,
    /// Made when the first conversation comes.
    control_tokens: OnceLock<Vec<(u32, String)>>,
    /// Made when the first constraint is asked for.
    grammars: OnceLock<Result<Grammars, GrammarError>>,
    use_: Mutex<Use>,
}

/// How it is used.
struct Use {
    lent: usize,
    last: Instant,
    keep_alive: Option<Duration>,
}

/// An open model that a request uses. It is not closed until this is dropped.
pub(crate) struct Lent(Arc<OpenModel>);

impl std::ops::Deref for Lent {
    type Target = OpenModel;

    fn deref(&self) -> &OpenModel {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut used = locked(&self.0.use_);
        used.lent -= 1;
        used.last = now();
    }
}

impl Lent {
    /// The same for another owner.
    pub(crate) fn again(&self) -> Self {
        self.0.lend()
    }
}

impl OpenModel {
    /// The control tokens of its vocabulary, each with its name.
    pub(crate) fn control_tokens(&self) -> &[(u32, String)] {
        self.control_tokens.get_or_init(|| {
            let tokenizer = self.pipeline.model().tokenizer();
            // A vocabulary fits 32 bits.
            let all = 0..tokenizer.vocab() as u32;
            all.filter_map(|id| Some((id, tokenizer.name(id)?.to_owned())))
                .collect()
        })
    }

    /// What holds answers to a form. Compiles it, on the calling thread.
    pub(crate) fn constraint(&self, form: &Form) -> Result<Constraint, ApiError> {
        let tokenizer = self.pipeline.model().tokenizer();
        let grammars = self.grammars.get_or_init(|| Grammars::new(tokenizer));
        let grammars = grammars.as_ref().map_err(|error| form_error(form, error))?;
        grammars
            .compile(&form.spec)
            .map_err(|error| form_error(form, &error))
    }

    /// Requests that use it.
    pub(crate) fn lent(&self) -> usize {
        locked(&self.use_).lent
    }

    /// The time after which it closes if nobody asks.
    pub(crate) fn closes_in(&self) -> Option<Duration> {
        let used = locked(&self.use_);
        let keep = used.keep_alive?;
        Some(match used.lent {
            0 => keep.saturating_sub(used.last.elapsed()),
            _ => keep,
        })
    }

    /// Has it stay open for so long after its last request; `None` for ever.
    pub(crate) fn keep_alive(&self, keep_alive: Option<Duration>) {
        locked(&self.use_).keep_alive = keep_alive;
    }

    fn is_idle(&self) -> bool {
        self.lent() == 0
    }

    fn lend(self: &Arc<Self>) -> Lent {
        let mut used = locked(&self.use_);
        used.lent += 1;
        used.last = now();
        Lent(Arc::clone(self))
    }
}

impl Models {
    pub(crate) fn new(
        shelf: Arc<dyn Shelf>,
        machine: Arc<Machine>,
        keep_alive: Option<Duration>,
    ) -> Self {
        Self {
            shelf,
            machine,
            keep_alive,
            open: Mutex::new(BTreeMap::new()),
            closed: Mutex::new(ResourceStats::default()),
            seen: Mutex::new(None),
            doors: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// What the machine holds and does, with the counts of models that are closed among the others'.
    pub(crate) async fn status(&self) -> MachineStatus {
        let mut status = self.machine.status().await;
        status.models.push(ModelStatus {
            model: "closed".to_owned(),
            stats: *locked(&self.closed),
            ..ModelStatus::default()
        });
        status
    }

    /// Whether there is a model of this name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.shelved().iter().any(|card| card.name == name)
    }

    /// What the shelf has, as it was a moment ago at most: a folder is not read for every request.
    fn shelved(&self) -> Vec<ModelCard> {
        let seen = locked(&self.seen).clone();
        if let Some((at, cards)) = seen
            && at.elapsed() < SHELF_EVERY
        {
            return cards;
        }
        let cards = self.shelf.models();
        *locked(&self.seen) = Some((now(), cards.clone()));
        cards
    }

    /// All there are, each with whether it is open.
    pub(crate) fn cards(&self) -> Vec<(ModelCard, bool)> {
        let cards = self.shelved();
        let open = locked(&self.open);
        let is_open = |card: &ModelCard| matches!(open.get(&card.name), Some(Slot::Open(_)));
        cards
            .into_iter()
            .map(|card| {
                let is_open = is_open(&card);
                (card, is_open)
            })
            .collect()
    }

    /// Tokens that a sequence of this model may have, where it is open.
    pub(crate) fn context(&self, name: &str) -> Option<usize> {
        match locked(&self.open).get(name) {
            Some(Slot::Open(model)) => Some(model.pipeline.model().decoder().context),
            _ => None,
        }
    }

    /// Those that are open, in order of their names.
    pub(crate) fn opened(&self) -> Vec<Arc<OpenModel>> {
        let open = locked(&self.open);
        let opened = open.values().filter_map(|slot| match slot {
            Slot::Open(model) => Some(Arc::clone(model)),
            Slot::Opening(_) => None,
        });
        opened.collect()
    }

    /// The model of this name, opened if it is not. A caller that goes away leaves it opening.
    pub(crate) async fn lend(self: &Arc<Self>, name: &str) -> Result<Lent, NotOpened> {
        loop {
            let mut opening = match self.lend_now(name) {
                Found::Open(lent) => return Ok(lent),
                Found::Opening(opening) => opening,
                Found::Not(problem) => return Err(problem),
            };
            let opened = opening.wait_for(Option::is_some).await;
            match opened.map(|result| result.clone()) {
                // It may have closed again: then this opens it once more.
                Ok(Some(Ok(())) | None) => {}
                Ok(Some(Err(problem))) => return Err(problem),
                Err(_) => return Err(NotOpened::Other(format!("opening {name} broke off"))),
            }
        }
    }

    fn lend_now(self: &Arc<Self>, name: &str) -> Found {
        let mut open = locked(&self.open);
        match open.get(name) {
            Some(Slot::Open(model)) => Found::Open(model.lend()),
            Some(Slot::Opening(opening)) => Found::Opening(opening.clone()),
            None if !self.knows(name) => Found::Not(NotOpened::Unknown {
                name: name.to_owned(),
                known: self.shelved().into_iter().map(|card| card.name).collect(),
            }),
            None => {
                let (done, opening) = watch::channel(None);
                open.insert(name.to_owned(), Slot::Opening(opening.clone()));
                let (models, name) = (Arc::clone(self), name.to_owned());
                tokio::spawn(async move {
                    let opened = models.open(&name).await;
                    done.send_replace(Some(opened));
                });
                Found::Opening(opening)
            }
        }
    }

    /// Opens a model, for which others that are idle make room.
    async fn open(self: &Arc<Self>, name: &str) -> Result<(), NotOpened> {
        let _doors = self.doors.lock().await;
        let opened = loop {
            let is_full = self.opened().len() >= MODELS_OPEN_MAX;
            let full = || NotOpened::Full(MODELS_OPEN_MAX);
            let opened = match is_full {
                true => Err(full()),
                false => self.open_once(name).await,
            };
            let wants_room = match &opened {
                Err(NotOpened::Open(problem)) => matches!(**problem, OpenError::DoesNotFit(_)),
                _ => is_full,
            };
            if !(wants_room && self.close_oldest().await) {
                break opened;
            }
        };
        let mut open = locked(&self.open);
        match opened {
            Ok(pipeline) => {
                let model = OpenModel {
                    name: name.to_owned(),
                    pipeline,
                    control_tokens: OnceLock::new(),
                    grammars: OnceLock::new(),
                    use_: Mutex::new(Use {
                        lent: 0,
                        last: now(),
                        keep_alive: self.keep_alive,
                    }),
                };
                open.insert(name.to_owned(), Slot::Open(Arc::new(model)));
                Ok(())
            }
            Err(problem) => {
                open.remove(name);
                Err(problem)
            }
        }
    }

    async fn open_once(&self, name: &str) -> Result<HeterogeneousPipeline, NotOpened> {
        let (shelf, machine) = (Arc::clone(&self.shelf), Arc::clone(&self.machine));
        let named = name.to_owned();
        let opened = tokio::task::spawn_blocking(move || shelf.open(&named, &machine)).await;
        opened.unwrap_or_else(|panic| Err(NotOpened::Other(format!("opening {name}: {panic}"))))
    }

    /// Closes the idle model that was used longest ago; says whether there was one.
    async fn close_oldest(&self) -> bool {
        let idle = self.opened().into_iter().filter(|model| model.is_idle());
        let oldest = idle.min_by_key(|model| locked(&model.use_).last);
        match oldest {
            Some(model) => self.close(model).await,
            None => false,
        }
    }

    /// Closes a model unless somebody uses it by now; says whether it did. Its doors are held meanwhile.
    async fn close(&self, model: Arc<OpenModel>) -> bool {
        let stats = model.pipeline.get_resource_stats().await;
        let taken = {
            let mut open = locked(&self.open);
            // Another may stand under the name since.
            let stands =
                matches!(open.get(&model.name), Some(Slot::Open(one)) if Arc::ptr_eq(one, &model));
            match stands && model.is_idle() {
                true => open.remove(&model.name),
                false => None,
            }
        };
        let closed = taken.is_some();
        if closed {
            let mut sum = locked(&self.closed);
            *sum = sum.and(&stats);
        }
        // Ends its threads, which takes a moment.
        let _ = tokio::task::spawn_blocking(move || drop((taken, model))).await;
        closed
    }

    /// Closes the models that have been idle for long enough.
    pub(crate) async fn close_idle(&self) {
        for model in self.opened() {
            let is_due = model.is_idle() && model.closes_in().is_some_and(|left| left.is_zero());
            if is_due {
                let _doors = self.doors.lock().await;
                self.close(model).await;
            }
        }
    }

    /// Closes a model as soon as nobody uses it.
    pub(crate) fn close_soon(&self, name: &str) {
        let open = locked(&self.open);
        if let Some(Slot::Open(model)) = open.get(name) {
            model.keep_alive(Some(Duration::ZERO));
        }
    }
}

/// A form that cannot be held is refused: an answer without it would be taken for one with it.
fn form_error(form: &Form, error: &GrammarError) -> ApiError {
    ApiError::bad(form.field, error.to_string())
}

/// What there was of a model.
enum Found {
    Open(Lent),
    Not(NotOpened),
    Opening(watch::Receiver<Option<Result<(), NotOpened>>>),
}

/// Every change of what these locks guard leaves it sound.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}
