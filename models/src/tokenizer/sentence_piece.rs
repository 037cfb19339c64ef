//! SentencePiece BPE: pieces with scores, unknown characters as bytes.
//!
//! The algorithm is that of `bpe_model.cc` in google/sentencepiece: characters merge where their concatenation is a
//! piece, the piece with the highest score first, leftmost among equals.

use super::lexicon::Lexicon;
use super::merge::{Merge, Symbol, merge_all};
use super::special::Matcher;
use super::vocabulary::TokenType;
use super::{TokenizerError, Vocabulary};
use std::collections::HashMap;

/// SentencePiece's stand-in for a space, U+2581.
pub(super) const SPACE: &str = "\u{2581}";

/// The pieces of a SentencePiece vocabulary.
#[derive(Debug, Clone)]
pub(super) struct SentencePiece {
    /// The pieces as the file spells them, spaces as U+2581; those that text can become are indexed.
    pieces: Lexicon,
    /// The bytes they stand for.
    surfaces: Lexicon,
    /// For each piece, its place when higher scores merge first.
    priorities: Vec<u32>,
    /// Pieces that may take part in merges but not remain: they are split again at the end.
    unused: Vec<bool>,
    has_unused: bool,
    /// Pieces that are one token wherever they stand.
    user_defined: Option<Matcher>,
    /// The tokens of the 256 bytes, if there are all of them.
    bytes: Option<Box<[u32; 256]>>,
    unk: Option<u32>,
}

impl SentencePiece {
    pub(super) fn new(vocabulary: &Vocabulary, types: &[TokenType]) -> Result<Self, TokenizerError> {
        let n_vocab = vocabulary.tokens.len();
        let mut pieces = Lexicon::with_capacity(n_vocab);
        let mut surfaces = Lexicon::with_capacity(n_vocab);
        let mut bytes = [None; 256];
        let mut user_defined = Vec::new();
        for (id, (token, &kind)) in (0u32..).zip(vocabulary.tokens.iter().zip(types)) {
            match kind {
                TokenType::UserDefined => {
                    // Converters write these with plain spaces.
                    let text = String::from_utf8_lossy(token).replace(' ', SPACE);
                    pieces.push(text.as_bytes())?;
                    user_defined.push((id, text.into_bytes()));
                }
                _ => pieces.push(token)?,
            }
            match kind {
                TokenType::Byte => {
                    if let Some(byte) = parse_byte(token) {
                        bytes[byte as usize] = Some(id);
                    }
                }
                TokenType::Control | TokenType::Unknown => {}
                _ => pieces.index(id),
            }
            match (kind, parse_byte(token)) {
                (TokenType::Byte, Some(byte)) => surfaces.push(&[byte])?,
                (TokenType::Control | TokenType::Unknown, _) => surfaces.push(token)?,
                _ => surfaces.push(&with_spaces(token))?,
            }
        }
        let all_bytes: Option<Vec<u32>> = bytes.into_iter().collect();
        let unused: Vec<bool> = types.iter().map(|&kind| kind == TokenType::Unused).collect();
        Ok(Self {
            pieces,
            surfaces,
            priorities: vocabulary.scores.iter().map(|&score| descending(score)).collect(),
            has_unused: unused.contains(&true),
            unused,
            user_defined: Matcher::new(user_defined)?,
            bytes: all_bytes.map(|ids| Box::new(std::array::from_fn(|byte| ids[byte]))),
            unk: vocabulary.unk,
        })
    }

    /// The pieces as the file spells them, but for user-defined ones, whose spaces are U+2581 too.
    pub(super) fn lexicon(&self) -> &Lexicon {
        &self.pieces
    }

    /// The bytes that a token stands for; empty outside of the vocabulary.
    pub(super) fn surface(&self, id: u32) -> &[u8] {
        self.surfaces.string(id)
    }

    /// The token of a piece that text can become, spelt with U+2581.
    pub(super) fn id(&self, piece: &[u8]) -> Option<u32> {
        self.pieces.get(piece)
    }

