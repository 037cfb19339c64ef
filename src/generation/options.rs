use crate::sampling::SamplingParams;
use crate::speculation::SpeculationOptions;

/// What to generate.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationOptions {
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// Tokens at most; `None` is no limit.
    pub max_tokens: Option<usize>,
    /// Texts that end the generation, and are not shown. One that spells a control token stands for that token, too.
    pub stop: Vec<String>,
    /// How far to speculate. The text does not depend on it.
    pub speculation: SpeculationOptions,
    /// Log-probabilities to compute: of each token chosen, and of so many of the likeliest.
    pub log_probs: Option<usize>,
    /// Log-probabilities are those that tokens were drawn with, after the sampler chain, rather than the model's own. Tokens that the
    /// chain has dropped are not among the likeliest then.
    pub after_sampling: bool,
    /// Control tokens are shown as they are spelt, rather than left out.
    pub special: bool,
    /// The text is one of its own, such as an answer, and not the continuation of its prompt: the space that a SentencePiece
    /// vocabulary puts before a text is left out.
    pub starts_text: bool,
}
