//! Runs of something small: weights that are pulled to a target, whose steps can be followed by hand.

use std::fs;

use bise_models::train::{Example, Loss};
use serde_json::json;

use super::*;
use crate::Cancel;

/// Each label token pulls its weight to its target: the loss of token `t` is `½·(w[t] − target[t])²`.
struct Pull {
    weights: Vec<f32>,
    targets: Vec<f32>,
    gradient: Vec<f32>,
}

impl Pull {
    fn new(n: usize) -> Pull {
        let targets = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
        Pull { weights: vec![0.0; n], targets, gradient: vec![0.0; n] }
    }
}

impl Objective for Pull {
    fn backward(&mut self, examples: &[Example<'_>]) -> Result<Loss, bise_models::train::TrainError> {
        let loss = self.loss(examples)?;
        for token in labels(examples) {
            self.gradient[token] += self.weights[token] - self.targets[token];
        }
        Ok(loss)
    }

    fn loss(&mut self, examples: &[Example<'_>]) -> Result<Loss, bise_models::train::TrainError> {
        let mut loss = Loss::default();
        for token in labels(examples) {
            loss.sum += 0.5 * f64::from(self.weights[token] - self.targets[token]).powi(2);
            loss.n_labels += 1;
        }
        Ok(loss)
    }

    fn visit(&mut self, visit: &mut dyn FnMut(Weights<'_>)) {
        let name = "w".to_owned();
        visit(Weights { name, values: &mut self.weights, gradient: &self.gradient });
    }

    fn clear_gradients(&mut self) {
        self.gradient.fill(0.0);
    }
}

fn labels<'e>(examples: &'e [Example<'e>]) -> impl Iterator<Item = usize> + 'e {
    examples.iter().flat_map(|example| {
        let tokens = example.tokens.iter().zip(example.is_label);
        tokens.filter(|(_, is_label)| **is_label).map(|(token, _)| *token as usize)
    })
}

fn data() -> Dataset {
    let row = |i: u32| ((0..3 + i % 4).map(|j| (i * 5 + j) % 8).collect(), 1 + i as usize % 2);
    Dataset::of_tokens(&(0..10).map(row).collect::<Vec<_>>())
}

fn options(n_steps: usize) -> StepOptions {
    StepOptions {
        schedule: Schedule { lr: 0.05, kind: ScheduleKind::Linear, n_warmup: 2, n_steps },
        adam: AdamW::default(),
        max_gradient_norm: 1.0,
        rows_per_pass: 2,
        seed: 3,
    }
}

fn training(options: StepOptions) -> Training<Pull> {
    let order = Order { n_rows: 10, rows_per_step: 4, shuffle: Some(3) };
    Training::new(Pull::new(8), order, options)
}

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.set("--lr", 0.05);
    settings.set("--seed", 3);
    settings
}

fn run(training: &mut Training<Pull>, n: usize) -> Vec<Step> {
    let (data, cancel) = (data(), Cancel::new());
    (0..n).map(|_| training.step(&data, &cancel).unwrap()).collect()
}

#[test]
fn the_loss_falls_and_the_first_step_of_a_warmup_changes_nothing() {
    let mut training = training(options(60));
    let steps = run(&mut training, 1);
    assert_eq!((steps[0].lr, training.objective.weights.clone()), (0.0, vec![0.0; 8]));
    let steps = run(&mut training, 59);
    assert_eq!(steps.last().unwrap().number, 60);
    let loss = training.evaluate(&data(), usize::MAX, &Cancel::new()).unwrap();
    let before = Pull::new(8).targets.iter().map(|t| 0.5 * f64::from(t * t)).sum::<f64>() / 8.0;
    assert!(loss.mean() < before / 20.0, "{} of {before}", loss.mean());
}

/// Two steps by hand: the mean gradient of the label tokens of a step, cut to norm 1e-3.
#[test]
fn a_step_takes_the_mean_over_label_tokens_and_cuts_it() {
    let rows = [(vec![0, 1, 2], 1), (vec![3, 1], 1)];
    let data = Dataset::of_tokens(&rows);
    let order = Order { n_rows: 2, rows_per_step: 2, shuffle: None };
    let mut options = options(4);
    options.schedule.n_warmup = 0;
    options.max_gradient_norm = 1e-3;
    let mut training = Training::new(Pull::new(4), order, options);
    let target = training.objective.targets.clone();
    let step = training.step(&data, &Cancel::new()).unwrap();
    let gradient = [0.0, -2.0 * target[1] / 3.0, -target[2] / 3.0, 0.0].map(f64::from);
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    assert!((step.gradient_norm - norm).abs() < 1e-6);
    let loss = (2.0 * f64::from(target[1]).powi(2) + f64::from(target[2]).powi(2)) / 6.0;
    assert!((step.loss - loss).abs() < 1e-6);
    assert_eq!((step.n_labels, step.n_tokens), (3, 5));
    let cut = 1e-3 / (norm + 1e-6);
    for (m, g) in training.moments[0].m.iter().zip(gradient) {
        assert!((f64::from(*m) - 0.1 * g * cut).abs() < 1e-9, "{m}");
    }
}

#[test]
fn passes_of_any_size_give_the_same_bits() {
    let mut first = training(options(12));
    run(&mut first, 12);
    for rows_per_pass in [1, 3, 4, 100] {
        let mut other = training(StepOptions { rows_per_pass, ..options(12) });
        run(&mut other, 12);
        assert_eq!(other.objective.weights, first.objective.weights);
    }
}

#[test]
fn a_run_that_goes_on_ends_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(STATE);
    let mut whole = training(options(15));
    let all = run(&mut whole, 15);
    for n in [0, 1, 7, 15] {
        let mut first = training(options(15));
        run(&mut first, n);
        let mut unreported = Unreported::default();
        all[..n].iter().for_each(|step| unreported.add(step));
        first.save(&path, &settings(), &[json!({"iteration": n})], &unreported).unwrap();
        let mut second = training(options(15));
        let saved = second.load(&path, &settings()).unwrap();
        assert_eq!(saved, Saved { n_done: n, history: vec![json!({"iteration": n})], unreported });
        let rest = run(&mut second, 15 - n);
        assert_eq!(second.objective.weights, whole.objective.weights);
        let losses = |steps: &[Step]| steps.iter().map(|step| step.loss).collect::<Vec<_>>();
        assert_eq!(losses(&rest), losses(&all[n..]));
    }
}

#[test]
fn other_settings_are_named_and_damage_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(STATE);
    let mut first = training(options(15));
    run(&mut first, 5);
    first.save(&path, &settings(), &[], &Unreported::default()).unwrap();
    let load = |settings: &Settings| training(options(15)).load(&path, settings).unwrap_err().to_string();
    let mut other = settings();
    other.set("the model", "7");
    assert!(load(&other).contains("the model: found 7, expected nothing"), "{}", load(&other));
    let mut other = Settings::default();
    other.set("--lr", 0.1);
    assert!(load(&other).contains("--lr: found 0.1, expected 0.05"), "{}", load(&other));
    let whole = fs::read(&path).unwrap();
    for at in [0, 9, 300, whole.len() - 40, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x20;
        fs::write(&path, damaged).unwrap();
        let error = load(&settings());
        assert!(error.starts_with(&path.display().to_string()), "{error}");
    }
    for len in [0, 7, 20, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        load(&settings());
    }
}

/// The settings of a run on a model with these metadata.
fn on_model(hash: &str, metadata: &[(&str, &str)]) -> Settings {
    let parts = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let mut settings = Settings::default();
    settings.set_of("the model", hash, parts.collect());
    settings
}

#[test]
fn what_makes_another_model_is_named_where_it_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(STATE);
    let saved = on_model("1", &[("--sliding-window", "0"), ("its name", "a")]);
    let mut first = training(options(15));
    first.save(&path, &saved, &[], &Unreported::default()).unwrap();
    let load = |settings: &Settings| training(options(15)).load(&path, settings);
    assert!(load(&saved).is_ok());
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("--sliding-window", "64"), ("its name", "b")], "--sliding-window: found 64, expected 0"),
        (&[("--sliding-window", "0"), ("new", "7"), ("its name", "a")], "new: found 7, expected nothing"),
        (&[("--sliding-window", "0")], "its name: found nothing, expected a"),
        (&[("--sliding-window", "0"), ("its name", "a")], "the model: found 2, expected 1"),
    ];
    for (metadata, expected) in cases {
        let error = load(&on_model("2", metadata)).unwrap_err().to_string();
        assert!(error.contains(&format!(": {expected}: a run goes on")), "{error}");
    }
}

