//! The kernels of one instruction set.

pub(crate) use super::block::{Multiply, PackLeft, PackRight};
use crate::ops::LeF32;

pub(crate) use super::attention::softmax::{dot, score_gradients, softmax_step};
pub(crate) use super::block::{multiply, pack_left_job, pack_right_job};
pub(crate) use super::cross_entropy::{exp_sum, normalize};
pub(crate) use super::dropout::{add_dropped, drop_row};
pub(crate) use super::norm::rms_norm_backward;
pub(crate) use super::swiglu::swiglu_backward;

/// Kernels on 16 f32 lanes. They are `unsafe` only because the CPU must have the features of their instruction set.
#[derive(Clone, Copy)]
pub(crate) struct BackwardKernels {
    /// Rows and columns of a tile.
    pub tile: (usize, usize),
    pub pack_left: unsafe fn(PackLeft<'_>),
    pub pack_right: unsafe fn(PackRight<'_>),
    pub multiply: unsafe fn(Multiply<'_>),
    #[allow(clippy::type_complexity)]
    pub softmax_step: unsafe fn(&mut [f32], (f32, f32), &mut [f32]) -> (f32, f32),
    pub score_gradients: unsafe fn(&mut [f32], &mut [f32], f32, f32),
    pub dot: unsafe fn(&[f32], &[f32]) -> f32,
    pub rms_norm_backward: unsafe fn(&[f32], LeF32<'_>, f32, &[f32], &mut [f32]),
    pub swiglu_backward: unsafe fn(&mut [f32], &mut [f32], &[f32]),
    pub rope_backward: unsafe fn(&mut [f32], usize, usize, &[f32]),
    pub exp_sum: unsafe fn(&[f32], f32) -> f64,
    pub normalize: unsafe fn(&mut [f32], f32, f32),
    pub drop_row: unsafe fn(u64, u32, f32, &[f32], &mut [f32]),
    pub add_dropped: unsafe fn(u64, u32, f32, &[f32], &mut [f32]),
}
