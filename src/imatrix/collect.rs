//! Collecting sums while a model reads a text.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::{Hook, MistralConfig, Projection, Rows, RowsMut, Site};

use super::{Entry, Imatrix};

/// Sums the squares of what each matrix is multiplied with; set it as the [hook](crate::Runner::set_hook) of a runner.
///
/// Queries, keys and values of a layer have the same input, and so have the gate and the first matrix of a feed-forward: it is summed once.
#[derive(Debug)]
pub struct Collector {
    n_experts: usize,
    /// The name of the matrix that makes logits, where its input counts too.
    output: Option<&'static str>,
    entries: Mutex<BTreeMap<(usize, Projection), Entry>>,
}

impl Collector {
    /// Nothing yet. `with_output` says whether the input of the last matrix counts, and `is_tied` whether that is the token embedding.
    pub fn new(config: &MistralConfig, with_output: bool, is_tied: bool) -> Collector {
        let name = if is_tied { "token_embd.weight" } else { "output.weight" };
        Collector {
            n_experts: config.experts.as_ref().map_or(1, |experts| experts.n_experts),
            output: with_output.then_some(name),
            entries: Mutex::default(),
        }
    }

    /// What has been summed so far, by the names of the matrices. Texts and chunks are the caller's to fill in.
    pub fn imatrix(&self) -> Imatrix {
        let mut imatrix = Imatrix::default();
        for ((layer, projection), entry) in &*self.entries.lock().unwrap_or_else(PoisonError::into_inner) {
            let of_experts = if entry.counts.len() > 1 { "_exps" } else { "" };
            let parts: &[&str] = match projection {
                Projection::AttnQ => &["attn_q", "attn_k", "attn_v"],
                Projection::FfnGate => &["ffn_gate", "ffn_up"],
                Projection::AttnOutput => &["attn_output"],
                Projection::FfnDown => &["ffn_down"],
                Projection::FfnGateInp => &["ffn_gate_inp"],
                _ => &[],
            };
            for part in parts {
                imatrix.entries.insert(format!("blk.{layer}.{part}{of_experts}.weight"), entry.clone());
            }
            if let (Projection::Output, Some(name)) = (projection, self.output) {
                imatrix.entries.insert(name.to_owned(), entry.clone());
            }
        }
        imatrix
    }
}

impl Hook for Collector {
    fn product(&self, site: Site, x: Rows<'_>, _: RowsMut<'_>) {
        match site.projection {
            // Their input was summed at AttnQ and FfnGate.
            Projection::AttnK | Projection::AttnV | Projection::FfnUp => return,
            Projection::Output if self.output.is_none() => return,
            _ => {}
        }
        let k = x.width();
        let n_matrices = if site.expert.is_some() { self.n_experts } else { 1 };
        let expert = site.expert.unwrap_or(0);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry((site.layer, site.projection)).or_insert_with(|| Entry {
            sum_squares: vec![0.0; n_matrices * k],
            sums: vec![0.0; n_matrices * k],
            counts: vec![0; n_matrices],
        });
        let (squares, sums) = (&mut entry.sum_squares[expert * k..][..k], &mut entry.sums[expert * k..][..k]);
        for i in 0..x.n() {
            for ((square, sum), x) in squares.iter_mut().zip(&mut *sums).zip(x.row(i)) {
                let x = f64::from(*x);
                *square += x * x;
                *sum += x;
            }
        }
        entry.counts[expert] += x.n() as u64;
    }
}
