//! The end of the chain: one candidate, drawn by its probability.

use super::candidates::Candidate;
use super::rng::Rng;

/// Draws from candidates whose probabilities are filled in; uses one random number whatever their count.
/// None if no candidate has a probability above zero.
pub(super) fn draw(candidates: &[Candidate], rng: &mut Rng) -> Option<Candidate> {
    let total: f64 = candidates.iter().map(|c| f64::from(c.p)).sum();
    let target = rng.unit() * total;
    let mut sum = 0.0;
    let mut possible = candidates.iter().filter(|c| c.p > 0.0);
    // The last one is for a sum that rounding leaves at the target.
    possible
        .clone()
        .find(|c| {
            sum += f64::from(c.p);
            sum > target
        })
        .or(possible.next_back())
        .copied()
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::{of, of_probs};
    use super::*;

    #[test]
    fn frequencies_follow_the_probabilities() {
        let mut c = of_probs(&[0.5, 0.0, 0.3, 0.2]);
        c.softmax();
        let mut rng = Rng::new(1);
        let n = 100_000;
        let mut counts = [0u32; 4];
        for _ in 0..n {
            counts[draw(c.as_slice(), &mut rng).unwrap().id as usize] += 1;
        }
        for (count, p) in counts.into_iter().zip([0.5f64, 0.0, 0.3, 0.2]) {
            // Five standard deviations of a binomial count.
            let slack = 5.0 * (f64::from(n) * p * (1.0 - p)).sqrt();
            assert!((f64::from(count) - f64::from(n) * p).abs() <= slack, "{counts:?}");
        }
    }

    #[test]
    fn follows_the_cumulative_sum() {
        let mut c = of_probs(&[0.25, 0.25, 0.25, 0.25]);
        c.softmax();
        let mut rng = Rng::new(99);
        let mut twin = rng.clone();
        for _ in 0..100 {
            let want = (twin.unit() * 4.0) as u32;
            assert_eq!(draw(c.as_slice(), &mut rng).unwrap().id, want);
        }
    }

    #[test]
    fn one_candidate_still_uses_one_number() {
        let mut c = of(&[1.0]);
        c.softmax();
        let mut rng = Rng::new(5);
        let mut twin = rng.clone();
        draw(c.as_slice(), &mut rng);
        twin.unit();
        assert_eq!(rng, twin);
    }

    #[test]
    fn nothing_to_draw() {
        assert_eq!(draw(&[], &mut Rng::new(0)), None);
        assert_eq!(draw(of(&[1.0, 2.0]).as_slice(), &mut Rng::new(0)), None);
    }
}
