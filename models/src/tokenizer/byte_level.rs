//! Byte-level BPE: a list of merges over bytes (GPT-2, Llama 3, tekken).

use super::error::{TokenizerError, keys, quoted};
use super::lexicon::Lexicon;
use super::merge::{Merge, Merger, NONE, Symbol};
use super::split::{SplitRule, Splitter};
use super::token_type::TokenType;
use super::vocabulary::Vocabulary;
use crate::gguf::StrArray;
use std::collections::HashMap;

/// The tokens and merges of a byte-level vocabulary, decoded to plain bytes.
#[derive(Debug)]
pub(super) struct ByteLevel {
    splitter: Splitter,
    /// The bytes of every token; those that text can become are indexed.
    tokens: Lexicon,
    merges: Merges,
    /// The token of each byte, or [`NONE`].
    bytes: Box<[u32; 256]>,
    ignore_merges: bool,
}

impl ByteLevel {
    pub(super) fn new(
        vocabulary: &Vocabulary,
        types: &[TokenType],
        rule: &SplitRule,
    ) -> Result<Self, TokenizerError> {
        let alphabet = Alphabet::new();
        let mut tokens = Lexicon::with_capacity(vocabulary.tokens.len())?;
        // Whether the token is spelled in the alphabet, and is the one that text with its bytes becomes.
        let mut spelled = vec![false; vocabulary.tokens.len()];
        let mut decoded = Vec::new();
        for (id, (token, &kind)) in (0..).zip(vocabulary.tokens.iter().zip(types)) {
            let is_text = matches!(kind, TokenType::Normal | TokenType::Undefined | TokenType::Byte);
            decoded.clear();
            // Special tokens are written as they are, and so is a token with characters outside the alphabet.
            spelled[id as usize] = is_text && alphabet.decode(token, &mut decoded);
            tokens.push(if spelled[id as usize] { &decoded } else { token })?;
            if is_text && let Some(other) = tokens.index(id) {
                spelled[other as usize] = false;
            }
        }
        tokens.shrink_to_fit();
        let bytes = Box::new(std::array::from_fn(|byte| tokens.get(&[byte as u8]).unwrap_or(NONE)));
        let merges = Merges::read(vocabulary, &spelled, &tokens, &alphabet)?;
        Ok(Self { splitter: rule.splitter(), tokens, merges, bytes, ignore_merges: rule.ignore_merges })
    }

    /// The bytes of every token.
    pub(super) fn lexicon(&self) -> &Lexicon {
        &self.tokens
    }

    /// Heap memory in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let bytes = size_of_val(&*self.bytes);
        self.splitter.heap_bytes() + self.tokens.heap_bytes() + self.merges.heap_bytes() + bytes
    }

    /// Appends the tokens of a text.
    pub(super) fn encode(&self, text: &str, tokens: &mut Vec<u32>) {
        let mut merger = Merger::default();
        self.splitter.split(text, |word| {
            let word = word.as_bytes();
            match self.tokens.get(word).filter(|_| self.ignore_merges) {
                Some(id) => tokens.push(id),
                None => {
                    self.merge(word, &mut merger);
                    // Bytes without a token are dropped, as some vocabularies lack rare ones. (Their unknown token is
                    // the end of text, which must not come out of plain text.)
                    tokens.extend(merger.symbols.iter().map(|symbol| symbol.id).filter(|&id| id != NONE));
                }
            }
        });
    }

    /// Leaves the symbols of a word in `merger`.
    fn merge(&self, word: &[u8], merger: &mut Merger) {
        merger.symbols.clear();
        merger.symbols.extend((0..).zip(word).map(|(start, &byte)| Symbol {
            start,
            len: 1,
            id: self.bytes[byte as usize],
        }));
        merger.merge(|left, right| {
            let id = self.tokens.get(Symbol { len: left.len + right.len, ..*left }.of(word))?;
            Some(Merge { priority: self.merges.priority(id, left.len + right.len, left.len)?, id })
        });
    }
}

