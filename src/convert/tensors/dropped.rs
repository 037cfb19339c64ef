//! Tensors that a checkpoint has and a GGUF file of its language model does not.

/// Why a tensor is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dropped {
    /// An encoder of images or sound, or what joins it to the language model.
    Encoder,
    /// Scales for quantizing activations, or keys and values, which `bise` does as it goes.
    ActivationScale,
    /// What follows from the configuration.
    Implied,
}

/// What is in the names of tensors of encoders.
const ENCODER_PARTS: [&str; 16] = [
    "vision_",
    "vision.",
    "visual.",
    "audio_",
    "audio.",
    "projector.",
    "patch_merger.",
    "patch_embed",
    "pre_mm_projector_norm",
    "image_newline",
    "view_seperator",
    "model.connector.",
    "talker.",
    "token2wav.",
    "code2wav.",
    "patch_merge_mlp.",
];

/// How names of scales and zero points end that are for activations, or for keys and values in a cache of 8 bits: by transformers, Mistral,
/// AutoFP8, quark and ModelOpt, as vLLM reads them.
const ACTIVATION_SCALES: [&str; 16] = [
    "activation_scale",
    ".qscale_act",
    ".act_scale",
    ".input_scale",
    ".input_global_scale",
    ".input_zero_point",
    ".output_scale",
    ".output_zero_point",
    ".kv_scale",
    ".q_scale",
    ".k_scale",
    ".v_scale",
    ".prob_scale",
    ".prob_output_scale",
    ".k_zero_point",
    ".v_zero_point",
];

impl Dropped {
    /// Why the tensor called `name` is left out; `None` if it is not.
    pub fn of(name: &str) -> Option<Dropped> {
        if ENCODER_PARTS.iter().any(|part| name.contains(part)) {
            return Some(Dropped::Encoder);
        }
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if ends(&ACTIVATION_SCALES) {
            return Some(Dropped::ActivationScale);
        }
        if ends(&[".rotary_emb.inv_freq", ".attention.masked_bias", ".attention.bias", "rope.freqs"]) {
            return Some(Dropped::Implied);
        }
        None
    }

    /// What it is, for a line that says so; `None` where nobody would miss it.
    pub fn what(self) -> Option<&'static str> {
        match self {
            Dropped::Encoder => Some("encoders of images and sound, which `bise` does not run"),
            Dropped::ActivationScale => {
                Some("scales for activations or a KV cache, which are quantized without them")
            }
            Dropped::Implied => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dropped;

    #[test]
    fn tensors_of_a_language_model_stay() {
        for name in [
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.mlp.gate_proj.weight",
            "model.layers.0.self_attn.q_proj.weight_scale_inv",
            "layers.0.attention.wq.qscale_weight",
            "lm_head.weight",
            "model.layers.0.self_attn.q_proj.bias",
        ] {
            assert_eq!(Dropped::of(name), None, "{name}");
        }
        for (name, dropped) in [
            ("vision_tower.transformer.layers.0.attention.q_proj.weight", Dropped::Encoder),
            ("multi_modal_projector.linear_1.weight", Dropped::Encoder),
            ("patch_merger.merging_layer.weight", Dropped::Encoder),
            ("model.layers.0.mlp.up_proj.activation_scale", Dropped::ActivationScale),
            ("layers.0.attention.wq.qscale_act", Dropped::ActivationScale),
            ("model.layers.0.self_attn.kv_scale", Dropped::ActivationScale),
            ("model.layers.0.self_attn.k_proj.output_scale", Dropped::ActivationScale),
            ("model.layers.0.mlp.up_proj.act_scale", Dropped::ActivationScale),
            ("model.layers.0.self_attn.rotary_emb.inv_freq", Dropped::Implied),
        ] {
            assert_eq!(Dropped::of(name), Some(dropped), "{name}");
        }
    }
}
