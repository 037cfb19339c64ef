//! Whether a file is sound, down to the last weight.

use bise_kernels::dequantize_row;
use bise_models::MistralConfig;
use bise_models::gguf::check::{Check, check_tensor, largest_float};
use bise_models::gguf::{GgufFile, TensorInfo};
use bise_models::tokenizer::Tokenizer;
use bise_models::weights::Weights;

use super::walk::walk;
use crate::{Cancel, Threads};

/// The largest number that half precision holds: what is beyond it overflows in programs that compute in halves.
const MOST: f32 = 65504.0;

/// Bytes of nothing but zeros in a row that are no coincidence.
const HOLE: usize = 1 << 20;

/// Tensors with a row for each token, which may have more rows than there are tokens.
const VOCABULARY: [&str; 2] = ["token_embd.weight", "output.weight"];

/// Architectures whose shapes are known here.
const KNOWN: [&str; 2] = ["llama", "mistral3"];

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The tensor; `None` for the model as a whole.
    pub tensor: Option<String>,
    /// What was found, and what was expected.
    pub what: String,
}

/// What a walk through a file finds.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// What is wrong. Nothing: the file is sound.
    pub faults: Vec<Fault>,
    /// What may be wrong, or meant so.
    pub not_certain: Vec<Fault>,
    /// What could not be looked at, and why.
    pub not_checked: Vec<Fault>,
    /// Tensors that were read whole.
    pub n_tensors: usize,
    /// Their bytes.
    pub n_bytes: u64,
}

/// Looks at everything: whether tensors have the shapes that the architecture needs, whether every scale and every weight is finite and within
/// half precision, and whether parts are missing, which leave zeros. `done` is called with the bytes that are behind.
/// `None` where it was cancelled.
///
/// That tensors lie within the file and not on each other is checked when it is opened.
pub fn verify(
    file: &GgufFile,
    threads: &Threads,
    cancel: &Cancel,
    done: &mut dyn FnMut(u64),
) -> Option<Verified> {
    let mut verified = Verified::default();
    check_model(file, &mut verified);
    let tensors: Vec<&TensorInfo> = file.tensors().collect();
    let mut states = vec![State::default(); tensors.len()];
    let look = |slab: &super::walk::Slab<'_>| Seen::of(tensors[slab.tensor], slab.weights.start, slab.bytes);
    let each = |tensor: usize, seen: Seen| states[tensor].add(seen);
    if !walk(file, &tensors, threads, cancel, look, each, done) {
        return None;
    }
    for (tensor, state) in tensors.iter().zip(states) {
        verified.n_tensors += 1;
        verified.n_bytes += tensor.n_bytes as u64;
        let fault = |what: String| Fault { tensor: Some(tensor.name.clone()), what };
        verified.faults.extend(state.not_finite.map(fault));
        verified.faults.extend(state.too_large.map(fault));
        let has_spare_rows = VOCABULARY.contains(&tensor.name.as_str());
        let is_hole = |hole: &(usize, usize)| hole.1 >= HOLE;
        let (hole, spare) = match state.hole {
            Some(end) if has_spare_rows && end.0 > 0 => (state.longest_hole, Some(end)),
            end => (longer(state.longest_hole, end), None),
        };
        if let Some((at, n_bytes)) = hole.filter(is_hole) {
            verified.faults.push(fault(format!(
                "found {n_bytes} bytes of zeros in a row from weight {at} on, expected weights: part of the file is missing, as after a \
                 download that was cut"
            )));
        }
        if let Some((at, n_bytes)) = spare.filter(is_hole) {
            verified.not_certain.push(fault(format!(
                "found {n_bytes} bytes of zeros at the end, from weight {at} on: spare rows of the vocabulary, or part of the file is missing"
            )));
        }
        if state.unknown {
            verified
                .not_checked
                .push(fault(format!("the layout of type {} is not known here", tensor.tensor_type)));
        }
    }
    Some(verified)
}

/// What a tensor has shown so far.
#[derive(Clone, Default)]
struct State {
    not_finite: Option<String>,
    too_large: Option<String>,
    unknown: bool,
    /// Where zeros that reach up to here begin, and their bytes.
    hole: Option<(usize, usize)>,
    /// Of those that have ended.
    longest_hole: Option<(usize, usize)>,
}

