//! What a generation brings.

/// Why a generation is over.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum bise_finish {
    /// It is not, or none was started.
    BISE_FINISH_NONE = 0,
    /// The model ended the text.
    BISE_FINISH_END = 1,
    /// The text came to one of the stop texts.
    BISE_FINISH_STOP = 2,
    /// As many tokens as were asked for.
    BISE_FINISH_LENGTH = 3,
    /// The context is full.
    BISE_FINISH_CONTEXT = 4,
}

/// A token and its probability.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct bise_chosen {
    /// The token.
    pub token: u32,
    /// The natural logarithm of its probability by the model, before anything in the chain of samplers; NaN unless "n_probs" asks for it.
    pub log_prob: f32,
}
