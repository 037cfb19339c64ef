//! Running a template: its statements.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::arguments::Args;
use super::ast::{Body, For, Macro, Node, Postfix, Statement, Target};
use super::fault::Fault;
use super::meter::Meter;
use super::print::{to_text, write_str};
use super::scope::Scope;
use super::stack::Stack;
use super::text::{Text, Writer};
use super::value::{Function, Items, Loop, Object, Outcome, Value};

/// The deepest nesting of expressions, tags and macro calls, where levels are so small that the [`Stack`] has room for them.
const MAX_DEPTH: usize = 400;

/// A template that is being rendered.
#[derive(Debug)]
pub(super) struct Interpreter {
    pub meter: Rc<Meter>,
    depth: Cell<usize>,
    stack: Stack,
    /// The line of the current statement.
    line: Cell<u32>,
    /// What may form reference cycles and is cleared at the end: namespaces, and scopes captured by macros.
    cyclic: RefCell<Cyclic>,
}

#[derive(Debug, Default)]
struct Cyclic {
    scopes: Vec<Rc<Scope<Value>>>,
    namespaces: Vec<Value>,
}

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Normal,
    Break,
    Continue,
}

impl Interpreter {
    pub fn new(meter: Rc<Meter>) -> Self {
        Self {
            meter,
            depth: Cell::new(0),
            stack: Stack::here(),
            line: Cell::new(0),
            cyclic: RefCell::default(),
        }
    }

    /// The line of the current statement, from 1.
    pub fn line(&self) -> usize {
        self.line.get() as usize
    }

    /// Renders a template with `variables` and returns its output.
    pub fn run(&self, body: &Body, variables: Vec<(&str, Value)>) -> Result<Text, Fault> {
        let root = Scope::new(&self.meter, None)?;
        for (name, function) in [
            ("range", Function::Range),
            ("dict", Function::Dict),
            ("namespace", Function::Namespace),
            ("joiner", Function::Joiner),
            ("cycler", Function::Cycler),
            ("lipsum", Function::Lipsum),
            ("raise_exception", Function::RaiseException),
            ("strftime_now", Function::StrftimeNow),
        ] {
            let function = Value::object(&self.meter, Object::Function(function))?;
            root.set(&name.into(), function, &self.meter)?;
        }
        for (name, value) in variables {
            root.set(&name.into(), value, &self.meter)?;
        }
        let scope = Scope::new(&self.meter, Some(&root))?;
        let mut out = Writer::new(&self.meter)?;
        self.run_body(body, &scope, &mut out)?;
        Ok(out.finish())
    }

    /// Runs `work` one level deeper, up to [`MAX_DEPTH`].
    pub fn deeper<T>(&self, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
        let depth = self.depth.get() + 1;
        if depth > MAX_DEPTH || !self.stack.has_room() {
            return Err(Fault::failed("macros or expressions call each other too deep"));
        }
        self.depth.set(depth);
        let done = work();
        self.depth.set(depth - 1);
        done
    }

    fn run_body(&self, body: &Body, scope: &Rc<Scope<Value>>, out: &mut Writer) -> Result<Flow, Fault> {
        self.deeper(|| {
            for node in body {
                let flow = self.run_node(node, scope, out)?;
                if flow != Flow::Normal {
                    return Ok(flow);
                }
            }
            Ok(Flow::Normal)
        })
    }

