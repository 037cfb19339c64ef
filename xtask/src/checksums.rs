//! `SHA256SUMS`, as `sha256sum --check` reads it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

/// The lines of `sums` with that of the file `name` added or replaced, in order of the names.
pub fn with(sums: &str, name: &str, bytes: &[u8]) -> String {
    let mut by_name: BTreeMap<&str, String> = sums
        .lines()
        .filter_map(|line| line.split_once("  ").map(|(sum, name)| (name, sum.to_owned())))
        .collect();
    by_name.insert(name, Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect());
    by_name.into_iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_for_each_file_the_last_one_counts() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let sums = with("", "b.zip", b"");
        assert_eq!(sums, format!("{empty}  b.zip\n"));
        let sums = with(&sums, "a.tar.gz", b"");
        assert_eq!(sums, format!("{empty}  a.tar.gz\n{empty}  b.zip\n"));
        assert_eq!(with(&sums, "b.zip", b"abc"), format!("{empty}  a.tar.gz\n{abc}  b.zip\n"));
    }
}
