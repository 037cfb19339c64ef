//! Sums of products in 256 bits, the one thing in which plain AVX2 and the two encodings of VNNI differ.
//!
//! `vpdpbusd` is written as `asm!` because a function for AVX2 cannot take in one that is compiled for AVX-VNNI; so the tiles are one
//! body, generic over [`Sums`].

use std::arch::asm;
use std::arch::x86_64::*;

/// How products are added up.
pub(crate) trait Sums {
    /// Whether [`Sums::dot`] takes weights of 8 bits as unsigned ones; otherwise those are signed.
    const UNSIGNED: bool;

    /// `sums + Σ w·x` of eight rows and `T` tokens, for four values a register of `w`, all below `2^bits`; those of token `t` are
    /// `x[t][at..]`.
    ///
    /// # Safety
    /// The CPU has AVX2, and what the implementor needs besides.
    unsafe fn dot<const T: usize>(
        bits: u32,
        w: &[__m256i],
        x: &[[i32; 16]; T],
        at: usize,
        sums: [__m256i; T],
    ) -> [__m256i; T];
}

/// AVX2: `vpmaddubsw` adds pairs to 16 bits (it saturates beyond), `vpmaddwd` those to 32.
pub(crate) struct Maddubs;

impl Sums for Maddubs {
    const UNSIGNED: bool = false;

    /// Pairs of products of `bits` by 7 bits are summed in 16 bits for as long as they fit. With signed weights it is `|w| · (±x)`: two
    /// products of 128 by 127 fit.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dot<const T: usize>(
        bits: u32,
        w: &[__m256i],
        x: &[[i32; 16]; T],
        at: usize,
        mut sums: [__m256i; T],
    ) -> [__m256i; T] {
        let fit = (0x7fff / (2 * 127 * ((1 << bits) - 1))).clamp(1, w.len());
        for first in (0..w.len()).step_by(fit) {
            let mut words = [_mm256_setzero_si256(); T];
            for (i, w) in w.iter().enumerate().skip(first).take(fit) {
                let unsigned = if bits == 8 { _mm256_abs_epi8(*w) } else { *w };
                for t in 0..T {
                    let x = _mm256_set1_epi32(x[t][at + i]);
                    let x = if bits == 8 { _mm256_sign_epi8(x, *w) } else { x };
                    let products = _mm256_maddubs_epi16(unsigned, x);
                    words[t] = if i == first { products } else { _mm256_add_epi16(words[t], products) };
                }
            }
            for t in 0..T {
                let dwords = _mm256_madd_epi16(words[t], _mm256_set1_epi16(1));
                sums[t] = _mm256_add_epi32(sums[t], dwords);
            }
        }
        sums
    }
}

macro_rules! vnni {
    ($(#[$doc:meta])* $name:ident, $dpbusd:literal) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Sums for $name {
            const UNSIGNED: bool = true;

            #[inline]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn dot<const T: usize>(
                _: u32,
                w: &[__m256i],
                x: &[[i32; 16]; T],
                at: usize,
                mut sums: [__m256i; T],
            ) -> [__m256i; T] {
                for (i, w) in w.iter().enumerate() {
                    for t in 0..T {
                        // SAFETY: the caller's CPU has the instruction; it touches registers only.
                        unsafe {
                            asm!($dpbusd, inout(ymm_reg) sums[t], in(ymm_reg) *w,
                                in(ymm_reg) _mm256_set1_epi32(x[t][at + i]),
                                options(pure, nomem, nostack, preserves_flags));
                        }
                    }
                }
                sums
            }
        }
    };
}

vnni! {
    /// AVX-VNNI.
    Vex, "{{vex}} vpdpbusd {0}, {1}, {2}"
}

vnni! {
    /// AVX-512 VL and VNNI.
    Evex, "{{evex}} vpdpbusd {0}, {1}, {2}"
}
