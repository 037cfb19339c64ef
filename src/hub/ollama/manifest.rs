//! What a model of Ollama's consists of: layers, each a blob with a digest.

use serde_json::{Value, json};

use crate::hub::digest::Sha256;

const MEDIA_TYPE: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const PREFIX: &str = "application/vnd.ollama.image.";

/// The `Accept` header of a request for a manifest.
pub const ACCEPT: &str = MEDIA_TYPE;

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A GGUF file.
    Model,
    /// A LoRA adapter.
    Adapter,
    /// What turns images into embeddings.
    Projector,
    /// A prompt template in Go's language.
    Template,
    /// A system prompt.
    System,
    /// Sampling parameters, as JSON.
    Params,
    /// Messages that a conversation begins with, as JSON.
    Messages,
    /// A licence.
    License,
}

impl Kind {
    const NAMES: [(Kind, &'static str); 8] = [
        (Kind::Model, "model"),
        (Kind::Adapter, "adapter"),
        (Kind::Projector, "projector"),
        (Kind::Template, "template"),
        (Kind::System, "system"),
        (Kind::Params, "params"),
        (Kind::Messages, "messages"),
        (Kind::License, "license"),
    ];

    fn of(media_type: &str) -> Option<Self> {
        let name = media_type.strip_prefix(PREFIX)?;
        // An older word for a system prompt.
        let name = if name == "prompt" { "template" } else { name };
        Self::NAMES.iter().find(|(_, known)| *known == name).map(|(kind, _)| *kind)
    }

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }
}

/// A blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What it is; `None` for what is not known here.
    pub kind: Option<Kind>,
    media_type: String,
    /// Its name.
    pub digest: Sha256,
    /// In bytes.
    pub size: u64,
}

impl Layer {
    /// A layer of a kind.
    pub fn new(kind: Kind, digest: Sha256, size: u64) -> Self {
        Self { kind: Some(kind), media_type: format!("{PREFIX}{}", kind.name()), digest, size }
    }

    fn parse(value: &Value) -> Result<Self, String> {
        let media_type =
            value["mediaType"].as_str().ok_or("found a layer without \"mediaType\"")?.to_string();
        let text = value["digest"].as_str().ok_or("found a layer without \"digest\"")?;
        let digest = Sha256::parse_prefixed(text).ok_or_else(|| {
            format!("found the digest {text:?}, expected sha256: and 64 hexadecimal digits")
        })?;
        let size = value["size"].as_u64().ok_or("found a layer without \"size\"")?;
        Ok(Self { kind: Kind::of(&media_type), media_type, digest, size })
    }

    fn json(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": format!("sha256:{}", self.digest), "size": self.size })
    }
}

/// The layers of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What the registry says about the model.
    pub config: Layer,
    /// In order.
    pub layers: Vec<Layer>,
}

impl Manifest {
    /// A manifest; `config` is the digest and size of its description.
    pub fn new((digest, size): (Sha256, u64), layers: Vec<Layer>) -> Self {
        Self { config: Layer { kind: None, media_type: CONFIG.into(), digest, size }, layers }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// What was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("found no JSON: {error}"))?;
        let layers =
            value["layers"].as_array().ok_or("found no \"layers\", expected the manifest of a model")?;
        Ok(Self {
            config: Layer::parse(&value["config"])?,
            layers: layers.iter().map(Layer::parse).collect::<Result<_, _>>()?,
        })
    }

    /// As a registry writes it.
    pub fn text(&self) -> String {
        json!({
            "schemaVersion": 2,
            "mediaType": MEDIA_TYPE,
            "config": self.config.json(),
            "layers": self.layers.iter().map(Layer::json).collect::<Vec<_>>(),
        })
        .to_string()
    }

    /// Every blob.
    pub fn blobs(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().chain([&self.config])
    }

    /// The layers of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(move |layer| layer.kind == Some(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_written_as_it_is_read() {
        let layers =
            vec![Layer::new(Kind::Model, Sha256::of(b"m"), 1), Layer::new(Kind::Params, Sha256::of(b"p"), 2)];
        let manifest = Manifest::new((Sha256::of(b"c"), 3), layers);
        assert_eq!(Manifest::parse(&manifest.text()), Ok(manifest.clone()));
        assert_eq!(manifest.blobs().count(), 3);
        assert_eq!(manifest.of_kind(Kind::Params).next().unwrap().digest, Sha256::of(b"p"));
        assert!(manifest.text().contains("application/vnd.ollama.image.model"));
    }

    #[test]
    fn a_digest_is_no_path() {
        let text =
            Manifest::new((Sha256::of(b"c"), 3), vec![Layer::new(Kind::Model, Sha256::of(b"m"), 1)]).text();
        for evil in ["../../../etc/passwd", "sha256:../../../../etc/passwd", "sha256-", "md5:00", ""] {
            let text = text.replace(&format!("sha256:{}", Sha256::of(b"m")), evil);
            let error = Manifest::parse(&text).unwrap_err();
            assert!(error.contains("64 hexadecimal digits"), "{error}");
        }
        for text in ["", "[]", "{}", r#"{"layers":[]}"#, r#"{"layers":[{}],"config":{}}"#] {
            assert!(Manifest::parse(text).is_err(), "{text}");
        }
    }
}
