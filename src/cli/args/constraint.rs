//! What a text has to follow: a JSON schema or a grammar.

use std::path::PathBuf;

use anyhow::{Context, Result};
use bise::Engine;
use bise::constraint::{Constraint, Gbnf, Grammars, JsonSchema};

use crate::cli::text;
use crate::cli::usage::wrong;

/// What is allowed.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Structured output")]
pub struct ConstraintArgs {
    /// Write JSON that this schema describes; {} for any JSON
    #[arg(short = 'j', long, value_name = "SCHEMA", conflicts_with_all = ["json_schema_file", "grammar", "grammar_file"])]
    pub json_schema: Option<String>,

    /// Write JSON that the schema in this file describes
    #[arg(long, alias = "jf", value_name = "FILE", conflicts_with_all = ["grammar", "grammar_file"])]
    pub json_schema_file: Option<PathBuf>,

    /// Write what this grammar in llama.cpp's notation (GBNF) describes
    #[arg(long, value_name = "GRAMMAR", conflicts_with = "grammar_file")]
    pub grammar: Option<String>,

    /// Write what the grammar in this file describes
    #[arg(long, value_name = "FILE")]
    pub grammar_file: Option<PathBuf>,
}

/// A constraint for each text that is written.
pub struct Constraints {
    grammars: Grammars,
    /// Where it was given.
    source: String,
    kind: Kind,
}

enum Kind {
    Schema(serde_json::Value),
    Grammar(String),
}

impl ConstraintArgs {
    /// What was asked for, if anything. Mistakes in it are found here.
    ///
    /// # Errors
    /// A file that cannot be read, JSON that is none, a schema or a grammar that cannot be followed.
    pub fn constraints(&self, engine: &Engine) -> Result<Option<Constraints>> {
        let schema = |source: String, text: &str| {
            let schema = serde_json::from_str(text);
            let schema =
                schema.map_err(|error| wrong(format_args!("{source}: the schema is no JSON: {error}")))?;
            anyhow::Ok((source, Kind::Schema(schema)))
        };
        let (source, kind) = if let Some(text) = &self.json_schema {
            schema("--json-schema".to_owned(), text)?
        } else if let Some(path) = &self.json_schema_file {
            schema(path.display().to_string(), &text::from_file(path)?)?
        } else if let Some(text) = &self.grammar {
            ("--grammar".to_owned(), Kind::Grammar(text.clone()))
        } else if let Some(path) = &self.grammar_file {
            (path.display().to_string(), Kind::Grammar(text::from_file(path)?))
        } else {
            return Ok(None);
        };
        let constraints = Constraints { grammars: Grammars::new(engine.tokenizer()), source, kind };
        constraints.make()?;
        Ok(Some(constraints))
    }
}

impl Constraints {
    /// A constraint at its beginning.
    ///
    /// # Errors
    /// A schema or a grammar that cannot be followed.
    pub fn make(&self) -> Result<Box<dyn Constraint>> {
        let made: Result<Box<dyn Constraint>, _> = match &self.kind {
            Kind::Schema(schema) => JsonSchema::new(&self.grammars, schema).map(|c| Box::new(c) as _),
            Kind::Grammar(grammar) => Gbnf::new(&self.grammars, grammar).map(|c| Box::new(c) as _),
        };
        made.with_context(|| self.source.clone())
    }
}
