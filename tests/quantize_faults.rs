//! Files that are wrong, flags without effect, disks that fill and runs that are killed: a clear line, and no harm done.

#![cfg(all(feature = "cli", feature = "quantize", feature = "builtin-model"))]

mod cli_support;

use std::fs::File;
use std::path::Path;

use bise::gguf::{Array, GgufFile, GgufWriter, TensorType};
use bise::imatrix::{Entry, Imatrix};
use cli_support::{Folder, Ran};

/// A weight of a made-up model.
fn weight(i: usize) -> f32 {
    (i as f32 * 0.37).sin()
}

/// Writes a model in singles with tensors of these names and shapes. `block_count` is what the file says.
fn model(path: &Path, block_count: u32, tensors: &[(&str, &[usize])]) {
    let mut writer = GgufWriter::new();
    writer.metadata_mut().set("general.architecture", "llama");
    writer.metadata_mut().set("llama.block_count", block_count);
    let mut data = Vec::new();
    for (name, shape) in tensors {
        writer.add_tensor(name, shape, TensorType::F32).unwrap();
        data.push((0..shape.iter().product()).flat_map(|i| weight(i).to_le_bytes()).collect::<Vec<u8>>());
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    std::fs::write(path, writer.write_all(Vec::new(), &data).unwrap()).unwrap();
}

/// Writes an importance matrix of these sums, for one token.
fn importance(path: &Path, entries: &[(&str, Vec<f64>, usize)]) {
    let mut imatrix = Imatrix::default();
    for (name, sum_squares, n_matrices) in entries {
        let (sum_squares, counts) = (sum_squares.clone(), vec![1; *n_matrices]);
        imatrix.entries.insert((*name).to_owned(), Entry { sum_squares, sums: Vec::new(), counts });
    }
    (imatrix.n_chunks, imatrix.chunk_len) = (1, 1);
    imatrix.save(path).unwrap();
}

fn quantize(folder: &Folder, args: &[&str]) -> Ran {
    folder.bise([&["quantize", "--force"], args].concat())
}

/// The weights of a tensor.
fn weights(path: &Path, name: &str) -> Vec<f32> {
    let file = GgufFile::open(path).unwrap();
    let tensor = file.require_tensor(name).unwrap();
    let mut x = vec![0.0; tensor.n_elements()];
    bise_kernels::dequantize_row(tensor.tensor_type.format().unwrap(), &file.bytes(tensor), &mut x);
    x
}

/// The root of the mean square of what the weights of a tensor are off by.
fn off(path: &Path, name: &str) -> f32 {
    let x = weights(path, name);
    let squares = x.iter().enumerate().map(|(i, x)| (x - weight(i)).powi(2));
    (squares.sum::<f32>() / x.len() as f32).sqrt()
}

#[test]
fn what_is_read_is_not_written_to() {
    let folder = Folder::new();
    model(&folder.path("m.gguf"), 1, &[("blk.0.attn_q.weight", &[256, 8])]);
    importance(&folder.path("i.gguf"), &[("blk.0.attn_q.weight", vec![1.0; 256], 1)]);
    std::fs::write(folder.path("types.txt"), "attn_q=q8_0").unwrap();
    std::fs::hard_link(folder.path("i.gguf"), folder.path("link.gguf")).unwrap();
    let read = |name: &str| std::fs::read(folder.path(name)).unwrap();
    let before = ["i.gguf", "types.txt", "m.gguf"].map(read);
    for (flag, file, out) in [
        ("--imatrix", "i.gguf", "i.gguf"),
        ("--imatrix", "i.gguf", "link.gguf"),
        ("--tensor-type-file", "types.txt", "types.txt"),
    ] {
        let ran = quantize(&folder, &[flag, file, "m.gguf", out, "Q4_K_M"]);
        let expected = format!("{out}: found a file that is read here, expected another file to write to");
        assert!(ran.error().contains(&expected), "{}", ran.stderr);
    }
    assert_eq!(["i.gguf", "types.txt", "m.gguf"].map(read), before);
    let tiny = folder.model();
    let tiny = tiny.to_str().unwrap();
    std::fs::write(folder.path("text.txt"), "Once upon a time. ".repeat(200)).unwrap();
    let text = read("text.txt");
    for out in ["model.gguf", "text.txt"] {
        let ran = folder.bise(["imatrix", "--force", "-m", tiny, "-f", "text.txt", "-c", "64", "-o", out]);
        assert!(ran.error().contains("found a file that is read here"), "{}", ran.stderr);
    }
    // Nor is anything else that is there.
    let ran = folder.bise(["imatrix", "-m", tiny, "-f", "text.txt", "-c", "64", "-o", "i.gguf"]);
    assert!(ran.error().contains("i.gguf: found a file, expected none: --force"), "{}", ran.stderr);
    assert_eq!((read("i.gguf"), read("text.txt")), (before[0].clone(), text));
}

#[test]
fn layers_that_the_file_does_not_count_are_an_error_and_missing_ones_are_said() {
    let folder = Folder::new();
    let layers: &[(&str, &[usize])] = &[
        ("blk.0.attn_q.weight", &[256, 8]),
        ("blk.1.attn_q.weight", &[256, 8]),
        ("blk.2.attn_q.weight", &[256, 8]),
    ];
    model(&folder.path("few.gguf"), 2, layers);
    for file_type in ["Q8_0", "COPY"] {
        let ran = quantize(&folder, &["few.gguf", "out.gguf", file_type]);
        let expected = "tensor 'blk.2.attn_q.weight': found a tensor of layer 2, expected layers 0 to 1";
        assert!(ran.error().contains(expected), "{}", ran.stderr);
    }
    model(&folder.path("many.gguf"), 4, layers);
    let ran = quantize(&folder, &["many.gguf", "out.gguf", "Q8_0"]).ok();
    assert!(
        ran.stderr.contains("found no tensor of layer 3, expected some of all 4 layers"),
        "{}",
        ran.stderr
    );
    for count in [0, u32::MAX] {
        model(&folder.path("absurd.gguf"), count, layers);
        let ran = quantize(&folder, &["absurd.gguf", "absurd-out.gguf", "Q8_0"]);
        let expected = format!("'llama.block_count': found {count}, expected 1 to");
        assert!(ran.error().contains(&expected), "{}", ran.stderr);
    }
    assert_eq!(folder.names(), ["absurd.gguf", "few.gguf", "many.gguf", "out.gguf"]);
}

#[test]
fn numbers_of_layers_that_are_left_out_are_left_out_too() {
    let folder = Folder::new();
    let mut writer = GgufWriter::new();
    let metadata = writer.metadata_mut();
    metadata.set("general.architecture", "llama");
    metadata.set("llama.block_count", 3_u32);
    metadata.set("llama.attention.head_count", Array::I32(vec![8, 4, 2]));
    metadata.set("tokenizer.ggml.token_type", Array::I32(vec![1, 2, 3]));
    for i in 0..3 {
        writer.add_tensor(&format!("blk.{i}.attn_q.weight"), &[32], TensorType::F32).unwrap();
    }
    std::fs::write(folder.path("m.gguf"), writer.write_all(Vec::new(), &[&[0; 128][..]; 3]).unwrap())
        .unwrap();
    quantize(&folder, &["--prune-layers", "1", "m.gguf", "out.gguf", "COPY"]).ok();
    let out = GgufFile::open(folder.path("out.gguf")).unwrap();
    let numbers = |key: &str| out.metadata().i32_array(key).unwrap().unwrap();
    assert_eq!(numbers("llama.attention.head_count"), [8, 2]);
    assert_eq!(numbers("tokenizer.ggml.token_type"), [1, 2, 3]);
}

#[test]
fn stacks_of_stacks_have_an_importance_each() {
    let folder = Folder::new();
    let name = "blk.0.ffn_down_exps.weight";
    model(&folder.path("m.gguf"), 1, &[(name, &[256, 2, 3, 2])]);
    let sums: Vec<f64> = (0..256 * 6).map(|i| 1.0 + (i % 7) as f64).collect();
    importance(&folder.path("all.gguf"), &[(name, sums.clone(), 6)]);
    importance(&folder.path("few.gguf"), &[(name, sums[..256 * 3].to_vec(), 3)]);
    quantize(&folder, &["--imatrix", "all.gguf", "m.gguf", "out.gguf", "Q4_K_M"]).ok();
    assert!(off(&folder.path("out.gguf"), name) < 0.06);
    let ran = quantize(&folder, &["--imatrix", "few.gguf", "m.gguf", "out.gguf", "Q4_K_M"]);
    let expected = "importance of 768 columns in few.gguf, expected 1536, an importance matrix of this model";
    assert!(ran.error().contains(expected), "{}", ran.stderr);
}

#[test]
fn importance_that_says_nothing_or_too_much_ruins_no_weights() {
    let folder = Folder::new();
    let (name, experts) = ("blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight");
    model(&folder.path("m.gguf"), 1, &[(name, &[256, 8]), (experts, &[256, 4, 2])]);
    let half: Vec<f64> = (0..256).map(|i| if i < 128 { 0.0 } else { 1.0 }).collect();
    let one_huge: Vec<f64> = (0..256).map(|i| if i == 5 { 3e38 } else { 1.0 }).collect();
    let with_zero_expert = [vec![0.0; 256], vec![1.0; 256]].concat();
    let cases = [
        ("zero", vec![0.0; 256]),
        ("half", half),
        ("huge", vec![3e38; 256]),
        ("one huge", one_huge),
        ("tiny", vec![1e-44; 256]),
    ];
    for (case, sums) in cases {
        importance(&folder.path("i.gguf"), &[(name, sums, 1), (experts, with_zero_expert.clone(), 2)]);
        for file_type in
            ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K_S", "Q4_K_S", "Q5_K_S", "Q6_K", "IQ4_NL", "IQ4_XS"]
        {
            let ran =
                quantize(&folder, &["--pure", "--imatrix", "i.gguf", "m.gguf", "out.gguf", file_type]).ok();
            let said = ran.stderr.contains("tensor 'blk.0.attn_q.weight': all importance in i.gguf is zero");
            assert_eq!(said, case == "zero", "{}", ran.stderr);
            assert!(ran.stderr.contains("all importance of one expert in i.gguf is zero"), "{}", ran.stderr);
            // A step of Q2_K is half of the largest weight, and weights are spread evenly.
            let limit = if file_type == "Q2_K" { 0.25 } else { 0.15 };
            for name in [name, experts] {
                let off = off(&folder.path("out.gguf"), name);
                assert!(off < limit, "{case}, {file_type}, {name}: {off}");
            }
        }
    }
}

#[test]
fn flags_without_effect_are_named() {
    let folder = Folder::new();
    model(
        &folder.path("tied.gguf"),
        1,
        &[
            ("token_embd.weight", &[256, 8]),
            ("blk.0.attn_q.weight", &[256, 8]),
            ("blk.0.attn_norm.weight", &[256]),
        ],
    );
    importance(&folder.path("i.gguf"), &[("blk.0.attn_q.weight", vec![1.0; 256], 1)]);
    importance(&folder.path("other.gguf"), &[("blk.9.attn_q.weight", vec![1.0; 256], 1)]);
    let cases: &[(&[&str], &str, &str)] = &[
        (
            &["--pure", "--tensor-type", "attn_q=q8_0"],
            "COPY",
            "--pure, --tensor-type have no effect: COPY keeps",
        ),
        (&["--imatrix", "i.gguf"], "COPY", "--imatrix has no effect: COPY keeps every type"),
        (&["--imatrix", "i.gguf"], "F16", "--imatrix has no effect: no tensor is quantized by what i.gguf"),
        (
            &["--imatrix", "other.gguf"],
            "Q4_0",
            "--imatrix has no effect: no tensor is quantized by what other",
        ),
        (
            &["--leave-output-tensor"],
            "Q4_0",
            "--leave-output-tensor has no effect: there is no output.weight",
        ),
        (&["--output-tensor-type", "q8_0"], "F16", "--output-tensor-type has no effect: there is no output"),
        (&["--output-tensor-type", "q8_0", "--pure"], "Q4_0", "--output-tensor-type has no effect: there is"),
        (
            &["--tensor-type", "attn_=q8_0", "--tensor-type", "attn_q=q4_0"],
            "Q4_0",
            "the pattern 'attn_q' has no effect: what it matches, as 'blk.0.attn_q.weight', keeps its type or has it",
        ),
        (&["--tensor-type", "attn_norm=q8_0"], "Q4_0", "the pattern 'attn_norm' has no effect"),
        (&["--tensor-type", "attn_z=q8_0"], "Q4_0", "no tensor matches the pattern 'attn_z'"),
    ];
    for (flags, file_type, expected) in cases {
        let args = [*flags, &["tied.gguf", "out.gguf", file_type][..]].concat();
        let ran = quantize(&folder, &args).ok();
        assert!(ran.stderr.contains(expected), "{flags:?}: {}", ran.stderr);
        let out = GgufFile::open(folder.path("out.gguf")).unwrap();
        assert!(!out.metadata().iter().any(|(key, _)| key.starts_with("quantize.imatrix")), "{flags:?}");
    }
    // In a mix, the embedding has the output's type.
    let ran = quantize(&folder, &["--output-tensor-type", "q5_1", "tied.gguf", "out.gguf", "Q4_K_M"]).ok();
    assert!(!ran.stderr.contains("no effect"), "{}", ran.stderr);
    let out = GgufFile::open(folder.path("out.gguf")).unwrap();
    assert_eq!(out.require_tensor("token_embd.weight").unwrap().tensor_type, TensorType::Q5_1);
    let ran = quantize(&folder, &["--tensor-type", "attn_(=q8_0", "tied.gguf", "out.gguf", "Q4_0"]);
    assert!(
        ran.error().contains("pattern 'attn_(': ") && ran.stderr.contains("unclosed group"),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_many_tensors_have_in_common_is_said_once() {
    let folder = Folder::new();
    let names =
        ["blk.0.attn_k.weight", "blk.0.attn_q.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"];
    let shapes = [(names[0], &[96, 2][..]), (names[1], &[96, 2]), (names[2], &[96, 2]), (names[3], &[64, 2])];
    model(&folder.path("m.gguf"), 1, &shapes);
    importance(&folder.path("i.gguf"), &[(names[0], vec![1.0; 96], 1)]);
    let ran = quantize(&folder, &["--pure", "--imatrix", "i.gguf", "m.gguf", "out.gguf", "Q4_K_S"]).ok();
    for expected in [
        "tensor 'blk.0.attn_k.weight' and 2 others: rows of 96 are no whole blocks of Q4_K: Q5_0 instead",
        "tensor 'blk.0.ffn_down.weight': rows of 64 are no whole blocks of Q4_K: Q5_0 instead",
        "tensor 'blk.0.attn_q.weight' and 2 others: no importance in i.gguf",
    ] {
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

#[test]
fn weights_in_halves_that_are_no_numbers_are_named() {
    let folder = Folder::new();
    for (tensor_type, nan) in [(TensorType::F16, 0x7e01_u16), (TensorType::BF16, 0x7fc0)] {
        let mut writer = GgufWriter::new();
        writer.metadata_mut().set("general.architecture", "llama");
        writer.metadata_mut().set("llama.block_count", 1_u32);
        writer.add_tensor("blk.0.attn_q.weight", &[256, 4], tensor_type).unwrap();
        let mut halves = vec![0_u16; 1024];
        halves[256 * 2 + 9] = nan;
        let bytes: Vec<u8> = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
        std::fs::write(folder.path("nan.gguf"), writer.write_all(Vec::new(), &[&bytes]).unwrap()).unwrap();
        for file_type in ["Q4_K_M", "Q8_0", "F16", "BF16", "F32", "COPY"] {
            let ran = quantize(&folder, &["nan.gguf", "out.gguf", file_type]);
            let expected =
                "tensor 'blk.0.attn_q.weight': found NaN in row 2, column 9, expected finite weights";
            assert!(ran.error().contains(expected), "{tensor_type} to {file_type}: {}", ran.stderr);
        }
    }
    assert_eq!(folder.names(), ["nan.gguf"]);
}

#[test]
fn a_wrong_file_as_importance_is_refused_without_reading_it() {
    let folder = Folder::new();
    model(&folder.path("m.gguf"), 1, &[("blk.0.attn_q.weight", &[256, 8])]);
    // More than any machine has memory for; nothing of it is on the disk.
    const SIZE: u64 = 1 << 42;
    let sparse = |name: &str, head: &[u8]| {
        std::fs::write(folder.path(name), head).unwrap();
        File::options().write(true).open(folder.path(name)).unwrap().set_len(SIZE).is_ok()
    };
    let entry = |len: i32| [1_i32.to_le_bytes(), len.to_le_bytes()].concat();
    let many = [&entry(1)[..], b"a", &1_i32.to_le_bytes(), &i32::MAX.to_le_bytes()].concat();
    let whole = std::fs::read(folder.path("m.gguf")).unwrap();
    let cases: [(&[u8], &str); 4] = [
        (&entry(i32::MAX), "a name of 2147483647 bytes"),
        (&many, "found 2147483647 sums"),
        (b"PK\x03\x04", "big.bin: "),
        (&whole, "expected an importance matrix"),
    ];
    for (head, expected) in cases {
        if !sparse("big.bin", head) {
            eprintln!("skipped: the file system has no room for a file with holes");
            return;
        }
        let ran = quantize(&folder, &["--imatrix", "big.bin", "m.gguf", "out.gguf", "Q4_0"]);
        assert!(ran.error().contains(expected), "{}", ran.stderr);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_program_that_is_told_to_end_leaves_nothing() {
    use std::os::unix::process::CommandExt;

    let folder = Folder::new();
    // 512 MB of zeros that take no place, so that there is time.
    let mut writer = GgufWriter::new();
    writer.metadata_mut().set("general.architecture", "llama");
    writer.metadata_mut().set("llama.block_count", 1_u32);
    writer.add_tensor("blk.0.attn_q.weight", &[256, 1 << 19], TensorType::F32).unwrap();
    let file = File::create(folder.path("m.gguf")).unwrap();
    drop(writer.start(&file).unwrap());
    let n_bytes = file.metadata().unwrap().len().next_multiple_of(32) + (512 << 20);
    file.set_len(n_bytes).unwrap();
    let is_aside = |name: &String| name.starts_with(".out.gguf.") && name.ends_with(".part");
    for (signal, code) in [(libc::SIGTERM, 143), (libc::SIGHUP, 129), (libc::SIGINT, 130)] {
        let line = ["quantize", "m.gguf", "out.gguf", "Q4_K", "1"];
        let mut command = folder.command(line);
        // Below `nohup`, which this test may be, SIGHUP is ignored by children too.
        // SAFETY: between `fork` and `exec` it makes one system call, which only takes numbers.
        unsafe {
            command.pre_exec(move || {
                libc::signal(signal, libc::SIG_DFL);
                Ok(())
            })
        };
        let mut child = command.spawn().unwrap();
        while !folder.names().iter().any(is_aside) {
            assert_eq!(child.try_wait().unwrap(), None, "it has ended by itself");
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        // SAFETY: `kill` only takes numbers, and the child is not waited for yet.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains("interrupted: nothing was written"), "{stderr}");
        assert_eq!(folder.names(), ["m.gguf"]);
    }
    // Below nohup a terminal that goes away is no reason to end.
    let mut command = std::process::Command::new("sh");
    let script = format!(
        "trap '' HUP; {} quantize m.gguf out.gguf Q4_K 1 & trap - HUP; kill -HUP $!; sleep 0.2; kill -HUP $!; kill -TERM $!; wait $!",
        env!("CARGO_BIN_EXE_bise")
    );
    let output = command.arg("-c").arg(script).current_dir(folder.path("")).output().unwrap();
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    assert_eq!(folder.names(), ["m.gguf"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_leaves_nothing_and_what_killed_runs_left_is_removed() {
    let folder = Folder::new();
    model(&folder.path("m.gguf"), 1, &[("blk.0.attn_q.weight", &[256, 4096])]);
    folder.write("out.gguf", "before");
    folder.write(".out.gguf.aBc123.part", "left over");
    folder.write(".out.gguf.bak.part", "of somebody else");
    let limited = |blocks: u32, args: &str| {
        // A limit in 512 bytes or in 1024, as the shell has it.
        let script = format!("ulimit -f {blocks}; exec {} quantize {args}", env!("CARGO_BIN_EXE_bise"));
        let mut command = std::process::Command::new("sh");
        command.arg("-c").arg(script).current_dir(folder.path(""));
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        folder.finish(&mut command, b"")
    };
    let ran = limited(500, "--force m.gguf out.gguf Q8_0");
    assert!(ran.error().contains("out.gguf: ") && ran.stderr.contains("File too large"), "{}", ran.stderr);
    assert_eq!(folder.names(), [".out.gguf.bak.part", "m.gguf", "out.gguf"]);
    assert_eq!(std::fs::read(folder.path("out.gguf")).unwrap(), b"before");
}
