//! Pages of keys and values: 64 positions of one layer, in the type of the cache.
//!
//! A page holds the keys of all heads, then the values of all heads. Numbers are little-endian; nothing is aligned.
//!
//! - **Keys** of a head lie transposed, `[head_dim][64]`, so that the lanes of a product are keys. Eight- and four-bit types come in
//!   blocks of 32 dimensions (the last may be shorter): 64 f16 scales, one for each key, then the quants, `[dims][64]` in bytes or
//!   `[dims / 2][64]` with dimension `2i` in the low nibble and `2i + 1` in the high one.
//! - **Values** of a head are rows, `[64][head_dim]`, padded with zeros to blocks of 32 dimensions. Eight- and four-bit rows are one
//!   f16 scale for each block, then the quants: 32 bytes a block, or 16 with dimension `i` in the low nibble and `i + 16` in the high.
//!
//! The eight-bit quant is `q = x / d` rounded to nearest even, where `d` is the block's `max |x| / 127` rounded to f16 (one step up where
//! the largest would not fit otherwise), so `|x − d·q| ≤ d/2`. In four bits `d` is the element of largest magnitude, with its sign,
//! divided by −8 and rounded to f16, and `q = x / d` rounded to nearest even and clamped to `[−8, 7]`, stored plus 8. What is read back,
//! `d·q`, is exact in f32.

use std::fmt;
use std::str::FromStr;

use half::f16;
use half::slice::HalfFloatSliceExt;

/// Positions in a page.
pub const PAGE_LEN: usize = 64;

/// Dimensions that share a scale.
pub(crate) const BLOCK: usize = 32;

/// How keys or values are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(non_camel_case_types)]
#[allow(missing_docs)]
pub enum CacheType {
    F32,
    F16,
    Q8_0,
    Q4_0,
}

impl CacheType {
    /// Every type, the most exact first.
    pub const ALL: [CacheType; 4] = [CacheType::F32, CacheType::F16, CacheType::Q8_0, CacheType::Q4_0];

    /// The name that [`FromStr`] reads: llama.cpp's.
    pub const fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Q8_0 => "q8_0",
            CacheType::Q4_0 => "q4_0",
        }
    }

    /// Bytes of a block's scale, for one key or value.
    pub(crate) const fn scale_bytes(self) -> usize {
        match self {
            CacheType::F32 | CacheType::F16 => 0,
            CacheType::Q8_0 | CacheType::Q4_0 => 2,
        }
    }

    /// Bytes of the numbers of two dimensions.
    pub(crate) const fn pair_bytes(self) -> usize {
        match self {
            CacheType::F32 => 8,
            CacheType::F16 => 4,
            CacheType::Q8_0 => 2,
            CacheType::Q4_0 => 1,
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for CacheType {
    type Err = String;

    fn from_str(s: &str) -> Result<CacheType, String> {
        CacheType::ALL.into_iter().find(|t| t.name() == s).ok_or_else(|| {
            let names = CacheType::ALL.map(CacheType::name).join(", ");
            format!("unknown cache type '{s}', expected one of {names}")
        })
    }
}

/// The shape of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageLayout {
    n_kv_heads: usize,
    head_dim: usize,
    k_type: CacheType,
    v_type: CacheType,
}

impl PageLayout {
    /// A layout of `n_kv_heads` heads of `head_dim` dimensions.
    ///
    /// # Panics
    /// Where there are no heads, or `head_dim` is odd or 0.
    pub fn new(n_kv_heads: usize, head_dim: usize, k_type: CacheType, v_type: CacheType) -> Self {
        assert!(n_kv_heads > 0, "a page of no heads");
        assert!(head_dim > 0 && head_dim.is_multiple_of(2), "heads of {head_dim} dimensions");
        PageLayout { n_kv_heads, head_dim, k_type, v_type }
    }

    /// Heads of keys and values.
    pub fn n_kv_heads(&self) -> usize {
        self.n_kv_heads
    }

    /// Dimensions of a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// The type of keys.
    pub fn k_type(&self) -> CacheType {
        self.k_type
    }

    /// The type of values.
    pub fn v_type(&self) -> CacheType {
        self.v_type
    }

    /// Bytes of the keys in a page.
    pub fn k_bytes(&self) -> usize {
        self.n_kv_heads * self.k_head_bytes()
    }

    /// Bytes of the values in a page.
    pub fn v_bytes(&self) -> usize {
        self.n_kv_heads * self.v_row_bytes() * PAGE_LEN
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.k_bytes() + self.v_bytes()
    }

    /// Blocks of dimensions in a head, the last perhaps not full.
    pub(crate) fn n_blocks(&self) -> usize {
        self.head_dim.div_ceil(BLOCK)
    }

    /// Bytes of a full block of keys.
    fn k_block_bytes(&self) -> usize {
        PAGE_LEN * (self.k_type.scale_bytes() + BLOCK / 2 * self.k_type.pair_bytes())
    }

    fn k_head_bytes(&self) -> usize {
        PAGE_LEN
            * (self.n_blocks() * self.k_type.scale_bytes() + self.head_dim / 2 * self.k_type.pair_bytes())
    }

    pub(crate) fn v_row_bytes(&self) -> usize {
        self.n_blocks() * (self.v_type.scale_bytes() + BLOCK / 2 * self.v_type.pair_bytes())
    }

    /// The keys of a head.
    pub(crate) fn keys<'a>(&self, page: &'a [u8], kv_head: usize) -> &'a [u8] {
        &page[kv_head * self.k_head_bytes()..][..self.k_head_bytes()]
    }

    /// The values of a head.
    pub(crate) fn values<'a>(&self, page: &'a [u8], kv_head: usize) -> &'a [u8] {
        let bytes = PAGE_LEN * self.v_row_bytes();
        &page[self.k_bytes() + kv_head * bytes..][..bytes]
    }

    /// Stores the key and the value of one position (`[n_kv_heads][head_dim]` each) in slot `pos % 64` of its page.
    ///
    /// False where a number is not finite, or too large for the type; the slot is then undefined.
    ///
    /// # Panics
    /// Where lengths do not fit the layout or there is no such slot.
    #[must_use]
    pub fn store(&self, page: &mut [u8], slot: usize, k_row: &[f32], v_row: &[f32]) -> bool {
        let width = self.n_kv_heads * self.head_dim;
        assert_eq!((k_row.len(), v_row.len()), (width, width), "a key and a value");
        assert_eq!(page.len(), self.page_bytes(), "bytes of a page");
        assert!(slot < PAGE_LEN, "slot {slot} of a page");
        let (keys, values) = page.split_at_mut(self.k_bytes());
        let keys = keys.chunks_exact_mut(self.k_head_bytes()).zip(k_row.chunks_exact(self.head_dim));
        let values =
            values.chunks_exact_mut(PAGE_LEN * self.v_row_bytes()).zip(v_row.chunks_exact(self.head_dim));
        let mut finite = true;
        for (head, x) in keys {
            for (block, x) in head.chunks_mut(self.k_block_bytes()).zip(x.chunks(BLOCK)) {
                finite &= store_keys(self.k_type, block, slot, x);
            }
        }
        for (head, x) in values {
            let row = &mut head[slot * self.v_row_bytes()..][..self.v_row_bytes()];
            let (scales, quants) = row.split_at_mut(self.n_blocks() * self.v_type.scale_bytes());
            let quants = quants.chunks_exact_mut(BLOCK / 2 * self.v_type.pair_bytes());
            for (b, (quants, x)) in quants.zip(x.chunks(BLOCK)).enumerate() {
                finite &= store_values(self.v_type, scales, b, quants, x);
            }
        }
        finite
    }
}

