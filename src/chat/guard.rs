//! What minijinja's fuel does not pay for.
//!
//! Fuel is charged for what a template makes, but a list may hold another list twice: forty doublings stand for a
//! thousand billion items, which comparing, printing or hashing would visit before anything is charged. Lists that are
//! lazy (`a + b`, `a * n`, slices) have lengths that nobody paid for, and a namespace may hold itself.
//!
//! So the operators, filters and tests that look into values are replaced, instruction by instruction, with functions
//! that first [`pay`] for all they may visit and leave no lazy list behind. Sources cannot name them: no identifier
//! begins as theirs do.

use std::sync::Arc;

use minijinja::machinery::{self, CompiledTemplate, Instruction, Instructions, TemplateConfig, Token};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value, context, escape_formatter};
use minijinja_contrib::pycompat;

/// How deep lists and maps may nest where they are looked into.
const MAX_DEPTH: usize = 100;

/// The widest field or precision that formatting fills.
const MAX_WIDTH: i64 = 9999;

/// Pairs the name of each filter or test with that of its guard.
macro_rules! guarded {
    ($sign:literal: $($name:literal)*) => { &[$(($name, concat!($sign, $name))),*] };
}

/// Filters that look into what they are given. The others take a value as a whole.
const FILTERS: &[(&str, &str)] = guarded!("|": "safe" "escape" "e" "lower" "upper" "title" "capitalize" "replace"
    "dictsort" "items" "reverse" "trim" "join" "split" "lines" "min" "max" "sort" "string" "batch" "slice" "sum"
    "indent" "select" "reject" "selectattr" "rejectattr" "map" "groupby" "unique" "chain" "zip" "format" "tojson");
const SHALLOW_FILTERS: &[&str] = &[
    "length", "count", "default", "d", "round", "abs", "int", "float", "attr", "first", "last", "list",
    "bool",
];

/// Tests that look into what they are given, and those that do not.
const TESTS: &[(&str, &str)] = guarded!("?": "eq" "equalto" "==" "ne" "!=" "lt" "lessthan" "<" "le" "<=" "gt"
    "greaterthan" ">" "ge" ">=" "in" "startingwith" "endingwith" "lower" "upper");
const SHALLOW_TESTS: &[&str] = &[
    "undefined",
    "defined",
    "none",
    "safe",
    "escaped",
    "boolean",
    "odd",
    "even",
    "divisibleby",
    "number",
    "integer",
    "int",
    "float",
    "string",
    "sequence",
    "iterable",
    "mapping",
    "sameas",
    "true",
    "false",
    "filter",
    "test",
];

/// Adds the guards to an environment.
pub(super) fn install(env: &mut Environment<'_>) {
    env.set_unknown_method_callback(method);
    env.set_formatter(|out, state, value| {
        pay(state, value)?;
        escape_formatter(out, state, value)
    });
    env.remove_global("debug");
    env.add_global(ONE, 1);
    for &(name, guard) in FILTERS {
        env.add_function(guard, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            filter(state, name, &args.into_values())
        });
    }
    for &(name, guard) in TESTS {
        env.add_function(guard, move |state: &mut State<'_, '_>, args: Rest<ValueOrKwargs>| {
            let args = args.into_values();
            args.iter().try_for_each(|arg| pay(state, arg))?;
            state.perform_test(name, &args)
        });
    }
    for (guard, test) in
        [("=", "eq"), ("≠", "ne"), ("<", "lt"), ("≤", "le"), (">", "gt"), ("≥", "ge"), ("∈", "in")]
    {
        env.add_function(guard, move |state: &mut State<'_, '_>, a: Value, b: Value| {
            pay(state, &a)?;
            // A text is searched, not walked.
            if b.as_str().is_none() {
                pay(state, &b)?;
            }
            state.perform_test(test, &[a, b])
        });
    }
    env.add_function("+", |state: &State<'_, '_>, a: Value, b: Value| operator(state, "a + b", a, b));
    env.add_function("*", |state: &State<'_, '_>, a: Value, b: Value| operator(state, "a * b", a, b));
    env.add_function("~", |state: &State<'_, '_>, a: Value, b: Value| {
        pay(state, &a)?;
        pay(state, &b)?;
        operator(state, "a ~ b", a, b)
    });
    env.add_function("[]", |state: &State<'_, '_>, a: &Value, key: &Value| {
        pay(state, key)?;
        a.get_item(key)
    });
    env.add_function("[:]", |state: &State<'_, '_>, a: Value, from: Value, to: Value, step: Value| {
        let slice = state.env().compile_expression("a[from:to:step]")?;
        eager(state, slice.eval(context! { a, from, to, step })?)
    });
    env.add_function("{}", |pairs: Rest<Value>| {
        let pairs = pairs.chunks_exact(2).map(|pair| match pair[0].as_str() {
            Some(key) => Ok((key, pair[1].clone())),
            None => Err(refusal("the keys of a map are texts")),
        });
        minijinja::functions::dict(None, pairs.collect::<Result<Kwargs, Error>>()?)
    });
}

