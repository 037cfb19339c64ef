//! `bise ps`: the models that a server holds in memory.

use std::io::Write;

use anyhow::Result;
use bise_models::printable::Printable;
use jiff::Timestamp;
use serde_json::Value;

use crate::cli::args::log::LogArgs;
use crate::cli::describe;
use crate::cli::server::ServerArgs;

/// Of which server.
#[derive(clap::Args, Debug)]
pub struct PsArgs {
    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command.
///
/// # Errors
/// No server answers.
pub fn run(args: PsArgs) -> Result<()> {
    let answer = args.server.ask("/api/ps", None)?;
    let models = answer["models"].as_array().cloned().unwrap_or_default();
    let mut out = std::io::stdout().lock();
    let header = ["NAME", "ID", "SIZE", "PROCESSOR", "CONTEXT", "UNTIL"].map(str::to_string);
    let rows: Vec<[String; 6]> =
        std::iter::once(header).chain(models.iter().map(|model| row(model, Timestamp::now()))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    for row in &rows {
        let line: String =
            row.iter().enumerate().map(|(i, cell)| format!("{cell:<width$}    ", width = width(i))).collect();
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn row(model: &Value, now: Timestamp) -> [String; 6] {
    let digest = model["digest"].as_str().unwrap_or_default().trim_start_matches("sha256:");
    let until = model["expires_at"].as_str().and_then(|text| text.parse().ok());
    [
        Printable(model["name"].as_str().unwrap_or_default()).to_string(),
        Printable(digest.chars().take(12).collect::<String>()).to_string(),
        describe::bytes(model["size"].as_u64().unwrap_or(0)),
        if model["size_vram"].as_u64().unwrap_or(0) == 0 { "100% CPU".into() } else { "GPU".into() },
        model["context_length"].as_u64().map_or_else(String::new, |n| n.to_string()),
        until.map_or_else(String::new, |until| remaining(until, now)),
    ]
}

/// How long a model stays, in words.
fn remaining(until: Timestamp, now: Timestamp) -> String {
    let seconds = until.as_second() - now.as_second();
    let (n, unit) = match seconds {
        ..=0 => return "Stopping...".into(),
        // A keep_alive without an end is sent as one of centuries.
        3_153_600_000.. => return "Forever".into(),
        1..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{n} {unit}{} from now", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_that_of_ollama_ps() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let model = serde_json::json!({
            "name": "m:latest", "digest": "0123456789abcdef", "size": 5_000_000, "size_vram": 0, "context_length": 2048,
            "expires_at": "2030-01-01T01:04:30.5+01:00"
        });
        assert_eq!(
            row(&model, now),
            ["m:latest", "0123456789ab", "5.0 MB", "100% CPU", "2048", "4 minutes from now"]
        );
        let until = |text: &str| remaining(text.parse().unwrap(), now);
        assert_eq!(until("2029-01-01T00:00:00Z"), "Stopping...");
        assert_eq!(until("2330-01-01T00:00:00Z"), "Forever");
        assert_eq!(until("2030-01-01T00:00:01Z"), "1 second from now");
    }
}
