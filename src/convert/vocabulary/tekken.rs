//! `tekken.json`: Mistral's byte-level vocabularies since Nemo.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bise_models::gguf::StrArray;
use bise_models::tokenizer::TokenType;
use serde_json::Value;

use super::alphabet::Alphabet;
use super::files::{Folder, Json, quoted};
use super::sentence_piece::SpecialIds;
use super::tokens::Tokens;
use super::version::Version;
use crate::convert::ConvertError;

/// What a file without special tokens of its own has (versions up to v7).
const FIRST_SPECIAL_TOKENS: [&str; 20] = [
    "<unk>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[AVAILABLE_TOOLS]",
    "[/AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[TOOL_CALLS]",
    "[IMG]",
    "<pad>",
    "[IMG_BREAK]",
    "[IMG_END]",
    "[PREFIX]",
    "[MIDDLE]",
    "[SUFFIX]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "[TOOL_CONTENT]",
];

/// The longest token; published ones have up to 128 bytes.
const MAX_TOKEN_BYTES: usize = 512;
/// The most bytes of merges; those of published vocabularies have 4 MB.
const MAX_MERGE_BYTES: usize = 32 << 20;

/// A tekken vocabulary.
#[derive(Debug)]
pub(super) struct Tekken {
    json: Json,
    pub version: Version,
    special: Vec<String>,
    /// The bytes of each token that is not special, by rank.
    ranked: Vec<Vec<u8>>,
}

