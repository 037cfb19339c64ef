use super::*;

fn try_render(source: &str, variables: &serde_json::Value) -> Result<Rendered, String> {
    let template =
        Template::parse(source).map_err(|error| format!("line {}: {}", error.line, error.message))?;
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

/// `tests/golden/jinja_numbers.py` wrote the cases: numbers in JSON, templates, and what Jinja2 makes of them.
#[cfg(feature = "cli")] // with it, serde_json keeps numbers as they are written
#[test]
fn numbers_are_those_of_python() {
    let cases: Vec<(String, String, Option<String>)> =
        serde_json::from_str(include_str!("../../../tests/golden/jinja_numbers.json")).unwrap();
    let mut wrong = Vec::new();
    for (number, source, want) in &cases {
        let variables = serde_json::from_str(&format!("{{\"x\": {number}}}")).unwrap();
        let got = try_render(source, &variables).map(|rendered| rendered.text);
        if got.as_ref().ok() != want.as_ref() {
            wrong.push(format!("{number}: {source}\n  want {want:?}\n  got  {got:?}"));
        }
    }
    assert!(cases.len() > 900);
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    // What is not calculated is refused by name, and so is what Python does not read.
    let long = serde_json::from_str(&format!("{{\"x\": {}}}", "7".repeat(40))).unwrap();
    for source in
        ["{{ x + 1 }}", "{{ 2 * x }}", "{{ x // 3 }}", "{{ x is odd }}", "{{ range(x) }}", "{{ '%x' % x }}"]
    {
        let error = try_render(source, &long).unwrap_err();
        assert!(error.contains("a number of more than 127 bits"), "{source}: {error}");
    }
    let endless = serde_json::from_str(&format!("{{\"x\": {}}}", "7".repeat(4301))).unwrap();
    let error = try_render("{{ x }}", &endless).unwrap_err();
    assert!(error.contains("an integer of more than 4300 digits"), "{error}");
}

/// What is at the bottom of the deepest nesting, and of the deepest calls, fits in a small stack, in a build without optimizations too.
#[test]
fn the_stack_stays_small() {
    let deep = |open: &str, middle: &str, close: &str, n: usize| {
        format!(
            "{{% macro f() %}}{{{{ {}{middle}{} }}}}{{% endmacro %}}{{{{ f() }}}}",
            open.repeat(n),
            close.repeat(n)
        )
    };
    let mut sources = vec![
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".to_owned(),
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}".to_owned(),
        "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(40) }}".to_owned(),
        format!("{}{}", "{% if 1 %}".repeat(97), "{% endif %}".repeat(97)),
        format!("{}{}", "{% for a in [1] %}".repeat(97), "{% endfor %}".repeat(97)),
        format!("{}{}", "{% filter upper %}".repeat(97), "{% endfilter %}".repeat(97)),
    ];
    for n in [10, 90, 95, 97, 98] {
        sources.push(deep("(1 or 2 and 3 < 4 + 5 ~ 6 * 7 ** ", "f()", ")", n));
        sources.push(deep("[", "f()", "]", n));
        sources.push(deep("{1: ", "f()", "}", n));
        sources.push(deep("f(x=", "f()", ")", n));
        sources.push(deep("[1]|map('default', ", "f()", ")", n));
        sources.push(deep("not (1 if ", "f()", " else 2)", n));
        sources.push("[".repeat(n) + "{{");
    }
    let run = move || {
        for source in sources {
            if let Ok(template) = Template::parse(&source) {
                let _ = template.render(&[]);
            }
        }
        let mut json = serde_json::json!(1);
        for _ in 0..80 {
            json = serde_json::json!([{ "a": json }]);
        }
        let _ = try_render(
            "{{ x | tojson(indent=2) }}{{ x }}{{ x == x }}{{ x | pprint }}",
            &serde_json::json!({ "x": json }),
        );
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(run).unwrap().join().unwrap();
}

/// Nothing is kept from one render to the next, whatever holds itself.
#[test]
fn what_holds_itself_is_let_go() {
    let source = "{% set ns = namespace() %}{% set ns.a = ns %}{% macro f() %}{{ ns }}{% endmacro %}{% set ns.f = f %}ok";
    let template = Template::parse(source).unwrap();
    let interpreter = Interpreter::new(Meter::new(0, 0));
    let meter = Rc::clone(&interpreter.meter);
    assert_eq!(&*interpreter.run(&template.body, Vec::new()).unwrap(), "ok");
    assert!(meter.live() > 0);
    drop(interpreter);
    assert_eq!(meter.live(), 0);
}

#[test]
fn given_characters_are_known() {
    // With « and » around what is given.
    let marked = |source: &str, x: &str| {
        let Rendered { mut text, given } = try_render(source, &serde_json::json!({ "x": x })).unwrap();
        for range in given.iter().rev() {
            text.insert(range.end, '»');
            text.insert(range.start, '«');
        }
        text
    };
    assert_eq!(marked("a{{ x }}b", "é"), "a«é»b");
    assert_eq!(marked("{{ '<' ~ x | trim ~ '>' }}", " y "), "<«y»>");
    assert_eq!(marked("{{ x.upper() }}", "ß"), "«SS»");
    assert_eq!(marked("{{ x | replace('b', '-') }}", "abc"), "«a»-«c»");
    assert_eq!(marked("{{ x | tojson }}", "\""), "\"«\\\"»\"");
    assert_eq!(marked("{{ '%5s|' % x }}", "ab"), "   «ab»|");
    assert_eq!(marked("{{ {'a': 'b'}[x] }}", "a"), "b");
    assert_eq!(marked("{{ '-'.join([x, x]) }}", "a"), "«a»-«a»");
    assert_eq!(marked("{{ x | indent(1) }}", "a\n\n"), "«a»\n\n");
}

/// Python: `datetime.datetime(2024, 2, 29, 12, 45, 5).strftime(…)` and others, with glibc.
#[test]
fn strftime_is_pythons() {
    let at = |text: &str| text.parse::<jiff::civil::DateTime>().unwrap().in_tz("UTC").unwrap();
    let all = "%Y-%m-%d %H:%M:%S %B %b %A %a %I%p %y %j %% %-d %F %T";
    assert_eq!(
        time::strftime(all, &at("2024-02-29T12:45:05")),
        "2024-02-29 12:45:05 February Feb Thursday Thu 12PM 24 060 % 29 2024-02-29 12:45:05"
    );
    assert_eq!(time::strftime("%d %b %Y|%-d|%-m|%e|%-I", &at("2025-08-01T09:59:59")), "01 Aug 2025|1|8| 1|9");
    assert_eq!(
        time::strftime("%c|%x|%X|%D|%R", &at("2025-08-01T09:05:09")),
        "Fri Aug  1 09:05:09 2025|08/01/25|09:05:09|08/01/25|09:05"
    );
    assert_eq!(
        time::strftime("%U %W %u %w %G-W%V %f %z%Z.", &at("2025-01-05T00:00:00")),
        "01 00 7 0 2025-W01 000000 ."
    );
    assert_eq!(time::strftime("%Q%", &at("2025-01-05T00:00:00")), "%Q%");
}
