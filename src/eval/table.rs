//! Results as a table, laid out like lm-evaluation-harness'.

use super::report::{Entry, Report};

/// Which way a column's cells go.
#[derive(Clone, Copy, PartialEq)]
enum Align {
    Left,
    Right,
}

impl Report {
    /// A Markdown table of all tasks and groups, or of the groups alone.
    pub fn table(&self, groups_only: bool) -> String {
        use Align::{Left, Right};
        let first = if groups_only { "Groups" } else { "Tasks" };
        let headers = [first, "Version", "Filter", "n-shot", "Metric", "", "Value", "", "Stderr"];
        let rows: Vec<[String; 9]> = self.entries(groups_only).iter().flat_map(rows).collect();
        let aligns = [Left, Right, Left, Right, Left, Left, Right, Left, Right];
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([headers[column].chars().count(), 3]).max().unwrap_or(0)
        };
        let widths: [usize; 9] = std::array::from_fn(width);
        let mut text = String::new();
        for (header, width) in headers.iter().zip(widths) {
            text += &format!("|{header:^width$}");
        }
        text += "|\n";
        for (align, width) in aligns.iter().zip(widths) {
            match align {
                Left => text += &format!("|{}", "-".repeat(width)),
                Right => text += &format!("|{}:", "-".repeat(width - 1)),
            }
        }
        text += "|\n";
        for row in &rows {
            for ((cell, align), width) in row.iter().zip(aligns).zip(widths) {
                match align {
                    Left => text += &format!("|{cell:<width$}"),
                    Right => text += &format!("|{cell:>width$}"),
                }
            }
            text += "|\n";
        }
        text
    }
}

fn rows(entry: &Entry) -> Vec<[String; 9]> {
    let indent = if entry.depth > 0 { format!("{}- ", " ".repeat(entry.depth)) } else { String::new() };
    let row = |(i, (metric, estimate)): (usize, &(super::Metric, super::report::Estimate))| {
        let first = |text: String| if i == 0 { text } else { String::new() };
        [
            first(format!("{indent}{}", entry.alias)),
            first(entry.version.clone()),
            entry.filter.to_owned(),
            entry.n_shots.map_or(String::new(), |n| n.to_string()),
            metric.name().to_owned(),
            "↑".to_owned(),
            format!("{:.4}", estimate.value),
            "±".to_owned(),
            estimate.error.map_or("N/A".to_owned(), |error| format!("{error:.4}")),
        ]
    };
    entry.metrics.iter().enumerate().map(row).collect()
}
