//! What a grammar consists of.

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    pub name: String,
    pub body: Expression,
}

/// A text, or several that stand for each other.
#[derive(Clone, Debug)]
pub enum Expression {
    Bytes(Vec<u8>),
    /// One character of these ranges of code points, both ends included.
    Characters(Vec<(u32, u32)>),
    /// The rule of this number.
    Rule(usize),
    /// One token, or any text token but this.
    Token {
        id: u32,
        is_negated: bool,
    },
    Sequence(Vec<Expression>),
    AnyOf(Vec<Expression>),
    Repeat {
        item: Box<Expression>,
        min: u32,
        max: Option<u32>,
    },
}

impl Expression {
    pub fn any_of(mut alternatives: Vec<Expression>) -> Self {
        if alternatives.len() == 1 { alternatives.remove(0) } else { Self::AnyOf(alternatives) }
    }

    /// Calls `each` with every rule that is referred to.
    pub fn each_rule(&self, each: &mut dyn FnMut(usize)) {
        match self {
            Self::Bytes(_) | Self::Characters(_) | Self::Token { .. } => {}
            Self::Rule(rule) => each(*rule),
            Self::Sequence(items) | Self::AnyOf(items) => items.iter().for_each(|item| item.each_rule(each)),
            Self::Repeat { item, .. } => item.each_rule(each),
        }
    }

    fn can_be_empty(&self, rules: &[bool]) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Characters(_) | Self::Token { .. } => false,
            Self::Rule(rule) => rules[*rule],
            Self::Sequence(items) => items.iter().all(|item| item.can_be_empty(rules)),
            Self::AnyOf(items) => items.iter().any(|item| item.can_be_empty(rules)),
            Self::Repeat { item, min, .. } => *min == 0 || item.can_be_empty(rules),
        }
    }

    /// Calls `each` with every rule that it can begin with.
    fn each_first(&self, empty: &[bool], each: &mut dyn FnMut(usize)) {
        match self {
            Self::Bytes(_) | Self::Characters(_) | Self::Token { .. } => {}
            Self::Rule(rule) => each(*rule),
            Self::Sequence(items) => {
                for item in items {
                    item.each_first(empty, each);
                    if !item.can_be_empty(empty) {
                        break;
                    }
                }
            }
            Self::AnyOf(items) => items.iter().for_each(|item| item.each_first(empty, each)),
            Self::Repeat { item, .. } => item.each_first(empty, each),
        }
    }
}

/// A rule that can begin with itself.
pub fn left_recursive(rules: &[Rule]) -> Option<usize> {
    let mut empty = vec![false; rules.len()];
    let mut changed = true;
    while changed {
        changed = false;
        // Rules mostly refer to those behind them.
        for (i, rule) in rules.iter().enumerate().rev() {
            if !empty[i] && rule.body.can_be_empty(&empty) {
                empty[i] = true;
                changed = true;
            }
        }
    }
    let first = |rule: usize| {
        let mut first = Vec::new();
        rules[rule].body.each_first(&empty, &mut |rule| first.push(rule));
        first
    };
    let graph: Vec<Vec<usize>> = (0..rules.len()).map(first).collect();
    on_cycles(&graph).into_iter().position(|is_on| is_on)
}

/// Which rules can come up inside themselves.
pub fn recursive(rules: &[Rule]) -> Vec<bool> {
    let named = |rule: &Rule| {
        let mut named = Vec::new();
        rule.body.each_rule(&mut |rule| named.push(rule));
        named
    };
    on_cycles(&rules.iter().map(named).collect::<Vec<_>>())
}

/// Which nodes of a graph lie on a cycle: those in a strongly connected component with an edge in it (Tarjan's algorithm, without
/// recursion, as the graph may be a long chain).
fn on_cycles(graph: &[Vec<usize>]) -> Vec<bool> {
    const NEW: usize = usize::MAX;
    let n = graph.len();
    let (mut index, mut low) = (vec![NEW; n], vec![0; n]);
    let (mut on_stack, mut is_on) = (vec![false; n], vec![false; n]);
    let mut stack = Vec::new();
    let mut n_seen = 0;
    for root in 0..n {
        if index[root] != NEW {
            continue;
        }
        let mut path: Vec<(usize, usize)> = vec![(root, 0)];
        while let Some(&mut (node, ref mut edge)) = path.last_mut() {
            if *edge == 0 {
                index[node] = n_seen;
                low[node] = n_seen;
                n_seen += 1;
                stack.push(node);
                on_stack[node] = true;
            }
            if let Some(&next) = graph[node].get(*edge) {
                *edge += 1;
                if index[next] == NEW {
                    path.push((next, 0));
                } else if on_stack[next] {
                    low[node] = low[node].min(index[next]);
                }
                continue;
            }
            path.pop();
            if let Some(&(parent, _)) = path.last() {
                low[parent] = low[parent].min(low[node]);
            }
            if low[node] == index[node] {
                let start = stack.iter().rposition(|other| *other == node).unwrap_or(0);
                let component = stack.split_off(start);
                let has_cycle = component.len() > 1 || graph[node].contains(&node);
                for member in component {
                    on_stack[member] = false;
                    is_on[member] = has_cycle;
                }
            }
        }
    }
    is_on
}
