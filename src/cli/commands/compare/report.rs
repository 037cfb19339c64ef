//! The results as a table and as JSON.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use bise::compare::{Estimate, Statistics};
use bise::{Engine, SessionOptions};
use bise_models::printable::Printable;
use serde_json::{Value, json};

use super::speed::{SpeedArgs, Speeds, median};
use crate::cli::describe::{self, Description};

/// One model.
pub struct Compared {
    /// Its file, as it was given.
    pub name: String,
    /// Its quantization, as in names of files.
    pub quantization: String,
    /// Bytes of its files.
    pub n_bytes: u64,
    pub n_params: u64,
    pub bits_per_weight: f64,
    /// Bytes that running it takes, with a full context.
    pub memory_bytes: usize,
    pub ppl: Estimate,
    /// `None` for the one that the others are compared with.
    pub against: Option<Against>,
    pub speeds: Speeds,
}

/// A model that could not be run.
pub struct Failed {
    /// Its file, as it was given.
    pub name: String,
    pub error: String,
}

impl Failed {
    /// What happened to which model.
    pub fn line(&self) -> String {
        match self.error.contains(&self.name) {
            true => Printable(&self.error).to_string(),
            false => Printable(format!("{}: {}", self.name, self.error)).to_string(),
        }
    }
}

/// How it differs from the base.
pub struct Against {
    pub statistics: Statistics,
}

impl Against {
    pub fn of(statistics: Statistics) -> Against {
        Against { statistics }
    }

    /// Mean Kullback-Leibler divergence.
    pub fn kld(&self) -> Estimate {
        self.statistics.running.kld
    }
}

impl Compared {
    /// What is known before anything is read.
    pub fn of(name: &str, engine: &Engine, options: &SessionOptions) -> Compared {
        let about = Description::of(engine.file());
        Compared {
            name: name.to_owned(),
            quantization: about.quantization(),
            n_bytes: engine.file().n_bytes(),
            n_params: about.n_params,
            bits_per_weight: about.n_bytes as f64 * 8.0 / about.n_params.max(1) as f64,
            memory_bytes: engine.memory(options).full(),
            ppl: Estimate::default(),
            against: None,
            speeds: Speeds::default(),
        }
    }

    /// A line for those who wait.
    pub fn in_short(&self) -> String {
        let kld = match &self.against {
            None => String::new(),
            Some(against) => {
                format!(", KL divergence {:.6} ± {:.6}", against.kld().value, against.kld().error)
            }
        };
        format!("{}: perplexity {:.4} ± {:.4}{kld}", Printable(&self.name), self.ppl.value, self.ppl.error)
    }

    fn json(&self) -> Value {
        let estimate = |x: Estimate| json!({ "value": x.value, "error": x.error });
        let mut model = json!({
            "model": self.name,
            "quantization": self.quantization,
            "file_bytes": self.n_bytes,
            "n_params": self.n_params,
            "bits_per_weight": self.bits_per_weight,
            "memory_bytes": self.memory_bytes,
            "perplexity": estimate(self.ppl),
        });
        let fields = model.as_object_mut().expect("an object was just made");
        if let Some(Against { statistics: all }) = &self.against {
            let kld = &all.kld;
            fields.insert("perplexity_base".into(), estimate(all.running.ppl_base));
            fields.insert("perplexity_ratio".into(), estimate(all.ratio));
            fields.insert("ln_perplexity_ratio".into(), estimate(all.running.ln_ratio));
            let correlation = Some(all.correlation).filter(|c| c.is_finite());
            fields.insert("correlation".into(), json!(correlation));
            fields.insert(
                "kl_divergence".into(),
                json!({
                    "mean": all.running.kld.value,
                    "error": all.running.kld.error,
                    "median": kld.median(),
                    "90": kld.at(0.9),
                    "95": kld.at(0.95),
                    "99": kld.at(0.99),
                    "99.9": kld.at(0.999),
                    "max": kld.max(),
                }),
            );
            fields.insert("same_top".into(), estimate(all.running.same_top));
            fields.insert("rms_p_diff".into(), estimate(all.running.rms_p_diff));
            fields.insert("n_positions".into(), json!(all.n));
        }
        let speed = |samples: &[f64]| json!({ "median": median(samples), "samples": samples });
        fields.insert("prefill_tokens_per_second".into(), speed(&self.speeds.prefill));
        fields.insert("decode_tokens_per_second".into(), speed(&self.speeds.decode));
        model
    }
}

/// All of them.
pub struct Report {
    /// The file of the text, or of the base.
    pub text: String,
    pub n_ctx: usize,
    pub n_chunks: usize,
    /// Whether the first model is what the others are compared with; otherwise a file is.
    pub first_is_base: bool,
    pub n_threads: usize,
    pub speed: SpeedArgs,
    pub models: Vec<Compared>,
    /// Those that could not be run.
    pub failed: Vec<Failed>,
}

impl Report {
    /// Positions that were compared.
    pub fn n_positions(&self) -> usize {
        self.n_chunks * (self.n_ctx - 1 - self.n_ctx / 2)
    }

    /// The models' files with as few folders as tell them apart.
    pub fn names(&self) -> Vec<String> {
        let names: Vec<&str> = self.models.iter().map(|model| model.name.as_str()).collect();
        names.iter().map(|name| distinct(name, &names)).collect()
    }

