//! Names of tensors in a PEFT folder, and what they belong to.

use bise_models::{MistralConfig, Projection, Site};

use crate::adapter::target::Target;

/// What PEFT puts before the names of a model's modules.
const PREFIX: &str = "base_model.model.";

/// One of the two tensors of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    /// `[rank, k]`
    A,
    /// `[n_rows, rank]`
    B,
}

/// A tensor of an adapter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// The module, as PEFT's patterns see it: `model.layers.0.self_attn.q_proj`.
    pub module: &'a str,
    /// The adapter's name, where the file kept it.
    pub adapter: Option<&'a str>,
    pub half: Half,
}

/// A tensor that is no part of a LoRA.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// The base model's own, saved beside the adapter.
    Base,
    /// What it is, and why it is not supported.
    Refused(&'static str, &'static str),
}

const MERGE: &str = "merge the adapter with PEFT's `merge_and_unload`, and convert the model";

impl<'a> Name<'a> {
    /// Reads the name of a tensor.
    pub fn of(name: &'a str) -> Result<Name<'a>, Other> {
        let plain = name.strip_prefix(PREFIX).unwrap_or(name);
        let Some((module, rest)) = plain.rsplit_once(".lora_") else { return Err(other(plain)) };
        let mut words = rest.split('.');
        let half = match words.next() {
            Some("A" | "embedding_A") => Half::A,
            Some("B" | "embedding_B") => Half::B,
            Some("magnitude_vector") => {
                return Err(Other::Refused("a scale of DoRA", MERGE));
            }
            _ => return Err(Other::Refused("a tensor of an unknown kind", "nothing is known about it")),
        };
        let is_embedding = rest.starts_with("embedding_");
        let words: Vec<&str> = words.collect();
        let adapter = match (words.as_slice(), is_embedding) {
            (["weight"], false) | ([], true) => None,
            ([adapter, "weight"], false) | ([adapter], true) => Some(*adapter),
            ([.., "bias"], false) => return Err(Other::Refused("a bias of an adapter", MERGE)),
            _ => return Err(Other::Refused("a tensor of an unknown kind", "nothing is known about it")),
        };
        Ok(Name { module, adapter, half })
    }
}

fn other(name: &str) -> Other {
    let contains = |part: &str| name.contains(part);
    if contains(".base_layer.") {
        return Other::Base;
    }
    if contains("modules_to_save") || contains("original_module") {
        return Other::Refused("a matrix that was trained whole (modules_to_save)", MERGE);
    }
    if contains("trainable_tokens") {
        return Other::Refused("rows of the embedding that were trained (trainable_token_indices)", MERGE);
    }
    if name.ends_with(".bias") {
        return Other::Refused("a bias", "layers are computed without");
    }
    if contains("norm") {
        return Other::Refused("a norm that was trained", MERGE);
    }
    if contains("embed_tokens.weight") || contains("lm_head.weight") {
        return Other::Refused("a whole matrix, as PEFT saves it for a vocabulary that has grown", MERGE);
    }
    Other::Refused("no part of a LoRA", "nothing is known about it")
}

/// What the modules of an adapter are in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// One matrix.
    One(Target),
    /// Those of all experts of a layer, which transformers 5 has as two parameters.
    Experts(usize),
}

