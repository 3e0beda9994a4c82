//! The door: connections are accepted within bounds, and none of them waits for another.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use corpgrid_scheduler::Machine;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep, interval, sleep, sleep_until, timeout};

use crate::board;
use crate::error::ServeError;
use crate::keys::Keys;
use crate::limits::{
    CONNECTIONS_MAX, HEADER_BYTES_MAX, HEADER_TIMEOUT, IDLE_LOOK_EVERY, WRITE_TIMEOUT,
};
use crate::models::{Models, Shelf};
use crate::options::ServeOptions;
use crate::routes;
use crate::shared::Shared;

/// Threads that speak HTTP: parsing and writing take microseconds, tokenising has threads of its own. A second
/// would be woken with the first by every token, and take its time from the threads that compute.
const THREADS: usize = 1;

/// How long requests that were told to end have to write their last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// A server that runs. Dropping it ends it without a farewell; [`end`](Self::end) says it.
pub struct Serving {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    accepting: Option<JoinHandle<()>>,
    runtime: Option<Runtime>,
}

/// Refuses an address that others than this machine reach, where no key is asked for.
pub fn check_address(address: SocketAddr, keys: Option<&Keys>) -> Result<(), ServeError> {
    match address.ip().is_loopback() || keys.is_some() {
        true => Ok(()),
        false => Err(ServeError::Open(address)),
    }
}

/// Listens, and answers from then on.
///
/// # Errors
/// An address that cannot be listened on, or that others reach and for which no key is asked.
pub fn serve(
    options: ServeOptions,
    machine: Arc<Machine>,
    shelf: Arc<dyn Shelf>,
) -> Result<Serving, ServeError> {
    let address = options.address;
    check_address(address, options.keys.as_ref())?;
    let mut builder = Builder::new_multi_thread();
    let builder = builder.worker_threads(THREADS).thread_name("gogrid-http");
    let runtime = builder.enable_all().build().map_err(ServeError::Thread)?;
    let listener = runtime.block_on(TcpListener::bind(address));
    let listener = listener.map_err(|source| ServeError::Listen { address, source })?;
    let address = listener.local_addr();
    let address = address.map_err(|source| ServeError::Listen {
        address: options.address,
        source,
    })?;
    let models = Arc::new(Models::new(shelf, machine, options.keep_alive));
    let shared = Arc::new(Shared::new(options, Arc::clone(&models)));
    let (stop, stopped) = watch::channel(false);
    let accepting = runtime.spawn(accept(listener, Arc::clone(&shared), stopped));
    runtime.spawn(close_idle(models));
    runtime.spawn(board::sample(Arc::clone(&shared)));
    Ok(Serving {
        address,
        shared,
        stop,
        accepting: Some(accepting),
        runtime: Some(runtime),
    })
}

impl Serving {
    /// Where it listens, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Opens a model before it is asked for.
    ///
    /// # Errors
    /// What a request for it would be told.
    pub fn open(&self, model: &str) -> Result<(), crate::models::NotOpened> {
        let runtime = self.runtime.as_ref().expect("it is there until the end");
        runtime.block_on(self.shared.models.lend(model)).map(drop)
    }

    /// Takes no more requests, lets those that run go on for the time that the options name, ends
    /// those that are left with an error that says so, and closes the models.
    pub fn end(mut self) {
        self.shared.drain.begin();
        self.stop.send_replace(true);
        let (shared, accepting) = (Arc::clone(&self.shared), self.accepting.take());
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        runtime.block_on(async move {
            let Some(mut accepting) = accepting else {
                return;
            };
            let patience = shared.options.drain;
            if timeout(patience, &mut accepting).await.is_err() {
                shared.drain.end();
                // Whoever does not even take that is cut off.
                let _ = timeout(LAST_WORDS, &mut accepting).await;
            }
        });
        runtime.shutdown_timeout(LAST_WORDS);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Closes models that nobody asks for, for as long as the server runs.
async fn close_idle(models: Arc<Models>) {
    let mut look = interval(IDLE_LOOK_EVERY);
    loop {
        look.tick().await;
        models.close_idle().await;
    }
}

/// Accepts until it is told to stop, and then until the last connection has ended.
async fn accept(listener: TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<bool>) {
    let app = TowerToHyperService::new(routes::routes(Arc::clone(&shared)));
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let door = Door {
        listener,
        app,
        places,
    };
    loop {
        let (stream, place) = tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => break,
            accepted = door.accept() => accepted,
        };
        let connection = graceful.watch(door.connection(stream));
        tokio::spawn(async move {
            // A client that went away or sent no HTTP is its own business.
            let _ = connection.await;
            drop(place);
        });
    }
    // Those that come now are told that it ends, and whoever asks hears that it still lives.
    let mut ended = std::pin::pin!(graceful.shutdown());
    loop {
        let (stream, place) = tokio::select! {
            () = &mut ended => return,
            accepted = door.accept() => accepted,
        };
        let connection = door.connection(stream);
        tokio::spawn(async move {
            let _ = connection.await;
            drop(place);
        });
    }
}

/// What connections come through.
struct Door {
    listener: TcpListener,
    app: TowerToHyperService<axum::Router>,
    places: Arc<Semaphore>,
}

impl Door {
    /// The next connection, once there is a place for it.
    async fn accept(&self) -> (TcpStream, OwnedSemaphorePermit) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("it is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // Deltas are small and wanted at once.
                    let _ = stream.set_nodelay(true);
                    return (stream, place);
                }
                Err(problem) => {
                    // Such as too many open files: others may close some.
                    tracing::warn!(%problem, "a connection was not accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
    ) -> http1::Connection<TokioIo<Timed>, TowerToHyperService<axum::Router>> {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADER_BYTES_MAX);
        http.serve_connection(TokioIo::new(Timed::new(stream)), self.app.clone())
    }
}

/// A connection whose writes end with an error when the other side takes nothing for too long.
struct Timed {
    stream: TcpStream,
    /// Runs while a write waits.
    patience: Pin<Box<Sleep>>,
    waits: bool,
}

impl Timed {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            patience: Box::pin(sleep(WRITE_TIMEOUT)),
            waits: false,
        }
    }

    /// Gives what a write came to, or an error once it has waited for too long.
    fn within<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waits = false;
            return polled;
        }
        if !self.waits {
            self.waits = true;
            let until = Instant::now() + WRITE_TIMEOUT;
            self.patience.as_mut().set(sleep_until(until));
        }
        match self.patience.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.within(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.within(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.within(polled, context)
    }
}
