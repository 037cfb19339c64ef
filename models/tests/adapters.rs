//! Adapters in forward passes: what they add, and that the bits of a row depend on nothing but its own text and adapters.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{Isa, KernelTable, Team, dequantize_row};
use bise_models::gguf::{GgufDataWriter, GgufFile, GgufWriter, TensorType, WriteError};
use bise_models::{
    Adapter, ForwardError, KvCache, LowRank, MemoryBudget, Mistral, MistralConfig, Output, PagePool,
    PassContext, Projection, Site, Span, SpanError,
};

static NEVER: AtomicBool = AtomicBool::new(false);
const N_CTX: usize = 512;

type Adapters = Vec<(Arc<Adapter>, f32)>;

/// Models of every shape: grouped and single key heads, heads wider than their share, windows, experts, tied embeddings.
const ORACLES: [&str; 8] = [
    "plain_f32",
    "plain_f16",
    "mqa_wide",
    "mha_narrow_tied",
    "window_5",
    "ministral_3",
    "mixtral_split",
    "mixtral_stacked",
];

fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles").join(name).with_extension("gguf")
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tiny/bise-tiny.Q4_K_M.gguf")
}

fn open_on(path: &Path, isa: Isa) -> Mistral {
    let file = GgufFile::open(path).unwrap();
    let config = MistralConfig::from_metadata(file.metadata()).unwrap();
    Mistral::load(&file, config, KernelTable::for_isa(isa).unwrap()).unwrap()
}

fn open(path: &Path) -> Mistral {
    open_on(path, Isa::detect())
}

/// Every matrix that an adapter may stand beside.
fn sites(model: &Mistral) -> Vec<Site> {
    use Projection::*;
    let n_experts = model.config().experts.map_or(0, |experts| experts.n_experts);
    let experts: Vec<Option<usize>> = [None].into_iter().chain((0..n_experts).map(Some)).collect();
    let projections = [AttnQ, AttnK, AttnV, AttnOutput, FfnGateInp, FfnGate, FfnUp, FfnDown, Output];
    (0..=model.config().n_layers)
        .flat_map(|layer| projections.map(|projection| (layer, projection)))
        .flat_map(|(layer, projection)| experts.iter().map(move |e| Site { layer, projection, expert: *e }))
        .filter(|site| model.weights().matrix(*site).is_some())
        .collect()
}

/// An adapter on all of `sites`, of ranks 1 to 5, strong enough to be seen.
fn random(model: &Mistral, sites: &[Site], seed: u64) -> Arc<Adapter> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut unit = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let parts: Vec<(Site, LowRank)> = sites
        .iter()
        .enumerate()
        .map(|(i, site)| {
            let w = model.weights().matrix(*site).unwrap().view();
            let rank = 1 + (i + seed as usize) % 5;
            let size = 0.5 / (w.k() as f32).sqrt();
            let a = (0..rank * w.k()).map(|_| unit() * size).collect();
            let b = (0..w.n_rows() * rank).map(|_| unit() * 0.5).collect();
            (*site, LowRank { rank, scale: 0.5 + i as f32 / 64.0, a, b })
        })
        .collect();
    Arc::new(Adapter::new(format!("random {seed}"), model, parts).unwrap())
}