/// A name for the number one, which no template has a use for.
const ONE: &str = "_one_";

/// Writes `a * b` as `a * _one_ * b`: the compiler would work constants out, before there is fuel, and `[1] * 99999999`
/// is one.
pub(super) fn without_constant_products(source: &str, syntax: SyntaxConfig) -> String {
    let mut out = String::with_capacity(source.len());
    let (mut at, mut after_operand) = (0, false);
    // What cannot be read stays as it is, for the compiler to say so.
    for (token, span) in machinery::tokenize(source, false, syntax).map_while(Result::ok) {
        if after_operand && matches!(token, Token::Mul) {
            let end = span.end_offset as usize;
            out.push_str(&source[at..end]);
            out.push_str(&format!(" {ONE} *"));
            at = end;
        }
        // Elsewhere the star spreads a list over arguments.
        after_operand = !matches!(token, Token::ParenOpen | Token::Comma);
    }
    out.push_str(&source[at..]);
    out
}

/// Compiles a template whose operators, filters and tests are the guarded ones.
pub(super) fn compile<'a>(
    name: &'a str,
    source: &'a str,
    syntax: SyntaxConfig,
) -> Result<CompiledTemplate<'a>, Error> {
    let config =
        TemplateConfig { syntax_config: syntax, default_auto_escape: Arc::new(|_: &str| AutoEscape::None) };
    let mut template = CompiledTemplate::new(name, source, &config)?;
    for instructions in std::iter::once(&mut template.instructions).chain(template.blocks.values_mut()) {
        guard(instructions)?;
    }
    Ok(template)
}

/// Runs a compiled template.
pub(super) fn run<'a>(
    env: &'a Environment<'a>,
    template: &CompiledTemplate<'a>,
    context: Value,
) -> Result<String, Error> {
    let mut text = String::new();
    let mut out = machinery::make_string_output(&mut text);
    machinery::eval(env, &template.instructions, context, &template.blocks, &mut out, AutoEscape::None)?;
    drop(out);
    Ok(text)
}

/// Replaces each instruction that looks into values with a call that takes and leaves as many.
fn guard(instructions: &mut Instructions<'_>) -> Result<(), Error> {
    let find = |guarded: &'static [(&str, &'static str)], shallow: &[&str], name: &str, error| {
        let name = name.trim();
        match guarded.iter().find(|(plain, _)| *plain == name) {
            Some((_, guard)) => Ok(Some(*guard)),
            None if shallow.contains(&name) => Ok(None),
            None => Err(Error::new(error, format!("{name} is unknown"))),
        }
    };
    for at in 0.. {
        let Some(instruction) = instructions.get_mut(at) else { break };
        let call = match instruction {
            Instruction::Add => Some(("+", Some(2))),
            Instruction::Mul => Some(("*", Some(2))),
            Instruction::StringConcat => Some(("~", Some(2))),
            Instruction::Eq => Some(("=", Some(2))),
            Instruction::Ne => Some(("≠", Some(2))),
            Instruction::Lt => Some(("<", Some(2))),
            Instruction::Lte => Some(("≤", Some(2))),
            Instruction::Gt => Some((">", Some(2))),
            Instruction::Gte => Some(("≥", Some(2))),
            Instruction::In => Some(("∈", Some(2))),
            Instruction::GetItem => Some(("[]", Some(2))),
            Instruction::Slice => Some(("[:]", Some(4))),
            Instruction::BuildMap(n) => {
                Some(("{}", Some(u16::try_from(2 * *n).map_err(|_| refusal("a map of too many keys"))?)))
            }
            Instruction::ApplyFilter(name, n, _) => {
                find(FILTERS, SHALLOW_FILTERS, name, ErrorKind::UnknownFilter)?.map(|guard| (guard, *n))
            }
            Instruction::PerformTest(name, n, _) => {
                find(TESTS, SHALLOW_TESTS, name, ErrorKind::UnknownTest)?.map(|guard| (guard, *n))
            }
            Instruction::CompareAndPreserve(_) => {
                return Err(refusal("comparisons in a chain, as in a < b < c, are not supported"));
            }
            _ => None,
        };
        if let Some((function, n_args)) = call {
            *instruction = Instruction::CallFunction(function, n_args);
        }
    }
    Ok(())
}

