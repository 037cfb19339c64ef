//! From questions to the tokens that are scored.

use super::super::likelihood::Scored;
use super::FileTask;
use crate::tokenizer::{EncodeOptions, Tokenizer};

/// The tokens of an answer whose log-probabilities are averaged.
pub struct Answer {
    pub texts: Vec<Scored>,
    /// What their sum is divided by.
    n: usize,
}

impl Answer {
    /// All tokens from `first` on.
    fn from(tokens: Vec<u32>, first: usize) -> Answer {
        let n = tokens.len() - first;
        Answer { texts: vec![Scored { tokens, n_scored: n }], n }
    }

    /// The mean, in single precision as in llama-perplexity.
    pub fn mean(&self, sum: f64) -> f32 {
        sum as f32 / self.n as f32
    }
}

impl FileTask {
    /// The answers' tokens.
    ///
    /// # Errors
    /// What was found that cannot be scored.
    pub fn prepare(&self, tokenizer: &Tokenizer, n_ctx: usize) -> Result<Vec<Answer>, String> {
        let encode =
            |text: &str| tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false });
        let texts: Vec<String> = match self {
            FileTask::Endings { context, endings, .. } => {
                endings.iter().map(|ending| format!("{context} {ending}")).collect()
            }
            FileTask::Gap { before, after, choices, .. } => {
                choices.iter().map(|choice| format!("{before}{choice}{after}")).collect()
            }
        };
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| encode(text)).collect();
        let n_common = common_prefix(&tokens);
        let needed = n_common + tokens.iter().map(|tokens| tokens.len() - n_common).sum::<usize>();
        if needed > n_ctx {
            return Err(format!("found {needed} tokens, expected at most {n_ctx} (--ctx-size)"));
        }
        if n_common == 0 {
            return Err("found answers without a common beginning, expected one".to_owned());
        }
        match self {
            FileTask::Endings { .. } => {
                // An answer that another begins with keeps a token of its own.
                let shortest = tokens.iter().map(Vec::len).min().unwrap_or(0);
                let first = n_common.min(shortest - 1);
                if first == 0 {
                    return Err("found no tokens before an answer, expected some".to_owned());
                }
                Ok(tokens.into_iter().map(|tokens| Answer::from(tokens, first)).collect())
            }
            FileTask::Gap { before, choices, .. } => {
                let n_bases: Vec<_> =
                    choices.iter().map(|choice| encode(&format!("{before}{choice}")).len()).collect();
                gap(&tokens, n_common, &n_bases)
            }
        }
    }
}

fn common_prefix(all: &[Vec<u32>]) -> usize {
    let (first, others) = all.split_first().expect("there are answers");
    first
        .iter()
        .enumerate()
        .take_while(|(i, token)| others.iter().all(|other| other.get(*i) == Some(token)))
        .count()
}

/// What follows the choices, without the last token where there are several. Where little follows, the choices are scored, too.
fn gap(tokens: &[Vec<u32>], n_common: usize, n_bases: &[usize]) -> Result<Vec<Answer>, String> {
    /// What follows the first difference has to be longer than this, for the choices to be left out.
    const MIN_TRAILING: usize = 3;
    let skips_choices = tokens.iter().all(|tokens| tokens.len() - n_common > MIN_TRAILING);
    let answer = |(i, whole): (usize, &Vec<u32>)| {
        let first = if skips_choices { n_bases[i] } else { n_common };
        if first == 0 {
            return Err("found no tokens before what is scored, expected some".to_owned());
        }
        let Some(n_behind) = whole.len().checked_sub(first) else {
            // Fewer tokens with what follows than without: llama-perplexity takes 0 for the mean.
            return Ok(Answer { texts: Vec::new(), n: usize::MAX });
        };
        let n = n_behind - usize::from(n_behind > 1);
        if n == 0 {
            return Ok(Answer { texts: Vec::new(), n });
        }
        let scored = Scored { tokens: whole[..first + n].to_vec(), n_scored: n };
        if i == 0 || skips_choices {
            return Ok(Answer { texts: vec![scored], n });
        }
        // llama-perplexity takes the logits after the whole first sentence for the first token of the second's choice.
        let after_first = tokens[0].iter().copied().chain([whole[first]]).collect();
        let mut texts = vec![Scored { tokens: after_first, n_scored: 1 }];
        texts.extend((n > 1).then_some(Scored { n_scored: n - 1, ..scored }));
        Ok(Answer { texts, n })
    };
    tokens.iter().enumerate().map(answer).collect()
}
