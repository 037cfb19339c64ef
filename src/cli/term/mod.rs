//! The terminal: what is shown, what is typed, and Ctrl-C.

pub mod console;
#[cfg_attr(target_family = "wasm", path = "editor_wasm.rs")]
mod editor;
pub mod line;
pub mod lines;
pub mod printable;
pub mod signals;
pub mod stdout;
