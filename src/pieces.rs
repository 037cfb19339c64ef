use bise_models::tokenizer::StreamDecoder;

use crate::sampling::Sampler;
use crate::speculation::{SpeculationOptions, Speculator};
use crate::{Error, Session};

/// The text that a session goes on with, piece by piece; see [`Session::generate`].
///
/// Ends where the model does, after the tokens asked for, or after an error. A piece never splits a character.
pub struct Pieces<'a> {
    session: &'a mut Session,
    sampler: Sampler,
    speculator: Speculator,
    decoder: StreamDecoder,
    n_left: usize,
    /// Sampled and shown, but not yet read.
    last: Option<u32>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(session: &'a mut Session, sampler: Sampler, n_left: usize) -> Self {
        let decoder = session.engine().tokenizer().stream(true);
        let speculator = Speculator::new(&SpeculationOptions::default());
        Pieces { session, sampler, speculator, decoder, n_left, last: None }
    }

    fn next_piece(&mut self) -> Result<Option<String>, Error> {
        while self.n_left > 0 {
            if let Some(token) = self.last.take() {
                self.speculator.decode(self.session, token, self.n_left)?;
            }
            let token = self.sampler.sample(self.session.logits().ok_or(Error::NoTokens)?)?;
            if self.session.engine().tokenizer().is_end_of_generation(token) {
                break;
            }
            self.sampler.accept(token);
            self.last = Some(token);
            self.n_left -= 1;
            let piece = self.decoder.push(token);
            if !piece.is_empty() {
                return Ok(Some(piece));
            }
        }
        self.n_left = 0;
        Ok(Some(self.decoder.finish()).filter(|rest| !rest.is_empty()))
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.next_piece().transpose();
        if matches!(piece, Some(Err(_))) {
            self.n_left = 0;
        }
        piece
    }
}
