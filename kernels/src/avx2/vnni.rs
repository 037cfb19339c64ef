//! Sums of products in 256 bits, the one thing in which plain AVX2 and the two encodings of VNNI differ.
//!
//! `vpdpbusd` is written as `asm!` because a function for AVX2 cannot take in one that is compiled for AVX-VNNI; so the tiles are one
//! body, generic over [`Sums`].

use std::arch::asm;
use std::arch::x86_64::*;

/// How products are added up.
pub(super) trait Sums {
    /// Whether [`Sums::dot`] is exact for any unsigned byte, not only for those below 64.
    const ANY_BYTE: bool;

    /// `acc + Σ w[i]·x[i]`, four values of one token broadcast to each register of weights below `2^bits`.
    ///
    /// # Safety
    /// The CPU has AVX2, and what the implementor needs besides.
    unsafe fn dot<const N: usize>(bits: u32, acc: __m256i, w: &[__m256i; N], x: &[i32; N]) -> __m256i;
}

/// AVX2: `vpmaddubsw` adds pairs to 16 bits (it saturates beyond), `vpmaddwd` those to 32.
pub(super) struct Maddubs;

impl Sums for Maddubs {
    const ANY_BYTE: bool = false;

    /// Pairs of products of `bits` by 7 bits are summed in 16 bits for as long as they fit.
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn dot<const N: usize>(bits: u32, acc: __m256i, w: &[__m256i; N], x: &[i32; N]) -> __m256i {
        let fit = (0x7fff / (2 * 127 * ((1 << bits) - 1))).clamp(1, N);
        let (mut acc, mut i) = (acc, 0);
        while i < N {
            let mut words = _mm256_maddubs_epi16(w[i], _mm256_set1_epi32(x[i]));
            i += 1;
            while i < N && i % fit != 0 {
                words = _mm256_add_epi16(words, _mm256_maddubs_epi16(w[i], _mm256_set1_epi32(x[i])));
                i += 1;
            }
            acc = _mm256_add_epi32(acc, _mm256_madd_epi16(words, _mm256_set1_epi16(1)));
        }
        acc
    }
}

macro_rules! vnni {
    ($(#[$doc:meta])* $name:ident, $dpbusd:literal) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl Sums for $name {
            const ANY_BYTE: bool = true;

            #[inline]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn dot<const N: usize>(_: u32, mut acc: __m256i, w: &[__m256i; N], x: &[i32; N]) -> __m256i {
                for i in 0..N {
                    // SAFETY: the caller's CPU has the instruction; it touches registers only.
                    unsafe {
                        asm!($dpbusd, inout(ymm_reg) acc, in(ymm_reg) w[i], in(ymm_reg) _mm256_set1_epi32(x[i]),
                            options(pure, nomem, nostack, preserves_flags));
                    }
                }
                acc
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
