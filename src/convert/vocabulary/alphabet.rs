//! The characters that stand for bytes in byte-level vocabularies (GPT-2's).

/// A character for each byte.
pub(super) struct Alphabet([char; 256]);

impl Alphabet {
    /// Printable bytes stand for themselves; the others follow from U+0100 on.
    pub fn new() -> Alphabet {
        let mut next = 0x100;
        Alphabet(std::array::from_fn(|byte| {
            let byte = byte as u8;
            if matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff) {
                return char::from(byte);
            }
            next += 1;
            char::from_u32(next - 1).expect("there are fewer than 256")
        }))
    }

    /// Bytes in the alphabet.
    pub fn spell(&self, bytes: &[u8]) -> String {
        bytes.iter().map(|&byte| self.0[usize::from(byte)]).collect()
    }
}
