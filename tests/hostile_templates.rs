//! A chat template that asks for endless memory or time gives one line and exit code 1, soon and in little memory.

#![cfg(all(feature = "cli", feature = "builtin-model", target_os = "linux"))]

mod cli_support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cli_support::{Folder, Ran};

/// Kilobytes of address space for a run: 256 MB for the template, and what the program maps besides.
const ADDRESS_SPACE_KB: u32 = (256 + 128) << 10;

/// Two seconds on an idle machine; tests run beside each other.
const SOON: Duration = Duration::from_secs(10);

/// A template that replaces `ns.x`, at first `start`, 40 times with `step`, and then goes on with `end`.
fn grow(start: &str, step: &str, end: &str) -> String {
    let set = format!("{{% for i in range(40) %}}{{% set ns.x = {step} %}}{{% endfor %}}");
    format!("{{% set ns = namespace(x={start}) %}}{set}{end}")
}

/// A conversation with `template`, in bounded address space.
fn converse(template: &str) -> Ran {
    let folder = Folder::new();
    folder.write("given.jinja", template);
    let bise =
        folder.command(["chat", "-n", "1", "-c", "64", "-t", "1", "--chat-template-file", "given.jinja"]);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -v {ADDRESS_SPACE_KB}; exec \"$0\" \"$@\""));
    command.arg(bise.get_program()).args(bise.get_args()).current_dir(folder.path("."));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    folder.finish(&mut command, b"Hello\n")
}

/// The template ends soon, one way or the other. (If it gets to its own end, it refuses there: the model is not asked.)
fn ends_soon(what: &str, template: &str) -> Ran {
    let start = Instant::now();
    let ran = converse(&format!("{template}{{{{ raise_exception('the end') }}}}"));
    let elapsed = start.elapsed();
    assert_eq!(ran.code, 1, "{what}: {}", ran.stderr);
    assert!(elapsed < SOON, "{what}: {elapsed:?}");
    println!("{elapsed:?} {what}");
    let error = ran.error();
    assert!(error.contains("the chat template") && error.len() < 300, "{what}: {error}");
    ran
}

/// The template ends soon, with one line that says why.
fn fails_soon(what: &str, template: &str) {
    let ran = ends_soon(what, template);
    let error = ran.error();
    assert!(!error.contains("the end"), "{what}: it got through");
}

#[test]
fn an_honest_template_fits() {
    converse("{{ bos_token }}{% for m in messages %}{{ '[INST] ' + m['content'] | trim + ' [/INST]' }}{% endfor %}").ok();
}

#[test]
fn lists_that_double() {
    fails_soon("a sum", &grow("[1]", "ns.x + ns.x", "{{ ns.x | length }}"));
    fails_soon("a product", &grow("[1]", "ns.x * 2", "{{ ns.x | length }}"));
    fails_soon("line by line", &format!("{{% set x = [1] %}}{}", "{% set x = x + x %}".repeat(40)));
    let call = "{% macro f(x, n) %}{{ f(x + x, n - 1) if n }}{% endmacro %}{{ f([1], 60) }}";
    fails_soon("through a macro", call);
}

#[test]
fn constants_worked_out_by_the_compiler() {
    let list = "[1] * 100000000";
    fails_soon("a comparison", &format!("{{{{ ({list}) == ({list}) }}}}"));
    fails_soon("a sum", &format!("{{{{ ({list}{}) | length }}}}", " + [1]".repeat(40)));
    fails_soon("assigned apart", &format!("{{% set a, b = {list} %}}"));
    fails_soon("a text", "{{ 'a' * 10**9 }}");
    fails_soon("a range", "{{ range(10**9) | list }}");
}

#[test]
fn lists_that_hold_a_list_twice() {
    for end in [
        "{{ ns.x }}",
        "{% set y = ns.x ~ '' %}",
        "{{ ns.x | tojson }}",
        "{{ ''.join([ns.x]) }}",
        "{{ [ns.x] | join }}",
        "{{ ns.x | string }}",
        "{{ '%s' | format(ns.x) }}",
        "{{ '{}'.format(ns.x) }}",
        "{{ raise_exception(ns.x) }}",
        "{{ strftime_now(ns.x) }}",
        "{{ ns.x | pprint }}",
        "{{ '%r' % ns.x }}",
    ] {
        fails_soon(end, &grow("[1]", "[ns.x, ns.x]", end));
    }
    fails_soon("maps", &grow("1", "{'a': ns.x, 'b': ns.x}", "{{ ns.x }}"));
}

