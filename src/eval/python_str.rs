//! Methods of Python's `str`, where Rust's differ.

use std::borrow::Cow;

/// `str.isspace` of one character: White_Space and the four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// `str.rstrip()`.
pub fn rstrip(text: &str) -> &str {
    text.trim_end_matches(is_space)
}

/// Whether the text ends with white space; an empty one does not.
pub fn ends_with_space(text: &str) -> bool {
    text.chars().next_back().is_some_and(is_space)
}

/// Whether the text begins with white space; an empty one does not.
pub fn starts_with_space(text: &str) -> bool {
    text.chars().next().is_some_and(is_space)
}

/// `str.capitalize()`: the first character in title case, all others in lower case.
pub fn capitalize(text: &str) -> String {
    let Some(first) = text.chars().next() else { return String::new() };
    // Lowered as a whole: what a final sigma becomes depends on what comes before it.
    let lower = text.to_lowercase();
    let rest = &lower[first.to_lowercase().map(char::len_utf8).sum()..];
    format!("{}{rest}", titlecase(first))
}

/// The character in title case, by Unicode's SpecialCasing.txt and UnicodeData.txt.
fn titlecase(c: char) -> String {
    let code = u32::from(c);
    let upper = || c.to_uppercase();
    let prosgegrammeni = |code: u32| char::from_u32(code).expect("a Greek letter");
    match code {
        // Digraphs come in three cases: capital, title, small.
        0x1c4..=0x1c6 => "\u{1c5}".to_owned(),
        0x1c7..=0x1c9 => "\u{1c8}".to_owned(),
        0x1ca..=0x1cc => "\u{1cb}".to_owned(),
        0x1f1..=0x1f3 => "\u{1f2}".to_owned(),
        0x149 => upper().collect(),
        // Georgian has capitals, but no title case.
        0x10d0..=0x10ff => c.to_string(),
        // Greek with iota subscript, which stays below the letter.
        0x1f80..=0x1faf => prosgegrammeni(code | 8).to_string(),
        0x1fb3 | 0x1fbc | 0x1fc3 | 0x1fcc | 0x1ff3 | 0x1ffc => prosgegrammeni(code & !0xf | 0xc).to_string(),
        0x1fb2 | 0x1fb4 | 0x1fb7 | 0x1fc2 | 0x1fc4 | 0x1fc7 | 0x1ff2 | 0x1ff4 | 0x1ff7 => {
            let all: Vec<char> = upper().collect();
            all[..all.len() - 1].iter().copied().chain(['\u{345}']).collect()
        }
        _ => {
            let mut all = upper();
            let first = all.next();
            first.into_iter().chain(all.flat_map(char::to_lowercase)).collect()
        }
    }
}

