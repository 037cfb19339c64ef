//! A file that is cut short, damaged or hostile gives one line and exit code 1: no panic, no crash, no huge allocation, no hang.

#![cfg(all(feature = "cli", feature = "builtin-model"))]

mod cli_support;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bise::gguf::GgufFile;
use cli_support::{Folder, Ran};

/// No run may take longer; the slowest takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kilobytes of address space that a run may ask for: many times what the model needs, and little beside a hostile count.
const ADDRESS_SPACE_KB: u32 = 4_000_000;

/// Reads one token with the model at `path`, in bounded time and address space.
fn read_one(folder: &Folder, path: &Path) -> Ran {
    let path = path.to_str().expect("a name of ours");
    let flags = ["-m", path, "-p", "Once", "-n", "1", "--temp", "0", "-no-cnv", "-c", "64"];
    finish(&mut limited(folder, &flags))
}

fn limited(folder: &Folder, flags: &[&str]) -> Command {
    let bise = folder.command(flags);
    if !cfg!(target_os = "linux") {
        return bise;
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -v {ADDRESS_SPACE_KB}; exec \"$0\" \"$@\""));
    command.arg(bise.get_program()).args(bise.get_args());
    command.current_dir(folder.path("."));
    for (name, value) in bise.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Waits for a run that prints little; one that hangs fails the test.
fn finish(command: &mut Command) -> Ran {
    watch(command.spawn().expect("the program starts"))
}

