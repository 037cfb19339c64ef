//! Files that converters got wrong: their tokens are right all the same, and a line says what was corrected.

use crate::fixtures::{Golden, read_gz, vocabulary};
use bise_models::gguf::{Array, Metadata};
use bise_models::tokenizer::{Algorithm, EncodeOptions, Tokenizer, Vocabulary};

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

/// The one line that a tokenizer has to say.
fn line(tokenizer: &Tokenizer) -> &str {
    match tokenizer.warnings() {
        [line] => line,
        lines => panic!("{lines:?}"),
    }
}

#[test]
fn bytes_that_are_typed_as_text_are_bytes() {
    let golden: Golden = read_gz("strings.json.gz");
    for kind in [0, 1, 4] {
        let mut vocabulary = vocabulary("v1");
        vocabulary.types.iter_mut().filter(|old| **old == 6).for_each(|old| *old = kind);
        let tokenizer = Tokenizer::new(vocabulary).unwrap();
        let line = line(&tokenizer);
        assert!(line.contains("256") && line.contains("<0x0A>") && line.contains("token_type"), "{line}");
        for (text, expected) in golden.strings.iter().zip(golden.ids("v1")) {
            assert_eq!(&tokenizer.encode(text, PLAIN), expected, "type {kind}: {text:?}");
            assert_eq!(tokenizer.decode(expected, false), text.replace('\u{2581}', " "), "type {kind}");
        }
    }
}

#[test]
fn a_byte_that_is_typed_is_not_taken_from_another_piece() {
    let mut vocabulary = vocabulary("v1");
    vocabulary.tokens.push(b"<0x0A>");
    vocabulary.scores.push(-1000.0);
    vocabulary.types.push(1);
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    assert_eq!(tokenizer.encode("a\n", PLAIN), [264, 13]);
    assert_eq!(tokenizer.piece(32_000), b"<0x0A>");
    assert!(tokenizer.warnings().is_empty(), "{:?}", tokenizer.warnings());
}

#[test]
fn a_character_is_unknown_where_one_of_its_bytes_is_missing() {
    let mut vocabulary = vocabulary("v1");
    let cut = vocabulary.tokens.iter().position(|token| token == b"<0xA6>").unwrap();
    vocabulary.types[cut] = 5;
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    // U+1F980 has the byte; U+1F990 does not. (Hugging Face's BPE does the same.)
    let shrimp = [28705, 243, 162, 169, 147];
    assert_eq!(tokenizer.encode("🦐", PLAIN), [28705, 0], "F0 9F A6 90");
    assert_eq!(tokenizer.encode("🥐", PLAIN), [28705, 243, 162, 168, 147], "F0 9F A5 90, unlike {shrimp:?}");
}

#[test]
fn without_scores_pieces_merge_in_the_order_of_the_vocabulary() {
    let golden: Golden = read_gz("strings.json.gz");
    for scores in [vec![], vec![-1000.0; 32_000], vec![0.0; 32_000]] {
        let same = !scores.is_empty();
        let tokenizer = Tokenizer::new(Vocabulary { scores, ..vocabulary("v1") }).unwrap();
        let line = line(&tokenizer);
        assert!(line.contains("tokenizer.ggml.scores") && line.contains("order"), "{line}");
        assert_eq!(line.contains("every piece"), same, "{line}");
        // Mistral scores pieces in the order of their ids, but for runs of spaces, which come last.
        let mut n = 0;
        for (text, expected) in golden.strings.iter().zip(golden.ids("v1")) {
            if !text.contains("  ") && !text.starts_with(' ') && !text.contains('\u{2581}') {
                assert_eq!(&tokenizer.encode(text, PLAIN), expected, "{text:?}");
                n += 1;
            }
        }
        assert!(n > 200, "only {n} strings");
    }
}

#[test]
fn structure_that_is_typed_as_text_is_structure() {
    // Mistral's third vocabulary, with every control token typed as text.
    let mut vocabulary = vocabulary("v3");
    vocabulary.types.iter_mut().filter(|kind| [2, 3].contains(*kind)).for_each(|kind| *kind = 1);
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    let raw = EncodeOptions { add_special: true, parse_special: true };
    assert_eq!(tokenizer.encode("<s>[INST]hello[/INST]", raw), [1, 3, 7080, 29477, 4]);
    assert!(tokenizer.is_control(1) && tokenizer.is_control(2) && tokenizer.is_control(3));
    let line = line(&tokenizer);
    assert!(line.contains("\"<unk>\", \"<s>\", \"</s>\", \"[INST]\" and "), "{line}");
    assert!(!tokenizer.encode("[INST]</s>", PLAIN).iter().any(|&id| tokenizer.is_control(id)));
}

