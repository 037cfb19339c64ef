//! The terminal: what is shown, what is typed, and Ctrl-C.

pub mod console;
pub mod lines;
pub mod printable;
pub mod signals;
pub mod stdout;
