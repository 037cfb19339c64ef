//! What is added to the products of a parallel step.

use crate::low_rank::pair::LowRankPair;

/// `y += scale · (x·Aᵀ)·Bᵀ` for some neighbouring rows of one product.
#[derive(Clone, Copy)]
pub struct Addend<'a> {
    /// A and B.
    pub pair: &'a LowRankPair,
    /// The number of the product.
    pub product: usize,
    /// The first of its rows of activations that get the addend.
    pub first_row: usize,
    /// These rows, `[m, k]`, in f32.
    pub x: &'a [f32],
    /// The factor.
    pub scale: f32,
}

impl Addend<'_> {
    /// Rows of activations.
    pub(crate) fn m(&self) -> usize {
        self.x.len() / self.pair.k()
    }
}

/// The addends of a step.
pub struct Addends<'s, 'a> {
    /// How many there are.
    pub n: usize,
    /// Each of them. Those of one row are added in rising order.
    pub addend: &'s (dyn Fn(usize) -> Addend<'a> + Sync),
    /// Room for their `x·Aᵀ`, `[m, rank]` each.
    pub u: &'s mut [f32],
}
