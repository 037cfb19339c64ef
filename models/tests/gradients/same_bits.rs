//! The same bits, whatever the threads, the instruction set, and the split of the examples.

use bise_kernels::Isa;
use bise_models::MemoryBudget;
use bise_models::train::TrainOptions;

use super::cases::{EXACT, Text, case, collect, gradients, trainer};

fn options() -> [TrainOptions; 2] {
    [TrainOptions { dropout: 0.1, ..EXACT }, TrainOptions { dropout: 0.1, exact: false, ..EXACT }]
}

fn assert_same(
    what: &str,
    (loss, ours): &(f64, Vec<(String, Vec<f32>)>),
    golden: &(f64, Vec<(String, Vec<f32>)>),
) {
    assert_eq!(loss.to_bits(), golden.0.to_bits(), "{what}: losses {loss} and {}", golden.0);
    for ((name, ours), (_, golden)) in ours.iter().zip(&golden.1) {
        let same = ours.iter().zip(golden).all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same && ours.len() == golden.len(), "{what}: {name}");
    }
}

#[test]
fn any_team_and_instruction_set() {
    for name in ["plain_f16", "window_5", "mqa_wide", "mixtral_stacked"] {
        let case = case(name);
        for options in options() {
            let golden = gradients(case, &case.model(Isa::Scalar), &options, 1);
            for isa in Isa::available() {
                let model = case.model(isa);
                for n_threads in [1, 2, 4] {
                    let what = format!("{name}, {isa}, {n_threads} threads, exact {}", options.exact);
                    assert_same(&what, &gradients(case, &model, &options, n_threads), &golden);
                }
            }
        }
    }
    let case = case("tiny");
    let model = case.model(Isa::detect());
    for options in options() {
        let golden = gradients(case, &model, &options, 1);
        for n_threads in [2, 4] {
            assert_same(
                &format!("{n_threads} threads"),
                &gradients(case, &model, &options, n_threads),
                &golden,
            );
        }
    }
}

#[test]
fn any_split_into_passes_and_calls() {
    for name in ["plain_f16", "mha_narrow_tied", "mixtral_stacked", "tiny"] {
        let case = case(name);
        let model = case.model(Isa::detect());
        let texts = case.texts(&model);
        let examples: Vec<_> = texts.iter().map(Text::example).collect();
        let longest = *case.lengths.iter().max().unwrap();
        for options in options() {
            let golden = gradients(case, &model, &options, 2);
            let one_a_pass = TrainOptions { max_rows: longest, ..options };
            assert_same("passes", &gradients(case, &model, &one_a_pass, 2), &golden);
            let kept = TrainOptions { checkpointing: false, ..options };
            assert_same("all activations kept", &gradients(case, &model, &kept, 2), &golden);
            let mut trainer = trainer(case, &model, &options, 2);
            let mut loss = 0.0;
            for example in &examples {
                loss += trainer.backward(std::slice::from_ref(example)).unwrap().sum;
            }
            assert_same("calls", &(loss, collect(&mut trainer)), &golden);
        }
    }
}

#[test]
fn weights_that_are_streamed() {
    for name in ["mixtral_stacked", "tiny"] {
        let case = case(name);
        let [whole, streamed] = [false, true].map(|is_streamed| {
            let model = case.model(Isa::detect());
            let model = match is_streamed {
                true => model.streamed(0, 0, &MemoryBudget::unlimited()),
                false => model,
            };
            gradients(case, &model, &EXACT, 2)
        });
        assert_same(name, &streamed, &whole);
    }
}
