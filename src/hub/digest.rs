//! SHA-256, as hubs write it.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::Path;

use sha2::Digest as _;

/// A SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Reads 64 hexadecimal digits. Nothing else has the form of a digest, so it cannot name a path either.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Reads `sha256:` and 64 hexadecimal digits, or `sha256-` as in the names of files.
    pub fn parse_prefixed(text: &str) -> Option<Self> {
        text.strip_prefix("sha256:").or_else(|| text.strip_prefix("sha256-")).and_then(Self::parse)
    }

    /// Of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Of a file. `progress` is told how many bytes have been read; `Break` ends it with `None`.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of_file(
        path: &Path,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut done = 0;
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                return Ok(Some(Self(hasher.finalize().into())));
            }
            hasher.update(&buffer[..n]);
            done += n as u64;
            if progress(done).is_break() {
                return Ok(None);
            }
        }
    }

    /// The first twelve digits, as `ollama list` shows them.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_string()
    }
}

/// The SHA-256 of bytes that come one after the other.
#[derive(Debug, Default)]
pub struct Hasher(sha2::Sha256);

impl Hasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// That of all of them.
    pub fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digests_are_64_hexadecimal_digits_and_nothing_else() {
        assert_eq!(Sha256::parse(EMPTY).unwrap(), Sha256::of(b""));
        assert_eq!(Sha256::parse_prefixed(&format!("sha256:{EMPTY}")).unwrap().to_string(), EMPTY);
        assert_eq!(Sha256::of(b"").short(), "e3b0c44298fc");
        let (dots, unicode) = (format!("../{}", &EMPTY[3..]), format!("é{}", &EMPTY[2..]));
        for wrong in [
            "",
            &EMPTY[1..],
            &dots,
            &unicode,
            "+3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert_eq!(Sha256::parse(wrong), None, "{wrong}");
        }
        assert_eq!(Sha256::parse_prefixed(EMPTY), None);
        assert_eq!(Sha256::parse_prefixed(&format!("sha512:{EMPTY}")), None);
    }
}
