//! The tasks: which data they read, what they ask, and what they measure.

use std::fmt;

use super::EvalError;
use super::data::{Dataset, Row, Split};
use super::mmlu::{Category, SUBJECTS};
use super::python_str::{capitalize, strip};
use super::question::{Question, QuestionKind};

/// A set of questions with one score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// ARC, the harder questions.
    ArcChallenge,
    /// ARC, the easier questions.
    ArcEasy,
    /// HellaSwag.
    HellaSwag,
    /// A subject of MMLU.
    Mmlu(Category, &'static str),
    /// TriviaQA, without documents.
    TriviaQa,
    /// Winogrande, XL.
    Winogrande,
}

/// How examples are chosen from their split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampler {
    /// The first ones.
    First,
    /// Drawn anew for each question.
    Random,
    /// Drawn anew for each question, which may be among them and is left out then.
    RandomOthers,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// The right choice is the likeliest.
    Acc,
    /// The right choice is the likeliest for its length in characters.
    AccNorm,
    /// The answer is one of the right ones, whatever its case and punctuation.
    ExactMatch,
}

impl Metric {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Acc => "acc",
            Metric::AccNorm => "acc_norm",
            Metric::ExactMatch => "exact_match",
        }
    }
}

/// Where an answer ends.
pub const STOPS: [&str; 3] = ["\n", ".", ","];

/// Tokens of an answer at most.
pub const MAX_ANSWER_TOKENS: usize = 256;

/// MMLU's folder with all subjects.
pub const ALL_SUBJECTS: &str = "all";

impl Task {
    /// All tasks, by their names.
    pub fn all() -> Vec<Task> {
        let subjects =
            SUBJECTS.iter().flat_map(|(category, subjects)| subjects.iter().map(|name| (*category, *name)));
        let mut subjects: Vec<_> = subjects.collect();
        subjects.sort_by_key(|(_, name)| *name);
        let mmlu = subjects.into_iter().map(|(category, name)| Task::Mmlu(category, name));
        let before = [Task::ArcChallenge, Task::ArcEasy, Task::HellaSwag];
        before.into_iter().chain(mmlu).chain([Task::TriviaQa, Task::Winogrande]).collect()
    }

