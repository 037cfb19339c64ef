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
    pub(crate) n: usize,
    pub(crate) addend: &'s (dyn Fn(usize) -> Addend<'a> + Sync),
    pub(crate) u: &'s mut [f32],
}

impl<'s, 'a> Addends<'s, 'a> {
    /// Addends 0 to `n`, which are added to a row in this order. `u` has room for their `x·Aᵀ`, `[m, rank]` each.
    ///
    /// # Safety
    /// `addend` gives the same shapes whenever it is asked for the same number: threads find their parts of `u` by them.
    pub unsafe fn new(
        n: usize,
        addend: &'s (dyn Fn(usize) -> Addend<'a> + Sync),
        u: &'s mut [f32],
    ) -> Addends<'s, 'a> {
        Addends { n, addend, u }
    }
}
