//! The loss, `−ln softmax(logits)[label]`, and its derivative.

use super::executor::{Executor, Output};

impl Executor {
    /// The loss of each row of `logits`, `[labels, n_vocab]`: `losses[t] = −ln softmax(logits[t])[labels[t]]`. Each row becomes its
    /// gradient, `softmax(logits[t])` less 1 at the label.
    ///
    /// The exponentials of a row are summed in f64; logits that are NaN or infinite give a NaN.
    ///
    /// # Panics
    /// Where shapes do not fit, or a label is not in the vocabulary.
    pub fn cross_entropy(&mut self, logits: &mut [f32], labels: &[u32], losses: &mut [f64]) {
        self.losses(logits.len(), labels, losses, {
            let (backward, base) = (self.backward(), Output::new(logits));
            move |t, n_vocab| {
                // SAFETY: rows are disjoint, each is visited by one task, and `logits` stays borrowed until all are done.
                let row = unsafe { std::slice::from_raw_parts_mut(base.at(t * n_vocab), n_vocab) };
                let label = labels[t] as usize;
                let (largest, sum) = sum_of(backward.exp_sum, row);
                let loss = loss(largest, sum, row[label]);
                // SAFETY: a table is handed out for an available ISA only.
                unsafe { (backward.normalize)(row, largest, (1.0 / sum) as f32) };
                row[label] -= 1.0;
                loss
            }
        });
    }

    /// The losses of [`Executor::cross_entropy`] without the gradients.
    ///
    /// # Panics
    /// As there.
    pub fn log_losses(&mut self, logits: &[f32], labels: &[u32], losses: &mut [f64]) {
        let backward = self.backward();
        self.losses(logits.len(), labels, losses, |t, n_vocab| {
            let row = &logits[t * n_vocab..][..n_vocab];
            let (largest, sum) = sum_of(backward.exp_sum, row);
            loss(largest, sum, row[labels[t] as usize])
        });
    }

    fn losses(
        &self,
        n_logits: usize,
        labels: &[u32],
        losses: &mut [f64],
        loss: impl Fn(usize, usize) -> f64 + Sync,
    ) {
        let n = labels.len();
        assert_eq!(losses.len(), n, "losses of {n} labels");
        if n == 0 {
            assert_eq!(n_logits, 0, "logits without labels");
            return;
        }
        assert!(n_logits.is_multiple_of(n), "{n_logits} logits for {n} labels");
        let n_vocab = n_logits / n;
        for label in labels {
            assert!((*label as usize) < n_vocab, "label {label} in a vocabulary of {n_vocab}");
        }
        self.team.together(|| self.team.for_each_chunk(losses, 1, |t, out| out[0] = loss(t, n_vocab)));
    }
}

/// The largest logit, and the sum of the exponentials of all less that.
fn sum_of(exp_sum: unsafe fn(&[f32], f32) -> f64, logits: &[f32]) -> (f32, f64) {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max });
    // SAFETY: the function comes from a table, which is handed out for an available ISA only.
    (largest, unsafe { exp_sum(logits, largest) })
}

fn loss(largest: f32, sum: f64, at_label: f32) -> f64 {
    libm::log(sum) + (f64::from(largest) - f64::from(at_label))
}
