//! What tests of a server under load share.

pub mod cases;
pub mod client;
pub mod normal;
pub mod usage;
