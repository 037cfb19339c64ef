//! Replies are taken apart into content, reasoning and calls, however they are spelled and however they arrive.

mod mistral_vocabularies;

use std::collections::HashMap;

use bise::chat::reply::{ReplyEvent, ReplyOptions, ReplyParser};
use bise::chat::{ChatInput, ChatTemplate, Message, SpecialTokens};
use bise_models::tokenizer::Tokenizer;
use mistral_vocabularies::{read, vocabulary, vocabulary_of};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A reply, put together again.
#[derive(Debug, Default, PartialEq)]
struct Reply {
    content: String,
    reasoning: String,
    /// Id, name and arguments.
    calls: Vec<(String, String, String)>,
}

impl Reply {
    fn of(events: &[ReplyEvent]) -> Self {
        let mut reply = Self::default();
        let mut n_ended = 0;
        for event in events {
            match event {
                ReplyEvent::Content(text) => reply.content += text,
                ReplyEvent::Reasoning(text) => reply.reasoning += text,
                ReplyEvent::ToolCall { index, id, name } => {
                    assert_eq!(*index, reply.calls.len());
                    assert_eq!(n_ended, *index, "calls do not overlap");
                    reply.calls.push((id.clone(), name.clone(), String::new()));
                }
                ReplyEvent::ToolArguments { index, text } => {
                    assert_eq!(index + 1, reply.calls.len());
                    reply.calls[*index].2 += text;
                }
                ReplyEvent::ToolCallEnd { index } => {
                    assert_eq!(*index, n_ended);
                    n_ended += 1;
                }
            }
        }
        assert_eq!(n_ended, reply.calls.len(), "every call ends");
        reply
    }

    fn call(mut self, id: &str, name: &str, arguments: &str) -> Self {
        self.calls.push((id.to_owned(), name.to_owned(), arguments.to_owned()));
        self
    }
}

fn said(content: &str) -> Reply {
    Reply { content: content.to_owned(), ..Reply::default() }
}

const ALL: ReplyOptions = ReplyOptions {
    tools: true,
    reasoning: true,
    starts_in_reasoning: false,
    whole_calls: false,
    starts_text: false,
    only_calls: false,
    id_seed: 1,
};

/// What calls without an id get by `ALL`.
const MADE: [&str; 2] = ["FIRST", "SECOND"];

fn parse_pieces<'a>(options: ReplyOptions, pieces: impl IntoIterator<Item = &'a str>) -> Reply {
    let mut parser = ReplyParser::for_text(options);
    let mut events = Vec::new();
    for piece in pieces {
        parser.push_text(piece, &mut events);
    }
    parser.finish(&mut events);
    let reply = Reply::of(&events);
    assert_eq!(parser.n_calls(), reply.calls.len());
    reply
}

/// The reply, whole, and byte by byte alike.
fn parse(options: ReplyOptions, text: &str) -> Reply {
    let whole = parse_pieces(options, [text]);
    let chars: Vec<String> = text.chars().map(String::from).collect();
    assert_eq!(parse_pieces(options, chars.iter().map(String::as_str)), whole, "{text}");
    whole
}

/// Both ways to give out calls, where they agree.
fn check(text: &str, want: &Reply) {
    for whole_calls in [false, true] {
        let mut got = parse(ReplyOptions { whole_calls, ..ALL }, text);
        for (i, call) in got.calls.iter_mut().enumerate() {
            if call.0 == made_id(i) {
                call.0 = MADE[i].to_owned();
            }
        }
        assert_eq!(got, *want, "{text}, whole_calls {whole_calls}");
    }
}

/// The id that a call without one gets.
fn made_id(index: usize) -> String {
    let text = "[TOOL_CALLS]f[ARGS]{}".repeat(index + 1);
    parse_pieces(ALL, [text.as_str()]).calls.pop().unwrap().0
}

