//! Ids for calls that have none.

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Letters and digits in an id, as Mistral's templates demand.
pub const LEN: usize = 9;

/// The id of a call: the same for the same seed and index.
pub fn make(seed: u64, index: usize) -> String {
    // SplitMix64's finalizer: neighbouring inputs give unrelated ids.
    let mut x = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^= x >> 31;
    let mut id = String::with_capacity(LEN);
    for _ in 0..LEN {
        id.push(char::from(LETTERS[(x % 62) as usize]));
        x /= 62;
    }
    id
}

/// Whether templates of Mistral take this id.
pub fn is_valid(id: &str) -> bool {
    id.len() == LEN && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_valid_distinct_and_repeatable() {
        let ids: Vec<String> =
            (0..100).flat_map(|seed| (0..10).map(move |index| make(seed, index))).collect();
        assert!(ids.iter().all(|id| is_valid(id)));
        let distinct: std::collections::HashSet<&String> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
        assert_eq!(make(7, 1), make(7, 1));
        for wrong in ["", "12345678", "1234567890", "12345678é", "1234-5678"] {
            assert!(!is_valid(wrong), "{wrong}");
        }
    }
}
