//! The adapters of a request.

use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiError;
use crate::adapter::Adapters;
use crate::server::body::{Body, Real, Whole};
use crate::server::models::Model;

/// The adapters of a request, settled when it is taken: what becomes of the server's does not concern it any more.
#[derive(Clone, Debug, Default)]
pub struct RequestAdapters {
    /// Those that act.
    pub acting: Adapters,
    /// What the request has said, by number.
    asked: Vec<(i64, f32)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Fields {
    lora: Option<Vec<Scale>>,
}

/// A scale for the adapter of a number.
#[derive(Debug, Deserialize)]
pub struct Scale {
    id: Whole<i64>,
    scale: Real,
}

impl Scale {
    /// Both.
    pub fn pair(&self) -> (i64, f32) {
        (self.id.0, self.scale.0)
    }
}

impl RequestAdapters {
    /// Those of `lora`, which are the only ones then; else the one that `model` names; else those that the server applies to all requests.
    ///
    /// # Errors
    /// A number that no adapter has, and fields of other types.
    pub fn read(model: &Model, body: &Body) -> Result<RequestAdapters, ApiError> {
        let fields: Fields = body.read()?;
        let asked: Vec<(i64, f32)> = fields.lora.iter().flatten().map(Scale::pair).collect();
        let acting = match body.model()?.and_then(|name| model.adapters.named(name)) {
            _ if !asked.is_empty() => model.adapters.scaled("lora", &asked)?,
            Some(named) => named,
            None => model.adapters.global(),
        };
        Ok(RequestAdapters { acting, asked })
    }

    /// What the request has said.
    pub fn to_json(&self) -> Vec<Value> {
        self.asked.iter().map(|(id, scale)| json!({"id": id, "scale": scale})).collect()
    }
}