#[test]
fn every_spelling_of_calls_is_understood() {
    let both =
        |text: &str| said(text).call("FIRST", "f", "{\"a\": [1, {\"b\": \"]}\"}]}").call("SECOND", "g", "{}");
    check("[TOOL_CALLS]f[ARGS]{\"a\": [1, {\"b\": \"]}\"}]}[TOOL_CALLS]g[ARGS]{}", &both(""));
    check("Look:[TOOL_CALLS] f [ARGS] {\"a\": [1, {\"b\": \"]}\"}]}\n[TOOL_CALLS] g{}\n", &both("Look:"));
    check(
        "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": [1, {\"b\": \"]}\"}]}}, {\"arguments\":{},\"name\":\"g\"}]",
        &both(""),
    );
    check(
        "[TOOL_CALLS] [ { \"id\" : null, \"name\" : \"f\" , \"arguments\" : {\"a\": [1, {\"b\": \"]}\"}]} } ,\n{\"name\":\"g\"} ] ",
        &both(""),
    );
    check("[TOOL_CALLS]f[CALL_ID]abcdefghi[ARGS]{\"é\": 1}", &said("").call("abcdefghi", "f", "{\"é\": 1}"));
    check(
        "[TOOL_CALLS][{\"name\": \"f\", \"id\": \"abcdefghi\", \"arguments\": {\"é\": 1}}]",
        &said("").call("abcdefghi", "f", "{\"é\": 1}"),
    );
    // Arguments in a string, as some fine-tunes write them, and an id that no template would take.
    check(
        "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": \"{\\\"a\\\": 1}\", \"id\": \"1\"}]",
        &said("").call("FIRST", "f", "{\"a\": 1}"),
    );
    check("[TOOL_CALLS]f[CALL_ID]1[ARGS]{}", &said("").call("FIRST", "f", "{}"));
    // What follows calls is content.
    check("[TOOL_CALLS]f[ARGS]{} Done.", &said("Done.").call("FIRST", "f", "{}"));
    check("[TOOL_CALLS][{\"name\": \"f\"}] Done.", &said("Done.").call("FIRST", "f", "{}"));
}

/// A list has its ids behind the arguments: who streams these gets another one, who waits for the whole call gets the model's.
#[test]
fn ids_behind_the_arguments() {
    let text = "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}, \"id\": \"abcdefghi\"}]";
    let want = said("").call("abcdefghi", "f", "{\"a\": 1}");
    assert_eq!(parse(ReplyOptions { whole_calls: true, ..ALL }, text), want);
    assert_eq!(parse(ALL, text), said("").call(&made_id(0), "f", "{\"a\": 1}"));
}

#[test]
fn made_ids_depend_on_the_prompt_the_seed_and_the_call() {
    let ids = |prompt: &str, seed| {
        let options = ReplyOptions { tools: true, ..ReplyOptions::after(prompt, seed) };
        let reply = parse_pieces(options, ["[TOOL_CALLS]f[ARGS]{}[TOOL_CALLS]f[ARGS]{}"]);
        reply.calls.into_iter().map(|call| call.0).collect::<Vec<_>>()
    };
    assert_eq!(ids("a", 1), ids("a", 1));
    let mut all = [ids("a", 1), ids("b", 1), ids("a", 2)].concat();
    assert!(all.iter().all(|id| id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric())), "{all:?}");
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
}

#[test]
fn what_is_no_call_is_content() {
    for text in [
        "[TOOL_CALLS]",
        "[TOOL_CALLS]f",
        "[TOOL_CALLS]f[ARGS]",
        "[TOOL_CALLS]f[ARGS]null",
        "[TOOL_CALLS]f[ARGS][1]",
        "[TOOL_CALLS]I would call f, but",
        "[TOOL_CALLS]f[CALL_ID]123456789",
        "[TOOL_CALLS]f[CALL_ID]123456789 is the id",
        "[TOOL_CALLS]f[OTHER]{}",
        "[TOOL_CALLS][ARGS]{}",
        "[TOOL_CALLS][]",
        "[TOOL_CALLS][1]",
        "[TOOL_CALLS][{}]",
        "[TOOL_CALLS][{\"arguments\": {}}]",
        "[TOOL_CALLS][{\"name\": 1}]",
        "[TOOL_CALLS][{\"name\": \"\"}]",
        "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": [1]}]",
        "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": \"x\"}]",
        "[TOOL_CALLS][{\"name\": \"f\"",
        "[ARGS]{}",
        "[TOOL_CALL]f[ARGS]{}",
        "[TOOL_CALLS",
        "  ",
        " [TOOL_CALLS",
        "a <think>b</think>",
        "a [THINK]b[/THINK]",
        "<think",
    ] {
        check(text, &said(text));
    }
    // Without tools every call is.
    let text = "[TOOL_CALLS]f[ARGS]{}";
    assert_eq!(parse(ReplyOptions { tools: false, ..ALL }, text), said(text));
    let text = "<think>a</think>b";
    assert_eq!(parse(ReplyOptions { reasoning: false, ..ALL }, text), said(text));
}

