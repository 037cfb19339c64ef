//! Whatever a template does to what a conversation says, the prompt tells those characters from the template's own.
//!
//! Messages are made of letters that no template holds. So wherever one of them stands in a prompt, it came from a
//! message, and its place must be protected; and a control token with such a letter in it must not be free.

use bise::chat::{ChatInput, ChatTemplate, Message, SpecialTokens};
use bise::tokenizer::Segment;
use serde_json::{Value, json};

/// What messages are put together from: control tokens, their halves, and what stands around them.
const PIECES: [&str; 24] = [
    "<ж>", "</ж>", "[ЖЫ]", "[/жы]", "<", ">", "[", "]", "/", "ж", "Ж", "ы", "жы", " ", "\n", "<|ж|>", "|",
    "{{", "}}", "%", "<жжж>", "ю", "яяя", "\t",
];

const SPECIAL: [&str; 7] = ["<ж>", "</ж>", "[ЖЫ]", "[/жы]", "<|ж|>", "<жы>", "ЖЖ"];

/// What a template may do with `c`, the content of a message.
const CHANGES: [&str; 44] = [
    "c",
    "c | upper",
    "c | lower",
    "c | capitalize",
    "c | title",
    "c.swapcase()",
    "c.casefold()",
    "'<' ~ c | trim ~ '>'",
    "'[' + c.strip() + ']'",
    "c | replace('ю', '')",
    "c | replace(' ', 'ж' if false else '')",
    "c.replace('<|', '<').replace('|>', '>')",
    "c[1:]",
    "c[::-1]",
    "c[:3] ~ '>'",
    "c.split('ю') | join",
    "c.split() | join('')",
    "c.split('>')[-1]",
    "c.rsplit(' ', 1)[0] ~ '>'",
    "c.partition('ж')[1] * 3",
    "c | list | join",
    "c | reverse",
    "'%s>' % c",
    "'<%-9s>' % c[:1]",
    "'<{}>'.format(c)",
    "'{:>9}'.format(c[:2])",
    "'{0}{0}'.format(c)",
    "c.format('x', 'y')",
    "c % 'x'",
    "c | tojson",
    "[c, {c: c}] | string",
    "[c] | pprint",
    "c | escape",
    "c | striptags",
    "c | indent(2, true)",
    "c | center(30)",
    "c | truncate(5, true, '>', 0)",
    "c | wordwrap(3, true, '<')",
    "c.ljust(20, 'x')",
    "'<'.join([c, c])",
    "(c | first) ~ (c | last)",
    "{'k': c}.items() | list",
    "c.expandtabs(2).removeprefix('<').removesuffix('>')",
    "c | urlencode",
];

/// What a template may make of it, and when.
const FRAMES: [&str; 6] = [
    "{% for m in messages %}{% set c = m.content %}{{ '<|' ~ m.role ~ '|>' }}{{ CHANGE }}{% endfor %}",
    "{% for m in messages %}{% set c = m['content'] %}{% if 'ж' in c or c.startswith('<') %}{{ CHANGE }}{% else %}{{ c }}{% endif %}{% endfor %}",
    "{% set ns = namespace(t='') %}{% for m in messages %}{% set c = m.content %}{% set ns.t = ns.t ~ (CHANGE) %}{% endfor %}{{ ns.t | upper }}",
    "{% macro f(c) %}<{{ CHANGE }}>{% endmacro %}{% for m in messages %}{{ f(m.content) | trim }}{% endfor %}",
    "{% for m in messages %}{% set c %}{{ m.content | trim }}{% endset %}{% filter lower %}[{{ CHANGE }}]{% endfilter %}{% endfor %}",
    "{% for c in messages | map(attribute='content') %}{{ CHANGE }}{{ loop.previtem }}{% endfor %}{{ messages | map(attribute='content') | join('') }}",
];

struct Random(u64);

