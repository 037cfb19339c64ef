//! Sessions that share a ceiling on memory. One test, so that no other takes memory of its process.

#![cfg(all(feature = "cli", feature = "builtin-model", target_os = "linux"))]

mod cli_support;
#[path = "cli_support/zeros.rs"]
mod zeros;

use bise::memory::{Change, MemoryLimit, anonymous_bytes};
use bise::{Engine, Error, SessionOptions};
use cli_support::Folder;
use zeros::{PLAIN, Shape};

#[test]
fn many_sessions_stay_below_the_ceiling_together() {
    let folder = Folder::new();
    let model = Shape { n_kv_heads: 4, ..PLAIN }.write(&folder);
    let options = SessionOptions { n_ctx: 2048, n_ubatch: 64, ..SessionOptions::default() };
    let builder = || Engine::builder().threads(2);
    // Room for three and a half of them.
    let plan = builder().plan(&model, 3, &options).unwrap();
    let limit = plan.full() + plan.cache_bytes(2048) / 6;
    let engine = builder().max_memory(MemoryLimit::Bytes(limit)).sessions(3, &options).open(&model).unwrap();
    let tokens: Vec<u32> = (0..1900).map(|i| 300 + i % 1000).collect();
    let mut sessions: Vec<_> = (0..3).map(|_| engine.session(&options).unwrap()).collect();
    for session in &mut sessions {
        session.prefill(&tokens).unwrap();
    }
    let mut one_more = engine.session(&options).unwrap();
    let error = one_more.prefill(&tokens).unwrap_err();
    assert!(error.to_string().starts_with("no room for keys and values: "), "{error}");
    let n_read = one_more.tokens().len();
    assert!(
        n_read > 0 && n_read < 1900 && n_read.is_multiple_of(64),
        "what was read before is kept: {n_read}"
    );
    assert!(anonymous_bytes().unwrap() <= limit - plan.weights_bytes());
    // The others are none the worse for it, and what one of them gives back another may have.
    sessions[0].decode(400).unwrap();
    sessions.pop();
    one_more.prefill(&tokens[n_read..]).unwrap();
    assert_eq!(one_more.tokens(), tokens);

    // A session that could never be filled is refused at once, and says what could.
    let long = SessionOptions { n_ctx: 1 << 20, ..options };
    let Err(Error::DoesNotFit(error)) = engine.session(&long).map(drop) else { panic!("it fits") };
    assert_eq!((error.limit, error.plan.n_ctx()), (limit, 1 << 20));
    let proposed = error.remedies.iter().find_map(|remedy| match remedy.changes[..] {
        [Change::Context(n)] => Some((n, remedy.bytes)),
        _ => None,
    });
    let (n_ctx, bytes) = proposed.unwrap();
    assert!(bytes <= limit && n_ctx >= 2048, "{n_ctx} {bytes}");
    engine.session(&SessionOptions { n_ctx, ..options }).unwrap();
}
