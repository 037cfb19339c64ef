//! Calls of tools by grammar: only tools that there are, with arguments that their schemas allow, in each spelling.
#![cfg(feature = "grammar")]

mod constraint_walk;
mod mistral_vocabularies;

use std::collections::HashSet;

use bise::chat::reply::{ReplyEvent, ReplyOptions, ReplyParser, ToolSyntax};
use bise::constraint::{Constraint, Grammars, Lazy, TokenMask, ToolChoice, ToolGrammar, Trigger};
use bise_models::tokenizer::{EncodeOptions, Tokenizer};
use constraint_walk::{Dice, End, walk};
use mistral_vocabularies::vocabulary;
use serde_json::{Value, json};

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

fn tools() -> Vec<Value> {
    vec![
        json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object",
            "properties": {"city": {"enum": ["Nice", "Arles"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["city"], "additionalProperties": false}}}),
        json!({"type": "function", "function": {"name": "now"}}),
        // What is not supported is left out, since it is not strict.
        json!({"name": "mail.send", "parameters": {"properties": {"to": {"type": "array", "items": {"type": "string", "maxLength": 4},
            "uniqueItems": true, "maxItems": 2}}, "required": ["to"], "additionalProperties": false}}),
    ]
}

const SYNTAXES: [(&str, ToolSyntax); 5] = [
    ("v3", ToolSyntax::List),
    ("v1", ToolSyntax::List),
    ("tekken", ToolSyntax::List),
    ("later tekken", ToolSyntax::Named { ids: true }),
    ("later tekken", ToolSyntax::Named { ids: false }),
];

/// The calls in tokens, and what else was said.
fn parse(tokenizer: &Tokenizer, tokens: &[u32]) -> (Vec<(String, Value)>, String) {
    let options = ReplyOptions { tools: true, whole_calls: true, ..ReplyOptions::default() };
    let mut parser = ReplyParser::new(tokenizer, options);
    let mut decoder = tokenizer.stream(true);
    let mut events = Vec::new();
    for &token in tokens {
        let text = decoder.push(token);
        parser.push(token, &text, &mut events);
    }
    parser.finish(&mut events);
    let (mut calls, mut content) = (Vec::new(), String::new());
    for event in events {
        match event {
            ReplyEvent::Content(text) => content += &text,
            ReplyEvent::ToolCall { name, .. } => calls.push((name, Value::Null)),
            ReplyEvent::ToolArguments { text, .. } => {
                calls.last_mut().unwrap().1 = serde_json::from_str(&text).unwrap()
            }
            ReplyEvent::Reasoning(_) | ReplyEvent::ToolCallEnd { .. } => {}
        }
    }
    (calls, content)
}

fn check_calls(calls: &[(String, Value)]) {
    for (name, arguments) in calls {
        match name.as_str() {
            "weather" => {
                assert!(["Nice", "Arles"].contains(&arguments["city"].as_str().unwrap()), "{arguments}");
                assert!(
                    arguments["days"].is_null() || (1..=9).contains(&arguments["days"].as_i64().unwrap())
                );
            }
            "now" => assert_eq!(*arguments, json!({})),
            "mail.send" => assert!(arguments["to"].as_array().unwrap().len() <= 2),
            other => panic!("there is no tool {other}"),
        }
    }
}

#[test]
fn calls_that_are_required_are_calls_of_these_tools() {
    let mut grammars: std::collections::HashMap<&str, Grammars> = std::collections::HashMap::new();
    for (name, syntax) in SYNTAXES {
        let grammars =
            grammars.entry(name).or_insert_with(|| Grammars::new(&Tokenizer::new(vocabulary(name)).unwrap()));
        let tokenizer = grammars.tokenizer().clone();
        let (mut names, mut most, mut n_complete) = (HashSet::new(), 0, 0);
        for seed in 1..=6 {
            for parallel in [true, false] {
                let mut constraint =
                    ToolGrammar::new(grammars, syntax, &tools(), &ToolChoice::Required, parallel).unwrap();
                assert!(!constraint.can_end(), "a call is required");
                let done = walk(&tokenizer, &mut constraint, &mut Dice(seed * 31 + u64::from(parallel)), 300);
                if done.end == End::Cut {
                    continue;
                }
                n_complete += 1;
                let (calls, content) = parse(&tokenizer, &done.tokens);
                assert_eq!(content, "", "{name} {syntax:?}: {}", done.text);
                assert!(!calls.is_empty(), "{}", done.text);
                assert!(parallel || calls.len() == 1, "{}", done.text);
                check_calls(&calls);
                most = most.max(calls.len());
                names.extend(calls.into_iter().map(|(name, _)| name));
            }
        }
        assert!(
            n_complete >= 6 && names.len() == 3 && most > 1,
            "{name} {syntax:?}: {n_complete} {names:?} {most}"
        );
        // A tool by name.
        let choice = ToolChoice::Named("now".to_owned());
        let mut constraint = ToolGrammar::new(grammars, syntax, &tools(), &choice, true).unwrap();
        let done = walk(&tokenizer, &mut constraint, &mut Dice(5), 100);
        assert_eq!(done.end, End::Complete, "{}", done.text);
        assert_eq!(parse(&tokenizer, &done.tokens).0, [("now".to_owned(), json!({}))]);
    }
}

