//! How large the scales of blocks are.

use bise_models::gguf::check::for_each_scale;
use bise_models::gguf::{GgufFile, TensorInfo, TensorType};

use super::walk::walk;
use crate::{Cancel, Threads};

/// Scales counted by their magnitude: those of blocks, or the weights themselves where a type has no blocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The tensor, or none for all of a type.
    pub tensor: Option<String>,
    /// The type.
    pub tensor_type: TensorType,
    /// Exactly 0.
    pub zeros: u64,
    /// Below 0.
    pub negative: u64,
    /// NaN and infinities.
    pub not_finite: u64,
    /// Powers of two, in rising order, and how many scales have that magnitude: from `2^n` to below `2^(n + 1)`.
    pub powers: Vec<(i32, u64)>,
    /// The least magnitude above 0, and the greatest.
    pub range: Option<(f64, f64)>,
}

/// Counts of one slab or of many.
#[derive(Clone)]
struct Counts {
    zeros: u64,
    negative: u64,
    not_finite: u64,
    /// By the exponent of a double, whose bias is 1023.
    powers: Vec<u64>,
    range: (f64, f64),
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { zeros: 0, negative: 0, not_finite: 0, powers: vec![0; 2048], range: (f64::INFINITY, 0.0) }
    }
}

impl Counts {
    fn add_scale(&mut self, scale: f64) {
        let size = scale.abs();
        if size == 0.0 {
            self.zeros += 1;
        } else if size.is_finite() {
            self.negative += u64::from(scale < 0.0);
            // Doubles are wide enough that no scale of a file is subnormal, but for those of F64.
            self.powers[(size.to_bits() >> 52) as usize] += 1;
            self.range = (self.range.0.min(size), self.range.1.max(size));
        } else {
            self.not_finite += 1;
        }
    }

    fn add(&mut self, other: &Counts) {
        self.zeros += other.zeros;
        self.negative += other.negative;
        self.not_finite += other.not_finite;
        self.powers.iter_mut().zip(&other.powers).for_each(|(a, b)| *a += b);
        self.range = (self.range.0.min(other.range.0), self.range.1.max(other.range.1));
    }

    fn histogram(&self, tensor: Option<String>, tensor_type: TensorType) -> Histogram {
        let powers = self.powers.iter().enumerate().filter(|(_, n)| **n > 0);
        Histogram {
            tensor,
            tensor_type,
            zeros: self.zeros,
            negative: self.negative,
            not_finite: self.not_finite,
            powers: powers.map(|(exponent, n)| (exponent as i32 - 1023, *n)).collect(),
            range: (self.range.1 > 0.0).then_some(self.range),
        }
    }
}

impl Histogram {
    /// How many were counted.
    pub fn n(&self) -> u64 {
        self.zeros + self.not_finite + self.powers.iter().map(|(_, n)| n).sum::<u64>()
    }
}

/// Counts the scales of all tensors, by type or, with `by_tensor`, each tensor by itself. Types without scales are left out. `done` is called
/// with the bytes that are behind. `None` where it was cancelled.
pub fn histogram(
    file: &GgufFile,
    by_tensor: bool,
    threads: &Threads,
    cancel: &Cancel,
    done: &mut dyn FnMut(u64),
) -> Option<Vec<Histogram>> {
    let tensors: Vec<&TensorInfo> = file.tensors().collect();
    let mut groups: Vec<(Option<String>, TensorType, Counts)> = Vec::new();
    let group_of: Vec<usize> = tensors
        .iter()
        .map(|tensor| {
            let name = by_tensor.then(|| tensor.name.clone());
            let same = |group: &(Option<String>, TensorType, Counts)| {
                group.0 == name && group.1 == tensor.tensor_type
            };
            if let Some(at) = groups.iter().position(same).filter(|_| !by_tensor) {
                return at;
            }
            groups.push((name, tensor.tensor_type, Counts::default()));
            groups.len() - 1
        })
        .collect();
    let whole = walk(
        file,
        &tensors,
        threads,
        cancel,
        |slab| {
            let mut counts = Counts::default();
            for_each_scale(tensors[slab.tensor].tensor_type, slab.bytes, |scale| counts.add_scale(scale));
            counts
        },
        |tensor, counts| groups[group_of[tensor]].2.add(&counts),
        done,
    );
    let histograms = groups.into_iter().map(|(name, kind, counts)| counts.histogram(name, kind));
    whole.then(|| histograms.filter(|histogram| histogram.n() > 0).collect())
}
