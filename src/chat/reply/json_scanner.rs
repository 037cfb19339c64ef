//! Where a JSON value ends, found as its text arrives.

/// Reads one JSON value byte by byte, and notices at once when it is none.
#[derive(Clone, Debug, Default)]
pub struct JsonScanner {
    /// The containers that are open, from the outermost: whether it is an object.
    open: Vec<bool>,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// A value must come.
    #[default]
    Value,
    /// A value, or the end of an array that has just begun.
    FirstItem,
    /// A key must come.
    Key,
    /// A key, or the end of an object that has just begun.
    FirstKey,
    Colon,
    /// A comma or the end of the container.
    AfterValue,
    String {
        is_key: bool,
        escape: Escape,
    },
    /// What is still to come of `true`, `false` or `null`.
    Word(&'static [u8]),
    Number(Number),
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    /// Hexadecimal digits still to come.
    Digits(u8),
}

/// How far a number has come. Those that can be its end are `Zero`, `Whole`, `Fraction` and `Exponent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Whole,
    Point,
    Fraction,
    E,
    ESign,
    Exponent,
}

/// What a byte was to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A part of it, with more to come.
    Inside,
    /// Its last byte.
    Last,
    /// No longer a part of it: a number had ended.
    Past,
    /// No JSON.
    Wrong,
}

impl JsonScanner {
    /// Takes the next byte. Not to be called after [`Step::Last`], [`Step::Past`] or [`Step::Wrong`].
    pub fn push(&mut self, byte: u8) -> Step {
        use Place::{AfterValue, Colon, FirstItem, FirstKey, Key, Over, Value, Word};
        let is_space = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match self.place {
            Value | FirstItem | Key | FirstKey | Colon | AfterValue if is_space => return Step::Inside,
            FirstItem if byte == b']' => return self.close(false),
            FirstKey if byte == b'}' => return self.close(true),
            Value | FirstItem => {
                self.place = match byte {
                    b'{' => {
                        self.open.push(true);
                        FirstKey
                    }
                    b'[' => {
                        self.open.push(false);
                        FirstItem
                    }
                    b'"' => Place::String { is_key: false, escape: Escape::None },
                    b't' => Word(b"rue"),
                    b'f' => Word(b"alse"),
                    b'n' => Word(b"ull"),
                    b'-' => Place::Number(Number::Minus),
                    b'0' => Place::Number(Number::Zero),
                    b'1'..=b'9' => Place::Number(Number::Whole),
                    _ => return Step::Wrong,
                }
            }
            Key | FirstKey if byte == b'"' => {
                self.place = Place::String { is_key: true, escape: Escape::None };
            }
            Colon if byte == b':' => self.place = Value,
            AfterValue => match (byte, self.open.last()) {
                (b',', Some(true)) => self.place = Key,
                (b',', Some(false)) => self.place = Value,
                (b'}', Some(true)) => return self.close(true),
                (b']', Some(false)) => return self.close(false),
                _ => return Step::Wrong,
            },
            Place::String { is_key, escape } => return self.string(byte, is_key, escape),
            Word([next, rest @ ..]) if byte == *next => {
                if rest.is_empty() {
                    return self.end_of_value();
                }
                self.place = Word(rest);
            }
            Place::Number(number) => return self.number(byte, number),
            Key | FirstKey | Colon | Word(_) | Over => return Step::Wrong,
        }
        Step::Inside
    }

