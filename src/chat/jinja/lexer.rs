//! A template as tokens, with the white space around its tags already trimmed (`trim_blocks`, `lstrip_blocks`, `-`, `+`).

use super::fault::SyntaxError;

/// A token and the line it starts on, from 1.
#[derive(Debug, Clone)]
pub(super) struct Lexeme {
    pub token: Token,
    pub line: u32,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// Text outside of tags.
    Data(String),
    PrintBegin,
    PrintEnd,
    BlockBegin,
    BlockEnd,
    Name(String),
    Text(String),
    Int(i128),
    Float(f64),
    Operator(&'static str),
    End,
}

/// The longer ones first.
const OPERATORS: [&str; 26] = [
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<",
    "=", ".", ":", "|", ",", ";",
];

/// What Python's `str.isspace` and `\s` take for white space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// Cuts a template into tokens.
pub(super) fn tokenize(source: &str) -> Result<Vec<Lexeme>, SyntaxError> {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let source = source.strip_suffix('\n').unwrap_or(&source);
    let mut lexer = Lexer { source, at: 0, line: 1, counted: 0, line_starting: true, lexemes: Vec::new() };
    lexer.run()?;
    let line = lexer.line();
    lexer.lexemes.push(Lexeme { token: Token::End, line });
    Ok(lexer.lexemes)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: u32,
    /// Up to where `line` has counted.
    counted: usize,
    /// Whether the last tag ended with a line break.
    line_starting: bool,
    lexemes: Vec<Lexeme>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn line(&mut self) -> u32 {
        let passed = &self.source.as_bytes()[self.counted..self.at];
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count() as u32;
        self.counted = self.at;
        self.line
    }

    fn error(&mut self, message: impl Into<String>) -> SyntaxError {
        SyntaxError { line: self.line(), message: message.into() }
    }

    fn emit(&mut self, token: Token) {
        let line = self.line();
        self.lexemes.push(Lexeme { token, line });
    }

    fn skip_space(&mut self) {
        self.at = self.source.len() - self.rest().trim_start_matches(is_space).len();
    }

    fn run(&mut self) -> Result<(), SyntaxError> {
        loop {
            let rest = self.rest();
            let begins = |at: &usize| matches!(rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#'));
            let Some(found) = rest.match_indices('{').map(|(at, _)| at).find(begins) else {
                self.data(rest);
                self.at = self.source.len();
                return Ok(());
            };
            let kind = rest.as_bytes()[found + 1];
            let sign = rest[found + 2..].chars().next().filter(|c| matches!(c, '-' | '+'));
            self.data_before_tag(&rest[..found], sign, kind != b'{');
            self.at += found;
            let tag_start = self.at;
            self.at += 2 + sign.map_or(0, char::len_utf8);
            match kind {
                b'{' => {
                    self.emit(Token::PrintBegin);
                    self.expression(true)?;
                }
                b'#' => self.comment()?,
                _ if self.raw()? => {}
                _ => {
                    self.emit(Token::BlockBegin);
                    self.expression(false)?;
                }
            }
            self.line_starting = self.source[tag_start..self.at].ends_with('\n');
        }
    }

    fn data(&mut self, text: &str) {
        if !text.is_empty() {
            self.emit(Token::Data(text.to_owned()));
        }
    }

    /// Text up to a tag: `-` takes the white space before the tag away, and for blocks and comments what stands
    /// between the start of the line and the tag goes unless there is a `+`.
    fn data_before_tag(&mut self, text: &str, sign: Option<char>, strips_line: bool) {
        let mut kept = text;
        if sign == Some('-') {
            kept = text.trim_end_matches(is_space);
        } else if sign.is_none() && strips_line {
            let line_start = text.rfind('\n').map_or(0, |at| at + 1);
            if (line_start > 0 || self.line_starting) && text[line_start..].chars().all(is_space) {
                kept = &text[..line_start];
            }
        }
        self.data(kept);
    }

    /// Passes the end of a tag if it is here: `-` takes the white space after it, and a line break goes with
    /// blocks and comments.
    fn end(&mut self, close: &str, takes_line_break: bool) -> bool {
        let rest = self.rest();
        if rest.starts_with('-') && rest[1..].starts_with(close) {
            self.at += 1 + close.len();
            self.skip_space();
        } else if takes_line_break && rest.starts_with('+') && rest[1..].starts_with(close) {
            self.at += 1 + close.len();
        } else if rest.starts_with(close) {
            self.at += close.len();
            if takes_line_break && self.rest().starts_with('\n') {
                self.at += 1;
            }
        } else {
            return false;
        }
        true
    }

    fn comment(&mut self) -> Result<(), SyntaxError> {
        let Some(found) = self.rest().find("#}") else { return Err(self.error("a comment is not closed")) };
        let signed = self.rest()[..found].ends_with(['-', '+']);
        self.at += found - usize::from(signed);
        self.end("#}", true);
        Ok(())
    }

    /// Reads `{% raw %}…{% endraw %}` if that is the tag here, after its `{%`.
    fn raw(&mut self) -> Result<bool, SyntaxError> {
        let tag_at = self.at;
        self.skip_space();
        let is_raw = self.rest().strip_prefix("raw").is_some_and(|after| {
            let after = after.trim_start_matches(is_space);
            after.starts_with("%}") || after.starts_with("-%}")
        });
        if !is_raw {
            self.at = tag_at;
            return Ok(false);
        }
        self.at += "raw".len();
        self.skip_space();
        self.end("%}", false);
        self.line_starting = self.source[tag_at..self.at].ends_with('\n');
        let body = self.rest();
        for (found, _) in body.match_indices("{%") {
            let tag = &body[found + 2..];
            let sign = tag.chars().next().filter(|c| matches!(c, '-' | '+'));
            let word = tag[sign.map_or(0, char::len_utf8)..].trim_start_matches(is_space);
            let Some(after) = word.strip_prefix("endraw") else { continue };
            let after = after.trim_start_matches(is_space);
            let body_at = self.at;
            self.at = self.source.len() - after.len();
            if self.end("%}", true) {
                self.data_before_tag(&body[..found], sign, true);
                return Ok(true);
            }
            self.at = body_at;
        }
        Err(self.error("a raw block is not closed"))
    }

    /// The tokens of a tag and its end.
    fn expression(&mut self, is_print: bool) -> Result<(), SyntaxError> {
        let mut open: Vec<&'static str> = Vec::new();
        loop {
            self.skip_space();
            if open.is_empty() && self.end(if is_print { "}}" } else { "%}" }, !is_print) {
                self.emit(if is_print { Token::PrintEnd } else { Token::BlockEnd });
                return Ok(());
            }
            let Some(c) = self.rest().chars().next() else {
                return Err(self.error("the template ends inside of a tag"));
            };
            if c == '"' || c == '\'' {
                self.text(c)?;
            } else if c.is_ascii_digit() {
                self.number()?;
            } else if c.is_alphanumeric() || c == '_' {
                let rest = self.rest();
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                self.emit(Token::Name(rest[..end].to_owned()));
                self.at += end;
            } else {
                let Some(&operator) = OPERATORS.iter().find(|o| self.rest().starts_with(**o)) else {
                    return Err(self.error(format!("the character {c:?} is no part of an expression")));
                };
                match operator {
                    "{" => open.push("}"),
                    "[" => open.push("]"),
                    "(" => open.push(")"),
                    "}" | "]" | ")" if open.pop() != Some(operator) => {
                        return Err(self.error(format!("'{operator}' closes nothing")));
                    }
                    _ => {}
                }
                self.emit(Token::Operator(operator));
                self.at += operator.len();
            }
        }
    }

    fn number(&mut self) -> Result<(), SyntaxError> {
        let rest = self.rest();
        let after_dot = self.source[..self.at].ends_with('.');
        let digits = |from: usize| {
            let end = rest[from..].find(|c: char| !c.is_ascii_digit() && c != '_');
            from + end.unwrap_or(rest.len() - from)
        };
        let starts_digit = |at: usize| rest.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
        let radix = match rest.get(..2).map(str::to_ascii_lowercase).as_deref() {
            Some("0x") => 16,
            Some("0o") => 8,
            Some("0b") => 2,
            _ => 10,
        };
        let (end, is_float) = if radix != 10 {
            let end = rest[2..].find(|c: char| !c.is_digit(radix) && c != '_');
            (2 + end.unwrap_or(rest.len() - 2), false)
        } else {
            let whole = digits(0);
            let mut end = whole;
            if !after_dot && rest[end..].starts_with('.') && starts_digit(end + 1) {
                end = digits(end + 1);
            }
            if !after_dot && rest[end..].starts_with(['e', 'E']) {
                let signed = usize::from(rest[end + 1..].starts_with(['+', '-']));
                if starts_digit(end + 1 + signed) {
                    end = digits(end + 1 + signed);
                }
            }
            (end, end > whole)
        };
        let plain = rest[..end].replace('_', "");
        let token = if is_float {
            plain.parse().ok().map(Token::Float)
        } else if radix == 10 {
            plain.parse().ok().map(Token::Int)
        } else {
            i128::from_str_radix(&plain[2..], radix).ok().map(Token::Int)
        };
        let Some(token) = token else {
            let error = if is_float { "is no number" } else { "has more than 127 bits" };
            return Err(self.error(format!("{plain:.40} {error}")));
        };
        self.emit(token);
        self.at += end;
        Ok(())
    }

    /// A quoted text, with the escapes of Python.
    fn text(&mut self, quote: char) -> Result<(), SyntaxError> {
        let rest = self.rest();
        let mut text = String::new();
        let mut chars = rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            if c == quote {
                self.emit(Token::Text(text));
                self.at += at + 1;
                return Ok(());
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let Some((at, escape)) = chars.next() else { break };
            let mut code = |from: usize, radix: u32, max: usize| {
                let digits: String =
                    rest[from..].chars().take(max).take_while(|c| c.is_digit(radix)).collect();
                for _ in 0..digits.len().saturating_sub(usize::from(radix == 8)) {
                    chars.next();
                }
                let whole = radix == 8 || digits.len() == max;
                u32::from_str_radix(&digits, radix).ok().filter(|_| whole).and_then(char::from_u32)
            };
            let c = match escape {
                '\n' => continue,
                'n' => Some('\n'),
                't' => Some('\t'),
                'r' => Some('\r'),
                'a' => Some('\x07'),
                'b' => Some('\x08'),
                'f' => Some('\x0c'),
                'v' => Some('\x0b'),
                '\\' | '\'' | '"' => Some(escape),
                'x' => code(at + 1, 16, 2),
                'u' => code(at + 1, 16, 4),
                'U' => code(at + 1, 16, 8),
                '0'..='7' => code(at, 8, 3),
                other => {
                    text.push('\\');
                    Some(other)
                }
            };
            match c {
                Some(c) => text.push(c),
                None => return Err(self.error(format!("\\{escape} is not followed by a character's code"))),
            }
        }
        Err(self.error("a quoted text is not closed"))
    }
}
