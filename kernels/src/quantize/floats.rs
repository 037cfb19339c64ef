//! Formats without blocks: rounded to nearest, ties to even.

pub(super) fn to_f32(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.iter().zip(out.as_chunks_mut::<4>().0) {
        *out = x.to_le_bytes();
    }
}

pub(super) fn to_f16(x: &[f32], out: &mut [u8]) {
    use half::slice::HalfFloatSliceExt;
    let mut halves = [half::f16::ZERO; 256];
    for (x, out) in x.chunks(256).zip(out.chunks_mut(512)) {
        let halves = &mut halves[..x.len()];
        halves.convert_from_f32_slice(x);
        for (half, out) in halves.iter().zip(out.as_chunks_mut::<2>().0) {
            *out = half.to_le_bytes();
        }
    }
}

pub(super) fn to_bf16(x: &[f32], out: &mut [u8]) {
    for (x, out) in x.iter().zip(out.as_chunks_mut::<2>().0) {
        *out = half::bf16::from_f32(*x).to_le_bytes();
    }
}
