//! Numbers with a lower bound.

/// A number above 0.
///
/// # Errors
/// Anything else.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("found '{text}', expected a number above 0")),
        Ok(n) => Ok(n),
    }
}

/// A number from `least` to `most`.
#[cfg(feature = "compare")]
pub fn within(least: usize, most: usize) -> impl Fn(&str) -> Result<usize, String> + Clone {
    move |text| match text.parse() {
        Ok(n) if (least..=most).contains(&n) => Ok(n),
        _ => Err(format!("found '{text}', expected a number from {least} to {most}")),
    }
}

/// A number above 0, or -1 for as many as there are.
///
/// # Errors
/// Anything else.
pub fn positive_or_all(text: &str) -> Result<usize, String> {
    match text {
        "-1" => Ok(usize::MAX),
        _ => positive(text).map_err(|error| format!("{error}, or -1 for all")),
    }
}

/// The length of a context: a number of tokens, or 0 for what the model was trained for.
///
/// # Errors
/// Anything else.
pub fn context_length(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(n) if n < 1 << 31 => Ok(n),
        _ => Err(format!(
            "found '{text}', expected 0 (what the model was trained for) or a number of tokens below 2147483648"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_kept() {
        assert_eq!(positive("7"), Ok(7));
        assert!(positive("0").is_err() && positive("-1").is_err() && positive("x").is_err());
        assert_eq!(positive_or_all("-1"), Ok(usize::MAX));
        assert!(positive_or_all("-2").is_err() && positive_or_all("0").is_err());
        assert_eq!(context_length("0"), Ok(0));
        assert_eq!(context_length("2147483647"), Ok((1 << 31) - 1));
        assert!(context_length("2147483648").is_err() && context_length("-1").is_err());
    }
}
