//! Several answers to one request, as they come.

use futures_util::stream::{self, Stream, StreamExt};

use super::{Answer, Delta, Timings};

/// A part of one of several answers.
#[derive(Debug)]
pub struct Part {
    /// Its place among the answers.
    pub index: usize,
    /// The part.
    pub delta: Delta,
    /// The tokens and times of that answer so far.
    pub timings: Timings,
}

/// The parts of all answers, as they come. Dropped, it cancels them all.
pub fn merge(answers: Vec<Answer>) -> impl Stream<Item = Part> + Send {
    let parts = answers.into_iter().enumerate().map(|(index, answer)| {
        stream::unfold(answer, move |mut answer| async move {
            let delta = answer.next().await?;
            Some((Part { index, delta, timings: answer.timings() }, answer))
        })
        .boxed()
    });
    stream::select_all(parts)
}
