//! XTC: exclude top choices.

use super::SamplingParams;
use super::candidates::Candidates;
use super::link::Link;
use super::rng::Rng;

/// With probability `probability`, drops every token whose probability reaches `threshold`, except the least likely
/// of them (<https://github.com/oobabooga/text-generation-webui/pull/6335>).
pub(super) struct Xtc {
    probability: f32,
    threshold: f32,
    min_keep: usize,
}

impl Xtc {
    pub fn new(params: &SamplingParams) -> Self {
        let (probability, threshold) = (params.xtc_probability, params.xtc_threshold);
        Self { probability, threshold, min_keep: params.min_keep }
    }
}

impl Link for Xtc {
    fn apply(&mut self, candidates: &mut Candidates, rng: &mut Rng) {
        if candidates.len() < 2 || rng.unit() >= f64::from(self.probability) {
            return;
        }
        candidates.sort();
        candidates.softmax();
        let reaching = candidates.as_slice().iter().take_while(|c| c.p >= self.threshold).count();
        if let Some(dropped @ 1..) = reaching.checked_sub(1)
            && candidates.len() - dropped >= self.min_keep
        {
            candidates.drop_front(dropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{ids, of_probs};
    use super::*;

    fn xtc(probability: f32, threshold: f32, min_keep: usize) -> Vec<u32> {
        let params = SamplingParams {
            xtc_probability: probability,
            xtc_threshold: threshold,
            min_keep,
            ..Default::default()
        };
        let mut c = of_probs(&[0.1, 0.2, 0.3, 0.4]);
        Xtc::new(&params).apply(&mut c, &mut Rng::new(3));
        ids(&c)
    }

    #[test]
    fn drops_all_top_choices_but_the_least_likely() {
        assert_eq!(xtc(1.0, 0.09, 0), [0]);
        assert_eq!(xtc(1.0, 0.19, 0), [0, 1]);
        assert_eq!(xtc(1.0, 0.29, 0), [0, 1, 2]);
        assert_eq!(xtc(1.0, 0.39, 0), [0, 1, 2, 3]);
        assert_eq!(xtc(1.0, 0.45, 0), [0, 1, 2, 3]);
    }

    #[test]
    fn min_keep_stops_it() {
        assert_eq!(xtc(1.0, 0.19, 3), [0, 1, 2, 3]);
        assert_eq!(xtc(1.0, 0.19, 2), [0, 1]);
    }

    #[test]
    fn fires_as_often_as_asked() {
        let params = SamplingParams { xtc_probability: 0.25, ..Default::default() };
        let mut link = Xtc::new(&params);
        let mut rng = Rng::new(11);
        let n = 20_000;
        let fired = (0..n)
            .filter(|_| {
                let mut c = of_probs(&[0.5, 0.5]);
                link.apply(&mut c, &mut rng);
                c.len() == 1
            })
            .count() as f64;
        // Five standard deviations: 5·√(20000·0.25·0.75) = 306.
        assert!((fired - 5000.0).abs() < 306.0, "{fired}");
    }
}
