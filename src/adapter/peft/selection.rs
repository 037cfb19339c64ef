//! Which modules a configuration says that an adapter has: `target_modules`, `exclude_modules`, `layers_to_transform` and `layers_pattern`.

use bise_models::printable::printable;
use serde_json::{Map, Value};

use super::config::CONFIG_NAME;
use super::pattern::Expression;

/// What the keys say. Their types were checked.
#[derive(Debug, Default)]
pub(super) struct Selection {
    targets: Option<Names>,
    excluded: Option<Names>,
    /// `None` for all layers.
    layers: Option<Vec<u64>>,
    layers_patterns: Vec<String>,
    parameters: Vec<String>,
}

#[derive(Debug)]
enum Names {
    /// An expression for whole names.
    Expression(String),
    /// Names of modules, or their ends.
    List(Vec<String>),
}

/// A module that the configuration says the adapter does not have.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unexpected {
    pub found: String,
    pub expected: String,
}

impl Selection {
    pub fn of(config: &Map<String, Value>) -> Selection {
        let texts = |key: &str| match config.get(key) {
            Some(Value::String(text)) => vec![text.clone()],
            Some(Value::Array(values)) => {
                values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        };
        let names = |key: &str| match config.get(key)? {
            Value::String(text) => Some(Names::Expression(text.clone())),
            Value::Array(_) => Some(Names::List(texts(key))),
            _ => None,
        };
        let layers = match config.get("layers_to_transform") {
            Some(Value::Array(values)) => values.iter().filter_map(Value::as_u64).collect(),
            Some(value) => value.as_u64().into_iter().collect(),
            None => Vec::new(),
        };
        Selection {
            targets: names("target_modules"),
            excluded: names("exclude_modules"),
            // PEFT takes an empty list for none at all.
            layers: Some(layers).filter(|layers: &Vec<u64>| !layers.is_empty()),
            layers_patterns: texts("layers_pattern").into_iter().filter(|text| !text.is_empty()).collect(),
            parameters: texts("target_parameters"),
        }
    }

    /// Ready to be asked about modules, and what the user should know of it, one line each.
    pub fn compile(&self) -> (Selector<'_>, Vec<String>) {
        let mut notes = Vec::new();
        let mut compile = |key: &str, compiled: Result<Expression, String>| match compiled {
            Ok(expression) => Some(expression),
            Err(why) => {
                notes.push(format!("\"{key}\" of {CONFIG_NAME} is not looked at: {why}"));
                None
            }
        };
        let excluded = match &self.excluded {
            Some(Names::Expression(text)) if !text.is_empty() => {
                compile("exclude_modules", Expression::whole(text))
            }
            _ => None,
        };
        let patterns = self.layers_patterns.iter().filter(|_| self.layers.is_some());
        let patterns: Option<Vec<Expression>> =
            patterns.map(|text| compile("layers_pattern", Expression::end(text))).collect();
        (Selector { selection: self, excluded, patterns }, notes)
    }

    /// Entries of `target_modules` that none of `modules` belongs to, one line each.
    pub fn unused(&self, modules: &[&str]) -> Vec<String> {
        let line =
            |text: &str| format!("no tensor belongs to '{}' of target_modules", printable(text.as_bytes()));
        match &self.targets {
            None => Vec::new(),
            Some(Names::List(names)) => {
                let is_unused = |name: &&String| !modules.iter().any(|module| is_end(module, name));
                names.iter().filter(is_unused).map(|name| line(name)).collect()
            }
            Some(Names::Expression(text)) => {
                // What is not understood here, PEFT may understand.
                let Ok(mut expression) = Expression::whole(text) else { return Vec::new() };
                let is_used = modules.iter().any(|module| expression.is_match(module));
                if is_used { Vec::new() } else { vec![line(text)] }
            }
        }
    }

    /// Whether it is a parameter that is adapted, not the module: PEFT looks at none of the other keys then.
    fn is_parameter(&self, module: &str) -> bool {
        self.parameters.iter().any(|parameter| match parameter.rsplit_once('.') {
            Some((parent, _)) => is_end(module, parent),
            None => is_end(module, "experts"),
        })
    }
}

/// Whether `end` is a module's name or the last words of it.
fn is_end(module: &str, end: &str) -> bool {
    module == end || module.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'))
}

/// A [`Selection`] with its expressions.
pub(super) struct Selector<'a> {
    selection: &'a Selection,
    excluded: Option<Expression>,
    /// `None` if one of them could not be compiled: the layers are not looked at then.
    patterns: Option<Vec<Expression>>,
}

impl Selector<'_> {
    /// Why an adapter of `module` does not belong to the configuration, by `check_target_module_exists` of PEFT 0.21: it would leave it out.
    pub fn refuse(&mut self, module: &str) -> Option<Unexpected> {
        let module = module.trim_end_matches(".base_layer");
        if self.selection.is_parameter(module) {
            return None;
        }
        let is_excluded = match &self.selection.excluded {
            None => false,
            Some(Names::List(names)) => names.iter().any(|name| is_end(module, name)),
            Some(Names::Expression(_)) => {
                self.excluded.as_mut().is_some_and(|expression| expression.is_match(module))
            }
        };
        if is_excluded {
            let found = format!("an adapter of '{}'", printable(module.as_bytes()));
            let expected = format!("none of it, as \"exclude_modules\" of {CONFIG_NAME} says");
            return Some(Unexpected { found, expected });
        }
        let layers = self.selection.layers.as_ref()?;
        if let Some(Names::List(names)) = &self.selection.targets
            && names.iter().any(|name| name == module)
        {
            // What is named as a whole is adapted in any layer.
            return None;
        }
        let layer = layer_of(module, self.patterns.as_mut()?);
        if layer.is_some_and(|layer| layers.contains(&layer)) {
            return None;
        }
        let found = match layer {
            Some(layer) => format!("an adapter of layer {layer}"),
            None => "an adapter of a module that is in no layer".to_owned(),
        };
        let listed: Vec<_> = layers.iter().map(u64::to_string).collect();
        let noun = if layers.len() == 1 { "layer" } else { "layers" };
        let expected =
            format!("one of {noun} {}, as \"layers_to_transform\" of {CONFIG_NAME} says", listed.join(", "));
        Some(Unexpected { found, expected })
    }
}

