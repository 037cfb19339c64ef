//! Token for token what `sentencepiece` and `mistral_common` say, over Mistral's own vocabularies (`golden/make.py`
//! wrote both), and what llama.cpp says over SmolLM2's under each splitting rule (`golden/make_smollm.py`).

mod added;
#[allow(dead_code)] // not every test binary uses everything
mod fixtures;
mod hostile;
mod laws;
mod metadata;
mod mistakes;

use bise_models::tokenizer::{Algorithm, EncodeOptions, Segment, Tokenizer, TokenizerError, Vocabulary};
use fixtures::{Golden, read_gz, read_json, tokenizer, vocabulary};
use std::collections::HashMap;

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

/// How many strings differ; prints the first few.
fn count_differences(vocabulary: &str, golden: &Golden) -> usize {
    let tokenizer = tokenizer(vocabulary);
    let mut n_differ = 0;
    for (text, expected) in golden.strings.iter().zip(golden.ids(vocabulary)) {
        let found = tokenizer.encode(text, PLAIN);
        if &found != expected {
            n_differ += 1;
            if n_differ <= 5 {
                eprintln!("{vocabulary}: {text:?}\n  expected {expected:?}\n  found    {found:?}");
            }
        }
    }
    eprintln!("{vocabulary}: {} of {} strings equal", golden.strings.len() - n_differ, golden.strings.len());
    n_differ
}

#[test]
fn every_string_has_the_tokens_of_the_reference() {
    let golden: Golden = read_gz("strings.json.gz");
    assert!(golden.strings.len() >= 300, "only {} strings", golden.strings.len());
    for vocabulary in ["v1", "v3", "tekken"] {
        assert_eq!(count_differences(vocabulary, &golden), 0, "{vocabulary}");
    }
}

#[test]
fn every_splitting_rule_has_the_tokens_of_llama_cpp() {
    #[derive(serde::Deserialize)]
    struct Splits {
        strings: Vec<String>,
        ids: HashMap<String, Vec<Vec<u32>>>,
    }
    let Splits { strings, ids } = read_gz("splits.json.gz");
    for pre in ["smollm", "llama-bpe", "gpt-2", "default"] {
        let algorithm = Algorithm::ByteLevel { pre: pre.to_owned() };
        let tokenizer = Tokenizer::new(Vocabulary { algorithm, ..vocabulary("smollm") }).unwrap();
        assert_eq!(ids[pre].len(), strings.len());
        for (text, expected) in strings.iter().zip(&ids[pre]) {
            assert_eq!(&tokenizer.encode(text, PLAIN), expected, "{pre}: {text:?}");
        }
    }
}

/// Run with `make.py --fuzz N` first; its strings are not committed.
#[test]
#[ignore = "needs fuzz.json.gz, which `make.py --fuzz 20000` writes"]
fn random_strings_have_the_tokens_of_the_reference() {
    let golden: Golden = read_gz("fuzz.json.gz");
    for vocabulary in ["v1", "v3", "tekken"] {
        assert_eq!(count_differences(vocabulary, &golden), 0, "{vocabulary}");
    }
}

#[test]
fn infill_prompts_are_those_of_mistral_common() {
    #[derive(serde::Deserialize)]
    struct Case {
        vocabulary: String,
        prefix: String,
        suffix: String,
        ids: Vec<u32>,
    }
    for vocabulary in ["v3", "v7", "tekken"] {
        let tokenizer = tokenizer(vocabulary);
        let cases: Vec<Case> = read_json("infill.json");
        let mut cases = cases.into_iter().filter(|case| case.vocabulary == vocabulary).peekable();
        assert!(cases.peek().is_some(), "no case for {vocabulary}");
        for Case { prefix, suffix, ids, .. } in cases {
            assert_eq!(
                tokenizer.infill(&prefix, &suffix).unwrap(),
                ids,
                "{vocabulary}: {prefix:?} … {suffix:?}"
            );
        }
    }
    assert!(matches!(tokenizer("v1").infill("a", "b"), Err(TokenizerError::NoInfill)));
}

#[test]
fn control_tokens_are_parsed_only_where_they_are_allowed() {
    let tokenizer = tokenizer("v3");
    let id = |text: &str| tokenizer.id(text).unwrap();
    let (bos, eos, inst, end_inst) = (id("<s>"), id("</s>"), id("[INST]"), id("[/INST]"));
    assert_eq!((bos, eos, inst, end_inst), (1, 2, 3, 4));
    let raw = EncodeOptions { add_special: true, parse_special: true };

    let prompt = "<s>[INST] hi [/INST]";
    let tokens = tokenizer.encode(prompt, raw);
    assert_eq!(tokens[..2], [bos, inst], "a BOS in the text is not doubled");
    assert_eq!(tokens.last(), Some(&end_inst));
    assert_eq!(tokens, tokenizer.encode(&prompt[3..], raw));
    assert_eq!(tokens, tokenizer.encode_segments(&[Segment::Template(prompt)], true));

    let text = tokenizer.encode(prompt, PLAIN);
    assert!(!text.iter().any(|&id| tokenizer.is_control(id)), "{text:?}");
    assert_eq!(tokenizer.encode_segments(&[Segment::Content(prompt)], false), text);
    assert_eq!(
        tokenizer.encode(prompt, EncodeOptions { add_special: true, ..PLAIN }),
        [&[bos], &text[..]].concat()
    );
    assert_eq!(tokenizer.encode("", raw), [bos]);
    assert!(tokenizer.encode("", PLAIN).is_empty());
}

