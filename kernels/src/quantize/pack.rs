//! Levels of sixteen blocks to the bits of files: what `weights/unpack.rs` reads.

/// Levels as they are stored, a row for each weight and a column for each block.
type Levels<'a, const N: usize> = &'a [[u8; 16]; N];

/// Writes byte `i` of every block.
macro_rules! spread {
    ($rows:expr => $blocks:ident.$field:ident) => {
        for (i, row) in $rows.iter().enumerate() {
            for (block, byte) in $blocks.iter_mut().zip(row) {
                block.$field[i] = *byte;
            }
        }
    };
}
pub(super) use spread;

/// Two rows of nibbles, the second in the high half.
fn joined(low: &[u8; 16], high: &[u8; 16]) -> [u8; 16] {
    std::array::from_fn(|b| low[b] & 15 | high[b] << 4)
}

/// The nibbles of blocks of 32: weight `i` below weight `i + 16`.
pub(super) fn nibbles(levels: Levels<'_, 32>) -> [[u8; 16]; 16] {
    std::array::from_fn(|i| joined(&levels[i], &levels[i + 16]))
}

/// The fifth bits of blocks of 32, little-endian.
pub(super) fn fifth_bits(levels: Levels<'_, 32>) -> [[u8; 16]; 4] {
    std::array::from_fn(|i| {
        let mut byte = [0; 16];
        for bit in 0..8 {
            for b in 0..16 {
                byte[b] |= (levels[8 * i + bit][b] >> 4 & 1) << bit;
            }
        }
        byte
    })
}

/// The nibbles of Q4_K and Q5_K.
pub(super) fn nibbles_k(levels: Levels<'_, 256>) -> [[u8; 16]; 128] {
    std::array::from_fn(|i| {
        let first = 64 * (i / 32) + i % 32;
        joined(&levels[first], &levels[first + 32])
    })
}

/// Bit `bit` of weight `32j + i` is bit `j` of byte `i`.
pub(super) fn bits_k(levels: Levels<'_, 256>, bit: u32) -> [[u8; 16]; 32] {
    std::array::from_fn(|i| {
        let mut byte = [0; 16];
        for j in 0..8 {
            for b in 0..16 {
                byte[b] |= (levels[32 * j + i][b] >> bit & 1) << j;
            }
        }
        byte
    })
}

/// Bits `shift` and `shift + 1` of each weight, as Q2_K stores its own.
pub(super) fn crumbs(levels: Levels<'_, 256>, shift: u32) -> [[u8; 16]; 64] {
    std::array::from_fn(|i| {
        let first = 128 * (i / 32) + i % 32;
        let mut byte = [0; 16];
        for j in 0..4 {
            for b in 0..16 {
                byte[b] |= (levels[first + 32 * j][b] >> shift & 3) << (2 * j);
            }
        }
        byte
    })
}

/// The low nibbles of Q6_K.
pub(super) fn nibbles_q6(levels: Levels<'_, 256>) -> [[u8; 16]; 128] {
    std::array::from_fn(|i| {
        let first = 128 * (i / 64) + i % 64;
        joined(&levels[first], &levels[first + 64])
    })
}

/// The nibbles of IQ4_XS.
pub(super) fn nibbles_iq4(levels: Levels<'_, 256>) -> [[u8; 16]; 128] {
    std::array::from_fn(|i| {
        let first = 32 * (i / 16) + i % 16;
        joined(&levels[first], &levels[first + 16])
    })
}

/// Eight scales and eight mins of 6 bits in the 12 bytes of Q4_K and Q5_K.
pub(super) fn scales_mins_k(scales: &[[u8; 16]; 8], mins: &[[u8; 16]; 8]) -> [[u8; 16]; 12] {
    let mut out = [[0; 16]; 12];
    for b in 0..16 {
        for j in 0..4 {
            out[j][b] = scales[j][b] | scales[4 + j][b] >> 4 << 6;
            out[4 + j][b] = mins[j][b] | mins[4 + j][b] >> 4 << 6;
            out[8 + j][b] = scales[4 + j][b] & 15 | mins[4 + j][b] << 4;
        }
    }
    out
}

