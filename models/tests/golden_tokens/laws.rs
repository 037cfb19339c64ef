//! What must hold for any text and any tokens.

use crate::fixtures::tokenizer;
use bise_models::tokenizer::{EncodeOptions, StreamDecoder, Tokenizer};
use proptest::prelude::*;

/// Text of all sorts, rich in spaces, digits, control tokens and their pieces.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<String>(),
        "[ a-z0-9\n\t]{0,20}",
        "\\PC{0,12}",
        prop::sample::select(vec![
            "<s>",
            "</s>",
            "[INST]",
            "[REFERENCE_DOC_1]",
            "<0x0A>",
            "  ",
            "é",
            "👍🏽",
            "\u{301}"
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

fn stream(mut decoder: StreamDecoder, ids: &[u32]) -> String {
    let mut text: String = ids.iter().map(|&id| decoder.push(id)).collect();
    text.push_str(&decoder.finish());
    text
}

fn round_trip(tokenizer: &Tokenizer, text: &str, expected: &str) -> Result<(), TestCaseError> {
    let ids = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false });
    prop_assert!(ids.iter().all(|&id| (id as usize) < tokenizer.n_vocab()));
    prop_assert_eq!(tokenizer.decode(&ids, true), expected);
    prop_assert_eq!(stream(tokenizer.stream_from_start(true), &ids), expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn sentence_piece_gives_text_back(text in text()) {
        // U+2581 is SentencePiece's own spelling of a space.
        round_trip(&tokenizer("v3"), &text, &text.replace('\u{2581}', " "))?;
    }

    #[test]
    fn byte_level_gives_text_back(text in text()) {
        round_trip(&tokenizer("tekken"), &text, &text)?;
    }

    #[test]
    fn parsing_control_tokens_loses_nothing(text in text()) {
        let tokenizer = tokenizer("tekken");
        let ids = tokenizer.encode(&text, EncodeOptions { add_special: false, parse_special: true });
        prop_assert_eq!(tokenizer.decode(&ids, false), text);
    }

    #[test]
    fn streaming_equals_decoding(ids in prop::collection::vec(0..131_100u32, 0..40), skip in any::<bool>()) {
        for tokenizer in [tokenizer("v3"), tokenizer("tekken")] {
            // Half of the ids in the range of bytes and control tokens, where characters are cut.
            let ids: Vec<u32> = ids.iter().map(|&id| if id % 2 == 0 { id } else { id % 1300 }).collect();
            prop_assert_eq!(stream(tokenizer.stream_from_start(skip), &ids), tokenizer.decode(&ids, skip));
        }
    }
}

#[test]
fn a_character_is_never_cut() {
    let tokenizer = tokenizer("v1");
    let ids = tokenizer.encode("🦀", EncodeOptions { add_special: false, parse_special: false });
    assert_eq!(ids.len(), 5, "a space and four bytes");
    let mut decoder = tokenizer.stream(true);
    let pieces: Vec<String> = ids.iter().map(|&id| decoder.push(id)).collect();
    assert_eq!(pieces, [" ", "", "", "", "🦀"]);
    // An unfinished character: two bytes of four, and the end.
    let mut decoder = tokenizer.stream(true);
    let pieces: Vec<String> = ids[1..3].iter().map(|&id| decoder.push(id)).collect();
    assert_eq!((pieces.concat().as_str(), decoder.finish().as_str()), ("", "\u{fffd}"));
    // An unfinished character before text gives way as soon as it cannot be completed.
    assert_eq!(
        (decoder.push(ids[1]), decoder.push(tokenizer.id("a").unwrap())),
        (String::new(), "\u{fffd}a".into())
    );
}
