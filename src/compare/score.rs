//! Chunks of a text, read and scored a few positions at a time on all threads.

use std::io::Write;

use bise_kernels::Team;

use super::base::{BaseReader, BaseWriter, content};
use super::divergence::{Divergence, RowDivergence};
use super::error::CompareError;
use super::row::{LogProbs, encode_row};
use crate::Session;

/// Logits in hand at a time: 16 MiB.
const BATCH: usize = 4 << 20;

/// Consecutive positions of a chunk: the logits after each, and the tokens that follow.
pub struct Batch<'a> {
    /// `[n, n_vocab]`
    logits: &'a [f32],
    next: &'a [u32],
    team: &'a Team,
}

impl Batch<'_> {
    /// Calls `f(i, logits, next)` for each position, on all threads, and returns the results in their order.
    pub fn map<T: Send>(&self, f: impl Fn(usize, &[f32], u32) -> T + Sync) -> Vec<T> {
        let n_vocab = self.logits.len() / self.next.len();
        let mut results: Vec<Option<T>> = self.next.iter().map(|_| None).collect();
        self.team.together(|| {
            self.team.for_each_chunk(&mut results, 1, |i, result| {
                result[0] = Some(f(i, &self.logits[i * n_vocab..][..n_vocab], self.next[i]));
            });
        });
        results.into_iter().map(|result| result.expect("every task was run")).collect()
    }

    /// Positions.
    pub fn len(&self) -> usize {
        self.next.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.next.is_empty()
    }
}

/// Reads `chunk` from an empty context, its first token as `bos` where there is one, and calls `each` with the positions from `first` to the
/// last but one, some at a time.
///
/// # Errors
/// If a pass fails, and those of `each`.
///
/// # Panics
/// If `first` is not before the last token.
pub fn score_chunk(
    session: &mut Session,
    chunk: &[u32],
    bos: Option<u32>,
    first: usize,
    each: &mut dyn FnMut(&Batch<'_>) -> Result<(), CompareError>,
) -> Result<(), CompareError> {
    session.clear();
    let mut read = chunk[..chunk.len() - 1].to_vec();
    if let (Some(bos), Some(first)) = (bos, read.first_mut()) {
        *first = bos;
    }
    let (before, scored) = read.split_at(first);
    // What comes before the first position that counts needs no logits, and after the last token nothing follows.
    if !before.is_empty() {
        session.prefill(before)?;
    }
    let next = &chunk[first + 1..];
    let n_vocab = session.engine().config().n_vocab;
    let threads = session.engine().threads().clone();
    let n_batch = (BATCH / n_vocab).clamp(1, 64);
    let mut logits = Vec::with_capacity(n_batch.min(scored.len()) * n_vocab);
    let mut done = Ok(());
    session.score(scored, &mut |i, row| {
        logits.extend_from_slice(row);
        let n = logits.len() / n_vocab;
        if (n == n_batch || i + 1 == scored.len()) && done.is_ok() {
            done = each(&Batch { logits: &logits, next: &next[i + 1 - n..=i], team: threads.team() });
        }
        if n == n_batch {
            logits.clear();
        }
    })?;
    done
}

/// Scores the next chunk of the base and writes it. `each` is called with the negative log-likelihoods of its tokens, in order.
///
/// # Errors
/// If a pass fails, logits are not finite, or the file cannot be written.
pub fn write_chunk<W: Write>(
    session: &mut Session,
    chunk: &[u32],
    bos: Option<u32>,
    writer: &mut BaseWriter<W>,
    each: &mut dyn FnMut(f64),
) -> Result<(), CompareError> {
    let layout = writer.layout();
    let mut position = layout.first() + 1;
    let (model, n) = (session.engine().file().name().to_owned(), writer.chunk() + 1);
    score_chunk(session, chunk, bos, layout.first(), &mut |batch| {
        let rows = batch.map(|_, logits, next| {
            let mut row = vec![0; layout.row_bytes()];
            let nll = encode_row(logits, &mut row).map(|log_sum| log_sum - logits[next as usize]);
            (row, nll)
        });
        for (row, nll) in rows {
            let nll = nll.map_err(|found| CompareError::NotFinite {
                model: model.clone(),
                chunk: n,
                position,
                found,
            })?;
            writer.row(&row)?;
            each(f64::from(nll));
            position += 1;
        }
        Ok(())
    })
}

/// Reads a chunk's tokens and log-probabilities from the base, and adds how the model differs there.
///
/// # Errors
/// If the file cannot be read, is of another vocabulary or makes no sense, or a pass fails.
pub fn compare_chunk(
    session: &mut Session,
    base: &mut BaseReader,
    chunk: usize,
    bos: Option<u32>,
    divergence: &mut Divergence,
) -> Result<(), CompareError> {
    let layout = base.layout();
    let n_vocab = session.engine().config().n_vocab;
    if layout.n_vocab != n_vocab {
        let expected = format!("{n_vocab}, as {} has", session.engine().file().name());
        return Err(content(base.path(), "tokens of the vocabulary", layout.n_vocab.to_string(), expected));
    }
    let tokens = base.chunk(chunk)?;
    let (mut rows, mut position) = (Vec::new(), layout.first() + 1);
    let model = session.engine().file().name().to_owned();
    score_chunk(session, &tokens, bos, layout.first(), &mut |batch| {
        base.rows(batch.len(), &mut rows)?;
        let compared = batch.map(|i, logits, next| {
            let row = LogProbs::new(&rows[i * layout.row_bytes()..][..layout.row_bytes()]);
            RowDivergence::of(logits, row, next)
        });
        let n = compared.len();
        for (i, row) in compared.into_iter().enumerate() {
            if !row.nll.is_finite() || !row.kld.is_finite() {
                let (model, chunk) = (model.clone(), chunk + 1);
                return Err(CompareError::NotFinite { model, chunk, position, found: row.nll });
            }
            // Cut at 16 nats and rounded to 16 bits, they still add up to 1 within a few hundredths.
            if !(0.9..1.1).contains(&row.base_sum) {
                return Err(base.bad_sum(n - i, row.base_sum));
            }
            divergence.add(&row);
            position += 1;
        }
        Ok(())
    })
}
