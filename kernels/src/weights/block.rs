//! The blocks of GGML's quantized formats, byte for byte as they lie in a file.
//!
//! Every struct has alignment 1 and no padding, so that rows of a mapped file are viewed in place at any address. Weights are numbered
//! `0..32` or `0..256` in the order of the row. Layouts are those of `ggml-common.h` and of gguf-py's `quants.py`
//! (<https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/quants.py>).

use bytemuck::{Pod, Zeroable};

use crate::weights::format::Format;

/// The 16 levels of IQ4_NL and IQ4_XS.
pub const KVALUES_IQ4: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// A block of a [`Format`].
pub trait Block: Pod {
    /// The format it belongs to.
    const FORMAT: Format;
}

/// An IEEE half-precision number, little-endian, at any alignment.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct F16Le(pub [u8; 2]);

impl F16Le {
    /// The value, exactly; a NaN keeps its payload.
    ///
    /// Scales of K-quants are often subnormal halves, so this takes no detour through subnormal f32, which some CPUs are slow at.
    #[inline(always)]
    pub const fn to_f32(self) -> f32 {
        let h = u16::from_le_bytes(self.0) as u32;
        let (sign, exponent, mantissa) = ((h & 0x8000) << 16, (h >> 10) & 0x1f, h & 0x3ff);
        let magnitude = match exponent {
            0 => (mantissa as f32 * (1.0 / (1 << 24) as f32)).to_bits(),
            0x1f => 0x7f80_0000 | mantissa << 13,
            _ => (exponent + 127 - 15) << 23 | mantissa << 13,
        };
        f32::from_bits(sign | magnitude)
    }

    /// The half that is nearest to `x`, ties to even.
    pub fn from_f32(x: f32) -> F16Le {
        F16Le(half::f16::from_f32(x).to_le_bytes())
    }
}

