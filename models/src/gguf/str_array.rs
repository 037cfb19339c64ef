//! Arrays of strings, used where they lie in the file.

use std::fmt;
use std::sync::Arc;

use super::mmap::TensorBytes;

/// Strings from one mark to the next.
const STEP: usize = 16;
/// Bytes of the length before each string.
const LEN_BYTES: usize = 8;

/// Many strings in the encoding of a little-endian file: each after its length in 8 bytes. An array in such a file is
/// borrowed from it, so a vocabulary of 131,072 tokens takes 64 KiB of memory.
///
/// Strings are bytes, since tokens need not be UTF-8. Clones share them.
#[derive(Clone, Default)]
pub struct StrArray {
    encoded: Encoded,
    len: usize,
    /// Where every 16th string begins, with its length.
    marks: Arc<Vec<usize>>,
}

#[derive(Clone)]
enum Encoded {
    Owned(Arc<Vec<u8>>),
    /// Part of a file. The lengths in it were checked, but another process may still change them.
    Borrowed(TensorBytes),
}

impl Default for Encoded {
    fn default() -> Encoded {
        Encoded::Owned(Arc::default())
    }
}

impl StrArray {
    /// The `len` strings that `bytes` hold. Where fewer are there, the rest are empty.
    pub(super) fn borrowed(bytes: TensorBytes, len: usize, marks: Vec<usize>) -> StrArray {
        debug_assert_eq!(marks.len(), StrArray::n_marks(len));
        StrArray { encoded: Encoded::Borrowed(bytes), len, marks: Arc::new(marks) }
    }

    /// An empty array with room for `len` strings that take `n_bytes` with their lengths.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(super) fn try_with_capacity(
        len: usize,
        n_bytes: usize,
    ) -> Result<StrArray, std::collections::TryReserveError> {
        let (mut bytes, mut marks) = (Vec::new(), Vec::new());
        bytes.try_reserve_exact(n_bytes)?;
        marks.try_reserve_exact(StrArray::n_marks(len))?;
        Ok(StrArray { encoded: Encoded::Owned(Arc::new(bytes)), len: 0, marks: Arc::new(marks) })
    }

    /// Marks that `len` strings have.
    pub(super) fn n_marks(len: usize) -> usize {
        len.div_ceil(STEP)
    }

    /// Whether string `i` has a mark.
    pub(super) fn is_marked(i: usize) -> bool {
        i.is_multiple_of(STEP)
    }

    /// Adds a string at the end.
    pub fn push(&mut self, text: &[u8]) {
        if let Encoded::Borrowed(bytes) = &self.encoded {
            self.encoded = Encoded::Owned(Arc::new(bytes.to_vec()));
        }
        let Encoded::Owned(bytes) = &mut self.encoded else { unreachable!("made so above") };
        let bytes = Arc::make_mut(bytes);
        if StrArray::is_marked(self.len) {
            Arc::make_mut(&mut self.marks).push(bytes.len());
        }
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text);
        self.len += 1;
    }

    /// Number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no strings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of string `i`, if there are that many. Reads the lengths of up to 15 strings before it.
    #[must_use]
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        self.iter_from(i).next()
    }

    /// The strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        self.iter_from(0)
    }

    /// The strings from string `i` on, in order; none if there are not that many.
    pub fn iter_from(&self, i: usize) -> impl ExactSizeIterator<Item = &[u8]> + Clone {
        let mark = self.marks.get(i / STEP).and_then(|mark| self.bytes().get(*mark..));
        let n_left = self.len.saturating_sub(i - i % STEP);
        let mut strings = Strings { rest: mark.unwrap_or_default(), n_left };
        for _ in 0..i % STEP {
            strings.next();
        }
        strings
    }

    fn bytes(&self) -> &[u8] {
        match &self.encoded {
            Encoded::Owned(bytes) => bytes,
            Encoded::Borrowed(bytes) => bytes,
        }
    }
}

/// The strings that are left.
#[derive(Clone)]
struct Strings<'a> {
    rest: &'a [u8],
    n_left: usize,
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.n_left = self.n_left.checked_sub(1)?;
        let split = self
            .rest
            .split_first_chunk::<LEN_BYTES>()
            .and_then(|(len, rest)| rest.split_at_checked(usize::try_from(u64::from_le_bytes(*len)).ok()?));
        let (text, rest) = split.unwrap_or_default();
        self.rest = rest;
        Some(text)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.n_left, Some(self.n_left))
    }
}

impl ExactSizeIterator for Strings<'_> {}

impl<T: AsRef<[u8]>> FromIterator<T> for StrArray {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> StrArray {
        let mut array = StrArray::default();
        texts.into_iter().for_each(|text| array.push(text.as_ref()));
        array
    }
}

impl PartialEq for StrArray {
    fn eq(&self, other: &StrArray) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for StrArray {}

impl fmt::Debug for StrArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(String::from_utf8_lossy)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::mmap::Storage;
    use super::*;

    #[test]
    fn strings_are_found_by_place_and_in_order() {
        for n in [0, 1, 15, 16, 17, 100] {
            let texts: Vec<String> = (0..n).map(|i| "é".repeat(i % 5)).collect();
            let array: StrArray = texts.iter().collect();
            assert_eq!((array.len(), array.iter().len()), (n, n));
            assert!(array.iter().eq(texts.iter().map(|text| text.as_bytes())));
            for (i, text) in texts.iter().enumerate() {
                assert_eq!(array.get(i), Some(text.as_bytes()), "{i} of {n}");
                assert_eq!(array.iter_from(i).len(), n - i);
            }
            assert_eq!((array.get(n), array.iter_from(n).len(), array.iter_from(n + 20).len()), (None, 0, 0));
        }
    }

    #[test]
    fn lengths_that_another_process_changed_are_no_more_than_wrong() {
        let array: StrArray = (0..40).map(|i| i.to_string()).collect();
        let Encoded::Owned(bytes) = &array.encoded else { panic!("built in memory") };
        for at in (0..bytes.len()).step_by(3) {
            let mut bytes = bytes.to_vec();
            bytes[at] = 0xff;
            let n_bytes = bytes.len();
            let bytes = TensorBytes::new(Arc::new(Storage::Owned(bytes)), 0..n_bytes);
            let changed = StrArray::borrowed(bytes, 40, array.marks.to_vec());
            assert_eq!(changed.iter().count(), 40);
            assert!((0..40).all(|i| changed.get(i).is_some()));
        }
    }

    #[test]
    fn a_borrowed_array_becomes_owned_where_it_grows() {
        let array: StrArray = ["a", "bc"].iter().collect();
        let bytes = array.bytes().to_vec();
        let n_bytes = bytes.len();
        let bytes = TensorBytes::new(Arc::new(Storage::Owned(bytes)), 0..n_bytes);
        let mut borrowed = StrArray::borrowed(bytes, 2, vec![0]);
        assert_eq!(borrowed, array);
        borrowed.push(b"d");
        assert_eq!(borrowed, ["a", "bc", "d"].iter().collect::<StrArray>());
        assert_ne!(borrowed, array);
    }
}
