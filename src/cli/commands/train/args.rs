//! The flags of `bise train`.

use std::path::PathBuf;

use bise::train::ScheduleKind;
use bise_models::Projection;

use crate::cli::args::log::LogArgs;
use crate::cli::args::model::ModelArgs;
use crate::cli::args::numbers::{positive, positive_or_all};
use crate::cli::args::prompt::TemplateArgs;

/// What to learn, and how.
#[derive(clap::Args, Debug)]
pub struct TrainArgs {
    /// Folder with train.jsonl and, if wanted, valid.jsonl and test.jsonl, or one file to learn from. A line is {"messages": […]} (and
    /// "tools"), {"prompt": …, "completion": …} or {"text": …}
    #[arg(long, value_name = "DIR|FILE")]
    pub data: PathBuf,

    /// Folder for the adapter (PEFT's two files, and adapter.gguf) and its checkpoints
    #[arg(short, long, alias = "adapter-path", value_name = "OUT", default_value = "adapters")]
    pub output: PathBuf,

    /// Count the last message or the completion alone, not what comes before
    #[arg(long)]
    pub mask_prompt: bool,

    /// Tokens of a row at most; longer ones are cut, with a warning
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = positive)]
    pub max_seq_length: usize,

    /// Go on from the last checkpoint in the folder; the result is the same as without the interruption
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,

    /// Overwrite an adapter and checkpoints in the folder, and the files of --log and --plot
    #[arg(long)]
    pub force: bool,

    /// Print how much memory and time it takes, and train nothing
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub steps: StepArgs,
    #[command(flatten)]
    pub adapter: ShapeArgs,
    #[command(flatten)]
    pub reports: ReportArgs,
    #[command(flatten)]
    pub log: LogArgs,
    #[command(flatten)]
    pub template: TemplateArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// How weights change.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Steps")]
pub struct StepArgs {
    /// Steps; a step takes batch-size times grad-accum rows
    #[arg(long, value_name = "N", conflicts_with = "epochs", value_parser = positive)]
    pub iters: Option<usize>,

    /// How often every row is learned from [default: 3]
    #[arg(long, alias = "num-train-epochs", value_name = "N", value_parser = positive)]
    pub epochs: Option<usize>,

    /// Rows whose gradients are computed together
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive)]
    pub batch_size: usize,

    /// Batches of a step. What counts is the product of both: how it is split changes no bit
    #[arg(
        long,
        aliases = ["grad-accumulation-steps", "gradient-accumulation-steps"],
        value_name = "N",
        default_value_t = 1,
        value_parser = positive
    )]
    pub grad_accum: usize,

    /// Learning rate
    #[arg(long, alias = "learning-rate", value_name = "RATE", default_value = "1e-4", value_parser = not_negative)]
    pub lr: f64,

    /// Steps in which the learning rate rises from 0, or the part of all steps, as 0.03
    #[arg(long, alias = "warmup-steps", value_name = "N", default_value = "0", value_parser = warmup)]
    pub warmup: f64,

    /// How the learning rate falls after that
    #[arg(long, alias = "lr-scheduler-type", value_name = "KIND", default_value = "linear")]
    pub schedule: ScheduleArg,

    /// Weight decay of AdamW
    #[arg(long, value_name = "RATE", default_value = "0", value_parser = not_negative)]
    pub weight_decay: f64,

    /// Cut the norm of the gradient to this; 0: never
    #[arg(long, alias = "max-grad-norm", value_name = "NORM", default_value = "1", value_parser = not_negative)]
    pub clip: f64,

    /// Where random numbers come from: the first A, the order of rows, dropout
    #[arg(long, value_name = "N", default_value_t = 42)]
    pub seed: u64,

    /// Learn from the rows in the order of the file
    #[arg(long)]
    pub no_shuffle: bool,

    /// Compute in f32 with dequantized weights, rather than as the model is served (8-bit activations): slower
    #[arg(long)]
    pub exact: bool,

    /// Keep the activations of all layers, rather than compute them again for the gradients: faster, for much more memory
    #[arg(long, overrides_with = "grad_checkpoint")]
    pub no_grad_checkpoint: bool,

    /// Compute activations again (the default)
    #[arg(long, hide = true, overrides_with = "no_grad_checkpoint")]
    pub grad_checkpoint: bool,

    /// The optimizer: AdamW alone
    #[arg(long, hide = true, value_name = "NAME", default_value = "adamw", value_parser = ["adamw"])]
    pub optimizer: String,

    /// Train (the default)
    #[arg(long, hide = true)]
    pub train: bool,
}