#[test]
fn values_that_hold_themselves() {
    for end in ["{{ ns }}", "{{ ns ~ '' }}", "{{ ns == namespace(a=ns) }}", "{{ ns | tojson }}"] {
        ends_soon(end, &format!("{{% set ns = namespace() %}}{{% set ns.a = ns %}}{end}"));
    }
}

#[test]
fn texts_cut_into_many_pieces() {
    for cut in ["x.split('a')", "x | split('a')", "(x | replace('a', '\n')).splitlines()", "x | list"] {
        fails_soon(cut, &format!("{{% set x = 'a' * 25000000 %}}{{% set y = {cut} %}}"));
    }
}

#[test]
fn wide_fields() {
    for field in ["'{:>999999999}'.format(1)", "'%999999999d' | format(1)", "'%*d' | format(999999999, 1)"] {
        fails_soon(field, &format!("{{{{ {field} }}}}"));
    }
    fails_soon("a separator", "{{ range(99999) | list | tojson(separators=['a' * 99999, ':']) }}");
    let inner = grow("[1]", "[ns.x]", "");
    fails_soon("indented", &format!("{inner}{{{{ ([ns.x] * 9999) | tojson(indent=999999) }}}}"));
}

#[test]
fn comparisons_that_visit_everything() {
    let twice = |end: &str| {
        let set =
            "{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% set ns.y = [ns.y, ns.y] %}{% endfor %}";
        format!("{{% set ns = namespace(x=[1], y=[1]) %}}{set}{end}")
    };
    fails_soon("equality", &twice("{{ ns.x == ns.y }}"));
    fails_soon("order", &twice("{{ ns.x < ns.y }}"));
    fails_soon("membership", &twice("{{ ns.x in [ns.y] }}"));
    ends_soon("keys", &twice("{{ {ns.x: 1} }}"));
    ends_soon("uniqueness", &twice("{{ [ns.x, ns.y] | unique | list }}"));
    fails_soon("tuples", &grow("(1, 2)", "(ns.x, ns.x)", "{{ {ns.x: 1} }}"));
}

/// A text of three million characters, and what is done with it.
fn on_long_text(end: &str) -> String {
    format!("{{% set a = 'abc' * 1000000 %}}{{% set u = 'é' * 1500000 %}}{end}")
}

#[test]
fn long_texts_in_loops() {
    for step in [
        "a[2900000]",
        "u[1400000]",
        "a[1000:2000000]",
        "u[::2]",
        "a[::-1]",
        "a | length",
        "a | upper",
        "a.find('z')",
        "a.count('a')",
        "'z' in a",
        "a == a ~ ''",
        "a.split('c') | length",
        "a.strip('abc')",
        "a | wordcount",
        "a | tojson",
        "a | title",
        "a | truncate(9)",
        "a | striptags",
        "a | urlencode",
        "a | escape",
        "a | indent(9)",
        "a.isalpha()",
        "a.isprintable()",
        "u.casefold()",
        "a.replace('a', 'aa')",
        "a.center(9999999)",
        "a | string",
        "a ~ 1",
        "'%s' % a",
        "'{}'.format(a)",
        "[a] | join",
        "{a: 1}[a]",
        "a | reverse",
        "a | first",
        "a.partition('z')",
        "a < a ~ 'b'",
        "a | int",
        "a | float",
        "a | sort | length",
        "a | list | length",
        "a | map('upper') | list | length",
        "a | batch(2) | list | length",
        "a is upper",
        "a | wordwrap(3)",
        "a | pprint",
        "a.expandtabs()",
        "a.encode()",
        "strftime_now(a)",
        "a.format(1)",
        "a % 1",
        "range(100000) | sum",
        "range(100000) | sort | length",
        "range(100000) | unique | list | length",
        "range(100000) | join | length",
        "range(100000) | groupby('real') | length",
    ] {
        ends_soon(
            step,
            &on_long_text(&format!("{{% for i in range(100000) %}}{{% set b = {step} %}}{{% endfor %}}")),
        );
    }
}

