//! How likely a model finds given continuations.
//!
//! Texts are read in lexicographic order of their tokens, as the tree of their prefixes: what several have in common (a prompt with four
//! endings, examples that all questions of a task begin with) is read once, and its keys and values are shared. Branches that do not
//! depend on each other are read in one pass.

use std::rc::Rc;

use bise_models::Output;

use crate::generation::log_sum_exp;
use crate::{Cancel, Engine, Error, Feed, PagePool, Runner, Sequence, SessionOptions};

/// A text of which the last tokens are scored.
#[derive(Clone, Debug)]
pub struct Scored {
    /// At least one more than are scored.
    pub tokens: Vec<u32>,
    /// At least 1.
    pub n_scored: usize,
}

/// What the model thinks of a continuation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    /// The natural logarithm of its probability.
    pub log_prob: f64,
    /// Each of its tokens was the likeliest.
    pub is_greedy: bool,
}

impl Scored {
    /// What is read: all but the last token.
    fn input(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }

    /// The place in the input of the first token whose logits are needed.
    fn first_row(&self) -> usize {
        self.tokens.len() - 1 - self.n_scored
    }
}

/// Why texts could not be scored.
pub enum Failure {
    /// This text alone fails.
    Text(usize, String),
    Model(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Model(error)
    }
}

/// How texts are read.
pub struct ReadOptions<'a> {
    pub session: SessionOptions,
    /// Branches that are read in one pass at most.
    pub n_parallel: usize,
    pub cancel: &'a Cancel,
}

/// The likelihoods of `texts`, in order. `done(n)` is told whenever `n` more are known.
///
/// # Errors
/// A pass that fails or is cancelled.
pub fn likelihoods(
    engine: &Engine,
    texts: &[Scored],
    options: &ReadOptions<'_>,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Likelihood>, Failure> {
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by(|a, b| texts[*a].input().cmp(texts[*b].input()));
    let likelihoods = vec![Likelihood { log_prob: 0.0, is_greedy: true }; texts.len()];
    let pool = engine.page_pool(&options.session, usize::MAX);
    let mut reader = Reader { engine, texts, order, options, pool, likelihoods };
    reader.run(done)?;
    Ok(reader.likelihoods)
}

/// A stretch of tokens that some texts have in common.
struct Branch {
    /// The texts, as a range of [`Reader::order`].
    texts: std::ops::Range<usize>,
    /// Where it begins in them.
    start: usize,
    /// What was read before it.
    parent: Option<Rc<Sequence>>,
}

/// A branch that is being read.
struct Open {
    texts: std::ops::Range<usize>,
    end: usize,
    /// The first place whose logits a text needs.
    first_row: usize,
    sequence: Sequence,
}

struct Reader<'a> {
    engine: &'a Engine,
    texts: &'a [Scored],
    /// Of the texts, by their tokens.
    order: Vec<usize>,
    options: &'a ReadOptions<'a>,
    pool: PagePool,
    likelihoods: Vec<Likelihood>,
}

