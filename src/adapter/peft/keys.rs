//! The keys of `adapter_config.json` that a LoRA has besides its numbers: those that say nothing about the arithmetic, and those that change it.

use serde_json::{Map, Value};

/// Keys that change no number: they say how an adapter was trained, or where, and which modules it has.
const DESCRIPTIVE: [(&str, Kind); 17] = [
    ("auto_mapping", Kind::Object),
    ("base_model_name_or_path", Kind::Text),
    ("exclude_modules", Kind::Names),
    ("fan_in_fan_out", Kind::Flag),
    ("inference_mode", Kind::Flag),
    ("layers_pattern", Kind::Names),
    ("layers_to_transform", Kind::Layers),
    ("lora_dropout", Kind::Share),
    ("megatron_core", Kind::Text),
    ("peft_version", Kind::Text),
    ("qalora_group_size", Kind::Count),
    ("revision", Kind::Text),
    ("runtime_config", Kind::Object),
    ("target_modules", Kind::Names),
    ("task_type", Kind::Text),
    // Of versions before 0.3.
    ("enable_lora", Kind::Flags),
    ("merge_weights", Kind::Flag),
];

/// What the value of a key may be, if it is not null.
#[derive(Clone, Copy)]
enum Kind {
    Flag,
    Flags,
    Text,
    Names,
    Layers,
    Count,
    Share,
    Object,
}

impl Kind {
    fn allows(self, value: &Value) -> bool {
        let all = |is: fn(&Value) -> bool| value.as_array().is_some_and(|values| values.iter().all(is));
        match self {
            _ if value.is_null() => true,
            Kind::Flag => value.is_boolean(),
            Kind::Flags => value.is_boolean() || all(Value::is_boolean),
            Kind::Text => value.is_string(),
            Kind::Names => value.is_string() || all(Value::is_string),
            Kind::Layers => value.is_u64() || all(Value::is_u64),
            Kind::Count => value.is_u64(),
            Kind::Share => value.as_f64().is_some_and(|share| (0.0..=1.0).contains(&share)),
            Kind::Object => value.is_object(),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Kind::Flag => "true, false or null",
            Kind::Flags => "true, false, an array of these or null",
            Kind::Text => "a text or null",
            Kind::Names => "a text, an array of texts or null",
            Kind::Layers => "the number of a layer, an array of such numbers or null",
            Kind::Count => "a whole number or null",
            Kind::Share => "a number from 0 to 1, or null",
            Kind::Object => "an object or null",
        }
    }
}

/// The first of the keys that change no number whose value is of a wrong type, and what was expected.
pub(super) fn mistyped(config: &Map<String, Value>) -> Option<(&'static str, &'static str)> {
    let is_wrong = |(key, kind): &&(&str, Kind)| config.get(*key).is_some_and(|value| !kind.allows(value));
    DESCRIPTIVE.iter().find(is_wrong).map(|(key, kind)| (*key, kind.expected()))
}

/// Keys that are read.
const READ: [&str; 8] = [
    "alpha_pattern",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "target_parameters",
    "use_rslora",
];

/// Keys that change what an adapter computes where they are set, and how.
const REFUSED: [(&str, &str); 21] = [
    ("alora_invocation_tokens", "an adapter that acts from some tokens on (aLoRA) has no form here"),
    ("invocation_string", "an adapter that acts from some text on (aLoRA) has no form here"),
    ("arrow_config", "it routes between several adapters (Arrow)"),
    ("bias", "biases were trained with it, and the layers here have none"),
    (
        "corda_config",
        "the base model was changed when it was made (CorDA): convert it to a LoRA with PEFT first",
    ),
    ("ensure_weight_tying", "it ties adapters of the embedding and the output"),
    ("eva_config", "its ranks and scales were chosen by EVA: merge it with PEFT's `merge_and_unload`"),
    ("kasa_config", "it is scaled by singular values of its own (KaSA)"),
    ("layer_replication", "it is for a model whose layers were copied"),
    ("loftq_config", "it is for a base model that LoftQ has quantized"),
    ("lora_bias", "B has a bias"),
    (
        "lora_ga_config",
        "the base model was changed when it was made (LoRA-GA): convert it to a LoRA with PEFT first",
    ),
    ("megatron_config", "it is for layers of Megatron, which are divided among machines"),
    (
        "modules_to_save",
        "whole matrices were trained and saved besides: merge it with PEFT's `merge_and_unload`, and convert the model",
    ),
    ("monteclora_config", "its scales are drawn at random (MonteCLoRA)"),
    (
        "trainable_token_indices",
        "rows of the embedding were trained besides: merge it with PEFT's `merge_and_unload`",
    ),
    ("use_bdlora", "its matrices are block-diagonal (BD-LoRA)"),
    (
        "use_dora",
        "DoRA also scales the columns of the base model's matrices: merge it with PEFT's `merge_and_unload`",
    ),
    ("use_qalora", "it pools the activations (QA-LoRA)"),
    ("velora_config", "it compresses activations (VeLoRA)"),
    ("fine_tune_type", "it is an adapter of mlx_lm, whose matrices lie otherwise"),
];

