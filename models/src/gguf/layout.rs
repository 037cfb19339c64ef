//! Which bytes of a block form numbers wider than a byte: these are swapped when the byte order changes, and the
//! floats among them must be finite.
//!
//! Offsets are those of ggml's block structs (`ggml-common.h`).

use super::tensor::TensorType;

/// The kind of a run of numbers inside a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    F16,
    Bf16,
    F32,
    F64,
    /// 16 bits that are not a float.
    Int16,
    /// 32 bits that are not a float.
    Int32,
    /// 64 bits that are not a float.
    Int64,
}

impl Number {
    /// Bytes of one number.
    pub fn n_bytes(self) -> usize {
        match self {
            Number::F16 | Number::Bf16 | Number::Int16 => 2,
            Number::F32 | Number::Int32 => 4,
            Number::F64 | Number::Int64 => 8,
        }
    }
}

/// `count` numbers of one kind, `offset` bytes into a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub offset: usize,
    pub number: Number,
    pub count: usize,
}

const fn field(offset: usize, number: Number, count: usize) -> Field {
    Field { offset, number, count }
}

/// The wider numbers of a block of `tensor_type`. `None` for the codebook formats that store 32-bit words in bytes; no
/// big-endian files of those are known.
pub(super) fn fields(tensor_type: TensorType) -> Option<&'static [Field]> {
    use Number::{Bf16, F16, F32, F64, Int16, Int32, Int64};
    use TensorType as T;
    Some(match tensor_type {
        T::F32 => const { &[field(0, F32, 1)] },
        T::F16 => const { &[field(0, F16, 1)] },
        T::BF16 => const { &[field(0, Bf16, 1)] },
        T::F64 => const { &[field(0, F64, 1)] },
        T::I16 => const { &[field(0, Int16, 1)] },
        T::I32 => const { &[field(0, Int32, 1)] },
        T::I64 => const { &[field(0, Int64, 1)] },
        T::I8 | T::MXFP4 | T::NVFP4 => &[],
        T::Q4_0 | T::Q8_0 | T::IQ4_NL | T::Q1_0 => const { &[field(0, F16, 1)] },
        T::Q4_1 | T::Q4_K | T::Q5_K => const { &[field(0, F16, 2)] },
        // ggml writes the fifth bits as one native 32-bit word.
        T::Q5_0 => const { &[field(0, F16, 1), field(2, Int32, 1)] },
        T::Q5_1 => const { &[field(0, F16, 2), field(4, Int32, 1)] },
        T::Q2_K => const { &[field(80, F16, 2)] },
        T::Q3_K => const { &[field(108, F16, 1)] },
        T::Q6_K => const { &[field(208, F16, 1)] },
        // After d, the upper bits of the scales as one native 16-bit word.
        T::IQ4_XS => const { &[field(0, F16, 1), field(2, Int16, 1)] },
        T::TQ1_0 => const { &[field(52, F16, 1)] },
        T::TQ2_0 => const { &[field(64, F16, 1)] },
        T::Q8_1
        | T::Q8_K
        | T::IQ1_S
        | T::IQ1_M
        | T::IQ2_XXS
        | T::IQ2_XS
        | T::IQ2_S
        | T::IQ3_XXS
        | T::IQ3_S => return None,
    })
}

/// Swaps the byte order of whole blocks of `tensor_type` in place. Doing it twice changes nothing.
///
/// # Panics
/// If `bytes` is not a whole number of blocks, or [`fields`] does not know the type.
pub(super) fn swap_byte_order(tensor_type: TensorType, bytes: &mut [u8]) {
    let fields = fields(tensor_type).expect("the caller asked `fields` first");
    let blocks = bytes.chunks_exact_mut(tensor_type.block_bytes());
    for block in blocks {
        for field in fields {
            let width = field.number.n_bytes();
            let run = &mut block[field.offset..field.offset + field.count * width];
            run.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_inside_their_block_without_overlap() {
        for &t in TensorType::ALL {
            let mut end = 0;
            for f in fields(t).unwrap_or_default() {
                assert!(f.offset >= end, "{t}");
                end = f.offset + f.count * f.number.n_bytes();
            }
            assert!(end <= t.block_bytes(), "{t}");
        }
    }

    #[test]
    fn swapping_moves_the_words_and_nothing_else() {
        let mut block: Vec<u8> = (0..22).collect();
        swap_byte_order(TensorType::Q5_0, &mut block);
        assert_eq!(block[..8], [1, 0, 5, 4, 3, 2, 6, 7]);
        assert_eq!(block[8..], (8..22).collect::<Vec<u8>>());
        let mut two: Vec<u8> = (0..=255).chain(0..164).collect();
        let original = two.clone();
        swap_byte_order(TensorType::Q6_K, &mut two);
        assert_eq!((two[208], two[209], two[418], two[419]), (209, 208, 163, 162));
        swap_byte_order(TensorType::Q6_K, &mut two);
        assert_eq!(two, original);
    }
}
