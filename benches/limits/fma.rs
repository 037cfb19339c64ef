//! How many f32 multiplications and additions a core does at most.

use std::hint::black_box;

use bise_kernels::Isa;

/// Sums that do not wait for each other: more than the latency of a fused multiply-add times the units that do it.
const SUMS: usize = 12;

/// Executes `rounds` of twelve independent fused multiply-adds of vectors and says how many operations they were, two for each lane; `None`
/// where this machine has not the instruction set.
pub fn fma(isa: Isa, rounds: u64) -> Option<u64> {
    if !isa.is_available() {
        return None;
    }
    let lanes = match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction set is available.
        Isa::Avx2 | Isa::AvxVnni => unsafe { x86::avx2(rounds) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512Vnni | Isa::Amx => unsafe { x86::avx512(rounds) },
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        Isa::Neon | Isa::NeonDotprod | Isa::NeonI8mm => unsafe { arm::neon(rounds) },
        _ => return None,
    };
    Some(2 * lanes * SUMS as u64 * rounds)
}

/// Sums that stay near 1, so that no operand is subnormal.
macro_rules! chains {
    ($name:ident, $features:literal, $lanes:literal, $splat:ident, $fma:expr) => {
        /// # Safety
        /// The CPU has the features.
        #[target_feature(enable = $features)]
        pub unsafe fn $name(rounds: u64) -> u64 {
            let (factor, term) = ($splat(black_box(0.999)), $splat(black_box(0.001)));
            let mut sums = [$splat(black_box(1.0)); SUMS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $fma(*sum, factor, term);
                }
            }
            black_box(sums);
            $lanes
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::*;
    use std::arch::x86_64::*;

    chains!(avx2, "avx2,fma", 8, _mm256_set1_ps, _mm256_fmadd_ps);
    chains!(avx512, "avx512f", 16, _mm512_set1_ps, _mm512_fmadd_ps);
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::*;
    use std::arch::aarch64::*;

    chains!(neon, "neon", 4, vdupq_n_f32, |sum, factor, term| vfmaq_f32(term, sum, factor));
}
