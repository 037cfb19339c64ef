//! Where a plan does not fit under a ceiling: what would.

use std::fmt;

use bise_kernels::CacheType;
use bise_kernels::kv_page::PAGE_LEN;
use bise_kernels::kv_page::PageLayout;

use super::{MemoryPlan, Streamed};

/// Left free by what is proposed: a program is not of the same size to the page each time it starts.
const SPARE_BYTES: usize = 256 << 10;

/// The smallest context, window and pass that are worth a proposal.
const LEAST_TOKENS: usize = 256;
const LEAST_UBATCH: usize = 8;

/// Quantizations, and bits that a weight of a 7B model takes in each, by the size of published files.
const QUANTIZATIONS: [(&str, f64); 11] = [
    ("Q8_0", 8.51),
    ("Q6_K", 6.57),
    ("Q5_K_M", 5.67),
    ("Q5_K_S", 5.52),
    ("Q4_K_M", 4.83),
    ("Q4_K_S", 4.58),
    ("IQ4_XS", 4.32),
    ("Q3_K_L", 4.22),
    ("Q3_K_M", 3.89),
    ("Q3_K_S", 3.50),
    ("Q2_K", 3.00),
];

/// A model and its sessions do not fit under the ceiling on memory.
#[derive(Clone, Debug)]
pub struct DoesNotFit {
    /// The ceiling, in bytes.
    pub limit: usize,
    /// What would be taken, with full contexts.
    pub plan: MemoryPlan,
    /// What fits. Empty where nothing does.
    pub remedies: Vec<Remedy>,
}

/// One way to fit under the ceiling.
#[derive(Clone, Debug, PartialEq)]
pub struct Remedy {
    /// What to change; all of it together.
    pub changes: Vec<Change>,
    /// What is taken then, in bytes. With [`Change::StreamWeights`], the least.
    pub bytes: usize,
}

/// A change of the options.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// A context of so many tokens.
    Context(usize),
    /// A sliding window of so many tokens.
    Window(usize),
    /// Keys and values of this type.
    Cache(CacheType),
    /// So many tokens in one pass.
    Ubatch(usize),
    /// So many sequences at a time.
    Sequences(usize),
    /// The weights are read again for every pass, as far as there is no room for them.
    StreamWeights,
    /// The same model in a file of this quantization.
    Quantization(&'static str),
}

impl MemoryPlan {
    /// Checks that everything, with full contexts, fits into `limit` bytes. `least_streamed` is the least memory that weights take while
    /// they are streamed, where they can be, and `n_weights` their number.
    pub(crate) fn check(
        &self,
        limit: usize,
        least_streamed: Option<usize>,
        n_weights: u64,
    ) -> Result<(), Box<DoesNotFit>> {
        if self.full() <= limit {
            return Ok(());
        }
        let remedies = self.remedies(limit.saturating_sub(SPARE_BYTES), least_streamed, n_weights);
        Err(Box::new(DoesNotFit { limit, plan: self.clone(), remedies }))
    }

    fn remedies(&self, limit: usize, least_streamed: Option<usize>, n_weights: u64) -> Vec<Remedy> {
        let with = |change: Change| self.changed(change);
        let fits = |change: &Change| with(*change).full() <= limit;
        let remedy = |change: Change| Remedy { changes: vec![change], bytes: with(change).full() };
        let mut changes = Vec::new();
        changes.extend(longest(self.n_ctx, |n| fits(&Change::Context(n))).map(Change::Context));
        let seen = self.config.sliding_window.unwrap_or(usize::MAX).min(self.n_ctx);
        changes.extend(longest(seen, |n| fits(&Change::Window(n))).map(Change::Window));
        let smaller = |kind: &CacheType| with(Change::Cache(*kind)).full() < self.full();
        changes.extend([CacheType::Q8_0, CacheType::Q4_0].into_iter().filter(smaller).map(Change::Cache));
        let halves = std::iter::successors(Some(self.n_ubatch / 2), |n| Some(n / 2));
        let mut halves = halves.take_while(|n| *n >= LEAST_UBATCH);
        changes.extend(halves.find(|n| fits(&Change::Ubatch(*n))).map(Change::Ubatch));
        changes.extend(
            (1..self.n_sequences).rev().find(|n| fits(&Change::Sequences(*n))).map(Change::Sequences),
        );
        changes.retain(fits);
        let mut remedies: Vec<Remedy> = changes.into_iter().map(remedy).collect();
        if remedies.is_empty() {
            remedies.extend(self.all_together(limit));
        }
        let is_streamed = self.weights.streamed.is_some();
        if let Some(least) = least_streamed.filter(|_| !is_streamed && self.weights.copied == 0) {
            let mut streamed = self.clone();
            streamed.weights.streamed = Some(Streamed { least, total: 0 });
            let bytes = streamed.full();
            remedies.extend((bytes <= limit).then(|| Remedy { changes: vec![Change::StreamWeights], bytes }));
        }
        remedies.extend(self.quantization(limit, n_weights));
        remedies
    }

