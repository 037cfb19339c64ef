//! What a file says about its vocabulary counts; where it contradicts itself, it is refused with a message that names
//! file, key, what was found and what was expected.

use bise_models::gguf::{Array, Metadata, StrArray};
use bise_models::tokenizer::{Algorithm, EncodeOptions, Tokenizer, Vocabulary};

/// A SentencePiece vocabulary without bytes: `<unk>`, `<s>`, `</s>`, a space and some letters.
fn small() -> Metadata {
    let tokens = ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁ab"];
    let mut metadata = Metadata::new("m.gguf");
    metadata.set("tokenizer.ggml.model", "llama");
    metadata.set("tokenizer.ggml.tokens", Array::Str(StrArray::from_iter(tokens)));
    metadata.set("tokenizer.ggml.scores", Array::F32(vec![0.0, 0.0, 0.0, -9.0, -9.0, -9.0, -1.0, -2.0]));
    metadata.set("tokenizer.ggml.token_type", Array::I32(vec![2, 3, 3, 1, 1, 1, 1, 1]));
    metadata
}

/// A byte-level vocabulary of three letters.
fn small_byte_level() -> Metadata {
    let mut metadata = Metadata::new("m.gguf");
    metadata.set("tokenizer.ggml.model", "gpt2");
    metadata.set("tokenizer.ggml.pre", "smollm");
    metadata.set("tokenizer.ggml.tokens", Array::Str(StrArray::from_iter(["a", "b", "Ġ", "ab", "Ġab"])));
    metadata.set("tokenizer.ggml.merges", Array::Str(StrArray::from_iter(["a b", "Ġ ab"])));
    metadata
}

const ALL: EncodeOptions = EncodeOptions { add_special: true, parse_special: true };

#[test]
fn small_vocabularies_work() {
    let tokenizer = Tokenizer::from_metadata(&small()).unwrap();
    assert_eq!(tokenizer.encode("ab ab", ALL), [1, 7, 7]);
    assert_eq!(
        tokenizer.encode("a日本b", ALL),
        [1, 3, 4, 0, 5],
        "a run of unknown characters is one unknown token"
    );
    let tokenizer = Tokenizer::from_metadata(&small_byte_level()).unwrap();
    assert_eq!(tokenizer.encode("ab ab ba", ALL), [3, 4, 2, 1, 0]);
    assert_eq!(tokenizer.encode("a?b", ALL), [0, 1], "a byte that nothing can stand for is left out");
}

#[test]
fn flags_and_ids_of_the_file_count() {
    let mut metadata = small();
    metadata.set("tokenizer.ggml.add_bos_token", false);
    metadata.set("tokenizer.ggml.add_eos_token", true);
    metadata.set("tokenizer.ggml.add_space_prefix", false);
    metadata.set("tokenizer.ggml.eos_token_id", 1_u32);
    metadata.set("tokenizer.ggml.eot_token_id", 2_u32);
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    assert_eq!(tokenizer.encode("ab  a", ALL), [6, 3, 3, 4], "no end: what is generated goes on");
    assert!(tokenizer.adds_eos());
    assert_eq!((tokenizer.eos(), tokenizer.eot()), (Some(1), Some(2)));
    assert!(tokenizer.is_end_of_generation(1) && tokenizer.is_end_of_generation(2));
    metadata.set("tokenizer.ggml.remove_extra_whitespaces", true);
    assert_eq!(Tokenizer::from_metadata(&metadata).unwrap().encode("  ab   a ", ALL), [6, 3, 4]);
    metadata.set("tokenizer.ggml.eos_token_id", -1_i32);
    assert_eq!(Tokenizer::from_metadata(&metadata).unwrap().eos(), None);
}

/// As Ollama writes a model with several ends.
#[test]
fn every_end_that_a_file_lists_ends_a_text() {
    let mut metadata = small();
    metadata.set("tokenizer.ggml.eos_token_ids", Array::I32(vec![2, 7, -1]));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    let ends: Vec<u32> = (0..8).filter(|id| tokenizer.is_end_of_generation(*id)).collect();
    assert_eq!((tokenizer.eos(), ends), (Some(2), vec![2, 7]));
}

#[test]
fn types_that_a_file_does_not_give_are_told_by_text_and_role() {
    let mut vocabulary = Vocabulary::with_defaults(Algorithm::SentencePiece);
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    vocabulary.tokens = ["<unk>", "<s>", "</s>"].map(String::from).into_iter().chain(bytes).collect();
    vocabulary.scores = vec![0.0; vocabulary.tokens.len()];
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    assert_eq!(tokenizer.encode("A</s>", ALL), [1, 3 + 0xe2, 3 + 0x96, 3 + 0x81, 3 + 0x41, 2]);
    assert!(tokenizer.is_control(1) && tokenizer.is_control(2) && !tokenizer.is_control(68));
}

#[test]
fn unused_pieces_are_split_again() {
    let mut metadata = small();
    metadata.set("tokenizer.ggml.token_type", Array::I32(vec![2, 3, 3, 1, 1, 1, 5, 1]));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    assert_eq!(tokenizer.encode("ab", ALL), [1, 7], "an unused piece still leads to a longer one");
    assert_eq!(tokenizer.encode("aab", ALL), [1, 3, 4, 4, 5]);
}