/// What was given out stays; the rest is content.
#[test]
fn a_call_that_breaks_off() {
    let text = "[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]g[ARGS]{\"b\": oops}";
    let whole = parse(ReplyOptions { whole_calls: true, ..ALL }, text);
    assert_eq!(whole, said("[TOOL_CALLS]g[ARGS]{\"b\": oops}").call(&made_id(0), "f", "{\"a\": 1}"));
    let streamed = parse(ALL, text);
    let first = said("oops}").call(&made_id(0), "f", "{\"a\": 1}");
    assert_eq!(streamed, first.call(&made_id(1), "g", "{\"b\": "));

    let text = "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {\"a\": 1}}, {\"name\": \"g\", \"argum";
    let want = said(", {\"name\": \"g\", \"argum").call(&made_id(0), "f", "{\"a\": 1}");
    assert_eq!(parse(ALL, text), want);
    let text = "[TOOL_CALLS]f[ARGS]{\"a\": \"cut";
    assert_eq!(parse(ALL, text), said("").call(&made_id(0), "f", "{\"a\": \"cut"));
    assert_eq!(parse(ReplyOptions { whole_calls: true, ..ALL }, text), said(text));
    // Twice the same member.
    let text = "[TOOL_CALLS][{\"name\": \"f\", \"arguments\": {}, \"arguments\": {\"x\": 1}}]";
    assert_eq!(parse(ReplyOptions { whole_calls: true, ..ALL }, text), said(text));
}

#[test]
fn reasoning_is_told_apart() {
    let thought = |reasoning: &str, content: &str| Reply { reasoning: reasoning.to_owned(), ..said(content) };
    check("[THINK]a\nb[/THINK]c", &thought("a\nb", "c"));
    check("<think>\n a </t> \n</think>\n\nc ", &thought("a </t>", "c "));
    check("\n<think></think>c", &thought("", "c"));
    check("<think>a", &thought("a", ""));
    check("<think>a</thin", &thought("a</thin", ""));
    check("[THINK]a[/THINK]\n[TOOL_CALLS]f[ARGS]{}", &thought("a", "").call("FIRST", "f", "{}"));
    check("[THINK]a[/THINK][THINK]b[/THINK]c", &thought("ab", "c"));
    for end in ["</think>", "[/THINK]"] {
        let options = ReplyOptions { tools: true, ..ReplyOptions::after("…[/INST]<think>\n", 1) };
        assert_eq!(parse(options, &format!("a{end}c")), thought("a", "c"));
    }
}

proptest! {
    /// However the text arrives, the reply is the same; and while there are no calls and no reasoning, it is the text itself.
    #[test]
    fn any_cut_gives_the_same_reply(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]", "<think>", "</think>", "f", "abcdefghi", "{",
                "}", "[", "]", ",", ":", " ", "\n", "é", "\"name\"", "\"arguments\"", "\"id\"", "\"a\"", "1", "\\",
                "[TOOL_CALLS]f[ARGS]{", "[TOOL_CALLS][{\"name\":\"f\"", ",\"arguments\":{", "\"a\":\"é\"}", "}]", "<", "[TOOL",
            ]),
            0..16,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        whole_calls: bool,
        tools: bool,
        reasoning: bool,
    ) {
        let options = ReplyOptions { whole_calls, tools, reasoning, ..ALL };
        let text = parts.concat();
        let whole = parse(options, &text);
        let mut at: Vec<usize> =
            cuts.iter().map(|cut| text.floor_char_boundary(cut.index(text.len() + 1))).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let pieces = at.windows(2).map(|cut| &text[cut[0]..cut[1]]);
        let cut = parse_pieces(options, pieces);
        prop_assert_eq!(&cut, &whole);
        let has_reasoning = reasoning && (text.contains("<think>") || text.contains("[THINK]"));
        if whole.calls.is_empty() && !has_reasoning {
            prop_assert_eq!(&whole.content, &text);
        }
        if whole_calls {
            for (_, _, arguments) in &whole.calls {
                prop_assert!(serde_json::from_str::<Value>(arguments).unwrap().is_object());
            }
        }
    }
}