/// What is trained.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Adapter")]
pub struct ShapeArgs {
    /// Matrices with an adapter: some of q, k, v, o, gate, up and down, or all [default: q,k,v,o]
    #[arg(long, alias = "lora-target-modules", value_name = "NAME,…", value_delimiter = ',', value_parser = targets)]
    pub targets: Option<Vec<Targets>>,

    /// Train the last N layers only; -1: all [default: -1]
    #[arg(long, alias = "lora-layers", value_name = "N", allow_negative_numbers = true, value_parser = positive_or_all)]
    pub num_layers: Option<usize>,

    /// Rank of the adapter [default: 16]
    #[arg(long, alias = "lora-r", value_name = "N", value_parser = positive)]
    pub rank: Option<usize>,

    /// What the adapter adds is multiplied by alpha / rank [default: 32]
    #[arg(long, alias = "lora-alpha", value_name = "ALPHA", value_parser = above_zero)]
    pub alpha: Option<f64>,

    /// Multiply by alpha / √rank instead
    #[arg(long, alias = "use-rslora")]
    pub rslora: bool,

    /// Part of an adapter's input that is left out, at random
    #[arg(long, alias = "lora-dropout", value_name = "P", default_value = "0.05", value_parser = fraction)]
    pub dropout: f64,

    /// Begin with this adapter (a folder of PEFT or a GGUF file) and keep its shape, rather than with one that changes nothing
    #[arg(long, alias = "resume-adapter-file", value_name = "ADAPTER")]
    pub init: Option<PathBuf>,

    /// The method: LoRA alone
    #[arg(long, hide = true, value_name = "NAME", default_value = "lora", value_parser = ["lora"])]
    pub fine_tune_type: String,
}

/// What is said and kept on the way.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Reports")]
pub struct ReportArgs {
    /// Steps from one report to the next
    #[arg(long, aliases = ["steps-per-report", "logging-steps"], value_name = "N", default_value_t = 10, value_parser = positive)]
    pub report_every: usize,

    /// Steps from one evaluation on valid.jsonl to the next; there is one before the first step and behind the last, too [default: 200]
    #[arg(long, aliases = ["steps-per-eval", "eval-steps"], value_name = "N", value_parser = positive)]
    pub eval_every: Option<usize>,

    /// Batches of an evaluation; -1: all rows [default: 25]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive_or_all)]
    pub val_batches: Option<usize>,

    /// Evaluate on test.jsonl at the end
    #[arg(long)]
    pub test: bool,

    /// Batches of that; -1: all rows
    #[arg(long, value_name = "N", default_value = "-1", allow_negative_numbers = true, value_parser = positive_or_all, requires = "test")]
    pub test_batches: usize,

    /// Steps from one checkpoint to the next; there is one behind the last step, too
    #[arg(long, alias = "save-steps", value_name = "N", default_value_t = 100, value_parser = positive)]
    pub save_every: usize,

    /// Write reports to a file, a JSON object a line
    #[arg(id = "log_file", long = "log", value_name = "FILE.jsonl")]
    pub log: Option<PathBuf>,

    /// Draw the curve of the loss
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
}

impl ReportArgs {
    /// Steps from one evaluation to the next.
    pub fn eval_every(&self) -> usize {
        self.eval_every.unwrap_or(200)
    }

    /// Batches of an evaluation.
    pub fn val_batches(&self) -> usize {
        self.val_batches.unwrap_or(25)
    }
}

