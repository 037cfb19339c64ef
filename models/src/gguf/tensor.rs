//! Tensor types and descriptions.

use std::fmt;

use bise_kernels::Format;

macro_rules! tensor_types {
    ($($(#[$doc:meta])* $variant:ident = $id:literal, $name:literal, $block_len:literal, $block_bytes:literal;)*) => {
        /// The type of a tensor's elements, by the ids of ggml (`enum ggml_type`).
        ///
        /// All types of gguf-py 0.19 are included, with their sizes, so that any file can be listed. Only those with a
        /// [`format`](TensorType::format) can be computed with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(non_camel_case_types)] // the field's own spelling
        #[repr(u32)]
        pub enum TensorType {
            $($(#[$doc])* $variant = $id,)*
        }

        impl TensorType {
            /// All types, by ascending id.
            pub const ALL: &'static [TensorType] = &[$(TensorType::$variant,)*];

            /// The type with ggml's id `id`, if there is one.
            #[must_use]
            pub fn from_id(id: u32) -> Option<TensorType> {
                match id {
                    $($id => Some(TensorType::$variant),)*
                    _ => None,
                }
            }

            /// ggml's name of the type, as in `Q4_K`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(TensorType::$variant => $name,)*
                }
            }

            /// Elements in a block; 1 for plain numbers. Rows are whole blocks.
            #[must_use]
            pub fn block_len(self) -> usize {
                match self {
                    $(TensorType::$variant => $block_len,)*
                }
            }

            /// Bytes in a block.
            #[must_use]
            pub fn block_bytes(self) -> usize {
                match self {
                    $(TensorType::$variant => $block_bytes,)*
                }
            }
        }
    };
}

tensor_types! {
    /// IEEE single.
    F32 = 0, "F32", 1, 4;
    /// IEEE half.
    F16 = 1, "F16", 1, 2;
    /// 4 bits, f16 scale.
    Q4_0 = 2, "Q4_0", 32, 18;
    /// 4 bits, f16 scale and minimum.
    Q4_1 = 3, "Q4_1", 32, 20;
    /// 5 bits, f16 scale.
    Q5_0 = 6, "Q5_0", 32, 22;
    /// 5 bits, f16 scale and minimum.
    Q5_1 = 7, "Q5_1", 32, 24;
    /// 8 bits, f16 scale.
    Q8_0 = 8, "Q8_0", 32, 34;
    /// 8 bits, f16 scale and sum; for activations, never in files (gguf-py still lists an older block of 40 bytes).
    Q8_1 = 9, "Q8_1", 32, 36;
    /// 2 bits, 4-bit scales and minimums per 16.
    Q2_K = 10, "Q2_K", 256, 84;
    /// 3 bits, 6-bit scales per 16.
    Q3_K = 11, "Q3_K", 256, 110;
    /// 4 bits, 6-bit scales and minimums per 32.
    Q4_K = 12, "Q4_K", 256, 144;
    /// 5 bits, 6-bit scales and minimums per 32.
    Q5_K = 13, "Q5_K", 256, 176;
    /// 6 bits, 8-bit scales per 16.
    Q6_K = 14, "Q6_K", 256, 210;
    /// 8 bits, f32 scale and sums per 16; for activations.
    Q8_K = 15, "Q8_K", 256, 292;
    /// Codebook, 2.06 bits.
    IQ2_XXS = 16, "IQ2_XXS", 256, 66;
    /// Codebook, 2.31 bits.
    IQ2_XS = 17, "IQ2_XS", 256, 74;
    /// Codebook, 3.06 bits.
    IQ3_XXS = 18, "IQ3_XXS", 256, 98;
    /// Codebook, 1.56 bits.
    IQ1_S = 19, "IQ1_S", 256, 50;
    /// 4 bits through a table of 16 values, f16 scale.
    IQ4_NL = 20, "IQ4_NL", 32, 18;
    /// Codebook, 3.44 bits.
    IQ3_S = 21, "IQ3_S", 256, 110;
    /// Codebook, 2.56 bits.
    IQ2_S = 22, "IQ2_S", 256, 82;
    /// 4 bits through a table of 16 values, 6-bit scales per 32.
    IQ4_XS = 23, "IQ4_XS", 256, 136;
    /// Signed bytes.
    I8 = 24, "I8", 1, 1;
    /// Signed 16-bit integers.
    I16 = 25, "I16", 1, 2;
    /// Signed 32-bit integers.
    I32 = 26, "I32", 1, 4;
    /// Signed 64-bit integers.
    I64 = 27, "I64", 1, 8;
    /// IEEE double.
    F64 = 28, "F64", 1, 8;
    /// Codebook, 1.75 bits.
    IQ1_M = 29, "IQ1_M", 256, 56;
    /// The upper half of an IEEE single.
    BF16 = 30, "BF16", 1, 2;
    /// Ternary, packed by powers of 3.
    TQ1_0 = 34, "TQ1_0", 256, 54;
    /// Ternary, 2 bits.
    TQ2_0 = 35, "TQ2_0", 256, 66;
    /// 4-bit floats, one power-of-two scale per 32.
    MXFP4 = 39, "MXFP4", 32, 17;
    /// 4-bit floats, one 8-bit float scale per 16.
    NVFP4 = 40, "NVFP4", 64, 36;
    /// One bit, f16 scale.
    Q1_0 = 41, "Q1_0", 128, 18;
}

impl TensorType {
    /// Bytes of a tensor of `n_elements` elements, or `None` if that overflows `usize`. A partial last block is not counted;
    /// the reader checks that rows are whole blocks.
    #[must_use]
    pub fn bytes_for(self, n_elements: usize) -> Option<usize> {
        (n_elements / self.block_len()).checked_mul(self.block_bytes())
    }

    /// The kernels' format for this type, or `None` if it can only be listed.
    #[must_use]
    pub fn format(self) -> Option<Format> {
        Some(match self {
            TensorType::F32 => Format::F32,
            TensorType::F16 => Format::F16,
            TensorType::BF16 => Format::BF16,
            TensorType::Q8_0 => Format::Q8_0,
            TensorType::Q4_0 => Format::Q4_0,
            TensorType::Q4_1 => Format::Q4_1,
            TensorType::Q5_0 => Format::Q5_0,
            TensorType::Q5_1 => Format::Q5_1,
            TensorType::Q2_K => Format::Q2_K,
            TensorType::Q3_K => Format::Q3_K,
            TensorType::Q4_K => Format::Q4_K,
            TensorType::Q5_K => Format::Q5_K,
            TensorType::Q6_K => Format::Q6_K,
            TensorType::IQ4_NL => Format::IQ4_NL,
            TensorType::IQ4_XS => Format::IQ4_XS,
            _ => return None,
        })
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor's description. It has been checked: the data lie inside the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// The tensor's name, as in `blk.0.attn_q.weight`.
    pub name: String,
    /// Sizes, the fastest first (GGUF's order): `shape[0]` is the length of a row. 1 to 4 of them, none zero.
    pub shape: Vec<usize>,
    /// The type of the elements.
    pub tensor_type: TensorType,
    /// Size of the data in bytes.
    pub n_bytes: usize,
    /// Which file of a split model holds the data, from 0.
    pub part: usize,
    /// Offset of the data from the start of that file, in bytes.
    pub offset: usize,
}

impl TensorInfo {
    /// Number of elements: the product of the shape.
    #[must_use]
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of rows: the product of the shape without its first entry.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.shape[1..].iter().product()
    }
}

#[cfg(test)]
mod tests {
    use super::TensorType;

    #[test]
    fn ids_lead_back_to_their_types() {
        for &t in TensorType::ALL {
            assert_eq!(TensorType::from_id(t as u32), Some(t));
            assert_eq!(format!("{t:?}"), t.name());
        }
        // Ids that ggml removed (Q4_2, Q4_3, the interleaved forms) and ids not yet given.
        for id in [4, 5, 31, 32, 33, 36, 37, 38, 42, u32::MAX] {
            assert_eq!(TensorType::from_id(id), None);
        }
    }

    #[test]
    fn types_and_kernel_formats_agree_on_names_and_blocks() {
        let formats: Vec<_> = TensorType::ALL.iter().filter_map(|t| Some((t, t.format()?))).collect();
        assert_eq!(formats.len(), bise_kernels::Format::ALL.len());
        for (t, format) in formats {
            assert_eq!(t.name(), format!("{format:?}"));
            assert_eq!((t.block_len(), t.block_bytes()), (format.block_len(), format.block_bytes()));
        }
    }

    #[test]
    fn sizes_too_large_for_the_machine_are_seen() {
        assert_eq!(TensorType::Q4_K.bytes_for(512), Some(288));
        assert_eq!(TensorType::F64.bytes_for(usize::MAX), None);
    }
}