impl State {
    fn add(&mut self, seen: Seen) {
        self.not_finite = self.not_finite.take().or(seen.not_finite);
        self.too_large = self.too_large.take().or(seen.too_large);
        self.unknown |= seen.unknown;
        // Zeros may go on from slab to slab.
        let joined = self.hole.map_or((seen.first, seen.leading), |(at, n)| (at, n + seen.leading));
        if seen.leading == seen.n_bytes {
            self.hole = Some(joined);
            return;
        }
        self.longest_hole = longer(longer(self.longest_hole, Some(joined)), seen.inner);
        self.hole = Some((seen.trailing_at, seen.trailing)).filter(|(_, n)| *n > 0);
    }
}

/// The first of two holes, unless the other is longer.
fn longer(a: Option<(usize, usize)>, b: Option<(usize, usize)>) -> Option<(usize, usize)> {
    match (a, b) {
        (Some(a), Some(b)) if b.1 <= a.1 => Some(a),
        (a, None) => a,
        (_, b) => b,
    }
}

/// What a slab shows.
struct Seen {
    first: usize,
    n_bytes: usize,
    not_finite: Option<String>,
    too_large: Option<String>,
    unknown: bool,
    /// Bytes of zero blocks at its beginning, and at its end from a weight on.
    leading: usize,
    trailing: usize,
    trailing_at: usize,
    /// The longest run of others.
    inner: Option<(usize, usize)>,
}

impl Seen {
    fn of(tensor: &TensorInfo, first: usize, bytes: &[u8]) -> Seen {
        let kind = tensor.tensor_type;
        let block_len = kind.block_len();
        let mut seen = Seen {
            first,
            n_bytes: bytes.len(),
            not_finite: None,
            too_large: None,
            unknown: false,
            leading: 0,
            trailing: 0,
            trailing_at: first,
            inner: None,
        };
        match check_tensor(kind, bytes) {
            Check::Finite => {}
            Check::Unknown => seen.unknown = true,
            Check::NotFinite { block, value } => {
                let what = if block_len == 1 { "weight" } else { "block" };
                let block = first / block_len + block;
                seen.not_finite =
                    Some(format!("found {value} in {what} {block} ({kind}), expected finite numbers"));
            }
        }
        // Plain floats have the range they have. Integer scales and values of all types multiply to less than 8192.
        let may_be = block_len > 1 && seen.not_finite.is_none() && largest_float(kind, bytes) >= 7.0;
        if let Some(format) = kind.format().filter(|_| may_be) {
            let mut weights = [0.0; 256];
            for (i, block) in bytes.chunks(256 / block_len * kind.block_bytes()).enumerate() {
                let weights = &mut weights[..block.len() / kind.block_bytes() * block_len];
                dequantize_row(format, block, weights);
                let most = weights.iter().fold(0.0, |most: f32, w| most.max(w.abs()));
                if most > MOST {
                    let at = (first + i * 256) / block_len;
                    seen.too_large = Some(format!(
                        "found a weight of {most:e} in block {at} or behind it ({kind}), expected scales that keep weights below {MOST}"
                    ));
                    break;
                }
            }
        }
        seen.find_zeros(first, block_len, kind.block_bytes(), bytes);
        seen
    }

    fn find_zeros(&mut self, first: usize, block_len: usize, block_bytes: usize, bytes: &[u8]) {
        /// Bytes that are looked at together.
        const PIECE: usize = 1024;
        let step = (PIECE / block_bytes).max(1);
        let mut run = 0;
        let mut run_at = 0;
        for (i, piece) in bytes.chunks(step * block_bytes).enumerate() {
            if piece.iter().fold(0, |all, byte| all | byte) == 0 {
                if run == 0 {
                    run_at = i;
                }
                run += piece.len();
                continue;
            }
            self.end_run(first + run_at * step * block_len, run, run_at == 0);
            run = 0;
        }
        if run == bytes.len() {
            self.leading = run;
        }
        self.trailing = run;
        self.trailing_at = first + run_at * step * block_len;
    }

    fn end_run(&mut self, at: usize, run: usize, is_first: bool) {
        if is_first {
            // Only the run at the very beginning comes here with zeros from the first piece on.
            self.leading = self.leading.max(run);
        } else if self.inner.is_none_or(|(_, longest)| run > longest) {
            self.inner = Some((at, run));
        }
    }
}

fn check_model(file: &GgufFile, verified: &mut Verified) {
    let checked = || -> Result<(), crate::Error> {
        let config = MistralConfig::from_metadata(file.metadata())?;
        Tokenizer::from_metadata(file.metadata())?;
        Weights::load(file, &config)?;
        Ok(())
    };
    if let Err(error) = checked() {
        let arch = file.metadata().str("general.architecture").ok().flatten().unwrap_or_default();
        let list = if KNOWN.contains(&arch) { &mut verified.faults } else { &mut verified.not_checked };
        list.push(Fault { tensor: None, what: error.to_string() });
    }
}