/// Ways to begin with that leave the base model as it is. Others subtract from it what A·B is at first.
const INITIALISATIONS: [&str; 4] = ["gaussian", "orthogonal", "mica", "eva"];

/// A key that the adapter cannot be used with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub key: String,
    pub value: String,
    pub reason: String,
}

/// The first key that changes the arithmetic in a way that is not supported, or that nothing is known about.
pub(super) fn refused(config: &Map<String, Value>) -> Option<Refused> {
    config.iter().find_map(|(key, value)| {
        let reason = match key.as_str() {
            "init_lora_weights" => initialisation(value)?.to_owned(),
            known if READ.contains(&known) || DESCRIPTIVE.iter().any(|(key, _)| *key == known) => {
                return None;
            }
            _ if is_unset(key, value) => return None,
            key => match REFUSED.iter().find(|(refused, _)| *refused == key) {
                Some((_, reason)) => (*reason).to_owned(),
                None => {
                    "nothing is known about this key, and it may change what the adapter computes".to_owned()
                }
            },
        };
        Some(Refused { key: key.clone(), value: value.to_string(), reason })
    })
}

/// Whether a value is what PEFT writes where a key is not used.
fn is_unset(key: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty() || (key, text.as_str()) == ("bias", "none"),
        Value::Array(values) => values.is_empty(),
        Value::Object(values) => values.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// Why an adapter that began like this cannot be used, if it cannot.
fn initialisation(value: &Value) -> Option<&'static str> {
    let text = match value {
        Value::Null | Value::Bool(_) => return None,
        Value::String(text) => text.to_lowercase(),
        _ => return Some("expected true, false or the name of an initialisation"),
    };
    if INITIALISATIONS.contains(&text.as_str()) {
        return None;
    }
    Some(match text.as_str() {
        "olora" | "corda" | "loftq" | "lora_ga" => CHANGES_BASE,
        pissa if pissa.starts_with("pissa") => CHANGES_BASE,
        _ => "nothing is known about this initialisation, and it may change the base model",
    })
}