fn refusal(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Charges for a visit of all that a value holds: a unit for each part, and for 64 bytes of text.
pub(super) fn pay(state: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    pay_within(state, value, MAX_DEPTH)
}

fn pay_within(state: &State<'_, '_>, value: &Value, depth: usize) -> Result<(), Error> {
    state.consume_fuel(1 + value.as_str().map_or(0, str::len) as u64 / 64)?;
    let kind = value.kind();
    if matches!(kind, ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        let depth =
            depth.checked_sub(1).ok_or_else(|| refusal(format!("more than {MAX_DEPTH} lists in lists")))?;
        for item in value.try_iter()?.checked() {
            let item = item?;
            pay_within(state, &item, depth)?;
            if kind == ValueKind::Map {
                pay_within(state, &value.get_item(&item)?, depth)?;
            }
        }
    }
    Ok(())
}

/// A lazy list as the items it stands for.
fn eager(state: &State<'_, '_>, value: Value) -> Result<Value, Error> {
    if value.kind() != ValueKind::Iterable {
        return Ok(value);
    }
    let paid = |item: Result<Value, Error>| state.consume_fuel(1).and(item);
    Ok(Value::from(value.try_iter()?.checked().map(paid).collect::<Result<Vec<Value>, Error>>()?))
}

/// Evaluates `expression`, whose operands are `a` and `b`, after its length is paid for.
fn operator(state: &State<'_, '_>, expression: &'static str, a: Value, b: Value) -> Result<Value, Error> {
    let is_list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if is_list(&a) || is_list(&b) {
        let len = |value: &Value| value.len().unwrap_or_else(|| value.as_usize().unwrap_or(0)) as u64;
        let total = if expression == "a * b" { len(&a).saturating_mul(len(&b)) } else { len(&a) + len(&b) };
        state.consume_fuel(total)?;
    }
    eager(state, state.env().compile_expression(expression)?.eval(context! { a, b })?)
}

fn filter(state: &mut State<'_, '_>, name: &str, args: &[Value]) -> Result<Value, Error> {
    // Conversations are searched by role in loops over them: what a plain comparison skips is not charged.
    let skips = matches!(name, "selectattr" | "rejectattr")
        && args.get(2).and_then(Value::as_str).is_none_or(|test| {
            SHALLOW_TESTS.contains(&test) || matches!(test, "eq" | "equalto" | "==" | "ne")
        });
    args.iter().skip(usize::from(skips)).try_for_each(|arg| pay(state, arg))?;
    if name == "format" {
        check_widths(args)?;
    }
    if let [text, rest @ ..] = args {
        pay_for_pieces(state, name, text, rest.first())?;
    }
    let value = state.apply_filter(name, args)?;
    eager(state, value)
}

fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    args.iter().try_for_each(|arg| pay(state, arg))?;
    if name == "format" && value.as_str().is_some() {
        check_widths(&[std::slice::from_ref(value), args].concat())?;
    }
    pay_for_pieces(state, name, value, args.first())?;
    let value = pycompat::unknown_method_callback(state, value, name, args)?;
    eager(state, value)
}

/// Charges for the list that a text is about to be cut into.
fn pay_for_pieces(
    state: &State<'_, '_>,
    name: &str,
    text: &Value,
    separator: Option<&Value>,
) -> Result<(), Error> {
    let Some(text) = text.as_str() else { return Ok(()) };
    let pieces = match (name, separator.and_then(Value::as_str)) {
        ("split", Some(separator)) => text.matches(separator).count(),
        ("split", None) => text.split_whitespace().count(),
        ("lines" | "splitlines", _) => text.lines().count(),
        _ => 0,
    };
    state.consume_fuel(pieces as u64)
}

/// Refuses a format, and numbers that it might take for widths, of more than [`MAX_WIDTH`].
fn check_widths(args: &[Value]) -> Result<(), Error> {
    let format = args.first().and_then(Value::as_str).unwrap_or_default();
    let digits = MAX_WIDTH.ilog10() as usize + 1;
    let numbers = format.split(|c: char| !c.is_ascii_digit());
    let by_argument = format.contains('*') || format.contains(":{");
    let too_wide = |arg: &Value| arg.as_i64().is_some_and(|n| n > MAX_WIDTH);
    if numbers.into_iter().any(|number| number.len() > digits) || by_argument && args.iter().any(too_wide) {
        return Err(refusal(format!("a field wider than {MAX_WIDTH}")));
    }
    Ok(())
}
