//! Many requests of all kinds at once, with clients that misbehave: every answer is that of the same request served alone, and afterwards
//! the server has what it had before.

#![cfg(all(target_os = "linux", feature = "server", feature = "cli", feature = "builtin-model"))]

mod serve_support;
mod soak;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serve_support::{Server, eventually};
use soak::cases::{Case, Random, case};
use soak::client::{Client, Misbehaviour};
use soak::normal::{difference, normal};
use soak::usage::Usage;

/// Contexts of 512 tokens: what a prompt is refused for is the same alone.
const FLAGS: [&str; 6] = ["--pooling", "mean", "--max-queue", "1000", "--alias", "mistral"];

/// How much is asked.
struct Load {
    n_requests: usize,
    /// Different requests.
    n_cases: usize,
    n_connections: usize,
    /// Clients that read a byte now and then.
    n_slow: usize,
    /// Whether threads that have nothing to do are waited for: tokio's stay for ten seconds, with their stacks.
    waits_for_threads: bool,
    /// Anonymous memory may have grown by this part.
    growth: f64,
    /// How long `/health` and `/slots` may take.
    most_look: Duration,
}

#[test]
fn two_hundred_mixed_requests_are_answered_as_if_each_were_alone() {
    soak(&Load {
        n_requests: 200,
        n_cases: 60,
        n_connections: 40,
        n_slow: 2,
        waits_for_threads: false,
        growth: 0.5,
        most_look: Duration::from_secs(2),
    });
}

/// `.ci/full` runs it, with nothing else.
#[test]
#[ignore = "takes minutes"]
fn five_thousand_mixed_requests_leave_nothing_behind() {
    soak(&Load {
        n_requests: 5000,
        n_cases: 800,
        n_connections: 200,
        n_slow: 8,
        waits_for_threads: true,
        growth: 0.02,
        most_look: Duration::from_millis(500),
    });
}

fn soak(load: &Load) {
    let cases: Vec<Case> = (0..load.n_cases).map(|i| case(&mut Random::new(i as u32))).collect();
    let expected = alone(&cases);
    let n_ok = expected.values().filter(|(status, _)| *status == 200).count();
    assert!(n_ok > expected.len() / 2, "{n_ok} of {} can be answered", expected.len());

    let server = Server::start(&[&FLAGS[..], &["-np", "4", "-c", "2048"]].concat());
    let n_sockets = settled(&server, usize::MAX, usize::MAX).n_sockets;
    let n_threads = if load.waits_for_threads {
        std::thread::sleep(Duration::from_secs(12));
        Usage::of(&server.process).n_threads
    } else {
        usize::MAX
    };
    // Twice as much as is measured: by then caches, buffers and the memory of threads are as large as they get.
    burst(&server, load, &cases, &expected, 3);
    burst(&server, load, &cases, &expected, 1);
    let before = settled(&server, n_sockets, n_threads);
    burst(&server, load, &cases, &expected, 2);
    let after = settled(&server, n_sockets, n_threads);
    eprintln!("before: {before:?}\nafter:  {after:?}");
    // Fewer is no leak: a connection of an earlier burst may have been on its way out when they were counted.
    assert!(
        after.n_files <= before.n_files,
        "files and sockets: {} and now {}",
        before.n_files,
        after.n_files
    );
    let most = before.anonymous as f64 * (1.0 + load.growth);
    assert!(
        (after.anonymous as f64) < most,
        "kB of anonymous memory: {} and now {}",
        before.anonymous,
        after.anonymous
    );
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// What each request is answered on a server that does nothing else, and knows nothing of the others.
fn alone(cases: &[Case]) -> HashMap<String, (u16, serde_json::Value)> {
    let server = Server::start(&[&FLAGS[..], &["-np", "1", "-c", "512", "--no-cache-prompt"]].concat());
    let mut expected = HashMap::new();
    for case in cases {
        expected
            .entry(case.key())
            .or_insert_with(|| normal(&server.send("POST", case.path, &[], &case.body)));
    }
    expected
}

/// Sends half of the requests of `load`.
fn burst(
    server: &Server,
    load: &Load,
    cases: &[Case],
    expected: &HashMap<String, (u16, serde_json::Value)>,
    seed: u32,
) {
    let n_left = AtomicUsize::new(load.n_requests / 2);
    let (is_over, worst) = (AtomicBool::new(false), Mutex::new(Duration::ZERO));
    let n_compared = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            while !is_over.load(SeqCst) {
                for path in ["/health", "/slots"] {
                    let start = Instant::now();
                    assert_eq!(server.get(path).status, 200);
                    let mut worst = worst.lock().unwrap();
                    *worst = (*worst).max(start.elapsed());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let slow: Vec<_> =
            (0..load.n_slow).map(|_| scope.spawn(|| soak::client::read_slowly(server, &is_over))).collect();
        let clients: Vec<_> = (0..load.n_connections)
            .map(|i| {
                let (n_left, n_compared) = (&n_left, &n_compared);
                scope.spawn(move || {
                    let mut random = Random::new(1000 * seed + i as u32);
                    let mut client = Client::new(server);
                    while n_left.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
                        let case = random.of(cases);
                        if random.below(4) == 0 {
                            client.misbehave(Misbehaviour::any(&mut random), case, &mut random);
                            continue;
                        }
                        let found = normal(&client.ask(case, &mut random));
                        let alone = &expected[&case.key()];
                        let difference = difference(&found.1, &alone.1);
                        let asked = format_args!("{} {}", case.path, case.body);
                        assert_eq!((found.0, difference), (alone.0, None), "{asked}");
                        n_compared.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        let failed = clients.into_iter().filter_map(|client| client.join().err()).count();
        is_over.store(true, SeqCst);
        slow.into_iter().for_each(|slow| slow.join().unwrap());
        looker.join().unwrap();
        assert_eq!(failed, 0, "clients found something wrong");
    });
    let worst = *worst.lock().unwrap();
    eprintln!("{} answers compared, the slowest look took {worst:?}", n_compared.load(SeqCst));
    assert!(n_compared.load(SeqCst) * 2 > load.n_requests / 2, "most answers are compared");
    assert!(worst < load.most_look, "{worst:?}");
}

/// What the server holds once it has nothing left to do, and no more sockets and threads than when it was started.
fn settled(server: &Server, n_sockets: usize, n_threads: usize) -> Usage {
    eventually("every slot is free, and the queue empty", || {
        let slots = server.get("/slots").json();
        let metrics = server.get("/metrics").body;
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} in {metrics}")).parse::<f64>().unwrap()
        };
        slots.as_array().unwrap().iter().all(|slot| slot["is_processing"] == false)
            && value("llamacpp:requests_processing") == 0.0
            && value("llamacpp:requests_deferred") == 0.0
            && value("bise:kv_pages") == value("bise:kv_pages_cached")
            && value("bise:kv_pages") <= value("bise:kv_pages_max")
    });
    let mut usage = Usage::of(&server.process);
    eventually("connections are closed, and threads that have nothing to do end", || {
        let now = Usage::of(&server.process);
        let is_same = now == usage;
        usage = now;
        std::thread::sleep(Duration::from_millis(500));
        is_same && usage.n_sockets <= n_sockets && usage.n_threads <= n_threads
    });
    usage
}
