//! Names for the products of a forward pass, and a place to look at them or add to them.

use std::fmt;

use crate::config::MistralConfig;
use crate::rows::{Rows, RowsMut};

/// A weight matrix's role in its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as in GGUF files")]
pub enum Projection {
    AttnQ,
    AttnK,
    AttnV,
    AttnOutput,
    /// Mixtral's router.
    FfnGateInp,
    FfnGate,
    FfnUp,
    FfnDown,
    /// The last one, from hidden states to logits.
    Output,
}

impl Projection {
    /// Whether both are multiplied with the same activations in one step of a layer.
    pub(crate) fn shares_input(self, other: Projection) -> bool {
        use Projection::*;
        let step = |projection| match projection {
            AttnQ | AttnK | AttnV => AttnQ,
            FfnGate | FfnUp => FfnGate,
            alone => alone,
        };
        step(self) == step(other)
    }
}

/// One matrix of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site {
    /// The layer, from 0; the number of layers for [`Projection::Output`].
    pub layer: usize,
    /// The role.
    pub projection: Projection,
    /// Which expert, where the feed-forward is sparse.
    pub expert: Option<usize>,
}

impl Site {
    /// Rows and columns of the matrix in a model of this configuration; `None` where it has none there.
    pub fn shape(self, config: &MistralConfig) -> Option<[usize; 2]> {
        use Projection::*;
        let Site { layer, projection, expert } = self;
        let (d, ff) = (config.n_embd, config.n_ff);
        if projection == Output {
            return (layer == config.n_layers && expert.is_none()).then_some([config.n_vocab, d]);
        }
        let is_expert = matches!(projection, FfnGate | FfnUp | FfnDown);
        let is_there = match (config.experts, expert) {
            (Some(experts), Some(expert)) => is_expert && expert < experts.n_experts,
            (Some(_), None) => !is_expert,
            (None, expert) => expert.is_none(),
        };
        if layer >= config.n_layers || !is_there {
            return None;
        }
        Some(match projection {
            AttnQ => [config.q_dim(), d],
            AttnK | AttnV => [config.kv_dim(), d],
            AttnOutput => [d, config.q_dim()],
            FfnGateInp => [config.experts?.n_experts, d],
            FfnGate | FfnUp => [ff, d],
            FfnDown => [d, ff],
            Output => return None,
        })
    }
}

impl fmt::Display for Site {
    /// The matrix's name in a GGUF file, without `.weight`; an expert's number comes last, as in files that store experts one by one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.projection {
            Projection::AttnQ => "attn_q",
            Projection::AttnK => "attn_k",
            Projection::AttnV => "attn_v",
            Projection::AttnOutput => "attn_output",
            Projection::FfnGateInp => "ffn_gate_inp",
            Projection::FfnGate => "ffn_gate",
            Projection::FfnUp => "ffn_up",
            Projection::FfnDown => "ffn_down",
            Projection::Output => return f.write_str("output"),
        };
        write!(f, "blk.{}.{part}", self.layer)?;
        self.expert.map_or(Ok(()), |expert| write!(f, ".{expert}"))
    }
}

/// Called after every product of a forward pass, on the thread that runs it.
///
/// An adapter adds its own product to `y`; statistics for quantization, and training, look at `x`.
pub trait Hook: Send + Sync {
    /// `y [n, rows of W]` is `x [n, columns of W]` times the transposed matrix at `site`. Rows are those of the batch in order, or,
    /// in the last layer, those whose output is wanted; long batches come in several pieces, and an expert gets the rows routed to it.
    fn product(&self, site: Site, x: Rows<'_>, y: RowsMut<'_>);
}
