//! From logits to a text.

mod stop;

pub use stop::StopTexts;
