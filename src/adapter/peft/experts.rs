//! Adapters of fused experts.
//!
//! transformers 5 keeps the matrices of a layer's experts in two parameters, `gate_up_proj [n_experts, 2·n_ff, n_embd]` and
//! `down_proj [n_experts, n_embd, n_ff]`. PEFT's `ParamWrapper` has one A and one B for each: A is `[n_experts · rank, k]` with the rows of an expert
//! side by side; B is `[n_rows, rank · n_experts]`, where column `r · n_experts + e` is that of expert `e`.

use bise_models::{LowRank, MistralConfig, Projection, Site};

use super::tensor::Tensor;
use crate::adapter::error::AdapterFileError;
use crate::adapter::target::Target;

/// The adapter of a parameter.
pub(super) struct Fused {
    layer: usize,
    n_experts: usize,
    /// Of each expert.
    pub rank: usize,
    k: usize,
    n_rows: usize,
    is_down: bool,
}

impl Fused {
    /// The one that two tensors are, by their shapes.
    pub fn of(
        base: &MistralConfig,
        layer: usize,
        a: &Tensor<'_>,
        b: &Tensor<'_>,
    ) -> Result<Fused, AdapterFileError> {
        let n_experts = base.experts.map_or(0, |experts| experts.n_experts);
        let ([a_rows, k], [n_rows, b_columns]) = (a.sizes()?, b.sizes()?);
        let (d, ff) = (base.n_embd, base.n_ff);
        let is_down = (n_rows, k) == (d, ff);
        if !is_down && (n_rows, k) != (2 * ff, d) {
            let expected =
                format!("{} rows with {d} columns of A (gate_up_proj), or {d} with {ff} (down_proj)", 2 * ff);
            return Err(b.wrong(format!("{n_rows} rows with {k} columns of A"), &expected));
        }
        let rank = a_rows / n_experts.max(1);
        if rank == 0 || rank * n_experts != a_rows {
            return Err(
                a.wrong(format!("{a_rows} rows"), &format!("as many for each of {n_experts} experts"))
            );
        }
        if b_columns != a_rows {
            return Err(b.wrong(format!("{b_columns} columns"), &format!("{a_rows}, as A has rows")));
        }
        Ok(Fused { layer, n_experts, rank, k, n_rows, is_down })
    }

    /// The name of the parameter.
    pub fn parameter(&self) -> &'static str {
        if self.is_down { "down_proj" } else { "gate_up_proj" }
    }

    /// One part for each matrix of each expert, of the numbers of both tensors.
    ///
    /// # Errors
    /// Numbers that are not finite or of another type, and where there is no memory.
    pub fn parts(
        &self,
        a_tensor: &Tensor<'_>,
        b_tensor: &Tensor<'_>,
        scale: f32,
    ) -> Result<Vec<(Target, LowRank)>, AdapterFileError> {
        let (a, b) = (a_tensor.values()?, b_tensor.values()?);
        let Fused { n_experts, rank, k, n_rows, .. } = *self;
        let matrices: &[Projection] = match self.is_down {
            true => &[Projection::FfnDown],
            false => &[Projection::FfnGate, Projection::FfnUp],
        };
        let rows_each = n_rows / matrices.len();
        let mut parts = Vec::with_capacity(n_experts * matrices.len());
        for e in 0..n_experts {
            for (i, &projection) in matrices.iter().enumerate() {
                let mut own_a = a_tensor.with_capacity(rank * k)?;
                own_a.extend_from_slice(&a[e * rank * k..][..rank * k]);
                let mut own_b = b_tensor.with_capacity(rows_each * rank)?;
                let rows = (i * rows_each..(i + 1) * rows_each)
                    .map(|row| &b[row * rank * n_experts..][..rank * n_experts]);
                own_b.extend(rows.flat_map(|row| (0..rank).map(move |r| row[r * n_experts + e])));
                let site = Site { layer: self.layer, projection, expert: Some(e) };
                parts.push((Target::Matrix(site), LowRank { rank, scale, a: own_a, b: own_b }));
            }
        }
        Ok(parts)
    }
}
