//! `bise embedding`: texts as vectors, printed as llama-embedding prints them.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use bise::Engine;
use bise::embedding::{EmbedOptions, Norm, Pooling, normalize};
use bise_models::printable::Printable;

use crate::cli::args::log::LogArgs;
use crate::cli::args::model::{ContextArgs, ModelArgs};
use crate::cli::args::prompt::EscapeArgs;
use crate::cli::usage::wrong;
use crate::cli::{load, text};

/// Numbers of a vector that are printed where there are several.
const SHOWN: usize = 16;

/// Flags of llama-embedding.
#[derive(clap::Args, Debug)]
pub struct EmbeddingArgs {
    /// Texts to embed, one a line
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<OsString>,

    /// Read the texts from a file (one newline at its end is dropped)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// What stands between two texts, in place of a newline
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "\n",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    embd_separator: OsString,

    /// How the vectors of a text's tokens become one: their mean, the first (cls) or the last; none: they all are printed [default: as the file says, or none]
    #[arg(long, value_name = "KIND", env = "LLAMA_ARG_POOLING")]
    pooling: Option<PoolingArg>,

    /// Norm that vectors are divided by; -1: none, 0: largest magnitude (scaled to 16-bit integers), 1: taxicab, 2: Euclidean, more: p-norm
    #[arg(long, value_name = "N", default_value_t = 2, allow_negative_numbers = true)]
    embd_normalize: i32,

    /// Print whole vectors: as one JSON array, in the JSON of the OpenAI API (json+: with similarities), or a line of plain numbers each [default: their beginnings, and the similarities of the texts]
    #[arg(long, value_name = "FORMAT")]
    embd_output_format: Option<Format>,

    #[command(flatten)]
    escapes: EscapeArgs,

    #[command(flatten)]
    pub log: LogArgs,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    context: ContextArgs,
}

/// `--pooling`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum PoolingArg {
    /// A vector for each token
    None,
    /// The mean over all tokens
    Mean,
    /// The first token's
    Cls,
    /// The last token's
    Last,
}

/// `--embd-output-format`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// One array of arrays
    Array,
    /// The OpenAI API's
    Json,
    /// As json, with a matrix of cosine similarities
    #[value(name = "json+")]
    JsonPlus,
    /// Numbers, a vector a line
    Raw,
}

/// Runs the command.
///
/// # Errors
/// There is no text, one does not fit the context, or a pass fails.
pub fn run(args: EmbeddingArgs) -> Result<()> {
    let log = args.log.log();
    let texts = texts(&args)?;
    let engine = load::load(&args.model, None, log)?.engine;
    let pooling = match args.pooling {
        Some(PoolingArg::None) => None,
        Some(PoolingArg::Mean) => Some(Pooling::Mean),
        Some(PoolingArg::Cls) => Some(Pooling::First),
        Some(PoolingArg::Last) => Some(Pooling::Last),
        None => {
            let pooling = engine.pooling()?;
            if pooling.is_none() {
                log.note(
                    "the file names no pooling: a vector for each token (--pooling mean makes one of a text)",
                );
            }
            pooling
        }
    };
    let session = args.context.session_options();
    if session.n_ctx > engine.config().n_ctx_train {
        let n_trained = engine.config().n_ctx_train;
        log.warn(format_args!("--ctx-size {}: the model was trained for {n_trained} tokens", session.n_ctx));
    }
    let options = EmbedOptions { pooling, normalize: false, session, ..EmbedOptions::default() };
    let mut vectors = match pooling {
        Some(_) => engine.embed(&texts, &options)?,
        None => each_token(&engine, &texts, &options)?,
    };
    let norm = match args.embd_normalize {
        ..=-1 => None,
        0 => Some(Norm::MaxAbs),
        p => Some(Norm::P(f64::from(p))),
    };
    if let Some(norm) = norm {
        vectors.iter_mut().for_each(|vector| normalize(vector, norm));
    }
    // Values up to 32760 are integers to llama-embedding.
    let printer = Printer {
        vectors: &vectors,
        texts: &texts,
        of_tokens: pooling.is_none(),
        whole: norm == Some(Norm::MaxAbs),
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match args.embd_output_format {
        None => printer.summary(&mut out)?,
        Some(Format::Array) => printer.array(&mut out)?,
        Some(Format::Json) => printer.json(&mut out, false)?,
        Some(Format::JsonPlus) => printer.json(&mut out, true)?,
        Some(Format::Raw) => printer.raw(&mut out)?,
    }
    Ok(out.flush()?)
}

/// The texts of `--prompt` or `--file`.
fn texts(args: &EmbeddingArgs) -> Result<Vec<String>> {
    let all = match (&args.file, &args.prompt) {
        (Some(path), _) => {
            let mut text = text::from_file(path)?;
            if text.ends_with('\n') {
                text.pop();
            }
            args.escapes.meant("--file", text)?
        }
        (None, Some(prompt)) => args.escapes.meant("--prompt", text::from_argument("--prompt", prompt)?)?,
        (None, None) => return Err(wrong("there is no text: expected --prompt or --file")),
    };
    let separator = text::from_argument("--embd-separator", &args.embd_separator)?;
    let separator = args.escapes.meant("--embd-separator", separator)?;
    Ok(match separator.as_str() {
        "" => vec![all],
        separator => all.split(separator).map(str::to_owned).collect(),
    })
}

/// The vector of every token, text after text.
fn each_token(engine: &Engine, texts: &[String], options: &EmbedOptions) -> Result<Vec<Vec<f32>>> {
    let tokens: Vec<Vec<u32>> = texts.iter().map(|text| engine.embedding_tokens(text)).collect();
    let mut states: Vec<Vec<Vec<f32>>> = vec![Vec::new(); texts.len()];
    engine.hidden_states(&tokens, options, &mut |text, _, state| states[text].push(state.to_vec()))?;
    Ok(states.into_iter().flatten().collect())
}

struct Printer<'a> {
    vectors: &'a [Vec<f32>],
    texts: &'a [String],
    /// There is a vector for each token, not for each text.
    of_tokens: bool,
    /// Numbers are printed without a fraction.
    whole: bool,
}

