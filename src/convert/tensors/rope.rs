//! Llama 3.1's rotary frequencies.

/// What each frequency is divided by, as in llama.cpp's converter: nothing for waves that fit the original context `high` times, `factor` for those
/// that do not fit it `low` times, and between these in proportion.
pub(super) fn divisors(
    base: f64,
    head_dim: usize,
    factor: f64,
    low: f64,
    high: f64,
    original_ctx: usize,
) -> Vec<f32> {
    let original_ctx = original_ctx as f64;
    let divisor = |i: usize| {
        let exponent = (2 * i) as f32 / head_dim as f32;
        let frequency = 1.0 / libm::pow(base, f64::from(exponent)) as f32;
        let wave = 2.0 * std::f64::consts::PI / f64::from(frequency);
        if wave < original_ctx / high {
            1.0
        } else if wave > original_ctx / low {
            factor
        } else {
            let smooth = (original_ctx / wave - low) / (high - low);
            1.0 / ((1.0 - smooth) / factor + smooth)
        }
    };
    (0..head_dim / 2).map(|i| divisor(i) as f32).collect()
}
