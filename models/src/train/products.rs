//! A product with a matrix of the model and LoRA beside it: forward and backward.

use bise_kernels::CancelFlags;
use bise_kernels::backward::{Dropout, Executor, dropout_key};

use crate::error::ForwardError;
use crate::linear::{Linear, Target};
use crate::rows::RowsMut;
use crate::site::Site;
use crate::train::error::{Place, TrainError, Values};
use crate::train::example::Batch;
use crate::train::lora::{Lora, Loras};
use crate::weights::Matrix;

/// What every product of a pass needs besides its operands.
pub(crate) struct Products<'a> {
    pub executor: &'a mut Executor,
    /// The products of the served model; `None` for those of dequantized weights with f32 activations.
    pub served: Option<Linear<'a>>,
    pub batch: &'a Batch,
    /// The span of each row: all are one span.
    pub spans: &'a [usize],
    pub dropout: Option<Dropout>,
    pub cancel: CancelFlags<'a>,
    pub s: &'a mut LoraBuffers,
    /// Where the pass is, for errors.
    pub values: Values,
    pub place: Place,
}

/// Where the gradient of a product's input goes.
pub(crate) enum InputGradient<'a> {
    Unwanted,
    Set(&'a mut [f32]),
    Add(&'a mut [f32]),
}

impl<'a> InputGradient<'a> {
    /// [`InputGradient::Unwanted`] unless `is_wanted`.
    pub fn set_if(is_wanted: bool, dx: &'a mut [f32]) -> InputGradient<'a> {
        if is_wanted { InputGradient::Set(dx) } else { InputGradient::Unwanted }
    }

    /// [`InputGradient::Unwanted`] unless `is_wanted`.
    pub fn add_if(is_wanted: bool, dx: &'a mut [f32]) -> InputGradient<'a> {
        if is_wanted { InputGradient::Add(dx) } else { InputGradient::Unwanted }
    }
}

/// Room for LoRA beside one matrix.
#[derive(Default)]
pub(crate) struct LoraBuffers {
    /// Its input after dropout, and the gradient of that, `[rows, k]`; empty where there is no dropout.
    pub masked: Vec<f32>,
    pub masked_gradient: Vec<f32>,
    /// `x·Aᵀ` and its gradient, `[rows, rank]`.
    pub u: Vec<f32>,
    pub du: Vec<f32>,
    /// Of each row's mask.
    pub keys: Vec<u64>,
}

impl Products<'_> {
    /// Notes where the pass is, and ends it if it was cancelled.
    pub fn enter(&mut self, values: Values, place: Place) -> Result<(), TrainError> {
        (self.values, self.place) = (values, place);
        if self.cancel.is_set() { Err(TrainError::Cancelled) } else { Ok(()) }
    }

    /// The error of numbers that are not finite here.
    pub fn not_finite(&self) -> TrainError {
        TrainError::NotFinite { values: self.values, place: self.place }
    }

    /// An error where one of the numbers is not finite.
    pub fn check(&self, x: &[f32]) -> Result<(), TrainError> {
        if x.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(self.not_finite()) }
    }

    /// `y = x·Wᵀ` for each target, and `y += s·(mask(x)·Aᵀ)·Bᵀ` for those with LoRA. Row 0 of `x` is row `first` of the batch.
    pub fn forward<const N: usize>(
        &mut self,
        first: usize,
        x: &mut [f32],
        mut targets: [Target<'_>; N],
        loras: &Loras,
    ) -> Result<(), TrainError> {
        let k = targets[0].w.view().k();
        match &mut self.served {
            Some(linear) => {
                let spans = &self.spans[..x.len() / k];
                let targets = targets.each_mut().map(|t| Target { site: t.site, w: t.w, y: &mut *t.y });
                let projected = linear.project(RowsMut::new(&mut *x, k), spans, targets);
                let is_sound = linear.errors[0].is_none();
                match projected {
                    Err(ForwardError::Cancelled) => return Err(TrainError::Cancelled),
                    Ok(()) if is_sound => {}
                    _ => return Err(self.not_finite()),
                }
            }
            None => targets.iter_mut().for_each(|t| self.executor.product(t.w.view(), x, t.y)),
        }
        for Target { site, y, .. } in targets {
            if let Some(lora) = loras.get(site.projection) {
                let (x, u) = self.s.input(self.executor, self.dropout, self.batch, first, lora, x);
                lora.forward(self.executor, x, u, y);
            }
        }
        Ok(())
    }

    /// From `dy`, the gradient of `y` in [`Products::forward`]: adds LoRA's gradients to those it has, and writes that of `x` to `dx`, or
    /// adds it: `dy·W + s·mask((dy·B)·A)`.
    pub fn backward(
        &mut self,
        first: usize,
        w: &Matrix,
        lora: Option<&mut Lora>,
        x: &[f32],
        dy: &[f32],
        mut dx: InputGradient<'_>,
    ) {
        match &mut dx {
            InputGradient::Unwanted => {}
            InputGradient::Set(dx) => self.executor.product_backward(w.view(), dy, dx, false),
            InputGradient::Add(dx) => self.executor.product_backward(w.view(), dy, dx, true),
        }
        let Some(lora) = lora else { return };
        let n = x.len() / lora.k();
        let mut du = std::mem::take(&mut self.s.du);
        let (x, u) = self.s.input(self.executor, self.dropout, self.batch, first, lora, x);
        let du_rows = &mut du[..n * lora.part.rank];
        lora.backward(self.executor, x, u, dy, du_rows);
        if let InputGradient::Set(dx) | InputGradient::Add(dx) = dx {
            match self.dropout {
                None => lora.input_backward(self.executor, du_rows, dx, true),
                Some(dropout) => {
                    let gradient = &mut self.s.masked_gradient[..dx.len()];
                    lora.input_backward(self.executor, du_rows, gradient, false);
                    self.executor.add_dropout_backward(dropout, &self.s.keys, gradient, dx);
                }
            }
        }
        self.s.du = du;
    }
}

impl LoraBuffers {
    /// LoRA's input, `mask(x)`, and room for `u`.
    fn input<'s>(
        &'s mut self,
        executor: &mut Executor,
        dropout: Option<Dropout>,
        batch: &Batch,
        first: usize,
        lora: &Lora,
        x: &'s [f32],
    ) -> (&'s [f32], &'s mut [f32]) {
        let n = x.len() / lora.k();
        let u = &mut self.u[..n * lora.part.rank];
        let Some(dropout) = dropout else { return (x, u) };
        let rows = first..first + n;
        let site = number(lora.site);
        let seeds = batch.seeds[rows.clone()].iter().zip(&batch.positions[rows]);
        self.keys.clear();
        self.keys.extend(seeds.map(|(seed, position)| dropout_key(*seed, site, *position as u64)));
        let masked = &mut self.masked[..x.len()];
        executor.dropout(dropout, &self.keys, x, masked);
        (masked, u)
    }
}

/// A number of its own for each matrix.
fn number(site: Site) -> u64 {
    (site.layer as u64) << 8 | site.projection as u64
}
