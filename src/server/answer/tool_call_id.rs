//! Ids of tool calls as Mistral's templates want them: nine letters or digits.

use std::borrow::Cow;

use twox_hash::XxHash3_64;

/// The length that Mistral's templates ask for.
const LENGTH: usize = 9;

/// The id itself if it fits; otherwise one made of it, always the same for the same id. Clients bring ids of other services along
/// in their conversations, and templates refuse those.
pub fn fit(id: &str) -> Cow<'_, str> {
    if id.len() == LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Cow::Borrowed(id);
    }
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut hash = XxHash3_64::oneshot(id.as_bytes());
    let mut fitted = String::with_capacity(LENGTH);
    for _ in 0..LENGTH {
        fitted.push(char::from(DIGITS[(hash % 62) as usize]));
        hash /= 62;
    }
    Cow::Owned(fitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_nine_letters_or_digits() {
        assert_eq!(fit("abcDEF123"), "abcDEF123");
        for id in ["", "call_1", "toolu_01A09q90qw90lq917835lq9", "abc-EF123", "äöüßa"] {
            let fitted = fit(id);
            assert!(fitted.len() == 9 && fitted.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{fitted}");
            assert_eq!(fit(id), fitted);
        }
        assert_ne!(fit("call_1"), fit("call_2"));
    }
}
