use std::fmt;

use crate::budget::OverCeiling;
use crate::error::OutOfMemory;

/// Why a pass of training ended early. Gradients are then unspecified: clear them.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// An example that cannot be learned from.
    #[error("example {index}: {problem}")]
    Example {
        /// Its place in the call, from 0.
        index: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Something that is not supported.
    #[error("training does not take {what}: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why not, and what can be.
        why: &'static str,
    },
    /// An adapter for another model.
    #[error("{site}: the adapter has {found}, the model {expected}")]
    Shape {
        /// The matrix, named as in the file.
        site: String,
        /// Shape of the adapter.
        found: String,
        /// Shape of the model's matrix.
        expected: String,
    },
    /// Infinite or undefined numbers inside the model.
    #[error(
        "the {values} of {place} are not finite: the learning rate may be too high, or the weights damaged"
    )]
    NotFinite {
        /// Activations or gradients.
        values: Values,
        /// Where in the model.
        place: Place,
    },
    /// An infinite or undefined loss.
    #[error(
        "the loss of the label at position {position} is not finite: the learning rate may be too high, or the weights damaged"
    )]
    LossNotFinite {
        /// Its position in its example.
        position: usize,
    },
    /// It was asked to stop.
    #[error("training was cancelled")]
    Cancelled,
    /// No memory for the buffers.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The ceiling on memory leaves no room for the buffers.
    #[error("no room for the buffers of training: {0}")]
    OverCeiling(#[from] OverCeiling),
}

/// The numbers of a pass: forward, activations; backward, gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Of the forward pass.
    Activations,
    /// Of the backward pass.
    Gradients,
}

impl fmt::Display for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Values::Activations => "activations",
            Values::Gradients => "gradients",
        })
    }
}

/// A part of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The attention of a layer, counted from 0.
    Attention(usize),
    /// The feed-forward of a layer.
    FeedForward(usize),
    /// The adapter of a layer.
    Adapter(usize),
    /// The last norm and matrix.
    Output,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Attention(layer) => write!(f, "layer {layer}'s attention"),
            Place::FeedForward(layer) => write!(f, "layer {layer}'s feed-forward"),
            Place::Adapter(layer) => write!(f, "layer {layer}'s adapter"),
            Place::Output => f.write_str("the output"),
        }
    }
}