impl Tekken {
    /// Reads `tekken.json`, if there is one.
    ///
    /// # Errors
    /// If it cannot be read, is of an unknown version, or its counts, ranks or tokens do not fit together.
    pub fn read(folder: Folder<'_>) -> Result<Option<Tekken>, ConvertError> {
        let Some(json) = folder.json("tekken.json")? else { return Ok(None) };
        let version = json.require(&["config", "version"], "a version such as \"v3\"")?;
        let version = json.as_str(version, "\"config.version\"")?;
        let Some(version) = Version::parse(version) else {
            let expected = format!("one of {}", Version::NAMES.join(", "));
            return Err(json.invalid("\"config.version\"", quoted(version), expected));
        };
        let special = special_tokens(&json, version)?;
        let ranked = ranked_tokens(&json, special.len())?;
        Ok(Some(Tekken { json, version, special, ranked }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.json.path
    }

    /// The tokens: special ones first, then the others in GPT-2's alphabet.
    pub fn tokens(&self) -> Tokens {
        let alphabet = Alphabet::new();
        let mut tokens = Tokens::default();
        self.special.iter().for_each(|text| tokens.push(text.clone(), TokenType::Control));
        self.ranked.iter().for_each(|bytes| tokens.push(alphabet.spell(bytes), TokenType::Normal));
        tokens
    }

    /// The merges that lead to the tokens: every way to cut a token into two, token after token, ordered by the ranks of the halves.
    ///
    /// # Errors
    /// If a token is not the union of two others, or there are more merges than any vocabulary has.
    pub fn merges(&self) -> Result<StrArray, ConvertError> {
        let alphabet = Alphabet::new();
        let ranks: HashMap<&[u8], usize> =
            self.ranked.iter().enumerate().map(|(rank, bytes)| (bytes.as_slice(), rank)).collect();
        let mut merges = StrArray::default();
        let (mut cuts, mut n_bytes) = (Vec::new(), 0);
        for (rank, bytes) in self.ranked.iter().enumerate().skip(256) {
            cuts.clear();
            cuts.extend(
                (1..bytes.len())
                    .filter_map(|at| Some((*ranks.get(&bytes[..at])?, *ranks.get(&bytes[at..])?))),
            );
            if cuts.is_empty() {
                let found = quoted(&String::from_utf8_lossy(bytes));
                return Err(self.json.invalid(
                    &format!("token {rank} of \"vocab\""),
                    found,
                    "a token that two others make up",
                ));
            }
            // A token of n bytes that repeat has n − 1 cuts, so a small file may stand for many gigabytes.
            n_bytes += cuts.len() * (alphabet.spell(bytes).len() + 1);
            if n_bytes > MAX_MERGE_BYTES {
                let found = format!(
                    "{}, whose {} cuts make more than {MAX_MERGE_BYTES} bytes of merges in all",
                    quoted(&String::from_utf8_lossy(bytes)),
                    cuts.len()
                );
                return Err(self.json.invalid(
                    &format!("token {rank} of \"vocab\""),
                    found,
                    "the tokens of a trained vocabulary",
                ));
            }
            cuts.sort_unstable();
            for &(left, right) in &cuts {
                let (left, right) = (alphabet.spell(&self.ranked[left]), alphabet.spell(&self.ranked[right]));
                merges.push(format!("{left} {right}").as_bytes());
            }
        }
        Ok(merges)
    }

    /// Beginning of text, end of text, unknown, padding.
    pub fn special_ids(&self) -> SpecialIds {
        let find = |text| self.special.iter().position(|token| token == text).map(|id| id as u32);
        SpecialIds { bos: find("<s>"), eos: find("</s>"), unk: find("<unk>"), pad: find("<pad>") }
    }
}

/// The special tokens, filled up to their number.
fn special_tokens(json: &Json, version: Version) -> Result<Vec<String>, ConvertError> {
    const WHAT: &str = "\"special_tokens\"";
    let n_special = json.require_u32(&["config", "default_num_special_tokens"])? as usize;
    let n_vocab = json.require_u32(&["config", "default_vocab_size"])? as usize;
    let mut tokens: Vec<String> = match json.get(&["special_tokens"]) {
        None if version > Version::V7 => {
            return Err(json.invalid(WHAT, "nothing", format!("the special tokens of {}", version.name())));
        }
        None => FIRST_SPECIAL_TOKENS.iter().map(|&text| text.to_owned()).collect(),
        Some(Value::Array(tokens)) => {
            let token = |(at, token): (usize, &Value)| {
                let what = format!("token {at} of {WHAT}");
                let text = token.get("token_str").unwrap_or(&Value::Null);
                let text = json.as_str(text, &format!("\"token_str\" of {what}"))?;
                let rank =
                    json.as_u32(token.get("rank").unwrap_or(&Value::Null), &format!("\"rank\" of {what}"))?;
                match rank as usize == at {
                    true => Ok(text.to_owned()),
                    false => {
                        Err(json.invalid(&format!("\"rank\" of {what}"), rank.to_string(), at.to_string()))
                    }
                }
            };
            tokens.iter().enumerate().map(token).collect::<Result<_, _>>()?
        }
        Some(other) => return Err(json.invalid(WHAT, super::files::kind(other), "an array of tokens")),
    };
    if tokens.len() > n_special || n_special > n_vocab {
        let found = format!("{n_special}, with {} special tokens and {n_vocab} tokens in all", tokens.len());
        return Err(json.invalid("\"config.default_num_special_tokens\"", found, "a number between the two"));
    }
    // Before anything is allocated by these numbers: the file must have the other tokens.
    let n_ranked = json.get(&["vocab"]).and_then(Value::as_array).map_or(0, Vec::len);
    if n_vocab - n_special > n_ranked || n_special > n_ranked.max(1 << 16) {
        let found = format!("{n_vocab} with {n_special} special ones");
        let expected = format!("no more than the {n_ranked} of \"vocab\" and the special ones");
        return Err(json.invalid("\"config.default_vocab_size\"", found, expected));
    }
    tokens.extend((tokens.len()..n_special).map(|id| format!("<SPECIAL_{id}>")));
    let mut seen = HashMap::with_capacity(tokens.len());
    for (id, text) in tokens.iter().enumerate() {
        if let Some(other) = seen.insert(text.as_str(), id) {
            let found = format!("{} at {other} and {id}", quoted(text));
            return Err(json.invalid(WHAT, found, "tokens that differ"));
        }
    }
    for text in ["<s>", "</s>"] {
        if !seen.contains_key(text) {
            return Err(json.invalid(WHAT, format!("no {text}"), format!("a token {text}")));
        }
    }
    Ok(tokens)
}

/// The tokens that are not special, by rank.
fn ranked_tokens(json: &Json, n_special: usize) -> Result<Vec<Vec<u8>>, ConvertError> {
    let n_vocab = json.require_u32(&["config", "default_vocab_size"])? as usize;
    let vocab = json.require(&["vocab"], "an array of tokens")?;
    let Some(vocab) = vocab.as_array() else {
        return Err(json.invalid("\"vocab\"", super::files::kind(vocab), "an array of tokens"));
    };
    let n_ranked = n_vocab - n_special;
    if n_ranked < 256 {
        return Err(json.invalid("\"vocab\"", format!("{n_ranked} tokens"), "at least the 256 bytes"));
    }
    let mut tokens = Vec::with_capacity(n_ranked.min(vocab.len()));
    let mut seen = HashMap::new();
    for (at, token) in vocab.iter().enumerate().take(n_ranked) {
        let what = |field: &str| format!("\"{field}\" of token {at} of \"vocab\"");
        let rank = json.as_u32(token.get("rank").unwrap_or(&Value::Null), &what("rank"))?;
        if rank as usize != at {
            return Err(json.invalid(&what("rank"), rank.to_string(), at.to_string()));
        }
        let text = json.as_str(token.get("token_bytes").unwrap_or(&Value::Null), &what("token_bytes"))?;
        let bytes = STANDARD.decode(text).map_err(|error| {
            json.invalid(&what("token_bytes"), format!("{}: {error}", quoted(text)), "base64")
        })?;
        if at < 256 && bytes != [at as u8] {
            let found = quoted(text);
            return Err(json.invalid(&what("token_bytes"), found, format!("the byte {at}")));
        }
        if bytes.is_empty() || bytes.len() > MAX_TOKEN_BYTES {
            let found = format!("{} bytes", bytes.len());
            return Err(json.invalid(&what("token_bytes"), found, format!("1 to {MAX_TOKEN_BYTES}")));
        }
        if let Some(other) = seen.insert(bytes.clone(), at) {
            let found = format!("{}, as token {other}", quoted(text));
            return Err(json.invalid(&what("token_bytes"), found, "tokens that differ"));
        }
        tokens.push(bytes);
    }
    Ok(tokens)
}
