use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use corpgrid_scheduler::{
    Device, HeterogeneousPipeline, Machine, MachineOptions, Mode, Options, Settings, SyntheticShape,
};
use gogrid_units::WeightType;
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

use crate::models::{ModelCard, Models, NotOpened, Shelf};
use crate::options::ServeOptions;
use crate::routes::routes;
use crate::shared::Shared;

/// A conversation as plain lines, with the marks that tell how this model calls tools.
const TEMPLATE: &str = "{% if tools %}{% for t in tools %}<tool>{{ t | tojson }}</tool>{% endfor %}{% endif %}\
    {% for m in messages %}<{{ m.role }}>{{ m.content }}\
    {% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}\
    {% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

/// As many tokens as a sequence of the model may have.
pub(super) const CONTEXT: usize = 1024;

const SHAPE: SyntheticShape = SyntheticShape {
    name: "tiny",
    layers: 2,
    width: 64,
    hidden: 128,
    heads: 2,
    kv_heads: 1,
    head_dim: 32,
    vocab: 320,
    context: CONTEXT,
    tied: true,
    matrices: WeightType::Q8_0,
    head: WeightType::Q8_0,
};

/// Models `one` and `two`, and `plain` without a template.
pub(super) struct TinyShelf;

impl Shelf for TinyShelf {
    fn models(&self) -> Vec<ModelCard> {
        let card = |name: &str, is_here: bool| ModelCard {
            name: name.to_owned(),
            bytes: 1000,
            created: 1_700_000_000,
            is_here,
            licence: None,
        };
        vec![
            card("one", true),
            card("two", true),
            card("plain", true),
            card("elsewhere", false),
        ]
    }

    fn open(&self, name: &str, machine: &Arc<Machine>) -> Result<HeterogeneousPipeline, NotOpened> {
        let chat_template = match name {
            "one" | "two" => Some(TEMPLATE.to_owned()),
            "plain" => None,
            "elsewhere" => return Err(NotOpened::NotHere(name.to_owned())),
            name => {
                let known = self.models().into_iter().map(|card| card.name);
                return Err(NotOpened::Unknown {
                    name: name.to_owned(),
                    known: known.collect(),
                });
            }
        };
        let options = Options {
            chat_template,
            ..Options::default()
        };
        let opened = HeterogeneousPipeline::open_on(machine, SHAPE, &options);
        opened.map_err(|problem| NotOpened::Open(Arc::new(problem)))
    }
}

/// A server without a socket.
pub(super) struct Rig {
    pub(super) shared: Arc<Shared>,
    router: Router,
    runtime: Runtime,
}

/// What a client got.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

pub(super) fn machine() -> Arc<Machine> {
    let settings = Settings::of(Mode::Aggressive);
    let options = MachineOptions {
        limits: settings.limits,
        away: Some(settings.away),
        policy: settings.policy,
        threads: Some(1),
        ..MachineOptions::default()
    };
    let cpu = Device::named("cpu").expect("there is one");
    Arc::new(Machine::open(&[cpu], options).expect("it opens"))
}

/// Loopback, and no time to lose.
pub(super) fn options() -> ServeOptions {
    let address = "127.0.0.1:0".parse().expect("an address");
    ServeOptions {
        drain: Duration::from_secs(5),
        ..ServeOptions::new(address, "one")
    }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(options())
    }

    pub(super) fn with(options: ServeOptions) -> Self {
        let models = Arc::new(Models::new(
            Arc::new(TinyShelf),
            machine(),
            options.keep_alive,
        ));
        let shared = Arc::new(Shared::new(options, models));
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("threads");
        Self {
            router: routes(Arc::clone(&shared)),
            shared,
            runtime,
        }
    }

    /// Runs what waits for something.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The answer to a request, whole.
    pub(super) async fn ask(&self, request: Request<Body>) -> Answered {
        let response = self
            .router
            .clone()
            .oneshot(request)
            .await
            .expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.expect("all of it");
        Answered {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).expect("text"),
        }
    }

    pub(super) fn get(&self, path: &str) -> Answered {
        self.wait(self.ask(request("GET", path, Body::empty())))
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Answered {
        self.wait(self.ask(request("POST", path, Body::from(body.to_string()))))
    }
}

pub(super) fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path);
    builder
        .header("host", "localhost")
        .body(body)
        .expect("a request")
}

impl Answered {
    /// The JSON of an answer that went well.
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.value()
    }

    pub(super) fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The data of each event that is JSON.
    pub(super) fn events(&self) -> Vec<Value> {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let data = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "));
        let values = data.filter(|data| *data != "[DONE]");
        values
            .map(|data| serde_json::from_str(data).expect("JSON"))
            .collect()
    }

    /// The status, the field and the code of an error.
    pub(super) fn error(&self) -> (u16, Option<String>, Option<String>) {
        let error = &self.value()["error"];
        let text = |name: &str| error[name].as_str().map(str::to_owned);
        assert!(error["message"].is_string(), "{}", self.text);
        (self.status.as_u16(), text("param"), text("code"))
    }
}
