//! The C interface. Its documentation is `include/bise.h`, which cbindgen makes of the comments here: they speak to people who write C.

// Functions are unsafe to call in one way, which the head of the header says once.
#![allow(clippy::missing_safety_doc)]
// Types and constants are named as C has them.
#![allow(non_camel_case_types)]

// How C and Rust meet.
mod border;
mod failure;
mod names;
mod registry;

// What the header has, in its order: cbindgen goes by this list.
mod version;

mod status;

mod error;

mod error_read;

mod strings;

mod model_options;

mod model;

mod tokenizer;

mod session_options;

mod piece;

mod session;

mod session_read;

mod adapter;

mod generation_options;

mod session_generate;

mod session_file;

mod together;

mod chat;

mod embedder;