/// Up to 32 dimensions of one key into column `slot` of a block.
fn store_keys(k_type: CacheType, block: &mut [u8], slot: usize, x: &[f32]) -> bool {
    let (scales, numbers) = block.split_at_mut(PAGE_LEN * k_type.scale_bytes());
    match k_type {
        CacheType::F32 => {
            for (x, row) in x.iter().zip(numbers.as_chunks_mut::<4>().0.chunks_exact_mut(PAGE_LEN)) {
                row[slot] = x.to_le_bytes();
            }
            x.iter().all(|x| x.is_finite())
        }
        CacheType::F16 => {
            let halves = &halves(x)[..x.len()];
            for (x, row) in halves.iter().zip(numbers.as_chunks_mut::<2>().0.chunks_exact_mut(PAGE_LEN)) {
                row[slot] = x.to_le_bytes();
            }
            halves.iter().all(|x| x.is_finite())
        }
        CacheType::Q8_0 => {
            let Some((d, q)) = quantize_8(x) else { return false };
            scales[2 * slot..][..2].copy_from_slice(&d.to_le_bytes());
            for (q, row) in q[..x.len()].iter().zip(numbers.chunks_exact_mut(PAGE_LEN)) {
                row[slot] = *q as u8;
            }
            true
        }
        CacheType::Q4_0 => {
            let Some((d, q)) = quantize_4(x) else { return false };
            scales[2 * slot..][..2].copy_from_slice(&d.to_le_bytes());
            for (q, row) in q.as_chunks::<2>().0.iter().zip(numbers.chunks_exact_mut(PAGE_LEN)) {
                row[slot] = q[0] | q[1] << 4;
            }
            true
        }
    }
}

/// Up to 32 dimensions of one value into block `b` of its row.
fn store_values(v_type: CacheType, scales: &mut [u8], b: usize, numbers: &mut [u8], x: &[f32]) -> bool {
    match v_type {
        CacheType::F32 => {
            for (i, out) in numbers.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                *out = x.get(i).unwrap_or(&0.0).to_le_bytes();
            }
            x.iter().all(|x| x.is_finite())
        }
        CacheType::F16 => {
            let halves = halves(x);
            for (x, out) in halves.iter().zip(numbers.as_chunks_mut::<2>().0) {
                *out = x.to_le_bytes();
            }
            halves.iter().all(|x| x.is_finite())
        }
        CacheType::Q8_0 => {
            let Some((d, q)) = quantize_8(x) else { return false };
            scales[2 * b..][..2].copy_from_slice(&d.to_le_bytes());
            for (q, out) in q.iter().zip(numbers) {
                *out = *q as u8;
            }
            true
        }
        CacheType::Q4_0 => {
            let Some((d, q)) = quantize_4(x) else { return false };
            scales[2 * b..][..2].copy_from_slice(&d.to_le_bytes());
            let (low, high) = q.split_at(BLOCK / 2);
            for ((low, high), out) in low.iter().zip(high).zip(numbers) {
                *out = low | high << 4;
            }
            true
        }
    }
}

