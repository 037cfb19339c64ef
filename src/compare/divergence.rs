//! Two distributions over the vocabulary at one position, and their differences summed over positions.

use super::row::{LogProbs, log_sum_exp};

/// Tokens that are less likely than this in the base, as a logarithm, add nothing, as in llama-perplexity.
const LEAST: f32 = -16.0;

/// How a model's distribution differs from the base's at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowDivergence {
    /// Negative log-likelihood of the next token.
    pub nll: f32,
    /// That in the base.
    pub nll_base: f32,
    /// Kullback-Leibler divergence of the model from the base, `Σ p_base · (ln p_base − ln p)`, in nats.
    pub kld: f64,
    /// Probability of the next token, less that in the base.
    pub p_diff: f32,
    /// Whether the likeliest token is the same.
    pub same_top: bool,
    /// What the probabilities of the base add up to: about 1, if the row is one of probabilities.
    pub base_sum: f64,
}

impl RowDivergence {
    /// Compares the distribution that `logits` stand for with that of `base`; `next` is the token that follows in the text. Products are
    /// rounded as in llama-perplexity.
    ///
    /// # Panics
    /// If `next` is not in the vocabulary, or `base` is of a smaller one.
    pub fn of(logits: &[f32], base: LogProbs<'_>, next: u32) -> RowDivergence {
        let (max, log_sum) = log_sum_exp(logits);
        let nll = max + log_sum - logits[next as usize];
        let log_sum = max + log_sum;
        let (mut top, mut top_base) = ((f32::NEG_INFINITY, 0), (f32::NEG_INFINITY, 0));
        let (mut kld, mut base_sum, mut log_p_base) = (0.0, 0.0, f32::NAN);
        for (i, (&logit, log_p)) in logits.iter().zip(base.iter()).enumerate() {
            if logit > top.0 {
                top = (logit, i);
            }
            if log_p > top_base.0 {
                top_base = (log_p, i);
            }
            if log_p > LEAST {
                let p = libm::expf(log_p);
                kld += f64::from(p * (log_p - logit + log_sum));
                base_sum += f64::from(p);
            }
            if i == next as usize {
                log_p_base = log_p;
            }
        }
        RowDivergence {
            nll,
            nll_base: -log_p_base,
            kld,
            p_diff: libm::expf(-nll) - libm::expf(log_p_base),
            same_top: top.1 == top_base.1,
            base_sum,
        }
    }
}

/// Differences over many positions. A position takes 8 bytes.
#[derive(Clone, Debug, Default)]
pub struct Divergence {
    pub(super) nll: Sums,
    pub(super) nll_base: Sums,
    pub(super) nll_product: f64,
    pub(super) kld: Sums,
    pub(super) p_diff: Sums,
    /// Of the squares, that is.
    pub(super) p_diff_squared: Sums,
    pub(super) n_same_top: usize,
    pub(super) klds: Vec<f32>,
    pub(super) p_diffs: Vec<f32>,
}

/// The sum of numbers, and that of their squares.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub sum: f64,
    pub squares: f64,
}

impl Sums {
    fn add(&mut self, x: f64, square: f64) {
        self.sum += x;
        self.squares += square;
    }
}

impl Divergence {
    /// Adds a position.
    pub fn add(&mut self, row: &RowDivergence) {
        let square = |x: f32| f64::from(x * x);
        self.nll.add(row.nll.into(), square(row.nll));
        self.nll_base.add(row.nll_base.into(), square(row.nll_base));
        self.nll_product += f64::from(row.nll * row.nll_base);
        self.kld.add(row.kld, row.kld * row.kld);
        self.p_diff.add(row.p_diff.into(), square(row.p_diff));
        self.p_diff_squared.add(square(row.p_diff), square(row.p_diff) * square(row.p_diff));
        self.n_same_top += usize::from(row.same_top);
        self.klds.push(row.kld as f32);
        self.p_diffs.push(row.p_diff);
    }

    /// Positions.
    pub fn n(&self) -> usize {
        self.klds.len()
    }
}
