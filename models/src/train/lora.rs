//! The trained part: LoRA beside one matrix, and its gradient.

use bise_kernels::backward::Executor;

use crate::adapter::LowRank;
use crate::error::OutOfMemory;
use crate::site::{Projection, Site};

/// LoRA beside one matrix: `y += s·u·Bᵀ` with `u = x·Aᵀ`.
pub(crate) struct Lora {
    pub site: Site,
    pub part: LowRank,
    /// The gradient of A, `[rank, k]`.
    pub da: Vec<f32>,
    /// The gradient of B, `[n_rows, rank]`.
    pub db: Vec<f32>,
}

impl Lora {
    pub fn new(site: Site, part: LowRank) -> Result<Lora, OutOfMemory> {
        let zeros = |n: usize| {
            let out_of_memory =
                OutOfMemory { bytes: n * size_of::<f32>(), what: "the gradients of an adapter" };
            bytemuck::allocation::try_zeroed_vec(n).map_err(|()| out_of_memory)
        };
        let (da, db) = (zeros(part.a.len())?, zeros(part.b.len())?);
        Ok(Lora { site, part, da, db })
    }

    /// Values in a row of the matrix's input.
    pub fn k(&self) -> usize {
        self.part.a.len() / self.part.rank
    }

    /// `y += s·u·Bᵀ`, where `u = x·Aᵀ`
    pub fn forward(&self, executor: &mut Executor, x: &[f32], u: &mut [f32], y: &mut [f32]) {
        let LowRank { rank, scale, a, b } = &self.part;
        executor.low_rank_down(self.k(), a, x, u);
        executor.low_rank_up(*rank, b, *scale, u, y);
    }

    /// From `dy`: `dB += s·dyᵀ·u`, `du = s·dy·B` and `dA += duᵀ·x`. What is left of the chain is [`Lora::input_backward`].
    pub fn backward(
        &mut self,
        executor: &mut Executor,
        x: &[f32],
        u: &mut [f32],
        dy: &[f32],
        du: &mut [f32],
    ) {
        let k = self.k();
        let LowRank { rank, scale, a, b } = &self.part;
        executor.low_rank_down(k, a, x, u);
        executor.low_rank_up_backward(*rank, b, *scale, u, dy, du, &mut self.db);
        executor.low_rank_down_backward(k, x, du, &mut self.da);
    }

    /// `dx = du·A`, or `dx += du·A`
    pub fn input_backward(&self, executor: &mut Executor, du: &[f32], dx: &mut [f32], add: bool) {
        executor.low_rank_inputs_backward(self.k(), &self.part.a, du, dx, add);
    }

    /// Whether both gradients are finite.
    pub fn is_sound(&self) -> bool {
        self.da.iter().chain(&self.db).all(|value| value.is_finite())
    }
}

/// Those of one layer, by their projections.
#[derive(Default)]
pub(crate) struct Loras(Vec<Lora>);

impl Loras {
    pub fn push(&mut self, lora: Lora) {
        self.0.push(lora);
    }

    pub fn get(&self, projection: Projection) -> Option<&Lora> {
        self.0.iter().find(|lora| lora.site.projection == projection)
    }

    pub fn get_mut(&mut self, projection: Projection) -> Option<&mut Lora> {
        self.0.iter_mut().find(|lora| lora.site.projection == projection)
    }

    pub fn has_any(&self, projections: &[Projection]) -> bool {
        self.0.iter().any(|lora| projections.contains(&lora.site.projection))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Lora> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Lora> {
        self.0.iter_mut()
    }
}