impl Place {
    /// The place of a module; `None` where the model of `config` has no such thing.
    pub fn of(module: &str, config: &MistralConfig) -> Option<Place> {
        let mut rest = module;
        // The language model may be inside of one with encoders.
        while let Some(inner) =
            ["model.", "language_model.", "text_model."].iter().find_map(|outer| rest.strip_prefix(outer))
        {
            rest = inner;
        }
        let site = |layer, projection, expert| {
            let target = Target::Matrix(Site { layer, projection, expert });
            target.shape(config).map(|_| Place::One(target))
        };
        let rest = match rest {
            "embed_tokens" => return Some(Place::One(Target::Embedding)),
            "lm_head" => return site(config.n_layers, Projection::Output, None),
            layer => layer.strip_prefix("layers.")?,
        };
        let (layer, part) = rest.split_once('.')?;
        let layer = number(layer)?;
        let projection = match part {
            "self_attn.q_proj" => Projection::AttnQ,
            "self_attn.k_proj" => Projection::AttnK,
            "self_attn.v_proj" => Projection::AttnV,
            "self_attn.o_proj" => Projection::AttnOutput,
            "mlp.gate_proj" => Projection::FfnGate,
            "mlp.up_proj" => Projection::FfnUp,
            "mlp.down_proj" => Projection::FfnDown,
            "block_sparse_moe.gate" | "mlp.gate" => Projection::FfnGateInp,
            part => {
                let part =
                    part.strip_prefix("block_sparse_moe.experts").or(part.strip_prefix("mlp.experts"))?;
                let has_experts = config.experts.is_some() && layer < config.n_layers;
                let Some(part) = part.strip_prefix('.') else {
                    return (part.is_empty() && has_experts).then_some(Place::Experts(layer));
                };
                if part.split('.').all(|word| word == "base_layer") {
                    return has_experts.then_some(Place::Experts(layer));
                }
                let (expert, part) = part.split_once('.')?;
                let projection = match part {
                    "w1" | "gate_proj" => Projection::FfnGate,
                    "w2" | "down_proj" => Projection::FfnDown,
                    "w3" | "up_proj" => Projection::FfnUp,
                    _ => return None,
                };
                return site(layer, projection, Some(number(expert)?));
            }
        };
        site(layer, projection, None)
    }

    /// Whether a module is part of an encoder for images or sound.
    pub fn is_encoder(module: &str) -> bool {
        ["vision_", "vision.", "visual.", "audio_", "audio.", "projector.", "patch_merger."]
            .iter()
            .any(|part| module.contains(part))
    }
}

/// The name of a module in transformers, behind `model.layers.N.` for those of layers.
pub(super) fn module_of(target: Target) -> String {
    let Target::Matrix(Site { layer, projection, expert }) = target else {
        return "model.embed_tokens".into();
    };
    let part = match (projection, expert) {
        (Projection::Output, _) => return "lm_head".into(),
        (Projection::AttnQ, _) => "self_attn.q_proj".to_owned(),
        (Projection::AttnK, _) => "self_attn.k_proj".to_owned(),
        (Projection::AttnV, _) => "self_attn.v_proj".to_owned(),
        (Projection::AttnOutput, _) => "self_attn.o_proj".to_owned(),
        (Projection::FfnGate, None) => "mlp.gate_proj".to_owned(),
        (Projection::FfnUp, None) => "mlp.up_proj".to_owned(),
        (Projection::FfnDown, None) => "mlp.down_proj".to_owned(),
        (Projection::FfnGateInp, _) => "block_sparse_moe.gate".to_owned(),
        (Projection::FfnGate, Some(e)) => format!("block_sparse_moe.experts.{e}.w1"),
        (Projection::FfnDown, Some(e)) => format!("block_sparse_moe.experts.{e}.w2"),
        (Projection::FfnUp, Some(e)) => format!("block_sparse_moe.experts.{e}.w3"),
    };
    format!("model.layers.{layer}.{part}")
}

/// The names of A and B of a module, as PEFT writes them.
pub(super) fn tensor_names(target: Target) -> [String; 2] {
    let module = module_of(target);
    match target {
        Target::Embedding => ["A", "B"].map(|half| format!("{PREFIX}{module}.lora_embedding_{half}")),
        Target::Matrix(_) => ["A", "B"].map(|half| format!("{PREFIX}{module}.lora_{half}.weight")),
    }
}

/// A number as names have it: without a sign or leading zeros.
fn number(digits: &str) -> Option<usize> {
    let n: usize = digits.parse().ok()?;
    (n.to_string() == digits).then_some(n)
}
