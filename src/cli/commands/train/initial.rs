//! The adapter that a run begins with.

use std::path::Path;

use anyhow::{Result, ensure};
use bise::Engine;
use bise::adapter::peft::PeftConfig;
use bise::adapter::{Adapter, folder_of};
use bise::train::{initial_adapter, load_adapter};
use bise_models::train::Targets;

use super::args::{DEFAULT_TARGETS, TrainArgs};
use super::prediction;
use crate::cli::term::console::Log;

/// The adapter at the beginning, and what PEFT is told about it.
pub struct Initial {
    pub adapter: Adapter,
    pub config: PeftConfig,
}

impl Initial {
    /// What the flags ask for.
    ///
    /// # Errors
    /// An adapter that cannot be read, or that the model has no place or no room for.
    pub fn new(args: &TrainArgs, engine: &Engine, log: Log) -> Result<Initial> {
        let flags = &args.adapter;
        let mut initial = match &flags.init {
            Some(path) => Initial::of_file(path, engine, log)?,
            None => {
                let (rank, alpha) = (flags.rank.unwrap_or(16), flags.alpha.unwrap_or(32.0));
                let mut config = PeftConfig::default();
                (config.rank, config.alpha, config.use_rslora) = (rank, alpha, flags.rslora);
                let n_layers = engine.config().n_layers;
                let projections = match &flags.targets {
                    Some(targets) => targets.iter().flat_map(|targets| targets.0).copied().collect(),
                    None => DEFAULT_TARGETS.to_vec(),
                };
                let n = flags.num_layers.unwrap_or(usize::MAX);
                ensure!(
                    n == usize::MAX || n <= n_layers,
                    "--num-layers {n}: the model has {n_layers} layers"
                );
                let targets = Targets { projections, n_layers: n.min(n_layers) };
                prediction::check_rank(engine, &targets, rank, args.model.max_memory)?;
                let scale = config.scale(alpha, rank);
                Initial { adapter: initial_adapter(engine, &targets, rank, scale, args.steps.seed)?, config }
            }
        };
        initial.config.dropout = flags.dropout;
        if initial.config.base_model.is_none() {
            let name = engine.file().metadata().str("general.name").ok().flatten();
            initial.config.base_model = name.map(str::to_owned);
        }
        Ok(initial)
    }

    /// An adapter that was trained before: it keeps its shape.
    fn of_file(path: &Path, engine: &Engine, log: Log) -> Result<Initial> {
        let adapter = load_adapter(path, engine)?;
        adapter.warnings().iter().for_each(|warning| log.warn(warning));
        let config = match folder_of(path)? {
            Some(folder) => PeftConfig::open(folder)?,
            None => {
                let parts: Vec<_> = adapter.parts().collect();
                PeftConfig::of_parts(parts.iter().map(|(site, part)| (*site, part)))
            }
        };
        Ok(Initial { adapter, config })
    }
}

impl Initial {
    /// The matrices, as `attn_q,attn_v in layers 0 to 7`.
    pub fn shown_targets(&self) -> String {
        let mut names = Vec::new();
        let mut layers = Vec::new();
        for (site, ..) in self.adapter.sites() {
            let name = site.to_string().rsplit('.').next().unwrap_or_default().to_owned();
            if !names.contains(&name) {
                names.push(name);
            }
            layers.push(site.layer);
        }
        let (first, last) = (layers.iter().min().unwrap_or(&0), layers.iter().max().unwrap_or(&0));
        format!("{} in layers {first} to {last}", names.join(","))
    }
}
