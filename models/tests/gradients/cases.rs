//! The models, adapters and examples of `make.py`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bise_kernels::{Isa, KernelTable, Team};
use bise_models::adapter::{Adapter, LowRank};
use bise_models::gguf::GgufFile;
use bise_models::train::{Example, Targets, TrainOptions, Trainer};
use bise_models::{MemoryBudget, Mistral, MistralConfig, Projection};

use Projection::*;

pub const ATTENTION: &[Projection] = &[AttnQ, AttnK, AttnV, AttnOutput];
pub const ALL: &[Projection] = &[AttnQ, AttnK, AttnV, AttnOutput, FfnGate, FfnUp, FfnDown];

/// A call of `case` in `make.py`.
pub struct Case {
    pub name: &'static str,
    pub projections: &'static [Projection],
    /// The last layers, this many.
    pub n_layers: usize,
    pub rank: usize,
    pub alpha: f32,
    /// The lengths of the examples.
    pub lengths: &'static [usize],
    pub is_rslora: bool,
    /// Which values of a gradient were written.
    pub stride: usize,
}

const BASE: Case = Case {
    name: "",
    projections: ALL,
    n_layers: 2,
    rank: 2,
    alpha: 4.0,
    lengths: &[],
    is_rslora: false,
    stride: 1,
};

pub const CASES: &[Case] = &[
    Case { name: "plain_f16", alpha: 3.0, lengths: &[21, 40], ..BASE },
    Case {
        name: "window_5",
        projections: ATTENTION,
        n_layers: 1,
        rank: 3,
        alpha: 2.0,
        lengths: &[40, 9],
        is_rslora: true,
        ..BASE
    },
    Case { name: "mqa_wide", lengths: &[33], ..BASE },
    Case { name: "mha_narrow_tied", projections: &[AttnQ, AttnV, FfnDown], lengths: &[17, 2, 18], ..BASE },
    Case { name: "rope_yarn", projections: &[AttnQ, AttnK], lengths: &[70], ..BASE },
    Case { name: "rope_freqs", projections: &[AttnQ, AttnK], n_layers: 1, lengths: &[50], ..BASE },
    Case { name: "ministral_3", projections: &[AttnQ, AttnOutput, FfnUp], lengths: &[70], ..BASE },
    Case { name: "mixtral_stacked", projections: ATTENTION, lengths: &[30, 11], ..BASE },
    Case { name: "tiny", n_layers: 8, lengths: &[300, 40], stride: 17, ..BASE },
];

pub fn case(name: &str) -> &'static Case {
    CASES.iter().find(|case| case.name == name).unwrap()
}

fn models_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A text, and whether each token is a label.
pub struct Text {
    pub tokens: Vec<u32>,
    pub is_label: Vec<bool>,
    pub seed: u64,
}

impl Case {
    pub fn path(&self) -> PathBuf {
        match self.name {
            "tiny" => models_dir().join("tiny/bise-tiny.Q4_K_M.gguf"),
            name => models_dir().join(format!("tests/oracles/{name}.gguf")),
        }
    }

    pub fn model(&self, isa: Isa) -> Mistral {
        let file = GgufFile::open(self.path()).unwrap();
        let config = MistralConfig::from_metadata(file.metadata()).unwrap();
        Mistral::load(&file, config, KernelTable::for_isa(isa).unwrap()).unwrap()
    }

    pub fn reference(&self) -> PathBuf {
        models_dir().join(format!("tests/gradients/{}.npy", self.name))
    }

    pub fn adapter(&self, model: &Mistral) -> Adapter {
        let targets = Targets { projections: self.projections.to_vec(), n_layers: self.n_layers };
        let rank = self.rank as f32;
        let scale = self.alpha / if self.is_rslora { rank.sqrt() } else { rank };
        let sites = targets.sites(model.config()).unwrap();
        let parts = sites.into_iter().enumerate().map(|(i, (site, [n_rows, k]))| {
            let bound = (1.0 / (k as f64).sqrt()) as f32;
            let a = uniform(self.rank * k, 2 * i as u64).map(|x| bound * x).collect();
            let b = uniform(n_rows * self.rank, 2 * i as u64 + 1).map(|x| 0.25 * x).collect();
            (site, LowRank { rank: self.rank, scale, a, b })
        });
        Adapter::new("initial".into(), model, parts).unwrap()
    }

    pub fn texts(&self, model: &Mistral) -> Vec<Text> {
        let n_vocab = model.config().n_vocab;
        let text = |(e, n): (usize, &usize)| Text {
            tokens: (0..*n).map(|i| ((7 * i * i + 3 * i + 1 + 11 * e) % n_vocab) as u32).collect(),
            is_label: (0..*n).map(|i| i > 0 && (i * i + e) % 3 != 1).collect(),
            seed: 100 + e as u64,
        };
        self.lengths.iter().enumerate().map(text).collect()
    }
}

impl Text {
    pub fn example(&self) -> Example<'_> {
        Example { tokens: &self.tokens, is_label: &self.is_label, seed: self.seed }
    }
}

/// Numbers in [−1, 1) from a hash of their index.
fn uniform(n: usize, seed: u64) -> impl Iterator<Item = f32> {
    (1..=n as u64).map(move |i| {
        let mut h = i.wrapping_mul(0x9e37_79b1).wrapping_add(seed.wrapping_mul(0x85eb_ca77)) as u32;
        h ^= h >> 15;
        h = h.wrapping_mul(0x2c1b_3c6d);
        h ^= h >> 12;
        h = h.wrapping_mul(0x297a_2d39);
        h ^= h >> 15;
        (h >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

pub const EXACT: TrainOptions =
    TrainOptions { dropout: 0.0, exact: true, max_rows: 512, checkpointing: true };

pub fn trainer<'m>(case: &Case, model: &'m Mistral, options: &TrainOptions, n_threads: usize) -> Trainer<'m> {
    let team = Arc::new(Team::new(n_threads).unwrap());
    Trainer::new(model, &case.adapter(model), options, team, &MemoryBudget::unlimited()).unwrap()
}

/// The loss of a case, and the gradients of its parameters in order.
pub fn gradients(
    case: &Case,
    model: &Mistral,
    options: &TrainOptions,
    n_threads: usize,
) -> (f64, Vec<Gradient>) {
    let mut trainer = trainer(case, model, options, n_threads);
    let texts = case.texts(model);
    let examples: Vec<_> = texts.iter().map(Text::example).collect();
    let loss = trainer.backward(&examples).unwrap();
    (loss.sum, collect(&mut trainer))
}

/// The name of a parameter, and its gradient.
pub type Gradient = (String, Vec<f32>);

pub fn collect(trainer: &mut Trainer<'_>) -> Vec<Gradient> {
    let parameters = trainer.parameters();
    parameters.map(|p| (format!("{} {:?}", p.site, p.factor), p.gradient.to_vec())).collect()
}

pub fn norm<'a>(x: impl IntoIterator<Item = &'a f32>) -> f64 {
    x.into_iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt()
}
