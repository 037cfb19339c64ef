//! Tokenizers of checkpoints become the keys that llama.cpp's converter writes, and give the tokens of the libraries that the checkpoints are for.
//!
//! `tests/golden/convert_tokenizers.py` made the checkpoints, the keys and the tokens.

#![cfg(feature = "convert")]

mod convert_tokenizer_support;

use std::path::Path;

use bise::chat::ChatTemplate;
use bise_models::gguf::{Array, Metadata, Value as GgufValue};
use bise_models::tokenizer::{EncodeOptions, Tokenizer};
use convert_tokenizer_support::{case, convert, file, golden, write};
use serde_json::{Value, json};

/// A value as the script writes it.
fn shown(value: &GgufValue) -> Value {
    let array = |of: &str, items: Vec<Value>| json!({"type": "ARRAY", "value": items, "of": of});
    let text = |bytes: &[u8]| json!(std::str::from_utf8(bytes).unwrap());
    match value {
        GgufValue::U32(number) => json!({"type": "UINT32", "value": number}),
        GgufValue::Bool(flag) => json!({"type": "BOOL", "value": flag}),
        GgufValue::Str(bytes) => json!({"type": "STRING", "value": text(bytes)}),
        GgufValue::Array(Array::Str(texts)) => array("STRING", texts.iter().map(text).collect()),
        GgufValue::Array(Array::I32(items)) => array("INT32", items.iter().map(|item| json!(item)).collect()),
        GgufValue::Array(Array::F32(items)) => {
            array("FLOAT32", items.iter().map(|item| json!(f64::from(*item))).collect())
        }
        other => panic!("{other:?}"),
    }
}

/// Keys that differ, with the start of what was found and expected.
fn differences(metadata: &Metadata, expected: &Value) -> Vec<String> {
    let expected = expected.as_object().unwrap();
    let brief = |value: Option<&Value>| {
        value.map_or("nothing".to_owned(), |value| value.to_string().chars().take(200).collect())
    };
    let mut differ = Vec::new();
    for key in expected.keys().map(String::as_str).chain(metadata.iter().map(|(key, _)| key)) {
        let found = metadata.get(key).map(shown);
        let same = match (&found, expected.get(key)) {
            (Some(found), Some(expected)) => same(found, expected),
            _ => false,
        };
        let line = format!("{key}: found {}, expected {}", brief(found.as_ref()), brief(expected.get(key)));
        if !same && !differ.contains(&line) {
            differ.push(line);
        }
    }
    differ
}

/// Whether two values are equal; the order of names in a set of them is Python's and does not count, and floats were written as doubles.
fn same(found: &Value, expected: &Value) -> bool {
    let numbers = |value: &Value| -> Option<Vec<f64>> {
        value["value"].as_array()?.iter().map(Value::as_f64).collect()
    };
    match (numbers(found), numbers(expected)) {
        (Some(a), Some(b)) => found["of"] == expected["of"] && a == b,
        _ => found == expected,
    }
}

fn name_of(difference: &str) -> &str {
    difference.split(": ").next().unwrap()
}

fn check_tokens(case: &Value, texts: &Value, metadata: &Metadata) {
    let tokenizer = Tokenizer::from_metadata(metadata).unwrap();
    for (text, ids) in texts.as_array().unwrap().iter().zip(case["ids"].as_array().unwrap()) {
        let text = text.as_str().unwrap();
        let got = tokenizer.encode(text, EncodeOptions { add_special: false, parse_special: false });
        assert_eq!(json!(got), *ids, "{}: {text:?}", case["name"]);
    }
}

