//! `bise list`: the models on this machine.

use std::io::Write;
use std::time::SystemTime;

use anyhow::Result;
use bise::hub::{Hub, LocalModel, Settings};
use bise_models::printable::Printable;

use crate::cli::args::log::LogArgs;
use crate::cli::describe;

/// Which of them.
#[derive(clap::Args, Debug)]
pub struct ListArgs {
    /// Only models whose names begin like this
    #[arg(value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    pub log: LogArgs,
}

/// Runs the command.
///
/// # Errors
/// If nobody reads the output.
pub fn run(args: ListArgs) -> Result<()> {
    let start = args.name.unwrap_or_default().to_lowercase();
    let mut models = Hub::new(Settings::from_env()).list();
    models.retain(|model| model.name.to_lowercase().starts_with(&start));
    print(&models, &mut std::io::stdout().lock())?;
    Ok(())
}

/// Prints models the way `ollama list` does, the newest first.
///
/// # Errors
/// If nobody reads the output.
pub fn print(models: &[LocalModel], out: &mut impl Write) -> std::io::Result<()> {
    let mut models: Vec<&LocalModel> = models.iter().collect();
    models.sort_by_key(|model| std::cmp::Reverse(model.modified));
    let rows: Vec<[String; 4]> = std::iter::once(["NAME", "ID", "SIZE", "MODIFIED"].map(str::to_string))
        .chain(models.iter().map(|model| {
            [
                Printable(&model.name).to_string(),
                model.digest.map_or_else(|| "-".into(), |digest| digest.short()),
                describe::bytes(model.bytes),
                model.modified.map_or_else(|| "-".into(), |time| ago(time, SystemTime::now())),
            ]
        }))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2].map(width);
    for [name, id, size, modified] in &rows {
        writeln!(
            out,
            "{name:<a$}    {id:<b$}    {size:<c$}    {modified}",
            a = widths[0],
            b = widths[1],
            c = widths[2]
        )?;
    }
    Ok(())
}

/// How long ago something was, in words.
pub fn ago(time: SystemTime, now: SystemTime) -> String {
    let seconds = now.duration_since(time).unwrap_or_default().as_secs();
    let units = [
        (31_536_000, "year"),
        (2_592_000, "month"),
        (604_800, "week"),
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
    ];
    match units.iter().find(|(length, _)| seconds >= *length) {
        Some((length, unit)) => {
            let n = seconds / length;
            format!("{n} {unit}{} ago", if n == 1 { "" } else { "s" })
        }
        None => "seconds ago".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_told_in_words() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let ago = |seconds| super::ago(now - Duration::from_secs(seconds), now);
        assert_eq!(ago(0), "seconds ago");
        assert_eq!(ago(60), "1 minute ago");
        assert_eq!(ago(7200), "2 hours ago");
        assert_eq!(ago(86_400 * 8), "1 week ago");
        assert_eq!(super::ago(now + Duration::from_secs(5), now), "seconds ago");
    }
}
