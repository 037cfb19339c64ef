//! Activations packed in groups of 32 tokens, so that what one step of a panel product reads is contiguous.
//!
//! A step multiplies four weights of each row with the same four activations of every token. In the row-major matrix those tokens lie
//! `k` bytes apart: in a page each, and in the same few sets of L1.

/// Tokens that are packed together: enough to pay for loading the weights, few enough for their sums to stay in L1.
pub const PACK_TOKENS: usize = 32;

/// Activation rows from which unpacking the weights to panels pays.
pub const PANEL_MIN_ROWS: usize = 5;

/// Weights of a row that are unpacked at a time, so that a strip of 64 rows stays in L2 however long its rows are.
#[cfg(target_arch = "x86_64")]
pub(crate) const PANEL_CHUNK: usize = 4096;

/// A block of 256 activations of each of 32 tokens. Where the last group has fewer tokens, the others' values are 0.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, bytemuck::Zeroable, bytemuck::Pod)]
pub struct PackedK {
    /// `[step][token]`: 64 values, four to a dword.
    pub qs: [[[i32; 16]; PACK_TOKENS]; 4],
    /// `[token]`
    pub scales: [f32; PACK_TOKENS],
    /// `[token]`: eight dwords of two sums over 16 values each, as `vpdpwssd` and `vpmaddwd` multiply them, then four of sums over 32.
    pub sums: [[i32; 12]; PACK_TOKENS],
}

/// Two blocks of 32 activations of each of 32 tokens; the second is 0 where rows end with the first.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, bytemuck::Zeroable, bytemuck::Pod)]
pub struct Packed32 {
    /// `[token]`: 64 values, four to a dword.
    pub qs: [[i32; 16]; PACK_TOKENS],
    /// Scales and sums of each block.
    pub blocks: [BlockScales32; 2],
}

/// Scales and sums of one block of each token, `[token]`.
#[repr(C)]
#[derive(Clone, Copy, Debug, bytemuck::Zeroable, bytemuck::Pod)]
pub struct BlockScales32 {
    /// Scales.
    pub scales: [f32; PACK_TOKENS],
    /// Sums of the values.
    pub sums: [f32; PACK_TOKENS],
    /// Where products with weights that are stored with 128 added start: `-128 · sum`.
    pub starts: [i32; PACK_TOKENS],
}

/// Packed activations, `[⌈m / 32⌉][k / 256]` or `[⌈m / 32⌉][⌈k / 64⌉]`.
#[derive(Clone, Copy, Debug)]
pub enum Packed<'a> {
    /// Not packed.
    None,
    /// For weights in blocks of 256.
    K(&'a [PackedK]),
    /// For weights in blocks of 32.
    Of32(&'a [Packed32]),
    /// Groups of eight tokens, in a layout that only the kernels of NEON know.
    Eights(&'a [u8]),
}

/// Bytes of `m` packed rows of `k` values, whatever the format.
pub const fn packed_bytes(m: usize, k: usize) -> usize {
    let k_quants = k.div_ceil(256) * size_of::<PackedK>();
    let of_32 = k.div_ceil(64) * size_of::<Packed32>();
    m.div_ceil(PACK_TOKENS) * if k_quants > of_32 { k_quants } else { of_32 }
}

/// Of one token's [`PackedK::sums`], those over sub-blocks of 16 or 32.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(crate) fn sums_of_subs(sums: &[i32; 12], sub_len: usize) -> &[i32] {
    if sub_len == 16 { &sums[..8] } else { &sums[8..] }
}

/// Sums over 32 values, two to a dword, from those over 16.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(crate) fn sums_of_32(sums: &[i16; 16]) -> [i32; 4] {
    let sum = |j: usize| sums[2 * j] + sums[2 * j + 1];
    std::array::from_fn(|j| sum(2 * j) as u16 as i32 | (sum(2 * j + 1) as i32) << 16)
}

/// The sums of a block of 256 activations over sub-blocks of 16 or 32, two to a dword; for sub-blocks of 32 the last four are 0.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
pub(crate) fn pairs_of_sums(sums: &[i16; 16], sub_len: usize) -> [i32; 8] {
    if sub_len == 16 {
        return bytemuck::cast(*sums);
    }
    let [a, b, c, d] = sums_of_32(sums);
    [a, b, c, d, 0, 0, 0, 0]
}

/// Takes `n` values off the front of `room`, which is and stays aligned to 64 bytes.
///
/// # Panics
/// Where there is not enough.
#[cfg(target_arch = "x86_64")]
pub(crate) fn carve<'a, T: bytemuck::Pod>(room: &mut &'a mut [u8], n: usize) -> &'a mut [T] {
    let bytes = n * size_of::<T>();
    let (front, rest) = std::mem::take(room).split_at_mut(bytes.next_multiple_of(64));
    *room = rest;
    bytemuck::cast_slice_mut(&mut front[..bytes])
}
