//! A vocabulary as grammars need it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use bise_models::tokenizer::{EncodeOptions, TokenType, Tokenizer};
use llguidance::ParserFactory;
use llguidance::api::{GrammarInit, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use toktrie::{INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::ConstraintError;
use super::guided::Guided;

/// Longer tokens are never allowed. A trie has room for 1024 levels, and real tokens have fewer than 300 bytes.
const MAX_TOKEN_BYTES: usize = 512;
/// Bytes in all tokens, at most: a trie has room for 2^22 nodes below one.
const MAX_BYTES: usize = (1 << 22) - 1;
/// A trie holds ids of 24 bits.
const MAX_TOKENS: usize = (1 << 24) - 1;

/// A vocabulary, prepared for grammars and JSON schemas. Cheap to clone: clones share everything. The preparation takes some tenths of a
/// second for 131,072 tokens and happens when the first constraint is made, so keep one of these beside each tokenizer.
#[derive(Clone)]
pub struct Grammars {
    inner: Arc<Inner>,
}

struct Inner {
    tokenizer: Tokenizer,
    prepared: OnceLock<Result<Prepared, ConstraintError>>,
}

struct Prepared {
    factory: ParserFactory,
    /// Tokens that end a text.
    ends: Arc<[u32]>,
}

impl Grammars {
    /// For texts in the tokens of this tokenizer.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { inner: Arc::new(Inner { tokenizer: tokenizer.clone(), prepared: OnceLock::new() }) }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// Prepares the vocabulary now rather than for the first constraint.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`] if it is too large.
    pub fn prepare(&self) -> Result<(), ConstraintError> {
        self.prepared().map(|_| ())
    }

    /// The tokens by their bytes.
    pub(super) fn trie(&self) -> Result<&TokTrie, ConstraintError> {
        Ok(self.prepared()?.factory.tok_env().tok_trie())
    }

    /// A constraint by a grammar of llguidance.
    pub(super) fn guided(&self, grammar: TopLevelGrammar) -> Result<Guided, ConstraintError> {
        let Prepared { factory, ends } = self.prepared()?;
        // A schema may be such that compiling it panics; it comes from a stranger.
        let parser = catch_unwind(AssertUnwindSafe(|| {
            factory.create_parser_from_init(GrammarInit::Serialized(grammar), 0, 0)
        }));
        let message = match parser {
            Ok(Ok(parser)) => return Guided::new(ends.clone(), parser),
            Ok(Err(error)) => super::guided::first_line(&format!("{error:#}")),
            Err(_) => "it cannot be compiled".to_owned(),
        };
        Err(ConstraintError::Schema { at: String::new(), message })
    }

    fn prepared(&self) -> Result<&Prepared, ConstraintError> {
        let prepared = self.inner.prepared.get_or_init(|| Prepared::new(&self.inner.tokenizer));
        prepared.as_ref().map_err(Clone::clone)
    }
}

impl std::fmt::Debug for Grammars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grammars").field("n_vocab", &self.inner.tokenizer.n_vocab()).finish_non_exhaustive()
    }
}

impl Prepared {
    fn new(tokenizer: &Tokenizer) -> Result<Self, ConstraintError> {
        let n_vocab = tokenizer.n_vocab();
        let words = words(tokenizer);
        let n_bytes: usize = words.iter().map(Vec::len).sum();
        if n_vocab > MAX_TOKENS || n_bytes > MAX_BYTES {
            return Err(ConstraintError::Vocabulary { n_tokens: n_vocab, n_bytes });
        }
        let eos = tokenizer.eos().or_else(|| tokenizer.eot()).unwrap_or(INVALID_TOKEN);
        let trie = TokTrie::from(&TokRxInfo::new(n_vocab as u32, eos), &words);
        let environment: TokEnv = Arc::new(Environment { tokenizer: tokenizer.clone(), trie });
        let slices = SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&environment, InferenceCapabilities::default(), &slices)
            .map_err(|error| ConstraintError::Schema { at: String::new(), message: error.to_string() })?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        // A kilobyte or two each.
        limits.max_lexer_states = 50_000;
        let ends = (0..n_vocab as u32).filter(|id| tokenizer.is_end_of_generation(*id)).collect();
        Ok(Self { factory, ends })
    }
}

/// The bytes of each token; none for one that is not to be used, and a mark before the name of a control token.
fn words(tokenizer: &Tokenizer) -> Vec<Vec<u8>> {
    let n_vocab = tokenizer.n_vocab() as u32;
    let mut words: Vec<Vec<u8>> = (0..n_vocab)
        .map(|id| {
            let piece = tokenizer.piece(id);
            let is_text = matches!(
                tokenizer.token_type(id),
                Some(TokenType::Normal | TokenType::UserDefined | TokenType::Byte)
            );
            if piece.len() > MAX_TOKEN_BYTES {
                Vec::new()
            } else if tokenizer.is_control(id) || tokenizer.is_end_of_generation(id) {
                [&[TokTrie::SPECIAL_TOKEN_MARKER], piece].concat()
            } else if is_text && piece.first() != Some(&TokTrie::SPECIAL_TOKEN_MARKER) {
                piece.to_vec()
            } else {
                Vec::new()
            }
        })
        .collect();
    // One token for each text, and a byte's token only if there is no other.
    let mut ids: Vec<u32> = (0..n_vocab).filter(|id| !words[*id as usize].is_empty()).collect();
    let is_byte = |id: u32| tokenizer.token_type(id) == Some(TokenType::Byte);
    ids.sort_by(|a, b| {
        words[*a as usize].cmp(&words[*b as usize]).then(is_byte(*a).cmp(&is_byte(*b))).then(a.cmp(b))
    });
    let mut last: Option<u32> = None;
    for id in ids {
        match last {
            Some(last) if words[last as usize] == words[id as usize] => words[id as usize].clear(),
            _ => last = Some(id),
        }
    }
    words
}

/// What llguidance asks of a tokenizer.
struct Environment {
    tokenizer: Tokenizer,
    trie: TokTrie,
}

impl TokenizerEnv for Environment {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        std::str::from_utf8(text)
            .ok()
            .and_then(|text| self.tokenize(text))
            .unwrap_or_else(|| self.trie.greedy_tokenize(text))
    }
}

impl Environment {
    /// The tokens of a text inside a line; `None` if they do not spell it.
    fn tokenize(&self, text: &str) -> Option<Vec<TokenId>> {
        // Behind a newline, so that no space is put before the text.
        let plain = EncodeOptions { add_special: false, parse_special: false };
        let guard = self.tokenizer.encode("\n", plain);
        let tokens = self.tokenizer.encode(&format!("\n{text}"), plain);
        let tokens = tokens.strip_prefix(&guard[..])?;
        let spelled = tokens.iter().flat_map(|token| self.trie.token(*token));
        spelled.copied().eq(text.bytes()).then(|| tokens.to_vec())
    }
}
