//! Adapters in GGUF files: what is read, and what is refused with which words.

use std::path::Path;

use bise_kernels::KernelTable;
use bise_models::gguf::{Array, GgufFile, GgufWriter, TensorType, Value};
use bise_models::{Adapter, LowRank, Mistral, MistralConfig, Projection, Site};

fn model(name: &str) -> Mistral {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles").join(name).with_extension("gguf");
    let file = GgufFile::open(path).unwrap();
    let config = MistralConfig::from_metadata(file.metadata()).unwrap();
    Mistral::load(&file, config, KernelTable::detect()).unwrap()
}

/// Tensors of an adapter file: name, GGUF's sizes, type, bytes.
type Tensors = Vec<(String, Vec<usize>, TensorType, Vec<u8>)>;

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Numbers that differ and that F16 and BF16 hold exactly.
fn numbers(n: usize, seed: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7 + seed * 13) % 61) as f32 / 64.0 - 0.5).collect()
}

/// A and B beside matrix `name` `[n_rows, k]`.
fn pair(name: &str, [n_rows, k]: [usize; 2], rank: usize) -> Tensors {
    vec![
        (format!("{name}.lora_a"), vec![k, rank], TensorType::F32, f32s(&numbers(rank * k, 1))),
        (format!("{name}.lora_b"), vec![rank, n_rows], TensorType::F32, f32s(&numbers(n_rows * rank, 2))),
    ]
}

fn metadata(alpha: f32) -> Vec<(&'static str, Value)> {
    vec![
        ("general.type", "adapter".into()),
        ("general.architecture", "llama".into()),
        ("adapter.type", "lora".into()),
        ("adapter.lora.alpha", Value::F32(alpha)),
    ]
}

fn file(metadata: &[(&str, Value)], tensors: &Tensors) -> GgufFile {
    let mut writer = GgufWriter::new();
    metadata.iter().for_each(|(key, value)| writer.metadata_mut().set(key, value.clone()));
    for (name, shape, tensor_type, _) in tensors {
        writer.add_tensor(name, shape, *tensor_type).unwrap();
    }
    let mut bytes = Vec::new();
    let data: Vec<&[u8]> = tensors.iter().map(|tensor| &tensor.3[..]).collect();
    writer.write_all(&mut bytes, &data).unwrap();
    GgufFile::from_bytes(bytes, "a.gguf").unwrap()
}

fn refused(model: &Mistral, metadata: &[(&str, Value)], tensors: &Tensors, words: &[&str]) {
    let message = Adapter::from_gguf(&file(metadata, tensors), model).unwrap_err().to_string();
    let has_all = words.iter().all(|word| message.contains(word));
    assert!(has_all && message.starts_with("a.gguf: ") && !message.contains('\n'), "{message}\n{words:?}");
}

/// Rows and columns of `blk.0.attn_k`.
fn shape_k(model: &Mistral) -> [usize; 2] {
    [model.config().kv_dim(), model.config().n_embd]
}

const K: Site = Site { layer: 0, projection: Projection::AttnK, expert: None };

#[test]
fn parts_come_in_order_with_their_scales() {
    let m = model("plain_f32");
    let c = m.config();
    let mut tensors = pair("output.weight", [c.n_vocab, c.n_embd], 3);
    tensors.extend(pair("blk.1.ffn_down.weight", [c.n_embd, c.n_ff], 4));
    tensors.extend(pair("blk.1.attn_q.weight", [c.q_dim(), c.n_embd], 2));
    tensors.extend(pair("blk.0.attn_k.weight", shape_k(&m), 1));
    tensors.rotate_left(3);
    let adapter = Adapter::from_gguf(&file(&metadata(6.0), &tensors), &m).unwrap();
    let sites: Vec<_> = adapter.sites().map(|(site, rank, scale)| (site.to_string(), rank, scale)).collect();
    let expected = [("blk.0.attn_k", 1, 6.0), ("blk.1.attn_q", 2, 3.0), ("blk.1.ffn_down", 4, 1.5)];
    let expected = expected.into_iter().chain([("output", 3, 2.0)]);
    assert_eq!(sites, expected.map(|(site, rank, scale)| (site.to_owned(), rank, scale)).collect::<Vec<_>>());
    let (site, part) = adapter.parts().next().unwrap();
    assert_eq!((site, part.rank), (K, 1));
    let [n_rows, k] = shape_k(&m);
    assert!(part.a == numbers(k, 1) && part.b == numbers(n_rows, 2));

    // Without alpha, and with 0, the scale is 1.
    for metadata in [metadata(0.0), metadata(6.0)[..3].to_vec()] {
        let adapter = Adapter::from_gguf(&file(&metadata, &tensors), &m).unwrap();
        assert!(adapter.sites().all(|(_, _, scale)| scale == 1.0));
    }
}

