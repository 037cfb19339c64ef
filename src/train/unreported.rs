//! What steps did that no report tells of yet.

use serde_json::{Value, json};

use super::step::Step;

/// Sums over the steps behind the last report. They are saved with a run, so that its next report is the same after an interruption.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Unreported {
    /// The number of steps.
    pub n_steps: usize,
    /// The sum of their losses.
    pub loss: f64,
    /// The sum of the norms of their gradients.
    pub gradient_norm: f64,
    /// Label tokens.
    pub n_labels: u64,
    /// All tokens.
    pub n_tokens: u64,
    /// The seconds that they took.
    pub seconds: f64,
    /// The learning rate of the last.
    pub lr: f64,
}

impl Unreported {
    /// Adds the next step.
    pub fn add(&mut self, step: &Step) {
        self.n_steps += 1;
        self.loss += step.loss;
        self.gradient_norm += step.gradient_norm;
        self.n_labels += step.n_labels as u64;
        self.n_tokens += step.n_tokens as u64;
        self.seconds += step.took.as_secs_f64();
        self.lr = step.lr;
    }

    /// Fractions are texts: not every build reads all digits of a number in JSON.
    pub(super) fn to_json(self) -> Value {
        json!({
            "n_steps": self.n_steps,
            "loss": self.loss.to_string(),
            "gradient_norm": self.gradient_norm.to_string(),
            "n_labels": self.n_labels,
            "n_tokens": self.n_tokens,
            "seconds": self.seconds.to_string(),
            "lr": self.lr.to_string(),
        })
    }

    pub(super) fn from_json(value: &Value) -> Option<Unreported> {
        let fraction = |name: &str| value[name].as_str()?.parse().ok();
        Some(Unreported {
            n_steps: value["n_steps"].as_u64()?.try_into().ok()?,
            loss: fraction("loss")?,
            gradient_norm: fraction("gradient_norm")?,
            n_labels: value["n_labels"].as_u64()?,
            n_tokens: value["n_tokens"].as_u64()?,
            seconds: fraction("seconds")?,
            lr: fraction("lr")?,
        })
    }
}
