//! Answers that stream: frames in each protocol's shape, and signs of life while there is nothing
//! else to tell.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::answer::{Answer, Piece, Standing, begin};
use crate::ask::Ask;
use crate::error::{ApiError, reason_code};
use crate::limits::{COMMENT_EVERY, EVENTS_WAITING_MAX, HEADERS_WITHIN, HEARTBEAT_EVERY};
use crate::shared::{Shared, now};

/// How a protocol writes a stream. Its frames go out in the order they are given.
pub(crate) trait Shape: Send + 'static {
    /// Before anything else. The tokens of the prompt are known unless the model is still being opened.
    fn begin(&mut self, _prompt_tokens: Option<usize>, _frames: &mut Frames) {}

    /// A piece of a choice.
    fn piece(&mut self, choice: usize, piece: Piece, frames: &mut Frames);

    /// How the request stands, for a client that asked to be told by data.
    fn standing(&mut self, _standing: &Standing, _frames: &mut Frames) {}

    /// Data that says nothing, for clients that take comments for silence.
    fn heartbeat(&mut self, frames: &mut Frames);

    /// Something went wrong; nothing follows.
    fn error(&mut self, error: &ApiError, frames: &mut Frames);

    /// After the end of every choice.
    fn end(&mut self, frames: &mut Frames);

    /// Whether comments may stand between its frames.
    fn has_comments(&self) -> bool {
        true
    }

    fn content_type(&self) -> &'static str {
        "text/event-stream"
    }
}

/// Bytes on their way to a client.
#[derive(Debug, Default)]
pub(crate) struct Frames(Vec<u8>);

impl Frames {
    /// An event that is data alone.
    pub(crate) fn data(&mut self, value: &Value) {
        self.text(&value.to_string());
    }

    /// The same of a text that is no JSON, such as `[DONE]`.
    pub(crate) fn text(&mut self, text: &str) {
        self.0.extend_from_slice(b"data: ");
        self.0.extend_from_slice(text.as_bytes());
        self.0.extend_from_slice(b"\n\n");
    }

    /// An event with a name.
    pub(crate) fn event(&mut self, name: &str, value: &Value) {
        self.0
            .extend_from_slice(format!("event: {name}\n").as_bytes());
        self.data(value);
    }

    /// A line of its own.
    pub(crate) fn line(&mut self, value: &Value) {
        self.0.extend_from_slice(value.to_string().as_bytes());
        self.0.push(b'\n');
    }

    /// A comment, which no client takes for an event.
    fn comment(&mut self, standing: &Standing, since: Duration) {
        let text = match standing {
            Standing::Opening => "opening the model".to_owned(),
            Standing::Queued { position } => format!("queued position={position}"),
            Standing::Paused { reason, left } => {
                let left = left.map_or_else(String::new, |left| {
                    format!(" left_s={}", left.saturating_sub(since).as_secs())
                });
                format!("paused reason={}{left}", reason_code(reason))
            }
            Standing::Runs => "runs".to_owned(),
        };
        self.0
            .extend_from_slice(format!(": gogrid {text}\n\n").as_bytes());
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

type Starting = Pin<Box<dyn Future<Output = Result<Answer, ApiError>> + Send>>;

/// Answers a request by a stream. What is refused soon has a status of its own; what takes longer to be
/// admitted, since its model is being opened, has its stream begin before.
pub(crate) async fn respond(
    shared: &Arc<Shared>,
    ask: Ask,
    shape: impl Shape,
) -> Result<Response, ApiError> {
    let mut starting: Starting = Box::pin(begin(Arc::clone(shared), ask));
    let under_way = match timeout(HEADERS_WITHIN, &mut starting).await {
        Ok(answer) => UnderWay::Begun(Box::new(answer?)),
        Err(_) => UnderWay::Starting(starting),
    };
    let (frames, receiver) = mpsc::channel(EVENTS_WAITING_MAX);
    let headers = [
        (CONTENT_TYPE, shape.content_type()),
        (CACHE_CONTROL, "no-cache"),
    ];
    // Proxies that would wait for more are told not to.
    let unbuffered = [("x-accel-buffering", "no")];
    let telling = Telling::new(shape, frames, Arc::clone(shared));
    tokio::spawn(telling.run(under_way));
    let body = unfold(receiver, |mut receiver| async {
        let bytes: Vec<u8> = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), receiver))
    });
    Ok((headers, unbuffered, Body::from_stream(body)).into_response())
}

enum UnderWay {
    Starting(Starting),
    Begun(Box<Answer>),
}

/// A client went away, or takes nothing.
struct Gone;

