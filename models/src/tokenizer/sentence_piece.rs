//! SentencePiece BPE: pieces with scores, unknown characters as bytes.
//!
//! The algorithm is that of `bpe_model.cc` in google/sentencepiece: characters merge where their concatenation is a
//! piece, the piece with the highest score first, leftmost among equals. Pair ranks, as in Hugging Face's BPE, cannot
//! express that: several pieces may share a score (Mistral's runs of spaces all have −10⁹).

use super::corrections;
use super::error::TokenizerError;
use super::lexicon::Lexicon;
use super::merge::{Merge, Merger, NONE, Symbol};
use super::token_type::{TokenType, parse_byte};
use super::vocabulary::Vocabulary;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

/// SentencePiece's stand-in for a space, U+2581.
const SPACE: &str = "\u{2581}";

/// The pieces of a SentencePiece vocabulary.
#[derive(Debug)]
pub(super) struct SentencePiece {
    /// The bytes that each token stands for, with plain spaces; those that merging can reach are indexed.
    surfaces: Lexicon,
    /// The merge priority of each piece; lower goes first.
    priorities: Vec<u32>,
    /// Pieces that may take part in merges but not remain: they are split again at the end. In order.
    unused: Vec<u32>,
    /// No piece has a space after another character, so words can be tokenized one at a time.
    splits_at_spaces: bool,
    /// The token of each byte, or [`NONE`].
    bytes: Box<[u32; 256]>,
    unk: Option<u32>,
}