/// Feeds tokens with their text, as a generation shows it.
fn parse_tokens(tokenizer: &Tokenizer, options: ReplyOptions, tokens: &[u32], late: bool) -> Reply {
    let mut parser = ReplyParser::new(tokenizer, options);
    let mut decoder =
        if options.starts_text { tokenizer.stream_from_start(true) } else { tokenizer.stream(true) };
    let mut events = Vec::new();
    let mut held = String::new();
    for (i, &token) in tokens.iter().enumerate() {
        decoder.push_to(token, &mut held);
        // Where a stop text may be coming, text is late by some tokens.
        if late && i % 5 != 4 {
            parser.push(token, "", &mut events);
        } else {
            parser.push(token, &std::mem::take(&mut held), &mut events);
        }
    }
    held += &decoder.finish();
    parser.push_text(&held, &mut events);
    parser.finish(&mut events);
    Reply::of(&events)
}

/// Conversations that `mistral_common` tokenized: the tokens of an assistant's turn give back what the turn was made from.
#[test]
fn calls_are_read_back_from_the_tokens_of_mistral_common() {
    let mut tokenizers: HashMap<&str, Tokenizer> = HashMap::new();
    let mut checked: HashMap<String, usize> = HashMap::new();
    let conversations = read("requests.json");
    for conversation in &conversations {
        let template = conversation["template"].as_str().unwrap();
        let file = vocabulary_of(template);
        let tokenizer = tokenizers.entry(file).or_insert_with(|| Tokenizer::new(vocabulary(file)).unwrap());
        let ids: Vec<u32> =
            conversation["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let opens: Vec<u32> =
            ["[/INST]", "[/TOOL_RESULTS]"].iter().filter_map(|text| tokenizer.id(text)).collect();
        let call = tokenizer.id("[TOOL_CALLS]");
        let mut turns = ids
            .split(|id| Some(*id) == tokenizer.eos())
            .map(|turn| &turn[turn.iter().rposition(|id| opens.contains(id)).map_or(0, |at| at + 1)..])
            .filter(|turn| turn.iter().any(|id| Some(*id) == call));
        let mut again = conversation["messages"].as_array().unwrap().clone();
        for (i, message) in conversation["messages"].as_array().unwrap().iter().enumerate() {
            let Some(calls) = message["tool_calls"].as_array().filter(|calls| !calls.is_empty()) else {
                continue;
            };
            let turn = turns.next().expect("a turn with calls");
            for (late, whole_calls) in [(false, false), (true, false), (false, true), (true, true)] {
                let reply = parse_tokens(
                    tokenizer,
                    ReplyOptions { whole_calls, starts_text: true, ..ALL },
                    turn,
                    late,
                );
                let content = message["content"].as_str().unwrap_or_default();
                assert_eq!(reply.content.trim(), content.trim(), "{template}");
                assert_eq!(reply.calls.len(), calls.len(), "{template}: {reply:?}");
                for ((id, name, arguments), call) in reply.calls.iter().zip(calls) {
                    assert_eq!(json!(name), call["function"]["name"]);
                    let json = |text: &str| {
                        serde_json::from_str::<Value>(if text.is_empty() { "{}" } else { text }).unwrap()
                    };
                    assert_eq!(json(arguments), json(call["function"]["arguments"].as_str().unwrap()));
                    let is_known = match template {
                        "v11-tekken" => true,
                        "v13-tekken" => false,
                        _ => whole_calls,
                    };
                    assert!(!is_known || json!(id) == call["id"], "{template}: {id} for {call}");
                    assert_eq!(id.len(), 9);
                }
                again[i]["content"] = json!(reply.content);
                for (shown, (_, name, arguments)) in
                    again[i]["tool_calls"].as_array_mut().unwrap().iter_mut().zip(&reply.calls)
                {
                    shown["function"] = json!({"name": name, "arguments": arguments});
                }
            }
            *checked.entry(template.to_owned()).or_default() += 1;
        }
        // Told the model again, what was read gives the tokens that it was read from.
        let messages: Vec<Message> =
            again.into_iter().map(|message| Message::from_json(message).unwrap()).collect();
        let tools = conversation["tools"].as_array().map_or(&[][..], Vec::as_slice);
        let named = ChatTemplate::by_name(&format!("mistral-{template}")).unwrap();
        let input = ChatInput { tools, ..ChatInput::new(&messages) };
        let prompt = named.render(&input, &SpecialTokens::of(tokenizer)).unwrap();
        assert_eq!(tokenizer.encode_segments(&prompt.segments(), true), ids, "{template}: {}", prompt.text);
    }
    for template in ["v3", "v3-tekken", "v7", "v7-tekken", "v11-tekken", "v13-tekken"] {
        assert!(checked.get(template).is_some_and(|n| *n >= 4), "{checked:?}");
    }
}

/// Where a vocabulary has the control tokens, text that looks like one is text.
#[test]
fn control_tokens_are_not_taken_from_text() {
    let tokenizer = Tokenizer::new(vocabulary("later tekken")).unwrap();
    let plain = bise_models::tokenizer::EncodeOptions { add_special: false, parse_special: false };
    let text = "[TOOL_CALLS]f[ARGS]{}";
    assert_eq!(parse_tokens(&tokenizer, ALL, &tokenizer.encode(text, plain), false), said(text));
    let id = |text: &str| tokenizer.id(text).unwrap();
    let tokens = [
        &[id("[TOOL_CALLS]")][..],
        &tokenizer.encode("f", plain),
        &[id("[ARGS]")],
        &tokenizer.encode("{}", plain),
    ];
    let want = said("").call(&made_id(0), "f", "{}");
    assert_eq!(parse_tokens(&tokenizer, ALL, &tokens.concat(), false), want);
    // Spelled where they have no meaning: no tools, no call, no end of a thought.
    let no_tools = ReplyOptions { tools: false, ..ALL };
    assert_eq!(parse_tokens(&tokenizer, no_tools, &tokens.concat(), false), said(text));
    let stray =
        [tokenizer.encode("a", plain), vec![id("[ARGS]"), id("[/THINK]")], tokenizer.encode("b", plain)];
    assert_eq!(parse_tokens(&tokenizer, ALL, &stray.concat(), true), said("a[ARGS][/THINK]b"));
    // Thoughts, and a call right behind one that was not ended.
    let thought = [&[id("[THINK]")][..], &tokenizer.encode("hm é", plain), &tokens.concat()];
    let want = Reply { reasoning: "hm é".to_owned(), ..want };
    assert_eq!(parse_tokens(&tokenizer, ALL, &thought.concat(), true), want);
}

/// Vocabularies from before there were calls.
#[test]
fn marks_are_text_where_the_vocabulary_has_none() {
    let tokenizer = Tokenizer::new(vocabulary("v1")).unwrap();
    let plain = bise_models::tokenizer::EncodeOptions { add_special: false, parse_special: false };
    let tokens =
        tokenizer.encode("Look.[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"é\": \"ü\"}}]", plain);
    for late in [false, true] {
        let options = ReplyOptions { starts_text: true, ..ALL };
        let reply = parse_tokens(&tokenizer, options, &tokens, late);
        assert_eq!(reply, said("Look.").call(&made_id(0), "f", "{\"é\": \"ü\"}"));
    }
}

/// Wherever a reply is cut, no part of a call is content, and what was said before it is all there.
#[test]
fn a_cut_call_is_no_content() {
    let replies = [
        (r#"[TOOL_CALLS][{"name": "f", "arguments": {"a": [1, "]"]}}, {"arguments": {}, "name": "g"}]"#, ""),
        (r#"[TOOL_CALLS]f[CALL_ID]abcDEF123[ARGS]{"a": 1}[TOOL_CALLS]g[ARGS]{"b": {}}"#, ""),
        (r#"Let me look. [TOOL_CALLS][{"name": "f", "arguments": {}}]"#, "Let me look. "),
    ];
    for (text, said) in replies {
        let call = text.find("[TOOL").unwrap();
        for n in 1..text.len() {
            for whole_calls in [false, true] {
                let options = ReplyOptions { whole_calls, only_calls: said.is_empty(), ..ALL };
                let mut parser = ReplyParser::for_text(options);
                let mut events = Vec::new();
                parser.push_text(&text[..n], &mut events);
                let was_cut = parser.cut(&mut events);
                let reply = Reply::of(&events);
                // Without calls before it, what looks like the beginning of a mark may still be text.
                let is_call = said.is_empty() || n >= call + "[TOOL_CALLS]".len();
                let want = if is_call { said } else { &text[..n] };
                assert_eq!(reply.content, want, "{}", &text[..n]);
                assert!(!was_cut || is_call);
                let complete = parse(ReplyOptions { whole_calls, ..ALL }, text).calls;
                for ((_, name, arguments), (_, all_name, all)) in reply.calls.iter().zip(&complete) {
                    assert!(name == all_name && all.starts_with(arguments), "{}", &text[..n]);
                }
            }
        }
    }
    // What the model has ended itself is told.
    assert_eq!(parse(ALL, "[TOOL_CALLS][{").content, "[TOOL_CALLS][{");
}
