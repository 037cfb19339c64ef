//! What cannot be trained, and examples that cannot be learned from.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bise_kernels::{Isa, Team};
use bise_models::adapter::{Adapter, LowRank};
use bise_models::train::{Example, Targets, TrainError, TrainOptions, Trainer};
use bise_models::{MemoryBudget, Projection, Site};

use super::cases::{EXACT, Text, case, collect, trainer};

#[test]
fn examples_are_refused_by_number_before_anything_is_computed() {
    let case = case("plain_f16");
    let model = case.model(Isa::detect());
    let mut trainer = trainer(case, &model, &TrainOptions { max_rows: 3, ..EXACT }, 1);
    let good = Example { tokens: &[1, 2, 3], is_label: &[false, true, true], seed: 0 };
    for (bad, problem) in [
        (Example { tokens: &[1, 2], ..good }, "2 tokens with 3 marks of labels"),
        (Example { tokens: &[1, 2, 272], ..good }, "token 272 is not in the vocabulary, which has 272"),
        (
            Example { tokens: &[1; 5], is_label: &[false, false, false, false, true], seed: 0 },
            "4 tokens up to its last label, with room for 3 in a pass",
        ),
    ] {
        let error = trainer.backward(&[good, bad]).unwrap_err();
        assert_eq!(error.to_string(), format!("example 1: {problem}"));
        assert!(collect(&mut trainer).iter().all(|(_, gradient)| gradient.iter().all(|g| *g == 0.0)));
    }
    // What follows the last label takes no room.
    let longer = Example { tokens: &[1; 5], is_label: &[false, true, false, false, false], seed: 0 };
    assert_eq!(trainer.backward(&[longer]).unwrap().n_labels, 1);
    let none = Example { tokens: &[1; 5], is_label: &[true, false, false, false, false], seed: 0 };
    assert_eq!(trainer.backward(&[none]).unwrap().n_labels, 0);
}

#[test]
fn numbers_that_are_not_finite_are_named_by_place() {
    let case = case("plain_f16");
    let model = case.model(Isa::detect());
    let texts = case.texts(&model);
    let examples: Vec<_> = texts.iter().map(Text::example).collect();
    for exact in [true, false] {
        let mut trainer = trainer(case, &model, &TrainOptions { exact, ..EXACT }, 2);
        let healthy = trainer.loss(&examples).unwrap();
        for (i, place) in
            [(1, "layer 0's attention"), (9, "layer 0's feed-forward"), (15, "layer 1's attention")]
        {
            let values = trainer.parameters().nth(i).unwrap().values.to_vec();
            trainer.parameters().nth(i).unwrap().values.fill(f32::MAX);
            let error = trainer.backward(&examples).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("the activations of {place} are not finite")),
                "{error}"
            );
            trainer.parameters().nth(i).unwrap().values.copy_from_slice(&values);
        }
        // Nothing of it stays.
        assert_eq!(trainer.loss(&examples).unwrap(), healthy);
    }
}

#[test]
fn a_trainer_ends_early_where_it_is_cancelled() {
    let case = case("plain_f16");
    let model = case.model(Isa::detect());
    let mut trainer = trainer(case, &model, &EXACT, 1);
    let cancel = Arc::new(AtomicBool::new(true));
    trainer.set_cancel(Arc::clone(&cancel));
    let example = Example { tokens: &[1, 2, 3], is_label: &[false, true, true], seed: 0 };
    assert_eq!(trainer.backward(&[example]).unwrap_err(), TrainError::Cancelled);
    cancel.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(trainer.backward(&[example]).unwrap().n_labels, 2);
}

#[test]
fn only_matrices_of_the_layers_are_trained() {
    let message = |name: &str, projections: &[Projection], n_layers| {
        let model = case(name).model(Isa::detect());
        let targets = Targets { projections: projections.to_vec(), n_layers };
        targets.sites(model.config()).unwrap_err().to_string()
    };
    use Projection::*;
    assert_eq!(
        message("mixtral_stacked", &[AttnQ, FfnUp], 1),
        "training does not take 'blk.0.ffn_up': the feed-forward has experts: adapters are trained for its attention only (q, k, v, o)"
    );
    assert!(
        message("plain_f16", &[Output], 1)
            .starts_with("training does not take 'output': adapters are trained for queries")
    );
    assert!(message("plain_f16", &[], 1).starts_with("training does not take an empty list of targets"));
    assert!(message("plain_f16", &[AttnQ], 3).starts_with("training does not take 3 layers"));

    let model = case("plain_f16").model(Isa::detect());
    let site = Site { layer: 2, projection: Output, expert: None };
    let part = LowRank { rank: 1, scale: 1.0, a: vec![0.5; 64], b: vec![0.0; 272] };
    let adapter = Adapter::new("heads".into(), &model, [(site, part)]).unwrap();
    let team = Arc::new(Team::new(1).unwrap());
    let error = Trainer::new(&model, &adapter, &EXACT, team, &MemoryBudget::unlimited()).err().unwrap();
    assert!(error.to_string().starts_with("training does not take 'output'"), "{error}");
}

#[test]
fn a_dropout_leaves_something() {
    let case = case("plain_f16");
    let model = case.model(Isa::detect());
    for dropout in [1.0, -0.1, f32::NAN] {
        let options = TrainOptions { dropout, ..EXACT };
        let team = Arc::new(Team::new(1).unwrap());
        let budget = MemoryBudget::unlimited();
        let error = Trainer::new(&model, &case.adapter(&model), &options, team, &budget).err().unwrap();
        assert!(error.to_string().starts_with("training does not take a dropout of"), "{error}");
    }
}

#[test]
fn memory_is_what_was_predicted_and_stays_below_a_ceiling() {
    let case = case("tiny");
    let model = case.model(Isa::detect());
    let adapter = case.adapter(&model);
    let sites: Vec<(Site, usize)> = adapter.sites().map(|(site, rank, _)| (site, rank)).collect();
    let bytes = Trainer::bytes(model.config(), &sites, &EXACT, 2).unwrap();
    let new = |budget: &MemoryBudget, options: &TrainOptions| {
        Trainer::new(&model, &adapter, options, Arc::new(Team::new(2).unwrap()), budget)
    };
    let budget = MemoryBudget::new(bytes);
    let trainer = new(&budget, &EXACT).unwrap();
    assert_eq!(budget.used(), bytes);
    drop(trainer);
    assert_eq!(budget.used(), 0);
    let error = new(&MemoryBudget::new(bytes - 1), &EXACT).err().unwrap();
    assert!(error.to_string().starts_with("no room for the buffers of training"), "{error}");
    let endless = TrainOptions { max_rows: usize::MAX / 1000, ..EXACT };
    let error = new(&MemoryBudget::unlimited(), &endless).err().unwrap();
    assert!(matches!(error, TrainError::OutOfMemory(_)), "{error}");
}
