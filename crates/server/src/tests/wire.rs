use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::rig::{TinyShelf, machine, options};
use crate::error::ServeError;
use crate::listen::{Serving, serve};

/// Much longer than anything here takes.
const LONG: Duration = Duration::from_secs(120);

fn serving() -> Serving {
    let serving = serve(options(), machine(), Arc::new(TinyShelf)).expect("it listens");
    serving.open("one").expect("it opens");
    serving
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// Sends a chat of so many tokens.
async fn ask(serving: &Serving, tokens: usize) -> TcpStream {
    let mut stream = TcpStream::connect(serving.address())
        .await
        .expect("a connection");
    let body = json!({
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": tokens, "stream": true, "ignore_eos": true,
    });
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream
        .write_all((head + &body).as_bytes())
        .await
        .expect("it is sent");
    stream
}

async fn first_bytes(stream: &mut TcpStream) -> usize {
    let mut buffer = [0; 256];
    let read = timeout(LONG, stream.read(&mut buffer)).await;
    read.expect("in time").expect("bytes")
}

async fn until_idle(serving: &Serving) {
    let model = serving.shared().models.opened().remove(0);
    let idle = async {
        loop {
            let status = model.pipeline.status().await;
            if (status.queued, status.running, model.lent()) == (0, 0, 0) {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, idle).await.expect("all is given back");
}

#[test]
fn a_client_that_goes_away_frees_what_it_held_wherever_it_was() {
    let serving = serving();
    runtime().block_on(async {
        for round in 0..30 {
            let mut streams = Vec::new();
            for _ in 0..4 {
                streams.push(ask(&serving, 900).await);
            }
            if round % 3 > 0 {
                // In the middle of its answer, and not only in the queue.
                assert!(first_bytes(&mut streams[0]).await > 0);
            }
            drop(streams);
        }
        until_idle(&serving).await;
    });
    let memory = runtime().block_on(serving.shared().models.machine().status());
    assert_eq!(
        memory.devices[0].kv_bytes, 0,
        "nothing is leased for anybody"
    );
    serving.end();
}

#[test]
fn an_end_lets_streams_finish_that_are_short_enough() {
    let serving = serving();
    let text = runtime().block_on(async {
        let mut stream = ask(&serving, 900).await;
        first_bytes(&mut stream).await;
        let (address, shared) = (serving.address(), Arc::clone(serving.shared()));
        let ending = tokio::task::spawn_blocking(move || serving.end());
        while !shared.drain.has_begun() {
            tokio::task::yield_now().await;
        }
        // Whoever comes meanwhile is told.
        let mut late = TcpStream::connect(address).await.expect("a connection");
        let asked = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        late.write_all(asked).await.expect("it is sent");
        let mut alive = String::new();
        let read = timeout(LONG, late.read_to_string(&mut alive)).await;
        read.expect("in time").expect("bytes");
        assert!(alive.starts_with("HTTP/1.1 200"), "{alive}");
        let mut rest = Vec::new();
        let read = timeout(LONG, stream.read_to_end(&mut rest)).await;
        read.expect("in time").expect("bytes");
        timeout(LONG, ending)
            .await
            .expect("in time")
            .expect("it ends");
        String::from_utf8(rest).expect("text")
    });
    assert!(
        text.contains("\"finish_reason\":\"length\"") && text.contains("[DONE]"),
        "{text}"
    );
}

#[test]
fn half_a_head_and_garbage_are_nobody_elses_business() {
    let serving = serving();
    runtime().block_on(async {
        let mut idle = Vec::new();
        for start in [
            "",
            "GET / HT",
            "\0\0\0",
            "GET / HTTP/1.1\r\nHost: localhost\r\n",
        ] {
            let mut stream = TcpStream::connect(serving.address())
                .await
                .expect("a connection");
            stream
                .write_all(start.as_bytes())
                .await
                .expect("it is sent");
            idle.push(stream);
        }
        let mut stream = ask(&serving, 2).await;
        assert!(first_bytes(&mut stream).await > 0);
    });
    serving.end();
}

#[test]
fn an_address_that_others_reach_needs_keys_and_one_that_is_taken_is_told() {
    let mut open = options();
    open.address = "0.0.0.0:0".parse().expect("an address");
    let refused = serve(open, machine(), Arc::new(TinyShelf)).err();
    assert!(matches!(refused, Some(ServeError::Open(_))), "{refused:?}");
    let first = serving();
    let mut taken = options();
    taken.address = first.address();
    let refused = serve(taken, machine(), Arc::new(TinyShelf)).err();
    assert!(
        matches!(refused, Some(ServeError::Listen { .. })),
        "{refused:?}"
    );
}
