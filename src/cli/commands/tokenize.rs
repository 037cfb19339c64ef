//! `bise tokenize`: a text as tokens, printed as llama-tokenize prints them.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::Result;
use bise::EngineOptions;
use bise::gguf::GgufFile;
use bise::tokenizer::{EncodeOptions, Tokenizer};

use crate::cli::args::log::LogArgs;
use crate::cli::args::prompt::EscapeArgs;
use crate::cli::args::source::SourceArgs;
use crate::cli::usage::wrong;
use crate::cli::{load, source, text};
use bise_models::printable::Printable;

/// Flags of llama-tokenize.
#[derive(clap::Args, Debug)]
pub struct TokenizeArgs {
    /// GGUF file with the vocabulary; without it, the built-in model
    #[arg(short, long, value_name = "FILE", env = "LLAMA_ARG_MODEL")]
    model: Option<PathBuf>,

    #[command(flatten)]
    source: SourceArgs,

    /// Text to tokenize
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    prompt: Option<OsString>,

    /// Read the text from a file, byte for byte
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Read the text from standard input
    #[arg(long)]
    stdin: bool,

    /// Print nothing but the ids, as [1, 2, 3]
    #[arg(long)]
    ids: bool,

    /// Add neither BOS nor EOS, even if the file asks for them (only this command adds the EOS of add_eos_token)
    #[arg(long)]
    no_bos: bool,

    /// Treat control tokens in the text as plain text
    #[arg(long, overrides_with = "parse_special")]
    no_parse_special: bool,

    /// Recognize control tokens in the text (the default)
    #[arg(long, hide = true, overrides_with = "no_parse_special")]
    parse_special: bool,

    /// Print the number of tokens at the end
    #[arg(long)]
    show_count: bool,

    #[command(flatten)]
    pub log: LogArgs,

    #[command(flatten)]
    escapes: EscapeArgs,
}

/// Runs the command.
///
/// # Errors
/// No text, a text that is not UTF-8, or a file without a vocabulary that we know.
pub fn run(args: TokenizeArgs) -> Result<()> {
    let (source, text) = match (&args.file, args.stdin, &args.prompt) {
        (_, true, _) => ("--stdin", None),
        (Some(path), ..) => ("--file", Some(text::from_file(path)?)),
        (None, _, Some(prompt)) if !prompt.is_empty() => {
            ("--prompt", Some(text::from_argument("--prompt", prompt)?))
        }
        _ => return Err(wrong("there is no text: expected one of --stdin, --file or --prompt")),
    };
    let log = args.log.log();
    let tokenizer = match source::model_path(args.model.as_ref(), &args.source, log)? {
        Some(path) => Tokenizer::from_metadata(GgufFile::open(path)?.metadata())?,
        None => load::builtin(&EngineOptions::default())?.tokenizer().clone(),
    };
    // Standard input comes last, so that a model that cannot be opened is known before anything is typed.
    let text = text.map_or_else(text::from_stdin, Ok)?;
    let text = args.escapes.meant(source, text)?;
    tokenizer.warnings().iter().for_each(|warning| log.warn(warning));
    let options = EncodeOptions { add_special: !args.no_bos, parse_special: !args.no_parse_special };
    let mut tokens = tokenizer.encode(&text, options);
    tokens.extend(tokenizer.eos().filter(|_| options.add_special && tokenizer.adds_eos()));
    print(&tokenizer, &tokens, &args)
}

fn print(tokenizer: &Tokenizer, tokens: &[u32], args: &TokenizeArgs) -> Result<()> {
    let for_people = std::io::stdout().is_terminal();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if args.ids {
        let ids: Vec<String> = tokens.iter().map(u32::to_string).collect();
        writeln!(out, "[{}]", ids.join(", "))?;
    } else {
        for &token in tokens {
            write!(out, "{token:>6} -> '")?;
            let piece = tokenizer.piece(token);
            // Exact bytes for programs, harmless ones for a terminal.
            match for_people {
                true => write!(out, "{}", Printable(String::from_utf8_lossy(piece)))?,
                false => out.write_all(piece)?,
            }
            out.write_all(b"'\n")?;
        }
    }
    if args.show_count {
        writeln!(out, "Total number of tokens: {}", tokens.len())?;
    }
    Ok(out.flush()?)
}
