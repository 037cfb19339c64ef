//! What is trained, and how.

use crate::config::MistralConfig;
use crate::site::{Projection, Site};
use crate::train::error::TrainError;

/// Which matrices get an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Their roles: some of the seven matrices of a dense layer.
    pub projections: Vec<Projection>,
    /// The last layers of the model, this many.
    pub n_layers: usize,
}

/// The matrices of a layer that can have an adapter, in order.
pub(crate) const PROJECTIONS: [Projection; 7] = [
    Projection::AttnQ,
    Projection::AttnK,
    Projection::AttnV,
    Projection::AttnOutput,
    Projection::FfnGate,
    Projection::FfnUp,
    Projection::FfnDown,
];

impl Targets {
    /// The matrices in order of layers, then projections, with their shapes `[n_rows, k]`: A is `[rank, k]`, B is `[n_rows, rank]`.
    ///
    /// # Errors
    /// For matrices that are not trained (the router and experts of Mixtral, embeddings and output), no target at all, and more layers than
    /// the model has.
    pub fn sites(&self, config: &MistralConfig) -> Result<Vec<(Site, [usize; 2])>, TrainError> {
        let n_layers = config.n_layers;
        if self.n_layers == 0 || self.n_layers > n_layers {
            let what = format!("{} layers", self.n_layers);
            return Err(TrainError::Unsupported { what, why: "take from 1 to as many as the model has" });
        }
        if self.projections.is_empty() {
            return Err(TrainError::Unsupported {
                what: "an empty list of targets".into(),
                why: "name at least one matrix",
            });
        }
        for projection in &self.projections {
            check(config, Site { layer: 0, projection: *projection, expert: None })?;
        }
        let layers = n_layers - self.n_layers..n_layers;
        let projections = || PROJECTIONS.into_iter().filter(|p| self.projections.contains(p));
        let sites = layers
            .flat_map(|layer| projections().map(move |projection| Site { layer, projection, expert: None }));
        Ok(sites.map(|site| (site, shape(config, site.projection))).collect())
    }
}

/// Whether the matrix at `site` can be trained.
pub(crate) fn check(config: &MistralConfig, site: Site) -> Result<(), TrainError> {
    let why = if !PROJECTIONS.contains(&site.projection) || site.expert.is_some() {
        "adapters are trained for queries, keys, values and output of attention, and for gate, up and down of a dense feed-forward"
    } else if config.experts.is_some() && PROJECTIONS[4..].contains(&site.projection) {
        "the feed-forward has experts: adapters are trained for its attention only (q, k, v, o)"
    } else {
        return Ok(());
    };
    Err(TrainError::Unsupported { what: format!("'{site}'"), why })
}

/// `[n_rows, k]` of a layer's matrix.
pub(crate) fn shape(config: &MistralConfig, projection: Projection) -> [usize; 2] {
    let (d, ff, q, kv) = (config.n_embd, config.n_ff, config.q_dim(), config.kv_dim());
    match projection {
        Projection::AttnQ => [q, d],
        Projection::AttnK | Projection::AttnV => [kv, d],
        Projection::AttnOutput => [d, q],
        Projection::FfnGateInp => [config.experts.map_or(0, |e| e.n_experts), d],
        Projection::FfnGate | Projection::FfnUp => [ff, d],
        Projection::FfnDown => [d, ff],
        Projection::Output => [config.n_vocab, d],
    }
}

/// How it is trained.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrainOptions {
    /// The part of an adapter's input that is left out, from 0 to below 1.
    pub dropout: f32,
    /// Whether products take dequantized weights and f32 activations, rather than those of the served model (8-bit activations, with the
    /// gradient of a product that does not round).
    pub exact: bool,
    /// The most tokens in a pass: examples are packed up to it, and none may be longer.
    pub max_rows: usize,
    /// Whether each layer's activations are computed again for its backward pass. Otherwise all of them are kept, which saves a forward
    /// pass and takes some `4 · max_rows · (2·n_ff + 3·n_embd + 2·q_dim + 2·kv_dim)` bytes a layer.
    pub checkpointing: bool,
}

impl Default for TrainOptions {
    fn default() -> TrainOptions {
        TrainOptions { dropout: 0.0, exact: false, max_rows: 2048, checkpointing: true }
    }
}