impl Printer<'_> {
    /// What a person wants to see: the beginnings of the vectors, and how much alike the texts are.
    fn summary(&self, out: &mut impl Write) -> Result<()> {
        let number = |x: &f32| match self.whole {
            true => format!("{x:6.0} "),
            false => format!("{x:9.6} "),
        };
        let numbers = |vector: &[f32]| vector.iter().map(number).collect::<String>();
        for (i, vector) in self.vectors.iter().enumerate() {
            let n = vector.len();
            let shown = match (self.of_tokens, self.texts.len()) {
                (true, _) => format!(
                    "{} ... {}",
                    numbers(&vector[..n.min(3)]),
                    numbers(&vector[n.saturating_sub(3)..])
                ),
                (false, 1) => numbers(vector),
                (false, _) => numbers(&vector[..n.min(SHOWN)]),
            };
            writeln!(out, "embedding {i}: {shown}")?;
        }
        if self.of_tokens || self.texts.len() < 2 {
            return Ok(());
        }
        writeln!(out, "\ncosine similarity matrix:\n")?;
        let beginning = |text: &str, n| Printable(text).to_string().chars().take(n).collect::<String>();
        for text in self.texts {
            write!(out, "{:>6} ", beginning(text, 6))?;
        }
        writeln!(out)?;
        for (vector, text) in self.vectors.iter().zip(self.texts) {
            for other in self.vectors {
                write!(out, "{:6.2} ", cosine(vector, other))?;
            }
            writeln!(out, "{}", beginning(text, 10))?;
        }
        Ok(())
    }

    fn array(&self, out: &mut impl Write) -> Result<()> {
        let vectors: Vec<String> = self.vectors.iter().map(|vector| self.json_array(vector)).collect();
        Ok(writeln!(out, "[{}]", vectors.join(","))?)
    }

    fn json(&self, out: &mut impl Write, with_similarities: bool) -> Result<()> {
        write!(out, "{{\n  \"object\": \"list\",\n  \"data\": [")?;
        for (i, vector) in self.vectors.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(out, "{comma}\n    {{\n      \"object\": \"embedding\",\n      \"index\": {i},\n")?;
            write!(out, "      \"embedding\": {}\n    }}", self.json_array(vector))?;
        }
        write!(out, "\n  ]")?;
        if with_similarities && self.texts.len() > 1 {
            write!(out, ",\n  \"cosineSimilarity\": [")?;
            for (i, vector) in self.vectors.iter().enumerate() {
                let row: Vec<String> =
                    self.vectors.iter().map(|other| format!("{:6.2}", cosine(vector, other))).collect();
                write!(out, "{}\n    [{} ]", if i == 0 { "" } else { "," }, row.join(", "))?;
            }
            write!(out, "\n  ]")?;
        }
        Ok(write!(out, "\n}}\n")?)
    }

    fn raw(&self, out: &mut impl Write) -> Result<()> {
        for vector in self.vectors {
            writeln!(out, "{}", self.numbers(vector).join(" "))?;
        }
        Ok(())
    }

    fn json_array(&self, vector: &[f32]) -> String {
        format!("[{}]", self.numbers(vector).join(","))
    }

    fn numbers(&self, vector: &[f32]) -> Vec<String> {
        let number = |x: &f32| if self.whole { format!("{x:.0}") } else { format!("{x:.7}") };
        vector.iter().map(number).collect()
    }
}

/// The cosine of the angle between two vectors. One of zeros is like another of zeros, and unlike the rest.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let (a_a, b_b) = (dot(a, a), dot(b, b));
    match (a_a == 0.0, b_b == 0.0) {
        (true, true) => 1.0,
        (true, false) | (false, true) => 0.0,
        (false, false) => dot(a, b) / (a_a.sqrt() * b_b.sqrt()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likeness_is_the_cosine() {
        assert_eq!(cosine(&[1.0, 0.0], &[2.0, 0.0]), 1.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 3.0]), 0.0);
        assert!((cosine(&[1.0, 1.0], &[-1.0, 0.0]) + 0.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!((cosine(&[0.0], &[0.0]), cosine(&[0.0], &[1.0])), (1.0, 0.0));
    }
}