#[test]
fn keys_are_those_of_the_reference_converter_and_tokens_those_of_the_checkpoint() {
    let golden = golden();
    for case in golden["cases"].as_array().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        write(case, folder.path());
        let name = case["name"].as_str().unwrap();
        let (metadata, notes) =
            convert(case, folder.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let differ = differences(&metadata, &case["keys"]);
        let names: Vec<&str> = differ.iter().map(|line| name_of(line)).collect();
        let has_own = case["files"].get("chat_template.jinja").is_some();
        let expected: &[&str] = match name {
            // Its pieces have no scores there, so that every other program would merge them in the wrong order.
            // And a token that the tokenizer calls special is a control token, as it is beside a tokenizer.model.
            "sentence-piece-json" => &["tokenizer.ggml.scores", "tokenizer.ggml.token_type"],
            // A full template in place of a name, or of one for another model.
            _ if (name.starts_with("native") || name.starts_with("tekken-"))
                && !has_own
                && name != "tekken-json" =>
            {
                &["tokenizer.chat_template"]
            }
            _ => &[],
        };
        assert_eq!(names, expected, "{name}: {differ:#?} {notes:?}");
        if name != "sentence-piece-cut" {
            check_tokens(case, &golden["texts"], &metadata);
        }
        if let Some(template) = metadata.str("tokenizer.chat_template").unwrap() {
            ChatTemplate::from_source(template).unwrap();
        }
    }
}

/// The template that a checkpoint gets.
/// What converting a checkpoint says after `change` to its files.
fn refusal(name: &str, change: impl FnOnce(&Path)) -> String {
    let golden = golden();
    let case = case(&golden, name);
    let folder = tempfile::tempdir().unwrap();
    write(case, folder.path());
    change(folder.path());
    match convert(case, folder.path()) {
        Ok((_, notes)) => panic!("{name} was converted: {notes:?}"),
        Err(error) => error.to_string().replace(&folder.path().display().to_string(), ""),
    }
}

fn edit(folder: &Path, name: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(name);
    let mut value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, value.to_string()).unwrap();
}

#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    assert!(parts.iter().all(|part| message.contains(part)), "{message}\nlacks one of {parts:?}");
}

#[test]
fn invalid_sentence_piece_models_are_refused_with_what_is_wrong() {
    let name = "native-tokenizer-model";
    let change = |change: fn(&mut Vec<u8>)| {
        move |folder: &Path| {
            let path = folder.join("tokenizer.model");
            let mut bytes = std::fs::read(&path).unwrap();
            change(&mut bytes);
            std::fs::write(path, bytes).unwrap();
        }
    };
    let message = refusal(name, change(|bytes| bytes.truncate(bytes.len() / 2 + 1)));
    assert_says(&message, &["/tokenizer.model", "expected a SentencePiece model"]);
    let message = refusal(name, change(|bytes| bytes.clear()));
    assert_says(&message, &["/tokenizer.model", "no pieces"]);
    // Field 1 with a piece of 5 bytes: field 1, the text "<s>".
    let message = refusal(name, change(|bytes| bytes.extend(b"\x0a\x05\x0a\x03<s>")));
    assert_says(&message, &["piece 400", "\"<s>\"", "as piece 1"]);
    let message = refusal(name, change(|bytes| bytes.extend(b"\x0a\x07\x0a\x03new\x18\x09")));
    assert_says(&message, &["piece 400", "kind 9"]);
    let message = refusal(name, change(|bytes| bytes.extend(b"\x0a\x0a\x0a\x03new\x15\0\0\xc0\x7f")));
    assert_says(&message, &["piece 400", "NaN", "finite"]);
    let message = refusal(name, change(|bytes| bytes.extend(b"\x0a\x05\x0a\x03new")));
    assert_says(&message, &["401 tokens", "at most 400, the rows of the embedding"]);
    let message =
        refusal(name, change(|bytes| *bytes = b"version https://git-lfs.github.com/spec/v1".to_vec()));
    assert_says(&message, &["Git LFS", "git lfs pull"]);
    let message = refusal(name, |folder| std::fs::remove_file(folder.join("tokenizer.model")).unwrap());
    assert_says(&message, &["tokenizer: found none", "tekken.json", "tokenizer.model"]);
    let message =
        refusal("sentence-piece", |folder| std::fs::remove_file(folder.join("tokenizer.model")).unwrap());
    assert_says(&message, &["found none", "tokenizer.model, tokenizer.json or tekken.json"]);
    let message = refusal("sentence-piece", |folder| {
        edit(folder, "added_tokens.json", |added| added["<extra>"] = json!(-4));
    });
    assert_says(&message, &["/added_tokens.json", "<extra>", "-4"]);
    let message = refusal("sentence-piece", |folder| {
        edit(folder, "tokenizer_config.json", |config| {
            config["added_tokens_decoder"]["x"] = json!({"content": "y"})
        });
    });
    assert_says(&message, &["/tokenizer_config.json", "\"x\"", "ids as keys"]);
}