/// The layer that a module is in: the first number behind two words, or behind what one of the patterns names.
fn layer_of(module: &str, patterns: &mut [Expression]) -> Option<u64> {
    let dots: Vec<usize> = module.match_indices('.').map(|(at, _)| at).collect();
    // Where a number may begin and end, with what is before it.
    let mut numbers = Vec::new();
    for (i, between) in dots.windows(2).enumerate() {
        let digits = &module[between[0] + 1..between[1]];
        if let Some(n) = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit())) {
            numbers.push((i, &module[..between[0]], n));
        }
    }
    if patterns.is_empty() {
        return numbers.iter().find(|(i, ..)| *i > 0).map(|(.., n)| *n);
    }
    let found = patterns
        .iter_mut()
        .find_map(|pattern| numbers.iter().find(|(_, before, _)| pattern.is_match(before)));
    found.map(|(.., n)| *n)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(config: Value, module: &str) -> Option<Unexpected> {
        let selection = Selection::of(config.as_object().unwrap());
        let (mut selector, notes) = selection.compile();
        assert_eq!(notes, [""; 0]);
        selector.refuse(module)
    }

    /// What `check_target_module_exists` of PEFT 0.21.2 says of these (tests/adapter/selection.py prints the table).
    #[test]
    fn modules_are_chosen_as_peft_chooses_them() {
        let q = |layer: usize| format!("model.layers.{layer}.self_attn.q_proj");
        let expert = "model.layers.1.block_sparse_moe.experts.0.w1";
        let targets = json!(["q_proj", "w1", "lm_head"]);
        let all = [q(0), q(1), q(11), expert.to_owned(), "lm_head".to_owned(), "model.lm_head".to_owned()];
        for (config, chosen) in [
            (json!({}), [true, true, true, true, true, true]),
            (json!({ "layers_to_transform": null }), [true, true, true, true, true, true]),
            (json!({ "layers_to_transform": [] }), [true, true, true, true, true, true]),
            (json!({ "layers_to_transform": 1 }), [false, true, false, true, true, false]),
            (json!({ "layers_to_transform": [0, 11] }), [true, false, true, false, true, false]),
            (
                json!({ "layers_to_transform": [1], "layers_pattern": "layers" }),
                [false, true, false, true, true, false],
            ),
            (
                json!({ "layers_to_transform": [0], "layers_pattern": ["h", "experts"] }),
                [false, false, false, true, true, false],
            ),
            (
                json!({ "layers_to_transform": [1], "layers_pattern": [] }),
                [false, true, false, true, true, false],
            ),
            (json!({ "exclude_modules": ["lm_head", "w1"] }), [true, true, true, false, false, false]),
            (json!({ "exclude_modules": r".*\.1\..*" }), [true, false, true, false, true, true]),
            (json!({ "exclude_modules": "q_proj" }), [true, true, true, true, true, true]),
        ] {
            let mut config = config;
            config["target_modules"] = targets.clone();
            let found = all.each_ref().map(|module| refused(config.clone(), module).is_none());
            assert_eq!(found, chosen, "{config}");
        }
    }

    #[test]
    fn a_refusal_names_key_and_layer() {
        let Unexpected { found, expected } =
            refused(json!({ "layers_to_transform": [0, 2] }), "model.layers.7.mlp.up_proj").unwrap();
        assert_eq!(found, "an adapter of layer 7");
        assert_eq!(expected, "one of layers 0, 2, as \"layers_to_transform\" of adapter_config.json says");
        let parameters =
            json!({ "layers_to_transform": 0, "target_parameters": ["mlp.experts.gate_up_proj"] });
        assert_eq!(refused(parameters, "model.layers.7.mlp.experts.base_layer"), None);
    }

    #[test]
    fn targets_that_fit_nothing_are_told() {
        let modules = ["model.layers.0.self_attn.q_proj", "lm_head"];
        let unused = |targets: Value| {
            Selection::of(json!({ "target_modules": targets }).as_object().unwrap()).unused(&modules)
        };
        let line = |name: &str| vec![format!("no tensor belongs to '{name}' of target_modules")];
        assert_eq!(unused(json!(["q_proj", "lm_head", "proj"])), line("proj"));
        assert_eq!(unused(json!(r".*q_proj")), [""; 0]);
        assert_eq!(unused(json!("q_proj")), line("q_proj"));
        assert_eq!(unused(json!("(?=q)")), [""; 0]);
        assert_eq!(unused(json!(null)), [""; 0]);
    }

    #[test]
    fn an_expression_that_is_not_understood_is_told() {
        for key in ["exclude_modules", "layers_pattern"] {
            let mut config = json!({ "layers_to_transform": [0] });
            config[key] = json!("(?=x)");
            let selection = Selection::of(config.as_object().unwrap());
            let (_, notes) = selection.compile();
            assert!(notes.len() == 1 && notes[0].contains(key), "{notes:?}");
        }
    }
}