const CHANGES_BASE: &str = "it changes the base model before training, and the adapter is for the changed one: save it with \
                            `path_initial_model_for_weight_conversion`, which makes a LoRA of it";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused_key(key: &str, value: Value) -> Option<String> {
        let mut config = Map::new();
        config.insert(key.to_owned(), value);
        refused(&config).map(|refused| refused.key)
    }

    #[test]
    fn what_peft_writes_by_default_is_accepted() {
        // PEFT 0.21's `LoraConfig(task_type="CAUSAL_LM").save_pretrained`, and keys of versions before.
        let config = r#"{
            "alora_invocation_tokens": null, "alpha_pattern": {}, "arrow_config": null, "auto_mapping": null,
            "base_model_name_or_path": null, "bias": "none", "corda_config": null, "ensure_weight_tying": false,
            "eva_config": null, "exclude_modules": null, "fan_in_fan_out": false, "inference_mode": false,
            "init_lora_weights": true, "kasa_config": null, "layer_replication": null, "layers_pattern": null,
            "layers_to_transform": null, "loftq_config": {}, "lora_alpha": 8, "lora_bias": false, "lora_dropout": 0.0,
            "lora_ga_config": null, "megatron_config": null, "megatron_core": "megatron.core", "modules_to_save": null,
            "monteclora_config": null, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 8,
            "rank_pattern": {}, "revision": null, "target_modules": null, "target_parameters": null,
            "task_type": "CAUSAL_LM", "trainable_token_indices": null, "use_bdlora": null, "use_dora": false,
            "use_qalora": false, "use_rslora": false, "velora_config": null, "enable_lora": null, "merge_weights": false
        }"#;
        assert_eq!(refused(&serde_json::from_str(config).unwrap()), None);
    }

    #[test]
    fn a_value_of_a_wrong_type_is_named() {
        let wrong = |key: &str, value: Value| {
            let mut config = Map::new();
            config.insert(key.to_owned(), value);
            mistyped(&config)
        };
        let layers = "the number of a layer, an array of such numbers or null";
        for (key, value, expected) in [
            ("layers_to_transform", json!({}), layers),
            ("layers_to_transform", json!("0"), layers),
            ("layers_to_transform", json!([0, "1"]), layers),
            ("layers_to_transform", json!([-1]), layers),
            ("layers_to_transform", json!(true), layers),
            ("layers_to_transform", json!(0.5), layers),
            ("layers_pattern", json!(7), "a text, an array of texts or null"),
            ("target_modules", json!({ "q_proj": 1 }), "a text, an array of texts or null"),
            ("exclude_modules", json!([null]), "a text, an array of texts or null"),
            ("lora_dropout", json!("0.1"), "a number from 0 to 1, or null"),
            ("lora_dropout", json!(1.5), "a number from 0 to 1, or null"),
            ("fan_in_fan_out", json!("false"), "true, false or null"),
            ("inference_mode", json!(1), "true, false or null"),
            ("base_model_name_or_path", json!(["a"]), "a text or null"),
            ("enable_lora", json!([1]), "true, false, an array of these or null"),
            ("auto_mapping", json!([]), "an object or null"),
            ("qalora_group_size", json!("16"), "a whole number or null"),
        ] {
            assert_eq!(wrong(key, value.clone()), Some((key, expected)), "{value}");
        }
        for (key, value) in [
            ("layers_to_transform", json!(3)),
            ("layers_to_transform", json!([3, 0])),
            ("target_modules", json!("all-linear")),
            ("target_modules", json!(["q_proj"])),
            ("lora_dropout", json!(0)),
            ("runtime_config", json!({ "ephemeral_gpu_offload": false })),
            ("enable_lora", json!([true, false])),
        ] {
            assert_eq!(wrong(key, value.clone()), None, "{value}");
        }
        for (key, _) in DESCRIPTIVE {
            assert_eq!(wrong(key, Value::Null), None, "{key}");
        }
    }

    #[test]
    fn a_key_that_changes_the_arithmetic_is_named() {
        for (key, _) in REFUSED {
            let value = if key == "bias" { Value::from("lora_only") } else { Value::from(true) };
            assert_eq!(refused_key(key, value).as_deref(), Some(key));
            assert_eq!(refused_key(key, Value::Null), None);
        }
        for value in ["pissa", "pissa_niter_16", "PiSSA", "olora", "corda", "loftq", "lora_ga", "new"] {
            assert_eq!(refused_key("init_lora_weights", value.into()).as_deref(), Some("init_lora_weights"));
        }
        for value in [true.into(), false.into(), "gaussian".into(), "orthogonal".into(), Value::Null] {
            assert_eq!(refused_key("init_lora_weights", value), None);
        }
    }

    #[test]
    fn an_unknown_key_is_named_where_it_is_set() {
        for value in [Value::from(0), 0.5.into(), true.into(), "x".into(), serde_json::json!([0])] {
            assert_eq!(refused_key("use_something_new", value).as_deref(), Some("use_something_new"));
        }
        for value in [Value::Null, false.into(), "".into(), serde_json::json!([]), serde_json::json!({})] {
            assert_eq!(refused_key("use_something_new", value), None);
        }
    }
}
