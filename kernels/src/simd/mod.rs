//! Instruction sets: their names and detection, and registers behind traits whose values prove that the CPU has them.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod exp;
pub(crate) mod isa;
pub(crate) mod lanes;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
#[cfg(target_arch = "x86_64")]
pub(crate) mod row_lanes;
pub(crate) mod scalar;
