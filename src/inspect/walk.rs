//! All tensors of a file, a slab at a time.

use std::ops::Range;

use bise_models::gguf::{FileRanges, GgufFile, TensorInfo};

use crate::{Cancel, Threads};

/// Weights of a slab: enough that threads seldom wait for each other, and whole blocks of every type.
const SLAB: usize = 1 << 19;

/// Slabs that the threads have in hand together, for each of them.
const SLABS_A_THREAD: usize = 4;

/// A part of a tensor: whole blocks.
pub(super) struct Slab<'a> {
    /// The number of the tensor among those that are walked through.
    pub tensor: usize,
    /// Which weights, in the order of the file.
    pub weights: Range<usize>,
    pub bytes: &'a [u8],
}

/// Where weights, whole blocks, lie in the bytes of their tensor.
pub(super) fn bytes_of(tensor: &TensorInfo, weights: &Range<usize>) -> Range<usize> {
    let (block_len, block_bytes) = (tensor.tensor_type.block_len(), tensor.tensor_type.block_bytes());
    let at = |weight: usize| (weight / block_len * block_bytes).min(tensor.n_bytes);
    at(weights.start)..at(weights.end)
}

/// Calls `look` with every slab of `tensors`, on all threads, and `each` with the results in the order of the tensors and their weights. `done`
/// is called with the bytes that are behind. Returns false where it was cancelled.
pub(super) fn walk<T: Send>(
    file: &GgufFile,
    tensors: &[&TensorInfo],
    threads: &Threads,
    cancel: &Cancel,
    look: impl Fn(&Slab<'_>) -> T + Sync,
    mut each: impl FnMut(usize, T),
    done: &mut dyn FnMut(u64),
) -> bool {
    let mut places = tensors.iter().enumerate().flat_map(|(tensor, info)| {
        let n = info.n_elements();
        (0..n).step_by(SLAB).map(move |first| (tensor, first..(first + SLAB).min(n)))
    });
    let n = threads.n() * SLABS_A_THREAD;
    let mut n_done = 0;
    loop {
        let round: Vec<_> = places.by_ref().take(n).collect();
        if round.is_empty() {
            return true;
        }
        if cancel.is_cancelled() {
            return false;
        }
        let slabs: Vec<_> = round
            .into_iter()
            .map(|(tensor, weights)| {
                let bytes = file.bytes(tensors[tensor]).slice(bytes_of(tensors[tensor], &weights));
                (tensor, weights, bytes)
            })
            .collect();
        let ranges = FileRanges::of(slabs.iter().map(|(_, _, bytes)| bytes.clone()));
        ranges.ask_for();
        let mut results: Vec<Option<T>> = slabs.iter().map(|_| None).collect();
        let team = threads.team();
        team.together(|| {
            team.for_each_chunk(&mut results, 1, |i, result| {
                let (tensor, weights, bytes) = &slabs[i];
                result[0] = Some(look(&Slab { tensor: *tensor, weights: weights.clone(), bytes }));
            });
        });
        ranges.leave();
        for ((tensor, _, bytes), result) in slabs.into_iter().zip(results) {
            n_done += bytes.len() as u64;
            each(tensor, result.expect("every task was run"));
        }
        done(n_done);
    }
}
