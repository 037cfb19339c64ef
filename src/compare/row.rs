//! The log-probabilities of all tokens at one position, in 16 bits each.

/// Nats below the likeliest token at which probabilities are cut.
const DEPTH: f32 = 16.0;

/// `ln Σ exp(l_i − max)` of logits, and their maximum, in the precision of llama-perplexity: exponentials in single precision, summed in
/// double.
pub(super) fn log_sum_exp(logits: &[f32]) -> (f32, f32) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(libm::expf(logit - max))).sum();
    (max, libm::log(sum) as f32)
}

/// Log-probabilities as they lie in a file: a scale and a minimum in single precision, then `minimum + scale × n` with a 16-bit `n` for each
/// token, all little-endian.
#[derive(Clone, Copy, Debug)]
pub struct LogProbs<'a>(&'a [u8]);

impl<'a> LogProbs<'a> {
    /// Bytes before the tokens'.
    pub(super) const HEAD: usize = 8;

    /// Bytes of a row: an even number of tokens is stored.
    pub fn n_bytes(n_vocab: usize) -> usize {
        LogProbs::HEAD + 2 * n_vocab.next_multiple_of(2)
    }

    /// The row that `bytes` hold.
    ///
    /// # Panics
    /// If they are fewer than [`LogProbs::n_bytes`] of no tokens.
    pub fn new(bytes: &'a [u8]) -> LogProbs<'a> {
        assert!(bytes.len() >= LogProbs::HEAD, "{} bytes of log-probabilities", bytes.len());
        LogProbs(bytes)
    }

    fn float(&self, at: usize) -> f32 {
        f32::from_le_bytes(self.0[at..at + 4].try_into().expect("4 bytes"))
    }

    /// The distance between neighbours.
    pub fn scale(&self) -> f32 {
        self.float(0)
    }

    /// The lowest.
    pub fn minimum(&self) -> f32 {
        self.float(4)
    }

    /// The log-probabilities of all tokens, and of one more where their number is odd.
    pub fn iter(&self) -> impl Iterator<Item = f32> + 'a {
        let (scale, minimum) = (self.scale(), self.minimum());
        let (numbers, _) = self.0[LogProbs::HEAD..].as_chunks::<2>();
        numbers.iter().map(move |n| scale * f32::from(u16::from_le_bytes(*n)) + minimum)
    }
}

/// Writes the log-probabilities after `logits` to `out`, and returns `ln Σ exp(l_i)`, or what is not finite of it.
///
/// # Errors
/// Where the logits have no probabilities: NaN, or an infinity.
///
/// # Panics
/// If `out` does not have [`LogProbs::n_bytes`].
pub fn encode_row(logits: &[f32], out: &mut [u8]) -> Result<f32, f32> {
    assert_eq!(out.len(), LogProbs::n_bytes(logits.len()), "bytes of {} log-probabilities", logits.len());
    let (max, log_sum) = log_sum_exp(logits);
    if !(max + log_sum).is_finite() {
        return Err(if max.is_finite() { log_sum } else { max });
    }
    let min = logits.iter().copied().fold(f32::INFINITY, f32::min).max(max - DEPTH);
    let scale = (max - min) / 65535.0;
    out[..4].copy_from_slice(&scale.to_le_bytes());
    out[4..8].copy_from_slice(&(min - max - log_sum).to_le_bytes());
    let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
    let (numbers, _) = out[LogProbs::HEAD..].as_chunks_mut::<2>();
    numbers.fill([0, 0]);
    for (number, &logit) in numbers.iter_mut().zip(logits) {
        // Below the minimum and by rounding above 65535, the conversion keeps to the bounds.
        *number = ((inverse * (logit - min)).round_ties_even() as u16).to_le_bytes();
    }
    Ok(max + log_sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_come_back_within_half_a_step() {
        let logits: Vec<f32> = (0..101).map(|i| (i as f32 * 0.7).sin() * 6.0).collect();
        let mut bytes = vec![0xff; LogProbs::n_bytes(logits.len())];
        assert_eq!(bytes.len(), 8 + 2 * 102);
        let sum = encode_row(&logits, &mut bytes).unwrap();
        let row = LogProbs::new(&bytes);
        for (log_prob, logit) in row.iter().zip(&logits) {
            assert!((log_prob - (logit - sum)).abs() <= 0.51 * row.scale(), "{log_prob}");
        }
        assert_eq!(bytes[bytes.len() - 2..], [0, 0]);
    }

    #[test]
    fn what_is_far_below_the_likeliest_is_cut_at_16() {
        let mut bytes = vec![0; LogProbs::n_bytes(4)];
        encode_row(&[0.0, -15.0, -40.0, f32::NEG_INFINITY], &mut bytes).unwrap();
        let row: Vec<f32> = LogProbs::new(&bytes).iter().collect();
        for (found, expected) in row.iter().zip([0.0, -15.0, -16.0, -16.0]) {
            assert!((found - expected).abs() < 1e-3, "{row:?}");
        }
    }

    #[test]
    fn equal_logits_have_no_scale() {
        let mut bytes = vec![1; LogProbs::n_bytes(2)];
        encode_row(&[3.0, 3.0], &mut bytes).unwrap();
        let row: Vec<f32> = LogProbs::new(&bytes).iter().collect();
        assert!(row.iter().all(|p| (p + 2f32.ln()).abs() < 1e-6), "{row:?}");
    }

    #[test]
    fn logits_that_are_no_numbers_have_no_probabilities() {
        let mut bytes = vec![0; LogProbs::n_bytes(2)];
        for bad in [[0.0, f32::NAN], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]] {
            assert!(encode_row(&bad, &mut bytes).is_err(), "{bad:?}");
        }
    }
}