#[test]
fn an_end_of_text_is_not_added_to_a_prompt() {
    let mut vocabulary = vocabulary("v1");
    vocabulary.add_eos = true;
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    let raw = EncodeOptions { add_special: true, parse_special: true };
    assert!(tokenizer.adds_eos());
    assert_eq!(tokenizer.encode("a", raw), [1, 264]);
    assert_eq!(tokenizer.encode("a</s>", raw), [1, 264, 2], "unless it is asked for");
}

#[test]
fn odd_vocabularies_load() {
    // Empty pieces, the same piece twice, padding, pieces with plain spaces, and an end of text that is a word.
    let tokens =
        ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "", "", "a", "[PAD9]", "▁ a", "[PAD]", "<pad>"];
    let types = vec![2, 3, 3, 1, 1, 1, 1, 1, 3, 1, 5, 1, 1, 3];
    let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
    let mut vocabulary = Vocabulary::with_defaults(Algorithm::SentencePiece);
    vocabulary.tokens = tokens.iter().collect();
    (vocabulary.types, vocabulary.scores, vocabulary.eos) = (types, scores, Some(5));
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    let raw = EncodeOptions { add_special: true, parse_special: true };
    assert_eq!(tokenizer.encode("ab a", raw), [1, 3, 6, 3, 9], "of equal pieces the last counts");
    assert_eq!(tokenizer.encode("b<pad>", raw), [1, 3, 5, 13], "an end of text that is a word stays one");
    assert!(tokenizer.is_end_of_generation(5) && !tokenizer.is_control(5));
    assert_eq!((tokenizer.piece(7), tokenizer.piece(10)), (&b""[..], &b"[PAD9]"[..]));
    assert_eq!(tokenizer.n_vocab(), 14);
}

#[test]
fn scores_may_be_integers() {
    let mut metadata = Metadata::new("m.gguf");
    metadata.set("tokenizer.ggml.model", "llama");
    let tokens = ["<unk>", "<s>", "</s>", "a", "b", "c", "ab", "bc"];
    metadata.set("tokenizer.ggml.tokens", Array::Str(tokens.iter().collect()));
    metadata.set("tokenizer.ggml.add_space_prefix", false);
    metadata.set("tokenizer.ggml.scores", Array::I32(vec![0, 0, 0, -3, -4, -5, -2, -1]));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    assert_eq!(tokenizer.encode("abc", PLAIN), [3, 7]);
    assert!(tokenizer.warnings().is_empty(), "{:?}", tokenizer.warnings());
}

#[test]
fn a_missing_splitting_rule_is_mentioned() {
    let mut metadata = Metadata::new("m.gguf");
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.tokens", Array::Str(["a", "b", "ab"].iter().collect()));
    metadata.set("tokenizer.ggml.merges", Array::Str(["a b"].iter().collect()));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    let line = line(&tokenizer);
    assert!(line.contains("tokenizer.ggml.pre") && line.contains("default"), "{line}");
    metadata.set("tokenizer.ggml.pre", "minerva-7b");
    assert!(Tokenizer::from_metadata(&metadata).unwrap().warnings().is_empty());
}

#[test]
fn tekken_under_a_wrong_name_is_tekken() {
    let golden: Golden = read_gz("strings.json.gz");
    let pre = "pixtral".to_owned();
    let algorithm = Algorithm::ByteLevel { pre };
    let tokenizer = Tokenizer::new(Vocabulary { algorithm, ..vocabulary("tekken") }).unwrap();
    assert!(line(&tokenizer).contains("pixtral"));
    for (text, expected) in golden.strings.iter().zip(golden.ids("tekken")) {
        assert_eq!(&tokenizer.encode(text, PLAIN), expected, "{text:?}");
    }
    // The expression that llama.cpp takes for this name gives other tokens: words do not change at capitals.
    let pre = "llama-bpe".to_owned();
    let algorithm = Algorithm::ByteLevel { pre };
    let llama = Tokenizer::new(Vocabulary { algorithm, ..vocabulary("tekken") }).unwrap();
    let mut pairs = golden.strings.iter().zip(golden.ids("tekken"));
    assert!(pairs.any(|(text, expected)| &llama.encode(text, PLAIN) != expected));
}