fn watch(mut child: Child) -> Ran {
    let start = Instant::now();
    while child.try_wait().expect("the program is ours").is_none() {
        if start.elapsed() > PATIENCE {
            child.kill().expect("the program is ours");
            panic!("still running after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("the program ended");
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
    }
}

/// Fails the test unless the run ended with one line that names the file.
fn rejected(ran: &Ran, name: &str, what: &str) {
    assert_eq!(ran.code, 1, "{what}: {}", ran.stderr);
    let error = ran.error();
    assert!(error.contains(name), "{what}: {error}");
    assert!(error.len() < 1000, "{what}: {error}");
    assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
}

/// The built-in model, and where its tensors' data begin and end.
struct Model {
    bytes: Vec<u8>,
    data_start: usize,
    data_end: usize,
}

impl Model {
    fn open(folder: &Folder) -> Model {
        let path = folder.model();
        let bytes = std::fs::read(&path).unwrap();
        let file = GgufFile::open(&path).unwrap();
        let data_start = file.tensors().map(|t| t.offset).min().unwrap();
        let data_end = file.tensors().map(|t| t.offset + t.n_bytes).max().unwrap();
        Model { bytes, data_start, data_end }
    }

    /// The position right after the first place of `needle` in the header.
    fn after(&self, needle: &str) -> usize {
        let found = find(&self.bytes[..self.data_start], needle.as_bytes());
        found.unwrap_or_else(|| panic!("{needle} is in the header")) + needle.len()
    }

    fn with(&self, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut changed = self.bytes.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % n
    }
}

/// How many cases of each kind: a few by default, `PROPTEST_CASES` where that is more.
fn n_cases(default: usize) -> usize {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    asked.unwrap_or(0).max(default)
}

#[test]
fn a_file_cut_short_anywhere_is_rejected() {
    let folder = Folder::new();
    let model = Model::open(&folder);
    let (start, end) = (model.data_start, model.data_end);
    let mut lengths = vec![0, 1, 3, 4, 7, 8, 15, 16, 23, 24, 25, start - 1, start, end - 1];
    let mut numbers = Numbers(1);
    lengths.extend((0..n_cases(12)).map(|_| numbers.below(start)));
    lengths.extend((0..n_cases(6)).map(|_| start + numbers.below(end - start)));
    for length in lengths {
        let path = folder.write("cut.gguf", &model.bytes[..length]);
        rejected(&read_one(&folder, &path), "cut.gguf", &format!("{length} bytes"));
    }
}

#[test]
fn a_damaged_header_never_ends_in_more_than_one_line() {
    let folder = Folder::new();
    let model = Model::open(&folder);
    let mut numbers = Numbers(2);
    let mut n_rejected = 0;
    for case in 0..n_cases(60) {
        let mut bytes = model.bytes.clone();
        // The vocabulary is most of the header, and most of it is text that may be anything: every other case hits what
        // comes before it or after.
        let near_end = model.data_start - 6000;
        for _ in 0..=numbers.below(4) {
            let at = match case % 4 {
                0 => numbers.below(1500),
                1 => near_end + numbers.below(model.data_start - near_end),
                _ => numbers.below(model.data_start),
            };
            bytes[at] = match numbers.below(3) {
                0 => bytes[at] ^ (1 << numbers.below(8)),
                1 => 0xff,
                _ => numbers.below(256) as u8,
            };
        }
        let path = folder.write("damaged.gguf", &bytes);
        let ran = read_one(&folder, &path);
        match ran.code {
            0 => {}
            _ => {
                n_rejected += 1;
                assert_eq!(ran.code, 1, "case {case}: {}", ran.stderr);
                ran.error();
                assert!(!ran.stderr.contains("panicked"), "case {case}: {}", ran.stderr);
            }
        }
    }
    assert!(n_rejected > 0);
}

#[test]
fn hostile_numbers_are_rejected() {
    let folder = Folder::new();
    let model = Model::open(&folder);
    let name_len = model.after("general.name") + 4;
    let tokens = model.after("tokenizer.ggml.tokens");
    let tensor = model.after("blk.0.attn_q.weight");
    let huge = (1_u64 << 63).to_le_bytes();
    let most = u64::MAX.to_le_bytes();
    // A tensor's entry: number of dimensions (4 bytes), dimensions (8 each), type (4), offset (8).
    let (dims, kind, offset) = (tensor + 4, tensor + 20, tensor + 24);
    // An array: type of value (4 bytes), type of element (4), count (8).
    let cases: &[(&str, usize, &[u8])] = &[
        ("magic", 0, b"GGML"),
        ("version 1", 4, &1_u32.to_le_bytes()),
        ("version 99", 4, &99_u32.to_le_bytes()),
        ("2^63 tensors", 8, &huge),
        ("2^64 - 1 tensors", 8, &most),
        ("2^32 tensors", 8, &(1_u64 << 32).to_le_bytes()),
        ("2^63 keys", 16, &huge),
        ("2^64 - 1 keys", 16, &most),
        ("a key of 2^63 bytes", 24, &huge),
        ("a string of 2^63 bytes", name_len, &huge),
        ("a string of 2^64 - 1 bytes", name_len, &most),
        ("an array of 2^63 strings", tokens + 8, &huge),
        ("an array of 2^64 - 1 strings", tokens + 8, &most),
        ("an array of arrays", tokens + 4, &9_u32.to_le_bytes()),
        ("an array of a type that is none", tokens + 4, &77_u32.to_le_bytes()),
        ("a value of a type that is none", tokens, &77_u32.to_le_bytes()),
        ("no dimensions", tensor, &0_u32.to_le_bytes()),
        ("2^32 - 1 dimensions", tensor, &u32::MAX.to_le_bytes()),
        ("a dimension of 0", dims, &0_u64.to_le_bytes()),
        ("a dimension of 2^63", dims, &huge),
        ("a dimension of 2^64 - 256", dims, &(u64::MAX - 255).to_le_bytes()),
        ("another shape", dims + 8, &512_u64.to_le_bytes()),
        ("a row that is no whole number of blocks", dims, &255_u64.to_le_bytes()),
        ("a tensor type that is none", kind, &4_u32.to_le_bytes()),
        ("a tensor type above all", kind, &u32::MAX.to_le_bytes()),
        ("an offset past the end", offset, &(1_u64 << 40).to_le_bytes()),
        ("an offset that overflows", offset, &(u64::MAX - 31).to_le_bytes()),
        ("an offset that is not aligned", offset, &33_u64.to_le_bytes()),
    ];
    for (what, at, bytes) in cases {
        let path = folder.write("hostile.gguf", model.with(*at, bytes));
        rejected(&read_one(&folder, &path), "hostile.gguf", what);
    }
}

#[test]
fn numbers_of_a_model_that_cannot_be_are_rejected() {
    let folder = Folder::new();
    let model = Model::open(&folder);
    // After a key comes the type of its value (4 bytes), then the value. (`head_count` comes before `head_count_kv`.)
    let key = |name: &str| model.after(name) + 4;
    let int = |n: u32| n.to_le_bytes();
    let float = |x: f32| x.to_le_bytes();
    let cases: &[(&str, &str, [u8; 4])] = &[
        ("llama.block_count", "no layers", int(0)),
        ("llama.block_count", "more layers than the file has", int(9)),
        ("llama.block_count", "2^32 - 1 layers", int(u32::MAX)),
        ("llama.embedding_length", "a width of 0", int(0)),
        ("llama.embedding_length", "another width", int(320)),
        ("llama.embedding_length", "a width of 2^32 - 1", int(u32::MAX)),
        ("llama.feed_forward_length", "another feed-forward", int(1024)),
        ("llama.attention.head_count", "no heads", int(0)),
        ("llama.attention.head_count", "heads that do not divide the width", int(7)),
        ("llama.attention.head_count_kv", "no heads of keys", int(0)),
        ("llama.attention.head_count_kv", "heads of keys that do not divide the heads", int(3)),
        ("llama.rope.dimension_count", "more rotating dimensions than a head has", int(64)),
        ("llama.rope.dimension_count", "an odd number of rotating dimensions", int(31)),
        ("llama.attention.layer_norm_rms_epsilon", "an epsilon that is no number", float(f32::NAN)),
        ("llama.attention.layer_norm_rms_epsilon", "an epsilon below 0", float(-1.0)),
        ("llama.rope.freq_base", "a base of 0", float(0.0)),
        ("llama.rope.freq_base", "an infinite base", float(f32::INFINITY)),
        ("llama.context_length", "no context", int(0)),
    ];
    for (name, what, value) in cases {
        let path = folder.write("model.gguf", model.with(key(name), value));
        rejected(&read_one(&folder, &path), "model.gguf", what);
    }
}

#[test]
fn weights_that_are_no_numbers_are_named_where_they_are_met() {
    let folder = Folder::new();
    let path = folder.model();
    let model = Model::open(&folder);
    let file = GgufFile::open(&path).unwrap();
    for (tensor, layer) in [("blk.3.attn_q.weight", "3"), ("blk.7.ffn_gate.weight", "7")] {
        let info = file.tensor(tensor).unwrap();
        // The scale d of a Q4_K block is its first two bytes: a half that is no number.
        let mut bytes = model.bytes.clone();
        bytes[info.offset..][..info.n_bytes]
            .chunks_mut(144)
            .for_each(|block| block[..2].copy_from_slice(&[0xff, 0x7f]));
        let bad = folder.write("nan.gguf", &bytes);
        let ran = read_one(&folder, &bad);
        assert_eq!(ran.code, 1, "{tensor}: {}", ran.stderr);
        assert!(ran.error().contains(layer), "{tensor}: {}", ran.error());
    }
}

#[test]
fn what_is_no_file_is_rejected() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("folder.gguf")).unwrap();
    let cases: [(&str, PathBuf); 4] = [
        ("missing.gguf", folder.path("missing.gguf")),
        ("folder.gguf", folder.path("folder.gguf")),
        ("empty.gguf", folder.write("empty.gguf", b"")),
        ("text.gguf", folder.write("text.gguf", "not a model\n".repeat(1000))),
    ];
    for (name, path) in &cases {
        rejected(&read_one(&folder, path), name, name);
        let path = path.to_str().unwrap();
        for args in
            [vec!["inspect", path], vec!["bench", "-m", path], vec!["tokenize", "-m", path, "-p", "a"]]
        {
            rejected(&finish(&mut limited(&folder, &args)), name, args[0]);
        }
    }
}

