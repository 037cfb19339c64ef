//! A radix tree over pages: what texts have in common is kept once.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Included, Unbounded};

use bise_kernels::kv_page::PAGE_LEN;
use bise_models::{KvCache, PageRef};

/// Pages by the adapters they were computed with, the tokens they hold and all tokens before these.
///
/// A node stands for one page. All but leaves have [`PAGE_LEN`] tokens; a leaf may have fewer, and of two children of a node none begins with
/// the other. Pages are given up one by one, the least recently used first and of those the ones farthest from the root, so that what is left is
/// still of use. A node without a page stays as long as there are some behind it, which a sliding window may need alone.
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Where texts begin, by their adapters. These nodes are their own parents.
    roots: HashMap<u128, usize>,
    /// Nodes to be used again.
    free: Vec<usize>,
    window: Option<usize>,
    clock: u64,
    /// Nodes with pages, in the order in which these are given up.
    by_use: BTreeSet<(u64, Reverse<usize>, usize)>,
}

struct Node {
    parent: usize,
    tokens: Box<[u32]>,
    /// The page's number in the text.
    number: usize,
    page: Option<PageRef>,
    children: BTreeMap<Box<[u32]>, usize>,
    used: u64,
}

/// The beginning of a text that is there.
#[derive(Default)]
pub(super) struct Match {
    /// Its tokens.
    pub n: usize,
    /// The number of the first page that is needed.
    pub first_page: usize,
    pub pages: Vec<PageRef>,
}

/// The first page that a query behind `n` tokens sees.
pub(super) fn first_page(window: Option<usize>, n: usize) -> usize {
    window.map_or(0, |window| (n + 1).saturating_sub(window).min(n)) / PAGE_LEN
}