/// Feeds tokens, each of which has to be allowed.
fn feed(constraint: &mut dyn Constraint, n_vocab: usize, tokens: &[u32]) -> Result<(), usize> {
    let mut allowed = TokenMask::new(n_vocab);
    for (i, token) in tokens.iter().enumerate() {
        allowed.clear();
        constraint.mask(&mut allowed);
        if !allowed.contains(*token) {
            return Err(i);
        }
        constraint.accept(*token);
    }
    Ok(())
}

#[test]
fn calls_may_begin_anywhere_or_never() {
    for (name, syntax) in SYNTAXES {
        let grammars = Grammars::new(&Tokenizer::new(vocabulary(name)).unwrap());
        let tokenizer = grammars.tokenizer().clone();
        let n_vocab = tokenizer.n_vocab();
        let call = tokenizer.id("[TOOL_CALLS]").filter(|id| tokenizer.is_control(*id));
        let open = call.map_or_else(|| tokenizer.encode("[TOOL_CALLS]", PLAIN), |id| vec![id]);
        let mut auto = ToolGrammar::new(&grammars, syntax, &tools(), &ToolChoice::Auto, true).unwrap();
        let said = tokenizer.encode("Let me see: {[ TOOL [TOOL", PLAIN);
        assert!(auto.can_end());
        feed(&mut auto, n_vocab, &said).unwrap();
        assert!(auto.can_end());
        feed(&mut auto, n_vocab, &open).unwrap();
        assert!(!auto.can_end(), "{name} {syntax:?}");
        let done = (1..20)
            .map(|seed| {
                let mut auto =
                    ToolGrammar::new(&grammars, syntax, &tools(), &ToolChoice::Auto, true).unwrap();
                feed(&mut auto, n_vocab, &said).unwrap();
                feed(&mut auto, n_vocab, &open).unwrap();
                walk(&tokenizer, &mut auto, &mut Dice(seed), 300)
            })
            .find(|done| done.end == End::Complete)
            .unwrap();
        let (calls, content) = parse(&tokenizer, &[&said[..], &open, &done.tokens].concat());
        assert!(
            content.trim_end().ends_with("{[ TOOL [TOOL") && !calls.is_empty(),
            "{content} {}",
            done.text
        );
        check_calls(&calls);
        // No calls at all.
        let mut none = ToolGrammar::new(&grammars, syntax, &tools(), &ToolChoice::None, true).unwrap();
        feed(&mut none, n_vocab, &said).unwrap();
        if let Some(call) = call {
            assert_eq!(feed(&mut none, n_vocab, &[call]), Err(0));
        }
        assert!(none.can_end());
    }
}

/// Beside calls, an answer by a schema.
#[test]
fn calls_or_json() {
    let grammars = Grammars::new(&Tokenizer::new(vocabulary("later tekken")).unwrap());
    let tokenizer = grammars.tokenizer().clone();
    let syntax = ToolSyntax::Named { ids: false };
    let schema = json!({"type": "object", "properties": {"sure": {"type": "boolean"}}, "required": ["sure"], "additionalProperties": false});
    let new = |choice: ToolChoice| {
        ToolGrammar::or_json(&grammars, syntax, &tools(), &choice, true, &schema).unwrap()
    };
    let begins_with = |choice: ToolChoice| {
        let mut allowed = TokenMask::new(tokenizer.n_vocab());
        new(choice).mask(&mut allowed);
        (
            allowed.contains(tokenizer.id("[TOOL_CALLS]").unwrap()),
            allowed.contains(tokenizer.id("{").unwrap()),
        )
    };
    assert_eq!(begins_with(ToolChoice::Auto), (true, true));
    assert_eq!(begins_with(ToolChoice::None), (false, true));
    assert_eq!(begins_with(ToolChoice::Required), (true, false));
    let (mut n_calls, mut n_answers) = (0, 0);
    for seed in 1..=12 {
        let mut constraint = new(ToolChoice::Auto);
        let begun: &[u32] = if seed % 2 == 0 { &[tokenizer.id("[TOOL_CALLS]").unwrap()] } else { &[] };
        feed(&mut constraint, tokenizer.n_vocab(), begun).unwrap();
        let done = walk(&tokenizer, &mut constraint, &mut Dice(seed * 977), 300);
        if done.end == End::Complete {
            let (calls, content) = parse(&tokenizer, &[begun, &done.tokens].concat());
            check_calls(&calls);
            if calls.is_empty() {
                assert!(serde_json::from_str::<Value>(&content).unwrap()["sure"].is_boolean(), "{content}");
                n_answers += 1;
            } else {
                assert_eq!(content, "");
                n_calls += 1;
            }
        }
    }
    assert!(n_calls > 0 && n_answers > 0, "{n_calls} {n_answers}");
}

