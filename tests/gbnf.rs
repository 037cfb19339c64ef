//! Grammars in llama.cpp's notation: what they allow, token by token, and what is wrong with those that are refused.
#![cfg(feature = "grammar")]

mod constraint_walk;
mod mistral_vocabularies;

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bise::constraint::{Constraint, ConstraintError, Gbnf, Grammars, TokenMask};
use bise_models::tokenizer::{EncodeOptions, Tokenizer};
use constraint_walk::{Dice, End, walk};
use mistral_vocabularies::vocabulary;
use proptest::prelude::*;

const PLAIN: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };

fn grammars(name: &'static str) -> &'static Grammars {
    static V3: OnceLock<Grammars> = OnceLock::new();
    static TEKKEN: OnceLock<Grammars> = OnceLock::new();
    let cell = if name == "v3" { &V3 } else { &TEKKEN };
    cell.get_or_init(|| Grammars::new(&Tokenizer::new(vocabulary(name)).unwrap()))
}

/// The tokens of a text in the middle of a line.
fn tokens(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let guard = tokenizer.encode("\n", PLAIN);
    tokenizer.encode(&format!("\n{text}"), PLAIN).strip_prefix(&guard[..]).unwrap().to_vec()
}

/// Whether a grammar takes these tokens, and the text may end then.
fn takes(grammars: &Grammars, grammar: &str, tokens: &[u32]) -> bool {
    let mut constraint = Gbnf::new(grammars, grammar).unwrap_or_else(|error| panic!("{grammar}: {error}"));
    let mut allowed = TokenMask::new(grammars.tokenizer().n_vocab());
    for token in tokens {
        allowed.clear();
        constraint.mask(&mut allowed);
        if !allowed.contains(*token) {
            return false;
        }
        constraint.accept(*token);
    }
    assert_eq!(constraint.fault(), None);
    constraint.can_end()
}

/// Whether a grammar takes a text, spelled as the tokenizer does and byte by byte alike.
fn takes_text(grammar: &str, text: &str) -> bool {
    let grammars = grammars("v3");
    let tokenizer = grammars.tokenizer();
    let taken = takes(grammars, grammar, &tokens(tokenizer, text));
    let by_chars: Vec<u32> = text.chars().flat_map(|c| tokens(tokenizer, &c.to_string())).collect();
    assert_eq!(takes(grammars, grammar, &by_chars), taken, "{grammar}: {text:?}");
    taken
}

fn check(grammar: &str, taken: &[&str], refused: &[&str]) {
    for text in taken {
        assert!(takes_text(grammar, text), "{grammar}: {text:?} is refused");
    }
    for text in refused {
        assert!(!takes_text(grammar, text), "{grammar}: {text:?} is taken");
    }
}

#[test]
fn every_notation_is_understood() {
    check("root ::= \"yes\" | \"no\"", &["yes", "no"], &["", "y", "yesno", "Yes"]);
    check("root ::= \"a\"* \"b\"+ \"c\"?", &["b", "aabbc", "bbb"], &["", "a", "aac", "bcc"]);
    check(
        "root ::= \"ab\"{2} | \"c\"{1,3} | \"d\"{2,}",
        &["abab", "c", "ccc", "dd", "ddddd"],
        &["ab", "cccc", "d", ""],
    );
    check("root ::= \"x\"{0,2} \"y\"{0}", &["", "x", "xx"], &["xxx", "y"]);
    check("root ::= [a-c] [^a-c\\n] .", &["bdx", "a日🦀", "cz\n"], &["ba", "a\nx", "bd", "bdxx"]);
    check("root ::= [-a] [a-] [\\]\\[\\\\\"^]", &["--]", "aa[", "-a\\", "a-\"", "--^"], &["b-]", "--a"]);
    check("root ::= \"\\x41\\u00e9\\U0001F980\\t\\r\\n\\\\\\\"\\[\\]\"", &["Aé🦀\t\r\n\\\"[]"], &["A"]);
    check("root ::= [\\x61-\\u00ea]+", &["aéz~"], &["A", "ë"]);
    check("root ::= (\"a\" | \"b\" (\"c\" |\n \"d\"))+ # a comment\n# another", &["abc", "bda"], &["b", "c"]);
    check("root ::= | \"a\"", &["", "a"], &["b"]);
    check("root ::= \"\"", &[""], &["a"]);
    check("root ::= ", &[""], &["a"]);
    check(
        "\n\n  # first\nroot::=word(\" \"word)*\r\nword   ::=\n  [a-z]+\n\n",
        &["hello there you"],
        &["a  b", " a"],
    );
    check("root ::= \"é\" \"日\"{2}", &["é日日"], &["e", "é日"]);
    check("root ::= a-1 B2\na-1 ::= \"1\"\nB2 ::= \"2\"", &["12"], &["1"]);
}

/// Nothing is decided by how a text could be cut: each of these needs to look back.
#[test]
fn ambiguous_grammars_are_followed_exactly() {
    check("root ::= [a-z]+ \"b\"", &["ab", "abb", "bb"], &["b", "a"]);
    check("root ::= (\"a\" | \"ab\") (\"c\" | \"bcd\")", &["ac", "abc", "abcd", "abbcd"], &["ab", "abcdc"]);
    check(
        "root ::= s\ns ::= \"(\" s \")\" | \"\" | s2\ns2 ::= \"[\" s \"]\"",
        &["", "([])", "((()))"],
        &["([)]", "(", "())"],
    );
    // A palindrome.
    check(
        "root ::= \"a\" root \"a\" | \"b\" root \"b\" | \"a\" | \"b\" | \"\"",
        &["abba", "ababa", "", "b"],
        &["ab", "abab"],
    );
    // Empty things, repeated.
    check("root ::= (\"a\"* \"b\"*)* \"c\"", &["c", "abac", "bbac"], &["ab", "cc"]);
    check("root ::= x* \"c\"\nx ::= y | \"a\"\ny ::= \"\" | \"b\" y", &["c", "abac", "bbac"], &["ab"]);
    check("root ::= \"a\"{3,} \"a\"{2}", &["aaaaa", "aaaaaa"], &["aaaa"]);
}

/// Grammars like those that come with llama.cpp, in our own words.
const JSON: &str = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( pair ("," ws pair)* )? "}" ws
pair   ::= string ":" ws value
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws   # as in RFC 8259
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
"#;
const LIST: &str = "root ::= item+\n\n# Excludes various line break characters\nitem ::= \"- \" [^\\r\\n\\x0b\\x0c\\x85\\u2028\\u2029]+ \"\\n\"\n";
const ARITHMETIC: &str = r#"
root ::= (expr "=" ws term "\n")+
expr ::= term ([-+*/] term)*
term ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num ::= [0-9]+ ws
ws ::= [ \t\n]*
"#;
const CHESS: &str = r#"
# One move a line, numbered, in algebraic notation.
root ::= "1. " move " " move "\n" ([1-9] [0-9]? ". " move " " move "\n")+
move ::= (pawn | piece | castle) [+#]?
piece ::= [NBKQR] [a-h]? [1-8]? "x"? [a-h] [1-8]
pawn ::= ([a-h] "x")? [a-h] [1-8] ("=" [NBKQR])?
castle ::= "O-O" "-O"?
"#;

#[test]
fn grammars_of_the_field() {
    check(
        JSON,
        &["{}", "{\"a\": [1, -2.5e+3, \"é\\u00e9\\n\", true, null], \"b\":{}}", "{\"x\":\n\t\t[]}"],
        &["{", "{\"a\" 1}", "[1]", "{\"a\":01}", "{\"a\":\"\n\"}", "{}  x"],
    );
    check(LIST, &["- one\n", "- one\n- zwei é\n"], &["- one", "one\n", "- \n", "- a\u{2028}\n"]);
    check(ARITHMETIC, &["(a+1)*b=2\n", "1 = 1\nx=y\n"], &["1+=2\n", "(1=1\n", "1=1"]);
    check(CHESS, &["1. e4 e5\n2. Nf3 O-O\n10. exd8=Q+ Qxf7#\n"], &["1. e4 e5\n", "1. e9 e5\n2. a4 a5\n"]);
}

#[test]
fn mistakes_are_named_with_their_place() {
    let error =
        |grammar: &str| Gbnf::new(grammars("v3"), grammar).err().unwrap_or_else(|| panic!("{grammar}"));
    for (grammar, line, column, message) in [
        ("", 1, 1, "there is no rule called \"root\""),
        ("a ::= \"x\"", 1, 10, "there is no rule called \"root\""),
        ("root ::= a", 1, 10, "there is no rule called \"a\""),
        ("root ::= \"x\"\nb ::= (\"y\" |\n  c)", 3, 3, "there is no rule called \"c\""),
        ("root := \"x\"", 1, 6, "expected \"::=\", found ':'"),
        ("root", 1, 5, "expected \"::=\", found the end"),
        ("root ::= \"x", 1, 10, "the text has no closing '\"'"),
        ("root ::= [a-", 1, 10, "the set of characters has no closing ']'"),
        ("root ::= [a", 1, 10, "the set of characters has no closing ']'"),
        ("root ::= [z-a]", 1, 11, "the range ends before it begins"),
        ("root ::= (\"a\"", 1, 14, "expected ')', found the end"),
        ("root ::= \"a\")", 1, 13, "expected the end of the rule, found ')'"),
        ("root ::= \"a\" $", 1, 14, "expected the end of the rule, found '$'"),
        ("root ::= *", 1, 10, "expected something before '*' that it repeats"),
        ("root ::= \"a\" | +", 1, 16, "expected something before '+' that it repeats"),
        ("root ::= \"a\"{", 1, 14, "expected a number, found the end"),
        ("root ::= \"a\"{x}", 1, 14, "expected a number, found 'x'"),
        ("root ::= \"a\"{1,2", 1, 17, "expected '}', found the end"),
        ("root ::= \"a\"{3,2}", 1, 14, "the second number is less than the first"),
        ("root ::= \"a\"{99999999999}", 1, 14, "the number 99999999999 is too large"),
        ("root ::= \"\\q\"", 1, 11, "there is no escape '\\q'"),
        ("root ::= \"\\x4\"", 1, 11, "expected 2 hexadecimal digits after '\\x'"),
        ("root ::= \"\\uD800\"", 1, 11, "U+D800 is no character"),
        ("root ::= \"\\U00110000\"", 1, 11, "U+110000 is no character"),
        ("root ::= root \"a\"", 1, 1, "the rule \"root\" can begin with itself (left recursion)"),
        (
            "root ::= \"a\" b\nb ::= c* b \"x\" | \"y\"\nc ::= \"\"",
            1,
            14,
            "the rule \"b\" can begin with itself (left recursion)",
        ),
        ("root ::= a\na ::= b\nb ::= a", 1, 10, "the rule \"a\" can begin with itself (left recursion)"),
        ("root ::= \"a\"\nroot ::= \"b\"", 2, 1, "the rule \"root\" is defined twice"),
        ("root ::= <[40000]>", 1, 10, "there is no token 40000: the vocabulary has 32768"),
        ("root ::= <[x]>", 1, 12, "expected a number, found 'x'"),
        ("root ::= <[1>", 1, 13, "expected \"]>\" after the number of a token, found '>'"),
        ("root ::= <nothing such>", 1, 10, "no token of the vocabulary is \"<nothing such>\""),
        ("root ::= <s", 1, 10, "the token has no closing '>'"),
        ("root ::= !\"a\"", 1, 11, "expected a token such as <[3]> or <think> after '!', found '\"'"),
        ("=", 1, 1, "expected the name of a rule (letters, digits and '-'), found '='"),
        ("root ::= \"a\"\n \t\n é", 3, 2, "expected the name of a rule (letters, digits and '-'), found 'é'"),
        (
            "root ::= \"a\"{100000} \"b\"{100000}",
            1,
            1,
            "it is too large when its repetitions are written out",
        ),
    ] {
        let want = ConstraintError::Grammar { line, column, message: message.to_owned() };
        assert_eq!(error(grammar), want, "{grammar}");
    }
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(error(&deep).to_string().contains("nested deeper"));
}

#[test]
fn tokens_by_number_and_by_text() {
    let grammars = grammars("v3");
    let tokenizer = grammars.tokenizer();
    let a = tokens(tokenizer, "a");
    let call = tokenizer.id("[TOOL_CALLS]").unwrap();
    let bos = tokenizer.id("<s>").unwrap();
    let by_number = format!("root ::= <[{call}]> \"a\"");
    assert!(takes(grammars, &by_number, &[&[call][..], &a].concat()));
    assert!(!takes(grammars, &by_number, &a));
    // Its text is not the token.
    assert!(!takes(grammars, &by_number, &tokens(tokenizer, "[TOOL_CALLS]a")));
    assert!(takes(grammars, "root ::= <s> \"a\"", &[&[bos][..], &a].concat()));
    // Any text token but one, then that one.
    let until = format!("root ::= !<[{0}]>* <[{0}]>", a[0]);
    let text = tokens(tokenizer, "no such letter here: 日本");
    assert!(takes(grammars, &until, &[&text[..], &a].concat()));
    assert!(!takes(grammars, &until, &text));
    assert!(!takes(grammars, &until, &[&a[..], &text].concat()));
    // No control token among them.
    let mut constraint = Gbnf::new(grammars, &until).unwrap();
    let mut allowed = TokenMask::new(tokenizer.n_vocab());
    constraint.mask(&mut allowed);
    assert!(!allowed.contains(call) && !allowed.contains(bos) && allowed.contains(a[0]));
    // A token is one token, however else its text is spelled.
    let two = format!("root ::= <[{}]> | \"b\"", tokens(tokenizer, " the")[0]);
    assert!(takes(grammars, &two, &tokens(tokenizer, " the")));
    assert!(!takes(grammars, &two, &[tokens(tokenizer, " "), tokens(tokenizer, "the")].concat()));
}

/// What a walk at random writes under a grammar is in its language, with a vocabulary of each kind.
#[test]
fn what_comes_out_follows_the_grammar() {
    for name in ["v3", "tekken"] {
        let grammars = grammars(name);
        let mut n_complete = 0;
        for seed in 1..=10 {
            let done =
                walk(grammars.tokenizer(), &mut Gbnf::new(grammars, JSON).unwrap(), &mut Dice(seed), 400);
            if done.end == End::Complete {
                n_complete += 1;
                assert!(
                    !done.tokens.iter().any(|token| grammars.tokenizer().is_control(*token)),
                    "{}",
                    done.text
                );
                serde_json::from_str::<serde_json::Value>(&done.text)
                    .unwrap_or_else(|e| panic!("{e}: {}", done.text));
            }
        }
        assert!(n_complete >= 3, "{name}: {n_complete}");
    }
}

/// Every prefix of a text of the language goes on to its end, in whatever tokens.
#[test]
fn masks_equal_trying_every_token() {
    let grammars = grammars("v3");
    let tokenizer = grammars.tokenizer();
    for (grammar, text) in [(JSON, "{\"k\": [1"), (ARITHMETIC, "(a"), (CHESS, "1. e4 "), (LIST, "- é")] {
        let mut constraint = Gbnf::new(grammars, grammar).unwrap();
        let mut allowed = TokenMask::new(tokenizer.n_vocab());
        for token in tokens(tokenizer, text) {
            constraint.accept(token);
        }
        constraint.mask(&mut allowed);
        // Each token, tried on its own.
        for id in (1000..tokenizer.n_vocab() as u32).step_by(157) {
            let is_text = !tokenizer.is_control(id) && id != 0;
            let mut other = Gbnf::new(grammars, grammar).unwrap();
            for token in tokens(tokenizer, text) {
                other.accept(token);
            }
            other.accept(id);
            let mut next = TokenMask::new(tokenizer.n_vocab());
            other.mask(&mut next);
            let goes_on = !next.is_empty() || other.can_end();
            assert_eq!(
                allowed.contains(id),
                is_text && goes_on,
                "{text:?} then {:?}",
                String::from_utf8_lossy(tokenizer.piece(id))
            );
        }
    }
}

#[test]
fn grammars_that_explode_are_bounded() {
    let grammars = grammars("v3");
    let chain: String = (0..9_000).map(|i| format!("r{i} ::= r{} r{}\n", i + 1, i + 1)).collect::<String>()
        + "r9000 ::= \"x\"\nroot ::= r0";
    for (what, grammar) in [
        ("doubling", chain),
        ("repetitions in each other", "root ::= ((((\"a\"{0,9}){0,9}){0,9}){0,9}){0,9}".to_owned()),
        ("ambiguity", "root ::= s\ns ::= \"a\" s s | \"a\" | \"\"".to_owned()),
        ("ambiguity of words", "root ::= (w w?)*\nw ::= [a-z]+ | [a-z] w".to_owned()),
        ("many stacks", "root ::= x\nx ::= \"a\" x \"b\" x | \"a\" x \"c\" | \"a\" x x | [a-z]".to_owned()),
        (
            "a long alternative",
            format!("root ::= {}", (0..9_000).map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(" | ")),
        ),
    ] {
        let start = Instant::now();
        let Ok(mut constraint) = Gbnf::new(grammars, &grammar) else { continue };
        let mut allowed = TokenMask::new(grammars.tokenizer().n_vocab());
        let mut dice = Dice(3);
        for _ in 0..20 {
            allowed.clear();
            constraint.mask(&mut allowed);
            let ids: Vec<u32> =
                (0..grammars.tokenizer().n_vocab() as u32).filter(|id| allowed.contains(*id)).collect();
            if ids.is_empty() {
                assert!(constraint.can_end() || constraint.fault().is_some(), "{what}");
                break;
            }
            constraint.accept(ids[dice.next(ids.len())]);
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: {:?}", start.elapsed());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// No text is a reason to panic.
    #[test]
    fn any_text_is_a_grammar_or_an_error(text in "(root ::= )?[a-c\"\\[\\]\\\\(){}*+?|!<>^.,0-9:=# \\nxu-]{0,40}") {
        let _ = Gbnf::new(grammars("v3"), &text);
    }
}
