//! `--check-tensors`: looks at every scale and every float weight for NaN and infinities.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bise::gguf::check::{Check, check_tensor};
use bise::gguf::{GgufFile, TensorInfo};

use crate::cli::term::console::Log;

/// A tensor with weights that are no numbers.
pub struct Defect {
    pub tensor: String,
    /// What is wrong, and where first.
    pub what: String,
}

/// Reads all tensors on all cores; defects are in the file's order.
pub fn check_tensors(file: &GgufFile, log: Log) -> Vec<Defect> {
    let tensors: Vec<&TensorInfo> = file.tensors().collect();
    let progress = log.progress("checking tensors", tensors.len());
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(tensor) = tensors.get(at) else { break };
            if let Some(what) = check(file, tensor) {
                found
                    .lock()
                    .expect("no thread panics")
                    .push((at, Defect { tensor: tensor.name.clone(), what }));
            }
            progress.set(next.load(Ordering::Relaxed).min(tensors.len()));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..std::thread::available_parallelism().map_or(1, usize::from) {
            // A thread that cannot be started leaves its share to the others.
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut found = found.into_inner().expect("no thread panics");
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, defect)| defect).collect()
}

fn check(file: &GgufFile, tensor: &TensorInfo) -> Option<String> {
    match check_tensor(tensor.tensor_type, &file.bytes(tensor)) {
        Check::Finite => None,
        Check::NotFinite { block, value } => {
            let what = if tensor.tensor_type.block_len() == 1 { "element" } else { "block" };
            Some(format!("found {value} in {what} {block} ({}), expected finite numbers", tensor.tensor_type))
        }
        Check::Unknown => Some(format!("found type {}, which cannot be checked", tensor.tensor_type)),
    }
}
