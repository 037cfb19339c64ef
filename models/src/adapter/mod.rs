//! LoRA (<https://arxiv.org/abs/2106.09685>): small matrices beside those of a model, which stay as they are.

pub(crate) mod applied;
mod error;
mod for_model;
mod from_gguf;
mod low_rank;
pub(crate) mod packed;
mod shapes;
mod tensor_name;

pub use error::AdapterError;
pub use from_gguf::{GgufAdapter, GgufAdapterTensors};
pub use low_rank::LowRank;
pub use packed::Adapter;
