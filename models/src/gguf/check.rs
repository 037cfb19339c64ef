//! Finds weights that are NaN or infinite, for `bise inspect --check-tensors`.

use super::layout::{self, Field, Number};
use super::tensor::TensorType;

/// The result of [`check_tensor`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Check {
    /// All scales, minimums and plain floats are finite, so all weights are.
    Finite,
    /// The first block that contains a NaN or an infinity.
    NotFinite {
        /// Index of the block in the tensor; of the element, for plain floats.
        block: usize,
        /// The NaN or infinity.
        value: f64,
    },
    /// A codebook format, whose layout is not known here.
    Unknown,
}

/// Scans a tensor's data for NaN and infinities in its scales and minimums, or in its plain floats.
///
/// `bytes` are little-endian blocks, as [`GgufFile::bytes`](super::GgufFile::bytes) gives them.
///
/// # Panics
/// If `bytes` is not a whole number of blocks.
#[must_use]
pub fn check_tensor(tensor_type: TensorType, bytes: &[u8]) -> Check {
    let block_bytes = tensor_type.block_bytes();
    assert!(bytes.len().is_multiple_of(block_bytes), "{} bytes of {tensor_type}", bytes.len());
    let Some(fields) = layout::fields(tensor_type) else { return Check::Unknown };
    let is_bad = |block: &[u8]| fields.iter().any(|field| not_finite(field, block).is_some());
    // Plain numbers go through a loop of their own, which the compiler turns into vectors.
    let first = match tensor_type {
        TensorType::F16 => first_plain(bytes, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
        TensorType::BF16 => first_plain(bytes, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
        TensorType::F32 => first_plain(bytes, |b| u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000),
        _ => bytes.chunks_exact(block_bytes).position(is_bad),
    };
    let Some(block) = first else { return Check::Finite };
    let found = &bytes[block * block_bytes..][..block_bytes];
    let value = fields.iter().find_map(|field| not_finite(field, found));
    Check::NotFinite { block, value: value.expect("the block was chosen for it") }
}

/// Calls `each` with the scale of every block: the first float of it, which is the weight itself for plain floats. Nothing for types that have
/// none, or whose layout is not known here.
///
/// `bytes` are little-endian blocks, as [`GgufFile::bytes`](super::GgufFile::bytes) gives them.
///
/// # Panics
/// If `bytes` is not a whole number of blocks.
pub fn for_each_scale(tensor_type: TensorType, bytes: &[u8], mut each: impl FnMut(f64)) {
    let block_bytes = tensor_type.block_bytes();
    assert!(bytes.len().is_multiple_of(block_bytes), "{} bytes of {tensor_type}", bytes.len());
    let is_float = |field: &&Field| !matches!(field.number, Number::Int16 | Number::Int32 | Number::Int64);
    let Some(field) = layout::fields(tensor_type).unwrap_or_default().iter().find(is_float) else { return };
    let width = field.number.n_bytes();
    for block in bytes.chunks_exact(block_bytes) {
        each(float(field.number, &block[field.offset..][..width]));
    }
}

/// The largest magnitude of the floats of all blocks: scales and minimums, or the weights of plain floats. 0 for types that have none, or whose
/// layout is not known here; NaN counts for nothing.
///
/// # Panics
/// If `bytes` is not a whole number of blocks.
#[must_use]
pub fn largest_float(tensor_type: TensorType, bytes: &[u8]) -> f64 {
    let block_bytes = tensor_type.block_bytes();
    assert!(bytes.len().is_multiple_of(block_bytes), "{} bytes of {tensor_type}", bytes.len());
    let mut most = 0.0_f64;
    for field in layout::fields(tensor_type).unwrap_or_default() {
        let width = field.number.n_bytes();
        for block in bytes.chunks_exact(block_bytes) {
            let run = &block[field.offset..][..field.count * width];
            most =
                run.chunks_exact(width).fold(most, |most, bytes| most.max(float(field.number, bytes).abs()));
        }
    }
    most
}

/// The index of the first `N`-byte number in `bytes` for which `is_bad` holds.
fn first_plain<const N: usize>(bytes: &[u8], is_bad: impl Fn([u8; N]) -> bool) -> Option<usize> {
    /// Numbers checked without an early exit, so that the loop vectorizes. They fit in the L1 cache.
    const RUN: usize = 4096;
    let (numbers, _) = bytes.as_chunks::<N>();
    let run = numbers.chunks(RUN).position(|run| run.iter().fold(false, |bad, &n| bad | is_bad(n)))?;
    numbers[run * RUN..].iter().position(|&n| is_bad(n)).map(|i| run * RUN + i)
}

/// The first non-finite float of `field` in `block`.
fn not_finite(field: &Field, block: &[u8]) -> Option<f64> {
    let width = field.number.n_bytes();
    let run = &block[field.offset..][..field.count * width];
    run.chunks_exact(width).map(|bytes| float(field.number, bytes)).find(|value| !value.is_finite())
}

/// `bytes` as a float. Integers are always finite and count as 0.
fn float(number: Number, bytes: &[u8]) -> f64 {
    let u16 = || u16::from_le_bytes([bytes[0], bytes[1]]);
    match number {
        Number::F16 => half::f16::from_bits(u16()).to_f64(),
        Number::Bf16 => half::bf16::from_bits(u16()).to_f64(),
        Number::F32 => f32::from_le_bytes(bytes.try_into().expect("4 bytes")).into(),
        Number::F64 => f64::from_le_bytes(bytes.try_into().expect("8 bytes")),
        Number::Int16 | Number::Int32 | Number::Int64 => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of NaN and both infinities in each float format.
    fn bad_numbers(number: Number) -> Vec<Vec<u8>> {
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        let bytes = |v: f64| match number {
            Number::F16 => half::f16::from_f64(v).to_le_bytes().to_vec(),
            Number::Bf16 => half::bf16::from_f64(v).to_le_bytes().to_vec(),
            Number::F32 => (v as f32).to_le_bytes().to_vec(),
            Number::F64 => v.to_le_bytes().to_vec(),
            Number::Int16 | Number::Int32 | Number::Int64 => Vec::new(),
        };
        values.into_iter().map(bytes).filter(|b| !b.is_empty()).collect()
    }

    #[test]
    fn each_scale_of_each_format_is_looked_at_and_the_first_bad_block_named() {
        let n_blocks = 5000; // more than one run of plain numbers
        let mut n_cases = 0;
        for &t in TensorType::ALL {
            let Some(fields) = layout::fields(t) else {
                assert_eq!(check_tensor(t, &[]), Check::Unknown);
                continue;
            };
            let mut bytes = vec![0_u8; n_blocks * t.block_bytes()];
            assert_eq!(check_tensor(t, &bytes), Check::Finite, "{t}");
            for field in fields {
                for i in 0..field.count {
                    for bad in bad_numbers(field.number) {
                        for block in [0, 4095, 4096, n_blocks - 1] {
                            let at = block * t.block_bytes() + field.offset + i * bad.len();
                            bytes[at..at + bad.len()].copy_from_slice(&bad);
                            match check_tensor(t, &bytes) {
                                Check::NotFinite { block: found, value } => {
                                    assert_eq!(found, block, "{t}");
                                    assert!(!value.is_finite());
                                }
                                other => panic!("{t}: {other:?}"),
                            }
                            bytes[at..at + bad.len()].fill(0);
                            n_cases += 1;
                        }
                    }
                }
            }
        }
        assert!(n_cases > 200, "{n_cases}");
    }

    #[test]
    fn the_scale_of_a_block_is_its_first_float() {
        for (t, at) in
            [(TensorType::Q4_K, 0), (TensorType::Q6_K, 208), (TensorType::Q3_K, 108), (TensorType::Q5_0, 0)]
        {
            let mut bytes = vec![0x55; 2 * t.block_bytes()];
            for (block, scale) in bytes.chunks_mut(t.block_bytes()).zip([0.5, -2.0]) {
                block[at..at + 2].copy_from_slice(&half::f16::from_f64(scale).to_le_bytes());
            }
            let mut found = Vec::new();
            for_each_scale(t, &bytes, |scale| found.push(scale));
            assert_eq!(found, [0.5, -2.0], "{t}");
        }
        let mut block = vec![0x55; TensorType::Q5_1.block_bytes()];
        block[..4].copy_from_slice(&[0x00, 0x3c, 0x00, 0xc4]);
        assert_eq!(largest_float(TensorType::Q5_1, &block), 4.0, "the minimum is -4, and bits are no floats");
        for_each_scale(TensorType::I32, &[0; 8], |_| panic!("integers have no scale"));
    }

    #[test]
    fn quants_may_hold_any_bits() {
        for &t in TensorType::ALL {
            let Some(fields) = layout::fields(t) else { continue };
            let mut block = vec![0xff_u8; t.block_bytes()];
            for field in fields.iter().filter(|field| !bad_numbers(field.number).is_empty()) {
                block[field.offset..][..field.count * field.number.n_bytes()].fill(0x11);
            }
            assert_eq!(check_tensor(t, &block), Check::Finite, "{t}");
        }
    }
}
