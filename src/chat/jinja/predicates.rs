//! The tests of Jinja2, used with `is`.

use std::rc::Rc;

use super::arguments::Args;
use super::ast::{Arithmetic, Comparison};
use super::fault::Fault;
use super::meter::Meter;
use super::names;
use super::operators::{arithmetic, compare};
use super::value::{ListKind, Object, Value};

/// Whether `value is name(args)`.
pub(super) fn test(meter: &Rc<Meter>, name: &str, value: &Value, args: &Args) -> Result<bool, Fault> {
    let other = || args.require(0, "other");
    let ordered = |comparison| compare(meter, value, comparison, other()?);
    let leaves = |n: i128, rest: i128| {
        let left = arithmetic(meter, value, Arithmetic::Mod, &Value::Int(n))?;
        left.equals(&Value::Int(rest), meter)
    };
    Ok(match name {
        "odd" => leaves(2, 1)?,
        "even" => leaves(2, 0)?,
        "divisibleby" => leaves(args.int(0, "num")?.unwrap_or(0), 0)?,
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "filter" => value.as_text().is_some_and(|name| names::is_filter(name)),
        "test" => value.as_text().is_some_and(|name| names::is_test(name)),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "false" => matches!(value, Value::Bool(false)),
        "true" => matches!(value, Value::Bool(true)),
        "integer" => matches!(value, Value::Int(_) | Value::Big(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => {
            matches!(value, Value::Int(_) | Value::Big(_) | Value::Float(_) | Value::Bool(_))
        }
        "string" => matches!(value, Value::Text(_)),
        "lower" | "upper" => {
            let text = super::print::to_text(value, meter)?;
            meter.pay_scan(text.len())?;
            let upper = name == "upper";
            let wrong = |c: char| if upper { c.is_lowercase() } else { c.is_uppercase() };
            !text.chars().any(wrong) && text.chars().any(|c| c.is_lowercase() || c.is_uppercase())
        }
        "mapping" => matches!(value, Value::Dict(_)),
        "sequence" => match value {
            Value::Text(_) | Value::Dict(_) | Value::Undefined(_) => true,
            Value::List(list) => !matches!(list.kind, ListKind::Generator(_) | ListKind::View(_)),
            _ => false,
        },
        "iterable" => match value {
            Value::Text(_) | Value::Dict(_) | Value::List(_) | Value::Undefined(_) => true,
            Value::Object(object) => matches!(***object, Object::Loop(_)),
            _ => false,
        },
        "callable" => match value {
            // An undefined value has a `__call__`, which fails.
            Value::Undefined(_) => true,
            Value::Object(object) => !matches!(***object, Object::Namespace(..)),
            _ => false,
        },
        "sameas" => match (value, other()?) {
            (Value::None, Value::None) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Big(a), Value::Big(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => std::ptr::eq::<str>(&**a, &**b),
            (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
            (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
            (Value::Object(a), Value::Object(b)) => Rc::ptr_eq(a, b),
            _ => false,
        },
        "escaped" => false,
        "in" => args.require(0, "seq")?.contains(value, meter)?,
        "==" | "eq" | "equalto" => ordered(Comparison::Eq)?,
        "!=" | "ne" => ordered(Comparison::Ne)?,
        ">" | "gt" | "greaterthan" => ordered(Comparison::Gt)?,
        ">=" | "ge" => ordered(Comparison::Ge)?,
        "<" | "lt" | "lessthan" => ordered(Comparison::Lt)?,
        "<=" | "le" => ordered(Comparison::Le)?,
        _ => return Err(Fault::failed(format!("No test named '{name}'."))),
    })
}