/// Up to 32 numbers in f16, then zeros.
fn halves(x: &[f32]) -> [f16; BLOCK] {
    let mut halves = [f16::ZERO; BLOCK];
    halves[..x.len()].convert_from_f32_slice(x);
    halves
}

/// A scale and up to 32 quants (then zeros), or `None` where a number is not finite or the scale does not fit f16.
fn quantize_8(x: &[f32]) -> Option<(f16, [i8; BLOCK])> {
    let largest = largest(x)?.abs();
    let mut d = f16::from_f32(largest / 127.0);
    if largest > 127.5 * d.to_f32() {
        // Rounding down costs a small half too much; the next is one more in its bits.
        d = f16::from_bits(d.to_bits() + 1);
    }
    let mut q = [0; BLOCK];
    if largest > 0.0 {
        for (q, x) in q.iter_mut().zip(x) {
            *q = (x / d.to_f32()).round_ties_even().clamp(-127.0, 127.0) as i8;
        }
    }
    d.is_finite().then_some((d, q))
}

/// A scale and up to 32 quants plus 8 (then eights, which are zero), or `None` where a number is not finite or the scale does not fit.
fn quantize_4(x: &[f32]) -> Option<(f16, [u8; BLOCK])> {
    let d = f16::from_f32(largest(x)? / -8.0);
    let mut q = [8; BLOCK];
    if d.to_f32() != 0.0 {
        for (q, x) in q.iter_mut().zip(x) {
            *q = ((x / d.to_f32()).round_ties_even().clamp(-8.0, 7.0) + 8.0) as u8;
        }
    }
    d.is_finite().then_some((d, q))
}

/// The first element of the largest magnitude, or `None` where one is not finite.
fn largest(x: &[f32]) -> Option<f32> {
    let mut largest = 0f32;
    for x in x {
        if !x.is_finite() {
            return None;
        }
        if x.abs() > largest.abs() {
            largest = *x;
        }
    }
    Some(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for t in CacheType::ALL {
            assert_eq!(t.name().parse(), Ok(t));
        }
        assert!("q5_0".parse::<CacheType>().is_err());
    }

    #[test]
    fn quants_are_within_half_a_step() {
        for exponent in -40..19 {
            for seed in 0..50u32 {
                let x: [f32; 32] = std::array::from_fn(|i| {
                    let bits = (seed * 32 + i as u32).wrapping_mul(0x9e37_79b9) >> 8;
                    (bits as f32 / 8388608.0 - 1.0) * 2f32.powi(exponent)
                });
                let largest = x.iter().fold(0f32, |m, x| m.max(x.abs()));
                let (d, q) = quantize_8(&x).unwrap();
                for (x, q) in x.iter().zip(q) {
                    assert!((x - d.to_f32() * q as f32).abs() <= d.to_f32() / 2.0 * 1.000_001, "{x} {d} {q}");
                }
                let (d, q) = quantize_4(&x).unwrap();
                for (x, q) in x.iter().zip(q) {
                    // The side opposite to the largest element has one step less; a half below 2⁻¹⁴ is coarse.
                    let error = (x - d.to_f32() * (q as f32 - 8.0)).abs();
                    let bound = if largest / 8.0 < 6.2e-5 { largest } else { largest / 8.0 * 1.01 };
                    assert!(error <= bound, "{x} {d} {q}");
                }
            }
        }
    }

    #[test]
    fn what_no_type_holds_is_refused() {
        for k_type in CacheType::ALL {
            let layout = PageLayout::new(1, 40, k_type, CacheType::F32);
            let mut page = vec![0; layout.page_bytes()];
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = [1.0; 40];
                assert!(layout.store(&mut page, 3, &x, &x));
                x[35] = bad;
                assert!(!layout.store(&mut page, 3, &x, &[0.0; 40]), "a key of {bad} in {k_type}");
                let layout = PageLayout::new(1, 40, CacheType::F32, k_type);
                let mut page = vec![0; layout.page_bytes()];
                assert!(!layout.store(&mut page, 3, &[0.0; 40], &x), "a value of {bad} in {k_type}");
            }
        }
        let layout = PageLayout::new(1, 2, CacheType::F16, CacheType::F16);
        assert!(!layout.store(&mut vec![0; layout.page_bytes()], 0, &[65520.0, 0.0], &[0.0; 2]));
    }

    #[test]
    fn pages_are_as_large_as_said() {
        let page = |t| PageLayout::new(8, 128, t, t).page_bytes() / 2 / 8 / 64;
        assert_eq!(CacheType::ALL.map(page), [512, 256, 136, 72]);
    }
}
