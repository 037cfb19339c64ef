//! Figures that models were announced with.

use bise::eval::{Metric, Report, Task};

/// `--suite`.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suite {
    /// MMLU (5 examples), HellaSwag, ARC-Challenge, Winogrande and TriviaQA (5 examples)
    #[value(name = "mistral-7b")]
    Mistral7b,
}

/// A figure of an announcement.
struct Figure {
    task: &'static str,
    title: &'static str,
    metric: Metric,
    n_shots: usize,
    /// In percent.
    announced: f64,
}

/// Mistral AI, "Announcing Mistral 7B", 27 September 2023. (The paper, arXiv:2310.06825, has 69.9 for TriviaQA.)
const MISTRAL_7B: [Figure; 5] = [
    Figure { task: "mmlu", title: "MMLU", metric: Metric::Acc, n_shots: 5, announced: 60.1 },
    Figure { task: "hellaswag", title: "HellaSwag", metric: Metric::AccNorm, n_shots: 0, announced: 81.3 },
    Figure { task: "winogrande", title: "WinoGrande", metric: Metric::Acc, n_shots: 0, announced: 75.3 },
    Figure {
        task: "arc_challenge",
        title: "ARC-Challenge",
        metric: Metric::AccNorm,
        n_shots: 0,
        announced: 55.5,
    },
    Figure { task: "triviaqa", title: "TriviaQA", metric: Metric::ExactMatch, n_shots: 5, announced: 62.5 },
];

impl Suite {
    fn figures(self) -> &'static [Figure] {
        match self {
            Suite::Mistral7b => &MISTRAL_7B,
        }
    }

    /// The names of its tasks.
    pub fn tasks(self) -> impl Iterator<Item = &'static str> {
        self.figures().iter().map(|figure| figure.task)
    }

    /// The examples that it shows of a task.
    pub fn n_shots(self, task: Task) -> usize {
        let of = |figure: &&Figure| match task {
            Task::Mmlu(..) => figure.task == "mmlu",
            task => figure.task == task.to_string(),
        };
        self.figures().iter().find(of).map_or(0, |figure| figure.n_shots)
    }

    /// The figures beside those of a report.
    pub fn table(self, report: &Report) -> String {
        let mut text =
            format!("{:<14} {:>6} {:<12} {:>6} {:>10}\n", "", "n-shot", "metric", "here", "announced");
        for figure in self.figures() {
            let here = report.estimate(figure.task, figure.metric);
            let here = here.map_or("-".to_owned(), |estimate| format!("{:.1}", 100.0 * estimate.value));
            text += &format!(
                "{:<14} {:>6} {:<12} {here:>6} {:>10.1}\n",
                figure.title,
                figure.n_shots,
                figure.metric.name(),
                figure.announced
            );
        }
        text + "\nMistral AI's figures are from a harness of its own, whose prompts, examples and metrics are not published: they need not be \
                reached exactly. Its paper has 69.9 for TriviaQA.\n"
    }
}