fn n_common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Tree {
    pub fn new(window: Option<usize>) -> Tree {
        let (nodes, roots, free) = (Vec::new(), HashMap::new(), Vec::new());
        Tree { nodes, roots, free, window, clock: 0, by_use: BTreeSet::new() }
    }

    /// Pages it holds.
    pub fn n_pages(&self) -> usize {
        self.by_use.len()
    }

    /// The pages along `tokens`, with the number of tokens that each shares with them: all but the last share all they have.
    fn path(&self, adapters: u128, tokens: &[u32]) -> Vec<(usize, usize)> {
        let Some(&root) = self.roots.get(&adapters) else { return Vec::new() };
        let (mut path, mut node, mut rest) = (Vec::new(), root, tokens);
        loop {
            let children = &self.nodes[node].children;
            // The child with the longest common beginning is next to where `rest` would be.
            let before = children.range::<[u32], _>((Unbounded, Excluded(rest))).next_back();
            let after = children.range::<[u32], _>((Included(rest), Unbounded)).next();
            let nearest = before.into_iter().chain(after);
            let common = nearest.map(|(tokens, child)| (n_common(tokens, rest), *child));
            let best = common.max_by_key(|(n, _)| *n);
            let Some((n @ 1.., child)) = best else { return path };
            path.push((child, n));
            if n < PAGE_LEN {
                return path;
            }
            (node, rest) = (child, &rest[n..]);
        }
    }

    /// The longest beginning of `tokens` all of whose pages are there that a query behind it sees.
    pub fn find(&mut self, adapters: u128, tokens: &[u32]) -> Match {
        let path = self.path(adapters, tokens);
        let (n, first_page) = self.longest(&path);
        let needed = &path[first_page.min(path.len())..n.div_ceil(PAGE_LEN)];
        self.clock += 1;
        let mut pages = Vec::with_capacity(needed.len());
        for &(node, _) in needed {
            self.touch(node);
            pages.extend(self.nodes[node].page.clone());
        }
        Match { n, first_page, pages }
    }

    /// How many tokens [`Tree::find`] would find.
    pub fn n_found(&self, adapters: u128, tokens: &[u32]) -> usize {
        self.longest(&self.path(adapters, tokens)).0
    }

    /// The pages of whole blocks along `tokens`, as far as they are there.
    pub fn whole_pages(&self, adapters: u128, tokens: &[u32]) -> Vec<Option<PageRef>> {
        let path = self.path(adapters, tokens);
        let whole = path.iter().filter(|(_, n)| *n == PAGE_LEN);
        let mut pages: Vec<_> = whole.map(|(node, _)| self.nodes[*node].page.clone()).collect();
        pages.resize_with(tokens.len() / PAGE_LEN, || None);
        pages
    }

    fn longest(&self, path: &[(usize, usize)]) -> (usize, usize) {
        // How many pages in a row are there, up to and with each.
        let mut n_in_a_row = 0;
        let mut best = (0, 0);
        for (number, &(node, n)) in path.iter().enumerate() {
            n_in_a_row = if self.nodes[node].page.is_some() { n_in_a_row + 1 } else { 0 };
            let n = number * PAGE_LEN + n;
            let first_page = first_page(self.window, n);
            if number + 1 - first_page <= n_in_a_row {
                best = (n, first_page);
            }
        }
        best
    }

    /// Takes in the pages of a text that are not there yet. `tokens` are those whose keys and values `cache` has, and whose pages will not
    /// change any more.
    pub fn insert(&mut self, adapters: u128, tokens: &[u32], cache: &KvCache) {
        self.clock += 1;
        let mut node = self.root(adapters);
        for (number, block) in tokens.chunks(PAGE_LEN).enumerate() {
            let known = self.nodes[node].children.get(block).copied();
            node = match known {
                Some(child) => child,
                None if self.covers(node, block) => return,
                None => self.add(node, number, block),
            };
            if self.nodes[node].page.is_none() {
                self.nodes[node].page = cache.share_page(number);
                if self.nodes[node].page.is_some() {
                    self.nodes[node].used = self.clock;
                    self.by_use.insert((self.clock, Reverse(number), node));
                }
            }
            if number >= first_page(self.window, tokens.len()) {
                self.touch(node);
            }
        }
        self.prune(node);
    }

    /// Whether there is a child that begins with `block`, and more.
    fn covers(&self, node: usize, block: &[u32]) -> bool {
        let children = &self.nodes[node].children;
        let after = children.range::<[u32], _>((Included(block), Unbounded)).next();
        after.is_some_and(|(tokens, child)| tokens.starts_with(block) && self.nodes[*child].page.is_some())
    }

    fn add(&mut self, parent: usize, number: usize, block: &[u32]) -> usize {
        // A shorter end that this one goes on from.
        let children = &self.nodes[parent].children;
        let before = children.range::<[u32], _>((Unbounded, Excluded(block))).next_back();
        let shorter = before.filter(|(tokens, _)| block.starts_with(tokens)).map(|(_, child)| *child);
        let id = self.place(|_| (parent, number, block.into()));
        self.nodes[parent].children.insert(block.into(), id);
        shorter.into_iter().for_each(|child| self.drop_page(child));
        id
    }

    /// The node before the first pages of texts with these adapters.
    fn root(&mut self, adapters: u128) -> usize {
        match self.roots.get(&adapters) {
            Some(root) => *root,
            None => {
                let root = self.place(|id| (id, 0, Box::default()));
                self.roots.insert(adapters, root);
                root
            }
        }
    }

    /// A new node, whose parent, number and tokens may depend on its place.
    fn place(&mut self, of: impl FnOnce(usize) -> (usize, usize, Box<[u32]>)) -> usize {
        let id = self.free.pop().unwrap_or(self.nodes.len());
        let (parent, number, tokens) = of(id);
        let node = Node { parent, tokens, number, page: None, children: BTreeMap::new(), used: self.clock };
        match self.nodes.get_mut(id) {
            Some(place) => *place = node,
            None => self.nodes.push(node),
        }
        id
    }

    /// Notes that a page was used now.
    fn touch(&mut self, node: usize) {
        let Node { number, page, used, .. } = &mut self.nodes[node];
        if page.is_some() && *used != self.clock {
            self.by_use.remove(&(*used, Reverse(*number), node));
            *used = self.clock;
            self.by_use.insert((self.clock, Reverse(*number), node));
        }
    }

    /// Gives up a page that may go, the least recently used first. Returns false where there is none.
    pub fn evict(&mut self, may_go: impl Fn(&PageRef) -> bool) -> bool {
        let may_go = |node: &usize| self.nodes[*node].page.as_ref().is_some_and(&may_go);
        let node = self.by_use.iter().map(|(.., node)| *node).find(may_go);
        node.into_iter().for_each(|node| self.drop_page(node));
        node.is_some()
    }

    fn drop_page(&mut self, node: usize) {
        let Node { number, page, used, .. } = &mut self.nodes[node];
        if page.take().is_some() {
            self.by_use.remove(&(*used, Reverse(*number), node));
        }
        self.prune(node);
    }

    /// Removes a node that is of no use any more, and those before it that are not then.
    fn prune(&mut self, mut node: usize) {
        while self.nodes[node].page.is_none() && self.nodes[node].children.is_empty() {
            let parent = self.nodes[node].parent;
            if parent == node {
                self.roots.retain(|_, root| *root != node);
                self.free.push(node);
                return;
            }
            let tokens = std::mem::take(&mut self.nodes[node].tokens);
            self.nodes[parent].children.remove(&tokens);
            self.free.push(node);
            node = parent;
        }
    }
}
