//! What constraints cost a token: the mean mask, and the slowest.
//!
//! Walks at random through texts that follow each constraint, in vocabularies of Mistral's models with 32,768 and 131,072 tokens. Prints
//! for each how long it takes to prepare the vocabulary and the constraint, and its masks.

#[path = "../tests/constraint_walk/mod.rs"]
mod constraint_walk;
#[path = "../tests/mistral_vocabularies/mod.rs"]
mod mistral_vocabularies;

use std::time::{Duration, Instant};

use bise::constraint::{Constraint, Gbnf, Grammars, JsonSchema};
use bise_models::tokenizer::Tokenizer;
use constraint_walk::{Dice, walk};
use serde_json::json;

const JSON: &str = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( pair ("," ws pair)* )? "}" ws
pair   ::= string ":" ws value
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"#;

type Make<'a> = &'a dyn Fn() -> Box<dyn Constraint>;

fn main() {
    // Without any argument it is `cargo test` that builds and runs it.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    let person = json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"},
        "email": {"type": "string", "pattern": "^[a-z.]+@[a-z]+\\.[a-z]{2,3}$", "maxLength": 60},
        "friends": {"type": "array", "items": {"$ref": "#"}, "maxItems": 4},
        "kind": {"enum": ["red", "green", "blue"]}}, "required": ["name", "age", "email", "friends", "kind"], "additionalProperties": false});
    let alternatives: Vec<_> = (0..200)
        .map(|i| json!({"type": "object", "properties": {"kind": {"const": format!("kind {i}")}, "value": {"type": "string", "maxLength": 500}},
            "required": ["kind", "value"], "additionalProperties": false}))
        .collect();
    let names: Vec<_> = (0..5000).map(|i| json!(format!("name {}", i * 7919 % 100_003))).collect();
    let large = json!({"type": "object", "properties": {
        "text": {"type": "string", "pattern": "^([A-Z][a-z]*[ ,.]?)+$", "minLength": 20, "maxLength": 2000},
        "name": {"enum": names}, "parts": {"type": "array", "items": {"anyOf": alternatives}, "maxItems": 20}, "when": {"type": "string", "format": "date-time"}},
        "required": ["text", "name", "parts", "when"]});
    for name in ["v3", "tekken"] {
        let tokenizer = Tokenizer::new(mistral_vocabularies::vocabulary(name)).unwrap();
        let grammars = Grammars::new(&tokenizer);
        let start = Instant::now();
        grammars.prepare().unwrap();
        println!("{} tokens: prepared in {:?}", tokenizer.n_vocab(), start.elapsed());
        let schema: Make<'_> = &|| Box::new(JsonSchema::new(&grammars, &person).unwrap());
        let large: Make<'_> = &|| Box::new(JsonSchema::new(&grammars, &large).unwrap());
        let object: Make<'_> = &|| Box::new(JsonSchema::any_object(&grammars).unwrap());
        let gbnf: Make<'_> = &|| Box::new(Gbnf::new(&grammars, JSON).unwrap());
        let text: Make<'_> =
            &|| Box::new(Gbnf::new(&grammars, "root ::= (\"- \" [^\\n]+ \"\\n\")+").unwrap());
        for (what, make) in [
            ("JSON schema", schema),
            ("large JSON schema", large),
            ("JSON object", object),
            ("GBNF, JSON", gbnf),
            ("GBNF, lines", text),
        ] {
            let mut masks: Vec<Duration> = Vec::new();
            let mut made = Duration::ZERO;
            for seed in 1..=20 {
                let start = Instant::now();
                let mut constraint = make();
                made = made.max(start.elapsed());
                masks.extend(walk(&tokenizer, &mut constraint, &mut Dice(seed), 300).masks);
            }
            masks.sort_unstable();
            let mean = masks.iter().sum::<Duration>() / masks.len() as u32;
            let at = |part: f64| masks[((masks.len() - 1) as f64 * part) as usize];
            println!(
                "  {what}: made in {made:.1?}; {} masks, mean {mean:.1?}, median {:.1?}, 99% {:.1?}, worst {:.1?}",
                masks.len(),
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
    }
}
