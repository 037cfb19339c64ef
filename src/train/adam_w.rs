//! AdamW (<https://arxiv.org/abs/1711.05101>), step by step as `torch.optim.AdamW` computes it.

/// The settings of the optimizer, but for the learning rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// How much of the mean gradient stays from step to step.
    pub beta1: f64,
    /// How much of the mean square stays.
    pub beta2: f64,
    /// What is added to the root of the mean square.
    pub epsilon: f64,
    /// What weights lose per step, beside the gradient's work and as a multiple of the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamW {
    fn default() -> Self {
        AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

/// What the optimizer remembers of one matrix.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Moments {
    /// The mean gradient.
    pub m: Vec<f32>,
    /// The mean square of the gradient.
    pub v: Vec<f32>,
}

impl Moments {
    pub fn new(n: usize) -> Moments {
        Moments { m: vec![0.0; n], v: vec![0.0; n] }
    }
}

impl AdamW {
    /// Moves `weights` one step against `factor` times `gradient`. `t` is the number of the step, from 1.
    pub(super) fn step(
        &self,
        t: u64,
        lr: f64,
        factor: f32,
        weights: &mut [f32],
        gradient: &[f32],
        moments: &mut Moments,
    ) {
        assert_eq!((weights.len(), weights.len()), (gradient.len(), moments.m.len()), "one value a weight");
        let bias1 = 1.0 - libm::pow(self.beta1, t as f64);
        let bias2_root = (1.0 - libm::pow(self.beta2, t as f64)).sqrt() as f32;
        let kept = (1.0 - lr * self.weight_decay) as f32;
        let size = (lr / bias1) as f32;
        let (rest1, beta2, rest2) = ((1.0 - self.beta1) as f32, self.beta2 as f32, (1.0 - self.beta2) as f32);
        let epsilon = self.epsilon as f32;
        let states = moments.m.iter_mut().zip(&mut moments.v);
        for ((w, g), (m, v)) in weights.iter_mut().zip(gradient).zip(states) {
            let g = g * factor;
            *m += rest1 * (g - *m);
            *v = *v * beta2 + rest2 * g * g;
            *w = *w * kept - size * (*m / (v.sqrt() / bias2_root + epsilon));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.optim.AdamW([w], lr=0.01, weight_decay=0.1)` on w = [1.0, -2.0, 0.5], five steps with the gradients
    /// [0.1, -0.2, 0.3]·step, and once more without decay: its weights.
    #[test]
    fn weights_are_those_of_torch() {
        for (weight_decay, expected) in TORCH {
            let adam = AdamW { weight_decay, ..AdamW::default() };
            let mut weights = [1.0_f32, -2.0, 0.5];
            let mut moments = Moments::new(3);
            for t in 1..=5 {
                let gradient = [0.1, -0.2, 0.3].map(|g: f32| g * t as f32);
                adam.step(t, 0.01, 1.0, &mut weights, &gradient, &mut moments);
            }
            for (w, expected) in weights.iter().zip(expected) {
                assert!((w - expected).abs() <= 2.0 * f32::EPSILON, "{weights:?}");
            }
        }
    }

    const TORCH: [(f64, [f32; 3]); 2] =
        [(0.1, [0.94659936, -1.9416094, 0.44909436]), (0.0, [0.9514917, -1.9514917, 0.4514917])];

    #[test]
    fn the_factor_scales_the_gradient() {
        let adam = AdamW::default();
        let run = |factor, gradient: [f32; 2]| {
            let (mut weights, mut moments) = ([0.5, -0.5], Moments::new(2));
            adam.step(1, 0.1, factor, &mut weights, &gradient, &mut moments);
            (weights, moments)
        };
        assert_eq!(run(0.5, [2.0, -4.0]), run(1.0, [1.0, -2.0]));
    }
}
