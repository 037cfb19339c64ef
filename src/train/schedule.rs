//! The learning rate of each step, as transformers' `get_scheduler` sets it.

/// How the learning rate falls after the warmup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScheduleKind {
    /// Along a line, to 0 behind the last step.
    #[default]
    Linear,
    /// Along half a cosine, to 0 behind the last step.
    Cosine,
    /// Not at all.
    Constant,
}

impl ScheduleKind {
    /// Its name in flags.
    pub fn name(self) -> &'static str {
        match self {
            ScheduleKind::Linear => "linear",
            ScheduleKind::Cosine => "cosine",
            ScheduleKind::Constant => "constant",
        }
    }
}

/// The learning rates of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The largest.
    pub lr: f64,
    /// How it falls.
    pub kind: ScheduleKind,
    /// Steps in which it rises from 0: the first has the rate 0.
    pub n_warmup: usize,
    /// All steps.
    pub n_steps: usize,
}

impl Schedule {
    /// The learning rate of step `step`, from 0.
    pub fn lr(&self, step: usize) -> f64 {
        if step < self.n_warmup {
            return self.lr * (step as f64 / self.n_warmup as f64);
        }
        let rest = self.n_steps.saturating_sub(self.n_warmup).max(1);
        let progress = (step - self.n_warmup) as f64 / rest as f64;
        self.lr
            * match self.kind {
                ScheduleKind::Linear => (1.0 - progress).max(0.0),
                ScheduleKind::Cosine => 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress.min(1.0))),
                ScheduleKind::Constant => 1.0,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `transformers.get_scheduler(kind, torch.optim.SGD([p], lr=1.0), num_warmup_steps=3, num_training_steps=8)`, the rates of its steps.
    #[test]
    fn rates_are_those_of_transformers() {
        let rates = |kind, n_warmup| {
            let schedule = Schedule { lr: 1.0, kind, n_warmup, n_steps: 8 };
            (0..8).map(|step| schedule.lr(step)).collect::<Vec<_>>()
        };
        let close = |a: Vec<f64>, b: [f64; 8]| {
            assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{a:?}");
        };
        close(rates(ScheduleKind::Linear, 3), [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 0.8, 0.6, 0.4, 0.2]);
        close(rates(ScheduleKind::Constant, 3), [0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0, 1.0, 1.0, 1.0]);
        close(
            rates(ScheduleKind::Cosine, 3),
            [
                0.0,
                1.0 / 3.0,
                2.0 / 3.0,
                1.0,
                0.9045084971874737,
                0.6545084971874737,
                0.3454915028125263,
                0.09549150281252627,
            ],
        );
        close(rates(ScheduleKind::Linear, 0), [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]);
    }

    #[test]
    fn a_warmup_longer_than_the_run_only_rises() {
        let schedule = Schedule { lr: 1.0, kind: ScheduleKind::Linear, n_warmup: 10, n_steps: 5 };
        assert_eq!(schedule.lr(4), 0.4);
        assert!(schedule.lr(10).is_finite());
    }
}