#[test]
fn types_and_left_out_sizes_are_read() {
    let m = model("plain_f32");
    let [n_rows, k] = shape_k(&m);
    let (a, b) = (numbers(k, 1), numbers(n_rows, 2));
    let halves = |values: &[f32]| values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    let brains =
        |values: &[f32]| values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    let name = |which: &str| format!("blk.0.attn_k.weight.{which}");
    let tensors = vec![
        (name("lora_a"), vec![k], TensorType::F16, halves(&a)),
        (name("lora_b"), vec![1, n_rows], TensorType::BF16, brains(&b)),
    ];
    let adapter = Adapter::from_gguf(&file(&metadata(2.0), &tensors), &m).unwrap();
    let expected = LowRank { rank: 1, scale: 2.0, a, b };
    assert_eq!(adapter.parts().collect::<Vec<_>>(), [(K, expected)]);

    // Blocks of Q8_0: scale 0.5 (as f16) and 32 bytes.
    let block: Vec<u8> = [0x00, 0x38].into_iter().chain(1..=32).collect();
    let bytes = block.repeat(k / 32);
    let tensors = vec![(name("lora_a"), vec![k, 1], TensorType::Q8_0, bytes), tensors[1].clone()];
    let adapter = Adapter::from_gguf(&file(&metadata(2.0), &tensors), &m).unwrap();
    let (_, part) = adapter.parts().next().unwrap();
    assert!(part.a.iter().enumerate().all(|(i, v)| *v == (i % 32 + 1) as f32 / 2.0), "{:?}", part.a);
}

#[test]
fn experts_come_stacked_or_one_by_one() {
    for name in ["mixtral_stacked", "mixtral_split"] {
        let m = model(name);
        let c = m.config();
        let n = c.experts.unwrap().n_experts;
        let (rank, k, n_rows) = (2, c.n_embd, c.n_ff);
        let stack = vec![
            (
                "blk.1.ffn_up_exps.weight.lora_a".to_owned(),
                vec![k, rank, n],
                TensorType::F32,
                f32s(&numbers(n * rank * k, 3)),
            ),
            (
                "blk.1.ffn_up_exps.weight.lora_b".to_owned(),
                vec![rank, n_rows, n],
                TensorType::F32,
                f32s(&numbers(n * n_rows * rank, 4)),
            ),
        ];
        let mut one = pair("blk.1.ffn_down.2.weight", [c.n_embd, c.n_ff], rank);
        one.extend(pair("blk.0.ffn_gate_inp.weight", [n, c.n_embd], rank));
        let adapter = Adapter::from_gguf(&file(&metadata(0.0), &[stack.clone(), one].concat()), &m).unwrap();
        let sites: Vec<String> = adapter.sites().map(|(site, ..)| site.to_string()).collect();
        let ups = (0..n).map(|e| format!("blk.1.ffn_up.{e}"));
        let expected = ["blk.0.ffn_gate_inp".to_owned()].into_iter().chain(ups);
        assert_eq!(sites, expected.chain(["blk.1.ffn_down.2".to_owned()]).collect::<Vec<_>>());
        for (site, part) in adapter.parts().filter(|(site, _)| site.projection == Projection::FfnUp) {
            let e = site.expert.unwrap();
            assert_eq!(part.a, numbers(n * rank * k, 3)[e * rank * k..][..rank * k], "expert {e}");
            assert_eq!(part.b, numbers(n * n_rows * rank, 4)[e * n_rows * rank..][..n_rows * rank]);
        }
        // A dense model has no experts, and a sparse one no dense feed-forward.
        refused(&model("plain_f32"), &metadata(0.0), &stack, &["blk.1.ffn_up_exps", "another model"]);
        let dense = pair("blk.0.ffn_gate.weight", [c.n_ff, c.n_embd], 1);
        refused(&m, &metadata(0.0), &dense, &["blk.0.ffn_gate.weight", "another model"]);
        let mut short = stack;
        short[1].1[2] -= 1;
        short[1].3.truncate(4 * (n - 1) * n_rows * rank);
        refused(&m, &metadata(0.0), &short, &["ffn_up_exps.weight.lora_b", &format!("[2, {n_rows}, {n}]")]);
    }
}

