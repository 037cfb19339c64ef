//! `-j`, `-jf`, `--grammar` and `--grammar-file`: what is written follows them.

#![cfg(all(feature = "cli", feature = "builtin-model", feature = "grammar"))]

mod cli_support;

use cli_support::Folder;
use serde_json::Value;

const SCHEMA: &str = r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 1, "maximum": 99}}, "required": ["name", "age"], "additionalProperties": false}"#;

#[test]
fn json_by_a_schema() {
    let folder = Folder::new();
    std::fs::write(folder.path("schema.json"), SCHEMA).unwrap();
    let file = folder.path("schema.json");
    let file = file.to_str().unwrap();
    let write = |given: &[&str]| {
        let hot =
            ["-p", "A person as JSON: ", "-n", "200", "--temp", "1.5", "-s", "7", "--no-display-prompt"];
        folder.bise(hot.iter().chain(given)).ok()
    };
    let inline = write(&["-j", SCHEMA]);
    let value: Value =
        serde_json::from_str(inline.text()).unwrap_or_else(|error| panic!("{error}: {}", inline.text()));
    assert!(value["name"].as_str().unwrap().chars().count() <= 12, "{value}");
    assert!((1..=99).contains(&value["age"].as_i64().unwrap()), "{value}");
    for given in [["-jf", file], ["--json-schema-file", file], ["--json-schema", SCHEMA]] {
        assert_eq!(write(&given).text(), inline.text(), "{given:?}");
    }
}

#[test]
fn text_by_a_grammar() {
    let folder = Folder::new();
    let grammar = "root ::= \"The \" [a-z]{3} \" sat.\"";
    std::fs::write(folder.path("cat.gbnf"), grammar).unwrap();
    let file = folder.path("cat.gbnf");
    let write = |given: &[&str]| {
        let story = ["-p", "A story.", "-n", "60", "--temp", "0", "--no-display-prompt"];
        folder.bise(story.iter().chain(given)).ok().text().trim_end_matches('\n').to_owned()
    };
    let text = write(&["--grammar", grammar]);
    let word = text
        .strip_prefix("The ")
        .and_then(|rest| rest.strip_suffix(" sat."))
        .unwrap_or_else(|| panic!("{text}"));
    assert!(word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_lowercase()), "{text}");
    assert_eq!(write(&["--grammar-file", file.to_str().unwrap()]), text);
}

/// Each answer of a conversation follows it from its beginning.
#[test]
fn answers_follow_it_too() {
    let folder = Folder::new();
    let grammar = "root ::= \" \"? (\"Yes\" | \"No\") [.!]";
    let ran = folder
        .bise_with(["chat", "--temp", "0", "--simple-io", "--grammar", grammar], "Is it cold?\nAnd now?\n")
        .ok();
    let answers: Vec<&str> = ran
        .text()
        .lines()
        .map(|line| line.trim_start_matches("> ").trim())
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(answers.len(), 2, "{}", ran.text());
    assert!(answers.iter().all(|answer| ["Yes.", "Yes!", "No.", "No!"].contains(answer)), "{answers:?}");
}

#[test]
fn what_cannot_be_followed_is_named() {
    let folder = Folder::new();
    std::fs::write(folder.path("bad.gbnf"), "root ::= \"a\"\nroot2 ::= b\n").unwrap();
    let file = folder.path("bad.gbnf");
    let file = file.to_str().unwrap();
    let error = |given: [&str; 2]| folder.bise(["-p", "x"].iter().chain(&given)).error().to_owned();
    assert!(
        error(["--grammar-file", file])
            .contains("bad.gbnf: the grammar is not valid: line 2, column 11: there is no rule called \"b\"")
    );
    assert!(
        error(["-j", r#"{"type": "array", "uniqueItems": true}"#])
            .contains("--json-schema: the JSON schema has \"uniqueItems\" at #")
    );
    let misuse = |given: &[&str]| folder.bise(["-p", "x"].iter().chain(given)).misuse().to_owned();
    assert!(misuse(&["-j", "{"]).contains("--json-schema: the schema is no JSON"));
    let both = folder.bise(["-p", "x", "-j", "{}", "--grammar", "root ::= \"a\""]);
    assert!(
        both.code == 2 && both.stderr.contains("cannot be used with '--grammar <GRAMMAR>'"),
        "{}",
        both.stderr
    );
    assert!(folder.bise(["-p", "x", "-jf", "missing.json"]).error().contains("missing.json"));
}
