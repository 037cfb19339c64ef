//! The types of a new file's tensors, where they are to differ from those of its mix.

use bise::gguf::{TensorType, Value};
use bise::quantize::QuantizeOptions;

/// Types and metadata of a file that is written.
#[derive(clap::Args, Debug)]
pub struct TensorTypesArgs {
    /// Give every tensor the same type
    #[arg(long)]
    pure: bool,

    /// Type of output.weight
    #[arg(long, value_name = "TYPE", value_parser = tensor_type)]
    output_tensor_type: Option<TensorType>,

    /// Type of the token embedding
    #[arg(long, value_name = "TYPE", value_parser = tensor_type)]
    token_embedding_type: Option<TensorType>,

    /// Type of the tensors whose name an expression matches, as in attn_q=q8_0; may be repeated, the first match counts
    #[arg(long, value_name = "NAME=TYPE", value_parser = named_type)]
    tensor_type: Vec<(String, TensorType)>,

    /// Set metadata of the new file, as in general.name=str:Mistral; may be repeated
    #[arg(long, value_name = "KEY=TYPE:VALUE", value_parser = key_value)]
    override_kv: Vec<(String, Value)>,
}

impl TensorTypesArgs {
    /// Sets what was given.
    pub fn set(&self, options: &mut QuantizeOptions) {
        options.pure = self.pure;
        options.output_tensor_type = self.output_tensor_type;
        options.token_embedding_type = self.token_embedding_type;
        options.tensor_types.clone_from(&self.tensor_type);
        options.overrides.clone_from(&self.override_kv);
    }
}

fn tensor_type(name: &str) -> Result<TensorType, String> {
    let known = |t: &&TensorType| t.format().is_some();
    TensorType::ALL.iter().filter(known).copied().find(|t| t.name().eq_ignore_ascii_case(name)).ok_or_else(
        || {
            let names: Vec<_> = TensorType::ALL.iter().filter(known).map(|t| t.name()).collect();
            format!("found '{name}', expected one of {}", names.join(", "))
        },
    )
}

/// An expression for names and a type, as in `attn_q=q8_0`.
///
/// # Errors
/// Where it is none, as one line.
pub fn named_type(text: &str) -> Result<(String, TensorType), String> {
    match text.split_once('=') {
        Some((name, type_name)) if !name.is_empty() => Ok((name.to_owned(), tensor_type(type_name)?)),
        _ => Err(format!("found '{text}', expected NAME=TYPE, as in attn_q=q8_0")),
    }
}

fn key_value(text: &str) -> Result<(String, Value), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), Value::parse_override(value)?)),
        _ => Err(format!("found '{text}', expected KEY=TYPE:VALUE, as in general.name=str:Mistral")),
    }
}
