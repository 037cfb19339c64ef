//! Which tokens begin a text.

use bise_models::tokenizer::Tokenizer;

/// The tokens of a vocabulary that stand for text, in the order of their bytes.
#[derive(Clone, Debug)]
pub struct Spelling {
    tokenizer: Tokenizer,
    ids: Vec<u32>,
    has_all_bytes: bool,
}

impl Spelling {
    /// Leaves out control and unknown tokens, which are no text, and tokens without bytes.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        use bise_models::tokenizer::TokenType::{Byte, Normal, UserDefined};
        let is_text = |id: &u32| {
            matches!(tokenizer.token_type(*id), Some(Normal | UserDefined | Byte))
                && !tokenizer.is_end_of_generation(*id)
                && !tokenizer.piece(*id).is_empty()
        };
        let mut ids: Vec<u32> = (0..tokenizer.n_vocab() as u32).filter(is_text).collect();
        ids.sort_by(|a, b| tokenizer.piece(*a).cmp(tokenizer.piece(*b)).then(a.cmp(b)));
        let mut has = [false; 256];
        for id in &ids {
            if let [byte] = tokenizer.piece(*id) {
                has[usize::from(*byte)] = true;
            }
        }
        // Those that UTF-8 never has may be missing.
        let has_all_bytes = (0..=0xf4).all(|byte| has[byte] || matches!(byte, 0xc0 | 0xc1));
        Self { tokenizer: tokenizer.clone(), ids, has_all_bytes }
    }

    /// Whether every text has tokens, if it be byte by byte.
    pub fn has_all_bytes(&self) -> bool {
        self.has_all_bytes
    }

    /// The bytes of a token; empty for one that is no text.
    pub fn piece(&self, id: u32) -> &[u8] {
        if self.tokenizer.is_control(id) { &[] } else { self.tokenizer.piece(id) }
    }

    /// Calls `each(token, bytes)` for every token that is text.
    pub fn each(&self, each: &mut dyn FnMut(u32, &[u8])) {
        self.ids.iter().for_each(|id| each(*id, self.tokenizer.piece(*id)));
    }

    /// Calls `each(token, n_bytes)` for every token whose bytes are the first `n_bytes` of `text`.
    pub fn each_prefix(&self, text: &[u8], each: &mut dyn FnMut(u32, usize)) {
        let piece = |id: &u32| self.tokenizer.piece(*id);
        let mut tokens = &self.ids[..];
        // Narrowed byte by byte: those that share the first n bytes with the text stand together.
        for n in 1..=text.len() {
            let start = tokens.partition_point(|id| piece(id) < &text[..n]);
            tokens = &tokens[start..];
            let end = tokens.partition_point(|id| piece(id).starts_with(&text[..n]));
            tokens = &tokens[..end];
            for &id in tokens.iter().take_while(|id| piece(id).len() == n) {
                each(id, n);
            }
            if tokens.is_empty() {
                break;
            }
        }
    }
}
