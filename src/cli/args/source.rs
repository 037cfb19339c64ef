//! Where a model comes from, if it is no file.

#[cfg(feature = "hub")]
use bise::hub::{Token, hugging_face::Selection};

/// A model that is downloaded, unless it is on this machine already.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Download")]
pub struct SourceArgs {
    /// Use a model of Hugging Face, Q4_K_M unless a quantization is given; it lies in the cache of huggingface_hub (HF_HOME)
    #[cfg(feature = "hub")]
    #[arg(long, aliases = ["hf", "hfr"], value_name = "USER/REPO[:QUANT]", env = "LLAMA_ARG_HF_REPO", value_parser = parse_repository)]
    pub hf_repo: Option<Selection>,

    /// Use this file of --hf-repo, whatever the quantization
    #[cfg(feature = "hub")]
    #[arg(long, alias = "hff", value_name = "FILE", env = "LLAMA_ARG_HF_FILE")]
    pub hf_file: Option<String>,

    /// Token for repositories that ask for one [default: HF_TOKEN, or what `hf auth login` wrote]
    #[cfg(feature = "hub")]
    #[arg(long, alias = "hft", value_name = "TOKEN", value_parser = parse_token)]
    pub hf_token: Option<Token>,

    /// Use the GGUF file of a URL; with --model, that is where it goes
    #[cfg(feature = "hub")]
    #[arg(long, alias = "mu", value_name = "URL", env = "LLAMA_ARG_MODEL_URL", value_parser = parse_url)]
    pub model_url: Option<String>,

    /// Download nothing: use what is on this machine
    #[cfg(feature = "hub")]
    #[arg(long, env = "LLAMA_ARG_OFFLINE")]
    pub offline: bool,
}

/// Parses a repository, which may be given with the address of the hub.
#[cfg(feature = "hub")]
fn parse_repository(text: &str) -> Result<Selection, String> {
    let hosts = ["https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/"];
    let repository = hosts.iter().find_map(|host| text.strip_prefix(host)).unwrap_or(text);
    Selection::parse(repository).map_err(|error| error.to_string())
}

#[cfg(feature = "hub")]
fn parse_token(text: &str) -> Result<Token, String> {
    Token::new(text).ok_or_else(|| "expected a token, such as hf_…".into())
}

#[cfg(feature = "hub")]
fn parse_url(text: &str) -> Result<String, String> {
    match text.starts_with("http://") || text.starts_with("https://") {
        true => Ok(text.to_string()),
        false => Err("expected a URL that begins with https:// or http://".into()),
    }
}
