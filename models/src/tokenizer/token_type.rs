//! The kinds of tokens that GGUF tells apart.

/// The kind of a token, as GGUF numbers them (`tokenizer.ggml.token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenType {
    /// 0: an old file that does not say; treated as text.
    Undefined = 0,
    /// 1: ordinary text, reached by merging.
    Normal = 1,
    /// 2: stands for text that the vocabulary cannot represent.
    Unknown = 2,
    /// 3: structure, such as `<s>` or `[INST]`; never made from plain text.
    Control = 3,
    /// 4: an added token, such as `<tool_call>`: text is cut at it, and it is shown when decoded.
    UserDefined = 4,
    /// 5: not in use.
    Unused = 5,
    /// 6: one byte, written `<0x0A>`.
    Byte = 6,
}

impl TokenType {
    /// The type with this number in a GGUF file.
    pub fn from_gguf(number: i32) -> Option<Self> {
        Some(match number {
            0 => Self::Undefined,
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }

    /// Whether the file calls the token text, in so many words or by saying nothing.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Normal | Self::Undefined)
    }
}

/// The byte that a piece like `<0x0A>` stands for.
pub(super) fn parse_byte(piece: &[u8]) -> Option<u8> {
    let digits = piece.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}