#[test]
fn one_expression_that_asks_for_much() {
    let ones = |sign: &str| format!("{{{{ {} }}}}", vec!["1"; 30_000].join(sign));
    for sign in ["~", "+", "*", " or ", " and ", "<", "==", "**", "-", "//", ","] {
        ends_soon(sign, &ones(sign));
    }
    let long = "('x' * 9000000)";
    for (what, expression) in [
        ("format: a placeholder many times", format!("('{{0}}' * 20000).format({long})")),
        ("format: percent many times", format!("('%(a)s' * 20000) % {{'a': {long}}}")),
        ("format: nested", "'{:{}}'.format(1, '>999999999')".to_owned()),
        ("format: nested fields", "('{:{}}' * 9999).format(*(['>1000000'] * 19998))".to_owned()),
        ("format: precision", "'%.999999999f' % 1.5".to_owned()),
        ("format: precision of a text", "'{:.999999999f}'.format(1.5)".to_owned()),
        ("format: widths", "('%1000000d' * 9999) % (1,) * 9999".to_owned()),
        ("replace: empty", format!("{long}.replace('', {long})")),
        ("replace: long", format!("{long} | replace('x', {long})")),
        ("join", format!("{long}.join({long})")),
        ("join filter", format!("([{long}] * 9999) | join({long})")),
        ("ljust", "'a'.ljust(99999999999)".to_owned()),
        ("rjust", "'a'.rjust(2147483647)".to_owned()),
        ("zfill", "'a'.zfill(999999999)".to_owned()),
        ("center", "'a' | center(999999999)".to_owned()),
        ("expandtabs", "('\t' * 9999).expandtabs(99999999)".to_owned()),
        ("indent", "('a\n' * 99999) | indent(99999999)".to_owned()),
        ("indent by a text", format!("('a\n' * 99999) | indent({long})")),
        ("tojson indent", "range(9999) | list | tojson(indent=9999999)".to_owned()),
        ("tojson indent by a text", format!("range(9999) | list | tojson(indent={long})")),
        ("batch", "[1] | batch(9999999999, 0) | list".to_owned()),
        ("slice", "[1] | slice(9999999999) | list".to_owned()),
        ("slices of little", "range(99999) | slice(99999) | map('list') | list | length".to_owned()),
        ("range", "range(10**30) | list".to_owned()),
        ("ranges", "range(-10**38, 10**38, 10**37) | list".to_owned()),
        ("power", "10 ** 10 ** 10".to_owned()),
        ("power of a float", "1.5 ** 10 ** 10".to_owned()),
        ("product of a list", "[1] * 10**12".to_owned()),
        ("product of an empty list", "[] * 10**30".to_owned()),
        ("product of an empty text", "'' * 10**30".to_owned()),
        ("negative product", "'a' * -10**30".to_owned()),
        ("huge slice", "'abc'[-10**38:10**38:10**37]".to_owned()),
        ("huge step", "[1, 2][::10**38]".to_owned()),
        ("least step", "[1, 2][::-10**38]".to_owned()),
        ("least remainder", "(-2**126 - 2**126) % -1".to_owned()),
        ("least quotient", "(-2**126 - 2**126) // -1".to_owned()),
        ("least sign", "-(-2**126 - 2**126)".to_owned()),
        ("least absolute", "(-2**126 - 2**126) | abs".to_owned()),
        ("least rounded", "(-2**126 - 2**126) | round(-38)".to_owned()),
        ("round", "1.5 | round(10**30)".to_owned()),
        ("urlencode", "('é' * 4000000) | urlencode | urlencode | urlencode | length".to_owned()),
        ("escape", "('<' * 4000000) | e | e | e | length".to_owned()),
        ("wordwrap", format!("{long} | wordwrap(1)")),
        ("pprint", format!("[{long}, [{long}, {long}]] | pprint")),
        ("center in a map", "range(9999) | map('string') | map('center', 99999) | list | length".to_owned()),
        ("methods in a list", "(['a'] * 99999) | map(attribute='upper') | list | length".to_owned()),
        ("strip by much", "('ab' * 4000000).strip('ba' * 100000)".to_owned()),
        ("truncate", format!("{long} | truncate(9000000 - 1, true, {long}, 0)")),
        ("find in vain", format!("({long} ~ 'y').find({long} ~ 'z')")),
        ("count in vain", format!("{long}.count('x' * 4500000 ~ 'y')")),
        ("cycle", "joiner('a' * 9000000)".to_owned()),
        ("dict", "dict(range(99999) | batch(2))".to_owned()),
        ("attributes", format!("x{}", ".a".repeat(30_000))),
        ("attributes of a namespace", format!("namespace(){}", ".a".repeat(30_000))),
        ("signs", format!("{}1", "- ".repeat(30_000))),
        ("negations", format!("{}1", "not ".repeat(15_000))),
        ("filters", format!("1{}", "|abs".repeat(15_000))),
        ("conditions", format!("1{}", " if 1".repeat(12_000))),
        ("alternatives", format!("{}1", "1 if 0 else ".repeat(5_000))),
        ("texts side by side", "'a' ".repeat(16_000)),
        ("brackets", "(".repeat(60_000)),
        ("lists", format!("{}{}", "[".repeat(30_000), "]".repeat(30_000))),
        ("dicts", "{1:".repeat(20_000)),
        ("calls", "a(".repeat(30_000)),
        ("indices", "a[".repeat(30_000)),
    ] {
        ends_soon(what, &format!("{{{{ {expression} }}}}"));
    }
}