    fn string(&mut self, byte: u8, is_key: bool, escape: Escape) -> Step {
        let escape = match (escape, byte) {
            (Escape::None, b'"') if is_key => {
                self.place = Place::Colon;
                return Step::Inside;
            }
            (Escape::None, b'"') => return self.end_of_value(),
            (Escape::None, b'\\') => Escape::Begun,
            (Escape::None, 0x20..) => Escape::None,
            (Escape::Begun, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Escape::None,
            (Escape::Begun, b'u') => Escape::Digits(4),
            (Escape::Digits(n), _) if byte.is_ascii_hexdigit() => match n - 1 {
                0 => Escape::None,
                n => Escape::Digits(n),
            },
            _ => return Step::Wrong,
        };
        self.place = Place::String { is_key, escape };
        Step::Inside
    }

    fn number(&mut self, byte: u8, number: Number) -> Step {
        use Number::{E, ESign, Exponent, Fraction, Minus, Point, Whole, Zero};
        let next = match (number, byte) {
            (Minus, b'0') => Zero,
            (Minus, b'1'..=b'9') | (Whole, b'0'..=b'9') => Whole,
            (Zero | Whole, b'.') => Point,
            (Point | Fraction, b'0'..=b'9') => Fraction,
            (Zero | Whole | Fraction, b'e' | b'E') => E,
            (E, b'+' | b'-') => ESign,
            (E | ESign | Exponent, b'0'..=b'9') => Exponent,
            (Zero | Whole | Fraction | Exponent, _) => {
                // It ended before this byte, which belongs to what holds it.
                return match self.end_of_value() {
                    Step::Last => Step::Past,
                    _ => self.push(byte),
                };
            }
            _ => return Step::Wrong,
        };
        self.place = Place::Number(next);
        Step::Inside
    }

    fn close(&mut self, is_object: bool) -> Step {
        debug_assert_eq!(self.open.last(), Some(&is_object));
        self.open.pop();
        self.end_of_value()
    }

    fn end_of_value(&mut self) -> Step {
        if self.open.is_empty() {
            self.place = Place::Over;
            return Step::Last;
        }
        self.place = Place::AfterValue;
        Step::Inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The length of the value that `text` begins with.
    fn scan(text: &str) -> Option<usize> {
        let mut scanner = JsonScanner::default();
        for (i, byte) in text.bytes().enumerate() {
            match scanner.push(byte) {
                Step::Inside => {}
                Step::Last => return Some(i + 1),
                Step::Past => return Some(i),
                Step::Wrong => return None,
            }
        }
        None
    }

    #[test]
    fn values_end_where_they_end() {
        for value in [
            "{}",
            "[]",
            "{\"a\": [1, -0.5e+3, {\"b\": null}], \"\": \"\\u00e9\\\\\\\"}\"}",
            "\"a]}\"",
            "true",
            "[0]",
            "[[[]]]",
            " { \"a\" : 1 , \"b\" : [ ] }",
        ] {
            assert_eq!(scan(&format!("{value} , x")), Some(value.len()), "{value}");
        }
        assert_eq!(scan("-12.5e3,"), Some(7));
        assert_eq!(scan("0]"), Some(1));
    }

    #[test]
    fn what_is_no_json_is_noticed() {
        for text in [
            "{a",
            "{\"a\" 1",
            "[1 2",
            "[1,]",
            "{\"a\":1,}",
            "-x",
            "1.x",
            "1ex",
            "tru ",
            "nul\"",
            "\"\n",
            "\"\\x",
            "\"\\u00g",
            "]",
            "}",
            "[}",
            "{]",
            "'a'",
            "+1",
            "{,",
            "[,",
        ] {
            assert_eq!(scan(text), None, "{text}");
        }
        // 01: the number ends, and what holds it has no use for the next digit.
        assert_eq!(scan("[01]"), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json(text in "[\\[\\]{}\",:0-9eE.+\\\\ntruefalse -]{0,12}") {
            let text = format!("[{text}]");
            let is_json = serde_json::from_str::<serde_json::Value>(&text);
            match is_json {
                Ok(_) => prop_assert_eq!(scan(&text), Some(text.len())),
                // serde_json also refuses numbers beyond f64.
                Err(error) if error.to_string().contains("out of range") => {}
                Err(_) => prop_assert_ne!(scan(&text), Some(text.len())),
            }
        }
    }
}
