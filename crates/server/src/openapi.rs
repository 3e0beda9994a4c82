//! `GET /openapi.json`: what every path takes and gives, for programs that read OpenAPI 3.1. Paths come
//! from the router's table, so that none is left out.

mod anthropic;
mod machine;
mod ollama;
mod openai;
mod operations;
mod responses;
mod schemas;

use std::collections::BTreeMap;

use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{
    Components, ComponentsBuilder, Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder,
    Required, Response,
};

use crate::body::Protocol;
use crate::caller::DEADLINE_MAX_S;
use operations::{Gives, Operation};
use schemas::{SchemaRef, count, named, object, text, text_of, within, words};

/// Where the document is.
pub(crate) const PATH: &str = "/openapi.json";

/// Errors that say when to come back.
const RETRIED: [u16; 2] = [429, 503];

/// The document of a server with these paths, as the router writes them. A path that nothing is known
/// of is left out.
pub(crate) fn document(paths: &[String], asks_for_keys: bool) -> OpenApi {
    let mut described = PathsBuilder::new();
    let own = PATH.to_owned();
    for path in paths.iter().chain([&own]) {
        let path = path.replace("{*", "{");
        if let Some(operation) = Operation::of_path(&path) {
            let item = item(&path, &operation, asks_for_keys);
            described = described.path(path, item);
        }
    }
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0");
    let info = InfoBuilder::new()
        .title("GoGrid")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Language models on this machine, for programs that speak OpenAI's, Anthropic's or Ollama's \
             protocol. Fields that a request has besides those named here are left out of account, and null \
             is the same as leaving a field out where it is named.",
        ))
        .license(Some(license.build()));
    OpenApiBuilder::new()
        .info(info.build())
        .paths(described.build())
        .components(Some(components()))
        .build()
}

fn components() -> Components {
    let all = [
        openai::schemas(),
        responses::schemas(),
        anthropic::schemas(),
        ollama::schemas(),
        machine::schemas(),
    ];
    let all = all.into_iter().flatten();
    let components = all.fold(ComponentsBuilder::new(), |components, (name, schema)| {
        components.schema(name, schema)
    });
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-api-key")));
    components
        .security_scheme("bearer", bearer)
        .security_scheme("key", key)
        .build()
}

fn item(path: &str, operation: &Operation, asks_for_keys: bool) -> PathItem {
    let method = match operation.is_post() {
        true => HttpMethod::Post,
        false => HttpMethod::Get,
    };
    let protocol = Protocol::of_path(path);
    let mut built = OperationBuilder::new()
        .summary(Some(operation.summary))
        .operation_id(Some(id(path)))
        .tag(tag(operation, protocol))
        .response("200", went_well(operation.gives));
    for status in operation.fails {
        built = built.response(status.to_string(), failed(*status, protocol));
    }
    for parameter in parameters(path, operation) {
        built = built.parameter(parameter);
    }
    if let Some(schema) = operation.takes {
        let is_needed = match path.contains("{order}") {
            true => Required::False,
            false => Required::True,
        };
        let body = RequestBodyBuilder::new().content(JSON, Content::new(Some(named(schema))));
        built = built.request_body(Some(body.required(Some(is_needed)).build()));
    }
    if asks_for_keys && operation.needs_key() {
        let none: [&str; 0] = [];
        built = built
            .security(SecurityRequirement::new("bearer", none))
            .security(SecurityRequirement::new("key", none));
    }
    PathItem::new(method, built)
}

const JSON: &str = "application/json";

/// A name for a path's operation, made of the path's words.
fn id(path: &str) -> String {
    let words = path.split(|char: char| !char.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    match words.is_empty() {
        true => "page".to_owned(),
        false => words.join("_"),
    }
}

fn tag(operation: &Operation, protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::OpenAi if operation.is_open_ai() => "OpenAI",
        Protocol::OpenAi => "GoGrid",
        Protocol::Anthropic => "Anthropic",
        Protocol::Ollama => "Ollama",
    }
}

fn parameters(path: &str, operation: &Operation) -> Vec<Parameter> {
    let mut all = Vec::new();
    let mut add = |name: &str, place: ParameterIn, schema: SchemaRef| {
        let required = match place {
            ParameterIn::Path => Required::True,
            _ => Required::False,
        };
        let parameter = ParameterBuilder::new().name(name).parameter_in(place);
        let parameter = parameter.required(required).schema(Some(schema));
        all.push(parameter.build());
    };
    if path.contains("{id}") {
        add("id", ParameterIn::Path, text_of(1, None));
    }
    if path.contains("{order}") {
        let orders = words(["pause", "resume", "finish", "snooze"]);
        add("order", ParameterIn::Path, orders);
    }
    if operation.waits() {
        let seconds = within(0.0, DEADLINE_MAX_S);
        add("X-GoGrid-Deadline", ParameterIn::Header, seconds);
    }
    all
}

fn went_well(gives: Gives) -> Response {
    let (schema, stream) = match gives {
        Gives::Text(kind) => {
            let content = Content::new(Some(text()));
            return ResponseBuilder::new()
                .description("Text")
                .content(kind, content)
                .build();
        }
        Gives::Json(name) => (named(name), None),
        Gives::JsonOrEvents(name) => {
            let events = ("text/event-stream", named("ServerSentEvent"));
            (named(name), Some(events))
        }
        Gives::JsonOrLines(name) => (named(name), Some(("application/x-ndjson", text()))),
        Gives::Document => (object([], &[]), None),
    };
    let response = ResponseBuilder::new().content(JSON, Content::new(Some(schema)));
    match stream {
        None => response.description("The answer").build(),
        Some((kind, streamed)) => response
            .description("The answer, whole or as a stream")
            .content(kind, Content::new(Some(streamed)))
            .build(),
    }
}

fn failed(status: u16, protocol: Protocol) -> Response {
    let descriptions = BTreeMap::from([
        (
            400,
            "The request makes no sense, asks for what is not supported, or could never be served",
        ),
        (401, "No key, or none of the server's"),
        (403, "The host, the origin or the key may not ask for this"),
        (404, "No such model, or nothing of this name"),
        (408, "The body did not arrive in time"),
        (413, "The body is too long"),
        (429, "Too many requests wait"),
        (500, "The server failed"),
        (
            503,
            "The machine's owner has it, there is no room, or the server ends",
        ),
    ]);
    let schema = match protocol {
        Protocol::OpenAi => "OpenAiError",
        Protocol::Anthropic => "AnthropicError",
        Protocol::Ollama => "OllamaError",
    };
    let response = ResponseBuilder::new()
        .description(
            *descriptions
                .get(&status)
                .expect("every status is described"),
        )
        .content(JSON, Content::new(Some(named(schema))));
    match RETRIED.contains(&status) {
        false => response.build(),
        true => {
            let after = HeaderBuilder::new().schema(Some(count()));
            response.header("Retry-After", after.build()).build()
        }
    }
}
