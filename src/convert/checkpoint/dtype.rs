//! The types of elements that safetensors have.

use bise_kernels::{Format, dequantize_row};

/// The type of a tensor's elements, by the names of safetensors (<https://github.com/huggingface/safetensors>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "the format's own spelling")]
#[allow(missing_docs)]
pub enum Dtype {
    BOOL,
    U8,
    I8,
    F8_E4M3,
    F8_E5M2,
    U16,
    I16,
    F16,
    BF16,
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
}

impl Dtype {
    const ALL: [(Dtype, &str, usize); 15] = [
        (Dtype::BOOL, "BOOL", 1),
        (Dtype::U8, "U8", 1),
        (Dtype::I8, "I8", 1),
        (Dtype::F8_E4M3, "F8_E4M3", 1),
        (Dtype::F8_E5M2, "F8_E5M2", 1),
        (Dtype::U16, "U16", 2),
        (Dtype::I16, "I16", 2),
        (Dtype::F16, "F16", 2),
        (Dtype::BF16, "BF16", 2),
        (Dtype::U32, "U32", 4),
        (Dtype::I32, "I32", 4),
        (Dtype::F32, "F32", 4),
        (Dtype::U64, "U64", 8),
        (Dtype::I64, "I64", 8),
        (Dtype::F64, "F64", 8),
    ];

    /// The type of that name.
    pub fn from_name(name: &str) -> Option<Dtype> {
        Dtype::ALL.iter().find(|(_, its_name, _)| *its_name == name).map(|(dtype, ..)| *dtype)
    }

    /// The name, as in `F8_E4M3`.
    pub fn name(self) -> &'static str {
        Dtype::ALL[self as usize].1
    }

    /// Bytes of an element.
    pub fn n_bytes(self) -> usize {
        Dtype::ALL[self as usize].2
    }

    /// Whether the elements are floating-point numbers.
    pub fn is_float(self) -> bool {
        use Dtype::*;
        matches!(self, F8_E4M3 | F8_E5M2 | F16 | BF16 | F32 | F64)
    }

    /// Writes the elements in `bytes` as singles. Doubles are rounded, and so are integers of more than 24 bits.
    ///
    /// # Panics
    /// Where `out` has another number of elements.
    pub fn to_f32(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(bytes.len(), out.len() * self.n_bytes(), "bytes of {} {}", out.len(), self.name());
        match self {
            Dtype::BOOL | Dtype::U8 => each(bytes, out, |[b]| f32::from(b)),
            Dtype::I8 => each(bytes, out, |[b]| f32::from(b as i8)),
            Dtype::F8_E4M3 => each(bytes, out, |[b]| E4M3[usize::from(b)]),
            Dtype::F8_E5M2 => each(bytes, out, |[b]| E5M2[usize::from(b)]),
            Dtype::U16 => each(bytes, out, |b| f32::from(u16::from_le_bytes(b))),
            Dtype::I16 => each(bytes, out, |b| f32::from(i16::from_le_bytes(b))),
            Dtype::F16 => dequantize_row(Format::F16, bytes, out),
            Dtype::BF16 => dequantize_row(Format::BF16, bytes, out),
            Dtype::U32 => each(bytes, out, |b| u32::from_le_bytes(b) as f32),
            Dtype::I32 => each(bytes, out, |b| i32::from_le_bytes(b) as f32),
            Dtype::F32 => each(bytes, out, f32::from_le_bytes),
            Dtype::U64 => each(bytes, out, |b| u64::from_le_bytes(b) as f32),
            Dtype::I64 => each(bytes, out, |b| i64::from_le_bytes(b) as f32),
            Dtype::F64 => each(bytes, out, |b| f64::from_le_bytes(b) as f32),
        }
    }
}

fn each<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
    for (bytes, out) in bytes.as_chunks().0.iter().zip(out) {
        *out = value(*bytes);
    }
}

/// `float8_e4m3fn` (<https://arxiv.org/abs/2209.05433>): no infinity, and one NaN of each sign.
static E4M3: [f32; 256] = table(3, 7);
/// `float8_e5m2`: the upper halves of IEEE halves.
static E5M2: [f32; 256] = table(2, 15);

/// The values of a float of eight bits.
const fn table(mantissa_bits: u32, bias: u32) -> [f32; 256] {
    let mut values = [0.0; 256];
    let mut bits = 0;
    while bits < 256 {
        let magnitude = bits as u32 & 0x7f;
        let (exponent, mantissa) = (magnitude >> mantissa_bits, magnitude & ((1 << mantissa_bits) - 1));
        let value = match (mantissa_bits, magnitude) {
            (3, 0x7f) | (2, 0x7d..) => f32::NAN,
            (2, 0x7c) => f32::INFINITY,
            // Subnormal: steps of the smallest normal number's mantissa.
            _ if exponent == 0 => mantissa as f32 * f32::from_bits((127 + 1 - bias - mantissa_bits) << 23),
            _ => f32::from_bits(((exponent + 127 - bias) << 23) | (mantissa << (23 - mantissa_bits))),
        };
        values[bits] = if bits < 128 { value } else { -value };
        bits += 1;
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes_lead_back() {
        for (i, (dtype, name, _)) in Dtype::ALL.iter().enumerate() {
            assert_eq!((Dtype::from_name(name), *dtype as usize, dtype.name()), (Some(*dtype), i, *name));
        }
        assert_eq!(Dtype::from_name("F4"), None);
    }

    #[test]
    fn eight_bit_floats_are_what_torch_says() {
        let value = |dtype: Dtype, bits: u8| {
            let mut out = [0.0];
            dtype.to_f32(&[bits], &mut out);
            out[0]
        };
        // torch.tensor([…], dtype=torch.uint8).view(torch.float8_e4m3fn).float()
        let e4m3 = [
            (0x00, 0.0),
            (0x01, 0.001953125),
            (0x07, 0.013671875),
            (0x08, 0.015625),
            (0x38, 1.0),
            (0x43, 2.75),
            (0x7e, 448.0),
            (0x81, -0.001953125),
            (0xfe, -448.0),
        ];
        for (bits, expected) in e4m3 {
            assert_eq!(value(Dtype::F8_E4M3, bits), expected, "{bits:02x}");
        }
        assert!(value(Dtype::F8_E4M3, 0x7f).is_nan() && value(Dtype::F8_E4M3, 0xff).is_nan());
        assert!(value(Dtype::F8_E4M3, 0x80).is_sign_negative());
        for (bits, expected) in [(0x01, 1.525_878_9e-5), (0x3c, 1.0), (0x7b, 57344.0), (0xc1, -2.5)] {
            assert_eq!(value(Dtype::F8_E5M2, bits), expected, "{bits:02x}");
        }
        assert_eq!(value(Dtype::F8_E5M2, 0x7c), f32::INFINITY);
    }
}