impl SentencePiece {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        types: &[TokenType],
        warnings: &mut Vec<String>,
    ) -> Result<Self, TokenizerError> {
        let mut surfaces = Lexicon::with_capacity(vocabulary.tokens.len())?;
        let mut bytes = Box::new([NONE; 256]);
        let mut unused = Vec::new();
        let mut splits_at_spaces = true;
        for (id, (token, &kind)) in (0u32..).zip(vocabulary.tokens.iter().zip(types)) {
            match (kind, parse_byte(token)) {
                (TokenType::Byte, Some(byte)) => {
                    surfaces.push(&[byte])?;
                    bytes[byte as usize] = id;
                }
                (TokenType::Control | TokenType::Unknown, _) => surfaces.push(token)?,
                _ => surfaces.push(&with_spaces(token))?,
            }
            // Spaces are U+2581 in pieces, so text never becomes a piece with a plain one.
            let reachable = matches!(kind, TokenType::Normal | TokenType::Undefined | TokenType::Unused);
            if reachable && !token.contains(&b' ') {
                surfaces.index(id);
                let word = surfaces.string(id).trim_ascii_start();
                splits_at_spaces &= !word.contains(&b' ');
                if kind == TokenType::Unused {
                    unused.push(id);
                }
            }
        }
        surfaces.shrink_to_fit();
        Ok(Self {
            surfaces,
            priorities: corrections::priorities(vocabulary, types, warnings),
            // What an unused piece was merged from is remembered for the whole text, as in the original.
            splits_at_spaces: splits_at_spaces && unused.is_empty(),
            unused,
            bytes,
            unk: vocabulary.unk,
        })
    }

    /// The bytes that each token stands for.
    pub(super) fn lexicon(&self) -> &Lexicon {
        &self.surfaces
    }

    /// Heap memory in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let numbers = self.priorities.capacity() + self.unused.capacity() + self.bytes.len();
        self.surfaces.heap_bytes() + size_of::<u32>() * numbers
    }

    /// The token of a piece that text can become.
    pub(super) fn id(&self, piece: &[u8]) -> Option<u32> {
        self.surfaces.get(&with_spaces(piece))
    }

    /// Appends the tokens of a text.
    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) {
        // A space and what stands for one are the same to SentencePiece.
        let text =
            if text.contains(SPACE) { Cow::Owned(text.replace(SPACE, " ")) } else { Cow::Borrowed(text) };
        let mut merger = Merger::default();
        let mut after_unknown = false;
        let mut rest: &str = &text;
        while !rest.is_empty() {
            let (word, after) =
                rest.split_at(if self.splits_at_spaces { word_len(rest) } else { rest.len() });
            rest = after;
            self.encode_word(word, &mut merger);
            for symbol in &merger.symbols {
                let unknown = symbol.id == NONE;
                match symbol.id {
                    NONE => self.spell(symbol.of(word.as_bytes()), after_unknown, tokens),
                    id => tokens.push(id),
                }
                after_unknown = unknown;
            }
        }
    }

    /// Leaves the symbols of a word in `merger`.
    fn encode_word(&self, word: &str, merger: &mut Merger) {
        let bytes = word.as_bytes();
        merger.symbols.clear();
        merger.symbols.extend(word.char_indices().map(|(start, character)| {
            let range = start..start + character.len_utf8();
            let id = self.surfaces.get(&bytes[range.clone()]).unwrap_or(NONE);
            Symbol { start: start as u32, len: range.len() as u32, id }
        }));
        // Remembers where an unused piece was put together, by its text: the length of its left part.
        let halves = RefCell::new(HashMap::new());
        merger.merge(|left, right| {
            let whole = Symbol { len: left.len + right.len, ..*left }.of(bytes);
            let id = self.surfaces.get(whole)?;
            if self.is_unused(id) {
                halves.borrow_mut().insert(whole, left.len);
            }
            Some(Merge { priority: self.priorities[id as usize], id })
        });
        if !self.unused.is_empty() {
            let halves = halves.into_inner();
            let symbols = std::mem::take(&mut merger.symbols);
            symbols
                .into_iter()
                .for_each(|symbol| self.split_unused(bytes, symbol, &halves, &mut merger.symbols));
        }
    }

    fn is_unused(&self, id: u32) -> bool {
        self.unused.binary_search(&id).is_ok()
    }

    /// Appends `symbol`, or what it was merged from if it is a piece that must not remain.
    fn split_unused(&self, word: &[u8], symbol: Symbol, halves: &HashMap<&[u8], u32>, out: &mut Vec<Symbol>) {
        let mut rest = vec![symbol];
        while let Some(symbol) = rest.pop() {
            let unused = symbol.id != NONE && self.is_unused(symbol.id);
            match halves.get(symbol.of(word)).filter(|_| unused) {
                None => out.push(symbol),
                Some(&len) => {
                    let part = |start: u32, len: u32| {
                        let part = Symbol { start, len, id: NONE };
                        Symbol { id: self.surfaces.get(part.of(word)).unwrap_or(NONE), ..part }
                    };
                    rest.push(part(symbol.start + len, symbol.len - len));
                    rest.push(part(symbol.start, len));
                }
            }
        }
    }

    /// Appends the bytes of a character that is no piece. Where the vocabulary does not have them all, a run of such
    /// characters is one unknown token.
    fn spell(&self, character: &[u8], after_unknown: bool, tokens: &mut Vec<u32>) {
        let character = if character == b" " { SPACE.as_bytes() } else { character };
        let ids = character.iter().map(|&byte| self.bytes[byte as usize]);
        if !ids.clone().any(|id| id == NONE) {
            tokens.extend(ids);
        } else if !(after_unknown && tokens.last().copied() == self.unk) {
            tokens.extend(self.unk);
        }
    }
}

/// The length of the first word: spaces, and what follows them up to the next space.
fn word_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let spaces = bytes.iter().take_while(|&&byte| byte == b' ').count();
    spaces + bytes[spaces..].iter().take_while(|&&byte| byte != b' ').count()
}

/// A piece with U+2581 turned back into spaces. (Pieces need not be UTF-8 in a broken file.)
fn with_spaces(mut piece: &[u8]) -> Cow<'_, [u8]> {
    if !piece.contains(&SPACE.as_bytes()[0]) {
        return Cow::Borrowed(piece);
    }
    let mut text = Vec::with_capacity(piece.len());
    while let Some((&first, rest)) = piece.split_first() {
        match piece.strip_prefix(SPACE.as_bytes()) {
            Some(after) => {
                text.push(b' ');
                piece = after;
            }
            None => {
                text.push(first);
                piece = rest;
            }
        }
    }
    Cow::Owned(text)
}