/// What `change` makes of the metadata of a saved state, with a checksum that fits.
fn rewrite(path: &std::path::Path, change: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) {
    let bytes = fs::read(path).unwrap();
    let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    change(header["__metadata__"].as_object_mut().unwrap());
    let header = header.to_string();
    let mut changed = (header.len() as u64).to_le_bytes().to_vec();
    changed.extend(header.as_bytes());
    changed.extend(&bytes[8 + len..bytes.len() - 16]);
    let checksum = twox_hash::XxHash3_128::oneshot(&changed);
    changed.extend(checksum.to_le_bytes());
    fs::write(path, changed).unwrap();
}

#[test]
fn states_of_earlier_versions_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(STATE);
    let mut first = training(options(15));
    let mut unreported = Unreported::default();
    run(&mut first, 5).iter().for_each(|step| unreported.add(step));
    let saved = on_model("1", &[("--sliding-window", "0")]);
    first.save(&path, &saved, &[], &unreported).unwrap();
    // They had neither the steps behind the last report nor the parts of the model.
    rewrite(&path, |metadata| {
        assert!(metadata.remove("unreported").is_some());
        let mut settings: serde_json::Map<_, _> =
            serde_json::from_str(metadata["settings"].as_str().unwrap()).unwrap();
        assert!(settings.remove("parts of the model").is_some());
        metadata["settings"] = serde_json::Value::from(settings).to_string().into();
    });
    let load = |settings: &Settings| training(options(15)).load(&path, settings);
    let found = load(&saved).unwrap();
    assert_eq!(found, Saved { n_done: 5, history: vec![], unreported: Unreported::default() });
    let error = load(&on_model("2", &[("--sliding-window", "64")])).unwrap_err().to_string();
    assert!(error.contains(": the model: found 2, expected 1: "), "{error}");
    rewrite(&path, |metadata| drop(metadata.insert("unreported".into(), "{}".into())));
    let error = load(&saved).unwrap_err().to_string();
    assert!(error.contains("found '{}' as unreported steps"), "{error}");
}

