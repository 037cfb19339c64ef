//! The pool's reference counts under a model checker, which tries every order of two threads' steps:
//! `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=3 cargo test -p bise-models --lib kv::loom_tests`

use bise_kernels::kv_page::{CacheType, PAGE_LEN, PageLayout};
use loom::thread;

use super::{KvCache, PagePool, PoolError};

fn pool(max_pages: usize) -> PagePool {
    PagePool::new(PageLayout::new(1, 2, CacheType::F32, CacheType::F32), 1, max_pages)
}

fn cache(pool: &PagePool, n_positions: usize) -> KvCache {
    let mut cache = KvCache::new(pool, 4 * PAGE_LEN, None);
    cache.reserve(n_positions).unwrap();
    cache.advance(n_positions);
    cache
}

/// The last of several owners gives a page back, whoever that is.
#[test]
fn a_shared_page_returns_to_the_pool_once() {
    loom::model(|| {
        let pool = pool(1);
        let first = cache(&pool, 3);
        let second = first.clone();
        let other = thread::spawn(move || drop(second));
        drop(first);
        other.join().unwrap();
        assert_eq!((pool.n_pages(), pool.n_free()), (1, 1));
        assert!(cache(&pool, 1).n_pages() == 1, "it can be had again");
    });
}

/// Of two owners that both want to go on in a shared page, at least one takes a copy, and none writes to what the other reads.
#[test]
fn a_shared_page_is_copied_before_it_is_written() {
    loom::model(|| {
        let pool = pool(3);
        let go_on = |mut cache: KvCache, mark: u8| {
            cache.reserve(1).unwrap();
            for page in cache.new_pages(0, 1) {
                page.fill(mark);
            }
            thread::yield_now();
            assert!(cache.page(0, 0).iter().all(|byte| *byte == mark));
        };
        let first = cache(&pool, 3);
        let second = first.clone();
        let other = thread::spawn(move || go_on(second, 2));
        go_on(first, 1);
        other.join().unwrap();
        assert_eq!(pool.n_free(), pool.n_pages());
        assert!((2..=3).contains(&pool.n_pages()), "one copy or two");
    });
}

/// A pool with one page serves two threads one after the other, or refuses one of them, and never has two pages.
#[test]
fn the_limit_holds_for_threads_that_ask_together() {
    loom::model(|| {
        let pool = pool(1);
        let take = |pool: &PagePool| match KvCache::new(pool, PAGE_LEN, None).reserve(1) {
            Ok(()) => true,
            Err(PoolError::Full { .. }) => false,
            Err(error) => panic!("{error}"),
        };
        let other = {
            let pool = pool.clone();
            thread::spawn(move || take(&pool))
        };
        let mine = take(&pool);
        let others = other.join().unwrap();
        assert!(mine || others);
        assert_eq!((pool.n_pages(), pool.n_free()), (1, 1));
    });
}

/// While one thread frees what nobody uses, another takes and gives back.
#[test]
fn trimming_counts_only_what_it_frees() {
    loom::model(|| {
        let pool = pool(2);
        let held = cache(&pool, 1);
        let other = {
            let pool = pool.clone();
            thread::spawn(move || drop(cache(&pool, 1)))
        };
        drop(held);
        pool.trim();
        other.join().unwrap();
        assert_eq!(pool.n_used(), 0);
        pool.trim();
        assert_eq!(pool.n_pages(), 0);
    });
}
