//! Forward passes over several sequences: shared pages, spans that fail, cancelling, hidden states, hooks.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bise_kernels::kv_page::{CacheType, PageLayout};
use bise_kernels::{KernelTable, PAGE_LEN, Team, dequantize_row};
use bise_models::gguf::{GgufDataWriter, GgufFile, GgufWriter, WriteError};
use bise_models::{
    ForwardError, Hook, KvCache, Mistral, MistralConfig, Output, PagePool, PassContext, PoolError,
    Projection, Rows, RowsMut, Site, Span, SpanError, Stage,
};

static NEVER: AtomicBool = AtomicBool::new(false);
const N_CTX: usize = 1024;

fn oracle(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracles").join(name).with_extension("gguf")
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tiny/bise-tiny.Q4_K_M.gguf")
}

fn load(file: &GgufFile) -> Mistral {
    let config = MistralConfig::from_metadata(file.metadata()).unwrap();
    Mistral::load(file, config, KernelTable::detect()).unwrap()
}

fn open(path: &Path) -> Mistral {
    load(&GgufFile::open(path).unwrap())
}

/// The model at `path` with the bytes of some tensors changed.
fn changed(path: &Path, change: impl Fn(&str, &mut [u8])) -> Mistral {
    let file = GgufFile::open(path).unwrap();
    let mut writer = GgufWriter::new();
    for (key, value) in file.metadata().iter() {
        writer.metadata_mut().set(key, value.clone());
    }
    for info in file.tensors() {
        writer.add_tensor(&info.name, &info.shape, info.tensor_type).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("changed.gguf");
    let fill = |out: &mut GgufDataWriter<_>| {
        file.tensors().try_for_each(|info| {
            let mut bytes = file.bytes(info).to_vec();
            change(&info.name, &mut bytes);
            out.write(&bytes)
        })
    };
    writer.save::<WriteError>(&path, fill).unwrap();
    open(&path)
}

fn context(threads: usize) -> PassContext {
    PassContext::new(Arc::new(Team::new(threads).unwrap()))
}

fn pool(model: &Mistral, cache_type: CacheType, max_pages: usize) -> PagePool {
    let config = model.config();
    let layout = PageLayout::new(config.n_kv_heads, config.head_dim, cache_type, cache_type);
    PagePool::new(layout, config.n_layers, max_pages)
}

fn cache(model: &Mistral, pool: &PagePool) -> KvCache {
    KvCache::new(pool, N_CTX, model.config().sliding_window)
}

fn ids(seed: usize, n: usize, n_vocab: usize) -> Vec<u32> {
    (0..n).map(|i| ((31 * i * i + 17 * i + 5 + 101 * seed) % n_vocab) as u32).collect()
}

type Bits = Vec<u32>;

/// One pass: the span, index and bits of each output.
fn forward(model: &Mistral, context: &mut PassContext, batch: &mut [Span<'_>]) -> Vec<(usize, usize, Bits)> {
    let mut outputs = model.forward(context, batch, &NEVER).unwrap();
    let mut rows = Vec::new();
    while let Some(row) = outputs.next_row().unwrap() {
        rows.push((row.span, row.index, row.values.iter().map(|x| x.to_bits()).collect()));
    }
    rows
}

fn all(model: &Mistral, context: &mut PassContext, cache: &mut KvCache, tokens: &[u32]) -> Vec<Bits> {
    let batch = &mut [Span { cache, tokens, output: Output::All, adapters: &[] }];
    forward(model, context, batch).into_iter().map(|row| row.2).collect()
}

/// Two sequences with a common beginning of `common` tokens, of which the first has read `n` more; both then go on together, and what
/// they get is what each gets alone.
fn share(name: &str, cache_type: CacheType, n: usize, common: usize) {
    let what = format!("{name}, {cache_type}, {common} of {n}");
    let model = open(&oracle(name));
    let n_vocab = model.config().n_vocab;
    let mut context = context(2);
    let pages = pool(&model, cache_type, usize::MAX);
    let (prefix, ours, theirs) = (ids(0, n, n_vocab), ids(1, 150, n_vocab), ids(2, 150, n_vocab));

    let mut alone = Vec::new();
    for (prefix, rest) in [(&prefix[..], &ours), (&prefix[..common], &theirs)] {
        let own = pool(&model, cache_type, usize::MAX);
        let mut cache = cache(&model, &own);
        all(&model, &mut context, &mut cache, prefix);
        alone.push(all(&model, &mut context, &mut cache, rest));
    }

    let mut first = cache(&model, &pages);
    all(&model, &mut context, &mut first, &prefix);
    let n_before = pages.n_used();
    let mut second = cache(&model, &pages);
    assert!(second.adopt(&first, common), "{what}");
    assert_eq!((second.len(), pages.n_used()), (common, n_before), "{what}: nothing is copied yet");
    let mut together = [Vec::new(), Vec::new()];
    // Pieces that end inside pages and at their edges.
    for range in [0..1, 1..30, 30..92, 92..150] {
        let mut batch = [
            Span { cache: &mut first, tokens: &ours[range.clone()], output: Output::All, adapters: &[] },
            Span { cache: &mut second, tokens: &theirs[range], output: Output::All, adapters: &[] },
        ];
        for (span, _, bits) in forward(&model, &mut context, &mut batch) {
            together[span].push(bits);
        }
    }
    assert!(together[0] == alone[0], "{what}: the first");
    assert!(together[1] == alone[1], "{what}: the second");
    drop((first, second));
    assert_eq!(pages.n_used(), 0, "{what}: every page was given back");
    assert_eq!(pages.n_free(), pages.n_pages());
}

#[test]
fn sequences_that_share_pages_get_the_bits_of_each_alone() {
    for name in ["plain_f16", "window_1", "window_5", "window_70_f16", "mixtral_stacked"] {
        for cache_type in [CacheType::F16, CacheType::Q4_0] {
            for (n, common) in [(100, 100), (100, 90), (128, 128), (100, 64)] {
                share(name, cache_type, n, common);
            }
        }
    }
    // Far past the window, as far back as rows are kept.
    share("window_70_f16", CacheType::F16, 400, 400 - KvCache::SLACK);
}

#[test]
fn a_copy_is_made_of_the_page_that_is_written_and_no_other() {
    let model = open(&oracle("plain_f16"));
    let pages = pool(&model, CacheType::F16, usize::MAX);
    let mut context = context(1);
    let mut first = cache(&model, &pages);
    all(&model, &mut context, &mut first, &ids(0, 3 * PAGE_LEN + 10, model.config().n_vocab));
    let mut second = first.clone();
    assert_eq!(pages.n_used(), 4);
    all(&model, &mut context, &mut second, &[1]);
    assert_eq!(pages.n_used(), 5);
    // The first is the only owner of its last page again, and writes in place.
    all(&model, &mut context, &mut first, &[2]);
    assert_eq!(pages.n_used(), 5);
    assert!(second.truncate(2 * PAGE_LEN));
    assert_eq!(pages.n_used(), 4);
    // At the edge of a page there is nothing to copy.
    all(&model, &mut context, &mut second, &[3]);
    assert_eq!((pages.n_used(), pages.n_pages()), (5, 5));
    drop(first);
    assert_eq!(pages.n_used(), 3);
    pages.trim();
    assert_eq!((pages.n_pages(), pages.n_free()), (3, 0));
}

#[test]
fn what_cannot_be_adopted_is_refused() {
    let model = open(&oracle("window_70_f16"));
    let pages = pool(&model, CacheType::F16, usize::MAX);
    let mut context = context(1);
    let mut first = cache(&model, &pages);
    all(&model, &mut context, &mut first, &ids(0, 500, model.config().n_vocab));
    assert!(!cache(&model, &pages).adopt(&first, 501), "more than there is");
    assert!(!cache(&model, &pages).adopt(&first, 200), "rows that have left the window");
    assert!(cache(&model, &pages).adopt(&first, 0));
    assert!(!cache(&model, &pool(&model, CacheType::F16, 9)).adopt(&first, 500), "another pool");
    assert!(!KvCache::new(&pages, N_CTX, None).adopt(&first, 500), "another window");
    let mut other = first.clone();
    assert!(!other.adopt(&first, 500), "not empty");
}

#[test]
fn a_pool_that_is_full_refuses_a_span_before_anything_is_read() {
    let model = open(&oracle("plain_f16"));
    let pages = pool(&model, CacheType::F16, 3);
    let mut context = context(1);
    let (mut first, mut second) = (cache(&model, &pages), cache(&model, &pages));
    let tokens = ids(0, 2 * PAGE_LEN, model.config().n_vocab);
    let mut batch = [
        Span { cache: &mut first, tokens: &tokens, output: Output::Last, adapters: &[] },
        Span { cache: &mut second, tokens: &tokens, output: Output::Last, adapters: &[] },
    ];
    let error = model.forward(&mut context, &mut batch, &NEVER).err().unwrap();
    let page_bytes = pages.page_bytes();
    let full = SpanError::NoPages(PoolError::Full { max_pages: 3, page_bytes });
    assert_eq!(error, ForwardError::Span { span: 1, error: full });
    assert_eq!((first.len(), second.len(), pages.n_used()), (0, 0, 0));
    assert_eq!(all(&model, &mut context, &mut first, &tokens).len(), tokens.len());
    assert_eq!(all(&model, &mut context, &mut second, &tokens[..PAGE_LEN]).len(), PAGE_LEN);
}

#[test]
fn pages_are_prepared_up_to_the_limit() {
    let model = open(&oracle("plain_f16"));
    let pages = pool(&model, CacheType::F16, 3);
    pages.prepare(2).unwrap();
    assert_eq!((pages.n_pages(), pages.n_free()), (2, 2));
    assert!(matches!(pages.prepare(4), Err(PoolError::Full { max_pages: 3, .. })));
    assert_eq!(pages.n_free(), 3);
}

/// A batch of three, of which only the second fails, with `error`; the others get what they get without it.
fn fails_alone(model: &Mistral, types: [CacheType; 3], middle: &[u32], error: &SpanError) {
    let n_vocab = model.config().n_vocab;
    let mut context = context(2);
    let pools = types.map(|cache_type| pool(model, cache_type, usize::MAX));
    let texts = [&ids(1, 20, n_vocab)[..], middle, &ids(2, 7, n_vocab)[..]];
    let mut alone = Vec::new();
    let mut caches = pools.each_ref().map(|pool| cache(model, pool));
    for i in [0, 2] {
        alone.extend(all(model, &mut context, &mut cache(model, &pools[i]), texts[i]));
    }
    let mut batch: Vec<Span<'_>> = caches
        .iter_mut()
        .zip(texts)
        .map(|(cache, tokens)| Span { cache, tokens, output: Output::All, adapters: &[] })
        .collect();
    let mut outputs = model.forward(&mut context, &mut batch, &NEVER).unwrap();
    assert_eq!([0, 1, 2].map(|i| outputs.failure(i).cloned()), [None, Some(error.clone()), None]);
    let mut rows = Vec::new();
    while let Some(row) = outputs.next_row().unwrap() {
        assert_ne!(row.span, 1);
        rows.push(row.values.iter().map(|x| x.to_bits()).collect::<Bits>());
    }
    assert!(rows == alone, "{error}");
    assert_eq!(caches.each_ref().map(KvCache::len), [20, 0, 7]);
    assert_eq!(pools[1].n_used(), if types[1] == types[0] { pools[1].n_used() } else { 0 });

    // Alone, it is the pass that fails.
    let mut batch = [Span { cache: &mut caches[1], tokens: middle, output: Output::Last, adapters: &[] }];
    let failed = model.forward(&mut context, &mut batch, &NEVER).err().unwrap();
    assert_eq!(failed, ForwardError::Span { span: 0, error: error.clone() });
    assert_eq!(caches[1].len(), 0);
}

#[test]
fn a_span_that_is_not_finite_fails_alone() {
    let infinite = |path: &Path| {
        changed(path, |name, bytes| {
            if name == "token_embd.weight" {
                // The last token's row: NaN in every format.
                let n_vocab = open(path).config().n_vocab;
                let n = bytes.len() / n_vocab;
                bytes[(n_vocab - 1) * n..].fill(0xff);
            }
        })
    };
    let error = SpanError::NotFinite { layer: 0, stage: Stage::Attention, adapters: String::new() };
    for path in [oracle("plain_f32"), oracle("mixtral_stacked"), tiny()] {
        let model = infinite(&path);
        let bad = model.config().n_vocab as u32 - 1;
        fails_alone(&model, [CacheType::F16; 3], &[5, 6, bad, 7], &error);
    }
}

#[test]
fn keys_that_a_cache_type_does_not_hold_fail_the_sequence_that_has_it() {
    // Keys of the built-in model are multiplied by 4096: some are past 65504, f16's end, and none past f32's.
    let model = changed(&tiny(), |name, bytes| {
        if name == "blk.1.attn_k.weight" {
            for block in bytes.chunks_mut(144) {
                for scale in block[..4].chunks_mut(2) {
                    let bits = u16::from_le_bytes([scale[0], scale[1]]);
                    let larger = if bits & 0x7c00 == 0 { bits } else { bits + (12 << 10) };
                    scale.copy_from_slice(&larger.to_le_bytes());
                }
            }
        }
    });
    let types = [CacheType::F32, CacheType::F16, CacheType::F32];
    let error = SpanError::NotFinite { layer: 1, stage: Stage::Attention, adapters: String::new() };
    fails_alone(&model, types, &ids(3, 30, model.config().n_vocab), &error);
}

/// Remembers where products were, and cancels after some.
struct Sites {
    seen: Mutex<Vec<Site>>,
    cancel: AtomicBool,
    after: usize,
}

impl Sites {
    fn new(after: usize) -> Arc<Sites> {
        Arc::new(Sites { seen: Mutex::default(), cancel: AtomicBool::new(false), after })
    }
}

impl Hook for Sites {
    fn product(&self, site: Site, x: Rows<'_>, mut y: RowsMut<'_>) {
        assert!(x.n() > 0 && x.n() == y.n() && !y.data().is_empty());
        let mut seen = self.seen.lock().unwrap();
        seen.push(site);
        self.cancel.store(seen.len() >= self.after, Relaxed);
    }
}

#[test]
fn a_cancelled_pass_ends_at_the_product_it_is_in_and_leaves_no_trace() {
    for path in [oracle("window_70_f16"), oracle("mixtral_stacked"), tiny()] {
        let model = open(&path);
        let n_vocab = model.config().n_vocab;
        let mut context = context(2);
        let pages = pool(&model, CacheType::F16, usize::MAX);
        let mut text = cache(&model, &pages);
        all(&model, &mut context, &mut text, &ids(0, 300, n_vocab));
        let mut copy = text.clone();
        let expected = all(&model, &mut context, &mut copy, &ids(1, 40, n_vocab));
        drop(copy);
        let tokens = ids(2, 300, n_vocab);
        let mut run = |text: &mut KvCache, after| {
            let sites = Sites::new(after);
            context.set_hook(Some(sites.clone()));
            let mut batch = [Span { cache: text, tokens: &tokens, output: Output::Last, adapters: &[] }];
            let result = model.forward(&mut context, &mut batch, &[&NEVER, &sites.cancel][..]).map(drop);
            (result, sites.seen.lock().unwrap().len())
        };
        let (result, n_products) = run(&mut text.clone(), usize::MAX);
        assert_eq!(result, Ok(()));
        let n_used = pages.n_used();
        // The last product is the logits': cancelled while it is shown, a pass is done.
        for after in 1..n_products.min(40) {
            let (result, n_seen) = run(&mut text, after);
            assert_eq!(result, Err(ForwardError::Cancelled), "after {after} of {n_products}");
            // Products of one step are shown together.
            assert!(n_seen < after + 3, "{n_seen} products, cancelled after {after}");
            assert_eq!((text.len(), pages.n_used()), (300, n_used));
        }
        context.set_hook(None);
        assert!(all(&model, &mut context, &mut text, &ids(1, 40, n_vocab)) == expected, "{}", path.display());
    }
}

#[test]
fn products_are_named_as_their_tensors() {
    for name in ["plain_f16", "mixtral_split"] {
        let file = GgufFile::open(oracle(name)).unwrap();
        let model = load(&file);
        let sites = Sites::new(usize::MAX);
        let mut context = context(1);
        context.set_hook(Some(sites.clone()));
        let pages = pool(&model, CacheType::F16, usize::MAX);
        all(&model, &mut context, &mut cache(&model, &pages), &ids(0, 60, model.config().n_vocab));
        let mut seen: Vec<String> = sites.seen.lock().unwrap().iter().map(Site::to_string).collect();
        seen.sort();
        seen.dedup();
        let is_product =
            |name: &str| name.starts_with("blk.") && !name.contains("norm") || name == "output.weight";
        let mut tensors: Vec<String> =
            file.tensors().map(|t| t.name.clone()).filter(|n| is_product(n)).collect();
        tensors.iter_mut().for_each(|name| *name = name.replace(".weight", ""));
        tensors.sort();
        assert_eq!(seen, tensors, "{name}");
    }
}

/// Adds to the queries of layer 0.
struct Adapter;

impl Hook for Adapter {
    fn product(&self, site: Site, x: Rows<'_>, mut y: RowsMut<'_>) {
        if site == (Site { layer: 0, projection: Projection::AttnQ, expert: None }) {
            for t in 0..y.n() {
                let change = x.row(t)[0];
                y.row(t).iter_mut().for_each(|y| *y += change);
            }
        }
    }
}

#[test]
fn what_a_hook_adds_counts_and_does_not_depend_on_the_cut() {
    let model = open(&oracle("plain_f16"));
    let mut context = context(2);
    let pages = pool(&model, CacheType::F16, usize::MAX);
    let tokens = ids(0, 50, model.config().n_vocab);
    let plain = all(&model, &mut context, &mut cache(&model, &pages), &tokens);
    context.set_hook(Some(Arc::new(Adapter)));
    let adapted = all(&model, &mut context, &mut cache(&model, &pages), &tokens);
    assert!(adapted != plain);
    let mut text = cache(&model, &pages);
    let pieces = tokens.chunks(7).flat_map(|piece| all(&model, &mut context, &mut text, piece));
    assert!(pieces.eq(adapted));
}

#[test]
fn logits_are_the_output_matrix_times_the_hidden_states() {
    let model = open(&oracle("plain_f32"));
    let mut context = context(2);
    let pages = pool(&model, CacheType::F16, usize::MAX);
    let tokens = ids(0, 40, model.config().n_vocab);
    let logits = all(&model, &mut context, &mut cache(&model, &pages), &tokens);
    let mut text = cache(&model, &pages);
    let mut batch = [Span { cache: &mut text, tokens: &tokens, output: Output::Hidden, adapters: &[] }];
    let hidden = forward(&model, &mut context, &mut batch);
    assert_eq!(hidden.len(), 40);
    let (w, mut row) = (model.weights().output.view(), vec![0.0; model.config().n_embd]);
    for ((_, _, hidden), logits) in hidden.iter().zip(&logits) {
        assert_eq!(hidden.len(), row.len());
        for (i, logit) in logits.iter().enumerate() {
            dequantize_row(w.format(), w.row(i), &mut row);
            let product: f64 =
                row.iter().zip(hidden).map(|(w, h)| f64::from(*w) * f64::from(f32::from_bits(*h))).sum();
            let logit = f64::from(f32::from_bits(*logit));
            assert!((product - logit).abs() < 1e-4 * (1.0 + logit.abs()), "{product} {logit}");
        }
    }
}

#[test]
fn spans_of_one_batch_ask_for_different_outputs() {
    let model = open(&oracle("window_5"));
    let mut context = context(2);
    let pages = pool(&model, CacheType::F16, usize::MAX);
    let n_vocab = model.config().n_vocab;
    let texts = [9, 4, 70, 6, 3].map(|n| ids(n, n, n_vocab));
    let outputs = [Output::None, Output::Hidden, Output::Last, Output::All, Output::Hidden];
    let mut alone = Vec::new();
    for (i, (tokens, output)) in texts.iter().zip(outputs).enumerate() {
        let mut batch = [Span { cache: &mut cache(&model, &pages), tokens, output, adapters: &[] }];
        alone.extend(forward(&model, &mut context, &mut batch).into_iter().map(|row| (i, row.1, row.2)));
    }
    assert_eq!(alone.len(), 4 + 1 + 6 + 3);
    let mut caches = texts.each_ref().map(|_| cache(&model, &pages));
    let mut batch: Vec<Span<'_>> = caches
        .iter_mut()
        .zip(&texts)
        .zip(outputs)
        .map(|((cache, tokens), output)| Span { cache, tokens, output, adapters: &[] })
        .collect();
    assert!(forward(&model, &mut context, &mut batch) == alone);
    // All of them, the one that asked for nothing too, can be continued.
    for (cache, tokens) in caches.iter_mut().zip(&texts) {
        let next = all(&model, &mut context, cache, &[1]);
        let mut whole = tokens.clone();
        whole.push(1);
        let mut fresh = KvCache::new(&pages, N_CTX, model.config().sliding_window);
        assert!(all(&model, &mut context, &mut fresh, &whole)[tokens.len()] == next[0]);
    }
}

#[test]
fn logits_of_many_rows_come_in_strips_and_are_those_of_few() {
    // Eight megabytes are 512 rows of the built-in model's logits.
    let model = open(&tiny());
    let n_vocab = model.config().n_vocab;
    let mut context = context(2);
    let pages = pool(&model, CacheType::F16, usize::MAX);
    let tokens = ids(0, 600, n_vocab);
    let many = all(&model, &mut context, &mut cache(&model, &pages), &tokens);
    let mut text = cache(&model, &pages);
    let few = tokens.chunks(100).flat_map(|piece| all(&model, &mut context, &mut text, piece));
    assert!(few.eq(many.iter().cloned()));
    // A reader may stop: the next pass does not notice.
    let mut text = cache(&model, &pages);
    let mut batch = [Span { cache: &mut text, tokens: &tokens, output: Output::All, adapters: &[] }];
    let mut outputs = model.forward(&mut context, &mut batch, &NEVER).unwrap();
    outputs.next_row().unwrap().unwrap();
    assert!(text.truncate(500));
    let again = all(&model, &mut context, &mut text, &tokens[500..]);
    assert!(again == many[500..]);
}