    /// What it is called in tables.
    pub fn alias(self) -> &'static str {
        match self {
            Task::ArcChallenge => "arc_challenge",
            Task::ArcEasy => "arc_easy",
            Task::HellaSwag => "hellaswag",
            Task::Mmlu(_, subject) => subject,
            Task::TriviaQa => "triviaqa",
            Task::Winogrande => "winogrande",
        }
    }

    /// The version of lm-evaluation-harness' task of this name.
    pub fn version(self) -> f64 {
        match self {
            Task::TriviaQa => 3.0,
            _ => 1.0,
        }
    }

    /// What is measured, by name.
    pub fn metrics(self) -> &'static [Metric] {
        match self {
            Task::ArcChallenge | Task::ArcEasy | Task::HellaSwag => &[Metric::Acc, Metric::AccNorm],
            Task::Mmlu(..) | Task::Winogrande => &[Metric::Acc],
            Task::TriviaQa => &[Metric::ExactMatch],
        }
    }

    /// What is done to the model's output before it is measured.
    pub fn filter(self) -> &'static str {
        match self {
            Task::TriviaQa => "remove_whitespace",
            _ => "none",
        }
    }

    /// The text that a prompt begins with.
    pub fn description(self) -> Option<String> {
        match self {
            Task::Mmlu(_, subject) => Some(format!(
                "The following are multiple choice questions (with answers) about {}.\n\n",
                subject.replace('_', " ")
            )),
            _ => None,
        }
    }

    /// The data that it reads.
    pub(super) fn dataset(self) -> Dataset {
        use Split::{Test, Train, Validation};
        match self {
            Task::ArcChallenge => Dataset {
                repo: "allenai/ai2_arc",
                folders: vec!["ARC-Challenge"],
                include: Some("ARC-Challenge/*"),
                originals: &[
                    (
                        Train,
                        &[
                            "ARC-V1-Feb2018-2/ARC-Challenge/ARC-Challenge-Train.jsonl",
                            "ARC-Challenge/ARC-Challenge-Train.jsonl",
                            "ARC-Challenge-Train.jsonl",
                        ],
                    ),
                    (
                        Test,
                        &[
                            "ARC-V1-Feb2018-2/ARC-Challenge/ARC-Challenge-Test.jsonl",
                            "ARC-Challenge/ARC-Challenge-Test.jsonl",
                            "ARC-Challenge-Test.jsonl",
                        ],
                    ),
                ],
            },
            Task::ArcEasy => Dataset {
                repo: "allenai/ai2_arc",
                folders: vec!["ARC-Easy"],
                include: Some("ARC-Easy/*"),
                originals: &[
                    (
                        Train,
                        &[
                            "ARC-V1-Feb2018-2/ARC-Easy/ARC-Easy-Train.jsonl",
                            "ARC-Easy/ARC-Easy-Train.jsonl",
                            "ARC-Easy-Train.jsonl",
                        ],
                    ),
                    (
                        Test,
                        &[
                            "ARC-V1-Feb2018-2/ARC-Easy/ARC-Easy-Test.jsonl",
                            "ARC-Easy/ARC-Easy-Test.jsonl",
                            "ARC-Easy-Test.jsonl",
                        ],
                    ),
                ],
            },
            Task::HellaSwag => Dataset {
                repo: "Rowan/hellaswag",
                folders: vec!["data", "default", ""],
                include: None,
                originals: &[
                    (Train, &["hellaswag_train.jsonl", "data/hellaswag_train.jsonl"]),
                    (Validation, &["hellaswag_val.jsonl", "data/hellaswag_val.jsonl"]),
                ],
            },
            Task::Mmlu(_, subject) => Dataset {
                repo: "cais/mmlu",
                folders: vec![subject, ALL_SUBJECTS],
                include: Some("all/*"),
                originals: &[],
            },
            Task::TriviaQa => Dataset {
                repo: "mandarjoshi/trivia_qa",
                folders: vec!["rc.nocontext", ""],
                include: Some("rc.nocontext/*"),
                originals: &[],
            },
            Task::Winogrande => Dataset {
                repo: "allenai/winogrande",
                folders: vec!["winogrande_xl", ""],
                include: Some("winogrande_xl/*"),
                originals: &[
                    (Train, &["winogrande_1.1/train_xl.jsonl", "train_xl.jsonl"]),
                    (Validation, &["winogrande_1.1/dev.jsonl", "dev.jsonl"]),
                ],
            },
        }
    }

    /// The split with its questions.
    pub(super) fn split(self) -> Split {
        match self {
            Task::ArcChallenge | Task::ArcEasy | Task::Mmlu(..) => Split::Test,
            Task::HellaSwag | Task::TriviaQa | Task::Winogrande => Split::Validation,
        }
    }

    /// The split with its examples.
    pub(super) fn examples(self) -> Split {
        match self {
            Task::Mmlu(..) => Split::Dev,
            _ => Split::Train,
        }
    }

    pub(super) fn sampler(self) -> Sampler {
        match self {
            Task::Mmlu(..) => Sampler::First,
            Task::ArcChallenge | Task::ArcEasy => Sampler::Random,
            Task::HellaSwag | Task::TriviaQa | Task::Winogrande => Sampler::RandomOthers,
        }
    }

    /// The columns that rows must have, in the files of the Hub or in those of the original publication.
    pub(super) fn columns(self, is_original: bool) -> &'static [&'static str] {
        match self {
            Task::ArcChallenge | Task::ArcEasy if is_original => {
                &["question.stem", "question.choices", "answerKey"]
            }
            Task::ArcChallenge | Task::ArcEasy => &["question", "choices.text", "choices.label", "answerKey"],
            Task::HellaSwag => &["activity_label", "ctx_a", "ctx_b", "endings", "label"],
            Task::Mmlu(..) => &["question", "choices", "answer"],
            Task::TriviaQa => &["question", "answer.aliases"],
            Task::Winogrande => &["sentence", "option1", "option2", "answer"],
        }
    }

    /// The question of a row.
    pub(super) fn question(self, row: &Row<'_>) -> Result<Question, EvalError> {
        let kind = match self {
            Task::ArcChallenge | Task::ArcEasy => arc(row)?,
            Task::HellaSwag => hellaswag(row)?,
            Task::Mmlu(..) => mmlu(row)?,
            Task::TriviaQa => trivia_qa(row)?,
            Task::Winogrande => winogrande(row)?,
        };
        Ok(Question { identity: row.identity(), kind })
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Task::Mmlu(..) = self {
            f.write_str("mmlu_")?;
        }
        f.write_str(self.alias())
    }
}