    /// Prints the table.
    ///
    /// # Errors
    /// If nobody reads.
    pub fn print(&self, out: &mut impl Write) -> Result<()> {
        let head = [
            "model",
            "size",
            "bits",
            "perplexity",
            "KL divergence",
            "KL 99%",
            "KL max",
            "same top",
            "prefill t/s",
            "decode t/s",
            "memory",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for (model, name) in self.models.iter().zip(self.names()) {
            let speed = |samples: &[f64]| median(samples).map_or("–".to_owned(), |x| format!("{x:.1}"));
            let mut row = vec![
                Printable(name).to_string().replace('|', "\\|"),
                describe::bytes(model.n_bytes),
                format!("{:.2}", model.bits_per_weight),
                format!("{:.4} ± {:.4}", model.ppl.value, model.ppl.error),
            ];
            match &model.against {
                None => row.extend(["–"; 4].map(str::to_owned)),
                Some(against) => {
                    let kld = &against.statistics.kld;
                    let same = against.statistics.running.same_top;
                    row.push(format!("{:.6} ± {:.6}", against.kld().value, against.kld().error));
                    row.push(format!("{:.4}", kld.at(0.99)));
                    row.push(format!("{:.4}", kld.max()));
                    row.push(format!("{:.2}% ± {:.2}", 100.0 * same.value, 100.0 * same.error));
                }
            }
            row.push(speed(&model.speeds.prefill));
            row.push(speed(&model.speeds.decode));
            row.push(describe::bytes(model.memory_bytes as u64));
            rows.push(row);
        }
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        for (i, row) in rows.iter().enumerate() {
            write!(out, "|")?;
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(out, " {cell:<width$} |")?,
                    _ => write!(out, " {cell:>width$} |")?,
                }
            }
            writeln!(out)?;
            if i == 0 {
                write!(out, "|")?;
                for (column, &width) in widths.iter().enumerate() {
                    let colon = if column == 0 { '-' } else { ':' };
                    write!(out, " {:-<width$}{colon}|", "")?;
                }
                writeln!(out)?;
            }
        }
        writeln!(out, "\n{}", self.caption())?;
        Ok(())
    }

    fn caption(&self) -> String {
        let base = match self.first_is_base {
            true => format!("compared with {}", self.names()[0]),
            false => "compared with the log-probabilities there".to_owned(),
        };
        let speed = match self.speed.repetitions {
            0 => "not measured".to_owned(),
            n => format!(
                "medians of {n} rounds in turns, {} tokens of prefill, {} of decode, {} threads",
                self.speed.n_prompt, self.speed.n_gen, self.n_threads
            ),
        };
        let text = format!(
            "{}: {} positions in {} chunks of {} tokens, {base}. Divergence in nats. Speed: {speed}. Memory: with a context of {} tokens.",
            self.text,
            self.n_positions(),
            self.n_chunks,
            self.n_ctx,
            self.n_ctx
        );
        Printable(text).to_string()
    }

    /// Everything.
    pub fn json(&self) -> Value {
        json!({
            "text": self.text,
            "n_ctx": self.n_ctx,
            "n_chunks": self.n_chunks,
            "n_positions": self.n_positions(),
            "reference": self.first_is_base.then(|| self.models[0].name.as_str()),
            "n_threads": self.n_threads,
            "n_prompt": self.speed.n_prompt,
            "n_gen": self.speed.n_gen,
            "models": self.models.iter().map(Compared::json).collect::<Vec<_>>(),
            "failed": self.failed.iter().map(|f| json!({ "model": f.name, "error": f.error })).collect::<Vec<_>>(),
        })
    }
}

/// The shortest end of the path `name` that no other of `names` has.
fn distinct(name: &str, names: &[&str]) -> String {
    let end = |name: &str, n: usize| {
        let parts: Vec<_> = Path::new(name).components().rev().take(n).collect();
        parts.into_iter().rev().collect::<PathBuf>()
    };
    let n_parts = Path::new(name).components().count();
    let is_distinct = |n: &usize| names.iter().all(|other| *other == name || end(other, *n) != end(name, *n));
    let n = (1..n_parts).find(is_distinct);
    n.map_or_else(|| name.to_owned(), |n| end(name, n).display().to_string())
}

#[cfg(test)]
mod tests {
    use super::distinct;

    #[test]
    fn names_have_the_folders_that_tell_them_apart() {
        let names =
            ["/x/a/m.gguf", "/x/b/m.gguf", "/y/b/m.gguf", "n.gguf", "a/n2.gguf", "n3.gguf", "n3.gguf"];
        let found: Vec<String> = names.iter().map(|name| distinct(name, &names)).collect();
        assert_eq!(
            found,
            ["a/m.gguf", "x/b/m.gguf", "y/b/m.gguf", "n.gguf", "n2.gguf", "n3.gguf", "n3.gguf"]
        );
        assert_eq!(distinct("m.gguf", &["m.gguf", "a/m.gguf"]), "m.gguf");
        assert_eq!(distinct("a/m.gguf", &["m.gguf", "a/m.gguf"]), "a/m.gguf");
    }
}