macro_rules! blocks {
    ($($(#[$doc:meta])* $name:ident: $format:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }

        impl Block for $name {
            const FORMAT: Format = Format::$format;
        }

        const _: () = assert!(size_of::<$name>() == Format::$format.block_bytes() && align_of::<$name>() == 1);
    )*};
}

blocks! {
    /// `w[i] = d · qs[i]`, 32 weights.
    BlockQ8_0: Q8_0 {
        /// Scale.
        d: F16Le,
        /// Weight `i`; −128 does not come from GGML's quantizer, but may lie in a file.
        qs: [i8; 32],
    }

    /// `w[i] = d · (q[i] − 8)`, 32 weights of 4 bits.
    BlockQ4_0: Q4_0 {
        /// Scale.
        d: F16Le,
        /// Byte `i`: weight `i` in the low nibble, weight `i + 16` in the high one.
        qs: [u8; 16],
    }

    /// `w[i] = d · q[i] + m`, 32 weights of 4 bits.
    BlockQ4_1: Q4_1 {
        /// Scale.
        d: F16Le,
        /// Minimum, added.
        m: F16Le,
        /// Nibbles as in [`BlockQ4_0`].
        qs: [u8; 16],
    }

    /// `w[i] = d · (q[i] − 16)`, 32 weights of 5 bits.
    BlockQ5_0: Q5_0 {
        /// Scale.
        d: F16Le,
        /// Bit `i` (little-endian) is the fifth bit of weight `i`.
        qh: [u8; 4],
        /// Low four bits: nibbles as in [`BlockQ4_0`].
        qs: [u8; 16],
    }

    /// `w[i] = d · q[i] + m`, 32 weights of 5 bits.
    BlockQ5_1: Q5_1 {
        /// Scale.
        d: F16Le,
        /// Minimum, added.
        m: F16Le,
        /// Fifth bits as in [`BlockQ5_0`].
        qh: [u8; 4],
        /// Low four bits: nibbles as in [`BlockQ4_0`].
        qs: [u8; 16],
    }

    /// `w[i] = d · KVALUES[q[i]]`, 32 weights of 4 bits that index [`KVALUES_IQ4`].
    BlockIQ4NL: IQ4_NL {
        /// Scale.
        d: F16Le,
        /// Nibbles as in [`BlockQ4_0`].
        qs: [u8; 16],
    }

    /// `w[i] = d · scale[i / 16] · q[i] − dmin · min[i / 16]`, 256 weights of 2 bits.
    BlockQ2K: Q2_K {
        /// Byte `j`: the scale of weights `16j..16j + 16` in the low nibble, their min in the high one.
        scales: [u8; 16],
        /// Weight `128h + 32s + l` (`h < 2, s < 4, l < 32`) is bits `2s..2s + 2` of byte `32h + l`.
        qs: [u8; 64],
        /// Scale of the scales.
        d: F16Le,
        /// Scale of the mins.
        dmin: F16Le,
    }

    /// `w[i] = d · (scale[i / 16] − 32) · q[i]`, 256 weights of 3 bits, `q` from −4 to 3.
    BlockQ3K: Q3_K {
        /// Weight `32b + l` (`b < 8, l < 32`) is 4 less where bit `b` of byte `l` is clear.
        hmask: [u8; 32],
        /// Low two bits, laid out as in [`BlockQ2K`].
        qs: [u8; 64],
        /// Scale `j` of 6 bits: the low four in byte `j % 8`, low nibble for `j < 8`, else high; the high two in byte `8 + j % 4`, at
        /// bit `2·(j / 4)`.
        scales: [u8; 12],
        /// Scale of the scales.
        d: F16Le,
    }

    /// `w[i] = d · scale[i / 32] · q[i] − dmin · min[i / 32]`, 256 weights of 4 bits.
    BlockQ4K: Q4_K {
        /// Scale of the scales.
        d: F16Le,
        /// Scale of the mins.
        dmin: F16Le,
        /// Eight scales and eight mins of 6 bits. For `j < 4`: scale `j` is the low six bits of byte `j`, min `j` those of byte
        /// `4 + j`; scale `4 + j` has its low four bits in the low nibble of byte `8 + j` and its high two on top of byte `j`;
        /// min `4 + j` likewise in the high nibble of byte `8 + j` and on top of byte `4 + j`.
        scales: [u8; 12],
        /// Byte `32c + l` (`c < 4, l < 32`): weight `64c + l` in the low nibble, weight `64c + 32 + l` in the high one.
        qs: [u8; 128],
    }

    /// `w[i] = d · scale[i / 32] · q[i] − dmin · min[i / 32]`, 256 weights of 5 bits.
    BlockQ5K: Q5_K {
        /// Scale of the scales.
        d: F16Le,
        /// Scale of the mins.
        dmin: F16Le,
        /// Scales and mins as in [`BlockQ4K`].
        scales: [u8; 12],
        /// The fifth bit of weight `32b + l` (`b < 8, l < 32`) is bit `b` of byte `l`.
        qh: [u8; 32],
        /// Low four bits: nibbles as in [`BlockQ4K`].
        qs: [u8; 128],
    }

    /// `w[i] = d · scales[i / 16] · (q[i] − 32)`, 256 weights of 6 bits.
    BlockQ6K: Q6_K {
        /// Low four bits. Byte `64h + l` (`h < 2, l < 64`): weight `128h + l` in the low nibble, weight `128h + 64 + l` in the high one.
        ql: [u8; 128],
        /// High two bits. Those of weight `128h + 32s + l` (`h < 2, s < 4, l < 32`) are bits `2s..2s + 2` of byte `32h + l`.
        qh: [u8; 64],
        /// Scale of weights `16j..16j + 16`.
        scales: [i8; 16],
        /// Scale of the scales.
        d: F16Le,
    }

    /// `w[i] = d · (scale[i / 32] − 32) · KVALUES[q[i]]`, 256 weights of 4 bits that index [`KVALUES_IQ4`].
    BlockIQ4XS: IQ4_XS {
        /// Scale of the scales.
        d: F16Le,
        /// High two bits of scale `j`: bits `2j..2j + 2` of this little-endian 16-bit number.
        scales_h: [u8; 2],
        /// Low four bits of scale `j`: byte `j / 2`, low nibble where `j` is even.
        scales_l: [u8; 4],
        /// Byte `16c + l` (`c < 8, l < 16`): weight `32c + l` in the low nibble, weight `32c + 16 + l` in the high one.
        qs: [u8; 128],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_becomes_the_same_f32_as_in_the_half_crate() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (F16Le(bits.to_le_bytes()).to_f32(), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || ours.is_nan() && theirs.is_nan(), "{bits:#06x}");
        }
    }
}
