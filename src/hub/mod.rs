//! Models by name: where they come from and where they lie.
//!
//! [`Reference::parse`] reads what a user writes, [`Hub::find`] looks on this machine, and [`Hub::pull`] downloads.

mod converted;
mod digest;
mod download;
mod error;
mod http;
pub mod hugging_face;
mod model;
pub mod modelfile;
pub mod ollama;
mod progress;
mod reference;
mod resolve;
mod settings;
pub mod table;
mod url;

pub use converted::{Checkpoint, is_checkpoint};
pub use digest::Sha256;
pub use error::HubError;
pub use model::{Extras, LocalModel, Place, is_jinja};
pub use progress::{Progress, Watch};
pub use reference::Reference;
pub use resolve::Hub;
pub use settings::{Proxies, Settings, Token};