#[test]
fn tools_that_cannot_be_called_are_named() {
    let grammars = Grammars::new(&Tokenizer::new(vocabulary("v3")).unwrap());
    let new = |tools: &[Value], choice: ToolChoice| {
        ToolGrammar::new(&grammars, ToolSyntax::List, tools, &choice, true)
            .err()
            .map(|error| error.to_string())
    };
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let contains = |error: Option<String>, parts: &[&str]| {
        let error = error.unwrap();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    contains(new(&[tool("a b")], ToolChoice::Auto), &["\"a b\"", "white space"]);
    contains(new(&[json!({})], ToolChoice::Auto), &["expected a name"]);
    contains(new(&[tool("a"), tool("a")], ToolChoice::Auto), &["\"a\"", "two tools"]);
    contains(new(&[tool("a")], ToolChoice::Named("b".to_owned())), &["\"b\"", "no such tool"]);
    contains(new(&[], ToolChoice::Required), &["no tool"]);
    assert_eq!(new(&[], ToolChoice::None), None);
    let strict = |strict: bool| json!({"function": {"name": "f", "strict": strict, "parameters": {"not": {}, "type": "object"}}});
    contains(new(&[strict(true)], ToolChoice::Auto), &["\"f\"", "\"not\" at #"]);
    assert_eq!(new(&[strict(false)], ToolChoice::Auto), None);
    // A schema that no value satisfies.
    let empty = |strict: bool| json!({"function": {"name": "f", "strict": strict, "parameters": {"properties": {"a": false}, "required": ["a"]}}});
    assert!(new(&[empty(true)], ToolChoice::Auto).is_some());
    assert_eq!(new(&[empty(false)], ToolChoice::Auto), None);
}

/// Allows one token, then no more.
struct One(u32, bool);

impl Constraint for One {
    fn mask(&mut self, allowed: &mut TokenMask) {
        if !self.1 {
            allowed.insert(self.0);
        }
    }

    fn accept(&mut self, token: u32) {
        assert_eq!(token, self.0);
        self.1 = true;
    }

    fn can_end(&self) -> bool {
        self.1
    }
}

#[test]
fn a_text_triggers_wherever_tokens_cut_it() {
    let tokenizer = Tokenizer::new(vocabulary("v3")).unwrap();
    let n_vocab = tokenizer.n_vocab();
    let id = |text: &str| tokenizer.id(text).unwrap();
    for trigger in ["==>", "aab"] {
        let mut lazy = Lazy::new(&tokenizer, Trigger::Text(trigger.to_owned()), One(id("x"), false));
        // Its first bytes may come again and again.
        let first = id(&trigger[..1]);
        feed(&mut lazy, n_vocab, &[first, first, first]).unwrap();
        assert!(lazy.can_end() && !lazy.has_begun());
        let mut allowed = TokenMask::new(n_vocab);
        lazy.mask(&mut allowed);
        let last = &trigger[2..];
        for token in 0..n_vocab as u32 {
            let piece = tokenizer.piece(token);
            let is_text = !tokenizer.is_control(token) && token != 0;
            let text = [trigger[..1].repeat(3).as_bytes(), piece].concat();
            let ends = text.windows(3).position(|three| three == trigger.as_bytes()).map(|at| at + 3);
            let goes_past = is_text && ends.is_some_and(|end| end < text.len());
            assert_eq!(
                !allowed.contains(token),
                goes_past,
                "{trigger}: {:?}",
                String::from_utf8_lossy(piece)
            );
        }
        feed(&mut lazy, n_vocab, &[id(last)]).unwrap();
        assert!(lazy.has_begun() && !lazy.can_end());
        assert_eq!(feed(&mut lazy, n_vocab, &[id("y")]), Err(0));
        feed(&mut lazy, n_vocab, &[id("x")]).unwrap();
        assert!(lazy.can_end());
    }
}
