//! Tokens to a tree, by the grammar of Jinja2.

mod expressions;

use std::sync::Arc;

use super::ast::{Body, Expr, For, Macro, Node, Postfix, Statement, Takes, Target};
use super::fault::SyntaxError;
use super::lexer::{Lexeme, Token, tokenize};
use super::stack::Stack;

/// How deep brackets, tags and alternatives may nest, all together. Python's own parser stops a little later.
const MAX_NESTING: usize = 100;

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Body, SyntaxError> {
    let mut parser = Parser {
        lexemes: tokenize(source)?,
        at: 0,
        depth: 0,
        stack: Stack::here(),
        loops: 0,
        takes: vec![Takes::default()],
    };
    let (body, _) = parser.body(&[])?;
    Ok(body)
}

struct Parser {
    lexemes: Vec<Lexeme>,
    at: usize,
    depth: usize,
    stack: Stack,
    /// Loops around the tag here, within its macro.
    loops: usize,
    /// What the macros around the tag here use.
    takes: Vec<Takes>,
}

type Parsed<T> = Result<T, SyntaxError>;

impl Parser {
    fn peek(&self) -> &Token {
        &self.lexemes[self.at].token
    }

    fn peek_after(&self) -> &Token {
        &self.lexemes[(self.at + 1).min(self.lexemes.len() - 1)].token
    }

    fn line(&self) -> u32 {
        self.lexemes[self.at].line
    }

    /// The next token; the last one, [`Token::End`], stays.
    fn next(&mut self) -> Token {
        if self.at + 1 == self.lexemes.len() {
            return Token::End;
        }
        self.at += 1;
        std::mem::replace(&mut self.lexemes[self.at - 1].token, Token::End)
    }

