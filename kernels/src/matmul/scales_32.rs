//! Scales and minimums of blocks of 32, gathered row by row.

use crate::matmul::formats::Format32;
use crate::simd::row_lanes::{MAX_ROWS, RowLanes};

/// `d`, and `m` if there is one, of a block a quarter of each lane, `[block][lane]`.
#[derive(Clone, Copy)]
pub(crate) struct Scales32 {
    d: [[u16; MAX_ROWS]; 4],
    /// Both, where there are both.
    d_m: [[u32; MAX_ROWS]; 4],
}

impl Scales32 {
    pub(crate) const ZERO: Scales32 = Scales32 { d: [[0; MAX_ROWS]; 4], d_m: [[0; MAX_ROWS]; 4] };

    /// Takes those of one lane's blocks.
    ///
    /// # Safety
    /// Whole blocks of the format are readable at the addresses.
    #[inline(always)]
    pub(crate) unsafe fn take<S: RowLanes, F: Format32>(&mut self, lane: usize, blocks: [*const u8; 4]) {
        for j in 0..S::QUARTERS {
            // SAFETY: a block begins with d, and m if there is one.
            unsafe {
                if F::HAS_MIN {
                    self.d_m[j][lane] = blocks[j].cast::<u32>().read_unaligned();
                } else {
                    self.d[j][lane] = blocks[j].cast::<u16>().read_unaligned();
                }
            }
        }
    }

    /// `d` and `m` of block `j`; 0 for `m` where there is none.
    #[inline(always)]
    pub(crate) fn block<S: RowLanes, F: Format32>(&self, s: S, j: usize) -> [S::F; 2] {
        if F::HAS_MIN {
            let both = bytemuck::pod_read_unaligned(bytemuck::cast_slice(&self.d_m[j][..S::ROWS]));
            [s.low_f16(both), s.high_f16(both)]
        } else {
            [s.of_f16(&self.d[j]), s.splat_f32(0.0)]
        }
    }
}
