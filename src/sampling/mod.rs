//! From logits to a token: the chain of samplers.
//!
//! The links, their order, their names and their defaults are those of llama.cpp (build b11434); each link is a
//! small type in a file of its own. A [`Sampler`] owns the chain, the random numbers and one buffer of candidates,
//! so that sampling a token allocates nothing.
//!
//! The same logits, parameters and seed give the same token on every machine: sums are `f64` in a fixed order,
//! `exp`, `ln` and `pow` come from the `libm` crate rather than from the platform, ties are broken by the lower
//! token id, and the random numbers are xoshiro256++.
//!
//! ```
//! use bise::sampling::{Sampler, SamplingParams};
//!
//! let params = SamplingParams { seed: 42, ..SamplingParams::default() };
//! let mut sampler = Sampler::new(&params, 4, &[2])?;
//! let token = sampler.sample(&[0.5, 1.5, -2.0, 9.0])?;
//! sampler.accept(token);
//! assert_eq!(token, 3);
//! # Ok::<(), bise::sampling::SamplingError>(())
//! ```

mod by_name;
mod candidates;
mod chain;
mod draw;
mod dry;
mod dry_breakers;
mod history;
mod link;
mod logit_bias;
mod min_p;
mod mirostat;
mod mirostat_v2;
mod params;
mod penalties;
mod rng;
mod temperature;
mod top_k;
mod top_n_sigma;
mod top_p;
mod typical;
mod xtc;

pub use candidates::{Candidate, Candidates};
pub use chain::Sampler;
pub use dry_breakers::{DryBreaker, dry_breakers};
pub use link::Link;
pub use params::{RANDOM_SEED, SamplerKind, SamplingParams, parse_logit_bias};
pub use rng::Rng;

/// Why a token could not be sampled, or a sampler not be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SamplingError {
    /// A parameter lies outside its range.
    #[error("sampling parameter {name} is {value}: expected {expected}")]
    BadParameter {
        /// The parameter, by its name in [`SamplingParams`].
        name: &'static str,
        /// What was given.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// No parameter has this name.
    #[error(
        "no sampling parameter is called {0:?}: expected one such as temp, top_k, top_p, min_p, repeat_penalty or seed"
    )]
    UnknownParameter(String),
    /// `--samplers` or `--sampling-seq` names a sampler that does not exist.
    #[error(
        "no sampler is called {0:?}: expected some of penalties (e), dry (d), top_n_sigma (s), top_k (k), typ_p (y), top_p (p), min_p (m), xtc (x), temperature (t)"
    )]
    UnknownSampler(String),
    /// A `--logit-bias` that is not `TOKEN_ID(+/-)BIAS`.
    #[error("logit bias {0:?} is not of the form TOKEN_ID(+/-)BIAS, for example 15043+1 or 2-inf")]
    BadLogitBias(String),
    /// A token id that the vocabulary does not have.
    #[error("token {token} is outside the vocabulary of {n_vocab} tokens")]
    NoSuchToken {
        /// The id.
        token: u32,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// The logits are not one row of the vocabulary.
    #[error("{found} logits for a vocabulary of {n_vocab} tokens")]
    WrongLength {
        /// Number of logits given.
        found: usize,
        /// Size of the vocabulary.
        n_vocab: usize,
    },
    /// A logit is NaN or +∞ (−∞ is allowed: it rules a token out).
    #[error("the logit of token {token} is {value}: expected a finite number")]
    NotFinite {
        /// The first token whose logit is bad.
        token: u32,
        /// The logit.
        value: f32,
    },
    /// Every token is ruled out.
    #[error("no token can be sampled: every logit is −∞")]
    NoCandidate,
    /// The constraint cannot be followed any further.
    #[error("the grammar cannot be followed any further: {0}")]
    Constraint(String),
}
