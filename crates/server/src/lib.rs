//! HTTP for the clients people have: the protocols of OpenAI, Anthropic and Ollama.

#![forbid(unsafe_code)]
