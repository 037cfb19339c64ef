//! From the start of the program to its first token, for vocabularies of 32 and of 131 thousand tokens and next to no weights.
//!
//! What is measured is processor time, the least of some runs: other programs on this machine add little to it. With one thread and a file in
//! the page cache, the time on the clock is the same and some more for starting a process.

#![cfg(all(feature = "cli", target_os = "linux"))]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bise::gguf::{GgufWriter, TensorType};

#[path = "../models/tests/golden_tokens/fixtures.rs"]
#[allow(dead_code)]
mod fixtures;

const N_EMBD: usize = 64;

/// One narrow layer of zeros below the vocabulary `name`: every token is as likely, and greedy choice takes the first.
fn write(path: &Path, name: &str) {
    let vocabulary = fixtures::vocabulary(name);
    let n_vocab = vocabulary.tokens.len();
    let mut writer = GgufWriter::new();
    let metadata = writer.metadata_mut();
    metadata.set("general.architecture", "llama");
    for (key, value) in [
        ("embedding_length", N_EMBD),
        ("block_count", 1),
        ("feed_forward_length", N_EMBD),
        ("context_length", 4096),
        ("attention.head_count", 1),
        ("attention.head_count_kv", 1),
        ("rope.dimension_count", N_EMBD),
    ] {
        metadata.set(&format!("llama.{key}"), value as u32);
    }
    metadata.set("llama.attention.layer_norm_rms_epsilon", 1e-5_f32);
    fixtures::set_vocabulary(metadata, vocabulary);
    let mut bytes = Vec::new();
    let mut add = |name: &str, shape: &[usize]| {
        let (tensor_type, size) = if shape.len() == 1 { (TensorType::F32, 4) } else { (TensorType::F16, 2) };
        writer.add_tensor(&format!("{name}.weight"), shape, tensor_type).unwrap();
        bytes.push(vec![0; size * shape.iter().product::<usize>()]);
    };
    add("token_embd", &[N_EMBD, n_vocab]);
    add("output", &[N_EMBD, n_vocab]);
    add("output_norm", &[N_EMBD]);
    for name in ["attn_norm", "ffn_norm"] {
        add(&format!("blk.0.{name}"), &[N_EMBD]);
    }
    for name in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"] {
        add(&format!("blk.0.{name}"), &[N_EMBD, N_EMBD]);
    }
    let bytes: Vec<&[u8]> = bytes.iter().map(Vec::as_slice).collect();
    writer.write_all(std::fs::File::create(path).unwrap(), &bytes).unwrap();
}

/// The processor time of all children that have ended.
fn spent() -> Duration {
    // SAFETY: integers, for which all zeros is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` may be written.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &mut usage) }, 0);
    let of = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    of(usage.ru_utime) + of(usage.ru_stime)
}

#[test]
fn the_first_token_comes_soon() {
    let folder = tempfile::tempdir().unwrap();
    // An unoptimised program is no measure.
    let slower = if cfg!(debug_assertions) { 2 } else { 1 };
    for (name, limit) in [("v3", 15), ("tekken", 40)] {
        let path = folder.path().join("model.gguf");
        write(&path, name);
        let mut least = [Duration::MAX; 2];
        for _ in 0..15 {
            let mut command = Command::new(env!("CARGO_BIN_EXE_bise"));
            command.arg("-m").arg(&path).args(["-no-cnv", "--temp", "0", "-t", "1", "-n", "1"]);
            command.args(["-p", "The quick brown fox jumps over the lazy dog."]).stderr(Stdio::null());
            let (before, start) = (spent(), Instant::now());
            let output = command.output().unwrap();
            let took = [spent() - before, start.elapsed()];
            assert!(output.status.success());
            least = [0, 1].map(|i| least[i].min(took[i]));
        }
        println!("{name}: {:.1?} of processor time, {:.1?} from start to end", least[0], least[1]);
        assert!(least[0] < slower * Duration::from_millis(limit), "{name}: {:?}", least[0]);
    }
}
