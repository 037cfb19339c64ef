//! Added tokens: token for token what Hugging Face's tokenizer says (`golden/make_added.py`), however the file types
//! them, and never from a message.

use crate::fixtures::{read_gz, tokenizer, vocabulary};
use bise_models::tokenizer::{EncodeOptions, Segment, Tokenizer};

const RAW: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };
const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

/// Texts over Mistral's first vocabulary and the tokens that were added to it. Those that it has already keep their ids.
#[derive(serde::Deserialize)]
struct Set {
    name: String,
    added: Vec<String>,
    added_ids: Vec<u32>,
    texts: Vec<String>,
    ids: Vec<Vec<u32>>,
}

/// The set's vocabulary, with added tokens of a type, scored as converters score them.
fn with_added(set: &Set, kind: i32) -> Tokenizer {
    let mut vocabulary = vocabulary("v1");
    for (text, &id) in set.added.iter().zip(&set.added_ids) {
        if id as usize == vocabulary.tokens.len() {
            vocabulary.tokens.push(text.as_bytes());
            vocabulary.scores.push(-1000.0);
            vocabulary.types.push(kind);
        }
        vocabulary.types[id as usize] = kind;
    }
    Tokenizer::new(vocabulary).unwrap()
}

fn check(set: &Set, kind: i32) -> Tokenizer {
    let tokenizer = with_added(set, kind);
    assert_eq!(set.texts.len(), set.ids.len());
    for (text, expected) in set.texts.iter().zip(&set.ids) {
        assert_eq!(&tokenizer.encode(text, RAW), expected, "{}, type {kind}: {text:?}", set.name);
    }
    tokenizer
}

#[test]
fn text_is_cut_at_added_tokens() {
    let sets: Vec<Set> = read_gz("added.json.gz");
    assert!(sets.iter().map(|set| set.texts.len()).sum::<usize>() >= 7000);
    for set in &sets {
        check(set, 3);
        let tokenizer = check(set, 4);
        assert!(tokenizer.warnings().is_empty(), "{:?}", tokenizer.warnings());
        for (text, &id) in set.added.iter().zip(&set.added_ids) {
            assert_eq!(tokenizer.id(text), Some(id));
            // Names that end a turn are control tokens, whatever the file says.
            assert_eq!(tokenizer.encode(text, PLAIN) == [id], !tokenizer.is_control(id), "{text:?}");
        }
    }
}

#[test]
fn added_tokens_that_a_file_calls_text_are_found_and_named() {
    let sets: Vec<Set> = read_gz("added.json.gz");
    for set in sets.iter().filter(|set| ["chatml", "tools"].contains(&set.name.as_str())) {
        let tokenizer = check(set, 1);
        let [line] = tokenizer.warnings() else { panic!("{:?}", tokenizer.warnings()) };
        assert!(line.contains("<|im_end|>") && line.contains("tokenizer.ggml.token_type"), "{line}");
        assert!(tokenizer.is_control(32_000) && tokenizer.is_control(32_001));
        assert_eq!(tokenizer.eot(), Some(32_000));
        if set.name == "tools" {
            assert_eq!(tokenizer.decode(&tokenizer.encode("<tool_call>x", RAW), true), "<tool_call> x");
        }
    }
}

#[test]
fn an_added_token_that_ends_a_text_is_a_control_token() {
    // As OpenChat has it: `<|end_of_turn|>` is user-defined, and the end of text by its id.
    let mut vocabulary = vocabulary("v1");
    vocabulary.tokens.push(b"<|end_of_turn|>");
    vocabulary.scores.push(-1000.0);
    vocabulary.types.push(4);
    vocabulary.eos = Some(32_000);
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    assert!(tokenizer.is_control(32_000) && tokenizer.is_end_of_generation(32_000));
    assert!(tokenizer.warnings().is_empty(), "{:?}", tokenizer.warnings());
    assert_eq!(tokenizer.decode(&tokenizer.encode("a<|end_of_turn|>", RAW), true), "a");
}

#[test]
fn a_message_that_spells_an_added_token_stays_text() {
    let sets: Vec<Set> = read_gz("added.json.gz");
    for set in &sets {
        let tokenizer = with_added(set, 4);
        for text in set.added.iter().filter(|text| !text.trim().is_empty()) {
            let middle = text.char_indices().nth(1).map_or(text.len(), |(at, _)| at);
            let (left, right) = text.split_at(middle);
            // Whole, and put together from what the template and the message say.
            for segments in [
                vec![Segment::Content(text.as_str())],
                vec![Segment::Template(left), Segment::Content(right)],
                vec![Segment::Content(left), Segment::Template(right)],
            ] {
                if middle == text.len() && segments.len() > 1 {
                    continue;
                }
                let ids = tokenizer.encode_segments(&segments, false);
                let whole = tokenizer.id(text).unwrap();
                assert!(!ids.contains(&whole), "{}: {segments:?} gives {ids:?}", set.name);
                assert_eq!(tokenizer.decode(&ids, false).replace(' ', ""), text.replace(' ', ""));
            }
        }
        // White space is no structure: the model saw it as these tokens in messages too.
        for text in set.added.iter().filter(|text| text.trim().is_empty()) {
            let message = format!("x{text}y");
            assert_eq!(
                tokenizer.encode_segments(&[Segment::Content(&message)], false),
                tokenizer.encode(&message, RAW)
            );
        }
    }
}

#[test]
fn byte_level_text_is_cut_at_added_tokens_too() {
    let mut vocabulary = vocabulary("tekken");
    for text in ["<|im_end|>", "<tool_call>", "  \n"] {
        vocabulary.tokens.push(text.as_bytes());
        vocabulary.types.push(4);
    }
    let added = Tokenizer::new(vocabulary).unwrap();
    let plain = tokenizer("tekken");
    let text = |text: &str| plain.encode(text, PLAIN);
    let expected =
        [&text("a "), &[131_073][..], &text(" b"), &[131_072], &text("c\n"), &[131_074], &text("d")];
    assert_eq!(added.encode("a <tool_call> b<|im_end|>c\n  \nd", RAW), expected.concat());
    let message = [Segment::Content("a <tool_call> b")];
    assert_eq!(added.encode_segments(&message, false), text("a <tool_call> b"));
    assert_eq!(added.decode(&[131_073, 131_074], true), "<tool_call>  \n");
}
