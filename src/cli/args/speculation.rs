//! Whether tokens are drafted and checked several at a time.

use bise::speculation::SpeculationOptions;

/// Speculative decoding.
#[derive(clap::Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Speculation")]
pub struct SpeculationArgs {
    /// Draft tokens from what followed the last ones earlier in the text (ngram), where that is faster; the text is the same either way
    #[arg(long, value_name = "TYPE", default_value = "ngram", env = "LLAMA_ARG_SPEC_TYPE")]
    pub spec_type: SpecType,

    /// Maximum number of drafted tokens, up to 63; 0: off
    #[arg(long, aliases = ["draft", "draft-n", "spec-draft-n-max", "spec-ngram-mod-n-max", "spec-ngram-simple-size-m"], value_name = "N", default_value_t = 15, env = "LLAMA_ARG_SPEC_DRAFT_N_MAX")]
    pub draft_max: usize,
}

/// Where drafts come from.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecType {
    /// From the text itself
    #[value(aliases = ["ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache"])]
    Ngram,
    /// No drafts
    None,
}

impl SpeculationArgs {
    /// Options for the engine.
    pub fn options(self) -> SpeculationOptions {
        match self.spec_type {
            SpecType::Ngram => SpeculationOptions { n_max: self.draft_max, ..SpeculationOptions::default() },
            SpecType::None => SpeculationOptions::off(),
        }
    }
}
