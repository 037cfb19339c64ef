//! What a generation needs beside the tokens read to go on as if it had never been interrupted.

/// The state of a [`Generation`](super::Generation) between two passes, for one that goes on later, perhaps in another process; see
/// [`Generation::state`](super::Generation::state).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GenerationState {
    /// The seed in use.
    pub(crate) seed: u32,
    /// Random numbers drawn since.
    pub(crate) n_drawn: u64,
    /// The token that was chosen last, while it has not been read.
    pub(crate) pending: Option<u32>,
    /// Mirostat's bound on surprise.
    pub(crate) mu: Option<f32>,
}
