//! Texts that are embedded in the passes of others.

use bise_models::{Output, PagePool};

use super::job::{EmbedDone, EmbedJob, JobId};
use super::listener::guarded;
use crate::adapter::list::Adapters;
use crate::embedding::{Pooler, Pooling};
use crate::{Error, Feed, Sequence};

/// Texts of one job that are read at a time, at most.
const MOST_READINGS: usize = 16;

/// Calls what takes the vectors of a job. If it panics, nobody else is concerned.
pub(super) fn call(done: EmbedDone, result: Result<Vec<Vec<f32>>, Error>) {
    let _ = guarded(|| done(result));
}

/// A job under way.
pub(super) struct Embedding {
    pub id: JobId,
    texts: Vec<Vec<u32>>,
    pooling: Option<Pooling>,
    normalize: bool,
    adapters: Adapters,
    done: Option<EmbedDone>,
    vectors: Vec<Vec<f32>>,
    /// The next text to begin.
    next: usize,
    readings: Vec<Reading>,
    pub error: Option<Error>,
}

/// A text that is being read.
pub(super) struct Reading {
    text: usize,
    sequence: Sequence,
    n_pages: usize,
    pooler: Pooler,
    /// Tokens that it has in the next pass.
    n_next: usize,
    /// Where the pass began.
    start: usize,
}

impl Embedding {
    pub fn new(id: JobId, job: EmbedJob, adapters: Adapters) -> Embedding {
        let EmbedJob { texts, pooling, normalize, done, .. } = job;
        let vectors = vec![Vec::new(); texts.len()];
        let done = Some(done);
        let (next, readings, error) = (0, Vec::new(), None);
        Embedding { id, texts, pooling, normalize, adapters, done, vectors, next, readings, error }
    }

    /// Pages that its texts under way may come to need.
    pub fn n_pages(&self) -> usize {
        self.readings.iter().map(|reading| reading.n_pages).sum()
    }

    /// The length of the next text, if one is to begin.
    pub fn next_len(&self) -> Option<usize> {
        self.texts.get(self.next).filter(|_| self.readings.len() < MOST_READINGS).map(Vec::len)
    }

    /// Begins the next text.
    pub fn begin(&mut self, pool: &PagePool, n_ctx: usize, window: Option<usize>, n_pages: usize) {
        let pooler = Pooler::new(self.pooling, self.texts[self.next].len());
        let mut sequence = Sequence::new(pool, n_ctx, window);
        sequence.set_adapters(self.adapters.clone());
        self.readings.push(Reading { text: self.next, sequence, n_pages, pooler, n_next: 0, start: 0 });
        self.next += 1;
    }

    pub fn is_over(&self) -> bool {
        self.error.is_some() || (self.readings.is_empty() && self.next == self.texts.len())
    }

    /// Tokens to read of texts that have begun.
    pub fn n_unread(&self) -> usize {
        self.readings.iter().map(Reading::n_unread).sum()
    }

    /// Shares `n` tokens out among the texts that have begun, in order.
    pub fn plan(&mut self, mut n: usize) {
        for reading in &mut self.readings {
            reading.n_next = reading.n_unread().min(n);
            n -= reading.n_next;
        }
    }

    /// Tokens that it has in the next pass.
    pub fn n_next(&self) -> usize {
        self.readings.iter().map(|reading| reading.n_next).sum()
    }

    /// Pages that the next pass takes from the pool.
    pub fn n_new_pages(&self) -> usize {
        self.readings.iter().map(|reading| reading.sequence.cache().n_new_pages(reading.n_next)).sum()
    }

    /// What it has in the next pass, and the number of each text's reading.
    pub fn feeds(&mut self) -> impl Iterator<Item = (usize, Feed<'_>)> {
        let texts = &self.texts;
        let readings = self.readings.iter_mut().enumerate().filter(|(_, reading)| reading.n_next > 0);
        readings.map(|(i, reading)| {
            reading.start = reading.sequence.position();
            let end = reading.start + reading.n_next;
            let output = if reading.pooler.wants_before(end) { Output::Hidden } else { Output::None };
            let tokens = &texts[reading.text][reading.start..end];
            (i, Feed { sequence: &mut reading.sequence, tokens, output })
        })
    }

    /// Takes the hidden state after a token of a pass.
    pub fn push(&mut self, reading: usize, index: usize, state: &[f32]) {
        let reading = &mut self.readings[reading];
        reading.pooler.push(reading.start + index, state);
    }

    /// Ends the job because of one of its texts.
    pub fn fail_reading(&mut self, reading: usize, error: Error) {
        let text = self.readings[reading].text;
        self.error.get_or_insert(error.of_text(text));
    }

    /// Takes in the vectors of texts that were read to their end.
    pub fn settle(&mut self) {
        let mut i = 0;
        while i < self.readings.len() {
            if self.readings[i].n_unread() == 0 {
                let reading = self.readings.remove(i);
                self.vectors[reading.text] = reading.pooler.finish(self.normalize);
            } else {
                i += 1;
            }
        }
    }

    /// Forgets what a panic may have left half-done.
    pub fn repair(&mut self) {
        for reading in &mut self.readings {
            if reading.sequence.cache().len() != reading.sequence.position() {
                reading.sequence.clear();
                reading.pooler = Pooler::new(self.pooling, self.texts[reading.text].len());
            }
        }
    }

    /// Gives its pages back.
    pub fn release(&mut self) {
        self.readings.clear();
    }

    /// Hands over the vectors, or what went wrong.
    pub fn tell_finished(mut self) {
        let vectors = std::mem::take(&mut self.vectors);
        let result = self.error.take().map_or(Ok(vectors), Err);
        if let Some(done) = self.done.take() {
            call(done, result);
        }
    }
}

impl Reading {
    fn n_unread(&self) -> usize {
        self.pooler.n_tokens() - self.sequence.position()
    }
}
