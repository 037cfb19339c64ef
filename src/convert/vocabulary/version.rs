//! The versions of Mistral's tokenizers.

/// A version of Mistral's tokenizers, which says how conversations are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::convert) enum Version {
    V1,
    V2,
    V3,
    V7,
    V11,
    V13,
    V15,
}

impl Version {
    /// The names of all versions.
    pub const NAMES: [&'static str; 7] = ["v1", "v2", "v3", "v7", "v11", "v13", "v15"];

    const ALL: [Version; 7] =
        [Version::V1, Version::V2, Version::V3, Version::V7, Version::V11, Version::V13, Version::V15];

    /// The version of this name.
    pub fn parse(name: &str) -> Option<Version> {
        let at = Version::NAMES.iter().position(|known| *known == name)?;
        Some(Version::ALL[at])
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Version::NAMES[self as usize]
    }

    /// The version of a SentencePiece model by the name of its file, and `None` for other files: `tokenizer.model.v3` and, for models that see
    /// images, `tokenizer.model.v7m1`; `tokenizer.model` is of v1.
    pub fn of_file(name: &str) -> Option<Version> {
        let Some((_, version)) = name.split_once(".model.") else {
            return name.ends_with(".model").then_some(Version::V1);
        };
        let (version, images) = version.split_once('m').unwrap_or((version, "1"));
        (images == "1").then(|| Version::parse(version))?
    }
}

/// What one of Mistral's own tokenizers is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::convert) struct Native {
    /// The version.
    pub version: Version,
    /// Whether the vocabulary is tekken; otherwise it is SentencePiece.
    pub is_tekken: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_says_the_version() {
        for (name, version) in [
            ("tokenizer.model", Some(Version::V1)),
            ("tokenizer.model.v2", Some(Version::V2)),
            ("mistral_instruct_tokenizer_240323.model.v3", Some(Version::V3)),
            ("mistral_instruct_tokenizer_241114.model.v7m1", Some(Version::V7)),
            ("tokenizer.model.v7m9", None),
            ("tokenizer.model.v4", None),
            ("tokenizer.model.bak", None),
            ("tokenizer.json", None),
        ] {
            assert_eq!(Version::of_file(name), version, "{name}");
        }
        assert!(Version::V11 > Version::V7);
        assert!(Version::NAMES.iter().all(|name| Version::parse(name).unwrap().name() == *name));
    }
}