#[test]
fn files_that_are_no_adapters_for_this_model_are_refused() {
    let m = model("plain_f32");
    let tensors = pair("blk.0.attn_k.weight", shape_k(&m), 2);
    let with = |key: &'static str, value: Value| {
        let mut metadata = metadata(1.0);
        metadata.retain(|(name, _)| *name != key);
        metadata.push((key, value));
        metadata
    };
    for (key, value, words) in [
        ("general.type", "model".into(), &["general.type", "'model'", "'adapter'"][..]),
        ("general.architecture", "qwen2".into(), &["general.architecture", "'qwen2'", "'llama'"]),
        ("adapter.type", "control".into(), &["adapter.type", "'control'", "'lora'"]),
        ("adapter.lora.alpha", Value::F32(f32::NAN), &["adapter.lora.alpha", "NaN", "finite"]),
        ("adapter.lora.alpha", "16".into(), &["adapter.lora.alpha", "float"]),
        ("adapter.dora.magnitude", Value::Bool(true), &["adapter.dora.magnitude", "not supported"]),
    ] {
        refused(&m, &with(key, value), &tensors, words);
    }
    refused(&m, &metadata(1.0)[1..], &tensors, &["general.type", "nothing", "'adapter'"]);
    let tokens = Value::from(Array::U32(vec![1, 2]));
    let key = "adapter.alora.invocation_tokens";
    refused(&m, &with(key, tokens), &tensors, &[key, "aLoRA", "not supported"]);
    refused(&m, &metadata(1.0), &Vec::new(), &["no tensors", "lora_a"]);
    // What says nothing about the arithmetic passes.
    let described = with("adapter.lora.task_name", "translation".into());
    Adapter::from_gguf(&file(&described, &tensors), &m).unwrap();
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let m = model("plain_f32");
    let [n_rows, k] = shape_k(&m);
    let good = pair("blk.0.attn_k.weight", [n_rows, k], 2);
    let no = |tensors: &Tensors, words: &[&str]| refused(&m, &metadata(1.0), tensors, words);

    for (name, words) in [
        ("blk.7.attn_k.weight", &["blk.7.attn_k.weight", "another model"][..]),
        ("blk.0.attn_norm.weight", &["blk.0.attn_norm.weight", "not supported"]),
        ("blk.0.attn_k.bias", &["blk.0.attn_k.bias", "not supported"]),
        ("blk.0.\u{1b}[2J.weight", &["blk.0.\\u{1b}[2J", "not supported"]),
    ] {
        no(&pair(name, [n_rows, k], 2), words);
    }
    let n_vocab = m.config().n_vocab;
    let mut embedding = pair("token_embd.weight", [k, n_vocab], 2);
    // Its A is transposed.
    embedding[0].1 = vec![2, n_vocab];
    no(&embedding, &["token_embd.weight", "not supported"]);
    let mut tensors = good.clone();
    tensors.push(("blk.0.attn_norm.weight".into(), vec![k], TensorType::F32, f32s(&vec![1.0; k])));
    no(&tensors, &["blk.0.attn_norm.weight", "lora_a"]);

    no(&good[..1].to_vec(), &["blk.0.attn_k.weight.lora_a", "alone", "blk.0.attn_k.weight.lora_b"]);
    no(&good[1..].to_vec(), &["blk.0.attn_k.weight.lora_b", "alone", "blk.0.attn_k.weight.lora_a"]);

    // Another model's width, another rank, transposed.
    no(
        &pair("blk.0.attn_k.weight", [n_rows, k + 1], 2),
        &["lora_a", &format!("[{}, 2]", k + 1), &k.to_string()],
    );
    no(&pair("blk.0.attn_k.weight", [n_rows + 1, k], 2), &["lora_b", &format!("{n_rows} rows")]);
    let mut mixed = good.clone();
    mixed[1] = pair("blk.0.attn_k.weight", [n_rows, k], 3).remove(1);
    no(&mixed, &["blk.0.attn_k.weight.lora_b", &format!("[3, {n_rows}]"), "the rank 2"]);
    let mut transposed = good.clone();
    transposed[0].1.swap(0, 1);
    no(&transposed, &["blk.0.attn_k.weight.lora_a", &format!("[2, {k}]")]);
    let mut deep = good.clone();
    deep[0].1.push(2);
    deep[0].3.extend(f32s(&numbers(2 * k, 5)));
    no(&deep, &["blk.0.attn_k.weight.lora_a", ", 2, 2]"]);

    for value in [f32::NAN, f32::INFINITY] {
        let mut tensors = good.clone();
        tensors[1].3[40..44].copy_from_slice(&value.to_le_bytes());
        no(&tensors, &["blk.0.attn_k.weight.lora_b", &value.to_string(), "row 5", "finite"]);
    }
    let mut unread = good;
    unread[0].2 = TensorType::I32;
    no(&unread, &["blk.0.attn_k.weight.lora_a", "I32", "F32, F16"]);
}

