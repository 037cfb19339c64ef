//! One alpha for all.
//!
//! A GGUF file has one alpha, and llama.cpp multiplies each product by `alpha / rank`. Where that is not what a part is scaled by, the ratio goes
//! into its B.

use bise_models::LowRank;

/// Ratios that differ from 1 by rounding alone.
const ROUNDING: f64 = 4.0 * f32::EPSILON as f64;

/// The alpha of a file, and what the B of each part is multiplied by.
#[derive(Debug, PartialEq)]
pub(super) struct Folded {
    pub alpha: f32,
    pub factors: Vec<f32>,
}

impl Folded {
    /// For parts of these ranks and scales, at least one.
    pub fn of(parts: impl IntoIterator<Item = (usize, f32)>) -> Folded {
        let parts: Vec<(usize, f32)> = parts.into_iter().collect();
        let alphas: Vec<f64> = parts.iter().map(|(rank, scale)| f64::from(*scale) * *rank as f64).collect();
        let is_same = |a: f64, b: f64| (a - b).abs() <= ROUNDING * a.abs().max(b.abs());
        let usable = |alpha: &&f64| **alpha as f32 != 0.0 && (**alpha as f32).is_finite();
        // The most frequent one; of those, the first.
        let mut best = (0, parts[0].0 as f64);
        for alpha in alphas.iter().filter(usable) {
            let n = alphas.iter().filter(|other| is_same(*alpha, **other)).count();
            if n > best.0 {
                best = (n, *alpha);
            }
        }
        // A 0 in the file would stand for the rank itself.
        let alpha = best.1 as f32;
        let factor =
            |own: &f64| if is_same(*own, f64::from(alpha)) { 1.0 } else { (own / f64::from(alpha)) as f32 };
        Folded { alpha, factors: alphas.iter().map(factor).collect() }
    }
}

/// Parts of experts as one of a larger rank: rows of A and columns of B are filled up with zeros.
pub(super) fn pad(part: &LowRank, rank: usize) -> (Vec<f32>, Vec<f32>) {
    let k = part.a.len() / part.rank;
    let mut a = part.a.clone();
    a.resize(rank * k, 0.0);
    let row = |row: &[f32]| {
        row.iter().copied().chain(std::iter::repeat_n(0.0, rank - part.rank)).collect::<Vec<f32>>()
    };
    (a, part.b.chunks_exact(part.rank).flat_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_alpha_is_written_and_others_go_into_b() {
        let folded = |parts: &[(usize, f32)]| Folded::of(parts.iter().copied());
        assert_eq!(folded(&[(8, 2.0), (8, 2.0)]), Folded { alpha: 16.0, factors: vec![1.0, 1.0] });
        // One alpha, two ranks.
        assert_eq!(folded(&[(8, 2.0), (4, 4.0)]), Folded { alpha: 16.0, factors: vec![1.0, 1.0] });
        // alpha_pattern.
        assert_eq!(
            folded(&[(8, 4.0), (8, 2.0), (8, 2.0)]),
            Folded { alpha: 16.0, factors: vec![2.0, 1.0, 1.0] }
        );
        // rslora: alpha · √r.
        let scale = (16.0 / 8_f64.sqrt()) as f32;
        assert_eq!(folded(&[(8, scale)]), Folded { alpha: (16.0 * 8_f64.sqrt()) as f32, factors: vec![1.0] });
        let third = (10.0 / 3.0) as f32;
        assert_eq!(folded(&[(3, third)]), Folded { alpha: 10.0, factors: vec![1.0] });
    }

    #[test]
    fn an_alpha_of_zero_is_not_written() {
        assert_eq!(Folded::of([(8, 0.0), (8, 0.0)]), Folded { alpha: 8.0, factors: vec![0.0, 0.0] });
        assert_eq!(
            Folded::of([(8, 0.0), (8, 0.0), (8, 2.0)]),
            Folded { alpha: 16.0, factors: vec![0.0, 0.0, 1.0] }
        );
        assert_eq!(Folded::of([(8, -1.0)]), Folded { alpha: -8.0, factors: vec![1.0] });
    }

    #[test]
    fn padding_leaves_the_product_as_it_is() {
        let part = LowRank { rank: 1, scale: 1.0, a: vec![1.0, 2.0, 3.0], b: vec![4.0, 5.0] };
        assert_eq!(pad(&part, 2), (vec![1.0, 2.0, 3.0, 0.0, 0.0, 0.0], vec![4.0, 0.0, 5.0, 0.0]));
    }
}
