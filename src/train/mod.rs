//! Training adapters: data, schedule, optimizer, and runs that go on where they were interrupted.
//!
//! [`Training`] does the steps, on whatever has weights and gradients ([`Objective`]); a [`Dataset`] is what it learns from. The gradients of a
//! model come from [`bise_models::train`].

mod adam_w;
mod checkpoint;
mod data;
mod error;
mod model;
mod objective;
mod order;
mod random;
mod schedule;
mod settings;
mod state;
mod step;
mod unreported;

pub use adam_w::AdamW;
pub use checkpoint::{RunFolder, STATE};
pub use data::{DataOptions, Dataset, DatasetRow};
pub use error::TrainError;
pub use model::{
    GGUF_NAME, identities, initial_adapter, load_adapter, trainer, training_bytes, write_adapter,
};
pub use objective::{Objective, Weights};
pub use order::Order;
pub use random::initial_a;
pub use schedule::{Schedule, ScheduleKind};
pub use settings::Settings;
pub use state::Saved;
pub use step::{Step, StepOptions, Training};
pub use unreported::Unreported;

#[cfg(test)]
mod tests;
