//! Tokens back to text, piece by piece, without ever cutting a character.

use super::Tokenizer;

/// Turns a stream of tokens into text as it arrives.
///
/// A character may be spread over several tokens; its bytes are held back until it is complete, so the strings that
/// [`push`](Self::push) returns can be shown at once, and together with [`finish`](Self::finish) they are exactly what
/// [`Tokenizer::decode`] returns for the same tokens. Bytes that are no UTF-8 become U+FFFD.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    skip_special: bool,
    /// The next text is the first, and a space that the vocabulary put before it is to go.
    strip_space: bool,
    /// The start of a character that is not complete.
    pending: Vec<u8>,
}

impl StreamDecoder {
    pub(super) fn new(tokenizer: Tokenizer, skip_special: bool, strip_space: bool) -> Self {
        Self { tokenizer, skip_special, strip_space, pending: Vec::new() }
    }

    /// The text that token `id` completes; often a word, sometimes nothing. An id outside of the vocabulary is nothing.
    pub fn push(&mut self, id: u32) -> String {
        self.append(id);
        let mut text = String::new();
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
        text
    }

    /// Ends the text: bytes that still wait for the rest of their character become U+FFFD. The decoder can go on, in
    /// the middle of a text.
    pub fn finish(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.pending).into_owned();
        self.pending.clear();
        text
    }

    /// Puts the bytes of a token behind those that wait.
    fn append(&mut self, id: u32) {
        let special = self.tokenizer.is_special(id);
        if special && self.skip_special {
            return;
        }
        let mut piece = self.tokenizer.piece(id);
        // Control tokens at the start leave the space to the first text; a byte token is never the space put there.
        if !special && std::mem::take(&mut self.strip_space) && !self.tokenizer.is_byte(id) {
            piece = piece.strip_prefix(b" ").unwrap_or(piece);
        }
        self.pending.extend_from_slice(piece);
    }
}

impl Tokenizer {
    /// The text of `tokens`. Control tokens are left out, or spelt as in the vocabulary.
    ///
    /// As in SentencePiece, the space that was put before the text is taken away again. Ids outside of the vocabulary
    /// are nothing; bytes that are no UTF-8 become U+FFFD.
    pub fn decode(&self, tokens: &[u32], skip_special: bool) -> String {
        let mut stream = StreamDecoder::new(self.clone(), skip_special, self.strips_space());
        tokens.iter().for_each(|&id| stream.append(id));
        String::from_utf8_lossy(&stream.pending).into_owned()
    }

    /// A decoder for tokens that start a text: drops the space that the vocabulary puts there.
    pub fn stream_from_start(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder::new(self.clone(), skip_special, self.strips_space())
    }

    /// A decoder for tokens that continue a prompt: every space is kept.
    pub fn stream(&self, skip_special: bool) -> StreamDecoder {
        StreamDecoder::new(self.clone(), skip_special, false)
    }
}
