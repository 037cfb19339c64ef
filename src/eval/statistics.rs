//! Means of scores, and their standard errors.

/// The mean.
pub fn mean(scores: &[f64]) -> f64 {
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// The standard error of the mean of a sample; none for fewer than two scores.
pub fn standard_error(scores: &[f64]) -> Option<f64> {
    if scores.len() < 2 {
        return None;
    }
    let (mean, n) = (mean(scores), scores.len() as f64);
    let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    Some((squares / (n - 1.0)).sqrt() / n.sqrt())
}

/// The mean of several samples' means, each of which counts as often as its sample is large.
pub fn weighted_mean(means: &[f64], sizes: &[usize]) -> f64 {
    let sum: f64 = means.iter().zip(sizes).map(|(mean, size)| mean * *size as f64).sum();
    sum / sizes.iter().sum::<usize>() as f64
}

/// The standard error of that mean, from the pooled variance of the samples. None where one has none.
pub fn pooled_standard_error(errors: &[Option<f64>], sizes: &[usize]) -> Option<f64> {
    let mut squares = 0.0;
    for (error, size) in errors.iter().zip(sizes) {
        let size = *size as f64;
        squares += (size - 1.0) * (*error)?.powi(2) * size;
    }
    let n = sizes.iter().sum::<usize>() as f64;
    Some((squares / (n - sizes.len() as f64) / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// lm_eval.api.metrics: mean, mean_stderr, aggregate_subtask_metrics, pooled_sample_stderr
    #[test]
    fn they_are_those_of_lm_eval() {
        let scores = [1.0, 0.0, 0.0, 1.0, 1.0];
        assert_eq!(mean(&scores), 0.6);
        let error = standard_error(&scores).unwrap();
        assert!((error - 0.244_948_974_278_317_8).abs() < 1e-15, "{error}");
        assert_eq!(standard_error(&[1.0]), None);
        assert!((weighted_mean(&[0.6, 0.25], &[5, 12]) - 0.352_941_176_470_588_26).abs() < 1e-15);
        let pooled = pooled_standard_error(&[Some(0.244_948_974_278_317_8), Some(0.13)], &[5, 12]).unwrap();
        assert!((pooled - 0.11599188612596496).abs() < 1e-15, "{pooled}");
        assert_eq!(pooled_standard_error(&[Some(0.1), None], &[5, 1]), None);
    }
}
