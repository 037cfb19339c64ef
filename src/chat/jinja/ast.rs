//! A template as a tree. What templates write in rows (operators, filters, attributes) is kept in rows, so that the
//! tree is only as deep as brackets and blocks nest, which the parser bounds.

use std::sync::Arc;

/// A statement and its line, from 1.
#[derive(Debug)]
pub(super) struct Node {
    pub line: u32,
    pub statement: Statement,
}

pub(super) type Body = Vec<Node>;

#[derive(Debug)]
pub(super) enum Statement {
    Data(Arc<str>),
    Print(Expr),
    If {
        branches: Vec<(Expr, Body)>,
        otherwise: Body,
    },
    For(Arc<For>),
    Set(Target, Expr),
    SetBlock {
        target: Target,
        filters: Vec<Postfix>,
        body: Body,
    },
    With {
        bindings: Vec<(Target, Expr)>,
        body: Body,
    },
    Macro(Arc<Macro>),
    /// `{% call(args) f(x) %}…{% endcall %}`: the body is a macro called `caller`.
    Call {
        caller: Arc<Macro>,
        call: Expr,
    },
    Filter {
        filters: Vec<Postfix>,
        body: Body,
    },
    /// A tag that only runs its body: `block`, `autoescape`, `generation`.
    Block(Body),
    Break,
    Continue,
    /// A tag that needs other templates; an error when it is reached.
    Unsupported(String),
}

#[derive(Debug)]
pub(super) struct For {
    pub target: Target,
    pub iterable: Expr,
    pub condition: Option<Expr>,
    pub body: Body,
    pub otherwise: Body,
    pub recursive: bool,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub name: Arc<str>,
    pub parameters: Vec<(Arc<str>, Option<Expr>)>,
    pub body: Body,
    /// Whether the body uses `varargs`, `kwargs` and `caller`; other macros refuse such arguments.
    pub takes: Takes,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Takes {
    pub varargs: bool,
    pub kwargs: bool,
    pub caller: bool,
}

#[derive(Debug)]
pub(super) enum Target {
    Name(Arc<str>),
    /// `ns.attribute`.
    Attribute(Arc<str>, Arc<str>),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Arc<str>),
    Name(Arc<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// `a if test else b`.
    Condition(Box<(Expr, Expr, Option<Expr>)>),
    Or(Vec<Expr>),
    And(Vec<Expr>),
    Not(Box<Expr>),
    /// `a < b <= c`.
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    Concat(Vec<Expr>),
    /// Operators of one precedence, from the left.
    Arithmetic(Box<Expr>, Vec<(Arithmetic, Expr)>),
    /// Whether an odd number of minus signs precede the operand.
    Sign(bool, Box<Expr>),
    Postfix(Box<Expr>, Vec<Postfix>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

/// A postfix operation on a value.
#[derive(Debug)]
pub(super) enum Postfix {
    Attribute(Arc<str>),
    Item(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Arguments),
    Filter(Arc<str>, Arguments),
    Test { name: Arc<str>, arguments: Arguments, negated: bool },
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub positional: Vec<Expr>,
    pub named: Vec<(Arc<str>, Expr)>,
    /// `*list`.
    pub rest: Option<Box<Expr>>,
    /// `**dict`.
    pub named_rest: Option<Box<Expr>>,
}
