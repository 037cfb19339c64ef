//! What a run was asked to do, as far as its result depends on it.

use std::path::Path;

use serde_json::{Map, Value};

use super::error::TrainError;

/// Names (of flags, most often) and values, as they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(Vec<(&'static str, String)>);

impl Settings {
    /// Adds one.
    pub fn set(&mut self, name: &'static str, value: impl ToString) {
        self.0.push((name, value.to_string()));
    }

    /// Errs where `saved` has another value of one.
    pub(super) fn check(&self, saved: &Map<String, Value>, path: &Path) -> Result<(), TrainError> {
        for (name, value) in &self.0 {
            let before = saved.get(*name).and_then(Value::as_str).unwrap_or("nothing");
            if before != value {
                return Err(TrainError::OtherRun {
                    path: path.to_owned(),
                    what: (*name).to_owned(),
                    found: value.clone(),
                    expected: before.to_owned(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn to_json(&self) -> Value {
        let pairs = self.0.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str())));
        pairs.collect::<Map<_, _>>().into()
    }
}
