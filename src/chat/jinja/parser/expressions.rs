//! The grammar of expressions.

use std::sync::Arc;

use super::super::ast::{Arguments, Arithmetic, Comparison, Expr, Postfix};
use super::super::lexer::Token;
use super::{MAX_NESTING, Parsed, Parser};

impl Parser {
    pub(super) fn expression(&mut self) -> Parsed<Expr> {
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
    pub(super) fn tuple(&mut self, conditions: bool, ends: &[&str]) -> Parsed<Expr> {
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

    pub(super) fn filter(&mut self) -> Parsed<Postfix> {
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

    pub(super) fn arguments(&mut self) -> Parsed<Arguments> {
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
            } else if arguments.named.is_empty() && arguments.rest.is_none() && arguments.named_rest.is_none()
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