/// The list of merges, by what they make: a merge is a token and the place where it is cut in two.
///
/// Merges that stand together in the list and make the same token are a group, and share the priority of the first of
/// them, so that the leftmost goes first. In a list that was learned no token is made twice in a row. In one derived
/// from ranks (tekken, Llama 3: every way to cut a token in two, token after token) this is the rule of the rank-based
/// original.
#[derive(Debug)]
struct Merges {
    /// For each token, where in the list its first group begins, or [`NONE`].
    first: Vec<u32>,
    /// The priorities of merges that are not in a token's first group, by token and length of the left half. Also those
    /// behind more merges of that group than there are ways to cut the token, which only a strange file has.
    others: HashMap<(u32, u32), u32>,
    /// For each merge of the list, the length of the left half in bytes, and whether it begins a group.
    cuts: Vec<u8>,
    /// The lengths that do not fit.
    long: HashMap<u32, u32>,
}

/// In [`Merges::cuts`]: the merge begins a group.
const BEGINS: u8 = 0x80;
/// In [`Merges::cuts`]: the length is in [`Merges::long`].
const LONG: u8 = 0x7f;

impl Merges {
    /// Reads the list, which is in order of priority. Where `spelled` is true, a merge that spells the token as the file
    /// does makes this token and no other.
    fn read(
        vocabulary: &Vocabulary,
        spelled: &[bool],
        tokens: &Lexicon,
        alphabet: &Alphabet,
    ) -> Result<Self, TokenizerError> {
        let list: &StrArray = &vocabulary.merges;
        if list.len() >= NONE as usize {
            return Err(TokenizerError::key(
                keys::MERGES,
                format!("{} merges", list.len()),
                "fewer than 2^32 - 1",
            ));
        }
        let mut merges = Self {
            first: vec![NONE; tokens.len()],
            others: HashMap::new(),
            cuts: Vec::with_capacity(list.len()),
            long: HashMap::new(),
        };
        let mut bytes = Vec::new();
        // The token that the last merge made, and the one after it: nearly always the next merge makes one of the two.
        let mut likely: [Option<(u32, &[u8])>; 2] = [None, None];
        let mut following = vocabulary.tokens.iter_from(0);
        let mut made = None;
        // Where the group began that the last merge is in.
        let mut group = 0;
        for (index, text) in (0u32..).zip(list.iter()) {
            let cut = |likely: Option<(u32, &[u8])>| {
                likely.and_then(|(id, token)| Some((id, cut_of(text, token)?)))
            };
            let expected = cut(likely[0]).or_else(|| cut(likely[1]));
            let (id, left) = match expected {
                Some(expected) => expected,
                None => decode_merge(text, tokens, alphabet, &mut bytes).map_err(|expected| {
                    let found = format!("{} at index {index}", quoted(text));
                    TokenizerError::key(keys::MERGES, found, expected)
                })?,
            };
            let begins = if made == Some(id) { 0 } else { BEGINS };
            match u8::try_from(left) {
                Ok(left) if left < LONG => merges.cuts.push(begins | left),
                _ => {
                    merges.cuts.push(begins | LONG);
                    merges.long.insert(index, left);
                }
            }
            if begins != 0 {
                group = index;
                if merges.first[id as usize] == NONE {
                    merges.first[id as usize] = index;
                }
            }
            if merges.first[id as usize] != group || (index - group) as usize >= tokens.string(id).len() {
                merges.others.entry((id, left)).or_insert(group);
            }
            if made != Some(id) {
                made = Some(id);
                let is_next = likely[1].is_some_and(|(next, _)| next == id);
                if !is_next {
                    following = vocabulary.tokens.iter_from(id as usize);
                    likely[1] = following.next().map(|token| (id, token));
                }
                let next = following.next().map(|token| (id + 1, token));
                likely = [likely[1], next].map(|likely| likely.filter(|(id, _)| spelled[*id as usize]));
            }
        }
        Ok(merges)
    }

    /// Heap memory in bytes, without the maps, which are empty in ordinary files.
    fn heap_bytes(&self) -> usize {
        size_of::<u32>() * self.first.capacity() + self.cuts.capacity()
    }

