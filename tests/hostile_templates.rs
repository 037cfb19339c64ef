//! A chat template that asks for endless memory or time gives one line and exit code 1, soon and in little memory.

#![cfg(all(feature = "cli", feature = "builtin-model", target_os = "linux"))]

mod cli_support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cli_support::{Folder, Ran};

/// Kilobytes of address space for a run: 256 MB are the stack that templates run on (what is unused is not resident).
const ADDRESS_SPACE_KB: u32 = (256 + 450) << 10;

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

fn fails_soon(what: &str, template: &str) {
    let start = Instant::now();
    let ran = converse(template);
    assert_eq!(ran.code, 1, "{what}: {}", ran.stderr);
    let error = ran.error();
    assert!(error.contains("the chat template") && error.len() < 300, "{what}: {error}");
    assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
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
        "{{ ns.x in 'abc' }}",
        "{{ '%s' | format(ns.x) }}",
        "{{ '{}'.format(ns.x) }}",
        "{{ raise_exception(ns.x) }}",
        "{{ strftime_now(ns.x) }}",
        "{{ {ns.x: 1} }}",
        "{{ {'a': 1}[ns.x] }}",
        "{{ ns.x == [ns.x, ns.x] }}",
        "{{ ns.x is eq([ns.x, 1]) }}",
        "{{ [ns.x, [ns.x]] | unique | list }}",
        "{{ [{'a': ns.x}] | selectattr('a', 'in', 'abc') | list }}",
    ] {
        fails_soon(end, &grow("[1]", "[ns.x, ns.x]", end));
    }
    fails_soon("maps", &grow("1", "{'a': ns.x, 'b': ns.x}", "{{ ns.x }}"));
}

#[test]
fn values_that_hold_themselves() {
    for end in ["{{ ns }}", "{{ ns ~ '' }}", "{{ ns == namespace(a=ns) }}", "{{ ns | tojson }}"] {
        fails_soon(end, &format!("{{% set ns = namespace() %}}{{% set ns.a = ns %}}{end}"));
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