/// Sixteen scales of 6 bits in the 12 bytes of Q3_K.
pub(super) fn scales_q3(scales: &[[u8; 16]; 16]) -> [[u8; 16]; 12] {
    let mut out = [[0; 16]; 12];
    for j in 0..16 {
        for b in 0..16 {
            out[j % 8][b] |= (scales[j][b] & 15) << (4 * (j / 8));
            out[8 + j % 4][b] |= scales[j][b] >> 4 << (2 * (j / 4));
        }
    }
    out
}

/// Eight scales of 6 bits in the 4 bytes and the 2 of IQ4_XS.
pub(super) fn scales_iq4(scales: &[[u8; 16]; 8]) -> ([[u8; 16]; 4], [[u8; 16]; 2]) {
    let (mut low, mut high) = ([[0; 16]; 4], [[0; 16]; 2]);
    for j in 0..8 {
        for b in 0..16 {
            low[j / 2][b] |= (scales[j][b] & 15) << (4 * (j % 2));
            high[j / 4][b] |= scales[j][b] >> 4 << (2 * (j % 4));
        }
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::block::*;
    use crate::weights::unpack::{Block32, BlockK, Unpacked32, UnpackedK};
    use bytemuck::Zeroable;

    /// Levels of `bits` bits that differ from weight to weight and from block to block.
    fn levels<const N: usize>(bits: u32) -> [[u8; 16]; N] {
        std::array::from_fn(|i| std::array::from_fn(|b| ((i * 7 + b * 13 + i / 32) % (1 << bits)) as u8))
    }

    fn check_k<B: BlockK>(blocks: &[B; 16], levels: &[[u8; 16]; 256], shift: i32) {
        let mut u = UnpackedK::ZERO;
        for (b, block) in blocks.iter().enumerate() {
            block.unpack(&mut u);
            for i in 0..256 {
                assert_eq!(u.qs[i] as i32, levels[i][b] as i32 - shift, "weight {i} of block {b}");
            }
        }
    }

    fn check_32<B: Block32>(blocks: &[B; 16], levels: &[[u8; 16]; 32]) {
        let mut u = Unpacked32::ZERO;
        for (b, block) in blocks.iter().enumerate() {
            block.unpack(&mut u);
            for i in 0..32 {
                assert_eq!(u.qs[i] as u8, levels[i][b], "weight {i} of block {b}");
            }
        }
    }

    #[test]
    fn levels_are_unpacked_as_they_were() {
        let (l, mut blocks) = (levels(5), [BlockQ5_1::zeroed(); 16]);
        spread!(nibbles(&l) => blocks.qs);
        spread!(fifth_bits(&l) => blocks.qh);
        check_32(&blocks, &l);
        let (l, mut blocks) = (levels(4), [BlockQ4K::zeroed(); 16]);
        spread!(nibbles_k(&l) => blocks.qs);
        check_k(&blocks, &l, 0);
        let (l, mut blocks) = (levels(5), [BlockQ5K::zeroed(); 16]);
        spread!(nibbles_k(&l) => blocks.qs);
        spread!(bits_k(&l, 4) => blocks.qh);
        check_k(&blocks, &l, 0);
        let (l, mut blocks) = (levels(3), [BlockQ3K::zeroed(); 16]);
        spread!(crumbs(&l, 0) => blocks.qs);
        spread!(bits_k(&l, 2) => blocks.hmask);
        check_k(&blocks, &l, 4);
        let (l, mut blocks) = (levels(6), [BlockQ6K::zeroed(); 16]);
        spread!(nibbles_q6(&l) => blocks.ql);
        spread!(crumbs(&l, 4) => blocks.qh);
        check_k(&blocks, &l, 32);
        let (l, mut blocks) = (levels(4), [BlockIQ4XS::zeroed(); 16]);
        spread!(nibbles_iq4(&l) => blocks.qs);
        check_k(
            &blocks,
            &std::array::from_fn(|i| l[i].map(|l| (KVALUES_IQ4[l as usize] as i16 + 128) as u8)),
            128,
        );
        let (scales, mins) = (levels(6), levels::<16>(6));
        let mins = std::array::from_fn(|i| mins[i + 5]);
        let mut blocks = [BlockQ4K::zeroed(); 16];
        spread!(scales_mins_k(&scales, &mins) => blocks.scales);
        for (b, block) in blocks.iter().enumerate() {
            let found = crate::weights::unpack::scales_mins_k(&block.scales);
            assert_eq!(found, (std::array::from_fn(|j| scales[j][b]), std::array::from_fn(|j| mins[j][b])));
        }
    }
}
