//! JSON by a schema.

mod prepare;

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use super::guided::Guided;
use super::{Constraint, ConstraintError, Grammars, TokenMask};

/// White space between the parts of a text: a space, or a line break and the indentation behind it. Models left to themselves write
/// spaces without end.
const WHITE_SPACE: &str = r"\x20|\r?\n[\x20\t]{0,40}";

/// Allows JSON that a schema describes.
///
/// Members of objects come in the order of `properties`, and others behind them. A schema is followed to the letter or refused: what
/// comes out is valid, unless it is cut.
///
/// ```
/// use bise::Engine;
/// use bise::constraint::{Constraint, ConstraintError, Grammars, JsonSchema, TokenMask};
/// use serde_json::json;
///
/// # #[cfg(feature = "builtin-model")] {
/// let engine = Engine::builtin()?; // or Engine::open("mistral-7b.Q4_K_M.gguf")?
/// let grammars = Grammars::new(engine.tokenizer());
/// let mut answer = JsonSchema::new(&grammars, &json!({"type": "object", "required": ["sure"], "properties": {"sure": {"type": "boolean"}}}))?;
/// let mut allowed = TokenMask::new(engine.tokenizer().n_vocab());
/// answer.mask(&mut allowed);
/// assert!(allowed.contains(engine.tokenizer().id("{").unwrap()));
/// assert!(!allowed.contains(engine.tokenizer().id("[").unwrap()));
///
/// let refused = JsonSchema::new(&grammars, &json!({"type": "array", "uniqueItems": true})).err().unwrap();
/// assert_eq!(refused.to_string(), "the JSON schema has \"uniqueItems\" at #, which is not supported");
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct JsonSchema(Guided);

impl JsonSchema {
    /// A constraint by a schema of draft 2020-12 or before it, as far as its keywords are among those that
    /// `docs/structured-output.md` lists.
    ///
    /// # Errors
    /// [`ConstraintError::Keyword`] for a keyword that would not be obeyed, [`ConstraintError::Schema`] for a schema that is none, that
    /// no value satisfies, or that asks for too much time or memory.
    pub fn new(grammars: &Grammars, schema: &Value) -> Result<Self, ConstraintError> {
        grammars.guided(TopLevelGrammar::from_json_schema(grammar(schema)?)).map(Self)
    }

    /// A constraint that allows any object.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`].
    pub fn any_object(grammars: &Grammars) -> Result<Self, ConstraintError> {
        Self::new(grammars, &json!({"type": "object"}))
    }
}

/// A schema as llguidance takes it, with our rules for white space.
pub(super) fn grammar(schema: &Value) -> Result<Value, ConstraintError> {
    with_white_space(prepare::schema(schema, false)?)
}

/// [`grammar`] without the keywords that would not be obeyed.
pub(super) fn lenient_grammar(schema: &Value) -> Result<Value, ConstraintError> {
    with_white_space(prepare::schema(schema, true)?)
}

fn with_white_space(schema: Value) -> Result<Value, ConstraintError> {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        Value::Bool(false) => return Err(prepare::unsatisfiable()),
        schema => schema,
    };
    schema["x-guidance"] = json!({"whitespace_pattern": WHITE_SPACE});
    Ok(schema)
}

impl Constraint for JsonSchema {
    fn mask(&mut self, allowed: &mut TokenMask) {
        self.0.mask(allowed);
    }

    fn accept(&mut self, token: u32) {
        self.0.accept(token);
    }

    fn can_end(&self) -> bool {
        self.0.can_end()
    }

    fn fault(&self) -> Option<&str> {
        self.0.fault()
    }
}
