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
