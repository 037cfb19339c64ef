//! DRY's sequence breakers: from texts to sequences of tokens.

/// The longest breaker in bytes, and the longest tail in tokens: they bound the time DRY takes (llama.cpp's numbers).
const MAX_BYTES: usize = 40;
const MAX_TAIL: usize = 20;

/// A sequence of tokens that ends a repetition: a token, and those that must follow it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DryBreaker {
    /// The first token.
    pub head: u32,
    /// The others; mostly none.
    pub tail: Vec<u32>,
}

/// All sequences of tokens in which one of the texts may appear: every token that contains the text, and every token
/// that ends with a beginning of it, followed by the tokens of its rest.
///
/// `pieces` are the tokens of the vocabulary and their bytes; `tokenize` turns a text into tokens as they stand in the
/// middle of a text (no BOS, no control tokens, no space put before it). Empty texts are skipped, and long ones cut
/// after 40 bytes.
pub fn dry_breakers<'a>(
    texts: &[impl AsRef<str>],
    pieces: impl Iterator<Item = (u32, &'a [u8])>,
    mut tokenize: impl FnMut(&str) -> Vec<u32>,
) -> Vec<DryBreaker> {
    let texts: Vec<&str> = texts
        .iter()
        .map(|text| text.as_ref())
        .map(|text| &text[..text.floor_char_boundary(MAX_BYTES)])
        .filter(|text| !text.is_empty())
        .collect();
    let mut breakers = Vec::new();
    for (head, piece) in pieces {
        for text in &texts {
            let bytes = text.as_bytes();
            if piece.windows(bytes.len()).any(|window| window == bytes) {
                breakers.push(DryBreaker { head, tail: Vec::new() });
                continue;
            }
            // Only at the boundaries of characters is the rest a text that can be tokenized.
            let cuts = (1..bytes.len()).filter(|&cut| text.is_char_boundary(cut));
            for cut in cuts.filter(|&cut| piece.ends_with(&bytes[..cut])) {
                let mut tail = tokenize(&text[cut..]);
                tail.truncate(MAX_TAIL);
                breakers.push(DryBreaker { head, tail });
            }
        }
    }
    breakers.sort_unstable();
    breakers.dedup();
    breakers
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECES: [&str; 7] = ["\n", "a", "ab\n", "b", "xa", "é", "cab"];

    fn of(texts: &[&str]) -> Vec<(u32, Vec<u32>)> {
        let pieces = (0u32..).zip(PIECES.iter().map(|p| p.as_bytes()));
        // One token a character: its code point.
        let breakers = dry_breakers(texts, pieces, |text| text.chars().map(u32::from).collect());
        breakers.into_iter().map(|b| (b.head, b.tail)).collect()
    }

    #[test]
    fn tokens_that_contain_the_text() {
        assert_eq!(of(&["\n"]), [(0, vec![]), (2, vec![])]);
    }

    #[test]
    fn tokens_that_begin_the_text() {
        let b = u32::from('b');
        assert_eq!(of(&["ab"]), [(1, vec![b]), (2, vec![]), (4, vec![b]), (6, vec![])]);
    }

    #[test]
    fn characters_stay_whole_and_duplicates_go() {
        assert_eq!(of(&["éa", "éa", ""]), [(5, vec![u32::from('a')])]);
    }

    #[test]
    fn long_texts_are_cut() {
        let long = "b".repeat(100);
        let got = of(&[&long]);
        assert_eq!(got.len(), 2);
        assert!(got.iter().all(|(_, tail)| tail.len() == MAX_TAIL), "{got:?}");
    }
}
