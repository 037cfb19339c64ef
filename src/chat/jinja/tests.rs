use serde_json::json;

use super::*;

fn try_render(source: &str, variables: &serde_json::Value) -> Result<Rendered, String> {
    let template = Template::parse(source).map_err(|error| format!("line {}: {}", error.line, error.message))?;
    let map = variables.as_object().unwrap();
    let variables: Vec<_> = map.iter().map(|(name, value)| (name.as_str(), Variable::Given(value))).collect();
    template.render(&variables).map_err(|stopped| format!("{stopped:?}"))
}

/// `tests/golden/jinja.py` wrote the cases: templates, and what Jinja2 makes of them.
#[test]
fn texts_are_those_of_jinja2() {
    let golden: serde_json::Value =
        serde_json::from_str(include_str!("../../../tests/golden/jinja.json")).unwrap();
    let mut wrong = Vec::new();
    let cases = golden["cases"].as_array().unwrap();
    for case in cases {
        let (source, want) = (case[0].as_str().unwrap(), case[1].as_str());
        let got = try_render(source, &golden["variables"]);
        if got.as_ref().ok().map(|rendered| rendered.text.as_str()) != want {
            wrong.push(format!("{source}\n  want {want:?}\n  got  {:?}", got.map(|rendered| rendered.text)));
        }
    }
    assert!(cases.len() > 2000);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