/// A is a tensor of another rank than anybody's, and refused before its numbers are read. Of small matrices, ranks may be those of large ones.
#[test]
fn a_rank_out_of_proportion_is_refused_by_name() {
    let m = model("plain_f32");
    let [n_rows, k] = shape_k(&m);
    let with = |rank| pair("blk.0.attn_k.weight", [n_rows, k], rank);
    let adapter = Adapter::from_gguf(&file(&metadata(1.0), &with(4096)), &m).unwrap();
    assert_eq!(adapter.sites().next().unwrap().1, 4096);
    let words = ["'blk.0.attn_k.weight.lora_a'", "found the rank 4097", "expected 4096 at most"];
    refused(&m, &metadata(1.0), &with(4097), &words);
    let tensors = file(&metadata(1.0), &with(4097));
    let error = bise_models::GgufAdapterTensors::of(&tensors).unwrap_err().to_string();
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    let part = LowRank { rank: 4097, scale: 1.0, a: vec![0.0; 4097 * k], b: vec![0.0; 4097 * n_rows] };
    let error = Adapter::new("x".to_owned(), &m, [(K, part)]).unwrap_err().to_string();
    assert!(error.contains("found rank 4097, expected 4096 at most"), "{error}");
    assert_eq!([LowRank::max_rank(4096, 14336), LowRank::max_rank(8, 4096)], [16384, 4096]);
}

/// What is foretold of a file is what the adapter takes, but for numbers that 16 bits hold.
#[test]
fn bytes_are_foretold_from_the_file() {
    let m = model("plain_f32");
    let [n_rows, k] = shape_k(&m);
    let odd = |n: usize| f32s(&(0..n).map(|i| i as f32 / 3.0).collect::<Vec<_>>());
    let name = |which: &str| format!("blk.0.attn_k.weight.{which}");
    let tensors = vec![
        (name("lora_a"), vec![k, 3], TensorType::F32, odd(3 * k)),
        (name("lora_b"), vec![3, n_rows], TensorType::F32, odd(3 * n_rows)),
    ];
    let made = file(&metadata(1.0), &tensors);
    let foretold = bise_models::GgufAdapterTensors::of(&made).unwrap().kept_bytes();
    let adapter = Adapter::from_gguf(&made, &m).unwrap();
    let beside = size_of::<(Site, LowRank)>();
    assert!(adapter.n_bytes() <= foretold + beside, "{foretold}, {}", adapter.n_bytes());
    assert!(foretold < adapter.n_bytes() + 4 * 16 * 3, "{foretold}, {}", adapter.n_bytes());
    // Blocks of 8 bits are kept as F32: not as many bytes as the file has.
    let zeros = vec![
        (name("lora_a"), vec![k, 32], TensorType::Q8_0, vec![0; k * 34]),
        (name("lora_b"), vec![32, n_rows], TensorType::Q8_0, vec![0; n_rows * 34]),
    ];
    let made = file(&metadata(1.0), &zeros);
    let foretold = bise_models::GgufAdapterTensors::of(&made).unwrap().kept_bytes();
    assert_eq!(foretold, 4 * 32 * (k + n_rows) + 4 * 16 * 32);
}

#[test]
fn parts_that_are_made_in_memory_are_checked_too() {
    let m = model("plain_f32");
    let [n_rows, k] = shape_k(&m);
    let part = || LowRank { rank: 2, scale: 1.0, a: numbers(2 * k, 1), b: numbers(2 * n_rows, 2) };
    let make = |parts: Vec<(Site, LowRank)>| {
        Adapter::new("mine".into(), &m, parts).map_err(|error| error.to_string())
    };
    let refused = |parts, words: &[&str]| {
        let message = make(parts).unwrap_err();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    make(vec![(K, part())]).unwrap();
    refused(vec![(K, part()), (K, part())], &["mine", "blk.0.attn_k.weight", "two parts"]);
    refused(vec![(K, LowRank { rank: 0, a: vec![], b: vec![], ..part() })], &["blk.0.attn_k", "rank 0"]);
    refused(vec![(K, LowRank { rank: 3, ..part() })], &["lora_a", &format!("3 rows of {k}")]);
    refused(vec![(K, LowRank { b: numbers(2, 1), ..part() })], &["lora_b", &format!("{n_rows} rows of 2")]);
    refused(vec![(K, LowRank { scale: f32::INFINITY, ..part() })], &["blk.0.attn_k", "scale", "inf"]);
    refused(vec![(K, LowRank { rank: usize::MAX, ..part() })], &["lora_a"]);
    let output = |layer| Site { layer, projection: Projection::Output, expert: None };
    refused(vec![(output(0), part())], &["output.weight", "another model"]);
    refused(vec![], &["mine", "no tensors"]);
}
