//! A model with an adapter in training.

use std::path::Path;

use bise_models::train::{Example, Factor, Loss, Targets, TrainOptions, Trainer};
use bise_models::{Adapter, LowRank, Site};
use twox_hash::XxHash3_128;

use super::error::TrainError;
use super::objective::{Objective, Weights};
use super::random::initial_a;
use crate::adapter::gguf::{self, GgufWriteOptions};
use crate::adapter::peft::{PeftConfig, PeftWriteOptions};
use crate::session_file::whole_fingerprint;
use crate::{Cancel, Engine};

impl Objective for Trainer<'_> {
    fn backward(&mut self, examples: &[Example<'_>]) -> Result<Loss, bise_models::train::TrainError> {
        Trainer::backward(self, examples)
    }

    fn loss(&mut self, examples: &[Example<'_>]) -> Result<Loss, bise_models::train::TrainError> {
        Trainer::loss(self, examples)
    }

    fn visit(&mut self, visit: &mut dyn FnMut(Weights<'_>)) {
        for parameter in self.parameters() {
            let factor = match parameter.factor {
                Factor::A => "a",
                Factor::B => "b",
            };
            let name = format!("{}.lora_{factor}", parameter.site);
            visit(Weights { name, values: parameter.values, gradient: parameter.gradient });
        }
    }

    fn clear_gradients(&mut self) {
        Trainer::clear_gradients(self);
    }
}

/// An adapter that changes nothing: A is random, as PEFT initialises it, and B is 0.
///
/// # Errors
/// Matrices that are not trained, or that the model does not have.
pub fn initial_adapter(
    engine: &Engine,
    targets: &Targets,
    rank: usize,
    scale: f32,
    seed: u64,
) -> Result<Adapter, TrainError> {
    let part = |(site, [n_rows, k]): (Site, [usize; 2])| {
        let a = initial_a(seed, &site.to_string(), rank, k);
        (site, LowRank { rank, scale, a, b: vec![0.0; n_rows * rank] })
    };
    let sites = targets.sites(engine.config())?;
    Ok(Adapter::new("a new adapter".into(), engine.model(), sites.into_iter().map(part))?)
}

/// Training of the model of `engine`, on its threads. `cancel` ends passes early.
///
/// # Errors
/// An adapter that cannot be trained, and no memory for the buffers.
pub fn trainer<'e>(
    engine: &'e Engine,
    initial: &Adapter,
    options: &TrainOptions,
    cancel: &Cancel,
) -> Result<Trainer<'e>, TrainError> {
    let team = engine.threads().team().clone();
    let mut trainer = Trainer::new(engine.model(), initial, options, team, engine.budget())?;
    trainer.set_cancel(cancel.shared());
    Ok(trainer)
}

/// The name of the GGUF file beside those of PEFT.
pub const GGUF_NAME: &str = "adapter.gguf";

/// Bytes of a file that are gathered before they are written.
const WRITE_BUFFER: usize = 1 << 20;

/// Writes the adapter as it is now into `folder`: the two files of PEFT, and [`GGUF_NAME`] for `bise --lora` and llama.cpp.
///
/// # Errors
/// Files that are in the way (unless `force` allows to replace them) or cannot be written, and weights that are not finite.
pub fn write_adapter(
    folder: &Path,
    trainer: &Trainer<'_>,
    config: &PeftConfig,
    name: Option<&str>,
    force: bool,
) -> Result<(), TrainError> {
    let base = trainer.model().config();
    let name = name.map(str::to_owned);
    let base_model = config.base_model.clone();
    let options = GgufWriteOptions { name, base_model, force, ..GgufWriteOptions::default() };
    config.write(
        folder,
        base,
        trainer.parts(),
        &PeftWriteOptions { force, ..PeftWriteOptions::default() },
    )?;
    gguf::write(&folder.join(GGUF_NAME), base, trainer.parts(), &options)?;
    Ok(())
}

/// What training takes of memory beside the model: buffers, weights and gradients of the adapter, what the optimizer remembers, and what
/// writing the adapter takes.
///
/// # Errors
/// Matrices that are not trained.
pub fn training_bytes(
    engine: &Engine,
    initial: &Adapter,
    options: &TrainOptions,
) -> Result<usize, TrainError> {
    let sites: Vec<(Site, usize)> = initial.sites().map(|(site, rank, _)| (site, rank)).collect();
    let (mut n, mut largest) = (0, 0);
    for (_, part) in initial.parts() {
        n += part.a.len() + part.b.len();
        largest = part.a.len().max(part.b.len()).max(largest);
    }
    let passes = Trainer::bytes(engine.config(), &sites, options, engine.n_threads())?;
    // Two moments; and the bytes of the GGUF file, beside a copy of the matrix that is turned into them.
    let values = 3_usize.saturating_mul(n).saturating_add(2 * largest);
    Ok(passes.saturating_add(values.saturating_mul(size_of::<f32>())).saturating_add(WRITE_BUFFER))
}

/// The adapter at `path`, a folder of PEFT or a GGUF file, to train on.
///
/// # Errors
/// A file that cannot be read or does not fit the model.
pub fn load_adapter(path: &Path, engine: &Engine) -> Result<Adapter, TrainError> {
    Ok(crate::adapter::load(path, engine.model())?)
}

/// What tells this model and this adapter from others: XXH3 (128 bits) of the metadata, overrides included, of samples of the weights, and of all
/// of the adapter.
pub fn identities(engine: &Engine, adapter: &Adapter) -> [u128; 2] {
    let mut hash = XxHash3_128::new();
    for (site, part) in adapter.parts() {
        hash.write(site.to_string().as_bytes());
        hash.write(&part.scale.to_le_bytes());
        part.a.iter().chain(&part.b).for_each(|value| hash.write(&value.to_le_bytes()));
    }
    [whole_fingerprint(engine.file()), hash.finish_128()]
}
