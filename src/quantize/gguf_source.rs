//! Model files as sources.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bise_models::gguf::{FileRanges, GgufFile, Metadata, TensorBytes, TensorInfo};

use super::error::QuantizeError;
use super::source::{Source, SourceTensor};

/// Old files of Mixtral have each expert's matrix in a tensor of its own, as `blk.0.ffn_gate.3.weight`. They come as one tensor,
/// `blk.0.ffn_gate_exps.weight`, if all are there and alike.
impl Source for GgufFile {
    fn metadata(&self) -> &Metadata {
        self.metadata()
    }

    fn tensors(&self) -> Vec<SourceTensor> {
        let stacks = stacks(self);
        let mut infos: Vec<_> = self.tensors().collect();
        infos.sort_by_key(|info| (info.part, info.offset));
        let mut tensors = Vec::with_capacity(infos.len());
        for info in infos {
            let as_stored = SourceTensor {
                name: info.name.clone(),
                shape: info.shape.clone(),
                tensor_type: info.tensor_type,
                part: info.part,
                keeps_type: false,
            };
            let stack =
                Expert::of(&info.name).and_then(|expert| Some((expert.index, stacks.get(&expert.stack)?)));
            match stack {
                None => tensors.push(as_stored),
                // The first stands for all.
                Some((0, (name, n))) => {
                    let shape = [&info.shape[..], &[*n]].concat();
                    tensors.push(SourceTensor { name: name.clone(), shape, ..as_stored });
                }
                Some(_) => {}
            }
        }
        tensors
    }

    fn n_parts(&self) -> usize {
        self.n_parts()
    }

    fn rows(&self, tensor: &SourceTensor, rows: Range<usize>) -> Result<Cow<'_, [u8]>, QuantizeError> {
        let (name, rows) = stored(self, tensor, rows);
        let n = tensor.row_bytes();
        let bytes = self.stored(self.require_tensor(&name)?);
        Ok(Cow::Borrowed(&bytes[rows.start * n..rows.end * n]))
    }

    fn ask_for(&self, tensor: &SourceTensor, rows: Range<usize>) {
        FileRanges::of(place(self, tensor, rows)).ask_for();
    }

    fn leave(&self, tensor: &SourceTensor, rows: Range<usize>) {
        FileRanges::of(place(self, tensor, rows)).leave();
    }

    fn check_unchanged(&self) -> Result<(), QuantizeError> {
        Ok(self.check_unchanged()?)
    }

    fn paths(&self) -> Vec<PathBuf> {
        self.paths().map(Path::to_owned).collect()
    }
}

/// The tensor that rows are stored in, and which they are there.
fn stored<'a>(file: &GgufFile, tensor: &'a SourceTensor, rows: Range<usize>) -> (Cow<'a, str>, Range<usize>) {
    if file.tensor(&tensor.name).is_some() {
        return (Cow::Borrowed(&tensor.name), rows);
    }
    let n = tensor.rows_a_matrix();
    let expert = rows.start / n;
    let name = tensor.name.replace("_exps.weight", &format!(".{expert}.weight"));
    (Cow::Owned(name), rows.start - expert * n..rows.end - expert * n)
}

/// Where rows are in the file.
fn place(file: &GgufFile, tensor: &SourceTensor, rows: Range<usize>) -> Option<TensorBytes> {
    let (name, rows) = stored(file, tensor, rows);
    let n = tensor.row_bytes();
    file.tensor(&name).map(|info| file.bytes(info).slice(rows.start * n..rows.end * n))
}

/// A matrix of one expert that is a tensor of its own.
pub(super) struct Expert<'a> {
    /// Its place among the experts, from 0.
    pub index: usize,
    /// The name without it, as in `blk.0.ffn_gate`.
    stack: &'a str,
}

impl<'a> Expert<'a> {
    /// The expert's matrix called `name`, if it is one.
    pub fn of(name: &'a str) -> Option<Expert<'a>> {
        let (stack, index) = name.strip_suffix(".weight")?.rsplit_once('.')?;
        let (layer, kind) = stack.strip_prefix("blk.")?.split_once('.')?;
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_plain = |text: &str| text == "0" || !text.starts_with('0');
        let is_expert = matches!(kind, "ffn_gate" | "ffn_up" | "ffn_down")
            && [layer, index].into_iter().all(|text| is_number(text) && is_plain(text));
        let index = index.parse().ok()?;
        is_expert.then_some(Expert { index, stack })
    }
}

/// The tensors that experts' matrices become, and how many there are, by their names without number. Those that are not all there, or not
/// alike, are left out.
fn stacks(file: &GgufFile) -> BTreeMap<&str, (String, usize)> {
    let mut found: BTreeMap<&str, Vec<(usize, &TensorInfo)>> = BTreeMap::new();
    for info in file.tensors() {
        if let Some(Expert { index, stack }) = Expert::of(&info.name) {
            found.entry(stack).or_default().push((index, info));
        }
    }
    let meta = file.metadata();
    let arch = meta.str("general.architecture").ok().flatten().unwrap_or_default();
    let n_experts = meta.get_as::<usize>(&format!("{arch}.expert_count")).ok().flatten();
    found.retain(|stack, experts| {
        experts.sort_by_key(|(index, _)| *index);
        let first = experts[0].1;
        let is_like_first =
            |info: &TensorInfo| (info.tensor_type, &info.shape) == (first.tensor_type, &first.shape);
        n_experts.is_none_or(|n| n == experts.len())
            && first.shape.len() == 2
            && experts.iter().enumerate().all(|(i, (index, info))| i == *index && is_like_first(info))
            && file.tensor(&format!("{stack}_exps.weight")).is_none()
    });
    found
        .into_iter()
        .map(|(stack, experts)| (stack, (format!("{stack}_exps.weight"), experts.len())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_of_experts_are_known_by_their_names() {
        let of = |name| Expert::of(name).map(|expert| (expert.stack, expert.index));
        assert_eq!(of("blk.12.ffn_down.7.weight"), Some(("blk.12.ffn_down", 7)));
        for name in [
            "blk.0.ffn_down.weight",
            "blk.0.ffn_down_exps.weight",
            "blk.0.ffn_down.07.weight",
            "blk.0.ffn_down.+7.weight",
            "blk.0.ffn_down.7.bias",
            "blk.0.attn_q.7.weight",
            "blk.x.ffn_up.7.weight",
            "blk.00.ffn_up.7.weight",
            "ffn_up.7.weight",
        ] {
            assert_eq!(of(name), None, "{name}");
        }
    }
}
