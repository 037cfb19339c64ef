//! A ceiling on memory, as it is written: `5G`, `auto`.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// The part of free memory that is left alone: page tables, and what others take meanwhile.
const SYSTEM_SHARE: usize = 32;

/// A ceiling on the memory of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    /// So many bytes.
    Bytes(usize),
    /// What the machine has free when the model is opened, or the process's control group where that is less.
    Auto,
}

/// Why a text is no ceiling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found '{found}', expected {expected}")]
pub struct ParseLimitError {
    found: String,
    expected: &'static str,
}

impl FromStr for MemoryLimit {
    type Err = ParseLimitError;

    /// `auto`, or a number of bytes with an optional suffix: `K`, `M`, `G` or `T`, powers of 1024 as in `docker run --memory`. The number
    /// may have a fraction (`1.5G`), and the suffix may be followed by `B` or `iB`.
    fn from_str(text: &str) -> Result<MemoryLimit, ParseLimitError> {
        let error = |expected| ParseLimitError { found: text.to_owned(), expected };
        let wrong = || error("a size as in 5G, 800M or 5000000000, or auto");
        if text.eq_ignore_ascii_case("auto") {
            return Ok(MemoryLimit::Auto);
        }
        let (number, suffix) =
            text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
        let shift = match suffix.to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) || (shift == 0 && number.contains('.')) {
            return Err(wrong());
        }
        let too_large = || error("a size that this machine can address");
        let whole: u128 = whole.parse().map_err(|_| too_large())?;
        let fraction = format!("0.{fraction}").parse::<f64>().map_err(|_| wrong())? * (1_u64 << shift) as f64;
        let bytes = whole.checked_mul(1 << shift).and_then(|bytes| bytes.checked_add(fraction as u128));
        match usize::try_from(bytes.ok_or_else(too_large)?).map_err(|_| too_large())? {
            0 => Err(error("more than nothing: no model runs in 0 bytes (leave it out for no ceiling)")),
            bytes => Ok(MemoryLimit::Bytes(bytes)),
        }
    }
}

impl MemoryLimit {
    /// The ceiling in bytes. Of what is free, a little is left to what the system itself keeps for the process.
    pub(crate) fn bytes(self) -> Result<usize, Error> {
        match self {
            MemoryLimit::Bytes(bytes) => Ok(bytes),
            MemoryLimit::Auto => {
                let free = super::available_bytes().ok_or(Error::UnknownFreeMemory)?;
                let own = super::anonymous_bytes().unwrap_or(0);
                Ok((free - free / SYSTEM_SHARE).saturating_add(own))
            }
        }
    }
}

impl fmt::Display for MemoryLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MemoryLimit::Bytes(bytes) => bytes.fmt(f),
            MemoryLimit::Auto => f.write_str("auto"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_docker() {
        let bytes = |text: &str| match text.parse() {
            Ok(MemoryLimit::Bytes(bytes)) => bytes,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(bytes("5G"), 5 << 30);
        assert_eq!(bytes("5g"), 5 << 30);
        assert_eq!(bytes("800M"), 800 << 20);
        assert_eq!(bytes("800MiB"), 800 << 20);
        assert_eq!(bytes("64kb"), 64 << 10);
        assert_eq!(bytes("1T"), 1 << 40);
        assert_eq!(bytes("1.5G"), 3 << 29);
        assert_eq!(bytes("0.25M"), 256 << 10);
        assert_eq!(bytes("4368439392"), 4_368_439_392);
        assert_eq!("auto".parse(), Ok(MemoryLimit::Auto));
        assert_eq!("AUTO".parse(), Ok(MemoryLimit::Auto));
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        let why = |text: &str| text.parse::<MemoryLimit>().unwrap_err().to_string();
        for text in [
            "",
            "G",
            "-1",
            "-5G",
            "5X",
            "5 G",
            "5GG",
            "1e9",
            "1.5",
            "1.2.3G",
            ".5G",
            "5.G",
            "automatic",
            "½G",
        ] {
            assert!(why(text).contains("expected a size as in 5G"), "{text}: {}", why(text));
        }
        for text in ["0", "0G", "0.0G", "0.0001K"] {
            assert!(why(text).contains("no model runs in 0 bytes"), "{text}: {}", why(text));
        }
        for text in ["99999999999999999999", "99999999T", &"9".repeat(60)] {
            assert!(why(text).contains("can address"), "{text}: {}", why(text));
        }
    }
}
