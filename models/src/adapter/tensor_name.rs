//! Which matrices a tensor of an adapter belongs to.

use crate::site::{Projection, Site};

/// What a tensor `NAME.weight` of the base model holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// One matrix.
    One(Site),
    /// Those of all experts, stacked; the site of the first.
    Experts(Site),
}

impl Base {
    /// From the name of the base model's tensor, as in `blk.0.attn_q.weight`; `None` where no product is made with it.
    pub fn from_name(name: &str) -> Option<Base> {
        use Projection::*;
        let stem = name.strip_suffix(".weight")?;
        if stem == "output" {
            // The layer comes from the model.
            return Some(Base::One(Site { layer: usize::MAX, projection: Output, expert: None }));
        }
        let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
        let site = |projection, expert| Some(Site { layer: number(layer)?, projection, expert });
        let (part, expert) = match part.split_once('.') {
            Some((part, expert)) => (part, Some(number(expert)?)),
            None => (part, None),
        };
        let projection = match (part, expert) {
            ("attn_q", None) => AttnQ,
            ("attn_k", None) => AttnK,
            ("attn_v", None) => AttnV,
            ("attn_output", None) => AttnOutput,
            ("ffn_gate_inp", None) => FfnGateInp,
            ("ffn_gate", _) => FfnGate,
            ("ffn_up", _) => FfnUp,
            ("ffn_down", _) => FfnDown,
            ("ffn_gate_exps", None) => return Some(Base::Experts(site(FfnGate, Some(0))?)),
            ("ffn_up_exps", None) => return Some(Base::Experts(site(FfnUp, Some(0))?)),
            ("ffn_down_exps", None) => return Some(Base::Experts(site(FfnDown, Some(0))?)),
            _ => return None,
        };
        Some(Base::One(site(projection, expert)?))
    }
}

/// A number as names have it: without a sign or leading zeros.
fn number(digits: &str) -> Option<usize> {
    let n: usize = digits.parse().ok()?;
    (n.to_string() == digits).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_matrices_lead_to_their_places() {
        use Projection::*;
        for projection in [AttnQ, AttnK, AttnV, AttnOutput, FfnGateInp, FfnGate, FfnUp, FfnDown] {
            let site = Site { layer: 31, projection, expert: None };
            assert_eq!(Base::from_name(&format!("{site}.weight")), Some(Base::One(site)));
        }
        for projection in [FfnGate, FfnUp, FfnDown] {
            let site = |expert| Site { layer: 2, projection, expert: Some(expert) };
            assert_eq!(Base::from_name(&format!("{}.weight", site(7))), Some(Base::One(site(7))));
            let stem = site(0).to_string().replace(".0", "_exps");
            assert_eq!(Base::from_name(&format!("{stem}.weight")), Some(Base::Experts(site(0))));
        }
        assert!(matches!(Base::from_name("output.weight"), Some(Base::One(Site { projection: Output, .. }))));
    }

    #[test]
    fn other_names_lead_nowhere() {
        for name in [
            "token_embd.weight",
            "output_norm.weight",
            "blk.0.attn_norm.weight",
            "blk.0.attn_q",
            "blk.0.attn_q.bias",
            "blk.00.attn_q.weight",
            "blk.+1.attn_q.weight",
            "blk.-1.attn_q.weight",
            "blk.attn_q.weight",
            "blk.0.attn_q.1.weight",
            "blk.0.ffn_gate_exps.1.weight",
            "blk.0.ffn_up.x.weight",
            "blk.99999999999999999999.attn_q.weight",
            "",
        ] {
            assert_eq!(Base::from_name(name), None, "{name}");
        }
    }
}
