//! Expressions that name modules: keys of `rank_pattern` and `alpha_pattern`, and values of other keys.

use regex_automata::hybrid::regex::{Cache, Regex};
use regex_automata::nfa::thompson;
use regex_automata::util::syntax;

/// The most that an expression may take when it is compiled. Expressions come from a file, and `(x{1000}){1000}` is a short one.
const MAX_BYTES: usize = 1 << 20;

/// An expression for names of modules.
#[derive(Debug)]
pub(super) struct Expression {
    regex: Regex,
    cache: Cache,
}

impl Expression {
    /// One for whole names, as Python's `re.fullmatch` takes it.
    ///
    /// # Errors
    /// Why it is no expression, or none that can be used here.
    pub fn whole(text: &str) -> Result<Expression, String> {
        Expression::new(&format!("^(?:{text})$"))
    }

    /// One for the last words of names.
    ///
    /// # Errors
    /// As [`Expression::whole`].
    pub fn end(text: &str) -> Result<Expression, String> {
        Expression::new(&format!(r"^(?:.*\.)?(?:{text})$"))
    }

    fn new(whole: &str) -> Result<Expression, String> {
        let compiled = Regex::builder()
            .syntax(syntax::Config::new().unicode(false).utf8(false))
            .thompson(thompson::Config::new().utf8(false).nfa_size_limit(Some(MAX_BYTES)))
            .build(whole);
        let regex = compiled.map_err(|error| cause(&error))?;
        Ok(Expression { cache: regex.create_cache(), regex })
    }

    /// Whether a module's name is one of those that it stands for.
    pub fn is_match(&mut self, module: &str) -> bool {
        self.regex.is_match(&mut self.cache, module)
    }
}

/// Expressions in the order of the file, each with a value.
#[derive(Debug)]
pub(super) struct Patterns<T>(Vec<Pattern<T>>);

#[derive(Debug)]
struct Pattern<T> {
    text: String,
    expression: Expression,
    value: T,
    is_used: bool,
}

impl<T: Copy> Patterns<T> {
    /// # Errors
    /// The first text that is no expression, and why not.
    pub fn new(patterns: impl IntoIterator<Item = (String, T)>) -> Result<Patterns<T>, (String, String)> {
        // `get_pattern_key` of PEFT: `re.match(rf"(.*\.)?({key})$", module)`.
        let compile = |(text, value): (String, T)| match Expression::end(&text) {
            Ok(expression) => Ok(Pattern { text, expression, value, is_used: false }),
            Err(why) => Err((text, why)),
        };
        Ok(Patterns(patterns.into_iter().map(compile).collect::<Result<_, _>>()?))
    }

    /// What the first expression says that matches `module`, a name as `model.layers.0.self_attn.q_proj`.
    pub fn find(&mut self, module: &str) -> Option<T> {
        let matches = |pattern: &mut Pattern<T>| pattern.expression.is_match(module);
        let found = self.0.iter_mut().find_map(|pattern| matches(pattern).then_some(pattern))?;
        found.is_used = true;
        Some(found.value)
    }

    /// Expressions that no module has its value from.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|pattern| !pattern.is_used).map(|pattern| pattern.text.as_str())
    }
}

/// The innermost of the errors that led to this one, in one line.
fn cause(error: &dyn std::error::Error) -> String {
    let innermost = std::iter::successors(Some(error), |error| error.source()).last();
    let text = innermost.unwrap_or(error).to_string();
    // A fault of syntax is drawn in several lines, the last of which says what it is.
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the patterns `re.match(rf"(.*\.)?({key})$", module)` finds first in Python 3.11.
    #[test]
    fn the_first_expression_that_fits_the_end_of_a_name_counts() {
        let module = "model.layers.10.self_attn.q_proj";
        for (patterns, expected) in [
            (&["q_proj"][..], Some(0)),
            (&["proj", "q_proj"], Some(1)),
            (&["self_attn.q_proj", "q_proj"], Some(0)),
            (&["layers.0.self_attn.q_proj"], None),
            (&["0.self_attn.q_proj"], None),
            (&["10.self_attn.q_proj"], Some(0)),
            (&["layers.1.\\.self_attn.q_proj"], Some(0)),
            (&[r"model\.layers\.10\.self_attn\.q_proj"], Some(0)),
            (&["^model.layers.10.self_attn.q_proj"], Some(0)),
            (&["^layers.10.self_attn.q_proj"], None),
            (&[r".*\.10\..*"], Some(0)),
            (&["k_proj|q_proj"], Some(0)),
            (&["k_proj|v_proj", r"[qk]_proj$"], Some(1)),
            (&["Q_PROJ"], None),
            (&["(?i:Q_PROJ)"], Some(0)),
            (&[r"\d+\.self_attn\.q_proj"], Some(0)),
            (&["q_proj.lora_A"], None),
            (&[""], None),
            (&[".*"], Some(0)),
        ] {
            let named = patterns.iter().enumerate().map(|(i, text)| ((*text).to_owned(), i));
            assert_eq!(Patterns::new(named).unwrap().find(module), expected, "{patterns:?}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_and_so_is_a_huge_one() {
        for text in ["(", "q_proj(?=x)", r"(a)\1", "((((a{1000}){1000}){1000}){1000})"] {
            let (named, why) = Patterns::new([("q_proj".to_owned(), 1), (text.to_owned(), 2)]).unwrap_err();
            assert_eq!(named, text);
            assert!(!why.is_empty() && !why.contains('\n'), "{why}");
        }
    }

    #[test]
    fn an_expression_that_fits_nothing_is_told() {
        let mut patterns = Patterns::new([("q_proj".to_owned(), 1), ("gate".to_owned(), 2)]).unwrap();
        patterns.find("layers.0.q_proj");
        assert_eq!(patterns.unused().collect::<Vec<_>>(), ["gate"]);
    }
}