    fn error<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(SyntaxError { line: self.line(), message: message.into() })
    }

    fn unexpected<T>(&self, expected: &str) -> Parsed<T> {
        let found = match self.peek() {
            Token::Data(_) | Token::PrintBegin | Token::BlockBegin => "other text".to_owned(),
            Token::PrintEnd | Token::BlockEnd => "the end of the tag".to_owned(),
            Token::Name(name) => format!("{name:.40}"),
            Token::Text(text) => format!("{text:.40?}"),
            Token::Int(n) => n.to_string(),
            Token::Float(n) => n.to_string(),
            Token::Operator(operator) => format!("'{operator}'"),
            Token::End => "the end of the template".to_owned(),
        };
        self.error(format!("found {found}, expected {expected}"))
    }

    fn is(&self, operator: &str) -> bool {
        matches!(self.peek(), Token::Operator(found) if *found == operator)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(name) if name == word)
    }

    fn skip(&mut self, operator: &str) -> bool {
        let found = self.is(operator);
        if found {
            self.next();
        }
        found
    }

    fn skip_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, operator: &str) -> Parsed<()> {
        if self.skip(operator) { Ok(()) } else { self.unexpected(&format!("'{operator}'")) }
    }

    fn expect_word(&mut self, word: &str) -> Parsed<()> {
        if self.skip_word(word) { Ok(()) } else { self.unexpected(word) }
    }

    fn name(&mut self) -> Parsed<Arc<str>> {
        match self.peek() {
            Token::Name(name) if !name.starts_with(|c: char| c.is_numeric()) => {
                let name = Arc::from(name.as_str());
                self.next();
                Ok(name)
            }
            _ => self.unexpected("a name"),
        }
    }

    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > MAX_NESTING || !self.stack.has_room() {
            return self.error(format!("more than {MAX_NESTING} brackets and tags inside of each other"));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// Statements up to a tag that begins with one of `ends`, or to the end of the template if there are none.
    fn body(&mut self, ends: &[&str]) -> Parsed<(Body, String)> {
        self.nested(|parser| parser.statements(ends))
    }

    fn statements(&mut self, ends: &[&str]) -> Parsed<(Body, String)> {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            match self.next() {
                Token::Data(text) => body.push(Node { line, statement: Statement::Data(text.into()) }),
                Token::PrintBegin => {
                    let value = self.tuple(true, &[])?;
                    match self.next() {
                        Token::PrintEnd => body.push(Node { line, statement: Statement::Print(value) }),
                        token => {
                            self.put_back(token);
                            return self.unexpected("'}}'");
                        }
                    }
                }
                Token::BlockBegin => {
                    let Token::Name(word) = self.peek() else { return self.unexpected("the name of a tag") };
                    let word = word.clone();
                    if ends.contains(&word.as_str()) {
                        self.next();
                        return Ok((body, word));
                    }
                    self.next();
                    let statement = self.statement(&word)?;
                    self.block_end()?;
                    body.push(Node { line, statement });
                }
                _ if ends.is_empty() => return Ok((body, String::new())),
                _ => return self.unexpected(&format!("{{% {} %}}", ends[ends.len() - 1])),
            }
        }
    }

    fn put_back(&mut self, token: Token) {
        if token != Token::End {
            self.at -= 1;
            self.lexemes[self.at].token = token;
        }
    }

    fn block_end(&mut self) -> Parsed<()> {
        match self.peek() {
            Token::BlockEnd => {
                self.next();
                Ok(())
            }
            _ => self.unexpected("'%}'"),
        }
    }

    /// The body of a tag that has only an end.
    fn simple_body(&mut self, end: &str) -> Parsed<Body> {
        self.block_end()?;
        Ok(self.body(&[end])?.0)
    }

    /// A tag after its first word, up to its `%}`.
    fn statement(&mut self, word: &str) -> Parsed<Statement> {
        Ok(match word {
            "if" => self.if_tag()?,
            "for" => self.for_tag()?,
            "set" => self.set_tag()?,
            "macro" => {
                let name = self.name()?;
                Statement::Macro(Arc::new(self.macro_tag(name, "endmacro")?))
            }
            "call" => {
                let mut caller = Macro {
                    name: "caller".into(),
                    parameters: Vec::new(),
                    body: Vec::new(),
                    takes: Takes::default(),
                };
                if self.is("(") {
                    caller.parameters = self.parameters()?;
                }
                let call = self.expression()?;
                if !matches!(&call, Expr::Postfix(_, row) if matches!(row.last(), Some(Postfix::Call(_)))) {
                    return self.error("call expects a call");
                }
                let macro_body = self.macro_body("endcall")?;
                (caller.body, caller.takes) = macro_body;
                Statement::Call { caller: Arc::new(caller), call }
            }
            "filter" => {
                let mut filters = vec![self.filter()?];
                while self.skip("|") {
                    filters.push(self.filter()?);
                }
                Statement::Filter { filters, body: self.simple_body("endfilter")? }
            }
            "with" => {
                let mut bindings = Vec::new();
                while *self.peek() != Token::BlockEnd {
                    if !bindings.is_empty() {
                        self.expect(",")?;
                    }
                    let target = self.target(&[], false)?;
                    self.expect("=")?;
                    bindings.push((target, self.expression()?));
                }
                Statement::With { bindings, body: self.simple_body("endwith")? }
            }
            "autoescape" => {
                self.expression()?;
                Statement::Block(self.simple_body("endautoescape")?)
            }
            "generation" => Statement::Block(self.simple_body("endgeneration")?),
            "block" => {
                self.name()?;
                while self.skip_word("scoped") || self.skip_word("required") {}
                self.block_end()?;
                let (body, _) = self.body(&["endblock"])?;
                if matches!(self.peek(), Token::Name(_)) {
                    self.next();
                }
                Statement::Block(body)
            }
            "print" => match self.tuple(true, &[])? {
                Expr::Tuple(items) => Statement::Print(Expr::Concat(items)),
                item => Statement::Print(item),
            },
            "break" | "continue" if self.loops == 0 => {
                return self.error(format!("{word} stands outside of a loop"));
            }
            "break" => Statement::Break,
            "continue" => Statement::Continue,
            "include" | "import" | "from" | "extends" => {
                while *self.peek() != Token::BlockEnd {
                    if self.next() == Token::End {
                        return self.unexpected("'%}'");
                    }
                }
                Statement::Unsupported(word.to_owned())
            }
            _ => return self.error(format!("there is no tag {word:.40}")),
        })
    }

    fn if_tag(&mut self) -> Parsed<Statement> {
        let mut branches = Vec::new();
        loop {
            let condition = self.tuple(false, &[])?;
            self.block_end()?;
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((condition, body));
            match end.as_str() {
                "elif" => {}
                "else" => {
                    return Ok(Statement::If { branches, otherwise: self.simple_body("endif")? });
                }
                _ => return Ok(Statement::If { branches, otherwise: Vec::new() }),
            }
        }
    }

    fn for_tag(&mut self) -> Parsed<Statement> {
        let target = self.target(&["in"], false)?;
        self.expect_word("in")?;
        let iterable = self.tuple(false, &["recursive"])?;
        let condition = if self.skip_word("if") { Some(self.expression()?) } else { None };
        let recursive = self.skip_word("recursive");
        self.block_end()?;
        self.loops += 1;
        let (body, end) = self.body(&["endfor", "else"])?;
        self.loops -= 1;
        let otherwise = if end == "else" { self.simple_body("endfor")? } else { Vec::new() };
        Ok(Statement::For(Arc::new(For { target, iterable, condition, body, otherwise, recursive })))
    }

    fn set_tag(&mut self) -> Parsed<Statement> {
        let target = self.target(&[], true)?;
        if self.skip("=") {
            return Ok(Statement::Set(target, self.tuple(true, &[])?));
        }
        let mut filters = Vec::new();
        while self.skip("|") {
            filters.push(self.filter()?);
        }
        Ok(Statement::SetBlock { target, filters, body: self.simple_body("endset")? })
    }

    fn macro_tag(&mut self, name: Arc<str>, end: &str) -> Parsed<Macro> {
        let parameters = self.parameters()?;
        let (body, takes) = self.macro_body(end)?;
        Ok(Macro { name, parameters, body, takes })
    }

    fn macro_body(&mut self, end: &str) -> Parsed<(Body, Takes)> {
        let loops = std::mem::take(&mut self.loops);
        self.takes.push(Takes::default());
        let body = self.simple_body(end)?;
        self.loops = loops;
        let takes = self.takes.pop().unwrap_or_default();
        Ok((body, takes))
    }

    fn parameters(&mut self) -> Parsed<Vec<(Arc<str>, Option<Expr>)>> {
        let mut parameters: Vec<(Arc<str>, Option<Expr>)> = Vec::new();
        self.expect("(")?;
        while !self.is(")") {
            if !parameters.is_empty() {
                self.expect(",")?;
            }
            let name = self.name()?;
            let default = if self.skip("=") { Some(self.expression()?) } else { None };
            if default.is_none() && parameters.last().is_some_and(|(_, default)| default.is_some()) {
                return self.error("a parameter without a default follows one that has it");
            }
            parameters.push((name, default));
        }
        self.expect(")")?;
        Ok(parameters)
    }

    /// What is assigned to: names, with `attributes` also `ns.name`.
    fn target(&mut self, ends: &[&str], attributes: bool) -> Parsed<Target> {
        let mut targets = Vec::new();
        let mut is_tuple = false;
        loop {
            if ends.iter().any(|end| self.is_word(end)) || self.is("=") {
                break;
            }
            if self.skip("(") {
                let inner = self.nested(|parser| parser.target(&[], attributes))?;
                self.expect(")")?;
                targets.push(inner);
            } else {
                let name = self.name()?;
                if attributes && self.skip(".") {
                    targets.push(Target::Attribute(name, self.name()?));
                } else if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
                    return self.error(format!("{name} cannot be assigned to"));
                } else {
                    targets.push(Target::Name(name));
                }
            }
            if !self.skip(",") {
                break;
            }
            is_tuple = true;
            if self.is(")") {
                break;
            }
        }
        match targets.pop() {
            None => self.unexpected("a name"),
            Some(only) if !is_tuple => Ok(only),
            Some(last) => {
                targets.push(last);
                Ok(Target::Tuple(targets))
            }
        }
    }
}
