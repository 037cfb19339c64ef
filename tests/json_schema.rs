//! JSON by a schema: what comes out is valid, and what would not be obeyed is refused by name.
#![cfg(feature = "grammar")]

mod constraint_walk;
mod mistral_vocabularies;

use std::time::{Duration, Instant};

use bise::constraint::{Constraint, ConstraintError, Grammars, JsonSchema, TokenMask};
use bise::generation::{Finish, GenerationOptions};
use bise::sampling::SamplingParams;
use bise::{Engine, SessionOptions};
use bise_models::tokenizer::Tokenizer;
use constraint_walk::{Dice, End, walk};
use mistral_vocabularies::vocabulary;
use serde_json::{Value, json};

/// Schemas of each kind that people write.
fn schemas() -> Vec<Value> {
    vec![
        json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}, "required": ["name", "age"],
            "additionalProperties": false}),
        json!({"type": "string", "pattern": "^[a-z]+-[0-9]{2,3}$", "maxLength": 8}),
        json!({"type": "string", "pattern": "b+", "minLength": 4, "maxLength": 6}),
        json!({"type": "string", "maxLength": 5}),
        json!({"enum": ["red", "grün", 3, null, {"a": [1]}]}),
        json!({"const": {"a": "é\"\\"}}),
        json!({"type": "integer", "minimum": -3, "exclusiveMaximum": 12}),
        json!({"type": "number", "minimum": 0.5, "maximum": 2}),
        json!({"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 100}),
        json!({"type": ["string", "null"], "maxLength": 3}),
        json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4}),
        json!({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string", "maxLength": 4}], "items": false}),
        json!({"items": [{"const": 1}, {"const": 2}], "additionalItems": {"const": 3}, "type": "array", "minItems": 2, "maxItems": 5}),
        json!({"anyOf": [{"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]}, {"type": "boolean"}]}),
        json!({"oneOf": [{"type": "integer"}, {"type": "boolean"}]}),
        json!({"allOf": [{"properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}],
            "type": "object", "maxProperties": 2}),
        json!({"type": "object", "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 9}, "minProperties": 1, "maxProperties": 3}),
        json!({"type": "object", "patternProperties": {"^x_[a-z]$": {"type": "boolean"}}, "additionalProperties": false}),
        // A tree.
        json!({"$defs": {"node": {"type": "object", "properties": {"value": {"type": "integer"},
            "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2}}, "required": ["value", "children"], "additionalProperties": false}},
            "$ref": "#/$defs/node"}),
        json!({"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}, "required": ["next"], "additionalProperties": false}),
        // References that are no plain paths.
        json!({"type": "object", "properties": {"a/b": {"type": "integer", "maximum": 9, "minimum": 0}, "c": {"$ref": "#/properties/a~1b"},
            "d": {"$ref": "#here"}, "e": {"$ref": "#/$defs/%C3%A9~0"}}, "required": ["c", "d", "e"], "additionalProperties": false,
            "$defs": {"x": {"$anchor": "here", "type": "boolean"}, "é~": {"type": "null"}}}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "string", "format": "uuid"}),
        json!({"type": "string", "format": "ipv4", "description": "x", "x-order": 1, "title": "t", "deprecated": true}),
        json!({"$schema": "http://json-schema.org/draft-04/schema#", "type": "number", "minimum": 5, "exclusiveMinimum": true, "maximum": 6}),
        json!({"type": "integer", "format": "int64", "minimum": 0, "maximum": 99}),
        json!(true),
        json!({}),
    ]
}

/// In a vocabulary of each kind.
#[test]
fn what_comes_out_is_valid() {
    for name in ["v3", "tekken"] {
        let tokenizer = Tokenizer::new(vocabulary(name)).unwrap();
        let grammars = Grammars::new(&tokenizer);
        for (i, schema) in schemas().iter().enumerate() {
            let mut options = jsonschema::options().should_validate_formats(true);
            if schema.get("$schema").is_none() {
                let is_older = schema["items"].is_array();
                options = options.with_draft(if is_older {
                    jsonschema::Draft::Draft7
                } else {
                    jsonschema::Draft::Draft202012
                });
            }
            let validator = options.build(schema).unwrap();
            let mut n_complete = 0;
            let mut distinct = std::collections::HashSet::new();
            for seed in 1..=if name == "v3" { 12 } else { 4 } {
                let mut constraint =
                    JsonSchema::new(&grammars, schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
                let done = walk(&tokenizer, &mut constraint, &mut Dice(seed * 7919 + i as u64), 600);
                if done.end == End::Cut {
                    continue;
                }
                n_complete += 1;
                assert!(!done.tokens.iter().any(|token| tokenizer.is_control(*token)), "{}", done.text);
                let value: Value =
                    serde_json::from_str(&done.text).unwrap_or_else(|error| panic!("{error}: {}", done.text));
                let errors: Vec<String> =
                    validator.iter_errors(&value).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{schema}: {}: {errors:?}", done.text);
                distinct.insert(done.text);
            }
            assert!(n_complete > 0, "{name}: {schema}");
            assert!(
                distinct.len() > 1 || schema.get("const").is_some() || name == "tekken",
                "{schema}: {distinct:?}"
            );
        }
    }
}

/// Every text that a schema describes can be written, white space and escapes included.
#[test]
fn what_is_valid_can_be_written() {
    let tokenizer = Tokenizer::new(vocabulary("v3")).unwrap();
    let grammars = Grammars::new(&tokenizer);
    let plain = bise_models::tokenizer::EncodeOptions { add_special: false, parse_special: false };
    let accepts = |schema: &Value, text: &str| {
        let mut constraint = JsonSchema::new(&grammars, schema).unwrap();
        let mut allowed = TokenMask::new(tokenizer.n_vocab());
        let tokens = tokenizer.encode(&format!("\n{text}"), plain);
        let guard = tokenizer.encode("\n", plain);
        for token in tokens.strip_prefix(&guard[..]).unwrap() {
            allowed.clear();
            constraint.mask(&mut allowed);
            if !allowed.contains(*token) {
                return false;
            }
            constraint.accept(*token);
        }
        constraint.can_end()
    };
    let any = json!({});
    for text in [
        "{\"a\": [1, -2.5e-7, true, null, \"é \\u000a \\\" \\\\ 🦀\"], \"b\": {}}",
        "{\n  \"a\": [\n    1,\n    2\n  ]\n}",
        "[]",
        "[[[[]]]]",
        "\"\"",
    ] {
        assert!(accepts(&any, text), "{text}");
    }
    for text in ["{", "{\"a\": }", "[1,]", "tru", "01", "{\"a\":     1}", "[1\n\n\n]", "{}{}", "'a'"] {
        assert!(!accepts(&any, text), "{text}");
    }
    let short = json!({"type": "string", "pattern": "^[ab]*$", "maxLength": 3});
    assert!(accepts(&short, "\"aba\"") && accepts(&short, "\"\""));
    assert!(!accepts(&short, "\"abab\"") && !accepts(&short, "\"abc\""));
}

#[test]
fn what_would_not_be_obeyed_is_named() {
    let tokenizer = Tokenizer::new(vocabulary("v1")).unwrap();
    let grammars = Grammars::new(&tokenizer);
    let refused =
        |schema: Value| JsonSchema::new(&grammars, &schema).err().unwrap_or_else(|| panic!("{schema}"));
    for (schema, keyword, at) in [
        (json!({"type": "array", "uniqueItems": true}), "\"uniqueItems\"", "#"),
        (json!({"properties": {"a": {"not": {"type": "null"}}}}), "\"not\"", "#/properties/a"),
        (json!({"anyOf": [{}, {"if": {}}]}), "\"if\"", "#/anyOf/1"),
        (json!({"$defs": {"a~b/c": {"contains": {}}}}), "\"contains\"", "#/$defs/a~0b~1c"),
        (json!({"type": "string", "format": "iri"}), "\"format\": \"iri\"", "#"),
        (json!({"$ref": "https://example.com/schema"}), "\"$ref\": \"https://example.com/schema\"", "#"),
        (json!({"type": "object", "propertyNames": {}}), "\"propertyNames\"", "#"),
        (json!({"nullable": true, "type": "string"}), "\"nullable\"", "#"),
        (json!({"items": {"unevaluatedItems": false}}), "\"unevaluatedItems\"", "#/items"),
        (json!({"tpye": "string"}), "\"tpye\"", "#"),
    ] {
        let want = ConstraintError::Keyword { keyword: keyword.to_owned(), at: at.to_owned() };
        assert_eq!(refused(schema), want);
    }
    for (schema, message) in [
        (json!(1), "1 is no schema"),
        (json!(false), "no value is valid"),
        (json!({"properties": []}), "expected an object"),
        (json!({"$ref": "#/$defs/nothing"}), "nothing is at \"#/$defs/nothing\""),
        (json!({"$ref": 1}), "expected a string"),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), "nsatisfiable"),
        (json!({"type": "text"}), "text"),
        (json!({"pattern": "(", "type": "string"}), ""),
        (json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "oneOf"),
        (json!({"type": "é".repeat(100)}), ""),
    ] {
        let error = refused(schema.clone());
        assert!(
            matches!(error, ConstraintError::Schema { .. }) && error.to_string().contains(message),
            "{schema}: {error}"
        );
        assert!(error.to_string().lines().count() == 1 && error.to_string().len() < 400, "{error}");
    }
}

/// Schemas of strangers: each is refused or followed, and soon.
#[test]
fn schemas_that_explode_are_bounded() {
    let tokenizer = Tokenizer::new(vocabulary("v1")).unwrap();
    let grammars = Grammars::new(&tokenizer);
    grammars.prepare().unwrap();
    let mut deep = json!({"type": "null"});
    for _ in 0..300 {
        deep = json!({"type": "array", "items": deep});
    }
    let all = |n: usize, f: &dyn Fn(usize) -> Value| (0..n).map(f).collect::<Vec<Value>>();
    let doubling: Value = (0..40)
        .map(|i| (format!("d{i}"), json!({"allOf": [{"$ref": format!("#/$defs/d{}", i + 1)}, {"$ref": format!("#/$defs/d{}", i + 1)}]})))
        .chain([("d40".to_owned(), json!({"type": "integer"}))])
        .collect::<serde_json::Map<_, _>>()
        .into();
    for (what, schema) in [
        ("nesting", deep),
        ("a reference to itself", json!({"$ref": "#"})),
        (
            "a circle",
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
        ),
        (
            "a circle of allOf",
            json!({"$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}, {"type": "object"}]}}, "$ref": "#/$defs/a"}),
        ),
        (
            "a circle of anyOf",
            json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        ),
        (
            "an endless object",
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
        ),
        ("repetition", json!({"type": "string", "pattern": "^((((a{1,99}){1,99}){1,99}){1,99})$"})),
        ("a long repetition", json!({"type": "string", "minLength": 1_000_000_000})),
        ("many items", json!({"type": "array", "minItems": 1_000_000, "items": {"type": "object"}})),
        ("huge numbers", json!({"type": "array", "minItems": u64::MAX})),
        ("a wide enum", json!({"enum": all(50_000, &|i| json!(format!("value {i}")))})),
        (
            "many alternatives",
            json!({"anyOf": all(3000, &|i| json!({"type": "object", "properties": {format!("k{i}"): {}}, "required": [format!("k{i}")]}))}),
        ),
        (
            "intersections",
            json!({"allOf": all(12, &|i| json!({"anyOf": all(6, &|j| json!({"properties": {format!("p{i}"): {"const": j}}}))}))}),
        ),
        ("doubling", json!({"$defs": doubling, "$ref": "#/$defs/d0"})),
        (
            "a pattern of alternatives",
            json!({"type": "string", "pattern": format!("^({})*$", (0..400).map(|i| format!(".*{i}.*")).collect::<Vec<_>>().join("|"))}),
        ),
        ("a large multiple", json!({"type": "integer", "multipleOf": 982_451_653})),
    ] {
        let start = Instant::now();
        let outcome = JsonSchema::new(&grammars, &schema);
        if let Ok(mut constraint) = outcome {
            let mut allowed = TokenMask::new(tokenizer.n_vocab());
            let mut dice = Dice(1);
            for _ in 0..30 {
                allowed.clear();
                constraint.mask(&mut allowed);
                let ids: Vec<u32> =
                    (0..tokenizer.n_vocab() as u32).filter(|id| allowed.contains(*id)).collect();
                if ids.is_empty() {
                    assert!(constraint.can_end() || constraint.fault().is_some(), "{what}");
                    break;
                }
                constraint.accept(ids[dice.next(ids.len())]);
            }
        } else {
            let message = outcome.err().unwrap().to_string();
            assert!(message.len() < 1000, "{what}: {message}");
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
    }
}

/// The model of the program, at a temperature at which it writes nonsense.
#[test]
#[cfg(feature = "builtin-model")]
fn a_model_writes_valid_json_at_any_temperature() {
    let engine = Engine::builtin().unwrap();
    let grammars = Grammars::new(engine.tokenizer());
    let schema = json!({"type": "object", "properties": {"hero": {"type": "string", "maxLength": 30}, "age": {"type": "integer", "minimum": 1, "maximum": 120},
        "friends": {"type": "array", "items": {"enum": ["Tom", "Lily"]}, "maxItems": 3}}, "required": ["hero", "age", "friends"], "additionalProperties": false});
    let validator = jsonschema::validator_for(&schema).unwrap();
    for seed in 0..8 {
        let options = GenerationOptions {
            sampling: SamplingParams {
                temp: 1.5,
                seed,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                ..SamplingParams::default()
            },
            max_tokens: Some(400),
            ..GenerationOptions::default()
        };
        let mut session = engine.session(&SessionOptions::default()).unwrap();
        let mut pieces = session.generate_with("The hero as JSON: ", options).unwrap();
        pieces.generation_mut().constrain(JsonSchema::new(&grammars, &schema).unwrap());
        let text = pieces.by_ref().collect::<Result<String, _>>().unwrap();
        assert!(
            matches!(pieces.generation().finish(), Some(Finish::Constraint | Finish::EndToken(_))),
            "{:?}: {text}",
            pieces.generation().finish()
        );
        let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(validator.is_valid(&value), "{text}");
    }
}

#[test]
fn any_object() {
    let tokenizer = Tokenizer::new(vocabulary("v1")).unwrap();
    let grammars = Grammars::new(&tokenizer);
    for seed in 1..10 {
        let done = walk(&tokenizer, &mut JsonSchema::any_object(&grammars).unwrap(), &mut Dice(seed), 400);
        if done.end == End::Complete {
            assert!(serde_json::from_str::<Value>(&done.text).unwrap().is_object(), "{}", done.text);
        }
    }
}
