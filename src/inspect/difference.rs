//! How two files differ: their keys, their tensors, their weights.

use std::collections::BTreeSet;

use bise_kernels::dequantize_row;
use bise_models::gguf::{FileRanges, GgufFile, TensorInfo, TensorType, Value};

use super::walk::{bytes_of, walk};
use crate::{Cancel, Threads};

/// A key that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyDifference {
    /// The key.
    pub key: String,
    /// Its value in the first file.
    pub first: Option<Value>,
    /// Its value in the second.
    pub second: Option<Value>,
}

/// A tensor that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorDifference {
    /// The tensor.
    pub name: String,
    /// Its type and shape in the first file.
    pub first: Option<(TensorType, Vec<usize>)>,
    /// Those in the second.
    pub second: Option<(TensorType, Vec<usize>)>,
    /// How its weights differ, where the shapes are the same and both types can be dequantized.
    pub error: Option<WeightError>,
}

/// Errors of the weights of the second file, taken from those of the first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct WeightError {
    /// The largest, and the weight that has it.
    pub max: f64,
    /// That weight.
    pub max_at: usize,
    /// Root of their mean square.
    pub rms: f64,
    /// That, as a part of the root mean square of the first file's weights; 0 where both are 0.
    pub relative: f64,
    /// Weights that differ.
    pub n_different: usize,
}

/// All differences.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Difference {
    /// Keys, in their order.
    pub keys: Vec<KeyDifference>,
    /// Tensors, in the order of the first file, then those that only the second has.
    pub tensors: Vec<TensorDifference>,
    /// Tensors that are the same, byte for byte.
    pub n_same: usize,
}

impl Difference {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        self.keys.is_empty() && self.tensors.is_empty()
    }
}

/// Sums over weights.
#[derive(Clone, Copy, Default)]
struct Sums {
    squares: f64,
    of_first: f64,
    max: f64,
    max_at: usize,
    n_different: usize,
    same_bytes: bool,
}

/// Compares two files. `done` is called with the bytes of the first that are behind. `None` where it was cancelled.
pub fn difference(
    first: &GgufFile,
    second: &GgufFile,
    threads: &Threads,
    cancel: &Cancel,
    done: &mut dyn FnMut(u64),
) -> Option<Difference> {
    let mut difference = Difference { keys: keys(first, second), ..Difference::default() };
    let both: Vec<(&TensorInfo, &TensorInfo)> = first
        .tensors()
        .filter_map(|tensor| Some((tensor, second.tensor(&tensor.name)?)))
        .filter(|(a, b)| a.shape == b.shape)
        .collect();
    let firsts: Vec<&TensorInfo> = both.iter().map(|(a, _)| *a).collect();
    let mut sums = vec![Sums { same_bytes: true, ..Sums::default() }; both.len()];
    let whole = walk(
        first,
        &firsts,
        threads,
        cancel,
        |slab| {
            let (a, b) = both[slab.tensor];
            // Blocks of the second may be longer, and the last slab of a tensor has what is left.
            let other = second.bytes(b).slice(bytes_of(b, &slab.weights));
            let sums = compare(a.tensor_type, slab.bytes, b.tensor_type, &other, slab.weights.start);
            FileRanges::of([other]).leave();
            sums
        },
        |tensor, slab: Sums| {
            let sums = &mut sums[tensor];
            sums.squares += slab.squares;
            sums.of_first += slab.of_first;
            sums.n_different += slab.n_different;
            sums.same_bytes &= slab.same_bytes;
            if slab.max > sums.max || (slab.max.is_nan() && !sums.max.is_nan()) {
                (sums.max, sums.max_at) = (slab.max, slab.max_at);
            }
        },
        done,
    );
    if !whole {
        return None;
    }
    let about = |tensor: &TensorInfo| (tensor.tensor_type, tensor.shape.clone());
    let mut compared = both.iter().zip(&sums);
    for a in first.tensors() {
        let b = second.tensor(&a.name);
        let mut error = None;
        if b.is_some_and(|b| a.shape == b.shape) {
            let ((a, b), sums) = compared.next().expect("as many as there are pairs");
            if sums.same_bytes && a.tensor_type == b.tensor_type {
                difference.n_same += 1;
                continue;
            }
            let known = a.tensor_type.format().is_some() && b.tensor_type.format().is_some();
            error = known.then(|| sums.error(a.n_elements()));
        }
        difference.tensors.push(TensorDifference {
            name: a.name.clone(),
            first: Some(about(a)),
            second: b.map(about),
            error,
        });
    }
    for b in second.tensors().filter(|b| first.tensor(&b.name).is_none()) {
        let second = Some(about(b));
        difference.tensors.push(TensorDifference { name: b.name.clone(), first: None, second, error: None });
    }
    Some(difference)
}

impl Sums {
    fn error(&self, n: usize) -> WeightError {
        let root = |squares: f64| (squares / n.max(1) as f64).sqrt();
        let relative = if self.squares == 0.0 { 0.0 } else { (self.squares / self.of_first).sqrt() };
        WeightError {
            max: self.max,
            max_at: self.max_at,
            rms: root(self.squares),
            relative,
            n_different: self.n_different,
        }
    }
}

/// Compares weights, whole blocks of both types, of which the first is the `start`-th of its tensor.
fn compare(a: TensorType, a_bytes: &[u8], b: TensorType, b_bytes: &[u8], start: usize) -> Sums {
    /// Weights in hand: whole blocks of every type.
    const PIECE: usize = 4096;
    let mut sums = Sums { same_bytes: a == b && a_bytes == b_bytes, ..Sums::default() };
    let (Some(a_format), Some(b_format)) = (a.format(), b.format()) else { return sums };
    if sums.same_bytes {
        return sums;
    }
    let (mut x, mut y) = (vec![0.0; PIECE], vec![0.0; PIECE]);
    let bytes = |kind: TensorType| PIECE / kind.block_len() * kind.block_bytes();
    for (i, (a_piece, b_piece)) in a_bytes.chunks(bytes(a)).zip(b_bytes.chunks(bytes(b))).enumerate() {
        let n = a_piece.len() / a.block_bytes() * a.block_len();
        dequantize_row(a_format, a_piece, &mut x[..n]);
        dequantize_row(b_format, b_piece, &mut y[..n]);
        for (j, (x, y)) in x[..n].iter().zip(&y[..n]).enumerate() {
            let error = f64::from(*y) - f64::from(*x);
            // Two NaN or two equal infinities are no difference.
            if x.to_bits() == y.to_bits() || x == y {
                sums.of_first += if x.is_finite() { f64::from(*x) * f64::from(*x) } else { 0.0 };
                continue;
            }
            sums.n_different += 1;
            sums.squares += error * error;
            sums.of_first += f64::from(*x) * f64::from(*x);
            if error.abs() > sums.max || (error.is_nan() && !sums.max.is_nan()) {
                (sums.max, sums.max_at) = (error.abs(), start + i * PIECE + j);
            }
        }
    }
    sums
}

fn keys(first: &GgufFile, second: &GgufFile) -> Vec<KeyDifference> {
    let (a, b) = (first.metadata(), second.metadata());
    let names: BTreeSet<&str> = a.iter().chain(b.iter()).map(|(key, _)| key).collect();
    names
        .into_iter()
        .filter(|key| a.get(key) != b.get(key))
        .map(|key| KeyDifference {
            key: key.to_owned(),
            first: a.get(key).cloned(),
            second: b.get(key).cloned(),
        })
        .collect()
}