impl Random {
    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % n as u64) as usize
    }

    fn text(&mut self) -> String {
        (0..self.below(7)).map(|_| PIECES[self.below(PIECES.len())]).collect()
    }

    /// A conversation in a good order, with parts and tool calls here and there.
    fn conversation(&mut self, plain: bool) -> Vec<Message> {
        let mut messages = Vec::new();
        if self.below(3) == 0 {
            messages.push(Message::new("system", self.text()));
        }
        for _ in 0..1 + self.below(3) {
            let mut user = json!({"role": "user", "content": self.text()});
            if !plain && self.below(4) == 0 {
                user["content"] =
                    json!([{"type": "text", "text": self.text()}, {"type": "text", "text": self.text()}]);
            }
            messages.push(Message::from_json(user).unwrap());
            if !plain && self.below(3) == 0 {
                let call = json!({"id": "жжжжжжжжж", "type": "function", "function":
                    {"name": self.text(), "arguments": {self.text(): [self.text(), {"a": self.text()}]}}});
                let calls = json!({"role": "assistant", "content": "", "tool_calls": [call]});
                messages.push(Message::from_json(calls).unwrap());
                let result = json!({"role": "tool", "tool_call_id": "жжжжжжжжж", "name": self.text(), "content": self.text()});
                messages.push(Message::from_json(result).unwrap());
            }
            messages.push(Message::new("assistant", self.text()));
        }
        messages.push(Message::new("user", self.text()));
        messages
    }
}

fn is_foreign(c: char) -> bool {
    ('\u{400}'..='\u{4ff}').contains(&c)
}

/// Renders and looks at what is free; whether there was anything to look at.
fn check(template: &ChatTemplate, input: &ChatInput<'_>) -> bool {
    let Ok(prompt) = template.render(input, &SpecialTokens::new("<s>", "</s>")) else { return false };
    let what = || format!("{}\n{:?}\n{prompt:?}", template.source(), input.messages);
    let mut end = 0;
    for range in &prompt.protected {
        assert!(end <= range.start && range.start < range.end, "{}", what());
        end = range.end;
    }
    for segment in prompt.segments() {
        if let Segment::Template(free) = segment {
            assert!(!free.contains(is_foreign), "{}", what());
        }
    }
    for special in SPECIAL {
        for (at, _) in prompt.text.match_indices(special) {
            let touches = |range: &std::ops::Range<usize>| range.start < at + special.len() && at < range.end;
            assert!(prompt.protected.iter().any(touches), "{special}: {}", what());
        }
    }
    !prompt.protected.is_empty()
}

#[test]
fn templates_that_change_messages() {
    let mut random = Random(1);
    let mut checked = 0;
    for frame in FRAMES {
        for change in CHANGES {
            let template = ChatTemplate::from_source(&frame.replace("CHANGE", change)).unwrap();
            for _ in 0..100 {
                let messages = random.conversation(true);
                checked += usize::from(check(&template, &ChatInput::new(&messages)));
            }
        }
    }
    assert!(checked > 20_000, "{checked}");
}

#[test]
fn templates_by_name_and_published_ones() {
    let mut random = Random(2);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/templates");
    let published = std::fs::read_dir(folder).unwrap().map(|entry| {
        ChatTemplate::from_source(&std::fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap()
    });
    let named = ChatTemplate::names().into_iter().map(|name| ChatTemplate::by_name(name).unwrap());
    let mut checked = 0;
    for template in named.chain(published) {
        for _ in 0..600 {
            let messages = random.conversation(checked % 2 == 0);
            let tools: Vec<Value> = (0..random.below(2))
                .map(|_| json!({"type": "function", "function": {"name": random.text(), "description": random.text(),
                    "parameters": {"type": "object", "properties": {random.text(): {"type": random.text()}}}}}))
                .collect();
            let documents = [json!({"title": random.text(), "text": random.text()})];
            let arguments = json!({"system_message": random.text(), "default_system_message": random.text()});
            let input = ChatInput {
                tools: &tools,
                documents: &documents,
                arguments: arguments.as_object(),
                add_generation_prompt: random.below(2) == 0,
                ..ChatInput::new(&messages)
            };
            checked += usize::from(check(&template, &input));
        }
    }
    assert!(checked > 5_000, "{checked}");
}
