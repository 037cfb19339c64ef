//! Texts as vectors: embeddings, made of the hidden states of a model.
//!
//! ```
//! use bise::Engine;
//! use bise::embedding::{EmbedOptions, Pooling};
//!
//! # #[cfg(feature = "builtin-model")] {
//! let engine = Engine::builtin()?; // or Engine::open("e5-mistral-7b-instruct.Q4_K_M.gguf")?
//! let options = EmbedOptions { pooling: Some(Pooling::Mean), ..EmbedOptions::default() };
//! let vectors = engine.embed(&["The cat sat by the fire.", "A dog slept near the stove."], &options)?;
//! // Both have length 1, so their dot product is the cosine similarity.
//! let similarity: f32 = vectors[0].iter().zip(&vectors[1]).map(|(a, b)| a * b).sum();
//! assert!((-1.0..=1.0).contains(&similarity));
//! # }
//! # Ok::<(), bise::Error>(())
//! ```

use bise_models::gguf::GgufError;
use bise_models::tokenizer::EncodeOptions;
use bise_models::{ForwardError, Output, SpanError};
use smallvec::SmallVec;

use crate::{Cancel, Engine, Error, Feed, Sequence, SessionOptions};

/// How the hidden states of a text become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The mean over all tokens.
    Mean,
    /// The first token's, called `cls` elsewhere. Under a causal mask it has seen nothing but itself.
    First,
    /// The last token's, which has seen the whole text.
    Last,
}

/// How texts are embedded.
#[derive(Clone, Debug)]
pub struct EmbedOptions {
    /// How a text's hidden states become one vector. `None` takes what the file says ([`Engine::pooling`]), or the mean where it says
    /// nothing.
    pub pooling: Option<Pooling>,
    /// Scale each vector to Euclidean length 1.
    pub normalize: bool,
    /// The longest text in tokens, how keys and values are kept, and how many tokens a pass reads.
    pub session: SessionOptions,
    /// Texts that a pass reads together at most. Each holds its keys and values while it is being read.
    pub n_parallel: usize,
    /// Ends the work early when set.
    pub cancel: Cancel,
}

impl Default for EmbedOptions {
    fn default() -> EmbedOptions {
        EmbedOptions {
            pooling: None,
            normalize: true,
            session: SessionOptions::default(),
            n_parallel: 16,
            cancel: Cancel::new(),
        }
    }
}

/// A norm to divide a vector by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Norm {
    /// The largest magnitude, which becomes 32760: numbers for 16-bit integers.
    MaxAbs,
    /// `(Σ |x|ᵖ)^(1/p)`, which becomes 1. 1 is the taxicab norm, 2 the Euclidean one. At least 1.
    P(f64),
}

/// Divides `vector` by its norm. A vector of zeros stays as it is.
pub fn normalize(vector: &mut [f32], norm: Norm) {
    let magnitudes = || vector.iter().map(|&x| f64::from(x).abs());
    let length = match norm {
        Norm::MaxAbs => magnitudes().fold(0.0, f64::max) / 32760.0,
        Norm::P(1.0) => magnitudes().sum(),
        Norm::P(2.0) => magnitudes().map(|x| x * x).sum::<f64>().sqrt(),
        Norm::P(p) => libm::pow(magnitudes().map(|x| libm::pow(x, p)).sum(), 1.0 / p),
    };
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    }
}

impl Engine {
    /// The pooling that the file asks for (`{arch}.pooling_type`); `None` where it asks for none.
    ///
    /// # Errors
    /// For a kind that is not known, and for that of rerankers, which give no vector.
    pub fn pooling(&self) -> Result<Option<Pooling>, GgufError> {
        let metadata = self.file().metadata();
        let key = format!("{}.pooling_type", self.config().arch);
        match metadata.u64(&key)? {
            None | Some(0) => Ok(None),
            Some(1) => Ok(Some(Pooling::Mean)),
            Some(2) => Ok(Some(Pooling::First)),
            Some(3) => Ok(Some(Pooling::Last)),
            Some(other) => {
                let expected = "0 (none), 1 (mean), 2 (first token) or 3 (last token)";
                Err(metadata.error(&key, other.to_string(), expected))
            }
        }
    }

