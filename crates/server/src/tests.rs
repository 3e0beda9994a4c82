//! The server as its clients see it, over a small model that says nothing that makes sense.

mod anthropic;
mod bad_input;
mod forms;
mod guarding;
mod ollama;
mod openai;
mod openapi;
mod owner;
mod responses;
mod rig;
mod shelf;
mod wire;