#[test]
fn tokens_known_by_name_get_their_roles() {
    let mut metadata = small_byte_level();
    let tokens = ["a", "b", "Ġ", "ab", "Ġab", "<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|im_end|>"];
    metadata.set("tokenizer.ggml.tokens", Array::Str(StrArray::from_iter(tokens)));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    assert_eq!(tokenizer.infill("a", " ab").unwrap(), [5, 0, 6, 4, 7], "prefix, suffix, middle");
    assert_eq!(tokenizer.eot(), Some(8));
    assert!(tokenizer.is_end_of_generation(8) && tokenizer.is_control(8));
    // A file that calls the end of a turn user-defined does not let a message end the turn.
    metadata.set("tokenizer.ggml.token_type", Array::I32(vec![1, 1, 1, 1, 1, 4, 4, 4, 4]));
    let tokenizer = Tokenizer::from_metadata(&metadata).unwrap();
    let plain = EncodeOptions { add_special: false, parse_special: false };
    assert_eq!(tokenizer.encode("a<|im_end|>b", ALL), [0, 8, 1]);
    assert_eq!(tokenizer.encode("a<|im_end|>b", plain), [0, 1]);
}

#[test]
fn what_is_wrong_is_named() {
    let ids = |n: usize| Array::I32(vec![1; n]);
    type Change = Box<dyn Fn(&mut Metadata)>;
    fn set(key: &'static str, value: impl Into<bise_models::gguf::Value> + Clone + 'static) -> Change {
        Box::new(move |metadata| metadata.set(key, value.clone()))
    }
    let cases: Vec<(Metadata, Change, &[&str])> = vec![
        (Metadata::new("m.gguf"), Box::new(|_| {}), &["tokenizer.ggml.model", "missing"]),
        (
            small(),
            set("tokenizer.ggml.model", "bert"),
            &["tokenizer.ggml.model", "\"bert\"", "llama", "gpt2"],
        ),
        (small(), set("tokenizer.ggml.model", 7_u32), &["tokenizer.ggml.model", "u32 7"]),
        (
            small(),
            set("tokenizer.ggml.tokens", Array::Str(StrArray::default())),
            &["tokens", "empty", "at least one"],
        ),
        (small(), set("tokenizer.ggml.tokens", ids(3)), &["tokenizer.ggml.tokens", "array of 3 i32"]),
        (
            small(),
            set("tokenizer.ggml.scores", Array::F32(vec![0.0; 7])),
            &["tokenizer.ggml.scores", "7 entries", "8"],
        ),
        (
            small(),
            set("tokenizer.ggml.scores", Array::F32(vec![f32::NAN; 8])),
            &["tokenizer.ggml.scores", "NaN at index 0"],
        ),
        (small(), set("tokenizer.ggml.token_type", ids(9)), &["tokenizer.ggml.token_type", "9 entries", "8"]),
        (
            small(),
            set("tokenizer.ggml.token_type", Array::I32(vec![7; 8])),
            &["token_type", "7 at index 0", "0 to 6"],
        ),
        (
            small(),
            set("tokenizer.ggml.bos_token_id", 8_u32),
            &["tokenizer.ggml.bos_token_id", "8", "below 8"],
        ),
        (small(), set("tokenizer.ggml.eos_token_id", -7_i32), &["tokenizer.ggml.eos_token_id", "-7"]),
        (small(), set("tokenizer.ggml.eot_token_id", "x"), &["tokenizer.ggml.eot_token_id", "str \"x\""]),
        (
            small(),
            set("tokenizer.ggml.eos_token_ids", Array::U32(vec![2, 8])),
            &["tokenizer.ggml.eos_token_ids", "8", "below 8"],
        ),
        (small(), set("tokenizer.ggml.add_bos_token", 1_u32), &["tokenizer.ggml.add_bos_token", "u32 1"]),
        (
            small(),
            set("tokenizer.ggml.precompiled_charsmap", Array::U8(vec![1])),
            &["precompiled_charsmap", "array of 1 u8"],
        ),
        (
            small_byte_level(),
            set("tokenizer.ggml.pre", "qwen2"),
            &["tokenizer.ggml.pre", "\"qwen2\"", "tekken", "smollm", "llama-bpe"],
        ),
        (
            small_byte_level(),
            set("tokenizer.ggml.merges", Array::Str(StrArray::from_iter(["a b", "ab"]))),
            &["merges", "\"ab\" at index 1", "space"],
        ),
        (
            small_byte_level(),
            set("tokenizer.ggml.merges", Array::Str(StrArray::from_iter(["b a"]))),
            &["merges", "\"b a\" at index 0", "third"],
        ),
        (
            small_byte_level(),
            set("tokenizer.ggml.merges", Array::Str(StrArray::from_iter(["a 日"]))),
            &["merges", "alphabet"],
        ),
    ];
    for (mut metadata, change, expected) in cases {
        change(&mut metadata);
        let message = Tokenizer::from_metadata(&metadata).expect_err(&format!("{expected:?}")).to_string();
        for part in expected.iter().chain(&["m.gguf", "expected"]) {
            assert!(message.contains(part), "{message:?} does not say {part:?}");
        }
        assert!(!message.contains('\n'), "{message:?} is more than one line");
    }
}