    /// The smallest of everything, and the longest context that this leaves room for.
    fn all_together(&self, limit: usize) -> Option<Remedy> {
        let smallest = [Change::Cache(CacheType::Q4_0), Change::Ubatch(LEAST_UBATCH.min(self.n_ubatch))];
        let plan = smallest.iter().fold(self.clone(), |plan, change| plan.changed(*change));
        let fits = |n: usize| plan.changed(Change::Context(n)).full() <= limit;
        let n_ctx = if fits(self.n_ctx) { self.n_ctx } else { longest(self.n_ctx, fits)? };
        let context = Change::Context(n_ctx);
        let changes = std::iter::once(context).chain(smallest).collect();
        Some(Remedy { changes, bytes: plan.changed(context).full() })
    }

    fn quantization(&self, limit: usize, n_weights: u64) -> Option<Remedy> {
        let others = self.full() - self.mapped_at(self.n_ctx).max(self.weights.copied);
        let (name, bytes) = QUANTIZATIONS.into_iter().find_map(|(name, bits)| {
            let bytes = others.saturating_add((n_weights as f64 * bits / 8.0) as usize);
            // Sizes by name are estimates: only a real difference counts.
            (bytes <= limit && bytes < self.full() / 20 * 19).then_some((name, bytes))
        })?;
        Some(Remedy { changes: vec![Change::Quantization(name)], bytes })
    }

    fn changed(&self, change: Change) -> MemoryPlan {
        let mut plan = self.clone();
        match change {
            Change::Context(n) => plan.n_ctx = n,
            Change::Window(n) => plan.config.sliding_window = Some(n),
            Change::Cache(kind) => {
                plan.layout = PageLayout::new(plan.config.n_kv_heads, plan.config.head_dim, kind, kind);
            }
            Change::Ubatch(n) => plan.n_ubatch = n,
            Change::Sequences(n) => plan.n_sequences = n,
            // Their numbers are not those of this plan.
            Change::StreamWeights | Change::Quantization(_) => {}
        }
        plan
    }
}

/// The largest number of tokens below `n` that fits, in whole pages and not too crooked; `None` where it is hardly of use.
fn longest(n: usize, mut fits: impl FnMut(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (0, n.saturating_sub(1) / PAGE_LEN + 1);
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle * PAGE_LEN) { low = middle } else { high = middle }
    }
    let n = low * PAGE_LEN;
    let n = if n >= 1024 { n / 256 * 256 } else { n };
    (n >= LEAST_TOKENS).then_some(n)
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Context(n) => write!(f, "-c {n}"),
            Change::Window(n) => write!(f, "--sliding-window {n}"),
            Change::Cache(kind) => write!(f, "-ctk {kind} -ctv {kind}"),
            Change::Ubatch(n) => write!(f, "-ub {n}"),
            Change::Sequences(n) => write!(f, "{n} sequences"),
            Change::StreamWeights => f.write_str("--stream-weights"),
            Change::Quantization(name) => write!(f, "the model in {name}"),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes: Vec<String> = self.changes.iter().map(ToString::to_string).collect();
        let about = match self.changes[..] {
            [Change::StreamWeights] => "slower, ",
            [Change::Quantization(_)] => "about ",
            _ => "",
        };
        let least = if self.changes == [Change::StreamWeights] { " or more" } else { "" };
        write!(f, "{} ({about}{}{least})", changes.join(" "), format_bytes(self.bytes))
    }
}

impl fmt::Display for DoesNotFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (plan, n) = (&self.plan, self.plan.n_ctx);
        let size = format_bytes;
        write!(f, "{} of memory do not fit under the ceiling of {}: ", size(plan.full()), size(self.limit))?;
        if plan.weights.copied > 0 {
            write!(f, "all of it anonymous (weights {}, ", size(plan.weights.copied))?;
        } else {
            write!(
                f,
                "{} mapped (weights) and {} anonymous (",
                size(plan.mapped_at(n)),
                size(plan.anonymous_at(n))
            )?;
        }
        let sequences =
            if plan.n_sequences > 1 { format!("{} sequences of ", plan.n_sequences) } else { String::new() };
        write!(
            f,
            "keys and values {} for {sequences}{n} tokens, buffers {}, program {}, of which the tokenizer {})",
            size(plan.cache_bytes(n)),
            size(plan.buffers_bytes(n)),
            size(plan.program.anonymous),
            size(plan.tokenizer_bytes()),
        )?;
        if self.remedies.is_empty() {
            return f.write_str("; no other context, cache type or quantization would make it fit");
        }
        let remedies: Vec<String> = self.remedies.iter().map(ToString::to_string).collect();
        write!(f, "; what would fit: {}", remedies.join(", "))
    }
}

impl std::error::Error for DoesNotFit {}

/// A size in powers of ten, as in `5.2 MB` and `4.37 GB`.
pub fn format_bytes(n: usize) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{:.1} kB", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", n as f64 / 1e6),
        _ => format!("{:.2} GB", n as f64 / 1e9),
    }
}
