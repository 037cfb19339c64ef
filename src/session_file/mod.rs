//! Sessions in files: [`Session::save`](crate::Session::save) and [`Engine::restore_session`](crate::Engine::restore_session).

pub(crate) mod error;
mod fingerprint;
mod format;
mod restore;
mod save;

pub use error::SessionFileError;
pub(crate) use fingerprint::fingerprint;
#[cfg(any(feature = "quantize", feature = "train"))]
pub(crate) use fingerprint::whole_fingerprint;
pub use restore::Restored;
