//! What came of the tasks, summed up, in the JSON of lm-evaluation-harness.

use serde_json::{Map, Value, json};

use super::evaluate::TaskResult;
use super::select::Group;
use super::statistics::{mean, pooled_standard_error, standard_error, weighted_mean};
use super::task::{Metric, Task};

/// The version of the tasks of every group.
const GROUP_VERSION: &str = "2";

/// A number with its standard error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    pub value: f64,
    /// `None` for a single question.
    pub error: Option<f64>,
}

/// The results of all tasks.
#[derive(Debug)]
pub struct Report {
    /// By name.
    tasks: Vec<TaskResult>,
    /// Those of which a task was run, the widest first.
    groups: Vec<Group>,
}

/// A task or a group in the order of tables.
pub(super) struct Entry {
    pub alias: String,
    pub depth: usize,
    pub version: String,
    pub filter: &'static str,
    pub n_shots: Option<usize>,
    pub metrics: Vec<(Metric, Estimate)>,
}

impl TaskResult {
    fn n(&self) -> usize {
        self.scores.len()
    }

    fn estimate(&self, metric: Metric) -> Option<Estimate> {
        let at = self.task.metrics().iter().position(|other| *other == metric)?;
        let scores: Vec<f64> = self.scores.iter().map(|scores| scores[at]).collect();
        Some(Estimate { value: mean(&scores), error: standard_error(&scores) })
    }

    fn estimates(&self) -> Vec<(Metric, Estimate)> {
        let of = |metric: &Metric| Some((*metric, self.estimate(*metric)?));
        self.task.metrics().iter().filter_map(of).collect()
    }
}

impl Report {
    /// Sums up tasks, and those of each group.
    pub fn new(mut tasks: Vec<TaskResult>, groups: &[Group]) -> Report {
        tasks.sort_by_key(|task| task.task.to_string());
        let has_tasks = |group: &Group| tasks.iter().any(|result| group.has(result.task));
        let groups = groups.iter().copied().filter(has_tasks).collect();
        Report { tasks, groups }
    }

    fn members(&self, group: Group) -> impl Iterator<Item = &TaskResult> {
        self.tasks.iter().filter(move |result| group.has(result.task))
    }

    /// Whether `inner` is a part of `outer`.
    fn is_inside(inner: Group, outer: Group) -> bool {
        outer == Group::Mmlu && inner != Group::Mmlu
    }

    fn parent(&self, task: Task) -> Option<Group> {
        // The narrowest is the last.
        self.groups.iter().rev().copied().find(|group| group.has(task))
    }

    /// The mean over all questions of a group's tasks.
    fn group_estimate(&self, group: Group) -> Estimate {
        let estimates: Vec<_> =
            self.members(group).filter_map(|result| result.estimate(Metric::Acc)).collect();
        let sizes: Vec<usize> = self.members(group).map(TaskResult::n).collect();
        let values: Vec<f64> = estimates.iter().map(|estimate| estimate.value).collect();
        let errors: Vec<_> = estimates.iter().map(|estimate| estimate.error).collect();
        Estimate { value: weighted_mean(&values, &sizes), error: pooled_standard_error(&errors, &sizes) }
    }

    /// The score of a task or group by its name.
    pub fn estimate(&self, name: &str, metric: Metric) -> Option<Estimate> {
        if let Some(group) = self.groups.iter().find(|group| group.name() == name) {
            return (metric == Metric::Acc).then(|| self.group_estimate(*group));
        }
        self.tasks.iter().find(|result| result.name() == name)?.estimate(metric)
    }

    /// The examples shown in all of a group's tasks, if it is the same number.
    fn group_shots(&self, group: Group) -> Option<usize> {
        let mut shots = self.members(group).map(|result| result.n_shots);
        let first = shots.next()?;
        shots.all(|n| n == first).then_some(first)
    }

    /// Groups and their tasks, then all other tasks.
    pub(super) fn entries(&self, groups_only: bool) -> Vec<Entry> {
        let mut entries = Vec::new();
        let is_top = |group: &&Group| !self.groups.iter().any(|outer| Report::is_inside(**group, *outer));
        for group in self.groups.iter().filter(is_top) {
            self.push_group(*group, 0, groups_only, &mut entries);
        }
        if !groups_only {
            let lone = self.tasks.iter().filter(|result| self.parent(result.task).is_none());
            entries.extend(lone.map(|result| task_entry(result, 0)));
        }
        entries
    }

