/// Whose file names, tensor names and configuration a checkpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `config.json` and `model*.safetensors`, as Hugging Face's transformers write them.
    HuggingFace,
    /// `params.json` and `consolidated*.safetensors`, as Mistral publishes them.
    Mistral,
}

impl Layout {
    /// The file with the configuration.
    pub fn config_name(self) -> &'static str {
        match self {
            Layout::HuggingFace => "config.json",
            Layout::Mistral => "params.json",
        }
    }
}
