//! Against finite differences of the loss.

use bise_kernels::Isa;
use bise_models::train::{TrainOptions, Trainer};

use super::cases::{EXACT, Gradient, Text, case, collect, norm, trainer};

/// How much the loss is to change, and how much a parameter at most.
const CHANGE: f64 = 0.5;
const MOST: f64 = 0.01;

/// The slope of the loss along the gradient of each parameter, over the gradient's norm: 1 where the gradient is right.
fn slopes(
    trainer: &mut Trainer<'_>,
    mut loss: impl FnMut(&mut Trainer<'_>) -> f64,
    gradients: &[Gradient],
) -> Vec<(String, f64)> {
    let mut slope = |(i, (name, gradient)): (usize, &Gradient)| {
        let length = norm(gradient);
        let values = trainer.parameters().nth(i).unwrap().values.to_vec();
        let step = (CHANGE / length).min(MOST * norm(&values));
        let [ahead, behind] = [step, -step].map(|step| {
            let parameter = trainer.parameters().nth(i).unwrap();
            for (value, g) in parameter.values.iter_mut().zip(gradient) {
                *value += (step / length * f64::from(*g)) as f32;
            }
            let loss = loss(trainer);
            trainer.parameters().nth(i).unwrap().values.copy_from_slice(&values);
            loss
        });
        (name.clone(), (ahead - behind) / (2.0 * step) / length)
    };
    gradients.iter().enumerate().map(&mut slope).collect()
}

#[test]
fn the_loss_changes_along_the_gradient_as_it_says() {
    for name in ["plain_f16", "mqa_wide", "mixtral_stacked", "tiny"] {
        let case = case(name);
        let model = case.model(Isa::detect());
        let mut trainer = trainer(case, &model, &EXACT, 2);
        let texts = case.texts(&model);
        // The last one, which is not the longest where there are several.
        let examples = [texts.last().unwrap().example()];
        trainer.backward(&examples).unwrap();
        let gradients = collect(&mut trainer);
        let loss = |trainer: &mut Trainer<'_>| trainer.loss(&examples).unwrap().sum;
        for (parameter, slope) in slopes(&mut trainer, loss, &gradients) {
            assert!((slope - 1.0).abs() < 0.01, "{name}, {parameter}: {slope} of what the gradient says");
        }
    }
}

/// Dropout leaves the same values out of a pass and of its gradient.
#[test]
fn dropout_is_part_of_the_gradient() {
    let case = case("plain_f16");
    let model = case.model(Isa::detect());
    let mut trainer = trainer(case, &model, &TrainOptions { dropout: 0.3, ..EXACT }, 2);
    let texts = case.texts(&model);
    let examples: Vec<_> = texts.iter().map(Text::example).collect();
    let dropped = trainer.backward(&examples).unwrap();
    assert_ne!(dropped, trainer.loss(&examples).unwrap());
    let gradients = collect(&mut trainer);
    // Only backward passes have dropout.
    let loss = |trainer: &mut Trainer<'_>| trainer.backward(&examples).unwrap().sum;
    for (parameter, slope) in slopes(&mut trainer, loss, &gradients) {
        assert!((slope - 1.0).abs() < 0.01, "{parameter}: {slope} of what the gradient says");
    }
}