/// Tells one client.
struct Telling<S> {
    shape: S,
    frames: Frames,
    out: mpsc::Sender<Vec<u8>>,
    shared: Arc<Shared>,
    standing: Standing,
    /// When that was told.
    stands_since: Instant,
    has_begun: bool,
    /// When something went out last, and when data did.
    told: Instant,
    told_data: Instant,
}

impl<S: Shape> Telling<S> {
    fn new(shape: S, out: mpsc::Sender<Vec<u8>>, shared: Arc<Shared>) -> Self {
        let now = Instant::from_std(now());
        Self {
            shape,
            frames: Frames::default(),
            out,
            shared,
            standing: Standing::Opening,
            stands_since: now,
            has_begun: false,
            told: now,
            told_data: now,
        }
    }

    /// Until the end, or until the client is gone: then what it asked for is dropped.
    async fn run(mut self, under_way: UnderWay) {
        let answer = match under_way {
            UnderWay::Begun(answer) => Ok(*answer),
            UnderWay::Starting(starting) => match self.while_waiting(starting).await {
                Ok(started) => started,
                Err(Gone) => return,
            },
        };
        let told = match answer {
            Ok(answer) => {
                self.begin(Some(answer.prompt_tokens()));
                self.tell(answer).await
            }
            Err(error) => Ok(Err(error)),
        };
        match told {
            Err(Gone) => return,
            Ok(Ok(())) => self.shape.end(&mut self.frames),
            Ok(Err(error)) => self.shape.error(&error, &mut self.frames),
        }
        // The last there is to say; a client that is gone misses it.
        let _ = self.flush_data().await;
    }

    /// Begins unless it has.
    fn begin(&mut self, prompt_tokens: Option<usize>) {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.shape.begin(prompt_tokens, &mut self.frames);
        }
    }

    async fn tell(&mut self, mut answer: Answer) -> Result<Result<(), ApiError>, Gone> {
        self.standing = Standing::Runs;
        self.flush_data().await?;
        loop {
            let next = self.while_waiting(answer.next()).await?;
            let (choice, piece) = match next {
                None => return Ok(Ok(())),
                Some((_, Err(error))) => return Ok(Err(error)),
                Some((choice, Ok(piece))) => (choice, piece),
            };
            if let Piece::Standing(standing) = piece {
                self.shape.standing(&standing, &mut self.frames);
                self.flush_data().await?;
                let is_told = matches!(standing, Standing::Paused { .. });
                self.standing = standing;
                self.stands_since = Instant::from_std(now());
                if is_told && self.shape.has_comments() {
                    self.comment().await?;
                }
                continue;
            }
            self.shape.piece(choice, piece, &mut self.frames);
            self.flush_data().await?;
        }
    }

    /// Waits for `future`, with signs of life.
    async fn while_waiting<T>(&mut self, future: impl Future<Output = T>) -> Result<T, Gone>
    where
        T: FromDrain,
    {
        let mut future = std::pin::pin!(future);
        let shared = Arc::clone(&self.shared);
        let mut over = std::pin::pin!(shared.drain.over());
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                output = &mut future => return Ok(output),
                () = self.out.closed() => return Err(Gone),
                () = &mut over => return Ok(T::draining()),
                () = sleep_until(due) => self.sign_of_life().await?,
            }
        }
    }

    fn due(&self) -> Instant {
        let data = self.told_data + HEARTBEAT_EVERY;
        match self.shape.has_comments() {
            true => data.min(self.told + COMMENT_EVERY),
            false => data,
        }
    }

    async fn sign_of_life(&mut self) -> Result<(), Gone> {
        let quiet: Duration = self.told_data.elapsed();
        if quiet >= HEARTBEAT_EVERY {
            self.begin(None);
            self.shape.heartbeat(&mut self.frames);
            // Even where the shape has nothing to say, the next is due after as long again.
            self.told_data = Instant::from_std(now());
            return self.flush_data().await;
        }
        self.comment().await
    }

    async fn comment(&mut self) -> Result<(), Gone> {
        let since = self.stands_since.elapsed();
        self.frames.comment(&self.standing, since);
        self.flush().await
    }

    async fn flush_data(&mut self) -> Result<(), Gone> {
        if self.frames.0.is_empty() {
            return Ok(());
        }
        self.told_data = Instant::from_std(now());
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Gone> {
        self.told = Instant::from_std(now());
        let frames = self.frames.take();
        self.out.send(frames).await.map_err(|_| Gone)
    }
}

/// What a wait comes to when the server ends meanwhile.
trait FromDrain {
    fn draining() -> Self;
}

impl FromDrain for Result<Answer, ApiError> {
    fn draining() -> Self {
        Err(ApiError::draining())
    }
}

impl FromDrain for Option<(usize, Result<Piece, ApiError>)> {
    fn draining() -> Self {
        Some((0, Err(ApiError::draining())))
    }
}