    /// The tokens of a text to embed: as of a prompt, and EOS at the end where the model was trained with it.
    pub fn embedding_tokens(&self, text: &str) -> Vec<u32> {
        let tokenizer = self.tokenizer();
        let mut tokens = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: true });
        let eos = tokenizer.eos().filter(|eos| tokenizer.adds_eos() && tokens.last() != Some(eos));
        tokens.extend(eos);
        tokens
    }

    /// One vector of `n_embd` numbers for each text.
    ///
    /// Each text is read by itself, whichever others are in the same pass: its vector has the same bits alone and among others.
    ///
    /// # Errors
    /// [`Error::Text`], which names the text, for one without tokens, one longer than the context, and one on which activations are not
    /// finite. Also where memory is short, when cancelled, and for a file whose pooling is not known where that is asked for.
    pub fn embed<T: AsRef<str>>(&self, texts: &[T], options: &EmbedOptions) -> Result<Vec<Vec<f32>>, Error> {
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| self.embedding_tokens(text.as_ref())).collect();
        self.embed_tokens(&tokens, options)
    }

    /// [`Engine::embed`] for texts that are tokens already.
    ///
    /// # Errors
    /// As [`Engine::embed`], and for a token outside the vocabulary.
    pub fn embed_tokens<T: AsRef<[u32]>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
    ) -> Result<Vec<Vec<f32>>, Error> {
        let pooling = match options.pooling {
            Some(pooling) => pooling,
            None => self.pooling()?.unwrap_or(Pooling::Mean),
        };
        let texts: Vec<&[u32]> = texts.iter().map(AsRef::as_ref).collect();
        self.check_texts(&texts, options)?;
        let mut poolers: Vec<Pooler> =
            texts.iter().map(|text| Pooler::new(Some(pooling), text.len())).collect();
        let wanted = match pooling {
            Pooling::Mean => Wanted::All,
            Pooling::First => Wanted::First,
            Pooling::Last => Wanted::Last,
        };
        self.read_texts(&texts, wanted, options, &mut |text, token, state| {
            poolers[text].push(token, state);
        })?;
        Ok(poolers.into_iter().map(|pooler| pooler.finish(options.normalize)).collect())
    }

    /// Calls `each(text, token, state)` with the hidden state after the last norm, `n_embd` numbers, of every token of every text. The
    /// tokens of a text come in order, those of different texts between each other. Pooling and normalization are not applied.
    ///
    /// # Errors
    /// As [`Engine::embed_tokens`].
    pub fn hidden_states<T: AsRef<[u32]>>(
        &self,
        texts: &[T],
        options: &EmbedOptions,
        each: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), Error> {
        let texts: Vec<&[u32]> = texts.iter().map(AsRef::as_ref).collect();
        self.check_texts(&texts, options)?;
        self.read_texts(&texts, Wanted::All, options, each)
    }

    /// Errs for the first text that cannot be read, before any is.
    fn check_texts(&self, texts: &[&[u32]], options: &EmbedOptions) -> Result<(), Error> {
        let (n_vocab, room) = (self.config().n_vocab, self.sequence(&options.session).room());
        texts.iter().enumerate().try_for_each(|(index, text)| {
            let unknown = text.iter().copied().find(|token| *token as usize >= n_vocab);
            let error = match unknown {
                Some(token) => SpanError::UnknownToken { token, n_vocab },
                None if text.len() > room => {
                    SpanError::ContextFull { n_tokens: text.len(), position: 0, room }
                }
                None if text.is_empty() => return Err(Error::EmptyText { index }),
                None => return Ok(()),
            };
            Err(Error::from(ForwardError::Span { span: 0, error }).of_text(index))
        })
    }

    /// Reads the texts, as many together as a pass has room for, and calls `each(text, token, state)` at least for the wanted tokens.
    fn read_texts(
        &self,
        texts: &[&[u32]],
        wanted: Wanted,
        options: &EmbedOptions,
        each: &mut dyn FnMut(usize, usize, &[f32]),
    ) -> Result<(), Error> {
        let pool = self.page_pool(&options.session, usize::MAX);
        let n_ctx = self.n_ctx(&options.session);
        // Nothing that stands behind the first token is part of its state.
        let tokens = |text: usize| match wanted {
            Wanted::First => &texts[text][..1],
            Wanted::All | Wanted::Last => texts[text],
        };
        let adapters = self.adapters();
        let mut waiting = 0..texts.len();
        let mut reading: Vec<Reading> = Vec::new();
        let mut runner = self.shared_runner();
        loop {
            let mut left = options.session.n_ubatch.max(1);
            let mut n_fed = 0;
            while left > 0 {
                if n_fed == reading.len() {
                    let Some(text) = (n_fed < options.n_parallel.max(1)).then(|| waiting.next()).flatten()
                    else {
                        break;
                    };
                    let mut sequence = Sequence::new(&pool, n_ctx, self.config().sliding_window);
                    sequence.set_adapters(adapters.clone());
                    reading.push(Reading { text, sequence, n_next: 0 });
                }
                let reading = &mut reading[n_fed];
                reading.n_next = left.min(tokens(reading.text).len() - reading.sequence.position());
                left -= reading.n_next;
                n_fed += 1;
            }
            if n_fed == 0 {
                return Ok(());
            }
            let starts: SmallVec<[(usize, usize); 16]> =
                reading.iter().map(|reading| (reading.text, reading.sequence.position())).collect();
            let mut batch: SmallVec<[Feed<'_>; 16]> = reading
                .iter_mut()
                .map(|Reading { text, sequence, n_next }| {
                    let rest = &tokens(*text)[sequence.position()..];
                    let is_wanted = wanted == Wanted::All || rest.len() == *n_next;
                    let output = if is_wanted { Output::Hidden } else { Output::None };
                    Feed { sequence, tokens: &rest[..*n_next], output }
                })
                .collect();
            let of_text = |error| match error {
                Error::Forward(ForwardError::Span { span, .. }) => error.of_text(starts[span].0),
                error => error,
            };
            let mut outputs = runner.forward(&mut batch, options.cancel.flag()).map_err(of_text)?;
            drop(batch);
            for (span, (text, _)) in starts.iter().enumerate() {
                if let Some(error) = outputs.failure(span) {
                    let error = ForwardError::Span { span, error: error.clone() };
                    return Err(Error::from(error).of_text(*text));
                }
            }
            while let Some(row) = outputs.next_row()? {
                let (text, start) = starts[row.span];
                each(text, start + row.index, row.values);
            }
            reading.retain(|reading| reading.sequence.position() < tokens(reading.text).len());
        }
    }
}

