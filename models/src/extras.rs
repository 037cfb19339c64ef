//! Parts of a file beside the language model: encoders of images and sound, and heads that play no part in the
//! logits. The text runs without them.

use crate::gguf::TensorInfo;

/// A part that is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    /// Image encoder and projector.
    Vision,
    /// Sound encoder and projector.
    Audio,
    /// Layers that predict tokens further ahead (multi-token prediction), to draft with.
    Prediction,
    /// A classification or reranking head.
    Classifier,
}

impl Extra {
    /// The part that a key of the architecture is about (`{arch}.` taken off).
    pub(crate) fn of_key(key: &str) -> Option<Extra> {
        let begins = |words: &[&str]| words.iter().any(|word| key.starts_with(word));
        if begins(&["audio.", "mm.a.", "a.", "audio_token"]) {
            Some(Extra::Audio)
        } else if begins(&["vision.", "mm.", "v.", "image_token", "vision_feature_layer", "projector."])
            || key == "spatial_merge_size"
        {
            Some(Extra::Vision)
        } else if begins(&["classifier."]) {
            Some(Extra::Classifier)
        } else {
            None
        }
    }

    /// The part that the tensor `name` belongs to. The blocks from `n_layers` on, of which there are `n_predict`, are
    /// those of [`Extra::Prediction`].
    pub(crate) fn of_tensor(name: &str, n_layers: usize, n_predict: usize) -> Option<Extra> {
        let begins = |words: &[&str]| words.iter().any(|word| name.starts_with(word));
        if begins(&["mm.a.", "a.", "audio_tower."]) {
            Some(Extra::Audio)
        } else if begins(&["v.", "mm.", "vision_tower.", "multi_modal_projector.", "patch_merger."]) {
            Some(Extra::Vision)
        } else if begins(&["mtp."]) {
            Some(Extra::Prediction)
        } else if begins(&["cls."]) {
            Some(Extra::Classifier)
        } else {
            let block: usize = name.strip_prefix("blk.")?.split_once('.')?.0.parse().ok()?;
            (n_layers..n_layers + n_predict).contains(&block).then_some(Extra::Prediction)
        }
    }

    fn name(self) -> &'static str {
        match self {
            Extra::Vision => "a vision encoder",
            Extra::Audio => "an audio encoder",
            Extra::Prediction => "layers for multi-token prediction",
            Extra::Classifier => "a classification head",
        }
    }
}

/// What was left out of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct LeftOut(Vec<(Extra, usize, usize)>);

impl LeftOut {
    /// Counts `tensor` as a part of `extra`.
    pub(crate) fn add(&mut self, extra: Extra, tensor: &TensorInfo) {
        match self.0.iter_mut().find(|(e, ..)| *e == extra) {
            Some((_, n_tensors, n_bytes)) => {
                *n_tensors += 1;
                *n_bytes += tensor.n_bytes;
            }
            None => self.0.push((extra, 1, tensor.n_bytes)),
        }
    }

    /// A line for the user: what the file has that is not used.
    pub(crate) fn line(&self) -> Option<String> {
        let part = |(extra, n_tensors, n_bytes): &(Extra, usize, usize)| {
            let s = if *n_tensors == 1 { "" } else { "s" };
            let size = match *n_bytes {
                n if n < 1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
                n => format!("{:.1} MB", n as f64 / 1e6),
            };
            format!("{} ({n_tensors} tensor{s}, {size})", extra.name())
        };
        let parts: Vec<String> = self.0.iter().map(part).collect();
        let only = match parts.is_empty() {
            true => return None,
            false => "left out: only the language model is used",
        };
        Some(format!("the file also has {}, {only}", parts.join(" and ")))
    }
}

#[cfg(test)]
mod tests {
    use super::Extra;

    #[test]
    fn only_whole_parts_beside_the_language_model_are_extras() {
        let of = |name| Extra::of_tensor(name, 8, 1);
        assert_eq!(of("v.blk.0.attn_q.weight"), Some(Extra::Vision));
        assert_eq!(of("mm.linear_1.weight"), Some(Extra::Vision));
        assert_eq!(of("mm.a.mlp.1.weight"), Some(Extra::Audio));
        assert_eq!(of("a.blk.0.ln1.bias"), Some(Extra::Audio));
        assert_eq!(of("cls.output.weight"), Some(Extra::Classifier));
        assert_eq!(of("blk.8.nextn.eh_proj.weight"), Some(Extra::Prediction));
        for name in
            ["blk.7.attn_q.bias", "blk.9.attn_q.weight", "output.bias", "vocab", "am.weight", "blk.x.y"]
        {
            assert_eq!(of(name), None, "{name}");
        }
        assert_eq!(Extra::of_key("vision.block_count"), Some(Extra::Vision));
        assert_eq!(Extra::of_key("attention.scale"), None);
    }
}