    /// The tokens of a text whose spaces are already U+2581, with the bytes of the text each one covers.
    pub(super) fn tokenize(&self, text: &str) -> Vec<(u32, std::ops::Range<usize>)> {
        let bytes = text.as_bytes();
        let mut symbols = self.symbols(text);
        // Remembers what an unused piece was made of, by its text: (start, length) of the left part and of the whole.
        let halves = std::cell::RefCell::new(HashMap::new());
        merge_all(&mut symbols, |left, right| {
            let whole = &bytes[left.start..right.start + right.len];
            let id = self.pieces.get(whole)?;
            if self.unused[id as usize] {
                halves.borrow_mut().insert(whole, left.len);
            }
            Some(Merge { priority: self.priorities[id as usize], id })
        });
        let mut tokens = Vec::with_capacity(symbols.len());
        if self.has_unused {
            let halves = halves.into_inner();
            let mut split = Vec::with_capacity(symbols.len());
            for symbol in symbols {
                self.split_unused(bytes, symbol, &halves, &mut split);
            }
            symbols = split;
        }
        let mut after_unknown = false;
        for symbol in symbols {
            let range = symbol.start..symbol.start + symbol.len;
            let unknown = symbol.id.is_none();
            match (symbol.id, &self.bytes) {
                (Some(id), _) => tokens.push((id, range)),
                (None, Some(ids)) => {
                    tokens.extend(range.map(|at| (ids[bytes[at] as usize], at..at + 1)));
                }
                // Without bytes, a run of unknown characters is one unknown token.
                (None, None) => match tokens.last_mut().filter(|_| after_unknown) {
                    Some((_, run)) => run.end = range.end,
                    None => tokens.extend(self.unk.map(|id| (id, range))),
                },
            }
            after_unknown = unknown;
        }
        tokens
    }

    /// One symbol per character, or per user-defined piece.
    fn symbols(&self, text: &str) -> Vec<Symbol> {
        let mut symbols = Vec::with_capacity(text.len());
        let mut characters = |range: std::ops::Range<usize>| {
            symbols.extend(text[range.clone()].char_indices().map(|(at, character)| {
                let (start, len) = (range.start + at, character.len_utf8());
                Symbol {
                    start,
                    len,
                    id: self.pieces.get(&text.as_bytes()[start..start + len]),
                    frozen: false,
                }
            }));
        };
        let Some(user_defined) = &self.user_defined else {
            characters(0..text.len());
            return symbols;
        };
        let mut frozen = Vec::new();
        let mut done = 0;
        for (range, id) in user_defined.leftmost_longest(text) {
            characters(done..range.start);
            done = range.end;
            frozen.push(Symbol { start: range.start, len: range.len(), id: Some(id), frozen: true });
        }
        characters(done..text.len());
        symbols.extend(frozen);
        symbols.sort_by_key(|symbol| symbol.start);
        symbols
    }

    /// Appends `symbol`, or what it was merged from if it is a piece that must not remain.
    fn split_unused(
        &self,
        text: &[u8],
        symbol: Symbol,
        halves: &HashMap<&[u8], usize>,
        out: &mut Vec<Symbol>,
    ) {
        let mut rest = vec![symbol];
        while let Some(symbol) = rest.pop() {
            let piece = &text[symbol.start..symbol.start + symbol.len];
            let unused = symbol.id.is_some_and(|id| self.unused[id as usize]);
            match halves.get(piece).filter(|_| unused) {
                None => out.push(symbol),
                Some(&len) => {
                    let part = |start: usize, len: usize| {
                        let id = self.pieces.get(&text[start..start + len]);
                        Symbol { start, len, id, frozen: false }
                    };
                    rest.push(part(symbol.start + len, symbol.len - len));
                    rest.push(part(symbol.start, len));
                }
            }
        }
    }
}

/// A piece with U+2581 turned back into spaces. (Pieces need not be UTF-8 in a broken file.)
fn with_spaces(mut piece: &[u8]) -> Vec<u8> {
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
    text
}

/// Maps scores to integers that grow as scores fall; equal scores (0 and −0 too) give equal integers.
fn descending(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 };
    !ascending
}

/// The byte that a piece like `<0x0A>` stands for.
pub(super) fn parse_byte(piece: &[u8]) -> Option<u8> {
    let digits = piece.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
