//! The exponential function.

use crate::simd::lanes::Lanes;

/// `eˣ` within 1.5 units in the last place of the exact value for `−87 ≤ x ≤ 88`; 0 below, infinity above, NaN for NaN, and exactly 1
/// for 0.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`, in the manner of Cody and Waite (`ln 2` in two parts, the first with 9 trailing zero bits,
/// so that `n` times it is exact), and `eʳ = 1 + r + r²·q(r)`, where `q` is the polynomial of degree 4 that makes the largest relative
/// error of `eʳ` smallest (3.1e-9, fitted by reweighted least squares).
#[inline(always)]
pub(crate) fn exp<S: Lanes>(s: S, x: S::F) -> S::F {
    /// Added to a number below 2²², it leaves that number, rounded to nearest even, in the low bits; and 127, the exponent's bias.
    const ROUND: f32 = 12_582_912.0 + 127.0;
    const LN_2_HIGH: f32 = 0.693_145_75;
    const LN_2_LOW: f32 = 1.428_606_8e-6;
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let shifted = s.fma(x, s.splat(std::f32::consts::LOG2_E), s.splat(ROUND));
    let n = s.sub(shifted, s.splat(ROUND));
    let power = s.shift_left_23(shifted);
    let r = s.fma(n, s.splat(-LN_2_HIGH), x);
    let r = s.fma(n, s.splat(-LN_2_LOW), r);
    let q = s.fma(s.splat(0.001_381_477_3), r, s.splat(0.008_368_738));
    let q = s.fma(q, r, s.splat(0.041_668_385));
    let q = s.fma(q, r, s.splat(0.166_665_21));
    let q = s.fma(q, r, s.splat(0.499_999_94));
    let e = s.add(one, s.fma(s.mul(q, r), r, r));
    let e = s.mul(e, power);
    let e = s.select_lt(x, s.splat(-87.0), zero, e);
    s.select_lt(s.splat(88.0), x, s.splat(f32::INFINITY), e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::scalar::Scalar;

    fn exp_of(x: f32) -> f32 {
        exp(Scalar, [x; 16])[5]
    }

    #[test]
    fn within_a_unit_and_a_half_in_the_last_place() {
        let mut worst = 0f64;
        // Every 977th number from −87 to 88: a prime, so that no bits are left out.
        for bits in (0..=0x42b0_0000u32).chain(0x8000_0000..=0xc2ae_0000).step_by(977) {
            let x = f32::from_bits(bits);
            let exact = (x as f64).exp();
            let unit = 2f64.powi(exact.log2().floor() as i32 - 23);
            worst = worst.max((exp_of(x) as f64 - exact).abs() / unit);
        }
        assert!(worst <= 1.5, "{worst} units");
    }

    #[test]
    fn at_the_ends() {
        assert_eq!(exp_of(0.0), 1.0);
        assert_eq!(exp_of(-0.0), 1.0);
        assert!(exp_of(-87.0) > 0.0);
        assert_eq!(exp_of((-87f32).next_down()), 0.0);
        assert_eq!(exp_of(f32::NEG_INFINITY), 0.0);
        assert!(exp_of(88.0).is_finite());
        assert_eq!(exp_of(88f32.next_up()), f32::INFINITY);
        assert_eq!(exp_of(f32::INFINITY), f32::INFINITY);
        assert!(exp_of(f32::NAN).is_nan());
    }
}
