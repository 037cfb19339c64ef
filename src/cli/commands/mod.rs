//! One file a command.

pub mod bench;
pub mod chat;
mod chat_command;
#[cfg(feature = "compare")]
pub mod compare;
pub mod completions;
#[cfg(feature = "convert")]
pub mod convert;
#[cfg(feature = "hub")]
pub mod cp;
#[cfg(feature = "hub")]
pub mod create;
pub mod embedding;
#[cfg(feature = "eval")]
pub mod eval;
pub mod generate;
#[cfg(feature = "quantize")]
pub mod imatrix;
pub mod inspect;
#[cfg(feature = "hub")]
pub mod list;
pub mod logits;
pub mod man;
#[cfg(feature = "quantize")]
pub mod merge;
pub mod perplexity;
#[cfg(feature = "hub")]
pub mod ps;
#[cfg(feature = "hub")]
pub mod pull;
#[cfg(feature = "quantize")]
pub mod quantize;
#[cfg(feature = "hub")]
pub mod rm;
#[cfg(feature = "hub")]
pub mod run;
#[cfg(feature = "server")]
pub mod serve;
#[cfg(feature = "hub")]
pub mod show;
#[cfg(feature = "quantize")]
pub mod split;
#[cfg(feature = "hub")]
pub mod stop;
pub mod tokenize;
mod transcript;