impl Reader<'_> {
    fn run(&mut self, done: &mut dyn FnMut(usize)) -> Result<(), Failure> {
        let mut runner = self.engine.runner();
        let n_rows = self.options.session.n_ubatch.max(1);
        let n_parallel = self.options.n_parallel.clamp(1, n_rows);
        let mut waiting = Vec::new();
        self.push_branches(&mut waiting, 0..self.order.len(), 0, None);
        let mut open: Vec<Open> = Vec::new();
        while !(waiting.is_empty() && open.is_empty()) {
            while open.len() < n_parallel
                && let Some(branch) = waiting.pop()
            {
                open.push(self.open(branch));
            }
            self.pass(&mut runner, &mut open, n_rows)?;
            let mut i = 0;
            while i < open.len() {
                if open[i].sequence.position() < open[i].end {
                    i += 1;
                    continue;
                }
                let Open { texts, end, sequence, .. } = open.swap_remove(i);
                // Texts that end here come first.
                let over = texts.clone().take_while(|at| self.input(*at).len() == end).count();
                done(over);
                if over < texts.len() {
                    let parent = Some(Rc::new(sequence));
                    self.push_branches(&mut waiting, texts.start + over..texts.end, end, parent);
                }
            }
        }
        Ok(())
    }

    fn input(&self, at: usize) -> &[u32] {
        self.texts[self.order[at]].input()
    }

    /// The branches of texts that are equal up to `start` and longer, the last one first.
    fn push_branches(
        &self,
        waiting: &mut Vec<Branch>,
        texts: std::ops::Range<usize>,
        start: usize,
        parent: Option<Rc<Sequence>>,
    ) {
        let first = waiting.len();
        let mut at = texts.start;
        while at < texts.end {
            let token = self.input(at)[start];
            let n = (at..texts.end).take_while(|other| self.input(*other)[start] == token).count();
            waiting.push(Branch { texts: at..at + n, start, parent: parent.clone() });
            at += n;
        }
        waiting[first..].reverse();
    }

    fn open(&self, branch: Branch) -> Open {
        let Branch { texts, start, parent } = branch;
        let (first, last) = (self.input(texts.start), self.input(texts.end - 1));
        // Sorted as they are, the first and the last have the least in common.
        let common = first[start..].iter().zip(&last[start..]).take_while(|(a, b)| a == b).count();
        let scored = texts.clone().map(|at| &self.texts[self.order[at]]);
        let first_row = scored.map(Scored::first_row).min().expect("a branch has texts");
        let sequence = match parent.map(Rc::try_unwrap) {
            None => self.empty(),
            // The last branch goes on with it.
            Some(Ok(sequence)) => sequence,
            Some(Err(parent)) => {
                let mut sequence = self.empty();
                let adopted = sequence.adopt(&parent, start);
                debug_assert!(adopted, "nobody has read on behind a branching");
                sequence
            }
        };
        Open { end: start + common, texts, first_row, sequence }
    }

    fn empty(&self) -> Sequence {
        let config = self.engine.config();
        let n_ctx = self.engine.n_ctx(&self.options.session);
        let mut sequence = Sequence::new(&self.pool, n_ctx, config.sliding_window);
        sequence.set_adapters(self.engine.adapters());
        sequence
    }

    /// Reads on in the open branches, `n_rows` tokens together at most.
    fn pass(&mut self, runner: &mut Runner, open: &mut [Open], n_rows: usize) -> Result<(), Failure> {
        let mut left = n_rows;
        let starts: Vec<usize> = open.iter().map(|branch| branch.sequence.position()).collect();
        let (texts, order) = (self.texts, &self.order);
        let mut batch = Vec::with_capacity(open.len());
        let mut read = Vec::with_capacity(open.len());
        for (i, branch) in open.iter_mut().enumerate() {
            let start = starts[i];
            let end = branch.end.min(start + left);
            if start == end {
                continue;
            }
            let (end, output) = output(start, end, branch.first_row);
            left -= end - start;
            let tokens = &texts[order[branch.texts.start]].input()[start..end];
            read.push(i);
            batch.push(Feed { sequence: &mut branch.sequence, tokens, output });
        }
        let mut outputs = runner.forward(&mut batch, self.options.cancel.flag())?;
        for (span, i) in read.iter().enumerate() {
            if let Some(error) = outputs.failure(span) {
                return Err(Failure::Text(order[open[*i].texts.start], error.to_string()));
            }
        }
        while let Some(row) = outputs.next_row().map_err(Error::from)? {
            let i = read[row.span];
            let at = starts[i] + row.index;
            if at < open[i].first_row {
                continue;
            }
            let log_sum = f64::from(log_sum_exp(row.values));
            let likeliest = argmax(row.values);
            for text in &order[open[i].texts.clone()] {
                let (scored, likelihood) = (&texts[*text], &mut self.likelihoods[*text]);
                if at < scored.first_row() || at >= scored.input().len() {
                    continue;
                }
                let token = scored.tokens[at + 1] as usize;
                likelihood.log_prob += f64::from(row.values[token]) - log_sum;
                likelihood.is_greedy &= likeliest == token;
            }
        }
        Ok(())
    }
}

/// How far to read from `start`, `end` at most, and what is needed then of places from `first_row` on.
fn output(start: usize, end: usize, first_row: usize) -> (usize, Output) {
    /// Logits are computed for so many places that nobody asks for, rather than in another pass.
    const MOST_WASTED: usize = 64;
    if first_row >= end {
        (end, Output::None)
    } else if first_row + 1 == end {
        (end, Output::Last)
    } else if first_row > start + MOST_WASTED {
        (first_row, Output::None)
    } else {
        (end, Output::All)
    }
}

/// The place of the largest, the first of equals.
fn argmax(logits: &[f32]) -> usize {
    let mut best = 0;
    for (i, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = i;
        }
    }
    best
}
