//! GGUF's blocks of 32 from integers, scales and zero points.

use bise_kernels::weights::block::{BlockQ4_0, BlockQ4_1, BlockQ5_0, BlockQ8_0, F16Le};

/// 32 integers of one group. Which blocks can hold them, the caller has checked.
pub(super) struct Group<'a> {
    /// Unsigned integers.
    pub(super) q: &'a [u8; 32],
    /// The integer that stands for 0.
    pub(super) zero: u16,
    /// The scale, as it is stored.
    pub(super) d: F16Le,
}

impl Group<'_> {
    /// `q − 8`, where the zero point is 8.
    pub(super) fn q4_0(&self) -> BlockQ4_0 {
        BlockQ4_0 { d: self.d, qs: low_bits(self.q) }
    }

    /// `q · s + min`; `min` is `−z · s`, rounded.
    pub(super) fn q4_1(&self, min: F16Le) -> BlockQ4_1 {
        BlockQ4_1 { d: self.d, m: min, qs: low_bits(self.q) }
    }

    /// `q − z`, which is from −16 to 15: GPTQ's zero points go up to 16.
    pub(super) fn q5_0(&self) -> BlockQ5_0 {
        let q = self.q.map(|q| q.wrapping_add(16).wrapping_sub(self.zero as u8));
        let mut high = 0;
        for (i, q) in q.iter().enumerate() {
            high |= u32::from(q >> 4 & 1) << i;
        }
        BlockQ5_0 { d: self.d, qh: high.to_le_bytes(), qs: low_bits(&q) }
    }

    /// `q − z`, which is a signed byte where the zero point is 128 or the integers have 4 bits.
    pub(super) fn q8_0(&self) -> BlockQ8_0 {
        BlockQ8_0 { d: self.d, qs: self.q.map(|q| q.wrapping_sub(self.zero as u8) as i8) }
    }
}

/// The low four bits of weight `i` in the low nibble of byte `i`, those of weight `i + 16` in the high one.
fn low_bits(q: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| q[i] & 15 | q[i + 16] << 4)
}
