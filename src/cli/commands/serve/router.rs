//! Models by name: where a server without --model finds them, and how each is opened.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use bise::hub::Place;
use bise::server::{Catalog, ModelOptions, Offer, Preset, RouterOptions};

use super::model::{self, SharedThreads};
use super::presets::{self, Section};
use super::{FlagReader, ServeArgs};
use crate::cli::hub;
use crate::cli::term::console::Log;
use crate::cli::usage::wrong;

/// Flags that mean nothing where --model names the one model there is.
const FLAGS: [&str; 7] = [
    "models-dir",
    "models-preset",
    "models-max",
    "models-autoload",
    "no-models-autoload",
    "models-wait",
    "keep-alive",
];

/// Refuses flags that say how many models are loaded and when, where there is one.
///
/// # Errors
/// One was given.
pub fn refuse_flags(args: &ServeArgs, typed: &[String]) -> Result<()> {
    match FLAGS.iter().find(|flag| typed.iter().any(|given| given == *flag)) {
        // A variable that is there for Ollama says nothing about this server.
        Some(flag) if *flag != "keep-alive" => Err(wrong(format_args!(
            "--{flag} is for a server of many models, and --model names the one there is: leave out one of them"
        ))),
        Some(_) => {
            args.log
                .log()
                .warn("--keep-alive has no effect with --model: --sleep-idle-seconds is for one model");
            Ok(())
        }
        None => Ok(()),
    }
}

/// How the flags have many models served.
///
/// # Errors
/// A flag or the file of presets makes no sense.
pub fn options(args: &ServeArgs, typed: &[String], flags: FlagReader, log: Log) -> Result<RouterOptions> {
    if !args.serving.alias.is_empty() {
        return Err(wrong(
            "--alias names one model, and there is none here: --model says which (--model builtin, too)",
        ));
    }
    if let Some(folder) = args.router.models_dir.as_ref().filter(|folder| !folder.is_dir()) {
        return Err(wrong(format_args!("--models-dir {}: found no folder there", folder.display())));
    }
    if !args.model.adapters.all().is_empty() {
        return Err(wrong(
            "--lora and --lora-scaled are for one model: --model says which, or a section of --models-preset has them",
        ));
    }
    let sections = match &args.router.models_preset {
        Some(path) => presets::read(path, flags)?,
        None => Vec::new(),
    };
    let presets = sections.iter().map(|section| section.preset.clone()).collect();
    // What is wrong with the flags is told at once.
    let threads = SharedThreads::default();
    model::options(args, typed, vec!["builtin".into()], None, Default::default(), &threads, log)?;
    let (args, typed) = (args.clone(), typed.to_vec());
    let router = args.router.clone();
    let max_memory = args.model.max_memory;
    let hub = hub::open(&args.model.source);
    let options_of = move |offer: &Offer, preset: Option<&Preset>| -> Result<ModelOptions, _> {
        let section =
            preset.and_then(|preset| sections.iter().find(|section| section.preset.name == preset.name));
        let (args, typed) = match section {
            Some(Section { args, typed, .. }) => (&**args, typed),
            None => (&args, &typed),
        };
        let file = Some(offer.model.path.clone()).filter(|_| offer.model.place != Place::Builtin);
        let (names, extras) = (vec![offer.name.clone()], offer.model.extras.clone());
        model::options(args, typed, names, file, extras, &threads, log)
            .map_err(|error| format!("{error:#}").into())
    };
    Ok(RouterOptions {
        catalog: Catalog {
            hub: Arc::new(hub),
            folder: router.models_dir,
            presets,
            options_of: Arc::new(options_of),
        },
        max_models: Some(router.models_max).filter(|max| *max > 0),
        max_memory,
        autoload: !router.no_models_autoload,
        keep_alive: router.keep_alive,
        patience: Duration::from_secs(router.models_wait.into()),
    })
}