/// `--schedule`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScheduleArg {
    /// Along a line to 0
    Linear,
    /// Along half a cosine to 0
    Cosine,
    /// Not at all
    #[value(alias = "constant_with_warmup")]
    Constant,
}

impl ScheduleArg {
    pub fn kind(self) -> ScheduleKind {
        match self {
            ScheduleArg::Linear => ScheduleKind::Linear,
            ScheduleArg::Cosine => ScheduleKind::Cosine,
            ScheduleArg::Constant => ScheduleKind::Constant,
        }
    }
}

/// One name of `--targets`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets(pub &'static [Projection]);

/// Matrices by the names of PEFT, of GGUF files, and in short.
const TARGETS: [(&[&str], &[Projection]); 8] = [
    (&["q", "q_proj", "attn_q"], &[Projection::AttnQ]),
    (&["k", "k_proj", "attn_k"], &[Projection::AttnK]),
    (&["v", "v_proj", "attn_v"], &[Projection::AttnV]),
    (&["o", "o_proj", "attn_output"], &[Projection::AttnOutput]),
    (&["gate", "gate_proj", "ffn_gate"], &[Projection::FfnGate]),
    (&["up", "up_proj", "ffn_up"], &[Projection::FfnUp]),
    (&["down", "down_proj", "ffn_down"], &[Projection::FfnDown]),
    (
        &["all", "all-linear"],
        &[
            Projection::AttnQ,
            Projection::AttnK,
            Projection::AttnV,
            Projection::AttnOutput,
            Projection::FfnGate,
            Projection::FfnUp,
            Projection::FfnDown,
        ],
    ),
];

/// The matrices that get an adapter unless others are named: those of attention.
pub const DEFAULT_TARGETS: [Projection; 4] =
    [Projection::AttnQ, Projection::AttnK, Projection::AttnV, Projection::AttnOutput];

fn targets(name: &str) -> Result<Targets, String> {
    let known = TARGETS.iter().find(|(names, _)| names.contains(&name.trim()));
    known.map(|(_, projections)| Targets(projections)).ok_or_else(|| {
        let names: Vec<_> = TARGETS.iter().map(|(names, _)| names[0]).collect();
        format!("found '{name}', expected one of {}", names.join(", "))
    })
}

fn number(text: &str, is_good: impl Fn(f64) -> bool, expected: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|x: &f64| x.is_finite() && is_good(*x));
    number.ok_or_else(|| format!("found '{text}', expected {expected}"))
}

fn not_negative(text: &str) -> Result<f64, String> {
    number(text, |x| x >= 0.0, "a number of 0 or more")
}

fn above_zero(text: &str) -> Result<f64, String> {
    number(text, |x| x > 0.0, "a number above 0")
}

fn fraction(text: &str) -> Result<f64, String> {
    number(text, |x| (0.0..1.0).contains(&x), "a number from 0 to below 1")
}

fn warmup(text: &str) -> Result<f64, String> {
    let expected = "a number of steps, or a part of all from 0 to below 1";
    number(text, |x| (0.0..1.0).contains(&x) || (x >= 1.0 && x.fract() == 0.0), expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matrices_have_several_names() {
        for name in ["q", "q_proj", "attn_q"] {
            assert_eq!(targets(name).unwrap().0, [Projection::AttnQ]);
        }
        assert_eq!(targets("all").unwrap().0.len(), 7);
        assert!(targets("lm_head").unwrap_err().contains("expected one of q, k, v, o, gate, up, down, all"));
    }

    #[test]
    fn numbers_are_in_their_ranges() {
        assert_eq!(warmup("0.03"), Ok(0.03));
        assert_eq!(warmup("100"), Ok(100.0));
        assert!(warmup("1.5").is_err() && warmup("-1").is_err() && warmup("nan").is_err());
        assert!(fraction("1").is_err() && fraction("0").is_ok());
        assert!(not_negative("inf").is_err() && above_zero("0").is_err());
    }
}
