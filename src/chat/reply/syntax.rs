//! How a model spells its calls.

use crate::chat::ChatTemplate;

/// How calls of tools are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolSyntax {
    /// `[TOOL_CALLS][{"name": "f", "arguments": {…}, "id": "…"}, …]`: Mistral's templates v3 and v7.
    List,
    /// `[TOOL_CALLS]f[CALL_ID]…[ARGS]{…}[TOOL_CALLS]…`: v11.
    Named {
        /// Whether `[CALL_ID]` and the id are written; v13 leaves them out.
        ids: bool,
    },
}

impl ToolSyntax {
    /// The spelling that a template shows the model; `None` if it has no calls in Mistral's spellings.
    pub fn of(template: &ChatTemplate) -> Option<Self> {
        let source = template.source();
        if !source.contains("[TOOL_CALLS]") {
            None
        } else if source.contains("[ARGS]") {
            Some(Self::Named { ids: source.contains("[CALL_ID]") })
        } else {
            Some(Self::List)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_show_how_calls_are_written() {
        let of = |name| ToolSyntax::of(&ChatTemplate::by_name(name).unwrap());
        for (name, syntax) in [
            ("mistral-v1", None),
            ("mistral-v3", Some(ToolSyntax::List)),
            ("mistral-v3-tekken", Some(ToolSyntax::List)),
            ("mistral-v7", Some(ToolSyntax::List)),
            ("mistral-v11-tekken", Some(ToolSyntax::Named { ids: true })),
            ("mistral-v13-tekken", Some(ToolSyntax::Named { ids: false })),
            ("chatml", None),
        ] {
            assert_eq!(of(name), syntax, "{name}");
        }
    }
}
