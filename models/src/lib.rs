//! From a GGUF file to logits: the model files, tokenizers and forward pass of bise.

pub mod gguf;
pub mod tokenizer;
