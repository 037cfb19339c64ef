//! One file a command.

pub mod bench;
pub mod chat;
mod chat_command;
pub mod completions;
pub mod embedding;
pub mod generate;
pub mod inspect;
pub mod logits;
pub mod man;
pub mod perplexity;
pub mod tokenize;
mod transcript;
