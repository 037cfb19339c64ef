//! A model on this machine.

use std::path::PathBuf;
use std::time::SystemTime;

use serde_json::{Map, Value};

use super::digest::Sha256;
use crate::chat::{ChatError, ChatTemplate};

/// A model that is on this machine, whole.
#[derive(Clone, Debug)]
pub struct LocalModel {
    /// What it goes by.
    pub name: String,
    /// Its GGUF file, or the first part of it. Empty for the built-in model.
    pub path: PathBuf,
    /// All parts.
    pub files: Vec<PathBuf>,
    /// In bytes, all parts and what goes with them.
    pub bytes: u64,
    /// Of the model as a whole.
    pub digest: Option<Sha256>,
    /// Of the GGUF file.
    pub weights: Option<Sha256>,
    /// When it came here.
    pub modified: Option<SystemTime>,
    /// Where it lies.
    pub place: Place,
    /// What a Modelfile says beside the weights.
    pub extras: Extras,
}

/// Where a model lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the program.
    Builtin,
    /// Wherever the user keeps it.
    File,
    /// In the cache of `huggingface_hub`.
    HuggingFace,
    /// Downloaded from a URL.
    Url,
    /// Made of a checkpoint, in the cache of conversions.
    Converted,
    /// In the store of bise.
    Own,
    /// In the store of Ollama, which is only read.
    Ollama,
}

/// What a Modelfile says beside the weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// The system prompt.
    pub system: Option<String>,
    /// The prompt template, in Go's language unless it is Jinja.
    pub template: Option<String>,
    /// The licences.
    pub licenses: Vec<String>,
    /// Parameters by Ollama's names.
    pub params: Map<String, Value>,
    /// What conversations begin with: roles and contents.
    pub messages: Vec<(String, String)>,
    /// LoRA adapters.
    pub adapters: Vec<PathBuf>,
}

impl Extras {
    /// Takes over what another Modelfile says, whose FROM this one's model is. Returns false where it has a template in Go's language, which is
    /// left out.
    ///
    /// # Errors
    /// A template that makes no sense.
    pub fn extend(&mut self, other: Extras) -> Result<bool, ChatError> {
        let Extras { system, template, licenses, params, messages, adapters } = other;
        let mut takes_template = true;
        if let Some(template) = template {
            takes_template = is_jinja(&template);
            if takes_template {
                ChatTemplate::from_source(&template)?;
                self.template = Some(template);
            }
        }
        self.system = system.or(self.system.take());
        if !licenses.is_empty() {
            self.licenses = licenses;
        }
        if !messages.is_empty() {
            self.messages = messages;
        }
        self.params.extend(params);
        self.adapters.extend(adapters);
        Ok(takes_template)
    }

    /// The template, if it is one that can be used here: Go's language is not, and the file's own template takes its place.
    pub fn jinja(&self) -> Option<&str> {
        self.template.as_deref().filter(|template| is_jinja(template))
    }
}

/// Whether a template is Jinja rather than Go's language, whose fields begin with a dot.
pub fn is_jinja(template: &str) -> bool {
    let go = [
        "{{ .",
        "{{.",
        "{{- .",
        "{{- if",
        "{{ if",
        "{{if",
        "{{- range",
        "{{ range",
        "{{- end",
        "{{ end",
        "{{ $",
        "{{- $",
    ];
    (template.contains("{%") || template.contains("{{")) && !go.iter().any(|mark| template.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modelfile_has_the_last_word_and_a_template_is_checked() {
        let parent = Extras {
            system: Some("old".to_owned()),
            template: Some("{{ messages }}".to_owned()),
            licenses: vec!["MIT".to_owned()],
            ..Extras::default()
        };
        let mut extras = parent.clone();
        let go = Extras { template: Some("{{ .Prompt }}".to_owned()), ..Extras::default() };
        assert!(!extras.extend(go).unwrap());
        assert_eq!(extras, parent);
        let new = Extras {
            system: Some("new".to_owned()),
            template: Some("{{ messages[0].content }}".to_owned()),
            ..Extras::default()
        };
        assert!(extras.extend(new.clone()).unwrap());
        assert_eq!((extras.system, extras.template), (new.system, new.template));
        assert_eq!(extras.licenses, ["MIT"]);
        let broken = Extras { template: Some("{% if messages %}{{ x ".to_owned()), ..Extras::default() };
        assert!(parent.clone().extend(broken).is_err());
    }

    #[test]
    fn templates_of_go_are_known() {
        assert!(is_jinja("{% for m in messages %}{{ m.content }}{% endfor %}"));
        assert!(is_jinja("{{ bos_token }}{{ messages[0]['content'] }}"));
        for go in ["[INST] {{ .Prompt }} [/INST]", "{{- if .System }}x{{ end }}", "{{ $last := 1 }}", "plain"]
        {
            assert!(!is_jinja(go), "{go}");
        }
    }
}