/// Makes a vector of the hidden states of a text, which come one by one.
pub(crate) struct Pooler {
    /// `None` keeps all of them.
    pooling: Option<Pooling>,
    /// Tokens of the text.
    n: usize,
    sum: Vec<f64>,
    vector: Vec<f32>,
    /// Numbers of a state.
    width: usize,
}

impl Pooler {
    pub fn new(pooling: Option<Pooling>, n: usize) -> Pooler {
        Pooler { pooling, n, sum: Vec::new(), vector: Vec::new(), width: 0 }
    }

    /// Tokens that have to be read.
    pub fn n_tokens(&self) -> usize {
        // Nothing that stands behind the first token is part of its state.
        if self.pooling == Some(Pooling::First) { self.n.min(1) } else { self.n }
    }

    /// Whether states of tokens that end before `end` are needed.
    pub fn wants_before(&self, end: usize) -> bool {
        matches!(self.pooling, None | Some(Pooling::Mean)) || end >= self.n_tokens()
    }

    /// Takes the state of a token. Those that are needed come in order.
    pub fn push(&mut self, token: usize, state: &[f32]) {
        self.width = state.len();
        match self.pooling {
            None => self.vector.extend_from_slice(state),
            Some(Pooling::Mean) => {
                self.sum.resize(state.len(), 0.0);
                self.sum.iter_mut().zip(state).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            Some(Pooling::First) if token == 0 => self.vector = state.to_vec(),
            Some(Pooling::Last) if token + 1 == self.n => self.vector = state.to_vec(),
            Some(Pooling::First | Pooling::Last) => {}
        }
    }

    /// The vector; without pooling, the states one behind the other. Normalized ones have length 1.
    pub fn finish(mut self, normalized: bool) -> Vec<f32> {
        if self.pooling == Some(Pooling::Mean) {
            let n = self.n as f64;
            self.vector = self.sum.iter().map(|sum| (sum / n) as f32).collect();
        }
        if normalized {
            self.vector.chunks_mut(self.width.max(1)).for_each(|state| normalize(state, Norm::P(2.0)));
        }
        self.vector
    }
}

/// The tokens of a text whose hidden states are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    All,
    First,
    Last,
}

/// A text under way.
struct Reading {
    text: usize,
    sequence: Sequence,
    /// Tokens that the next pass reads.
    n_next: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_divided_by_their_norm() {
        let vector = [3.0_f32, -4.0, 0.0];
        let normalized = |norm| {
            let mut vector = vector;
            normalize(&mut vector, norm);
            vector
        };
        assert_eq!(normalized(Norm::P(2.0)), [0.6, -0.8, 0.0]);
        assert_eq!(normalized(Norm::P(1.0)), [3.0 / 7.0, -4.0 / 7.0, 0.0]);
        assert_eq!(normalized(Norm::MaxAbs), [24570.0, -32760.0, 0.0]);
        // numpy: v / (abs(v) ** 3).sum() ** (1 / 3)
        let [x, y, _] = normalized(Norm::P(3.0));
        assert!((x - 0.666_972).abs() < 1e-5 && (y + 0.889_296).abs() < 1e-5, "{x} {y}");
        for norm in [Norm::P(2.0), Norm::P(3.0), Norm::MaxAbs] {
            let mut zeros = [0.0; 4];
            normalize(&mut zeros, norm);
            assert_eq!(zeros, [0.0; 4]);
        }
    }
}
