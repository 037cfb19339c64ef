//! Byte-level BPE: a list of merges over bytes (GPT-2, Llama 3, tekken).

use super::Vocabulary;
use super::error::{TokenizerError, keys, quoted};
use super::lexicon::Lexicon;
use super::merge::{Merge, Symbol, merge_all};
use super::split::SplitRule;
use super::vocabulary::TokenType;
use crate::gguf::StrArray;
use hashbrown::HashMap;
use std::ops::Range;

/// The tokens and merges of a byte-level vocabulary, decoded to plain bytes.
#[derive(Debug, Clone)]
pub(super) struct ByteLevel {
    /// The bytes of every token; those that text can become are indexed.
    tokens: Lexicon,
    /// What a pair of tokens becomes.
    merges: HashMap<(u32, u32), Merge>,
    /// The token of each byte.
    bytes: Box<[Option<u32>; 256]>,
    unk: Option<u32>,
    ignore_merges: bool,
}

impl ByteLevel {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        types: &[TokenType],
        rule: &SplitRule,
    ) -> Result<Self, TokenizerError> {
        let alphabet = Alphabet::new();
        let mut tokens = Lexicon::with_capacity(vocabulary.tokens.len());
        let mut decoded = Vec::new();
        for (token, &kind) in vocabulary.tokens.iter().zip(types) {
            // Special tokens are spelt plainly, and so is a token that strays from the alphabet.
            let plain = matches!(kind, TokenType::Control | TokenType::UserDefined | TokenType::Unknown);
            match !plain && alphabet.decode(token, &mut decoded) {
                true => tokens.push(decoded.iter().copied())?,
                false => tokens.push(token.iter().copied())?,
            }
        }
        let is_text =
            |kind: TokenType| matches!(kind, TokenType::Normal | TokenType::Undefined | TokenType::Byte);
        for (id, _) in (0u32..).zip(types).filter(|(_, kind)| is_text(**kind)) {
            tokens.index(id);
        }
        let bytes = Box::new(std::array::from_fn(|byte| tokens.get(&[byte as u8])));
        let merges = merges(&vocabulary.merges, &tokens, &alphabet)?;
        Ok(Self { tokens, merges, bytes, unk: vocabulary.unk, ignore_merges: rule.ignore_merges })
    }

    /// The bytes of every token.
    pub(super) fn lexicon(&self) -> &Lexicon {
        &self.tokens
    }

    /// The token of these bytes, among those that text can become.
    pub(super) fn id(&self, bytes: &[u8]) -> Option<u32> {
        self.tokens.get(bytes)
    }

    /// The tokens of one word, with the bytes each one covers.
    pub(super) fn tokenize(&self, word: &[u8]) -> Vec<(u32, Range<usize>)> {
        if let Some(id) = self.tokens.get(word).filter(|_| self.ignore_merges) {
            return vec![(id, 0..word.len())];
        }
        let symbol = |(start, &byte): (usize, &u8)| Symbol {
            start,
            len: 1,
            id: self.bytes[byte as usize],
            frozen: false,
        };
        let mut symbols: Vec<Symbol> = word.iter().enumerate().map(symbol).collect();
        merge_all(&mut symbols, |left, right| self.merges.get(&(left.id?, right.id?)).copied());
        // A byte without a token is unknown; where nothing stands for that, it is left out.
        let token = |symbol: Symbol| Some((symbol.id.or(self.unk)?, symbol.start..symbol.start + symbol.len));
        symbols.into_iter().filter_map(token).collect()
    }
}

/// Reads the merges in order of priority.
///
/// Merges that stand together and make the same token share a priority, so that the leftmost of them goes first. In a
/// list that was learned no token is made twice in a row. In one derived from ranks (tekken, Llama 3: every way to cut
/// a token in two, token after token) this is the rule of the rank-based original.
fn merges(
    list: &StrArray,
    tokens: &Lexicon,
    alphabet: &Alphabet,
) -> Result<HashMap<(u32, u32), Merge>, TokenizerError> {
    let mut merges = HashMap::with_capacity(list.len());
    let (mut left, mut right, mut both) = (Vec::new(), Vec::new(), Vec::new());
    let mut group: Option<Merge> = None;
    for (index, text) in list.iter().enumerate() {
        let bad = |expected: &str| {
            let found = format!("{} at index {index}", quoted(text));
            TokenizerError::key(keys::MERGES, found, expected)
        };
        let space = text.iter().skip(1).position(|&byte| byte == b' ').map(|at| at + 1);
        let space = space.ok_or_else(|| bad("two tokens and a space between them"))?;
        if !alphabet.decode(&text[..space], &mut left) || !alphabet.decode(&text[space + 1..], &mut right) {
            return Err(bad("two tokens in GPT-2's alphabet of bytes"));
        }
        both.clear();
        both.extend_from_slice(&left);
        both.extend_from_slice(&right);
        let ids = (tokens.get(&left), tokens.get(&right), tokens.get(&both));
        let (Some(a), Some(b), Some(id)) = ids else {
            return Err(bad("two tokens of the vocabulary that make a third one"));
        };
        let merge = match group {
            Some(merge) if merge.id == id => merge,
            _ => Merge { priority: u32::try_from(index).unwrap_or(u32::MAX), id },
        };
        group = Some(merge);
        merges.entry((a, b)).or_insert(merge);
    }
    Ok(merges)
}

/// GPT-2's way to write bytes as printable characters (`bytes_to_unicode` in openai/gpt-2's `encoder.py`): printable
/// Latin-1 stands for itself, the other bytes are U+0100 and up, in order.
struct Alphabet {
    /// For the characters below U+0144, their byte.
    bytes: [Option<u8>; 0x144],
}

impl Alphabet {
    fn new() -> Self {
        let mut bytes = [None; 0x144];
        let mut next = 0x100;
        for byte in 0..=255u8 {
            let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
            let character = if printable { byte as usize } else { next };
            next += usize::from(!printable);
            bytes[character] = Some(byte);
        }
        Self { bytes }
    }

    /// Replaces `out` by the bytes that `text` spells; false if it is not in the alphabet.
    fn decode(&self, text: &[u8], out: &mut Vec<u8>) -> bool {
        out.clear();
        let Ok(text) = std::str::from_utf8(text) else { return false };
        text.chars().all(|character| {
            let byte = self.bytes.get(character as usize).copied().flatten();
            out.extend(byte);
            byte.is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_spells_every_byte_once() {
        let alphabet = Alphabet::new();
        let mut spelt: Vec<u8> = alphabet.bytes.iter().flatten().copied().collect();
        spelt.sort_unstable();
        assert_eq!(spelt, (0..=255).collect::<Vec<u8>>());
        let mut bytes = Vec::new();
        assert!(alphabet.decode("ĠtheĊ".as_bytes(), &mut bytes));
        assert_eq!(bytes, b" the\n");
        assert!(!alphabet.decode("a b".as_bytes(), &mut bytes), "a plain space is not in the alphabet");
        assert!(!alphabet.decode("日".as_bytes(), &mut bytes));
    }
}