#[test]
fn tags_that_ask_for_much() {
    let ifs = |n: usize| format!("{}{}", "{% if 1 %}".repeat(n), "{% endif %}".repeat(n));
    ends_soon("ifs in ifs", &ifs(3000));
    fails_soon(
        "loops in loops",
        &format!("{}{}", "{% for a in range(9) %}".repeat(90), "{% endfor %}".repeat(90)),
    );
    fails_soon(
        "a loop over everything",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    );
    ends_soon("elifs", &format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(4000)));
    ends_soon("many variables", &(0..4000).map(|i| format!("{{% set v{i} = {i} %}}")).collect::<String>());
    fails_soon(
        "variables looked up",
        &format!(
            "{}{{% for i in range(99999) %}}{{% for j in range(99999) %}}{{{{ w if v0 }}}}{{% endfor %}}{{% endfor %}}",
            (0..3000).map(|i| format!("{{% set v{i} = 1 %}}")).collect::<String>(),
        ),
    );
    fails_soon("a macro that calls itself", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
    fails_soon(
        "two macros that call each other",
        "{% macro f() %}{{ g() ~ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
    );
    fails_soon(
        "a tree of calls",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    );
    fails_soon(
        "a caller that calls",
        "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
    );
    fails_soon("a loop in itself", "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}");
    fails_soon(
        "namespaces in namespaces",
        "{% set ns = namespace() %}{% for i in range(99999) %}{% for j in range(99999) %}{% set ns.a = namespace(b=ns.a) %}{% endfor %}{% endfor %}",
    );
    ends_soon(
        "a chain of namespaces",
        "{% set ns = namespace() %}{% for i in range(99999) %}{% set ns.a = namespace(b=ns.a) %}{% endfor %}",
    );
    ends_soon(
        "a chain of macros",
        "{% set ns = namespace(f=1) %}{% for i in range(50000) %}{% set g = ns.f %}{% macro f() %}{{ g }}{% endmacro %}{% set ns.f = f %}{% endfor %}",
    );
    ends_soon(
        "a chain of lists",
        "{% set ns = namespace(x=[]) %}{% for i in range(99999) %}{% set ns.x = [ns.x] %}{% endfor %}",
    );
    ends_soon(
        "a chain of loops",
        "{% set ns = namespace(x=0) %}{% for i in range(99999) %}{% set y = ns.x %}{% set ns.x = loop %}{% endfor %}",
    );
    fails_soon("output", "{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}");
    fails_soon(
        "captured output",
        "{% set x %}{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}{% endset %}",
    );
    fails_soon(
        "kept texts",
        "{% set ns = namespace(x=[]) %}{% for a in range(999) %}{% set ns.x = ns.x + ['x' * 999999 ~ a] %}{% endfor %}",
    );
    fails_soon(
        "kept lists",
        "{% set ns = namespace(x=[]) %}{% for a in range(999) %}{% set ns.x = ns.x + [range(99999) | list] %}{% endfor %}",
    );
    fails_soon(
        "kept dicts",
        "{% set ns = namespace(x=[]) %}{% for a in range(99999) %}{% set ns.x = ns.x + [{1: 1, 2: 2, 3: 3, a: a}] %}{% endfor %}",
    );
    ends_soon("comments", &"{# a #}".repeat(9000));
    ends_soon("open comments", &"{#".repeat(30_000));
    ends_soon("open raw blocks", &"{% raw %}".repeat(7000));
    ends_soon("half raw blocks", &format!("{{% raw %}}{}", "{% endraw".repeat(6000)));
    ends_soon("white space", &" ".repeat(60_000));
    ends_soon(
        "stripped white space",
        &format!("{}{{%- if 1 %}}{{% endif -%}}{}", " ".repeat(30_000), "\n".repeat(30_000)),
    );
    ends_soon("braces", &"{".repeat(60_000));
    ends_soon("long number", &format!("{{{{ {} }}}}", "9".repeat(60_000)));
    ends_soon("long name", &format!("{{{{ {} }}}}", "a".repeat(60_000)));
    ends_soon("odd bytes", "{{ '\\ud800' }}{{ '\\N{BULLET}' }}{{ '\\x1' }}");
}
