//! Vocabularies made to be slow or large: opening and encoding stay in proportion to the file and the text.
//!
//! The time limits are some fifty times what is needed, so that a busy machine does not exceed them. The faults they
//! guard against took minutes or gigabytes.

use crate::fixtures::vocabulary;
use bise_models::tokenizer::{Algorithm, EncodeOptions, Segment, Tokenizer, Vocabulary};
use std::time::{Duration, Instant};

const RAW: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

/// Mistral's first vocabulary and control tokens with these texts.
fn with_control(texts: impl IntoIterator<Item = Vec<u8>>) -> Tokenizer {
    let mut vocabulary = vocabulary("v1");
    for text in texts {
        vocabulary.tokens.push(&text);
        vocabulary.scores.push(0.0);
        vocabulary.types.push(3);
    }
    Tokenizer::new(vocabulary).unwrap()
}

fn within<T>(limit: Duration, what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    assert!(start.elapsed() < limit, "{what} took {:?}", start.elapsed());
    result
}

#[test]
fn long_periodic_tokens() {
    let seconds = Duration::from_secs(5);
    for (period, len) in [("ab", 77_000), ("a", 10_000_000), ("<s>", 10_000_000)] {
        let token = period.repeat(len / period.len());
        let tokenizer = within(seconds, "opening", || with_control([token.clone().into_bytes()]));
        let [line] = tokenizer.warnings() else { panic!("{:?}", tokenizer.warnings()) };
        assert!(line.contains("512 bytes"), "{line}");
        let text = period.repeat(100_000);
        let tokens = within(seconds, "encoding", || tokenizer.encode(&text, RAW));
        assert!(!tokens.contains(&32_000));
        assert_eq!(tokenizer.piece(32_000), token.as_bytes());
    }
}

#[test]
fn tokens_that_are_prefixes_of_each_other() {
    let seconds = Duration::from_secs(10);
    let prefixes = (1..=2_000).map(|n| vec![b'a'; n]);
    let tokenizer = within(seconds, "opening", || with_control(prefixes));
    let text = "a".repeat(1_000_000);
    let tokens = within(seconds, "encoding", || tokenizer.encode(&text, RAW));
    assert_eq!(tokens[..3], [1, 32_511, 32_511], "the longest of those that are looked for has 512 bytes");
    // Nothing may be found in a message, so that every token is tried in every place.
    let tokens = within(seconds, "a message", || {
        tokenizer.encode_segments(&[Segment::Content(&text[..200_000])], true)
    });
    assert!(tokens.iter().all(|&id| id < 32_000));
}

#[test]
fn a_great_number_of_tokens() {
    let seconds = Duration::from_secs(10);
    let texts = (0..200_000u32).map(|n| format!("{}{n:06}<|", "<|".repeat(20)).into_bytes());
    let tokenizer = within(seconds, "opening", || with_control(texts));
    let text = "<|".repeat(200_000);
    let tokens = within(seconds, "encoding", || tokenizer.encode(&text, RAW));
    assert!(tokens.iter().all(|&id| id < 32_000));
    let text = format!("x{}123456<|y", "<|".repeat(21));
    assert!(tokenizer.encode(&text, RAW).contains(&(32_000 + 123_456)));
}

#[test]
fn tokens_that_are_a_part_of_a_character() {
    let tokenizer =
        with_control([b"\xc3".to_vec(), b"\xa9".to_vec(), b"\x9f\xa6".to_vec(), b"\xff".to_vec()]);
    for text in ["é", "🦀", "aéb", "日本\u{ff}"] {
        let plain = EncodeOptions { parse_special: false, ..RAW };
        assert_eq!(tokenizer.encode(text, RAW), tokenizer.encode(text, plain));
        let segments = [Segment::Content(text), Segment::Template(text)];
        assert!(tokenizer.encode_segments(&segments, true).len() > 2);
    }
}

#[test]
fn one_long_word() {
    let tokenizer = with_control([]);
    let seconds = Duration::from_secs(10);
    for text in
        ["a".repeat(1_000_000), " ".repeat(1_000_000), "日".repeat(300_000), "ab\u{301}".repeat(200_000)]
    {
        let tokens = within(seconds, "encoding", || tokenizer.encode(&text, RAW));
        assert_eq!(tokenizer.decode(&tokens, true), text);
    }
    // Every prefix of a long word is a piece, and each step of merging makes the next.
    let mut vocabulary = Vocabulary::with_defaults(Algorithm::SentencePiece);
    let prefixes = (1..=3_000).map(|n| "a".repeat(n));
    vocabulary.tokens = ["<unk>", "<s>", "</s>", "▁"].map(String::from).into_iter().chain(prefixes).collect();
    vocabulary.scores = (0..vocabulary.tokens.len()).map(|id| id as f32).collect();
    vocabulary.types = [2, 3, 3, 1].into_iter().chain(std::iter::repeat_n(1, 3_000)).collect();
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    let text = "a".repeat(300_000);
    let tokens = within(seconds, "encoding", || tokenizer.encode(&text, RAW));
    assert_eq!(tokenizer.decode(&tokens, true), text);
}

#[test]
fn byte_level_words_without_end() {
    let tokenizer = crate::fixtures::tokenizer("tekken");
    let seconds = Duration::from_secs(10);
    for text in ["a", "A", "Aa", " ", "\n ", " a", "1", "!", "日", "\u{301}"].map(|text| text.repeat(200_000))
    {
        let tokens = within(seconds, "encoding", || tokenizer.encode(&text, RAW));
        assert_eq!(tokenizer.decode(&tokens, true), text);
    }
}

#[test]
fn the_same_merges_again_and_again() {
    let tokens = ["a", "b", "c", "ab", "bc", "abc"];
    let repeated = std::iter::repeat_n("a bc", 300_000);
    let alternating = std::iter::repeat_n(["b c", "a bc"], 300_000).flatten();
    let lists: [Vec<&str>; 2] =
        [["a b"].into_iter().chain(repeated).collect(), ["a b"].into_iter().chain(alternating).collect()];
    for list in lists {
        let mut vocabulary = Vocabulary::with_defaults(Algorithm::ByteLevel { pre: "gpt-2".to_owned() });
        vocabulary.tokens = tokens.iter().collect();
        vocabulary.merges = list.iter().collect();
        let seconds = Duration::from_secs(5);
        let tokenizer = within(seconds, "opening", || Tokenizer::new(vocabulary.clone()).unwrap());
        // The list has no way to make `abc` of `ab` and `c`.
        let text = "abc".repeat(20_000);
        let tokens = within(seconds, "encoding", || tokenizer.encode(&text, RAW));
        assert_eq!(tokens, [3, 2].repeat(20_000));
        vocabulary.merges.push(b"ab c");
        let tokenizer = Tokenizer::new(vocabulary).unwrap();
        assert_eq!(tokenizer.encode(&text, RAW), [5].repeat(20_000));
    }
}
