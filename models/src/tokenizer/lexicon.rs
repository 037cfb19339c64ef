//! Byte strings numbered from 0, in one allocation, looked up by content.

use super::error::{TokenizerError, keys};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Strings with consecutive ids; those that were indexed can be looked up.
#[derive(Debug, Default)]
pub(super) struct Lexicon {
    bytes: Vec<u8>,
    /// Where each string ends in `bytes`.
    ends: Vec<u32>,
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    longest: usize,
}

impl Lexicon {
    /// An empty lexicon with room for `n` strings.
    ///
    /// # Errors
    ///
    /// If there is no memory for them.
    pub(super) fn with_capacity(n: usize) -> Result<Self, TokenizerError> {
        let mut lexicon = Self::default();
        let Self { bytes, ends, index, hasher, .. } = &mut lexicon;
        let reserved = bytes.try_reserve_exact(n.saturating_mul(8)).is_ok()
            && ends.try_reserve_exact(n).is_ok()
            && index.try_reserve(n, |_| hasher.hash_one(0)).is_ok();
        match reserved {
            true => Ok(lexicon),
            false => {
                let found = format!("{n} tokens");
                Err(TokenizerError::key(keys::TOKENS, found, "no more than there is memory for"))
            }
        }
    }

    /// Gives back the memory that was reserved for more strings.
    pub(super) fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Appends a string; its id is the number of strings before it.
    ///
    /// # Errors
    ///
    /// If all strings together have 4 GiB or more.
    pub(super) fn push(&mut self, string: &[u8]) -> Result<(), TokenizerError> {
        self.bytes.extend_from_slice(string);
        let end = u32::try_from(self.bytes.len())
            .map_err(|_| TokenizerError::key(keys::TOKENS, "4 GiB of text or more", "less"))?;
        self.ends.push(end);
        Ok(())
    }

    /// Makes string `id` findable. Of equal strings the one indexed last is found; returns the one it replaces.
    pub(super) fn index(&mut self, id: u32) -> Option<u32> {
        let Self { bytes, ends, index, hasher, longest } = self;
        let string = slice(bytes, ends, id);
        *longest = string.len().max(*longest);
        let hash = hasher.hash_one(string);
        let is_same = |&other: &u32| slice(bytes, ends, other) == string;
        match index.entry(hash, is_same, |&other| hasher.hash_one(slice(bytes, ends, other))) {
            Entry::Occupied(mut other) => Some(std::mem::replace(other.get_mut(), id)),
            Entry::Vacant(place) => {
                place.insert(id);
                None
            }
        }
    }

    /// The id of an indexed string.
    pub(super) fn get(&self, string: &[u8]) -> Option<u32> {
        if string.len() > self.longest {
            return None;
        }
        let hash = self.hasher.hash_one(string);
        self.index.find(hash, |&id| self.string(id) == string).copied()
    }

    /// The bytes of string `id`; empty for an id that does not exist.
    pub(super) fn string(&self, id: u32) -> &[u8] {
        if (id as usize) < self.ends.len() { slice(&self.bytes, &self.ends, id) } else { &[] }
    }

    /// Heap memory in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        self.bytes.capacity() + size_of::<u32>() * self.ends.capacity() + self.index.allocation_size()
    }

    /// The number of strings.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }
}

fn slice<'a>(bytes: &'a [u8], ends: &[u32], id: u32) -> &'a [u8] {
    let start = if id == 0 { 0 } else { ends[id as usize - 1] };
    &bytes[start as usize..ends[id as usize] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_indexed_and_prefers_the_last() {
        let mut lexicon = Lexicon::with_capacity(4).unwrap();
        for string in ["a", "", "bc", "a"] {
            lexicon.push(string.as_bytes()).unwrap();
        }
        assert_eq!([0, 1, 3].map(|id| lexicon.index(id)), [None, None, Some(0)]);
        assert_eq!(lexicon.get(b"a"), Some(3));
        assert_eq!(lexicon.get(b""), Some(1));
        assert_eq!(lexicon.get(b"bc"), None, "not indexed");
        assert_eq!(lexicon.string(2), b"bc");
        assert_eq!(lexicon.string(9), b"");
        assert_eq!(lexicon.len(), 4);
    }
}
