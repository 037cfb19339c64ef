//! Running a template: its expressions.

use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Args;
use super::ast::{Arguments, Expr, Postfix};
use super::fault::Fault;
use super::interpreter::Interpreter;
use super::number::Big;
use super::operators::{arithmetic, compare, slice};
use super::print::write_str;
use super::scope::Scope;
use super::text::Writer;
use super::value::{Dict, Key, List, ListKind, Loop, Object, Outcome, Value};
use super::{filters, format, functions, names, predicates, strings};

impl Interpreter {
    /// The value of an expression.
    pub fn eval(&self, expr: &Expr, scope: &Rc<Scope<Value>>) -> Outcome {
        self.meter.pay(1)?;
        match expr {
            Expr::None => Ok(Value::None),
            Expr::Bool(b) => Ok(Value::Bool(*b)),
            Expr::Int(n) => Ok(Value::Int(*n)),
            Expr::Float(n) => Ok(Value::Float(*n)),
            Expr::Text(text) => Value::text(&self.meter, text),
            Expr::Name(name) => {
                Ok(scope.get(name, &self.meter)?.unwrap_or_else(|| Value::Undefined(Arc::clone(name))))
            }
            _ => self.deeper(|| self.eval_nested(expr, scope)),
        }
    }

    fn eval_nested(&self, expr: &Expr, scope: &Rc<Scope<Value>>) -> Outcome {
        match expr {
            Expr::List(items) => Value::list(&self.meter, self.eval_all(items, scope)?),
            Expr::Tuple(items) => Value::tuple(&self.meter, self.eval_all(items, scope)?),
            Expr::Dict(pairs) => {
                let mut map = indexmap::IndexMap::new();
                for (key, value) in pairs {
                    let key = Key::new(&self.eval(key, scope)?, &self.meter)?;
                    map.insert(key, self.eval(value, scope)?);
                }
                Value::dict(&self.meter, map)
            }
            Expr::Condition(parts) => {
                let (test, value, otherwise) = &**parts;
                if self.eval(test, scope)?.is_true() {
                    return self.eval(value, scope);
                }
                match otherwise {
                    Some(otherwise) => self.eval(otherwise, scope),
                    None => Ok(Value::no_item()),
                }
            }
            Expr::Or(operands) => self.eval_until(true, operands, scope),
            Expr::And(operands) => self.eval_until(false, operands, scope),
            Expr::Not(value) => Ok(Value::Bool(!self.eval(value, scope)?.is_true())),
            Expr::Compare(first, row) => {
                let mut left = self.eval(first, scope)?;
                for (comparison, right) in row {
                    let right = self.eval(right, scope)?;
                    if !compare(&self.meter, &left, *comparison, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::Concat(operands) => {
                let mut out = Writer::new(&self.meter)?;
                for operand in operands {
                    write_str(&mut out, &self.eval(operand, scope)?)?;
                }
                Ok(Value::Text(out.finish()))
            }
            Expr::Arithmetic(first, row) => {
                let mut left = self.eval(first, scope)?;
                for (operator, right) in row {
                    let right = self.eval(right, scope)?;
                    left = arithmetic(&self.meter, &left, *operator, &right)?;
                }
                Ok(left)
            }
            Expr::Sign(negative, value) => match self.eval(value, scope)? {
                Value::Undefined(name) => Err(Fault::undefined(&name)),
                Value::Float(n) => Ok(Value::Float(if *negative { -n } else { n })),
                Value::Big(n) => {
                    if *negative {
                        n.negated().map(Value::from)
                    } else {
                        Ok(Value::Big(n))
                    }
                }
                value => match value.as_int() {
                    Some(n) if *negative => match n.checked_neg() {
                        Some(n) => Ok(Value::Int(n)),
                        None => Big::from(n).negated().map(Value::from),
                    },
                    Some(n) => Ok(Value::Int(n)),
                    None => Err(Fault::failed(format!("bad operand for a sign: '{}'", value.type_name()))),
                },
            },
            Expr::Postfix(value, row) => {
                let value = self.eval(value, scope)?;
                self.apply_row(value, row, scope)
            }
            _ => self.eval(expr, scope),
        }
    }

    fn eval_all(&self, items: &[Expr], scope: &Rc<Scope<Value>>) -> Result<Vec<Value>, Fault> {
        // A loop, since the adapters of a `collect` would stand on the stack once for each level of nesting.
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            values.push(self.eval(item, scope)?);
        }
        Ok(values)
    }

    /// The first operand that is true or false as asked, or the last one.
    fn eval_until(&self, truth: bool, operands: &[Expr], scope: &Rc<Scope<Value>>) -> Outcome {
        let mut value = Value::None;
        for operand in operands {
            value = self.eval(operand, scope)?;
            if value.is_true() == truth {
                break;
            }
        }
        Ok(value)
    }

    /// Applies postfix operations to a value.
    pub fn apply_row(&self, mut value: Value, row: &[Postfix], scope: &Rc<Scope<Value>>) -> Outcome {
        let mut row = row.iter().peekable();
        while let Some(postfix) = row.next() {
            self.meter.pay(1)?;
            value = match postfix {
                Postfix::Attribute(name) => match row.peek() {
                    // A method called at once needs no value of its own.
                    Some(Postfix::Call(arguments)) if has_method(&value, name) => {
                        row.next();
                        let args = self.eval_arguments(arguments, scope)?;
                        self.call_method(&value, name, args)?
                    }
                    _ => self.attribute(&value, name)?,
                },
                Postfix::Item(key) => {
                    let key = self.eval(key, scope)?;
                    self.item(&value, &key)?
                }
                Postfix::Slice(parts) => {
                    let mut values = [const { None }; 3];
                    for (value, part) in values.iter_mut().zip(parts.iter()) {
                        if let Some(part) = part {
                            *value = Some(self.eval(part, scope)?);
                        }
                    }
                    slice(&self.meter, &value, values.each_ref().map(Option::as_ref))?
                }
                Postfix::Call(arguments) => {
                    let args = self.eval_arguments(arguments, scope)?;
                    self.call(&value, args)?
                }
                Postfix::Filter(name, arguments) => {
                    if !names::is_filter(name) {
                        return Err(Fault::failed(format!("No filter named '{name}'.")));
                    }
                    let args = self.eval_arguments(arguments, scope)?;
                    filters::apply(self, name, &value, &args)?
                }
                Postfix::Test { name, arguments, negated } => {
                    let args = self.eval_arguments(arguments, scope)?;
                    Value::Bool(predicates::test(&self.meter, name, &value, &args)? != *negated)
                }
            };
        }
        Ok(value)
    }

    /// The call of a call block, with its body as the argument `caller`.
    pub fn eval_call_block(&self, call: &Expr, caller: Value, scope: &Rc<Scope<Value>>) -> Outcome {
        let Expr::Postfix(value, row) = call else { return Err(Fault::failed("call expects a call")) };
        let Some((Postfix::Call(arguments), row)) = row.split_last() else {
            return Err(Fault::failed("call expects a call"));
        };
        let value = self.eval(value, scope)?;
        let callee = self.apply_row(value, row, scope)?;
        let mut args = self.eval_arguments(arguments, scope)?;
        args.named.push(("caller".into(), caller));
        self.call(&callee, args)
    }

    fn eval_arguments(&self, arguments: &Arguments, scope: &Rc<Scope<Value>>) -> Result<Args, Fault> {
        let mut args = Args::of(self.eval_all(&arguments.positional, scope)?);
        for (name, value) in &arguments.named {
            args.named.push((Arc::clone(name), self.eval(value, scope)?));
        }
        if let Some(rest) = &arguments.rest {
            let items = self.eval(rest, scope)?.items(&self.meter)?;
            self.meter.pay(items.len())?;
            args.positional.extend(items.iter().cloned());
        }
        if let Some(rest) = &arguments.named_rest {
            let Value::Dict(dict) = self.eval(rest, scope)? else {
                return Err(Fault::failed("argument after ** must be a mapping"));
            };
            self.meter.pay(dict.map.len())?;
            for (key, value) in &dict.map {
                let name = self.text(&key.0)?;
                self.meter.pay_copy(name.len())?;
                args.named.push((Arc::from(&*name), value.clone()));
            }
        }
        Ok(args)
    }

    /// `value.name`: a method, or else an item.
    pub fn attribute(&self, value: &Value, name: &Arc<str>) -> Outcome {
        if has_method(value, name) {
            return Value::object(&self.meter, Object::Method(value.clone(), Arc::clone(name)));
        }
        let missing = || Ok(Value::Undefined(Arc::clone(name)));
        match value {
            Value::Undefined(name) => Err(Fault::undefined(name)),
            Value::Dict(dict) => dict.get(name).cloned().map_or_else(missing, Ok),
            Value::List(list) => match (&list.kind, &**name) {
                (ListKind::Group, "grouper") => Ok(list.items[0].clone()),
                (ListKind::Group, "list") => Ok(list.items[1].clone()),
                (ListKind::Range([start, _, _]), "start") => Ok(Value::Int(*start)),
                (ListKind::Range([_, stop, _]), "stop") => Ok(Value::Int(*stop)),
                (ListKind::Range([_, _, step]), "step") => Ok(Value::Int(*step)),
                _ => missing(),
            },
            Value::Object(object) => match &***object {
                Object::Namespace(attributes, _) => {
                    attributes.borrow().get(name).cloned().map_or_else(missing, Ok)
                }
                Object::Loop(state) => loop_attribute(state, name).map_or_else(missing, Ok),
                Object::Macro(it, _) if **name == *"name" => Value::text(&self.meter, &it.name),
                Object::Macro(it, _) if **name == *"arguments" => {
                    let names = it.parameters.iter().map(|(name, _)| Value::text(&self.meter, name));
                    Value::tuple(&self.meter, names.collect::<Result<_, _>>()?)
                }
                Object::Cycler(items, place) if **name == *"current" => Ok(items[place.get()].clone()),
                _ => missing(),
            },
            _ => missing(),
        }
    }

    /// `value[key]`: an item, or else an attribute.
    pub fn item(&self, value: &Value, key: &Value) -> Outcome {
        self.meter.pay(1)?;
        let found = match (value, key) {
            (Value::Undefined(name), _) => return Err(Fault::undefined(name)),
            (Value::Dict(dict), key) => match Key::new(key, &self.meter) {
                Ok(key) => dict.map.get(&key).cloned(),
                Err(Fault::Endless) => return Err(Fault::Endless),
                Err(_) => None,
            },
            (Value::List(list), key) if is_indexed(list) => {
                key.as_int().and_then(|at| place(at, list.items.len())).map(|at| list.items[at].clone())
            }
            (Value::Text(text), key) => match key.as_int() {
                None => None,
                Some(at) => {
                    let n = text.n_chars(&self.meter)?;
                    match place(at, n) {
                        None => None,
                        Some(at) => {
                            self.meter.pay_scan(if text.is_ascii() { 0 } else { at })?;
                            let start = strings::byte_at(text, at);
                            let width = text[start..].chars().next().map_or(0, char::len_utf8);
                            Some(Value::Text(text.part(&self.meter, start..start + width)?))
                        }
                    }
                }
            },
            _ => None,
        };
        match (found, key) {
            (Some(found), _) => Ok(found),
            // No attribute has a longer name.
            (None, Value::Text(name)) if name.len() > 64 => Ok(Value::no_item()),
            (None, Value::Text(name)) if !matches!(value, Value::Dict(_)) || has_method(value, name) => {
                self.attribute(value, &Arc::from(&**name))
            }
            _ => Ok(Value::no_item()),
        }
    }

    /// Calls a value.
    pub fn call(&self, callee: &Value, args: Args) -> Outcome {
        self.meter.pay(1)?;
        let not_callable = || Err(Fault::failed(format!("'{}' object is not callable", callee.type_name())));
        match callee {
            Value::Undefined(name) => Err(Fault::undefined(name)),
            Value::Object(object) => match &***object {
                Object::Macro(it, scope) => self.deeper(|| self.call_macro(it, scope, args)),
                Object::Function(function) => functions::call(self, *function, args),
                Object::Method(receiver, name) => self.call_method(receiver, name, args),
                Object::Loop(state) => self.call_loop(state, &args),
                Object::Joiner(separator, used) => {
                    if used.replace(true) {
                        Ok(separator.clone())
                    } else {
                        Value::text(&self.meter, "")
                    }
                }
                Object::Namespace(..) | Object::Cycler(..) => not_callable(),
            },
            _ => not_callable(),
        }
    }

    fn call_method(&self, receiver: &Value, name: &str, args: Args) -> Outcome {
        let meter = &self.meter;
        match receiver {
            Value::Text(text) => match name {
                "format" => format::braces(self, text, &args.positional, &args.named),
                "format_map" => {
                    let Value::Dict(dict) = args.require(0, "mapping")? else {
                        return Err(Fault::failed("format_map expects a mapping"));
                    };
                    let named = dict.map.iter().map(|(key, value)| {
                        let name = self.text(&key.0)?;
                        meter.pay_scan(name.len())?;
                        Ok((Arc::from(&*name), value.clone()))
                    });
                    format::braces(self, text, &[], &named.collect::<Result<Vec<_>, Fault>>()?)
                }
                "join" => {
                    let items = args.require(0, "iterable")?.items(meter)?;
                    let mut out = Writer::new(meter)?;
                    for (at, item) in items.iter().enumerate() {
                        let Value::Text(item) = item else {
                            let found = item.type_name();
                            return Err(Fault::failed(format!("join: item {at} is no text, but {found}")));
                        };
                        if at > 0 {
                            out.push_text(text)?;
                        }
                        meter.pay(1)?;
                        out.push_text(item)?;
                    }
                    Ok(Value::Text(out.finish()))
                }
                _ => strings::call(meter, text, name, &args)?
                    .ok_or_else(|| Fault::failed(format!("str.{name} is not supported"))),
            },
            Value::Dict(dict) => self.call_dict_method(dict, name, &args),
            Value::List(list) => self.call_list_method(list, name, &args),
            Value::Object(object) => match (&***object, name) {
                (Object::Loop(state), "cycle") => match args.positional.len() {
                    0 => Err(Fault::failed("no items for cycling given")),
                    n => Ok(args.positional[state.index.get() % n].clone()),
                },
                (Object::Loop(state), _) => {
                    let mut last = state.changed.borrow_mut();
                    if let Some(last) = &*last
                        && last.len() == args.positional.len()
                    {
                        let mut same = true;
                        for (a, b) in last.iter().zip(&args.positional) {
                            same &= a.equals(b, meter)?;
                        }
                        if same {
                            return Ok(Value::Bool(false));
                        }
                    }
                    *last = Some(args.positional);
                    Ok(Value::Bool(true))
                }
                (Object::Cycler(items, at), "next") => {
                    let now = at.get();
                    at.set((now + 1) % items.len());
                    Ok(items[now].clone())
                }
                (Object::Cycler(_, at), _) => {
                    at.set(0);
                    Ok(Value::None)
                }
                _ => Err(Fault::failed(format!("there is no method {name}"))),
            },
            other => Err(Fault::failed(format!("'{}' has no method {name}", other.type_name()))),
        }
    }

    fn call_dict_method(&self, dict: &Rc<Dict>, name: &str, args: &Args) -> Outcome {
        let meter = &self.meter;
        meter.pay(1)?;
        match name {
            "get" => {
                let key = Key::new(args.require(0, "key")?, meter)?;
                let default = || args.get(1, "default").cloned().unwrap_or(Value::None);
                Ok(dict.map.get(&key).cloned().unwrap_or_else(default))
            }
            "keys" => {
                meter.pay(dict.map.len())?;
                let keys = dict.map.keys().map(|key| key.0.clone()).collect();
                Value::sequence(meter, ListKind::View("dict_keys"), keys)
            }
            "values" => {
                meter.pay(dict.map.len())?;
                Value::sequence(meter, ListKind::View("dict_values"), dict.map.values().cloned().collect())
            }
            "items" => Value::sequence(meter, ListKind::View("dict_items"), self.pairs(dict)?),
            "copy" => Ok(Value::Dict(Rc::clone(dict))),
            _ => Err(Fault::failed(format!("access to attribute '{name}' of 'dict' object is unsafe."))),
        }
    }

    /// The entries of a dict as tuples.
    pub fn pairs(&self, dict: &Dict) -> Result<Vec<Value>, Fault> {
        let pair =
            |(key, value): (&Key, &Value)| Value::tuple(&self.meter, vec![key.0.clone(), value.clone()]);
        dict.map.iter().map(pair).collect()
    }

    fn call_list_method(&self, list: &Rc<List>, name: &str, args: &Args) -> Outcome {
        match name {
            "copy" => Ok(Value::List(Rc::clone(list))),
            "index" | "count" => {
                let wanted = args.require(0, "value")?;
                let mut n = 0;
                for (at, item) in list.items.iter().enumerate() {
                    if item.equals(wanted, &self.meter)? {
                        if name == "index" {
                            return Ok(Value::Int(at as i128));
                        }
                        n += 1;
                    }
                }
                if name == "index" {
                    Err(Fault::failed("the value is not in the list"))
                } else {
                    Ok(Value::Int(n))
                }
            }
            _ => Err(Fault::failed(format!("access to attribute '{name}' of 'list' object is unsafe."))),
        }
    }
}

fn is_indexed(list: &List) -> bool {
    !matches!(list.kind, ListKind::Generator(_) | ListKind::View(_))
}

/// The item that an index names, counting from the end if it is negative.
fn place(at: i128, n: usize) -> Option<usize> {
    let at = if at < 0 { at.checked_add(n as i128)? } else { at };
    usize::try_from(at).ok().filter(|&at| at < n)
}

/// Whether a value has a method of this name, including those that would change it, which are refused.
fn has_method(value: &Value, name: &str) -> bool {
    match value {
        Value::Text(_) => strings::NAMES.contains(&name),
        Value::Dict(_) => matches!(
            name,
            "get"
                | "keys"
                | "values"
                | "items"
                | "copy"
                | "pop"
                | "popitem"
                | "update"
                | "clear"
                | "setdefault"
        ),
        Value::List(list) => match list.kind {
            ListKind::List => matches!(
                name,
                "index"
                    | "count"
                    | "copy"
                    | "append"
                    | "extend"
                    | "insert"
                    | "pop"
                    | "remove"
                    | "reverse"
                    | "sort"
                    | "clear"
            ),
            ListKind::Tuple | ListKind::Group | ListKind::Range(_) => matches!(name, "index" | "count"),
            ListKind::View(_) | ListKind::Generator(_) => false,
        },
        Value::Object(object) => matches!(
            (&***object, name),
            (Object::Loop(_), "cycle" | "changed") | (Object::Cycler(..), "next" | "reset")
        ),
        _ => false,
    }
}

fn loop_attribute(state: &Loop, name: &str) -> Option<Value> {
    let (index, n) = (state.index.get(), state.items.len());
    let int = |n: usize| Some(Value::Int(n as i128));
    match name {
        "index" => int(index + 1),
        "index0" => int(index),
        "revindex" => int(n - index),
        "revindex0" => int(n - index - 1),
        "first" => Some(Value::Bool(index == 0)),
        "last" => Some(Value::Bool(index + 1 == n)),
        "length" => int(n),
        "depth" => int(state.depth + 1),
        "depth0" => int(state.depth),
        "previtem" => index.checked_sub(1).map(|before| state.items[before].clone()),
        "nextitem" => state.items.get(index + 1).cloned(),
        _ => None,
    }
}
