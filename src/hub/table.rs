//! Names that need no repository: which file of which repository each stands for.

use super::digest::Sha256;
use super::hugging_face::{Repository, Selection};
use super::ollama::name::ModelName;

/// A model that is known by name.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its names; the first is the one that is shown. `NAME` is `NAME:latest`.
    pub names: &'static [&'static str],
    /// On the Hugging Face Hub.
    pub repository: &'static str,
    /// In the repository.
    pub file: &'static str,
    /// Of the file, where that is known for certain: a file that has another one is refused. Otherwise the hub's is checked.
    pub sha256: Option<&'static str>,
    /// Of the weights.
    pub license: &'static str,
    /// What it is.
    pub about: &'static str,
}

const APACHE: &str = "Apache-2.0";
const NON_PRODUCTION: &str = "MNPL-0.1 (Mistral AI Non-Production License)";

/// The table. Files are Q4_K_M.
pub const TABLE: &[Known] = &[
    Known {
        names: &["mistral", "mistral:instruct", "mistral:7b", "mistral:7b-instruct", "mistral:v0.3"],
        repository: "MaziyarPanahi/Mistral-7B-Instruct-v0.3-GGUF",
        file: "Mistral-7B-Instruct-v0.3.Q4_K_M.gguf",
        sha256: Some("14850c84ff9f06e9b51d505d64815d5cc0cea0257380353ac0b3d21b21f6e024"),
        license: APACHE,
        about: "Mistral 7B Instruct v0.3",
    },
    Known {
        names: &["mistral:v0.2", "mistral:7b-instruct-v0.2"],
        repository: "TheBloke/Mistral-7B-Instruct-v0.2-GGUF",
        file: "mistral-7b-instruct-v0.2.Q4_K_M.gguf",
        sha256: Some("3e0039fd0273fcbebb49228943b17831aadd55cbcbf56f0af00499be2040ccf9"),
        license: APACHE,
        about: "Mistral 7B Instruct v0.2",
    },
    Known {
        names: &["mistral:text", "mistral:7b-text", "mistral:v0.1"],
        repository: "TheBloke/Mistral-7B-v0.1-GGUF",
        file: "mistral-7b-v0.1.Q4_K_M.gguf",
        sha256: None,
        license: APACHE,
        about: "Mistral 7B v0.1, which continues texts",
    },
    Known {
        names: &["mistral-nemo", "mistral-nemo:12b"],
        repository: "bartowski/Mistral-Nemo-Instruct-2407-GGUF",
        file: "Mistral-Nemo-Instruct-2407-Q4_K_M.gguf",
        sha256: Some("7c1a10d202d8788dbe5628dc962254d10654c853cae6aaeca0618f05490d4a46"),
        license: APACHE,
        about: "Mistral Nemo 12B Instruct",
    },
    Known {
        names: &["mistral-small", "mistral-small:24b", "mistral-small3.2", "mistral-small3.2:24b"],
        repository: "bartowski/mistralai_Mistral-Small-3.2-24B-Instruct-2506-GGUF",
        file: "mistralai_Mistral-Small-3.2-24B-Instruct-2506-Q4_K_M.gguf",
        sha256: Some("80f5bda68f156f12650ca03a0a2dbfae06a215ac41caa773b8631a479f82415e"),
        license: APACHE,
        about: "Mistral Small 3.2 24B Instruct",
    },
    Known {
        names: &["mistral-small3.1", "mistral-small3.1:24b"],
        repository: "bartowski/mistralai_Mistral-Small-3.1-24B-Instruct-2503-GGUF",
        file: "mistralai_Mistral-Small-3.1-24B-Instruct-2503-Q4_K_M.gguf",
        sha256: Some("c5743c1bf39db0ae8a5ade5df0374b8e9e492754a199cfdad7ef393c1590f7c0"),
        license: APACHE,
        about: "Mistral Small 3.1 24B Instruct",
    },
    Known {
        names: &["mistral-small3", "mistral-small:24b-instruct-2501"],
        repository: "bartowski/Mistral-Small-24B-Instruct-2501-GGUF",
        file: "Mistral-Small-24B-Instruct-2501-Q4_K_M.gguf",
        sha256: Some("d1a6d049f09730c3f8ba26cf6b0b60c89790b5fdafa9a59c819acdfe93fffd1b"),
        license: APACHE,
        about: "Mistral Small 3 24B Instruct",
    },
    Known {
        names: &["ministral", "ministral-3", "ministral:8b", "ministral-3:8b"],
        repository: "unsloth/Ministral-3-8B-Instruct-2512-GGUF",
        file: "Ministral-3-8B-Instruct-2512-Q4_K_M.gguf",
        sha256: None,
        license: APACHE,
        about: "Ministral 3 8B Instruct",
    },
    Known {
        names: &["ministral:3b", "ministral-3:3b"],
        repository: "unsloth/Ministral-3-3B-Instruct-2512-GGUF",
        file: "Ministral-3-3B-Instruct-2512-Q4_K_M.gguf",
        sha256: None,
        license: APACHE,
        about: "Ministral 3 3B Instruct",
    },
    Known {
        names: &["ministral:14b", "ministral-3:14b"],
        repository: "unsloth/Ministral-3-14B-Instruct-2512-GGUF",
        file: "Ministral-3-14B-Instruct-2512-Q4_K_M.gguf",
        sha256: None,
        license: APACHE,
        about: "Ministral 3 14B Instruct",
    },
    Known {
        names: &["mixtral", "mixtral:8x7b", "mixtral:instruct"],
        repository: "TheBloke/Mixtral-8x7B-Instruct-v0.1-GGUF",
        file: "mixtral-8x7b-instruct-v0.1.Q4_K_M.gguf",
        sha256: None,
        license: APACHE,
        about: "Mixtral 8x7B Instruct v0.1",
    },
    Known {
        names: &["codestral", "codestral:22b"],
        repository: "bartowski/Codestral-22B-v0.1-GGUF",
        file: "Codestral-22B-v0.1-Q4_K_M.gguf",
        sha256: None,
        license: NON_PRODUCTION,
        about: "Codestral 22B, for code",
    },
    Known {
        names: &["devstral", "devstral:24b"],
        repository: "bartowski/mistralai_Devstral-Small-2507-GGUF",
        file: "mistralai_Devstral-Small-2507-Q4_K_M.gguf",
        sha256: Some("6d597aa03c2a02bad861d15f282ae530d3b276b52255f37ba200d3c0de7d3aed"),
        license: APACHE,
        about: "Devstral Small 1.1 24B, for agents that write code",
    },
    Known {
        names: &["magistral", "magistral:24b"],
        repository: "bartowski/mistralai_Magistral-Small-2509-GGUF",
        file: "mistralai_Magistral-Small-2509-Q4_K_M.gguf",
        sha256: Some("1d638bc931de30d29fc73ad439206ff185f76666a096e7ad723866a20f78728d"),
        license: APACHE,
        about: "Magistral Small 1.2 24B, which reasons",
    },
    Known {
        names: &["mathstral", "mathstral:7b"],
        repository: "bartowski/mathstral-7B-v0.1-GGUF",
        file: "mathstral-7B-v0.1-Q4_K_M.gguf",
        sha256: None,
        license: APACHE,
        about: "Mathstral 7B, for mathematics",
    },
];

