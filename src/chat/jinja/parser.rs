//! Tokens to a tree, by the grammar of Jinja2.

use std::sync::Arc;

use super::SyntaxError;
use super::ast::{
    Arguments, Arithmetic, Body, Comparison, Expr, For, Macro, Node, Postfix, Statement, Takes, Target,
};
use super::lexer::{Lexeme, Token, tokenize};

/// How deep brackets, tags and alternatives may nest, all together. Python's own parser stops a little later.
const MAX_NESTING: usize = 100;

/// Parses a template.
pub(super) fn parse(source: &str) -> Result<Body, SyntaxError> {
    let mut parser =
        Parser { lexemes: tokenize(source)?, at: 0, depth: 0, loops: 0, takes: vec![Takes::default()] };
    let (body, _) = parser.body(&[])?;
    Ok(body)
}

struct Parser {
    lexemes: Vec<Lexeme>,
    at: usize,
    depth: usize,
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
        if self.depth > MAX_NESTING {
            return self.error(format!("more than {MAX_NESTING} brackets and tags inside of each other"));
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    // Statements

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

    // Expressions

    fn expression(&mut self) -> Parsed<Expr> {
        self.nested(Self::condition)
    }

    fn condition(&mut self) -> Parsed<Expr> {
        let mut value = self.or()?;
        while self.skip_word("if") {
            let test = self.or()?;
            let otherwise = if self.skip_word("else") { Some(self.expression()?) } else { None };
            let nested = otherwise.is_none() && self.is_word("if");
            value = Expr::Condition(Box::new((test, value, otherwise)));
            if nested {
                self.depth += 1;
                if self.depth > MAX_NESTING {
                    return self.error("too many conditions in a row");
                }
            }
        }
        Ok(value)
    }

    fn or(&mut self) -> Parsed<Expr> {
        self.row("or", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Parsed<Expr> {
        self.row("and", Self::not, Expr::And)
    }

    fn row(
        &mut self,
        word: &str,
        operand: fn(&mut Self) -> Parsed<Expr>,
        whole: fn(Vec<Expr>) -> Expr,
    ) -> Parsed<Expr> {
        let first = operand(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip_word(word) {
            operands.push(operand(self)?);
        }
        Ok(whole(operands))
    }

    fn not(&mut self) -> Parsed<Expr> {
        let mut negations = 0;
        while self.skip_word("not") {
            negations += 1;
        }
        let value = self.comparison()?;
        Ok(match negations {
            0 => value,
            n if n % 2 == 1 => Expr::Not(Box::new(value)),
            _ => Expr::Not(Box::new(Expr::Not(Box::new(value)))),
        })
    }

    fn comparison(&mut self) -> Parsed<Expr> {
        let first = self.sum()?;
        let mut row = Vec::new();
        loop {
            let comparison = match self.peek() {
                Token::Operator("==") => Comparison::Eq,
                Token::Operator("!=") => Comparison::Ne,
                Token::Operator("<") => Comparison::Lt,
                Token::Operator("<=") => Comparison::Le,
                Token::Operator(">") => Comparison::Gt,
                Token::Operator(">=") => Comparison::Ge,
                Token::Name(name) if name == "in" => Comparison::In,
                Token::Name(name)
                    if name == "not" && matches!(self.peek_after(), Token::Name(name) if name == "in") =>
                {
                    self.next();
                    Comparison::NotIn
                }
                _ => break,
            };
            self.next();
            row.push((comparison, self.sum()?));
        }
        Ok(if row.is_empty() { first } else { Expr::Compare(Box::new(first), row) })
    }

    fn arithmetic(
        &mut self,
        operators: &[(&str, Arithmetic)],
        operand: fn(&mut Self) -> Parsed<Expr>,
    ) -> Parsed<Expr> {
        let first = operand(self)?;
        let mut row = Vec::new();
        while let Some(&(_, operator)) = operators.iter().find(|(sign, _)| self.is(sign)) {
            self.next();
            row.push((operator, operand(self)?));
        }
        Ok(if row.is_empty() { first } else { Expr::Arithmetic(Box::new(first), row) })
    }

    fn sum(&mut self) -> Parsed<Expr> {
        self.arithmetic(&[("+", Arithmetic::Add), ("-", Arithmetic::Sub)], Self::concatenation)
    }

    fn concatenation(&mut self) -> Parsed<Expr> {
        let first = self.product()?;
        if !self.is("~") {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.skip("~") {
            operands.push(self.product()?);
        }
        Ok(Expr::Concat(operands))
    }

    fn product(&mut self) -> Parsed<Expr> {
        use Arithmetic::{Div, FloorDiv, Mod, Mul};
        self.arithmetic(&[("*", Mul), ("/", Div), ("//", FloorDiv), ("%", Mod)], Self::power)
    }

    fn power(&mut self) -> Parsed<Expr> {
        self.arithmetic(&[("**", Arithmetic::Pow)], Self::unary)
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let (mut signed, mut negative) = (false, false);
        while self.is("-") || self.is("+") {
            signed = true;
            negative ^= self.is("-");
            self.next();
        }
        let primary = self.primary()?;
        let mut row = Vec::new();
        self.subscripts(&mut row)?;
        let mut value = with_row(primary, row);
        let mut row = Vec::new();
        if signed {
            value = Expr::Sign(negative, Box::new(value));
        }
        loop {
            if self.skip("|") {
                row.push(self.filter()?);
            } else if self.skip_word("is") {
                row.push(self.test()?);
            } else if self.is("(") {
                row.push(Postfix::Call(self.arguments()?));
            } else {
                break;
            }
        }
        Ok(with_row(value, row))
    }

    fn subscripts(&mut self, row: &mut Vec<Postfix>) -> Parsed<()> {
        loop {
            if self.skip(".") {
                match *self.peek() {
                    Token::Int(index) => {
                        self.next();
                        row.push(Postfix::Item(Expr::Int(index)));
                    }
                    _ => row.push(Postfix::Attribute(self.name()?)),
                }
            } else if self.skip("[") {
                row.push(self.nested(Self::subscript)?);
                self.expect("]")?;
            } else if self.is("(") {
                row.push(Postfix::Call(self.arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    fn subscript(&mut self) -> Parsed<Postfix> {
        let mut parts: [Option<Expr>; 3] = [None, None, None];
        let mut n_colons = 0;
        while !self.is("]") {
            if self.is(":") {
                n_colons += 1;
                if n_colons > 2 {
                    return self.unexpected("']'");
                }
                self.next();
            } else if parts[n_colons].is_none() {
                parts[n_colons] = Some(self.tuple(true, &[])?);
            } else {
                return self.unexpected("']'");
            }
        }
        match (n_colons, parts) {
            (0, [Some(item), ..]) => Ok(Postfix::Item(item)),
            (0, _) => self.unexpected("an index"),
            (_, parts) => Ok(Postfix::Slice(Box::new(parts))),
        }
    }

    fn primary(&mut self) -> Parsed<Expr> {
        match self.peek() {
            Token::Name(name) => {
                let constant = match name.as_str() {
                    "true" | "True" => Some(Expr::Bool(true)),
                    "false" | "False" => Some(Expr::Bool(false)),
                    "none" | "None" => Some(Expr::None),
                    _ => None,
                };
                if let Some(constant) = constant {
                    self.next();
                    return Ok(constant);
                }
                let name = self.name()?;
                if let Some(takes) = self.takes.last_mut() {
                    match &*name {
                        "varargs" => takes.varargs = true,
                        "kwargs" => takes.kwargs = true,
                        "caller" => takes.caller = true,
                        _ => {}
                    }
                }
                Ok(Expr::Name(name))
            }
            Token::Text(_) => {
                let mut text = String::new();
                while matches!(self.peek(), Token::Text(_)) {
                    if let Token::Text(part) = self.next() {
                        text.push_str(&part);
                    }
                }
                Ok(Expr::Text(text.into()))
            }
            &Token::Int(n) => {
                self.next();
                Ok(Expr::Int(n))
            }
            &Token::Float(n) => {
                self.next();
                Ok(Expr::Float(n))
            }
            Token::Operator("(") => {
                self.next();
                if self.skip(")") {
                    return Ok(Expr::Tuple(Vec::new()));
                }
                let value = self.tuple(true, &[])?;
                self.expect(")")?;
                Ok(value)
            }
            Token::Operator("[") => {
                self.next();
                Ok(Expr::List(self.items("]")?))
            }
            Token::Operator("{") => {
                self.next();
                self.nested(Self::dict)
            }
            _ => self.unexpected("a value"),
        }
    }

    fn items(&mut self, close: &str) -> Parsed<Vec<Expr>> {
        let mut items = Vec::new();
        while !self.is(close) {
            if !items.is_empty() {
                self.expect(",")?;
                if self.is(close) {
                    break;
                }
            }
            items.push(self.expression()?);
        }
        self.expect(close)?;
        Ok(items)
    }

    fn dict(&mut self) -> Parsed<Expr> {
        let mut pairs = Vec::new();
        while !self.is("}") {
            if !pairs.is_empty() {
                self.expect(",")?;
                if self.is("}") {
                    break;
                }
            }
            let key = self.expression()?;
            self.expect(":")?;
            pairs.push((key, self.expression()?));
        }
        self.expect("}")?;
        Ok(Expr::Dict(pairs))
    }

    /// An expression, or several with commas between them. Without `conditions`, `if` ends it.
    fn tuple(&mut self, conditions: bool, ends: &[&str]) -> Parsed<Expr> {
        let mut items = Vec::new();
        let mut is_tuple = false;
        loop {
            let at_end = matches!(self.peek(), Token::PrintEnd | Token::BlockEnd)
                || self.is(")")
                || ends.iter().any(|end| self.is_word(end));
            if at_end && is_tuple {
                break;
            }
            items.push(if conditions { self.expression()? } else { self.nested(Self::or)? });
            // Inside of brackets a comma makes a tuple as well: `x[1, 2]`.
            if !self.skip(",") {
                break;
            }
            is_tuple = true;
        }
        match items.pop() {
            Some(only) if !is_tuple => Ok(only),
            last => {
                items.extend(last);
                Ok(Expr::Tuple(items))
            }
        }
    }

    fn filter(&mut self) -> Parsed<Postfix> {
        let name = self.dotted_name()?;
        let arguments = if self.is("(") { self.arguments()? } else { Arguments::default() };
        Ok(Postfix::Filter(name, arguments))
    }

    fn test(&mut self) -> Parsed<Postfix> {
        let negated = self.skip_word("not");
        let name = self.dotted_name()?;
        let takes_value = match self.peek() {
            Token::Name(word) => !matches!(word.as_str(), "else" | "or" | "and" | "if"),
            Token::Text(_) | Token::Int(_) | Token::Float(_) => true,
            Token::Operator(operator) => matches!(*operator, "[" | "{"),
            _ => false,
        };
        let mut arguments = Arguments::default();
        if self.is("(") {
            arguments = self.arguments()?;
        } else if self.is_word("is") {
            return self.error("tests cannot be chained with is");
        } else if takes_value && !self.is_word("in") && !self.is_word("not") && !self.is_word("recursive") {
            let primary = self.nested(Self::primary)?;
            let mut row = Vec::new();
            self.subscripts(&mut row)?;
            arguments.positional.push(with_row(primary, row));
        }
        Ok(Postfix::Test { name, arguments, negated })
    }

    fn dotted_name(&mut self) -> Parsed<Arc<str>> {
        let mut name = self.name()?.to_string();
        while self.skip(".") {
            name.push('.');
            name.push_str(&self.name()?);
        }
        Ok(name.into())
    }

    fn arguments(&mut self) -> Parsed<Arguments> {
        self.expect("(")?;
        let mut arguments = Arguments::default();
        let mut first = true;
        while !self.is(")") {
            if !std::mem::take(&mut first) {
                self.expect(",")?;
                if self.is(")") {
                    break;
                }
            }
            let is_named =
                matches!(self.peek(), Token::Name(_)) && matches!(self.peek_after(), Token::Operator("="));
            if self.skip("*") && arguments.rest.is_none() && arguments.named_rest.is_none() {
                arguments.rest = Some(Box::new(self.expression()?));
            } else if self.skip("**") && arguments.named_rest.is_none() {
                arguments.named_rest = Some(Box::new(self.expression()?));
            } else if is_named && arguments.named_rest.is_none() {
                let name = self.name()?;
                self.expect("=")?;
                arguments.named.push((name, self.expression()?));
            } else if arguments.named.is_empty()
                && arguments.rest.is_none()
                && arguments.named_rest.is_none()
            {
                arguments.positional.push(self.expression()?);
            } else {
                return self.unexpected("a named argument");
            }
        }
        self.expect(")")?;
        Ok(arguments)
    }
}

fn with_row(value: Expr, row: Vec<Postfix>) -> Expr {
    if row.is_empty() { value } else { Expr::Postfix(Box::new(value), row) }
}
