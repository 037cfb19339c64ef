//! How byte-level vocabularies split text into words before merging: one rule per `tokenizer.ggml.pre`.

use super::error::{TokenizerError, keys, quoted};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::SplitDelimiterBehavior;

/// GPT-2's own expression (its last branch, `|\s+`, is left to what no branch matches, which is the same words).
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)";

/// Mistral's tekken, as `tekken.json` gives it: words change at a capital, digits stand alone.
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Llama 3, as its `tokenizer.json` gives it: digits in groups of three.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// What a value of `tokenizer.ggml.pre` implies.
#[derive(Debug)]
pub(super) struct SplitRule {
    /// The names that mean this rule.
    names: &'static [&'static str],
    /// Expressions, applied one after the other to the pieces of the one before; what lies between matches is a piece.
    patterns: &'static [&'static str],
    /// A word that is itself a token is that token, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether text starts with BOS where the file does not say.
    pub add_bos: bool,
}

/// The rules we know. Facts from the tokenizers' own files and from llama.cpp's `llama-vocab.cpp`.
const RULES: [SplitRule; 5] = [
    SplitRule { names: &["tekken"], patterns: &[TEKKEN], ignore_merges: true, add_bos: true },
    SplitRule {
        names: &["llama-bpe", "llama3", "llama-v3", "pixtral"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    SplitRule { names: &["smollm"], patterns: &[r"\p{N}", GPT2], ignore_merges: false, add_bos: false },
    SplitRule { names: &["gpt-2"], patterns: &[GPT2], ignore_merges: false, add_bos: false },
    SplitRule {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ignore_merges: false,
        add_bos: false,
    },
];

impl SplitRule {
    /// The rule with this name.
    pub(super) fn by_name(name: &str) -> Option<&'static Self> {
        const { &RULES }.iter().find(|rule| rule.names.contains(&name))
    }

    /// The rule with this name, or an error that lists those we know.
    pub(super) fn require(name: &str) -> Result<&'static Self, TokenizerError> {
        Self::by_name(name).ok_or_else(|| {
            let known: Vec<&str> = RULES.iter().flat_map(|rule| rule.names).copied().collect();
            TokenizerError::key(keys::PRE, quoted(name.as_bytes()), format!("one of {}", known.join(", ")))
        })
    }

    /// The splitter.
    pub(super) fn pre_tokenizer(&self) -> Sequence {
        let split = |pattern: &&str| {
            let pattern = SplitPattern::Regex((*pattern).to_owned());
            let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false);
            PreTokenizerWrapper::Split(split.expect("the patterns above are constants, and each is tested"))
        };
        Sequence::new(self.patterns.iter().map(split).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

    fn words(rule: &str, text: &str) -> Vec<String> {
        let mut split = PreTokenizedString::from(text);
        SplitRule::require(rule).unwrap().pre_tokenizer().pre_tokenize(&mut split).unwrap();
        let words = split.get_splits(OffsetReferential::Original, OffsetType::Byte);
        words.into_iter().map(|(word, _, _)| word.to_owned()).collect()
    }

    #[test]
    fn each_rule_splits_in_its_own_way() {
        let text = "It's 2024!! HelloWORLD\n\n  x";
        assert_eq!(
            words("tekken", text),
            ["It", "'s", " ", "2", "0", "2", "4", "!!", " Hello", "WORLD", "\n\n", " ", " x"]
        );
        assert_eq!(
            words("llama-bpe", text),
            ["It", "'s", " ", "202", "4", "!!", " HelloWORLD", "\n\n", " ", " x"]
        );
        assert_eq!(
            words("smollm", text),
            ["It", "'s", " ", "2", "0", "2", "4", "!!", " HelloWORLD", "\n\n ", " x"]
        );
        assert_eq!(words("gpt-2", text), ["It", "'s", " 2024", "!!", " HelloWORLD", "\n\n ", " x"]);
        assert_eq!(
            words("default", text),
            ["It", "'", "s", " ", "202", "4", "!!", " HelloWORLD", "\n\n ", " x"]
        );
    }

    #[test]
    fn an_unknown_rule_is_named_with_those_we_know() {
        let message = SplitRule::require("qwen2").unwrap_err().to_string();
        assert!(
            message.contains("\"qwen2\"") && message.contains("tekken") && message.contains("smollm"),
            "{message}"
        );
    }
}
