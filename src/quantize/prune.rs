//! Layers that are left out.

use bise_models::gguf::Array;

use super::error::QuantizeError;
use super::mix::layer;

/// Which layers stay.
pub(super) struct Kept {
    n_layers: usize,
    /// Old numbers of those that do not, in order.
    pruned: Vec<usize>,
}

impl Kept {
    /// Those of `n_layers` that are not in `pruned`.
    pub fn new(n_layers: usize, pruned: &[usize]) -> Result<Kept, QuantizeError> {
        if let Some(missing) = pruned.iter().find(|layer| **layer >= n_layers) {
            let expected = format!("layers from 0 to {}", n_layers.saturating_sub(1));
            return Err(QuantizeError::Prune { found: format!("layer {missing}"), expected });
        }
        let mut pruned = pruned.to_vec();
        pruned.sort_unstable();
        pruned.dedup();
        if pruned.len() == n_layers {
            return Err(QuantizeError::Prune {
                found: "all layers".into(),
                expected: "at least one that stays".into(),
            });
        }
        Ok(Kept { n_layers: n_layers - pruned.len(), pruned })
    }

    pub fn n_layers(&self) -> usize {
        self.n_layers
    }

    /// An array that has a number for each layer, with those of the layers that stay; `None` if it has not.
    pub fn shorten(&self, array: &Array) -> Option<Array> {
        if self.pruned.is_empty() || array.len() != self.n_layers + self.pruned.len() {
            return None;
        }
        macro_rules! shortened {
            ($($variant:ident)*) => {
                match array {
                    $(Array::$variant(values) => {
                        let stays = |i: &usize| self.pruned.binary_search(i).is_err();
                        let kept = (0..values.len()).filter(stays).map(|i| values[i]);
                        Some(Array::$variant(kept.collect()))
                    })*
                    _ => None,
                }
            };
        }
        shortened!(U8 I8 U16 I16 U32 I32 U64 I64 F32 F64 Bool)
    }

    /// The name of a tensor in the new file, or `None` where its layer is left out.
    pub fn rename(&self, name: &str) -> Option<String> {
        let Some(old) = layer(name) else { return Some(name.to_owned()) };
        match self.pruned.binary_search(&old) {
            Ok(_) => None,
            Err(0) => Some(name.to_owned()),
            Err(n_before) => {
                let rest = name.strip_prefix("blk.")?.split_once('.')?.1;
                Some(format!("blk.{}.{rest}", old - n_before))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_stay_move_up() {
        let kept = Kept::new(5, &[3, 1, 3]).unwrap();
        assert_eq!(kept.n_layers(), 3);
        let new = |name| kept.rename(name);
        assert_eq!(new("blk.0.attn_q.weight").as_deref(), Some("blk.0.attn_q.weight"));
        assert_eq!(new("blk.1.attn_q.weight"), None);
        assert_eq!(new("blk.2.ffn_down_exps.weight").as_deref(), Some("blk.1.ffn_down_exps.weight"));
        assert_eq!(new("blk.4.attn_norm.weight").as_deref(), Some("blk.2.attn_norm.weight"));
        assert_eq!(new("output.weight").as_deref(), Some("output.weight"));
        let heads = |n: &[u32]| Array::U32(n.to_vec());
        assert_eq!(kept.shorten(&heads(&[8, 7, 6, 5, 4])), Some(heads(&[8, 6, 4])));
        assert_eq!(kept.shorten(&heads(&[8, 7, 6, 5])), None);
        assert_eq!(Kept::new(2, &[]).unwrap().shorten(&heads(&[8, 7])), None);
        assert!(Kept::new(5, &[5]).is_err() && Kept::new(2, &[0, 1]).is_err());
    }
}