    /// The priority of making token `id`, of `len` bytes, from a left half of `left` bytes and the rest, if the list has
    /// it.
    fn priority(&self, id: u32, len: u32, left: u32) -> Option<u32> {
        let first = Some(self.first[id as usize]).filter(|&first| first != NONE)?;
        for (index, &cut) in (first..).zip(&self.cuts[first as usize..]).take(len as usize) {
            if index > first && cut & BEGINS != 0 {
                break;
            }
            let found = match cut & !BEGINS {
                LONG => self.long[&index],
                found => found.into(),
            };
            if found == left {
                return Some(first);
            }
        }
        self.others.get(&(id, left)).copied()
    }
}

/// Where a merge cuts a token in two, in bytes of the token: `Ġt he` cuts `Ġthe` at 2. `None` if it makes another one.
/// Both are spelled in GPT-2's alphabet.
fn cut_of(merge: &[u8], token: &[u8]) -> Option<u32> {
    if merge.len() != token.len() + 1 {
        return None;
    }
    let mut n_common = 0;
    let mut n_chars = 0;
    while n_common < token.len() && merge[n_common] == token[n_common] {
        n_chars += u32::from(token[n_common] & 0xc0 != 0x80);
        n_common += 1;
    }
    let is_cut = n_common > 0
        && n_common < token.len()
        && merge[n_common] == b' '
        && merge[n_common + 1..] == token[n_common..];
    is_cut.then_some(n_chars)
}

/// The token that a merge makes and where it cuts it, in bytes; else what is expected of a merge.
fn decode_merge(
    merge: &[u8],
    tokens: &Lexicon,
    alphabet: &Alphabet,
    bytes: &mut Vec<u8>,
) -> Result<(u32, u32), &'static str> {
    let space = merge.iter().position(|&byte| byte == b' ').filter(|&at| at > 0 && at + 1 < merge.len());
    let space = space.ok_or("two tokens and a space between them")?;
    let (left, right) = (&merge[..space], &merge[space + 1..]);
    bytes.clear();
    if !alphabet.decode(left, bytes) || !alphabet.decode(right, bytes) {
        return Err("two tokens in GPT-2's alphabet of bytes");
    }
    Ok((tokens.get(bytes).ok_or("two tokens that make a third one")?, n_chars(left)))
}

/// The number of characters, each of which is a byte in GPT-2's alphabet.
fn n_chars(text: &[u8]) -> u32 {
    text.iter().map(|&byte| u32::from(byte & 0xc0 != 0x80)).sum()
}

/// GPT-2's way of writing bytes as printable characters (`bytes_to_unicode` in openai/gpt-2's `encoder.py`): printable
/// Latin-1 stands for itself, the other bytes are U+0100 and up, in order.
struct Alphabet {
    /// The byte of each character below U+0144.
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
        // Most tokens are a word of printable ASCII, with or without a space before it.
        let (space, word) = text.strip_prefix("Ġ".as_bytes()).map_or((&b""[..], text), |word| (b" ", word));
        if word.iter().all(|byte| matches!(byte, 0x21..=0x7e)) {
            out.extend_from_slice(space);
            out.extend_from_slice(word);
            return true;
        }
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
    fn a_merge_cuts_a_token() {
        let cut = |merge: &str, token: &str| cut_of(merge.as_bytes(), token.as_bytes());
        assert_eq!(cut("Ġt he", "Ġthe"), Some(2));
        assert_eq!(cut("a a", "aa"), Some(1));
        for (merge, token) in
            [(" the", "the"), ("the ", "the"), ("t he", "thx"), ("the", "the"), ("txhe", "the")]
        {
            assert_eq!(cut(merge, token), None, "{merge:?} of {token:?}");
        }
    }

    #[test]
    fn the_alphabet_spells_every_byte_once() {
        let alphabet = Alphabet::new();
        let mut spelled: Vec<u8> = alphabet.bytes.iter().flatten().copied().collect();
        spelled.sort_unstable();
        assert_eq!(spelled, (0..=255).collect::<Vec<u8>>());
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
