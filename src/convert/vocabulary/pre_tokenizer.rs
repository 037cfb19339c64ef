//! Which of the rules that GGUF files know by name splits text as a `tokenizer.json` does.

use bise_models::gguf::Metadata;
use bise_models::tokenizer::{EncodeOptions, Tokenizer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::byte_fallback::steps;
use super::files::quoted;
use super::tokenizer_json::TokenizerJson;
use crate::convert::ConvertError;

/// Tekken's expression.
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

/// Llama 3's expression without its first branch.
const LLAMA3: &str =
    r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The ways to write that branch.
const CONTRACTIONS: [&str; 2] = [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)", r"'(?i:[sdmt]|ll|ve|re)"];

/// GPT-2's expression, which `ByteLevel` has built in.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The text whose ids tell vocabularies apart in llama.cpp's converter.
const CHECKED_TEXT: &str = "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\u{200d}🌫️ (multiple emojis concatenated) ✅ 🦙🦙 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ ------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, 'D you like some tea? We'Ve a'lL";

/// SHA-256 of these ids written as a Python list, and the name that llama.cpp's converter gives to the rule: several vocabularies share a rule.
const BY_IDS: [(&str, &str); 14] = [
    ("1431a23e583c97432bc230bff598d103ddb5a1f89960c8f1d1051aaa944d0b35", "minerva-7b"),
    ("0fe1cf6eda062318a1af7270f3331a85c539a01778ff948e24388e949c5282f4", "gpt-2"),
    ("0ef9807a4087ebef797fc749390439009c3b9eda9ad1a097abbe738f486c01e5", "llama-bpe"),
    ("9d032fcbd5501f4a38150912590928bfb36091efb5df11b8e2124b0390e3fb1e", "falcon3"),
    ("35d91631860c815f952d711435f48d356ebac988362536bed955d43bfa436e34", "starcoder"),
    ("3ce83efda5659b07b1ad37ca97ca5797ea4285d9b9ab0dc679e4a720c9da7454", "gpt-2"),
    ("6221ad2852e85ce96f791f476e0b390cf9b474c9e3d1362f53a24a06dc8220ff", "refact"),
    ("9c2227e4dd922002fb81bde4fc02b0483ca4f12911410dee2255e4987644e3f8", "command-r"),
    ("c136ed14d01c2745d4f60a9596ae66800e2b61fa45643e72436041855ad4089d", "smaug-bpe"),
    ("63b97e4253352e6f357cc59ea5b583e3a680eaeaf2632188c2b952de2588485e", "tekken"),
    ("855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249", "smollm"),
    ("fcace8b9cac38ce847670c970cd5892031a753a1ef381abd1d9af00f713da085", "phi-2"),
    ("0e9433cbbb161f89e264eb32e8e64bfe69e834973ffca5d41d3948a604a3e2a3", "pixtral"),
    ("f6791d196f87ce6b56a7d234be618e0d58f8cda3549416635b2bebcd22cd95c4", "midm-2.0"),
];

impl TokenizerJson {
    /// The value of `tokenizer.ggml.pre` for the way in which this tokenizer splits text.
    ///
    /// # Errors
    /// If it splits in a way that has no name which `bise` knows.
    pub fn pre_tokenizer(&self) -> Result<&'static str, ConvertError> {
        let mut expressions = Vec::new();
        for step in steps(self.json.get(&["pre_tokenizer"]), "pretokenizers") {
            let flag = |name: &str| step.get(name).map(|value| value == true);
            match step.get("type").and_then(Value::as_str).unwrap_or_default() {
                "ByteLevel" if flag("use_regex").unwrap_or(true) => expressions.push(GPT2.to_owned()),
                "ByteLevel" => {}
                "Digits" if flag("individual_digits") == Some(true) => expressions.push(r"\p{N}".to_owned()),
                "Digits" => expressions.push(r"\p{N}+".to_owned()),
                "Split" => {
                    let pattern = step
                        .get("pattern")
                        .and_then(|pattern| pattern.get("Regex").or(pattern.get("String")));
                    let pattern = pattern.and_then(Value::as_str).unwrap_or_default();
                    // Both keep all of the text.
                    let keeps = match step.get("behavior").and_then(Value::as_str) {
                        Some("Isolated") => true,
                        Some("Removed") => flag("invert") == Some(true),
                        _ => false,
                    };
                    expressions.push(if keeps {
                        pattern.to_owned()
                    } else {
                        format!("{pattern} (not isolated)")
                    });
                }
                other => expressions.push(format!("({other})")),
            }
        }
        let expressions: Vec<&str> = expressions.iter().map(String::as_str).collect();
        match expressions.as_slice() {
            [TEKKEN] => return Ok("tekken"),
            [GPT2] => return Ok("gpt-2"),
            [r"\p{N}", GPT2] => return Ok("smollm"),
            [one] if CONTRACTIONS.iter().any(|first| one.strip_prefix(first) == Some(LLAMA3)) => {
                return Ok(match () {
                    // Tekken's vocabulary under Llama 3's expression, as in Pixtral and Mistral Small 3.1.
                    () if self.has_tekken_layout() => "pixtral",
                    () if self.flag("ignore_merges") => "llama-bpe",
                    () => "smaug-bpe",
                });
            }
            _ => {}
        }
        let shown = match expressions.as_slice() {
            [] => "no expression".to_owned(),
            some => some.iter().map(|text| quoted(text)).collect::<Vec<_>>().join(", then "),
        };
        Err(ConvertError::Unsupported {
            path: self.json.path.clone(),
            what: format!("splitting text by {shown}"),
            reason: "known are the rules of tekken, llama-bpe, smaug-bpe, smollm and gpt-2".to_owned(),
        })
    }

    fn has_tekken_layout(&self) -> bool {
        let is = |id: usize, text| self.texts.get(id).is_some_and(|token| token.as_deref() == Some(text));
        is(0, "<unk>") && is(1, "<s>") && is(2, "</s>") && is(3, "[INST]")
    }

    /// The name that llama.cpp's converter has for the rule of this very vocabulary, if it knows it. `metadata` holds the vocabulary.
    pub fn known_name(&self, metadata: &Metadata) -> Option<&'static str> {
        let tokenizer = Tokenizer::from_metadata(metadata).ok()?;
        let ids = tokenizer.encode(CHECKED_TEXT, EncodeOptions { add_special: false, parse_special: true });
        let (before, after) = self.added_around();
        let ids: Vec<String> = before.iter().chain(&ids).chain(&after).map(u32::to_string).collect();
        let hash: String = Sha256::digest(format!("[{}]", ids.join(", ")))
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        BY_IDS.iter().find(|(known, _)| *known == hash).map(|&(_, name)| name)
    }

    /// The ids that the tokenizer puts before and after a text.
    fn added_around(&self) -> (Vec<u32>, Vec<u32>) {
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for step in steps(self.json.get(&["post_processor"]), "processors") {
            if step.get("type").is_none_or(|kind| kind != "TemplateProcessing") {
                continue;
            }
            let mut seen = false;
            for part in step.get("single").and_then(Value::as_array).into_iter().flatten() {
                seen |= part.get("Sequence").is_some();
                let Some(name) =
                    part.get("SpecialToken").and_then(|token| token.get("id")).and_then(Value::as_str)
                else {
                    continue;
                };
                let ids =
                    step.get("special_tokens").and_then(|tokens| tokens.get(name)?.get("ids")?.as_array());
                let ids = ids.into_iter().flatten().filter_map(|id| u32::try_from(id.as_u64()?).ok());
                if seen { &mut after } else { &mut before }.extend(ids);
            }
        }
        (before, after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_whole() {
        assert!(BY_IDS.iter().all(|(hash, _)| hash.len() == 64));
    }
}
