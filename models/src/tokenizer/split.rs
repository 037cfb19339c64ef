//! How byte-level vocabularies split text into words before merging: one rule per `tokenizer.ggml.pre`.

use super::error::{TokenizerError, keys, quoted};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::pool::Pool;
use regex_automata::{Anchored, Input};

// The originals of these expressions end in `|\s+(?!\S)|\s+`. An automaton cannot look ahead, so they end in `|\s+` here,
// and `Pattern::next` gives the last character of such a match back if more text follows.

/// GPT-2's own expression.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";

/// Mistral's tekken, as `tekken.json` gives it: words change at a capital, digits stand alone.
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+",
);

/// Llama 3, as its `tokenizer.json` gives it: digits in groups of three.
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
);

/// What converters call tekken where its `tokenizer.json` has Llama 3's expression, as those of Mistral Small 3.1 and
/// some later models do. That is a mistake, which `transformers` corrects with `fix_mistral_regex`: the models were
/// trained on tekken's own.
pub(super) const PIXTRAL: &str = "pixtral";

/// What a value of `tokenizer.ggml.pre` implies.
#[derive(Debug)]
pub(super) struct SplitRule {
    /// The values of `tokenizer.ggml.pre` that mean this rule.
    names: &'static [&'static str],
    /// Expressions, each applied to the pieces of the one before; what lies between matches is a piece too.
    patterns: &'static [&'static str],
    /// A word that is in the vocabulary becomes that token, whatever the merges say.
    pub ignore_merges: bool,
    /// Whether text starts with BOS where the file does not say.
    pub add_bos: bool,
}

/// The rules we know. Facts from the tokenizers' own files and from llama.cpp's `llama-vocab.cpp`.
const RULES: [SplitRule; 6] = [
    SplitRule { names: &["tekken", PIXTRAL], patterns: &[TEKKEN], ignore_merges: true, add_bos: true },
    SplitRule {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "midm-2.0"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    SplitRule { names: &["smaug-bpe"], patterns: &[LLAMA3], ignore_merges: false, add_bos: false },
    SplitRule {
        names: &["smollm", "minerva-7b", "starcoder", "refact", "command-r"],
        patterns: &[r"\p{N}", GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    SplitRule {
        names: &["gpt-2", "phi-2", "trillion"],
        patterns: &[GPT2],
        ignore_merges: false,
        add_bos: false,
    },
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
    pub(super) fn splitter(&self) -> Splitter {
        Splitter { patterns: self.patterns.iter().map(|pattern| Pattern::new(pattern)).collect() }
    }
}

/// Splits text into words.
#[derive(Debug)]
pub(super) struct Splitter {
    patterns: Vec<Pattern>,
}

impl Splitter {
    /// Heap memory in bytes, with the states that have been built so far.
    pub(super) fn heap_bytes(&self) -> usize {
        let pattern =
            |pattern: &Pattern| pattern.dfa.get_nfa().memory_usage() + pattern.caches.get().memory_usage();
        self.patterns.iter().map(pattern).sum()
    }

    /// Calls `word` with each word of `text`, in order.
    pub(super) fn split<'t>(&self, text: &'t str, mut word: impl FnMut(&'t str)) {
        split(&self.patterns, text, &mut word);
    }
}

fn split<'t>(patterns: &[Pattern], text: &'t str, word: &mut dyn FnMut(&'t str)) {
    let Some((pattern, rest)) = patterns.split_first() else { return word(text) };
    let mut cache = pattern.caches.get();
    let mut done = 0;
    let mut at = 0;
    while at < text.len() {
        let Some(end) = pattern.next(&mut cache, text, at) else {
            at = text.ceil_char_boundary(at + 1);
            continue;
        };
        if done < at {
            split(rest, &text[done..at], word);
        }
        split(rest, &text[at..end], word);
        (done, at) = (end, end);
    }
    if done < text.len() {
        split(rest, &text[done..], word);
    }
}

type MakeCache = Box<dyn Fn() -> Cache + Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>;

/// An expression as a lazy DFA, whose states are built as they are needed: compiling takes a millisecond.
struct Pattern {
    dfa: std::sync::Arc<DFA>,
    caches: Pool<Cache, MakeCache>,
    /// The expression ends in `|\s+`; for the original `|\s+(?!\S)|\s+`.
    ends_in_spaces: bool,
    /// Line breaks have a branch of their own, before that one.
    has_line_breaks: bool,
}

impl Pattern {
    /// # Panics
    ///
    /// If `pattern` is not one of the constants above, each of which is tested.
    fn new(pattern: &str) -> Self {
        let nfa = thompson::Config::new().which_captures(thompson::WhichCaptures::None);
        let dfa = DFA::builder().thompson(nfa).build(pattern).expect("the patterns are constants");
        let dfa = std::sync::Arc::new(dfa);
        let make = {
            let dfa = dfa.clone();
            move || dfa.create_cache()
        };
        Self {
            dfa,
            caches: Pool::new(Box::new(make)),
            ends_in_spaces: pattern.ends_with(r"|\s+"),
            has_line_breaks: pattern.contains(r"|\s*[\r\n]+"),
        }
    }

    /// Where the match that begins at `at` ends; `None` if there is none, or it is empty.
    fn next(&self, cache: &mut Cache, text: &str, at: usize) -> Option<usize> {
        let input = Input::new(text).range(at..).anchored(Anchored::Yes);
        let found = self.dfa.try_search_fwd(cache, &input);
        let end = found.expect("the automaton has no bytes at which it gives up")?.offset();
        let last = text[at..end].chars().next_back()?;
        // No other branch ends in white space, but for that of line breaks.
        let spaces = self.ends_in_spaces
            && last.is_whitespace()
            && !(self.has_line_breaks && matches!(last, '\r' | '\n'));
        let shorter = end - last.len_utf8();
        Some(if spaces && end < text.len() && shorter > at { shorter } else { end })
    }
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pattern").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'t>(rule: &str, text: &'t str) -> Vec<&'t str> {
        let mut words = Vec::new();
        SplitRule::require(rule).unwrap().splitter().split(text, |word| words.push(word));
        words
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