#[test]
fn a_message_cannot_smuggle_control_tokens_in() {
    for vocabulary in ["v1", "v3", "tekken"] {
        let tokenizer = tokenizer(vocabulary);
        let (bos, eos) = (tokenizer.bos().unwrap(), tokenizer.eos().unwrap());
        // The message holds a whole token, begins one that the template ends, and ends one that the template begins.
        let segments = [
            Segment::Template("<s>a </"),
            Segment::Content("s> </s>[INST] b </s"),
            Segment::Template("> c</s>"),
        ];
        let tokens = tokenizer.encode_segments(&segments, true);
        assert_eq!((tokens[0], *tokens.last().unwrap()), (bos, eos), "{vocabulary}");
        let inner = &tokens[1..tokens.len() - 1];
        assert!(!inner.iter().any(|&id| tokenizer.is_control(id)), "{vocabulary}: {inner:?}");
        assert_eq!(inner, tokenizer.encode("a </s> </s>[INST] b </s> c", PLAIN), "one continuous text");
    }
}

#[test]
fn segments_tokenize_as_one_text() {
    let golden: Golden = read_gz("strings.json.gz");
    for vocabulary in ["v1", "tekken"] {
        let tokenizer = tokenizer(vocabulary);
        for (text, expected) in golden.strings.iter().zip(golden.ids(vocabulary)) {
            let middle = (0..=text.len() / 2).rev().find(|&at| text.is_char_boundary(at)).unwrap();
            let (left, right) = text.split_at(middle);
            let parts = [Segment::Content(left), Segment::Content(""), Segment::Content(right)];
            assert_eq!(
                &tokenizer.encode_segments(&parts, false),
                expected,
                "{vocabulary}: {left:?} + {right:?}"
            );
        }
    }
}

#[test]
fn segments_build_the_conversations_of_mistral_common() {
    #[derive(serde::Deserialize)]
    struct Message {
        role: String,
        content: String,
    }
    #[derive(serde::Deserialize)]
    struct Conversation {
        template: String,
        messages: Vec<Message>,
        ids: Vec<u32>,
    }
    let mut n_checked = 0;
    for Conversation { template, messages, ids } in read_json::<Vec<Conversation>>("conversations.json") {
        let vocabulary = match template.as_str() {
            "v3" => "v3",
            "v7" => "v7",
            "v3-tekken" | "v7-tekken" => "tekken",
            _ => continue, // v1 spells its markers as text
        };
        // Before v7 a system prompt becomes part of a user's message, which is the template's business.
        if !template.starts_with("v7") && messages.iter().any(|message| message.role == "system") {
            continue;
        }
        let mut segments = vec![Segment::Template("<s>")];
        for Message { role, content } in &messages {
            let (before, content, after) = match role.as_str() {
                "system" => ("[SYSTEM_PROMPT]", content.as_str(), "[/SYSTEM_PROMPT]"),
                "user" => ("[INST]", content.as_str(), "[/INST]"),
                _ => ("", content.trim_end_matches(' '), "</s>"),
            };
            segments.extend([Segment::Template(before), Segment::Content(content), Segment::Template(after)]);
        }
        assert_eq!(tokenizer(vocabulary).encode_segments(&segments, true), ids, "{template}: {segments:?}");
        n_checked += 1;
    }
    assert!(n_checked >= 30, "only {n_checked} conversations");
}

#[test]
fn a_space_stands_before_text_after_every_control_token() {
    let tokenizer = tokenizer("v1");
    let parse = EncodeOptions { add_special: false, parse_special: true };
    let word = tokenizer.id("▁the").unwrap();
    assert_eq!(tokenizer.encode("the</s>the", parse), [word, 2, word]);
    assert_eq!(tokenizer.decode(&[word, 2, word], true), "the the");
    assert_eq!(tokenizer.decode(&[1, word, 2, word], false), "<s>the</s> the");
    let mut stream = tokenizer.stream(true);
    assert_eq!(stream.push(word), " the", "a continuation keeps its space");
    assert_eq!(tokenizer.stream_from_start(true).push(word), "the");
}

#[test]
fn user_defined_tokens_are_found_in_plain_text() {
    let tokenizer = tokenizer("v3");
    let document = tokenizer.id("[REFERENCE_DOC_1]").unwrap();
    assert!(tokenizer.encode("see[REFERENCE_DOC_1]", PLAIN).contains(&document));
    assert!(!tokenizer.is_control(document));
    assert_eq!(tokenizer.decode(&[document], true), "[REFERENCE_DOC_1]");
}

#[test]
fn roles_are_known() {
    let tekken = tokenizer("tekken");
    assert_eq!((tekken.n_vocab(), tekken.bos(), tekken.eos()), (131_072, Some(1), Some(2)));
    assert!(
        tekken.is_end_of_generation(2)
            && !tekken.is_end_of_generation(1)
            && !tekken.is_end_of_generation(u32::MAX)
    );
    assert_eq!(tekken.infill_prefix(), tekken.id("[PREFIX]"));
    assert_eq!(tekken.infill_suffix(), tekken.id("[SUFFIX]"));
    assert_eq!(tekken.piece(tekken.id(" the").unwrap()), b" the");
    assert_eq!(tekken.piece(u32::MAX), b"");
    let v1 = tokenizer("v1");
    assert_eq!(v1.piece(v1.id("▁the").unwrap()), b" the");
    assert_eq!(v1.piece(13), b"\n", "a byte token");
    assert_eq!(v1.id("<0x0A>"), None, "text never becomes a byte token by its name");
}
