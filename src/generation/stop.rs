//! Texts that end a generation, found across the pieces they arrive in.

use bise_models::tokenizer::Tokenizer;

/// Looks for stop texts in a text that arrives in pieces, and holds back what may turn out to be the start of one.
///
/// The result does not depend on how the text is split: the stop text that is complete first ends it, and of several that are
/// complete at the same character, the one that starts first.
#[derive(Clone, Debug, Default)]
pub struct StopTexts {
    texts: Vec<String>,
    /// Bytes of the longest of them.
    longest: usize,
    /// The end of the text so far, which may be the start of a stop text.
    held: String,
}

impl StopTexts {
    /// Texts to stop at; empty ones are left out.
    pub fn new(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let texts: Vec<String> = texts.into_iter().map(Into::into).filter(|text| !text.is_empty()).collect();
        let longest = texts.iter().map(String::len).max().unwrap_or(0);
        // What is held back is shorter than a stop text, before the next piece is added to it.
        let held = String::with_capacity(if longest > 0 { longest + 256 } else { 0 });
        Self { texts, longest, held }
    }

    /// The texts.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// The control tokens that are spelt like one of the texts. A model writes them as tokens, which decode to no text.
    pub fn control_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let ids = self.texts.iter().filter_map(|text| tokenizer.id(text));
        ids.filter(|&id| tokenizer.is_control(id)).collect()
    }

    /// Takes the next piece, and appends to `shown` what can be no part of a stop text any more. Once a stop text is complete,
    /// returns its index in [`Self::texts`]; what stood before it has then been shown, and what follows it in the piece is gone.
    pub fn push(&mut self, piece: &str, shown: &mut String) -> Option<usize> {
        if self.texts.is_empty() {
            shown.push_str(piece);
            return None;
        }
        let old = self.held.len();
        self.held.push_str(piece);
        // One that was complete before would have been found then.
        let from = self.boundary_before((old + 1).saturating_sub(self.longest));
        let found = self.texts.iter().enumerate().filter_map(|(i, text)| {
            let start = from + self.held[from..].find(text.as_str())?;
            Some((start + text.len(), start, i))
        });
        if let Some((_, start, i)) = found.min() {
            shown.push_str(&self.held[..start]);
            self.held.clear();
            return Some(i);
        }
        let keep = self.boundary_before((self.held.len() + 1).saturating_sub(self.longest));
        let is_start = |rest: &str| self.texts.iter().any(|text| text.starts_with(rest));
        let mut starts = self.held[keep..].char_indices().map(|(i, _)| keep + i);
        let start = starts.find(|&i| is_start(&self.held[i..])).unwrap_or(self.held.len());
        shown.push_str(&self.held[..start]);
        self.held.drain(..start);
        None
    }

    /// Ends the text: appends what was held back to `shown`.
    pub fn finish(&mut self, shown: &mut String) {
        shown.push_str(&self.held);
        self.held.clear();
    }

    /// The last boundary between characters of what is held at or before `at`.
    fn boundary_before(&self, at: usize) -> usize {
        self.held.floor_char_boundary(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a text in pieces, and the stop text that ended it.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut stops = StopTexts::new(stops.iter().copied());
        let mut shown = String::new();
        for piece in pieces {
            if let Some(i) = stops.push(piece, &mut shown) {
                return (shown, Some(stops.texts()[i].clone()));
            }
        }
        stops.finish(&mut shown);
        (shown, None)
    }

    #[test]
    fn a_stop_text_split_over_pieces_is_never_shown() {
        let stop = Some("User:".to_owned());
        assert_eq!(run(&["User:"], &["Hi. U", "s", "er", ": yes"]), ("Hi. ".to_owned(), stop.clone()));
        assert_eq!(run(&["User:"], &["Hi. User", "User:"]), ("Hi. User".to_owned(), stop));
        assert_eq!(run(&["User:"], &["Hi. Use", "r"]), ("Hi. User".to_owned(), None));
        assert_eq!(run(&["aab"], &["a", "a", "a", "b"]), ("a".to_owned(), Some("aab".to_owned())));
    }

    #[test]
    fn only_what_may_become_a_stop_text_is_held_back() {
        let mut stops = StopTexts::new(["é!", "\n\n"]);
        let mut shown = String::new();
        for (piece, want) in [("caf", "caf"), ("é", "caf"), ("s\n", "cafés"), ("x", "cafés\nx")] {
            assert_eq!(stops.push(piece, &mut shown), None);
            assert_eq!(shown, want, "after {piece:?}");
        }
    }

    #[test]
    fn without_stop_texts_everything_is_shown_at_once() {
        assert_eq!(run(&[], &["a", "b"]), ("ab".to_owned(), None));
        assert_eq!(run(&["", ""], &["a", "b"]), ("ab".to_owned(), None));
    }

    /// Against the definition, for every way to split short texts of two letters and a long character.
    #[test]
    fn the_result_does_not_depend_on_the_pieces() {
        let stops = ["aé", "éa", "aba", "bb", "éé"];
        let letters = ["a", "b", "é"];
        for n in 0..7usize {
            for code in 0..3usize.pow(n as u32) {
                let text: Vec<&str> = (0..n).map(|i| letters[code / 3usize.pow(i as u32) % 3]).collect();
                let whole = text.concat();
                let ends =
                    stops.iter().filter_map(|stop| Some((whole.find(stop)? + stop.len(), whole.find(stop)?)));
                let want = ends.min().map_or(whole.as_str(), |(_, start)| &whole[..start]);
                for cuts in 0..1usize << n.saturating_sub(1) {
                    let mut pieces = vec![String::new()];
                    for (i, letter) in text.iter().enumerate() {
                        if i > 0 && cuts >> (i - 1) & 1 == 1 {
                            pieces.push(String::new());
                        }
                        pieces.last_mut().unwrap().push_str(letter);
                    }
                    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
                    assert_eq!(run(&stops, &pieces).0, want, "{pieces:?}");
                }
            }
        }
    }
}