fn arc(row: &Row<'_>) -> Result<QuestionKind, EvalError> {
    let (question, labels, choices) = match row.has("question.stem") {
        true => {
            let pairs = row.pairs("question.choices", ["label", "text"])?;
            let (labels, texts) = pairs.into_iter().map(|[label, text]| (label, text)).unzip();
            (row.text("question.stem")?, labels, texts)
        }
        false => (row.text("question")?, row.texts("choices.label")?, row.texts("choices.text")?),
    };
    let key = row.text("answerKey")?;
    let Some(gold) = labels.iter().position(|label| label == key).filter(|gold| *gold < choices.len()) else {
        return row.refuse(format!("answerKey: found '{key}', expected one of {}", labels.join(", ")));
    };
    Ok(QuestionKind::Choices { text: format!("Question: {question}\nAnswer:"), choices, gold })
}

fn hellaswag(row: &Row<'_>) -> Result<QuestionKind, EvalError> {
    let (activity, a, b) = (row.text("activity_label")?, row.text("ctx_a")?, row.text("ctx_b")?);
    let text = from_wikihow(&format!("{activity}: {a} {}", capitalize(b)));
    let choices: Vec<_> = row.texts("endings")?.iter().map(|ending| from_wikihow(ending)).collect();
    if choices.is_empty() {
        return row.refuse("endings: found none, expected some");
    }
    let gold = row.choice("label", 0, choices.len())?;
    Ok(QuestionKind::Choices { text, choices, gold })
}

/// Without the marks that HellaSwag's texts have kept of WikiHow.
fn from_wikihow(text: &str) -> String {
    let text = strip(text).replace(" [title]", ". ");
    without_brackets(&text).replace("  ", " ")
}

/// Without what stands in square brackets on one line: Python's `re.sub(r"\[.*?\]", "", text)`.
fn without_brackets(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let inside = &rest[open + 1..];
        match inside.find([']', '\n']) {
            Some(end) if inside[end..].starts_with(']') => {
                kept.push_str(&rest[..open]);
                rest = &inside[end + 1..];
            }
            _ => {
                kept.push_str(&rest[..=open]);
                rest = inside;
            }
        }
    }
    kept + rest
}

fn mmlu(row: &Row<'_>) -> Result<QuestionKind, EvalError> {
    const LETTERS: [&str; 4] = ["A", "B", "C", "D"];
    let (question, choices) = (row.text("question")?, row.texts("choices")?);
    let [a, b, c, d] = choices.as_slice() else {
        return row.refuse(format!("choices: found {}, expected 4", choices.len()));
    };
    let text = format!("{}\nA. {a}\nB. {b}\nC. {c}\nD. {d}\nAnswer:", strip(question));
    let gold = row.choice("answer", 0, LETTERS.len())?;
    Ok(QuestionKind::Choices { text, choices: LETTERS.map(str::to_owned).to_vec(), gold })
}

fn trivia_qa(row: &Row<'_>) -> Result<QuestionKind, EvalError> {
    let answers = row.texts("answer.aliases")?;
    if answers.is_empty() {
        return row.refuse("answer.aliases: found none, expected some");
    }
    Ok(QuestionKind::Answer { text: format!("Question: {}?\nAnswer:", row.text("question")?), answers })
}

fn winogrande(row: &Row<'_>) -> Result<QuestionKind, EvalError> {
    let sentence = row.text("sentence")?;
    let Some((before, after)) = sentence.split_once('_') else {
        return row.refuse("sentence: found no '_', expected one where an option belongs");
    };
    let contexts = vec![before.to_owned() + row.text("option1")?, before.to_owned() + row.text("option2")?];
    let gold = row.choice("answer", 1, contexts.len())?;
    Ok(QuestionKind::Contexts { contexts, ending: strip(after).to_owned(), gold })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// python3: `re.sub(r"\[.*?\]", "", text)`
    #[test]
    fn brackets_go_away() {
        for (text, want) in [
            ("a [step] b", "a  b"),
            ("[a][b]c", "c"),
            ("a [b [c] d]", "a  d]"),
            ("a [b\nc] d", "a [b\nc] d"),
            ("a [b\n[c] d", "a [b\n d"),
            ("a [", "a ["),
            ("[]", ""),
        ] {
            assert_eq!(without_brackets(text), want, "{text:?}");
        }
    }

    /// lm_eval.tasks.hellaswag.utils.preprocess
    #[test]
    fn texts_of_wikihow_are_cleaned() {
        assert_eq!(
            from_wikihow(" How to [header] swim [title] Go in.   Slowly "),
            "How to swim. Go in.  Slowly"
        );
    }

    #[test]
    fn there_are_57_subjects() {
        assert_eq!(Task::all().len(), 57 + 5);
    }
}
