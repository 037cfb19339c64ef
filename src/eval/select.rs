//! From names to tasks.

use super::EvalError;
use super::mmlu::Category;
use super::task::Task;

/// Tasks that are summed up together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// All subjects of MMLU.
    Mmlu,
    /// Those of a category.
    MmluCategory(Category),
}

impl Group {
    /// All groups, by their names.
    pub fn all() -> Vec<Group> {
        [Group::Mmlu].into_iter().chain(Category::ALL.map(Group::MmluCategory)).collect()
    }

    /// Its name: `mmlu`, `mmlu_stem` and so on.
    pub fn name(self) -> String {
        match self {
            Group::Mmlu => "mmlu".to_owned(),
            Group::MmluCategory(category) => format!("mmlu_{}", category.name()),
        }
    }

    /// What it is called in tables.
    pub fn alias(self) -> String {
        match self {
            Group::Mmlu => self.name(),
            Group::MmluCategory(category) => category.name().replace('_', " "),
        }
    }

    /// Whether a task belongs to it.
    pub fn has(self, task: Task) -> bool {
        match (self, task) {
            (Group::Mmlu, Task::Mmlu(..)) => true,
            (Group::MmluCategory(category), Task::Mmlu(of, _)) => category == of,
            _ => false,
        }
    }
}

/// The tasks that were asked for, each once, and the groups.
#[derive(Debug, Default)]
pub struct Selection {
    /// The tasks, in the order of [`Task::all`].
    pub tasks: Vec<Task>,
    /// The groups that were named, and those inside them.
    pub groups: Vec<Group>,
}

/// Names for several tasks that are not summed up.
const TAGS: [&str; 1] = ["ai2_arc"];

impl Selection {
    /// The tasks and groups of these names. A `*` stands for any letters.
    ///
    /// # Errors
    /// A name that nothing has, with the one that is most like it.
    pub fn of<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Result<Selection, EvalError> {
        let mut selection = Selection::default();
        for name in names {
            let name = name.as_ref().trim();
            if !name.is_empty() {
                selection.add(name)?;
            }
        }
        let all = Task::all();
        selection.tasks.sort_by_key(|task| all.iter().position(|other| other == task));
        selection.tasks.dedup();
        Ok(selection)
    }

    fn add(&mut self, name: &str) -> Result<(), EvalError> {
        let (n_tasks, n_groups) = (self.tasks.len(), self.groups.len());
        let tasks: Vec<_> = Task::all().into_iter().filter(|task| matches(name, &task.to_string())).collect();
        self.tasks.extend(tasks);
        for group in Group::all().into_iter().filter(|group| matches(name, &group.name())) {
            self.groups.push(group);
            if group == Group::Mmlu {
                self.groups.extend(Category::ALL.map(Group::MmluCategory));
            }
            self.tasks.extend(Task::all().into_iter().filter(|task| group.has(*task)));
        }
        if TAGS.contains(&name) {
            self.tasks.extend([Task::ArcChallenge, Task::ArcEasy]);
        }
        if (self.tasks.len(), self.groups.len()) == (n_tasks, n_groups) {
            let name = name.to_owned();
            return Err(EvalError::UnknownTask { nearest: nearest(&name), name });
        }
        let all = Group::all();
        self.groups.sort_by_key(|group| all.iter().position(|other| other == group));
        self.groups.dedup();
        Ok(())
    }
}

/// All names of tasks and groups.
pub fn names() -> Vec<String> {
    let groups = Group::all().into_iter().map(Group::name);
    let tasks = Task::all().into_iter().map(|task| task.to_string());
    let mut names: Vec<_> = groups.chain(tasks).chain(TAGS.map(str::to_owned)).collect();
    names.sort();
    names
}

/// Whether a name is what a pattern describes, in which a `*` stands for any letters.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    // What stands between two stars is best found early: more is left for the next.
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(last)
}

/// The name that takes the fewest changes, if it is a likely one.
fn nearest(name: &str) -> Option<String> {
    let distance = |other: &String| edits(&name.to_lowercase().replace('-', "_"), other);
    let best = names().into_iter().min_by_key(distance)?;
    (distance(&best) <= 1 + name.chars().count() / 3).then_some(best)
}

/// Letters to insert, delete or replace (Levenshtein's distance).
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks(names: &str) -> Vec<String> {
        let selection = Selection::of(names.split(',')).unwrap();
        selection.tasks.iter().map(Task::to_string).collect()
    }

    #[test]
    fn names_are_those_of_lm_eval() {
        assert_eq!(tasks("winogrande,hellaswag, winogrande"), ["hellaswag", "winogrande"]);
        assert_eq!(tasks("ai2_arc"), ["arc_challenge", "arc_easy"]);
        assert_eq!(tasks("mmlu").len(), 57);
        assert_eq!(tasks("mmlu_stem").len(), 19);
        assert_eq!(tasks("mmlu_high_school_*_history").len(), 3);
        assert_eq!(tasks("*_*_history"), tasks("mmlu_high_school_*_history"));
        assert_eq!(tasks("w*e").len(), 1);
        assert_eq!(tasks("mmlu_*math*").len(), 3);
        assert_eq!(Selection::of(["mmlu", "mmlu_stem"]).unwrap().groups, Group::all());
        assert!(Selection::of(["mmlu_anatomy"]).unwrap().groups.is_empty());
    }

    #[test]
    fn a_name_that_nothing_has_is_named_with_the_nearest() {
        for (name, want) in [
            ("helaswag", Some("hellaswag")),
            ("ARC-challenge", Some("arc_challenge")),
            ("trivia_qa", Some("triviaqa")),
            ("mmlu_abstract_algbra", Some("mmlu_abstract_algebra")),
            ("gsm8k", None),
            ("*x*x", None),
        ] {
            match Selection::of([name]) {
                Err(EvalError::UnknownTask { nearest, .. }) => assert_eq!(nearest.as_deref(), want, "{name}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