#[test]
fn invalid_tokenizer_json_is_refused_with_what_is_wrong() {
    let refused =
        |change: fn(&mut Value)| refusal("tekken-json", |folder| edit(folder, "tokenizer.json", change));
    let message = refused(|json| json["model"]["merges"][3] = json!(["a", "zzzz"]));
    assert_says(&message, &["merge 3", "zzzz", "not in \"model.vocab\""]);
    let message = refused(|json| json["model"]["merges"][3] = json!("a b c"));
    assert_says(&message, &["merge 3", "a b c", "two tokens"]);
    let message = refused(|json| json["model"]["merges"] = json!(7));
    assert_says(&message, &["\"model.merges\"", "no array"]);
    let message = refused(|json| json["model"]["merges"] = json!([]));
    assert_says(&message, &["\"model.merges\"", "an empty array"]);
    let message = refused(|json| json["model"]["vocab"]["Ġnew"] = json!(9));
    assert_says(&message, &["id 9", "Ġnew", "expected one token"]);
    let message = refused(|json| json["model"]["vocab"]["Ġnew"] = json!(1_u64 << 40));
    assert_says(&message, &["Ġnew", "1099511627776", "whole number"]);
    let message = refused(|json| json["model"]["vocab"]["Ġnew"] = json!(5_000_000));
    assert_says(&message, &["Ġnew", "5000000", "an id below"]);
    let message = refused(|json| json["model"]["vocab"]["Ġnew"] = json!(330));
    assert_says(&message, &["331 tokens", "at most 330, the rows of the embedding"]);
    let message = refused(|json| json["added_tokens"][0]["id"] = json!(5));
    assert_says(&message, &["token 0 of \"added_tokens\"", "<unk>", "<pad>"]);
    let message = refused(|json| json["model"]["type"] = json!("Unigram"));
    assert_says(&message, &["type \"Unigram\"", "BPE"]);
    let message = refused(|json| json["decoder"]["type"] = json!("WordPiece"));
    assert_says(&message, &["\"decoder.type\"", "WordPiece", "ByteLevel"]);
    let message =
        refused(|json| json["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = json!("[a-z]+"));
    assert_says(&message, &["splitting text by \"[a-z]+\"", "tekken", "smollm"]);
    let message =
        refusal("tekken-json", |folder| std::fs::write(folder.join("tokenizer.json"), "{\"a\": ").unwrap());
    assert_says(&message, &["/tokenizer.json", "valid JSON"]);
    let message =
        refusal("tekken-json", |folder| std::fs::write(folder.join("tokenizer.json"), "[]").unwrap());
    assert_says(&message, &["an array", "a JSON object"]);
}

#[test]
fn invalid_tekken_files_are_refused_with_what_is_wrong() {
    let refused =
        |change: fn(&mut Value)| refusal("tekken-v11", |folder| edit(folder, "tekken.json", change));
    let message = refused(|json| json["config"]["default_vocab_size"] = json!(4_000_000_000_u64));
    assert_says(&message, &["\"config.default_vocab_size\"", "4000000000"]);
    let message = refused(|json| {
        json["config"]["default_vocab_size"] = json!(4_000_000_000_u64);
        json["config"]["default_num_special_tokens"] = json!(3_999_999_800_u64);
    });
    assert_says(&message, &["\"config.default_vocab_size\"", "3999999800"]);
    let message = refused(|json| json["config"]["default_num_special_tokens"] = json!(3));
    assert_says(&message, &["\"config.default_num_special_tokens\"", "36 special tokens"]);
    let message = refused(|json| json["config"]["version"] = json!("v99"));
    assert_says(&message, &["\"config.version\"", "v99", "v13"]);
    let message = refused(|json| json["special_tokens"] = Value::Null);
    assert_says(&message, &["\"special_tokens\"", "v11"]);
    let message = refused(|json| json["special_tokens"][4]["token_str"] = json!("<s>"));
    assert_says(&message, &["\"<s>\" at 1 and 4", "differ"]);
    let message = refused(|json| json["special_tokens"][4]["rank"] = json!(7));
    assert_says(&message, &["token 4 of \"special_tokens\"", "found 7, expected 4"]);
    let message = refused(|json| json["vocab"][260]["rank"] = json!(7));
    assert_says(&message, &["\"rank\" of token 260", "found 7, expected 260"]);
    let message = refused(|json| json["vocab"][260]["token_bytes"] = json!("!"));
    assert_says(&message, &["\"token_bytes\" of token 260", "base64"]);
    let message = refused(|json| json["vocab"][260]["token_bytes"] = json!("QQ=="));
    assert_says(&message, &["token 260", "as token 65", "differ"]);
    let message = refused(|json| json["vocab"][65]["token_bytes"] = json!("Qg=="));
    assert_says(&message, &["token 65", "the byte 65"]);
    let message = refused(|json| json["vocab"][260]["token_bytes"] = json!("QUJDREVG"));
    assert_says(&message, &["token 260", "\"ABCDEF\"", "two others"]);
    let message = refused(|json| json["vocab"] = json!({}));
    assert_says(&message, &["vocab"]);
    let message = refused(|json| json["vocab"][260]["token_bytes"] = json!("QUFB".repeat(171)));
    assert_says(&message, &["\"token_bytes\" of token 260", "513 bytes", "1 to 512"]);
}

#[test]
fn files_of_json_are_read_alike() {
    for (name, file) in [
        ("tekken-v11", "tekken.json"),
        ("tekken-json", "tokenizer.json"),
        ("sentence-piece", "tokenizer_config.json"),
    ] {
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4368439584\n";
        let message = refusal(name, |folder| std::fs::write(folder.join(file), pointer).unwrap());
        assert_says(&message, &[file, "a git-lfs pointer", "git lfs pull"]);
        // A byte order mark does no harm.
        let golden = golden();
        let case = case(&golden, name);
        let folder = tempfile::tempdir().unwrap();
        write(case, folder.path());
        let path = folder.path().join(file);
        let marked = [b"\xef\xbb\xbf", &*std::fs::read(&path).unwrap()].concat();
        std::fs::write(&path, marked).unwrap();
        convert(case, folder.path()).unwrap();
    }
}

#[test]
fn more_than_one_end_of_text_leaves_the_first() {
    let golden = golden();
    let case = case(&golden, "native-tokenizer-model");
    let mut case = case.clone();
    case["layout"] = json!("hf");
    for file in ["config.json", "generation_config.json"] {
        let folder = tempfile::tempdir().unwrap();
        write(&case, folder.path());
        std::fs::write(folder.path().join(file), "{\"eos_token_id\": [2, 7, 9]}").unwrap();
        let (metadata, notes) = convert(&case, folder.path()).unwrap();
        assert_eq!(metadata.u32("tokenizer.ggml.eos_token_id").unwrap(), Some(2), "{file}");
        assert_says(&notes.join("\n"), &[file, "2 is kept, 7, 9 left out"]);
    }
}

#[test]
fn tokens_that_are_added_twice_or_in_the_place_of_others_are_noted() {
    let golden = golden();
    let case = case(&golden, "sentence-piece");
    let folder = tempfile::tempdir().unwrap();
    write(case, folder.path());
    edit(folder.path(), "tokenizer_config.json", |config| {
        let last = case["rows"].as_u64().unwrap() - 1;
        config["added_tokens_decoder"][last.to_string()] = json!({"content": "<s>", "special": true});
        config["added_tokens_decoder"]["100"] = json!({"content": "REPL"});
    });
    let (_, notes) = convert(case, folder.path()).unwrap();
    assert_says(
        &notes.join("\n"),
        &["becomes \"REPL\" (token 100)", "\"<s>\" is token 1 and token", "replaces 1 pieces"],
    );
}

#[test]
fn an_added_token_behind_a_gap_is_left_out() {
    let golden = golden();
    let case = case(&golden, "tekken-json");
    let rows = case["rows"].as_u64().unwrap();
    for id in [rows + 3, 4_000_000] {
        let folder = tempfile::tempdir().unwrap();
        write(case, folder.path());
        edit(folder.path(), "tokenizer.json", |json| {
            let added = json["added_tokens"].as_array_mut().unwrap();
            added.push(json!({"id": id, "content": "<far>", "special": true}));
        });
        let (metadata, notes) = convert(case, folder.path()).unwrap();
        let tokens = metadata.str_array("tokenizer.ggml.tokens").unwrap().unwrap();
        assert_eq!(tokens.len() as u64, rows);
        assert_says(&notes.join("\n"), &["1 added tokens, from \"<far>\" on"]);
    }
}

/// "AAA", "AAAAAA" and so on can be cut behind every third letter: 1300 tokens stand for 38 MB of merges.
#[test]
fn a_tekken_file_with_more_merges_than_any_has_is_refused() {
    let golden = golden();
    let mut case = case(&golden, "tekken-v11").clone();
    let folder = tempfile::tempdir().unwrap();
    write(&case, folder.path());
    edit(folder.path(), "tekken.json", |json| {
        let vocab = json["vocab"].as_array_mut().unwrap();
        vocab.truncate(256);
        // Two of a letter and three of it in base64.
        for (two, three) in [
            ("QUE=", "QUFB"),
            ("QkI=", "QkJC"),
            ("Q0M=", "Q0ND"),
            ("REQ=", "RERE"),
            ("RUU=", "RUVF"),
            ("RkY=", "RkZG"),
            ("R0c=", "R0dH"),
            ("SEg=", "SEhI"),
        ] {
            for token in std::iter::once(two.to_owned()).chain((1..=168).map(|n| three.repeat(n))) {
                vocab.push(json!({"rank": vocab.len(), "token_bytes": token}));
            }
        }
        let n_special = json["config"]["default_num_special_tokens"].as_u64().unwrap();
        let n_vocab = json["vocab"].as_array().unwrap().len() as u64 + n_special;
        json["config"]["default_vocab_size"] = json!(n_vocab);
        case["rows"] = json!(n_vocab);
    });
    let message = convert(&case, folder.path()).unwrap_err().to_string();
    assert_says(&message, &["/tekken.json", "of \"vocab\"", "HHHH", "cuts make more than 33554432 bytes"]);
}

#[test]
fn holes_in_a_vocabulary_are_filled_and_bad_ids_and_templates_are_noted() {
    let golden = golden();
    let case = case(&golden, "tekken-json");
    let folder = tempfile::tempdir().unwrap();
    write(case, folder.path());
    edit(folder.path(), "tokenizer.json", |json| json["model"]["vocab"]["Ġnew"] = json!(328));
    edit(folder.path(), "config.json", |json| json["pad_token_id"] = json!(7));
    edit(folder.path(), "config.json", |json| json["mask_token_id"] = json!(1000));
    std::fs::write(folder.path().join("chat_template.jinja"), "{% if %}").unwrap();
    let (metadata, notes) = convert(case, folder.path()).unwrap();
    let tokens = metadata.str_array("tokenizer.ggml.tokens").unwrap().unwrap();
    let types = metadata.i32_array("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!((tokens.get(327), types[327]), (Some(&b"[PAD327]"[..]), 5));
    assert_eq!((tokens.get(328), types[328]), (Some("Ġnew".as_bytes()), 1));
    assert_eq!((tokens.get(329), types[329], tokens.len()), (Some(&b"[PAD329]"[..]), 5, 330));
    assert_eq!(metadata.str("tokenizer.chat_template").unwrap(), Some("{% if %}"));
    assert_says(
        &notes.join("\n"),
        &["mask token the id 1000", "template \"default\" is kept", "not valid Jinja"],
    );
    assert_eq!(
        metadata.u32("tokenizer.ggml.padding_token_id").unwrap(),
        Some(5),
        "the tokenizer says so first"
    );
}

#[test]
fn added_tokens_without_an_embedding_are_left_out() {
    let golden = golden();
    for name in ["sentence-piece-json", "llama-3"] {
        let mut case = case(&golden, name).clone();
        let folder = tempfile::tempdir().unwrap();
        write(&case, folder.path());
        let whole = convert(&case, folder.path()).unwrap().0;
        let id =
            |metadata: &Metadata, key: &str| metadata.u32(&format!("tokenizer.ggml.{key}_token_id")).unwrap();
        // The last two tokens are added ones.
        let tokens = whole.str_array("tokenizer.ggml.tokens").unwrap().unwrap();
        let n_tokens = tokens.iter().filter(|text| !text.starts_with(b"[PAD")).count();
        case["rows"] = json!(n_tokens - 2);
        let (metadata, notes) = convert(&case, folder.path()).unwrap();
        assert_eq!(metadata.str_array("tokenizer.ggml.tokens").unwrap().unwrap().len(), n_tokens - 2);
        assert_says(&notes.join("\n"), &["2 added tokens", "beyond the", "left out"]);
        assert_eq!(id(&metadata, "bos"), id(&whole, "bos"), "{name}");
        case["rows"] = json!(n_tokens - 20);
        let error = convert(&case, folder.path()).unwrap_err().to_string();
        assert_says(&error, &["the rows of the embedding"]);
    }
}

#[test]
fn damaged_files_never_make_a_panic() {
    let golden = golden();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut n_refused, mut n_converted) = (0, 0);
    for case in golden["cases"].as_array().unwrap() {
        let folder = tempfile::tempdir().unwrap();
        write(case, folder.path());
        for (name, stored) in case["files"].as_object().unwrap() {
            let whole = file(stored);
            for _ in 0..8 {
                let mut bytes = whole.clone();
                match random(4) {
                    0 => bytes.truncate(random(whole.len())),
                    1 => {
                        let digit = bytes.iter().rposition(u8::is_ascii_digit);
                        let at = digit.map_or(0, |last| {
                            (random(last + 1)..=last).find(|&at| bytes[at].is_ascii_digit()).unwrap()
                        });
                        bytes.splice(at..=at, b"987654321".iter().copied());
                    }
                    2 => {
                        let at = random(whole.len());
                        bytes.remove(at);
                    }
                    _ => {
                        let at = random(whole.len());
                        bytes[at] ^= 1 << random(8);
                    }
                }
                std::fs::write(folder.path().join(name), bytes).unwrap();
                match convert(case, folder.path()) {
                    Ok(_) => n_converted += 1,
                    Err(error) => {
                        n_refused += 1;
                        assert!(error.to_string().contains(&*folder.path().to_string_lossy()), "{error}");
                    }
                }
            }
            std::fs::write(folder.path().join(name), whole).unwrap();
        }
    }
    assert!(n_refused > 100 && n_converted > 100, "{n_refused} refused, {n_converted} converted");
}

/// The vocabularies in mistral-common: `tests/golden/convert_tokenizers.py LLAMA_CPP FOLDER` makes the folder.
#[test]
#[ignore = "takes the folder BISE_CONVERT_TOKENIZERS"]
fn real_vocabularies_become_the_keys_of_the_reference_converter() {
    let folder =
        std::env::var_os("BISE_CONVERT_TOKENIZERS").expect("BISE_CONVERT_TOKENIZERS names the folder");
    let mut n_checked = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let folder = entry.unwrap().path();
        let Ok(expected) = std::fs::read(folder.join("expected.json")) else { continue };
        let mut case: Value = serde_json::from_slice(&expected).unwrap();
        case["name"] = json!(folder.display().to_string());
        let (metadata, notes) = convert(&case, &folder).unwrap();
        let differ = differences(&metadata, &case["keys"]);
        let names: Vec<&str> = differ.iter().map(|line| name_of(line)).collect();
        let expected: &[&str] = if case["layout"] == "hf" { &[] } else { &["tokenizer.chat_template"] };
        assert_eq!(names, expected, "{folder:?}: {differ:#?} {notes:?}");
        check_tokens(&case, &case["texts"], &metadata);
        n_checked += 1;
    }
    assert!(n_checked >= 8, "{n_checked}");
}
