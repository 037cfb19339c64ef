//! Tokens back to text, piece by piece, without ever cutting a character.

use super::handle::Tokenizer;

/// Turns a stream of tokens into text as it arrives.
///
/// A character may be spread over several tokens, so its bytes are held back until it is complete. The strings that
/// [`push`](Self::push) returns can be shown at once, and together with [`finish`](Self::finish) they are exactly what
/// [`Tokenizer::decode`] returns for the same tokens. Bytes that are not UTF-8 become U+FFFD.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    skip_special: bool,
    /// The next text is the first one: drop the space that the vocabulary put before it.
    strip_space: bool,
    /// The start of an incomplete character.
    pending: Vec<u8>,
}

impl StreamDecoder {
    pub(super) fn new(tokenizer: Tokenizer, skip_special: bool, strip_space: bool) -> Self {
        Self { tokenizer, skip_special, strip_space, pending: Vec::new() }
    }

    /// The text that token `id` completes: often a word, sometimes nothing. An id outside the vocabulary gives nothing.
    pub fn push(&mut self, id: u32) -> String {
        let mut text = String::new();
        self.push_to(id, &mut text);
        text
    }

    /// [`push`](Self::push), appending to `text` instead of allocating a string.
    pub fn push_to(&mut self, id: u32, text: &mut String) {
        self.append(id);
        let mut rest = self.pending.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    rest = &[];
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(&String::from_utf8_lossy(valid));
                    rest = after;
                    let Some(invalid) = error.error_len() else { break };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[invalid..];
                }
            }
        }
        self.pending.drain(..self.pending.len() - rest.len());
    }

    /// Ends the text: bytes that still wait for the rest of their character become U+FFFD. The decoder can be used
    /// further, for what continues the text.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }

    /// Appends the bytes of a token to the pending ones.
    fn append(&mut self, id: u32) {
        let special = self.tokenizer.is_special(id);
        if special && self.skip_special {
            return;
        }
        let mut piece = self.tokenizer.piece(id);
        // The space is that of the first text, even behind control tokens; a byte piece is never it.
        if !special && std::mem::take(&mut self.strip_space) && !self.tokenizer.is_byte(id) {
            piece = piece.strip_prefix(b" ").unwrap_or(piece);
        }
        self.pending.extend_from_slice(piece);
    }
}

impl Tokenizer {
    /// The text of `tokens`. Control tokens are left out with `skip_special`, else spelled as in the vocabulary.
    ///
    /// As in SentencePiece, the space that was put before the text is removed again. Ids outside the vocabulary give
    /// nothing; bytes that are not UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> String {
        let mut stream = StreamDecoder::new(self.clone(), skip_special, self.strips_space());
        tokens.iter().for_each(|&id| stream.append(id));
        String::from_utf8_lossy(&stream.pending).into_owned()
    }

    /// A decoder for tokens that begin a text: drops the space that the vocabulary puts there.
    pub fn stream_from_start(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder::new(self.clone(), skip_special, self.strips_space())
    }

    /// A decoder for tokens that continue a prompt: every space is kept.
    pub fn stream(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder::new(self.clone(), skip_special, false)
    }
}