#[test]
fn a_loss_that_is_no_number_names_the_step_and_changes_nothing() {
    let mut training = training(options(15));
    run(&mut training, 4);
    let before = training.objective.weights.clone();
    training.objective.targets[2] = f32::NAN;
    let (data, cancel) = (data(), Cancel::new());
    let error = (0..3).find_map(|_| training.step(&data, &cancel).err()).expect("token 2 is in every epoch");
    let number = training.n_done() + 1;
    assert!(error.to_string().starts_with(&format!("step {number}: found the loss NaN")), "{error}");
    assert!(training.n_done() > 4 || training.objective.weights == before);
    assert!(training.objective.weights.iter().all(|w| w.is_finite()));
}

#[test]
fn a_weight_that_is_no_number_names_the_step() {
    let mut options = options(15);
    options.schedule.lr = 1e300;
    let mut training = training(options);
    run(&mut training, 1);
    let error = training.step(&data(), &Cancel::new()).unwrap_err().to_string();
    assert!(error.starts_with("step 2: found the weight "), "{error}");
    assert_eq!(training.n_done(), 1);
}

#[test]
fn a_cancelled_step_changes_nothing() {
    let mut training = training(options(15));
    let cancel = Cancel::new();
    cancel.cancel();
    assert!(matches!(training.step(&data(), &cancel), Err(TrainError::Cancelled)));
    assert_eq!(training.n_done(), 0);
}

#[test]
fn checkpoints_appear_whole_and_killed_ones_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = RunFolder::take(&path).unwrap();
    if cfg!(unix) {
        let error = RunFolder::take(&path).unwrap_err().to_string();
        assert!(error.contains("another process"), "{error}");
    }
    let write = |text: &'static str| {
        move |folder: &std::path::Path| -> Result<(), TrainError> {
            fs::write(folder.join(STATE), text).unwrap();
            fs::write(folder.join("adapter_model.safetensors"), text).unwrap();
            fs::write(folder.join(GGUF_NAME), text).unwrap();
            Ok(())
        }
    };
    for step in [5, 10, 100, 20] {
        run.add(step, write("whole")).unwrap();
    }
    run.add(10, write("again")).unwrap();
    assert_eq!(fs::read_to_string(run.checkpoint(10).join(STATE)).unwrap(), "whole");
    assert_eq!(RunFolder::checkpoints(&path), [5, 10, 20, 100]);
    let failed = run.add(30, |folder| {
        fs::write(folder.join(STATE), "half").unwrap();
        Err::<(), _>(TrainError::Cancelled)
    });
    assert!(matches!(failed, Err(TrainError::Cancelled)));
    run.remove_old_states().unwrap();
    assert_eq!(RunFolder::checkpoints(&path), [20, 100]);
    assert!(run.checkpoint(5).join("adapter_model.safetensors").is_file());
    // Killed in the middle of a checkpoint.
    fs::create_dir(path.join(".checkpoint-110.part")).unwrap();
    fs::write(path.join(".checkpoint-110.part").join(STATE), "half").unwrap();
    drop(run);
    let run = RunFolder::take(&path).unwrap();
    assert!(!path.join(".checkpoint-110.part").exists());
    // A checkpoint of another program, and one with a file of the user's.
    fs::create_dir(run.checkpoint(40)).unwrap();
    fs::write(run.checkpoint(40).join("adapter_model.safetensors"), "other").unwrap();
    fs::write(run.checkpoint(20).join("notes.txt"), "mine").unwrap();
    assert_eq!(RunFolder::all_checkpoints(&path), [5, 10, 20, 40, 100]);
    run.check_free(21..=39).unwrap();
    let error = run.check_free(21..=40).unwrap_err().to_string();
    assert!(error.contains("checkpoint-40: found a folder with files of something else"), "{error}");
    assert!(run.add(40, write("whole")).is_err());
    run.remove_checkpoints().unwrap();
    assert_eq!(RunFolder::all_checkpoints(&path), [20, 40]);
    assert_eq!(fs::read_to_string(run.checkpoint(40).join("adapter_model.safetensors")).unwrap(), "other");
    assert!(run.checkpoint(20).join("notes.txt").is_file());
}
