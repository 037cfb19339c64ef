//! Generating text in a session: [`Session::generate`], and the steps it takes.

use bise_models::tokenizer::EncodeOptions;

use crate::generation::{Generation, GenerationOptions};
use crate::sampling::SamplingParams;
use crate::{Error, Session};

impl Session {
    /// Reads `prompt` after what was read before, and continues it by up to `max_tokens` tokens, piece by piece, until the model ends the
    /// text.
    ///
    /// # Errors
    /// For sampling parameters that make no sense, and as [`Session::prefill`] for the prompt.
    pub fn generate(
        &mut self,
        prompt: &str,
        sampling: &SamplingParams,
        max_tokens: usize,
    ) -> Result<Pieces<'_>, Error> {
        let (sampling, max_tokens) = (sampling.clone(), Some(max_tokens));
        self.generate_with(prompt, GenerationOptions { sampling, max_tokens, ..GenerationOptions::default() })
    }

    /// [`Session::generate`] with all of [`GenerationOptions`]: stop texts, log-probabilities, speculation.
    ///
    /// # Errors
    /// As [`Session::generate`].
    pub fn generate_with(&mut self, prompt: &str, options: GenerationOptions) -> Result<Pieces<'_>, Error> {
        let tokenizer = self.engine().tokenizer();
        let encode = EncodeOptions { add_special: self.tokens().is_empty(), parse_special: true };
        let prompt = tokenizer.encode(prompt, encode);
        let mut generation = Generation::new(tokenizer, options)?;
        self.prefill(&prompt)?;
        generation.prime(self.tokens());
        Ok(Pieces { session: self, generation })
    }

    /// One pass of a generation: reads its [`next_tokens`](Generation::next_tokens), forgets the drafts that were wrong, and lets it
    /// [`advance`](Generation::advance). After [`Generation::prime`] there is nothing to read, and the session's logits are used.
    ///
    /// # Errors
    /// As [`Session::decode`], as [`Generation::advance`], and [`Error::NoTokens`] where the session has no logits to go on from.
    pub fn step(&mut self, generation: &mut Generation) -> Result<(), Error> {
        self.step_within(generation, usize::MAX)
    }

    /// [`Session::step`] with at most `max_drafts` drafts.
    ///
    /// # Errors
    /// As [`Session::step`].
    pub fn step_within(&mut self, generation: &mut Generation, max_drafts: usize) -> Result<(), Error> {
        if generation.finish().is_some() {
            return Ok(());
        }
        let max_drafts = max_drafts.min(self.max_drafts());
        let [token, drafts @ ..] = generation.next_tokens(max_drafts) else {
            let logits = self.logits().ok_or(Error::NoTokens)?;
            generation.advance([logits])?;
            return Ok(());
        };
        let token = *token;
        self.decode_ahead(token, drafts)?;
        let n_accepted = generation.advance((0..1 + self.n_ahead()).map(|i| self.row(i)))?;
        self.take_ahead(n_accepted - 1)
    }
}

/// The text that a session continues with, piece by piece; see [`Session::generate`].
///
/// Ends where the generation does, or after an error. A piece never splits a character.
pub struct Pieces<'a> {
    session: &'a mut Session,
    generation: Generation,
}

impl Pieces<'_> {
    /// The generation, to ask why it ended and what its last pass produced.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The generation, to constrain or interrupt it.
    pub fn generation_mut(&mut self) -> &mut Generation {
        &mut self.generation
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.generation.finish().is_none() {
            if let Err(error) = self.session.step(&mut self.generation) {
                self.generation.interrupt();
                return Some(Err(error));
            }
            if !self.generation.text().is_empty() {
                return Some(Ok(self.generation.text().to_owned()));
            }
        }
        None
    }
}
