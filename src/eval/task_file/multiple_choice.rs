//! Questions with any number of answers, in binary: `u32 n`, `u32 position[n]`, then for each question its text and two lists of answers,
//! of which the first is read. A text is `u32 length` and its bytes; a list is `u32 n`, the texts, and `i32 label[n]`, 1 for a right answer.

use super::FileTask;
use super::draw::drawn;

/// The most answers that llama-perplexity reads.
const MAX_ANSWERS: u32 = 100;

/// Reads forward in a file.
struct Cursor<'a> {
    content: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn bytes(&mut self, n: usize, what: &str) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.content.len());
        let Some(end) = end else {
            let (at, size) = (self.at, self.content.len());
            return Err(format!(
                "byte {at}: found the end of the file at {size}, expected {n} bytes of {what}"
            ));
        };
        let bytes = &self.content[self.at..end];
        self.at = end;
        Ok(bytes)
    }

    fn number(&mut self, what: &str) -> Result<u32, String> {
        let bytes = self.bytes(4, what)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes")))
    }

    fn text(&mut self, what: &str) -> Result<String, String> {
        let at = self.at;
        let n = self.number(what)? as usize;
        let bytes = self.bytes(n, what)?;
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|_| format!("byte {at}: found no UTF-8, expected {what}"))
    }

    /// Answers, and which of them are right.
    fn answers(&mut self) -> Result<(Vec<String>, Vec<bool>), String> {
        let (at, n) = (self.at, self.number("a number of answers")?);
        if n > MAX_ANSWERS {
            return Err(format!("byte {at}: found {n} answers, expected at most {MAX_ANSWERS}"));
        }
        let texts = (0..n).map(|_| self.text("an answer")).collect::<Result<_, _>>()?;
        let labels = (0..n).map(|_| Ok(self.number("a label")? == 1)).collect::<Result<_, String>>()?;
        Ok((texts, labels))
    }

    fn task(&mut self) -> Result<FileTask, String> {
        let at = self.at;
        let context = self.text("a question")?;
        let (endings, is_right) = self.answers()?;
        self.answers()?;
        if context.is_empty() || endings.is_empty() || endings.iter().any(String::is_empty) {
            return Err(format!("byte {at}: found a question without a text, answers, or an answer's text"));
        }
        Ok(FileTask::Endings { context, endings, is_right })
    }
}

/// The questions, `n` of them or all.
///
/// # Errors
/// The place, what was found and what was expected.
pub fn read(content: &[u8], n: usize) -> Result<Vec<FileTask>, String> {
    let mut cursor = Cursor { content, at: 0 };
    let total = cursor.number("a number of questions")? as usize;
    let positions = cursor.bytes(total.saturating_mul(4), "positions of questions")?;
    let position = |i: usize| {
        let bytes = positions[4 * i..4 * i + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes) as usize
    };
    let is_all = n == 0 || n >= total;
    let task = |i: usize| {
        if !is_all {
            // A place behind the end is an error of the next read.
            cursor.at = position(i);
        }
        cursor.task().map_err(|what| format!("question {}: {what}", i + 1))
    };
    drawn(total, n).into_iter().map(task).collect()
}
