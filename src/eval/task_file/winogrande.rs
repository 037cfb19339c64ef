//! Winogrande: a line a question, fields between commas.

use super::FileTask;
use super::draw::drawn;

/// The questions, `n` of them or all. Lines that are none are named in `skipped`, as is a last line without a newline, which llama-perplexity
/// does not read.
///
/// # Errors
/// None: for the sake of those of other kinds.
pub fn read(text: &str, n: usize, skipped: &mut Vec<String>) -> Result<Vec<FileTask>, String> {
    let mut tasks = Vec::new();
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else {
            skipped.push(format!(
                "line {}: left out, as llama-perplexity leaves out a last line without a newline (--binary-file reads a file with its last newline)",
                i + 1
            ));
            continue;
        };
        match task(line) {
            Ok(task) => tasks.push(Some(task)),
            Err(what) => skipped.push(format!("line {}: {what}", i + 1)),
        }
    }
    Ok(drawn(tasks.len(), n).into_iter().filter_map(|at| tasks[at].take()).collect())
}

fn task(line: &str) -> Result<FileTask, String> {
    let expected = "expected index,sentence with _,choice,choice,1 or 2";
    let mut commas = Vec::new();
    let mut is_quoted = false;
    for (i, c) in line.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted && commas.len() < 4 => commas.push(i),
            _ => {}
        }
    }
    let [a, b, c, d] = commas[..] else {
        return Err(format!("found {} commas, {expected}", commas.len()));
    };
    let sentence = &line[a + 1..b];
    let sentence = match sentence.strip_prefix('"') {
        // What stands before the comma is the other quote.
        Some(inside) => inside.char_indices().next_back().map_or("", |(last, _)| &inside[..last]),
        None => sentence,
    };
    let Some((before, after)) = sentence.split_once('_') else {
        return Err(format!("found no '_' in the sentence, {expected}"));
    };
    let right = match line[d + 1..].trim() {
        "1" => 0,
        "2" => 1,
        other => return Err(format!("found the answer '{other}', {expected}")),
    };
    let choices = [line[b + 1..c].to_owned(), line[c + 1..d].to_owned()];
    Ok(FileTask::Gap { before: before.to_owned(), after: after.to_owned(), choices, right })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_by_llama_perplexity() {
        let gap = |before: &str, after: &str, first: &str, second: &str, right| FileTask::Gap {
            before: before.to_owned(),
            after: after.to_owned(),
            choices: [first.to_owned(), second.to_owned()],
            right,
        };
        assert_eq!(task("0,A _ b.,x,y,2"), Ok(gap("A ", " b.", "x", "y", 1)));
        assert_eq!(task("1,\"A, _ b_\",x y,,1\r"), Ok(gap("A, ", " b_", "x y", "", 0)));
        for (line, want) in [
            ("", "found 0 commas"),
            ("0,\"a _,b,c,1", "found 1 commas"),
            ("0,a,b,c,1", "found no '_' in the sentence"),
            ("0,_,b,c,3", "found the answer '3'"),
            ("0,_,b,c,", "found the answer ''"),
        ] {
            assert!(task(line).unwrap_err().starts_with(want), "{line}");
        }
        let mut skipped = Vec::new();
        assert_eq!(read("0,_,b,c,1\nx\n1,_,b,c,1", 0, &mut skipped).unwrap().len(), 1);
        assert_eq!(skipped.len(), 2);
        assert!(
            skipped[0].starts_with("line 2: found 0 commas") && skipped[1].starts_with("line 3: left out")
        );
    }
}
