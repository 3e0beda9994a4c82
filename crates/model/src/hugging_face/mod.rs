//! Hugging Face directories: config.json, and safetensors in one file or in shards.

mod config;
mod fields;
mod params;
mod rope;
mod shards;

pub(crate) use config::Config;
pub(crate) use params::params;
pub(crate) use shards::Shards;