#[test]
fn prompts_that_cannot_be_read_are_rejected() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path("folder.txt")).unwrap();
    folder.write("latin1.txt", b"caf\xe9 au lait");
    folder.write("cut.txt", &"naïve 🌬".as_bytes()[..9]);
    folder.write("empty.txt", b"");
    for name in ["missing.txt", "folder.txt", "latin1.txt", "cut.txt", "empty.txt"] {
        let ran = finish(&mut limited(&folder, &["-f", name, "-n", "1", "-no-cnv"]));
        assert_eq!(ran.code, 1, "{name}: {}", ran.stderr);
        ran.error();
    }
}

/// Starts a story with `flags`, changes the file under it once a few words are out, and waits for the end.
#[cfg(target_os = "linux")]
fn change_in_use(folder: &Folder, flags: &[&str], change: impl FnOnce(std::fs::File)) -> Ran {
    let path = folder.model();
    let story = ["-m", path.to_str().unwrap(), "-p", "Once", "--ignore-eos", "-no-cnv"];
    let mut child = folder.command(story.iter().chain(flags)).spawn().expect("the program starts");
    let mut stdout = child.stdout.take().unwrap();
    // A few words are written: the weights are in use.
    let mut piece = [0; 64];
    stdout.read_exact(&mut piece).expect("the story begins");
    change(std::fs::OpenOptions::new().write(true).open(&path).unwrap());
    let drain = std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    let ran = watch(child);
    drain.join().unwrap().unwrap();
    ran
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_shrinks_while_it_is_used_ends_the_run_with_one_line() {
    let ran = change_in_use(&Folder::new(), &["-n", "100000"], |file| file.set_len(1 << 20).unwrap());
    rejected(&ran, "model.gguf", "shrunk");
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_is_overwritten_while_it_is_used_ends_the_run_with_one_line() {
    use std::os::unix::fs::FileExt;

    // At the same size, where the weights of the last layers are.
    let overwrite = |file: std::fs::File| file.write_all_at(&[0x55; 4096], 4 << 20).unwrap();
    let ran = change_in_use(&Folder::new(), &["-n", "100000"], overwrite);
    rejected(&ran, "model.gguf", "overwritten");
    assert!(ran.error().contains("changed while in use"), "{}", ran.stderr);
}

/// Read into memory, the model no longer depends on its file.
#[test]
#[cfg(target_os = "linux")]
fn without_mmap_nothing_that_happens_to_the_file_matters() {
    let folder = Folder::new();
    let ran = change_in_use(&folder, &["-n", "200", "--no-mmap"], |file| file.set_len(0).unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn a_window_or_context_beyond_all_positions_is_refused() {
    let folder = Folder::new();
    for (flag, value, key) in [
        ("--sliding-window", "9223372036854775808", "llama.attention.sliding_window"),
        (
            "--override-kv",
            "llama.attention.sliding_window=int:9223372036854775807",
            "llama.attention.sliding_window",
        ),
        ("--override-kv", "llama.context_length=int:9223372036854775807", "llama.context_length"),
    ] {
        let ran = finish(&mut limited(&folder, &["-p", "Once", "-n", "1", "-no-cnv", flag, value]));
        rejected(&ran, key, value);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_larger_than_memory_is_an_error_mapped_or_read() {
    let folder = Folder::new();
    let path = folder.model();
    // Sparse: it takes no disk.
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 33).unwrap();
    for flags in [&[][..], &["--no-mmap"]] {
        let model = ["-m", path.to_str().unwrap(), "-p", "Once", "-n", "1", "-no-cnv"];
        let ran = finish(&mut limited(&folder, &[&model[..], flags].concat()));
        rejected(&ran, "model.gguf", "larger than the address space");
        assert!(ran.error().contains("memory"), "{}", ran.stderr);
    }
}