/// The model at `path` in F32, with `W + factor · scale · B·A` for each adapter in place of `W`.
fn merged(path: &Path, adapters: &Adapters) -> Mistral {
    let file = GgufFile::open(path).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    let has_output = file.tensor("output.weight").is_some();
    for info in file.tensors() {
        writer.add_tensor(&info.name, &info.shape, TensorType::F32).unwrap();
    }
    let embeddings = file.tensor("token_embd.weight").unwrap();
    if !has_output {
        writer.add_tensor("output.weight", &embeddings.shape, TensorType::F32).unwrap();
    }
    let values = |info: &bise_models::gguf::TensorInfo| {
        let mut values = vec![0.0; info.n_elements()];
        dequantize_row(info.tensor_type.format().unwrap(), &file.bytes(info), &mut values);
        values
    };
    let changed = |name: &str, mut values: Vec<f32>| {
        for (adapter, factor) in adapters {
            for (site, LowRank { rank, scale, a, b }) in adapter.parts() {
                let (n_rows, k) = (b.len() / rank, a.len() / rank);
                let stacked = format!("{}_exps.weight", Site { expert: None, ..site });
                let first = match site.expert {
                    _ if name == format!("{site}.weight") => 0,
                    Some(e) if name == stacked => e * n_rows * k,
                    _ => continue,
                };
                for (r, row) in b.chunks(rank).enumerate() {
                    for i in 0..k {
                        let sum: f64 = (0..rank).map(|j| row[j] as f64 * a[j * k + i] as f64).sum();
                        let w = &mut values[first + r * k + i];
                        *w = (*w as f64 + (scale * factor) as f64 * sum) as f32;
                    }
                }
            }
        }
        bytemuck::cast_slice::<f32, u8>(&values).to_vec()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("merged.gguf");
    let fill = |out: &mut GgufDataWriter<_>| {
        file.tensors().try_for_each(|info| out.write(&changed(&info.name, values(info))))?;
        if has_output { Ok(()) } else { out.write(&changed("output.weight", values(embeddings))) }
    };
    writer.save::<WriteError>(&path, fill).unwrap();
    open(&path)
}

fn pool(model: &Mistral, cache_type: CacheType) -> PagePool {
    let config = model.config();
    let layout = PageLayout::new(config.n_kv_heads, config.head_dim, cache_type, cache_type);
    PagePool::new(layout, config.n_layers, usize::MAX)
}

fn context(n_threads: usize) -> PassContext {
    PassContext::new(Arc::new(Team::new(n_threads).unwrap()))
}

fn ids(seed: usize, n: usize, n_vocab: usize) -> Vec<u32> {
    (0..n).map(|i| ((31 * i * i + 17 * i + 5 + 101 * seed) % n_vocab) as u32).collect()
}

/// The bits of all outputs of a pass, span by span.
fn forward(model: &Mistral, context: &mut PassContext, batch: &mut [Span<'_>]) -> Vec<Vec<u32>> {
    let mut rows = vec![Vec::new(); batch.len()];
    let mut outputs = model.forward(context, batch, &NEVER).unwrap();
    while let Some(row) = outputs.next_row().unwrap() {
        rows[row.span].extend(row.values.iter().map(|value| value.to_bits()));
    }
    rows
}

/// The logits' bits after each token, read in chunks.
fn read(
    model: &Mistral,
    context: &mut PassContext,
    cache_type: CacheType,
    tokens: &[u32],
    chunk: usize,
    adapters: &Adapters,
) -> Vec<u32> {
    let pool = pool(model, cache_type);
    let cache = &mut KvCache::new(&pool, N_CTX, model.config().sliding_window);
    let mut logits = Vec::new();
    for tokens in tokens.chunks(chunk) {
        let mut batch = [Span { cache, tokens, output: Output::All, adapters }];
        logits.extend(forward(model, context, &mut batch).remove(0));
    }
    logits
}

fn floats(bits: &[u32]) -> impl Iterator<Item = f32> {
    bits.iter().map(|bits| f32::from_bits(*bits))
}

fn largest_difference(a: &[u32], b: &[u32]) -> f32 {
    assert_eq!(a.len(), b.len());
    floats(a).zip(floats(b)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn what_an_adapter_adds_is_what_merging_it_adds() {
    for name in ORACLES {
        let (path, mut context) = (oracle(name), context(2));
        let model = open(&path);
        let tokens = ids(1, 40, model.config().n_vocab);
        let all = sites(&model);
        let some: Vec<Site> = all.iter().copied().step_by(3).collect();
        let adapters = vec![(random(&model, &all, 1), 0.75), (random(&model, &some, 2), -0.5)];
        let found = read(&model, &mut context, CacheType::F32, &tokens, 64, &adapters);
        let expected = read(&merged(&path, &adapters), &mut context, CacheType::F32, &tokens, 64, &vec![]);
        let (error, size) =
            (largest_difference(&found, &expected), floats(&expected).fold(0.0, |a, b| f32::max(a, b.abs())));
        assert!(error <= 2e-5 * size.max(1.0), "{name}: off by {error} of {size}");
        // It is not nothing, site by site.
        let plain = read(&model, &mut context, CacheType::F32, &tokens, 64, &vec![]);
        assert!(largest_difference(&found, &plain) > 0.1, "{name}");
        for site in all {
            let one = vec![(random(&model, &[site], 3), 1.0)];
            let found = read(&model, &mut context, CacheType::F32, &tokens, 64, &one);
            let n_seen = found.iter().zip(&plain).filter(|(a, b)| a != b).count();
            // An expert sees some of the tokens only.
            assert!(n_seen > 0 || site.expert.is_some(), "{name}, {site} adds nothing");
        }
    }
}

#[test]
fn bits_do_not_depend_on_chunks_threads_or_instruction_set() {
    for path in [oracle("window_5"), oracle("mixtral_stacked"), tiny()] {
        let golden = open_on(&path, Isa::Scalar);
        let tokens = ids(2, 50, golden.config().n_vocab);
        let all = sites(&golden);
        let adapters = vec![(random(&golden, &all, 1), 0.75), (random(&golden, &all, 2), 0.25)];
        let expected = read(&golden, &mut context(1), CacheType::F16, &tokens, 50, &adapters);
        for isa in Isa::available() {
            let model = open_on(&path, isa);
            for (n_threads, chunk) in [(1, 1), (2, 7), (3, 33), (2, 50)] {
                let found = read(&model, &mut context(n_threads), CacheType::F16, &tokens, chunk, &adapters);
                assert!(found == expected, "{}, {isa}, {n_threads} threads, {chunk}", path.display());
            }
        }
    }
}

#[test]
fn each_text_of_a_batch_has_its_own_adapters_and_the_bits_it_has_alone() {
    for path in [oracle("plain_f16"), oracle("mixtral_split"), tiny()] {
        let (model, mut context) = (open(&path), context(2));
        let (pool, config) = (pool(&model, CacheType::F16), model.config());
        let (all, n_vocab) = (sites(&model), config.n_vocab);
        let some: Vec<Site> = all.iter().copied().step_by(2).collect();
        let [a, b, c] = [1, 2, 3].map(|seed| random(&model, if seed == 2 { &some } else { &all }, seed));
        // Neighbours with the same ones, the same with another factor, several, none, one that is off.
        let lists: [Adapters; 8] = [
            vec![(a.clone(), 1.0)],
            vec![(b.clone(), 1.0)],
            vec![(b.clone(), 1.0)],
            vec![(b.clone(), 0.5)],
            vec![],
            vec![(c.clone(), 1.0), (a.clone(), -1.0)],
            vec![(c.clone(), 0.0)],
            vec![(a.clone(), 1.0)],
        ];
        let texts: Vec<Vec<u32>> = (0..8).map(|i| ids(i, [30, 1, 5, 17, 3, 40, 2, 9][i], n_vocab)).collect();
        let cache = || KvCache::new(&pool, N_CTX, config.sliding_window);
        // A prompt, then a token each.
        let next: Vec<u32> = ids(9, 8, n_vocab);
        let alone: Vec<Vec<u32>> = (0..8)
            .map(|i| {
                let mut cache = cache();
                let mut read = |tokens: &[u32], output| {
                    let mut batch = [Span { cache: &mut cache, tokens, output, adapters: &lists[i] }];
                    forward(&model, &mut context, &mut batch).remove(0)
                };
                [read(&texts[i], Output::All), read(&next[i..=i], Output::Last)].concat()
            })
            .collect();
        let mut caches: Vec<KvCache> = (0..8).map(|_| cache()).collect();
        let mut together = vec![Vec::new(); 8];
        for step in 0..2 {
            let mut batch: Vec<Span<'_>> = (0..8)
                .zip(&mut caches)
                .map(|(i, cache)| {
                    let tokens = if step == 0 { &texts[i][..] } else { &next[i..=i] };
                    let output = if step == 0 { Output::All } else { Output::Last };
                    Span { cache, tokens, output, adapters: &lists[i] }
                })
                .collect();
            for (all, rows) in together.iter_mut().zip(forward(&model, &mut context, &mut batch)) {
                all.extend(rows);
            }
        }
        for i in 0..8 {
            assert!(together[i] == alone[i], "{}, text {i}", path.display());
        }
        // One that is off is as none.
        let mut plain = cache();
        let mut batch = [Span { cache: &mut plain, tokens: &texts[6], output: Output::All, adapters: &[] }];
        let plain = forward(&model, &mut context, &mut batch).remove(0);
        assert!(plain == together[6][..plain.len()]);
        assert!(alone[0] != alone[7] && together[1] != together[2]);
    }
}

/// What is not finite beside adapters may be theirs, and is not blamed on the weights alone. Other texts of the batch go on.
#[test]
fn activations_that_are_not_finite_name_the_adapters_of_their_text() {
    let model = open(&oracle("plain_f32"));
    let mut context = context(2);
    let tokens = ids(1, 9, model.config().n_vocab);
    let site = |layer, projection| Site { layer, projection, expert: None };
    let weak = random(&model, &[site(0, Projection::AttnQ)], 1);
    for (at, is_of_logits) in
        [(site(0, Projection::FfnDown), false), (site(model.config().n_layers, Projection::Output), true)]
    {
        let parts = random(&model, &[at], 2)
            .parts()
            .map(|(at, part)| (at, LowRank { b: part.b.iter().map(|b| b * 1e12).collect(), ..part }))
            .collect::<Vec<_>>();
        let strong = Arc::new(Adapter::new("/srv/adapters/strong".to_owned(), &model, parts).unwrap());
        let adapters: [Adapters; 3] = [
            vec![(weak.clone(), 1.0)],
            vec![(weak.clone(), 0.5), (strong, 1e32), (weak.clone(), 0.0)],
            vec![],
        ];
        let pool = pool(&model, CacheType::F32);
        let mut caches: Vec<KvCache> =
            (0..3).map(|_| KvCache::new(&pool, N_CTX, model.config().sliding_window)).collect();
        let mut batch: Vec<Span<'_>> = caches
            .iter_mut()
            .zip(&adapters)
            .map(|(cache, adapters)| Span { cache, tokens: &tokens, output: Output::Last, adapters })
            .collect();
        let mut outputs = model.forward(&mut context, &mut batch, &NEVER).unwrap();
        let names = "random 1 times 0.5, strong times 1e32".to_owned();
        let cause = "are not finite{} with adapters beside the weights (random 1 times 0.5, strong times 1e32): an adapter or its scale may be \
                     too large, or the weights may be damaged (see `bise inspect --check-tensors`)";
        if is_of_logits {
            assert_eq!(outputs.next_row().unwrap().unwrap().span, 0);
            let error = outputs.next_row().err().unwrap();
            let of_span = SpanError::LogitsNotFinite { adapters: names };
            assert_eq!(error, ForwardError::Span { span: 1, error: of_span });
            assert_eq!(error.to_string(), format!("the logits {}", cause.replace("{}", "")));
        } else {
            let stage = bise_models::Stage::Attention;
            let error = SpanError::NotFinite { layer: 1, stage, adapters: names };
            assert_eq!([0, 1, 2].map(|i| outputs.failure(i)), [None, Some(&error), None]);
            let expected = cause.replace("{}", " in its attention");
            assert_eq!(error.to_string(), format!("the activations of layer 1 {expected}"));
            assert_eq!(outputs.next_row().unwrap().unwrap().span, 0);
        }
        assert_eq!(outputs.next_row().unwrap().unwrap().span, 2);
    }
    let plain = SpanError::LogitsNotFinite { adapters: String::new() };
    let words = "the logits are not finite: the weights may be damaged (see `bise inspect --check-tensors`)";
    assert_eq!(plain.to_string(), words);
}

#[test]
fn adapters_that_do_not_fit_are_named_and_their_memory_is_counted() {
    let (model, other) = (open(&oracle("plain_f32")), open(&oracle("mqa_wide")));
    let fitting = random(&model, &sites(&model), 1);
    let misfit = vec![(random(&other, &sites(&other), 1), 1.0)];
    let pool = pool(&model, CacheType::F16);
    let mut cache = KvCache::new(&pool, N_CTX, None);
    let mut run = |context: &mut PassContext, adapters: &Adapters| {
        let mut batch = [Span { cache: &mut cache, tokens: &[1, 2, 3], output: Output::Last, adapters }];
        model.forward(context, &mut batch, &NEVER).map(drop)
    };
    let error = run(&mut context(1), &misfit).unwrap_err();
    assert!(matches!(&error, ForwardError::Span { error: SpanError::AdapterMisfit { .. }, .. }), "{error}");
    assert!(error.to_string().contains("random 1") && error.to_string().contains("another model"), "{error}");
    let error = run(&mut context(1), &vec![(fitting.clone(), f32::NAN)]).unwrap_err();
    assert!(error.to_string().contains("random 1") && error.to_string().contains("NaN"), "{error}");

    let team = Arc::new(Team::new(1).unwrap());
    let adapters = vec![(fitting.clone(), 1.0)];
    let bytes = |n_wanted| PassContext::bytes(model.config(), 1, 3, n_wanted) + 3 * fitting.row_bytes();
    let in_memory = |bytes| PassContext::with_budget(Arc::clone(&team), &MemoryBudget::new(bytes));
    run(&mut in_memory(bytes(1)), &adapters).unwrap();
    let error = run(&mut in_memory(bytes(0) - 1), &adapters).unwrap_err();
    assert!(error.to_string().contains("adapters"), "{error}");
    // A pass holds on to its adapters until the next one, or until it is told not to.
    let mut context = PassContext::new(team);
    run(&mut context, &adapters).unwrap();
    drop(adapters);
    assert_eq!(Arc::strong_count(&fitting), 2);
    context.release_adapters();
    assert_eq!(Arc::strong_count(&fitting), 1);
}
