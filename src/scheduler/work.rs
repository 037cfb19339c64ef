//! What jobs want.

use super::job::EmbedJob;
use crate::adapter::list::Adapters;
use crate::constraint::Constraint;
use crate::generation::GenerationOptions;

/// A prompt to continue; see [`Job`](super::Job).
pub(crate) struct Request<S> {
    pub prompt: Vec<u32>,
    pub options: GenerationOptions,
    pub constraint: Option<Box<dyn Constraint>>,
    pub adapters: Option<Adapters>,
    pub cache_prompt: bool,
    pub prompt_log_probs: Option<usize>,
    pub slot: Option<usize>,
    pub sink: S,
}

/// What a job wants.
pub(crate) enum Work<S> {
    Generate(Box<Request<S>>),
    Embed(EmbedJob),
}
