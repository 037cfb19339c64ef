//! What is calibrated, in the order in which the model comes by its inputs.

use std::collections::BTreeMap;

use crate::Projection;
use crate::quantize::plan::Plan;

/// The inputs of one or several matrices.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub projection: Projection,
    pub expert: Option<usize>,
    /// Columns.
    pub k: usize,
    pub targets: Vec<Target>,
}

/// A matrix to quantize.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// Its tensor's place in the plan.
    pub tensor: usize,
    /// Which matrix of the tensor, where that is a stack.
    pub matrix: usize,
}

impl Input {
    /// Bytes of the sums of its products.
    pub fn bytes(&self) -> u64 {
        4 * (self.k as u64).pow(2)
    }
}

/// A layer, or what follows the last one.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub layer: usize,
    /// The layer is run once for each, with inputs whose sums fit into memory together; at least once.
    pub passes: Vec<Vec<Input>>,
}

/// Bytes of sums that are held at a time, unless those of one matrix alone are more.
const MAX_SUMS: u64 = 5 << 28;

/// The steps for the layers `layers`, and one for the last matrix.
pub(super) fn steps(plan: &Plan, layers: &[usize], n_layers: usize) -> Vec<Step> {
    let mut inputs: BTreeMap<(usize, Projection, Option<usize>), Input> = BTreeMap::new();
    for (tensor, planned) in plan.tensors.iter().enumerate() {
        let has_scales = planned.tensor_type.block_len() > 1;
        if planned.is_copied() || !has_scales || planned.source.tensor_type.format().is_none() {
            continue;
        }
        let Some((layer, projection, expert)) = place(&planned.source.name, n_layers) else { continue };
        let n_matrices = planned.source.n_matrices();
        for matrix in 0..n_matrices {
            let expert = if n_matrices > 1 { Some(matrix) } else { expert };
            let k = planned.source.shape[0];
            let new = || Input { projection, expert, k, targets: Vec::new() };
            let input = inputs.entry((layer, projection, expert)).or_insert_with(new);
            input.targets.push(Target { tensor, matrix });
        }
    }
    let mut steps: Vec<Step> =
        layers.iter().chain([&n_layers]).map(|&layer| Step { layer, passes: vec![Vec::new()] }).collect();
    for ((layer, ..), input) in inputs {
        let Some(step) = steps.iter_mut().find(|step| step.layer == layer) else { continue };
        let last = step.passes.last_mut().expect("there is one");
        let bytes = last.iter().map(Input::bytes).sum::<u64>() + input.bytes();
        match last.is_empty() || bytes <= MAX_SUMS {
            true => last.push(input),
            false => step.passes.push(vec![input]),
        }
    }
    steps
}

/// The layer, the product and the expert whose inputs the matrices of a tensor have; `None` for what is not calibrated.
fn place(name: &str, n_layers: usize) -> Option<(usize, Projection, Option<usize>)> {
    if name == "output.weight" {
        return Some((n_layers, Projection::Output, None));
    }
    let mut parts = name.strip_prefix("blk.")?.strip_suffix(".weight")?.split('.');
    let (layer, part, expert) = (parts.next()?.parse().ok()?, parts.next()?, parts.next());
    let projection = match part.strip_suffix("_exps").unwrap_or(part) {
        "attn_q" | "attn_k" | "attn_v" => Projection::AttnQ,
        "attn_output" => Projection::AttnOutput,
        "ffn_gate" | "ffn_up" => Projection::FfnGate,
        "ffn_down" => Projection::FfnDown,
        _ => return None,
    };
    match expert {
        None => Some((layer, projection, None)),
        Some(expert) => Some((layer, projection, Some(expert.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_know_their_inputs() {
        let place = |name| place(name, 32);
        assert_eq!(place("blk.3.attn_v.weight"), Some((3, Projection::AttnQ, None)));
        assert_eq!(place("blk.3.ffn_up.weight"), Some((3, Projection::FfnGate, None)));
        assert_eq!(place("blk.3.ffn_down_exps.weight"), Some((3, Projection::FfnDown, None)));
        assert_eq!(place("blk.3.ffn_gate.7.weight"), Some((3, Projection::FfnGate, Some(7))));
        assert_eq!(place("output.weight"), Some((32, Projection::Output, None)));
        for name in [
            "token_embd.weight",
            "blk.3.attn_norm.weight",
            "blk.3.ffn_gate_inp.weight",
            "blk.x.attn_q.weight",
        ] {
            assert_eq!(place(name), None, "{name}");
        }
    }
}
