//! What is said of many tensors, in one line.

/// Lines about tensors, one for each thing that is said of them.
#[derive(Default)]
pub(super) struct Notes(Vec<Note>);

struct Note {
    text: String,
    first: String,
    n_tensors: usize,
}

impl Notes {
    /// Says `text` of the tensor called `name`.
    pub fn add(&mut self, name: &str, text: String) {
        match self.0.iter_mut().find(|note| note.text == text) {
            Some(note) => note.n_tensors += 1,
            None => self.0.push(Note { text, first: name.to_owned(), n_tensors: 1 }),
        }
    }

    /// The lines, in the order of the tensors that are named.
    pub fn lines(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|Note { text, first, n_tensors }| match n_tensors {
            1 => format!("tensor '{first}': {text}"),
            2 => format!("tensor '{first}' and another: {text}"),
            n => format!("tensor '{first}' and {} others: {text}", n - 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_many_tensors_is_said_once() {
        let mut notes = Notes::default();
        for (name, text) in
            [("a", "one"), ("b", "two"), ("c", "two"), ("d", "three"), ("e", "three"), ("f", "three")]
        {
            notes.add(name, text.to_owned());
        }
        let expected = ["tensor 'a': one", "tensor 'b' and another: two", "tensor 'd' and 2 others: three"];
        assert_eq!(notes.lines().collect::<Vec<_>>(), expected);
    }
}