    fn push_group(&self, group: Group, depth: usize, groups_only: bool, entries: &mut Vec<Entry>) {
        entries.push(Entry {
            alias: group.alias(),
            depth,
            version: GROUP_VERSION.to_owned(),
            filter: "none",
            n_shots: self.group_shots(group),
            metrics: vec![(Metric::Acc, self.group_estimate(group))],
        });
        for inner in self.groups.iter().filter(|inner| Report::is_inside(**inner, group)) {
            self.push_group(*inner, depth + 1, groups_only, entries);
        }
        if !groups_only {
            let own = self.members(group).filter(|result| self.parent(result.task) == Some(group));
            entries.extend(own.map(|result| task_entry(result, depth + 1)));
        }
    }

    /// Whether there are groups.
    pub fn has_groups(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Everything, as lm-evaluation-harness writes it: `results`, `groups`, `group_subtasks`, `versions`, `n-shot`, `higher_is_better`,
    /// `n-samples`, and `samples` where they were kept.
    pub fn json(&self) -> Map<String, Value> {
        let mut results = Map::new();
        let mut groups = Map::new();
        let mut subtasks = Map::new();
        let mut versions = Map::new();
        let mut shots = Map::new();
        let mut better = Map::new();
        let mut counts = Map::new();
        let mut samples = Map::new();
        for result in &self.tasks {
            let (name, task) = (result.name(), result.task);
            let mut fields = fields(&name, task.alias(), result.n());
            push_estimates(&mut fields, &result.estimates(), task.filter());
            results.insert(name.clone(), fields.into());
            versions.insert(name.clone(), json!(task.version()));
            shots.insert(name.clone(), json!(result.n_shots));
            let all: Map<_, _> = task.metrics().iter().map(|m| (m.name().to_owned(), json!(true))).collect();
            better.insert(name.clone(), all.into());
            counts.insert(name.clone(), json!({"original": result.n_all, "effective": result.n()}));
            if !result.samples.is_empty() {
                samples.insert(name, result.samples.clone().into());
            }
        }
        for group in &self.groups {
            let (name, n) = (group.name(), self.members(*group).map(TaskResult::n).sum());
            let mut fields = fields(&name, &group.alias(), n);
            push_estimates(&mut fields, &[(Metric::Acc, self.group_estimate(*group))], "none");
            fields.insert("sample_count".to_owned(), json!({"acc,none": n}));
            results.insert(name.clone(), fields.clone().into());
            groups.insert(name.clone(), fields.into());
            let inner = self.groups.iter().filter(|inner| Report::is_inside(**inner, *group));
            let inner: Vec<String> = inner.map(|inner| inner.name()).collect();
            let own = self.members(*group).filter(|result| self.parent(result.task) == Some(*group));
            subtasks.insert(name.clone(), inner.into_iter().chain(own.map(TaskResult::name)).collect());
            versions.insert(name.clone(), json!(GROUP_VERSION));
            shots.extend(self.group_shots(*group).map(|n| (name.clone(), json!(n))));
            better.insert(name, json!({"acc": true}));
        }
        let mut whole = Map::new();
        whole.insert("results".to_owned(), results.into());
        if !groups.is_empty() {
            whole.insert("groups".to_owned(), groups.into());
        }
        let rest = [
            ("group_subtasks", subtasks),
            ("versions", versions),
            ("n-shot", shots),
            ("higher_is_better", better),
            ("n-samples", counts),
        ];
        whole.extend(rest.map(|(name, map)| (name.to_owned(), map.into())));
        if !samples.is_empty() {
            whole.insert("samples".to_owned(), samples.into());
        }
        whole
    }
}

fn task_entry(result: &TaskResult, depth: usize) -> Entry {
    Entry {
        alias: result.task.alias().to_owned(),
        depth,
        version: format!("{}", result.task.version()),
        filter: result.task.filter(),
        n_shots: Some(result.n_shots),
        metrics: result.estimates(),
    }
}

fn fields(name: &str, alias: &str, n: usize) -> Map<String, Value> {
    let fields = [("name", json!(name)), ("alias", json!(alias)), ("sample_len", json!(n))];
    fields.map(|(key, value)| (key.to_owned(), value)).into_iter().collect()
}

fn push_estimates(fields: &mut Map<String, Value>, estimates: &[(Metric, Estimate)], filter: &str) {
    for (metric, estimate) in estimates {
        let name = metric.name();
        fields.insert(format!("{name},{filter}"), json!(estimate.value));
        let error = estimate.error.map_or(json!("N/A"), |error| json!(error));
        fields.insert(format!("{name}_stderr,{filter}"), error);
    }
}
