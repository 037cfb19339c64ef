//! Gradients of training: against torch (`make.py`), against finite differences, and the same bits however the work is split.
#![cfg(feature = "train")]

mod as_served;
mod cases;
mod differences;
mod refusals;
mod same_bits;
mod torch;