impl Known {
    /// The model that a name stands for.
    pub fn find(name: &ModelName) -> Option<&'static Known> {
        let short = name.to_string();
        let short = short.strip_suffix(":latest").unwrap_or(&short).to_ascii_lowercase();
        // Names say the quantization there is, too.
        let bare = short.strip_suffix("-q4_k_m").unwrap_or(&short);
        name.is_library().then(|| TABLE.iter().find(|known| known.names.contains(&bare)))?
    }

    /// The model whose file this is.
    pub fn of_file(repository: &str, file: &str) -> Option<&'static Known> {
        TABLE.iter().find(|known| known.repository == repository && known.file == file)
    }

    /// Where it is.
    pub fn selection(&self) -> Selection {
        let repository = Repository::parse(self.repository).expect("the table's names are names");
        Selection {
            file: Some(self.file.to_string()),
            sha256: self.sha256.and_then(Sha256::parse),
            ..Selection::new(repository)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_together() {
        let mut names = Vec::new();
        for known in TABLE {
            let selection = known.selection();
            assert_eq!(selection.sha256.is_some(), known.sha256.is_some(), "{}", known.file);
            assert!(known.file.ends_with("Q4_K_M.gguf"));
            for name in known.names {
                assert_eq!(Known::find(&ModelName::parse(name).unwrap()).unwrap().file, known.file);
                names.push(name);
            }
        }
        let n = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), n, "a name stands for one model");
    }

    #[test]
    fn names_are_found_with_and_without_their_tags() {
        let file = |name: &str| Known::find(&ModelName::parse(name).unwrap()).map(|known| known.file);
        assert_eq!(file("mistral"), file("mistral:latest"));
        assert_eq!(file("Mistral:7B-instruct-q4_K_M"), file("mistral"));
        assert_eq!(file("mistral:7b-instruct-q8_0"), None);
        assert_eq!(file("me/mistral"), None);
        assert_eq!(file("llama3"), None);
    }
}
