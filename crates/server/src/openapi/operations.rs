//! What each path takes and gives.

use crate::body::Protocol;

/// A method of a path.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// The schema of the body of a `POST`; without one it is a `GET`, or an order.
    pub(super) takes: Option<&'static str>,
    pub(super) gives: Gives,
    pub(super) fails: &'static [u16],
}

/// The body of an answer that went well.
#[derive(Clone, Copy)]
pub(super) enum Gives {
    /// JSON of this schema.
    Json(&'static str),
    /// JSON of this schema, or a stream of events.
    JsonOrEvents(&'static str),
    /// JSON of this schema, or lines of JSON.
    JsonOrLines(&'static str),
    /// JSON that is described nowhere else: this document.
    Document,
    /// Text of this type.
    Text(&'static str),
}

/// What goes wrong where no model is asked. A body is read whether or not a path needs one.
const LOOKS: &[u16] = &[401, 403, 408, 413];

/// What goes wrong before a path is looked at, where no key is needed.
const OPEN: &[u16] = &[403, 408, 413];

/// Of a request with a body that needs a model.
const READS: &[u16] = &[400, 401, 403, 404, 408, 413, 500, 503];

/// Of one that waits in the model's queue besides.
const GENERATES: &[u16] = &[400, 401, 403, 404, 408, 413, 429, 500, 503];

const fn gets(path: &'static str, summary: &'static str, gives: Gives) -> Operation {
    Operation {
        path,
        summary,
        takes: None,
        gives,
        fails: LOOKS,
    }
}

const fn generates(path: &'static str, takes: &'static str, gives: Gives) -> Operation {
    Operation {
        path,
        summary: "Generates text",
        takes: Some(takes),
        gives,
        fails: GENERATES,
    }
}

const fn reads(path: &'static str, takes: &'static str, gives: Gives) -> Operation {
    Operation {
        path,
        summary: "",
        takes: Some(takes),
        gives,
        fails: READS,
    }
}

impl Operation {
    const fn told(self, summary: &'static str) -> Self {
        Self { summary, ..self }
    }

    const fn failing(self, fails: &'static [u16]) -> Self {
        Self { fails, ..self }
    }

    /// What the path does. OpenAI's paths are there without their version too.
    pub(super) fn of_path(path: &str) -> Option<Self> {
        let is_of = |operation: &&Self| {
            let own = operation.path;
            own == path || (operation.is_open_ai() && own.strip_prefix("/v1") == Some(path))
        };
        OPERATIONS.iter().find(is_of).copied()
    }

    /// Whether it is one of OpenAI's.
    pub(super) fn is_open_ai(&self) -> bool {
        let is_versioned = self.path.starts_with("/v1/") && self.needs_key();
        is_versioned && Protocol::of_path(self.path) == Protocol::OpenAi
    }

    pub(super) fn is_post(&self) -> bool {
        self.takes.is_some()
    }

    /// Whether the request waits in a queue for as long as it says.
    pub(super) fn waits(&self) -> bool {
        matches!(self.gives, Gives::JsonOrEvents(_) | Gives::JsonOrLines(_))
    }

    pub(super) fn needs_key(&self) -> bool {
        self.fails.contains(&401)
    }
}

const OPERATIONS: &[Operation] = {
    use Gives::{Document, Json, JsonOrEvents, JsonOrLines, Text};
    &[
        generates("/v1/chat/completions", "ChatRequest", JsonOrEvents("ChatCompletion"))
            .told("Answers a conversation"),
        generates("/v1/completions", "CompletionRequest", JsonOrEvents("Completion"))
            .told("Goes on with a text"),
        generates("/v1/responses", "ResponsesRequest", JsonOrEvents("Response"))
            .told("Answers a conversation, in OpenAI's newer protocol"),
        generates("/v1/embeddings", "EmbeddingsRequest", Json("Embeddings"))
            .told("Makes vectors of texts"),
        gets("/v1/models", "Lists the models, open or not", Json("Models")),
        gets("/v1/models/{id}", "Tells of a model", Json("Model")).failing(&[400, 401, 403, 404, 408, 413]),
        generates("/v1/messages", "MessagesRequest", JsonOrEvents("Message"))
            .told("Answers a conversation, in Anthropic's protocol"),
        reads("/v1/messages/count_tokens", "CountTokensRequest", Json("CountedTokens"))
            .told("Counts the tokens of a conversation"),
        generates("/api/chat", "OllamaChatRequest", JsonOrLines("OllamaChat"))
            .told("Answers a conversation, in Ollama's protocol"),
        generates("/api/generate", "OllamaGenerateRequest", JsonOrLines("OllamaGenerated"))
            .told("Answers a prompt, in Ollama's protocol"),
        generates("/api/embed", "OllamaEmbedRequest", Json("OllamaEmbedded"))
            .told("Makes vectors of texts, in Ollama's protocol"),
        gets("/api/tags", "Lists the models that are here", Json("OllamaModels")),
        gets("/api/ps", "Lists the models that are open", Json("OllamaModels")),
        reads("/api/show", "OllamaShowRequest", Json("OllamaShown"))
            .told("Tells of a model, and opens it"),
        gets("/api/version", "The version of Ollama's protocol", Json("OllamaVersion")),
        gets("/gogrid/status", "How the machine and the server stand", Json("Status")),
        gets("/gogrid/history", "How they stood in the last hour", Json("History")),
        reads("/gogrid/settings", "SettingsRequest", Json("Settings"))
            .told("Changes limits")
            .failing(&[400, 401, 403, 408, 413]),
        reads("/gogrid/{order}", "OrderRequest", Json("Ruling"))
            .told("Stops all work, for a time or until it may go on, or ends the server's taking of requests")
            .failing(&[400, 401, 403, 404, 408, 413]),
        reads("/tokenize", "TokenizeRequest", Json("Tokenized"))
            .told("The tokens of a text, or of a conversation"),
        reads("/detokenize", "DetokenizeRequest", Json("Detokenized")).told("The text of tokens"),
        gets("/tokenizer_info", "Tells of the default model's tokenizer", Json("TokenizerInfo"))
            .failing(&[401, 403, 404, 408, 413, 500, 503]),
        gets("/health", "Whether the server lives", Json("Health")).failing(OPEN),
        gets("/v1/health", "Whether the server lives", Json("Health")).failing(OPEN),
        gets("/ready", "Whether a token was made lately, or can be", Json("Health"))
            .failing(&[403, 408, 413, 500, 503]),
        gets("/metrics", "Figures for Prometheus", Text("text/plain")),
        gets("/version", "The server's version", Json("Version")),
        gets("/openapi.json", "This document", Document),
        gets("/", "A page to chat and to see the machine", Text("text/html")).failing(OPEN),
    ]
};
