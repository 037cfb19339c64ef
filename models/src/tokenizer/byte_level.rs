//! Byte-level BPE: a list of merges over bytes (GPT-2, Llama 3, tekken).

use super::Vocabulary;
use super::error::{TokenizerError, keys, quoted};
use super::lexicon::Lexicon;
use super::merge::{Merge, Symbol, merge_all};
use super::split::SplitRule;
use super::vocabulary::TokenType;
use crate::gguf::StrArray;
use std::ops::Range;

/// The tokens and merges of a byte-level vocabulary, decoded to plain bytes.
#[derive(Debug, Clone)]
pub(super) struct ByteLevel {
    /// The bytes of every token; those that text can become are indexed.
    tokens: Lexicon,
    cuts: Cuts,
    /// The token of each byte.
    bytes: Box<[Option<u32>; 256]>,
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
        for (id, (token, &kind)) in (0..).zip(vocabulary.tokens.iter().zip(types)) {
            let is_text = matches!(kind, TokenType::Normal | TokenType::Undefined | TokenType::Byte);
            decoded.clear();
            // Special tokens are spelt plainly, and so is a token that strays from the alphabet.
            let spelt = is_text && alphabet.decode(token, &mut decoded);
            tokens.push(if spelt { &decoded } else { token })?;
            if is_text {
                tokens.index(id);
            }
        }
        let bytes = Box::new(std::array::from_fn(|byte| tokens.get(&[byte as u8])));
        let cuts = Cuts::read(&vocabulary.merges, &tokens, &alphabet)?;
        Ok(Self { tokens, cuts, bytes, ignore_merges: rule.ignore_merges })
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
        merge_all(&mut symbols, |left, right| {
            let id = self.tokens.get(&word[left.start..right.start + right.len])?;
            let priority = self.cuts.priority(id, left.len)?;
            Some(Merge { priority, id })
        });
        // A byte that has no token is left out: vocabularies learned without some rare byte have nothing to say it.
        // (Their unknown token is an end of text, which must not come out of plain text.)
        let token = |symbol: Symbol| Some((symbol.id?, symbol.start..symbol.start + symbol.len));
        symbols.into_iter().filter_map(token).collect()
    }
}

/// The merges, by what they make: a merge is a token and the place where it is cut in two.
///
/// This takes one search per token to read (a list has several merges per token, next to each other), where a map from
/// pairs of tokens takes three per merge.
#[derive(Debug, Clone)]
struct Cuts {
    /// The cuts of token `id` are those from `first[id]` to `first[id + 1]`.
    first: Vec<u32>,
    /// Length of the left half in bytes, and priority.
    cuts: Vec<(u32, u32)>,
}

impl Cuts {
    /// Reads a list of merges in order of priority.
    ///
    /// Merges that stand together and make the same token share a priority, so that the leftmost of them goes first.
    /// In a list that was learned no token is made twice in a row. In one derived from ranks (tekken, Llama 3: every
    /// way to cut a token in two, token after token) this is the rule of the rank-based original.
    fn read(list: &StrArray, tokens: &Lexicon, alphabet: &Alphabet) -> Result<Self, TokenizerError> {
        let mut merges = Vec::with_capacity(list.len());
        let (mut both, mut previous) = (Vec::new(), Vec::new());
        let mut made = None;
        for (index, text) in list.iter().enumerate() {
            let bad = |expected: &str| {
                let found = format!("{} at index {index}", quoted(text));
                TokenizerError::key(keys::MERGES, found, expected)
            };
            let space =
                text.iter().position(|&byte| byte == b' ').filter(|&at| at > 0 && at + 1 < text.len());
            let space = space.ok_or_else(|| bad("two tokens and a space between them"))?;
            both.clear();
            let left = alphabet.decode(&text[..space], &mut both).then_some(both.len());
            let right = alphabet.decode(&text[space + 1..], &mut both).then_some(both.len());
            let (Some(left), Some(_)) = (left, right) else {
                return Err(bad("two tokens in GPT-2's alphabet of bytes"));
            };
            let (id, priority) = match made.filter(|_| both == previous) {
                Some(merge) => merge,
                None => {
                    let id = tokens.get(&both).ok_or_else(|| bad("two tokens that make a third one"))?;
                    (id, u32::try_from(index).unwrap_or(u32::MAX))
                }
            };
            made = Some((id, priority));
            std::mem::swap(&mut both, &mut previous);
            merges.push((id, left as u32, priority));
        }
        // Sorted by token, in the order of the list for each.
        let mut first = vec![0u32; tokens.len() + 1];
        for &(id, ..) in &merges {
            first[id as usize + 1] += 1;
        }
        for id in 0..tokens.len() {
            first[id + 1] += first[id];
        }
        let mut next = first.clone();
        let mut cuts = vec![(0, 0); merges.len()];
        for (id, left, priority) in merges {
            cuts[next[id as usize] as usize] = (left, priority);
            next[id as usize] += 1;
        }
        Ok(Self { first, cuts })
    }

    /// The priority of making token `id` from a left half of `left` bytes and the rest, if the list has it.
    fn priority(&self, id: u32, left: usize) -> Option<u32> {
        let cuts = &self.cuts[self.first[id as usize] as usize..self.first[id as usize + 1] as usize];
        cuts.iter().find(|cut| cut.0 as usize == left).map(|cut| cut.1)
    }
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

    /// Appends the bytes that `text` spells; false if it is not in the alphabet, or not UTF-8.
    fn decode(&self, text: &[u8], out: &mut Vec<u8>) -> bool {
        let mut rest = text;
        while let [first, after @ ..] = rest {
            // All characters of the alphabet are one or two bytes of UTF-8.
            let (character, after) = match (first, after) {
                (0..0x80, _) => (*first as usize, after),
                (0xc2..0xe0, [second @ 0x80..0xc0, after @ ..]) => {
                    ((*first as usize & 0x1f) << 6 | (*second as usize & 0x3f), after)
                }
                _ => return false,
            };
            let Some(byte) = self.bytes.get(character).copied().flatten() else { return false };
            out.push(byte);
            rest = after;
        }
        true
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
        assert!(alphabet.decode("a".as_bytes(), &mut bytes), "appends");
        assert_eq!(bytes, b" the\na");
        assert!(!alphabet.decode("a b".as_bytes(), &mut bytes), "a plain space is not in the alphabet");
        assert!(!alphabet.decode("日".as_bytes(), &mut bytes));
        assert!(!alphabet.decode(&"é".as_bytes()[..1], &mut bytes), "a character cut short");
    }
}