/// Without the characters of `string.punctuation`, those of ASCII.
pub fn without_punctuation(text: &str) -> Cow<'_, str> {
    match text.contains(|c: char| c.is_ascii_punctuation()) {
        true => Cow::Owned(text.chars().filter(|c| !c.is_ascii_punctuation()).collect()),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// python3: `repr(text.capitalize())`
    #[test]
    fn capitalizing_lowers_the_rest() {
        for (text, want) in [
            ("", ""),
            ("then he HOLDS the Board.", "Then he holds the board."),
            ("\u{df}X", "Ssx"),
            ("\u{fb01}N", "Fin"),
            ("\u{1c6}abc", "\u{1c5}abc"),
            ("\u{3a3}\u{391}\u{3a3}", "\u{3a3}\u{3b1}\u{3c2}"),
            ("[Title] How", "[title] how"),
            (" Two", " two"),
            ("\u{130}STANBUL", "\u{130}stanbul"),
        ] {
            assert_eq!(capitalize(text), want);
        }
    }

    /// python3: every character whose `title()` is not its `upper()` with the rest in lower case
    #[test]
    fn titles_are_those_of_unicode() {
        let titles = [
            ('\u{149}', "\u{2bc}\u{4e}"),
            ('\u{1c4}', "\u{1c5}"),
            ('\u{1c5}', "\u{1c5}"),
            ('\u{1c6}', "\u{1c5}"),
            ('\u{1c7}', "\u{1c8}"),
            ('\u{1c8}', "\u{1c8}"),
            ('\u{1c9}', "\u{1c8}"),
            ('\u{1ca}', "\u{1cb}"),
            ('\u{1cb}', "\u{1cb}"),
            ('\u{1cc}', "\u{1cb}"),
            ('\u{1f1}', "\u{1f2}"),
            ('\u{1f2}', "\u{1f2}"),
            ('\u{1f3}', "\u{1f2}"),
            ('\u{1f80}', "\u{1f88}"),
            ('\u{1f81}', "\u{1f89}"),
            ('\u{1f82}', "\u{1f8a}"),
            ('\u{1f83}', "\u{1f8b}"),
            ('\u{1f84}', "\u{1f8c}"),
            ('\u{1f85}', "\u{1f8d}"),
            ('\u{1f86}', "\u{1f8e}"),
            ('\u{1f87}', "\u{1f8f}"),
            ('\u{1f88}', "\u{1f88}"),
            ('\u{1f89}', "\u{1f89}"),
            ('\u{1f8a}', "\u{1f8a}"),
            ('\u{1f8b}', "\u{1f8b}"),
            ('\u{1f8c}', "\u{1f8c}"),
            ('\u{1f8d}', "\u{1f8d}"),
            ('\u{1f8e}', "\u{1f8e}"),
            ('\u{1f8f}', "\u{1f8f}"),
            ('\u{1f90}', "\u{1f98}"),
            ('\u{1f91}', "\u{1f99}"),
            ('\u{1f92}', "\u{1f9a}"),
            ('\u{1f93}', "\u{1f9b}"),
            ('\u{1f94}', "\u{1f9c}"),
            ('\u{1f95}', "\u{1f9d}"),
            ('\u{1f96}', "\u{1f9e}"),
            ('\u{1f97}', "\u{1f9f}"),
            ('\u{1f98}', "\u{1f98}"),
            ('\u{1f99}', "\u{1f99}"),
            ('\u{1f9a}', "\u{1f9a}"),
            ('\u{1f9b}', "\u{1f9b}"),
            ('\u{1f9c}', "\u{1f9c}"),
            ('\u{1f9d}', "\u{1f9d}"),
            ('\u{1f9e}', "\u{1f9e}"),
            ('\u{1f9f}', "\u{1f9f}"),
            ('\u{1fa0}', "\u{1fa8}"),
            ('\u{1fa1}', "\u{1fa9}"),
            ('\u{1fa2}', "\u{1faa}"),
            ('\u{1fa3}', "\u{1fab}"),
            ('\u{1fa4}', "\u{1fac}"),
            ('\u{1fa5}', "\u{1fad}"),
            ('\u{1fa6}', "\u{1fae}"),
            ('\u{1fa7}', "\u{1faf}"),
            ('\u{1fa8}', "\u{1fa8}"),
            ('\u{1fa9}', "\u{1fa9}"),
            ('\u{1faa}', "\u{1faa}"),
            ('\u{1fab}', "\u{1fab}"),
            ('\u{1fac}', "\u{1fac}"),
            ('\u{1fad}', "\u{1fad}"),
            ('\u{1fae}', "\u{1fae}"),
            ('\u{1faf}', "\u{1faf}"),
            ('\u{1fb2}', "\u{1fba}\u{345}"),
            ('\u{1fb3}', "\u{1fbc}"),
            ('\u{1fb4}', "\u{386}\u{345}"),
            ('\u{1fb7}', "\u{391}\u{342}\u{345}"),
            ('\u{1fbc}', "\u{1fbc}"),
            ('\u{1fc2}', "\u{1fca}\u{345}"),
            ('\u{1fc3}', "\u{1fcc}"),
            ('\u{1fc4}', "\u{389}\u{345}"),
            ('\u{1fc7}', "\u{397}\u{342}\u{345}"),
            ('\u{1fcc}', "\u{1fcc}"),
            ('\u{1ff2}', "\u{1ffa}\u{345}"),
            ('\u{1ff3}', "\u{1ffc}"),
            ('\u{1ff4}', "\u{38f}\u{345}"),
            ('\u{1ff7}', "\u{3a9}\u{342}\u{345}"),
            ('\u{1ffc}', "\u{1ffc}"),
        ];
        for (c, want) in titles {
            assert_eq!(titlecase(c), want, "{c:?}");
        }
        assert_eq!(titlecase('\u{10d0}'), "\u{10d0}");
    }

    /// python3: `repr(text.strip())`
    #[test]
    fn stripping_knows_the_separators_of_ascii() {
        assert_eq!(strip("\u{1c}\u{a0} a\u{1f}b \u{85}\n"), "a\u{1f}b");
        assert_eq!(strip("\u{200b}a"), "\u{200b}a");
        assert_eq!(rstrip(" a \t\u{1e}"), " a");
        assert!(ends_with_space("a\u{3000}") && !ends_with_space("") && starts_with_space("\na"));
    }

    #[test]
    fn punctuation_is_that_of_ascii() {
        assert_eq!(without_punctuation("St. John's \u{2019}62!"), "St Johns \u{2019}62");
        assert_eq!(without_punctuation("a b"), "a b");
    }
}
