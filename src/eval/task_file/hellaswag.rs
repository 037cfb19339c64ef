//! HellaSwag: six lines a question.

use super::FileTask;
use super::draw::shuffled;

/// The questions, in the order in which `n` of them are drawn.
///
/// # Errors
/// The line, what was found and what was expected.
pub fn read(text: &str, n: usize) -> Result<Vec<FileTask>, String> {
    const LINES: usize = 6;
    let lines: Vec<&str> = text.split_terminator('\n').collect();
    if !lines.len().is_multiple_of(LINES) {
        return Err(format!("found {} lines, expected six for each question", lines.len()));
    }
    let task = |(i, lines): (usize, &[&str])| {
        let right = lines[1].trim().parse::<usize>().ok().filter(|right| *right < 4);
        let Some(right) = right else {
            let line = LINES * i + 2;
            return Err(format!(
                "line {line}: found '{}', expected the number of an ending, 0 to 3",
                lines[1]
            ));
        };
        let endings = lines[2..].iter().map(|line| (*line).to_owned()).collect();
        Ok(FileTask::Endings {
            context: lines[0].to_owned(),
            endings,
            is_right: (0..4).map(|i| i == right).collect(),
        })
    };
    let tasks = lines.chunks_exact(LINES).enumerate().map(task).collect::<Result<Vec<_>, _>>()?;
    Ok(shuffled(tasks, n))
}
