use crate::sampling::SamplingError;

/// Why a job was not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// As many jobs are waiting as may.
    #[error("the queue is full: {n_waiting} requests are waiting")]
    QueueFull {
        /// Jobs that are waiting.
        n_waiting: usize,
    },
    /// The prompt does not fit the context.
    #[error("the prompt has {n_prompt_tokens} tokens, and the context holds {n_ctx}")]
    PromptTooLong {
        /// Tokens of the prompt.
        n_prompt_tokens: usize,
        /// Tokens that the context of one text holds.
        n_ctx: usize,
    },
    /// Nothing to read.
    #[error("the prompt has no tokens: there is nothing to continue")]
    NoTokens,
    /// One of several texts has nothing to read.
    #[error("text {index} has no tokens")]
    EmptyText {
        /// Its place among them, from 0.
        index: usize,
    },
    /// A token that the vocabulary does not have.
    #[error("token {token} is not in the vocabulary, which has {n_vocab}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens of the vocabulary.
        n_vocab: usize,
    },
    /// Sampling parameters out of range.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// A slot that does not exist.
    #[error("there is no slot {slot}: expected one below {n_slots}")]
    NoSuchSlot {
        /// The slot asked for.
        slot: usize,
        /// Slots there are.
        n_slots: usize,
    },
    /// It would not fit even if it were the only one.
    #[error(
        "this request may need {n_pages} pages of keys and values, and there may be {max_pages}: a shorter prompt, fewer \
         tokens or a shorter context takes less"
    )]
    TooFewPages {
        /// Pages it may need.
        n_pages: usize,
        /// Pages there may be.
        max_pages: usize,
    },
    /// No more jobs are taken.
    #[error("the scheduler is shutting down")]
    ShuttingDown,
}