    fn run_node(&self, node: &Node, scope: &Rc<Scope<Value>>, out: &mut Writer) -> Result<Flow, Fault> {
        self.meter.pay(1)?;
        self.line.set(node.line);
        match &node.statement {
            Statement::Data(text) => out.push_str(text, false)?,
            Statement::Print(value) => write_str(out, &self.eval(value, scope)?)?,
            Statement::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.eval(condition, scope)?.is_true() {
                        return self.run_body(body, scope, out);
                    }
                }
                return self.run_body(otherwise, scope, out);
            }
            Statement::For(it) => {
                let iterable = self.eval(&it.iterable, scope)?;
                self.run_for(it, scope, &iterable, 0, out)?;
            }
            Statement::Set(target, value) => {
                let value = self.eval(value, scope)?;
                self.assign(target, value, scope)?;
            }
            Statement::SetBlock { target, filters, body } => {
                let inner = Scope::new(&self.meter, Some(scope))?;
                let value = self.captured(body, &inner, filters)?;
                self.assign(target, value, scope)?;
            }
            Statement::With { bindings, body } => {
                let inner = Scope::new(&self.meter, Some(scope))?;
                for (target, value) in bindings {
                    let value = self.eval(value, scope)?;
                    self.assign(target, value, &inner)?;
                }
                return self.run_body(body, &inner, out);
            }
            Statement::Macro(it) => {
                let value = self.closure(it, scope)?;
                scope.set(&it.name, value, &self.meter)?;
            }
            Statement::Call { caller, call } => {
                let caller = self.closure(caller, scope)?;
                write_str(out, &self.eval_call_block(call, caller, scope)?)?;
            }
            Statement::Filter { filters, body } => {
                let inner = Scope::new(&self.meter, Some(scope))?;
                write_str(out, &self.captured(body, &inner, filters)?)?;
            }
            Statement::Block(body) => {
                let inner = Scope::new(&self.meter, Some(scope))?;
                return self.run_body(body, &inner, out);
            }
            Statement::Break => return Ok(Flow::Break),
            Statement::Continue => return Ok(Flow::Continue),
            Statement::Unsupported(tag) => {
                return Err(Fault::failed(format!("{tag}: a chat template has no other templates")));
            }
        }
        Ok(Flow::Normal)
    }

    /// The output of a body, filtered.
    fn captured(&self, body: &Body, scope: &Rc<Scope<Value>>, filters: &[Postfix]) -> Outcome {
        let mut inner = Writer::new(&self.meter)?;
        self.run_body(body, scope, &mut inner)?;
        self.apply_row(Value::Text(inner.finish()), filters, scope)
    }

    fn closure(&self, it: &Arc<Macro>, scope: &Rc<Scope<Value>>) -> Outcome {
        let mut cyclic = self.cyclic.borrow_mut();
        if !cyclic.scopes.last().is_some_and(|last| Rc::ptr_eq(last, scope)) {
            cyclic.scopes.push(Rc::clone(scope));
        }
        Value::object(&self.meter, Object::Macro(Arc::clone(it), Rc::clone(scope)))
    }

    /// A namespace, which is cleared at the end since it may contain itself.
    pub fn namespace(&self, attributes: Vec<(Arc<str>, Value)>) -> Outcome {
        self.meter.pay(1 + attributes.len())?;
        let charge = RefCell::new(self.meter.hold(256 * (1 + attributes.len()))?);
        let attributes = RefCell::new(attributes.into_iter().collect());
        let value = Value::object(&self.meter, Object::Namespace(attributes, charge))?;
        self.cyclic.borrow_mut().namespaces.push(value.clone());
        Ok(value)
    }

    /// Assigns to names, attributes of namespaces, or tuples of such.
    fn assign(&self, target: &Target, value: Value, scope: &Rc<Scope<Value>>) -> Result<(), Fault> {
        match target {
            Target::Name(name) => scope.set(name, value, &self.meter),
            Target::Attribute(name, attribute) => {
                let namespace = scope.get(name, &self.meter)?;
                let Some(Value::Object(object)) = namespace else { return Err(not_a_namespace()) };
                let Object::Namespace(attributes, charge) = &**object.as_ref() else {
                    return Err(not_a_namespace());
                };
                let known = attributes.borrow().contains_key(attribute);
                if !known {
                    charge.borrow_mut().grow(256)?;
                }
                let old = attributes.borrow_mut().insert(Arc::clone(attribute), value);
                drop(old);
                Ok(())
            }
            Target::Tuple(targets) => {
                let items = value.items(&self.meter)?;
                if items.len() != targets.len() {
                    let (n, expected) = (items.len(), targets.len());
                    return Err(Fault::failed(format!("found {n} values to unpack, expected {expected}")));
                }
                for (target, item) in targets.iter().zip(items.iter()) {
                    self.assign(target, item.clone(), scope)?;
                }
                Ok(())
            }
        }
    }

    fn run_for(
        &self,
        it: &Arc<For>,
        scope: &Rc<Scope<Value>>,
        iterable: &Value,
        depth: usize,
        out: &mut Writer,
    ) -> Result<(), Fault> {
        let mut items = iterable.items(&self.meter)?;
        if let Some(condition) = &it.condition {
            let mut chosen = Vec::new();
            for item in items.iter() {
                self.meter.pay(1)?;
                let inner = Scope::new(&self.meter, Some(scope))?;
                self.assign(&it.target, item.clone(), &inner)?;
                if self.eval(condition, &inner)?.is_true() {
                    chosen.push(item.clone());
                }
            }
            let Value::List(list) = Value::list(&self.meter, chosen)? else { return Ok(()) };
            items = Items::List(list);
        }
        if items.is_empty() {
            self.run_body(&it.otherwise, scope, out)?;
            return Ok(());
        }
        let recursion = it.recursive.then(|| (Arc::clone(it), Rc::clone(scope)));
        let state =
            Loop { items: items.clone(), index: Cell::new(0), depth, changed: RefCell::new(None), recursion };
        let state = Value::object(&self.meter, Object::Loop(state))?;
        let loop_name: Arc<str> = "loop".into();
        for (index, item) in items.iter().enumerate() {
            self.meter.pay(1)?;
            if let Value::Object(object) = &state
                && let Object::Loop(state) = &***object
            {
                state.index.set(index);
            }
            let inner = Scope::new(&self.meter, Some(scope))?;
            inner.set(&loop_name, state.clone(), &self.meter)?;
            self.assign(&it.target, item.clone(), &inner)?;
            if self.run_body(&it.body, &inner, out)? == Flow::Break {
                break;
            }
        }
        Ok(())
    }

    /// `loop(items)`: the body of a recursive loop for other items.
    pub fn call_loop(&self, state: &Loop, args: &Args) -> Outcome {
        let Some((it, scope)) = &state.recursion else {
            return Err(Fault::failed("the loop must be marked 'recursive' to be called"));
        };
        let mut out = Writer::new(&self.meter)?;
        let items = args.require(0, "iterable")?;
        self.deeper(|| self.run_for(it, scope, items, state.depth + 1, &mut out))?;
        Ok(Value::Text(out.finish()))
    }

    /// Calls a macro, and returns the output of its body.
    pub fn call_macro(&self, it: &Macro, scope: &Rc<Scope<Value>>, args: Args) -> Outcome {
        let inner = Scope::new(&self.meter, Some(scope))?;
        let Args { positional, mut named } = args;
        let mut positional = positional.into_iter();
        for (name, default) in &it.parameters {
            let by_name = named.iter().position(|(known, _)| known == name);
            let value = match (positional.next(), by_name) {
                (Some(value), None) => value,
                (None, Some(at)) => named.swap_remove(at).1,
                (Some(_), Some(_)) => {
                    return Err(Fault::failed(format!("macro '{}' got two values for '{name}'", it.name)));
                }
                (None, None) => match default {
                    Some(default) => self.eval(default, &inner)?,
                    None => Value::Undefined(Arc::clone(name)),
                },
            };
            inner.set(name, value, &self.meter)?;
        }
        let rest: Vec<Value> = positional.collect();
        if it.takes.varargs {
            inner.set(&"varargs".into(), Value::tuple(&self.meter, rest)?, &self.meter)?;
        } else if !rest.is_empty() {
            let n = it.parameters.len();
            return Err(Fault::failed(format!("macro '{}' takes not more than {n} argument(s)", it.name)));
        }
        if it.takes.caller {
            let caller = named.iter().position(|(name, _)| **name == *"caller");
            let caller = match caller {
                Some(at) => named.swap_remove(at).1,
                None => Value::Undefined("No caller defined".into()),
            };
            inner.set(&"caller".into(), caller, &self.meter)?;
        }
        if it.takes.kwargs {
            let mut kwargs = indexmap::IndexMap::new();
            for (name, value) in named {
                let key = super::value::Key::new(&Value::text(&self.meter, &name)?, &self.meter)?;
                kwargs.insert(key, value);
            }
            inner.set(&"kwargs".into(), Value::dict(&self.meter, kwargs)?, &self.meter)?;
        } else if let Some((name, _)) = named.first() {
            return Err(Fault::failed(format!("macro '{}' takes no keyword argument '{name}'", it.name)));
        }
        let line = self.line.get();
        let mut out = Writer::new(&self.meter)?;
        self.run_body(&it.body, &inner, &mut out)?;
        self.line.set(line);
        Ok(Value::Text(out.finish()))
    }

    /// `str(value)`.
    pub fn text(&self, value: &Value) -> Result<Text, Fault> {
        to_text(value, &self.meter)
    }
}

fn not_a_namespace() -> Fault {
    Fault::failed("cannot assign attribute on non-namespace object")
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        let Cyclic { scopes, namespaces } = self.cyclic.take();
        // All stay alive until each is empty: one may hold the next, and so on.
        for scope in &scopes {
            scope.clear();
        }
        for namespace in &namespaces {
            if let Value::Object(object) = namespace
                && let Object::Namespace(attributes, _) = &***object
            {
                drop(attributes.take());
            }
        }
    }
}
