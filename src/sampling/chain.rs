//! The sampler chain.

use super::candidates::Candidates;
use super::draw::draw;
use super::dry::Dry;
use super::link::Link;
use super::logit_bias::LogitBias;
use super::min_p::MinP;
use super::mirostat::Mirostat;
use super::mirostat_v2::MirostatV2;
use super::penalties::Penalties;
use super::rng::{Rng, random_seed};
use super::temperature::Temperature;
use super::top_k::TopK;
use super::top_n_sigma::TopNSigma;
use super::top_p::TopP;
use super::typical::Typical;
use super::xtc::Xtc;
use super::{RANDOM_SEED, SamplerKind, SamplingError, SamplingParams};
use crate::constraint::{Constraint, TokenMask};

/// A sampler chain with its state: the tokens it has seen and its random numbers.
///
/// A [`Constraint`] is applied before all links, so that they only see the tokens it allows.
pub struct Sampler {
    constraint: Option<Constrained>,
    end_tokens: Vec<u32>,
    links: Vec<Box<dyn Link>>,
    greedy: bool,
    candidates: Candidates,
    n_vocab: usize,
    seed: u32,
    rng: Rng,
}

impl Sampler {
    /// A chain for a vocabulary of `n_vocab` tokens, of which `end_tokens` end a text (they matter to
    /// [`SamplingParams::ignore_eos`]).
    ///
    /// # Errors
    /// A parameter outside its range, a bias or an end token outside the vocabulary, an empty vocabulary.
    pub fn new(params: &SamplingParams, n_vocab: usize, end_tokens: &[u32]) -> Result<Self, SamplingError> {
        Sampler::check(params, n_vocab)?;
        if n_vocab == 0 || u32::try_from(n_vocab).is_err() {
            let (value, expected) = (n_vocab.to_string(), "1 to 4294967295");
            return Err(SamplingError::BadParameter { name: "n_vocab", value, expected });
        }
        let mut biases = params.logit_bias.clone();
        if params.ignore_eos {
            biases.extend(end_tokens.iter().map(|&token| (token, f32::NEG_INFINITY)));
        }
        if let Some(&(token, _)) = biases.iter().find(|&&(token, _)| token as usize >= n_vocab) {
            return Err(SamplingError::NoSuchToken { token, n_vocab });
        }

        let mut links: Vec<Box<dyn Link>> = Vec::new();
        if !biases.is_empty() {
            links.push(Box::new(LogitBias::new(biases)));
        }
        let greedy = params.is_greedy();
        match params.mirostat {
            0 => {
                for kind in params.active_samplers() {
                    match kind {
                        SamplerKind::Dry => links.push(Box::new(Dry::new(params, n_vocab))),
                        SamplerKind::Penalties => links.push(Box::new(Penalties::new(params, n_vocab))),
                        SamplerKind::TopNSigma => links.push(Box::new(TopNSigma(params.top_n_sigma))),
                        SamplerKind::TopK => links.push(Box::new(TopK(params.top_k as usize))),
                        SamplerKind::TypicalP => {
                            links.push(Box::new(Typical::new(params.typ_p, params.min_keep)));
                        }
                        SamplerKind::TopP => {
                            links.push(Box::new(TopP { p: params.top_p, min_keep: params.min_keep }));
                        }
                        SamplerKind::MinP => {
                            links.push(Box::new(MinP { p: params.min_p, min_keep: params.min_keep }));
                        }
                        SamplerKind::Xtc => links.push(Box::new(Xtc::new(params))),
                        SamplerKind::Temperature => links.push(Box::new(Temperature::new(params))),
                    }
                }
            }
            _ if greedy => {}
            version => {
                links.push(Box::new(Temperature::fixed(params.temp)));
                let (tau, eta) = (params.mirostat_tau, params.mirostat_eta);
                links.push(match version {
                    1 => Box::new(Mirostat::new(tau, eta, n_vocab)),
                    _ => Box::new(MirostatV2::new(tau, eta)),
                });
            }
        }
        let seed = if params.seed == RANDOM_SEED { random_seed() } else { params.seed };
        Ok(Self {
            constraint: None,
            end_tokens: end_tokens.to_vec(),
            links,
            greedy,
            candidates: Candidates::default(),
            n_vocab,
            seed,
            rng: Rng::new(u64::from(seed)),
        })
    }

    /// Errs where no sampler can be made of these parameters.
    pub(crate) fn check(params: &SamplingParams, n_vocab: usize) -> Result<(), SamplingError> {
        params.check()?;
        match params.logit_bias.iter().find(|&&(token, _)| token as usize >= n_vocab) {
            Some(&(token, _)) => Err(SamplingError::NoSuchToken { token, n_vocab }),
            None => Ok(()),
        }
    }

    /// Replaces the parameters. Accepted tokens are forgotten; the random number generator continues unless the seed changes.
    ///
    /// # Errors
    /// As [`Self::new`]; nothing changes then.
    pub fn set_params(&mut self, params: &SamplingParams) -> Result<(), SamplingError> {
        let mut new = Self::new(params, self.n_vocab, &self.end_tokens)?;
        if params.seed == self.seed || params.seed == RANDOM_SEED {
            (new.seed, new.rng) = (self.seed, self.rng.clone());
        }
        new.constraint = self.constraint.take();
        *self = new;
        Ok(())
    }

    /// Sets a constraint, which applies from the next token on.
    pub fn constrain(&mut self, constraint: Box<dyn Constraint>) {
        let allowed = TokenMask::new(self.n_vocab);
        self.constraint = Some(Constrained { constraint, allowed, is_current: false });
    }

    /// Removes and returns the constraint.
    pub fn unconstrain(&mut self) -> Option<Box<dyn Constraint>> {
        self.constraint.take().map(|constrained| constrained.constraint)
    }

    /// Whether there is a constraint, and it allows the text to end but no token.
    pub fn is_complete(&mut self) -> bool {
        self.constraint.as_mut().is_some_and(|c| c.constraint.can_end() && c.allowed().is_empty())
    }

    /// The seed in use (the one drawn, if a random one was asked for).
    pub fn seed(&self) -> u32 {
        self.seed
    }

    /// Random numbers drawn since the seed.
    pub fn n_drawn(&self) -> u64 {
        self.rng.n_drawn()
    }

    /// Mirostat's bound on surprise, where it is in the chain.
    pub fn mirostat_mu(&self) -> Option<f32> {
        self.links.iter().find_map(|link| link.mirostat_mu())
    }

    /// Sets the random numbers and mirostat to where another sampler was.
    pub(crate) fn resume(&mut self, seed: u32, n_drawn: u64, mu: Option<f32>) {
        self.seed = seed;
        self.rng = Rng::new(u64::from(seed));
        (0..n_drawn).for_each(|_| {
            self.rng.next_u64();
        });
        if let Some(mu) = mu {
            self.links.iter_mut().for_each(|link| link.set_mirostat_mu(mu));
        }
    }

    /// Samples a token from one row of logits, which is left as it is. The token counts as part of the text only
    /// once it is [accepted](Self::accept).
    ///
    /// # Errors
    /// A row of another length than the vocabulary, a logit that is NaN or +∞, or no token left to choose.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32, SamplingError> {
        if logits.len() != self.n_vocab {
            return Err(SamplingError::WrongLength { found: logits.len(), n_vocab: self.n_vocab });
        }
        let candidates = &mut self.candidates;
        candidates.fill(logits)?;
        if let Some(constrained) = &mut self.constraint {
            let can_end = constrained.constraint.can_end();
            let (allowed, ends) = (constrained.allowed(), &self.end_tokens);
            candidates.retain(|c| if ends.contains(&c.id) { can_end } else { allowed.contains(c.id) });
            if let Some(why) = constrained.constraint.fault() {
                return Err(SamplingError::Constraint(why.to_owned()));
            }
        }
        for link in &mut self.links {
            link.apply(candidates, &mut self.rng);
        }
        let best = candidates.best().filter(|c| c.logit.is_finite()).ok_or(SamplingError::NoCandidate)?;
        if self.greedy {
            return Ok(best.id);
        }
        candidates.softmax();
        let chosen = draw(candidates.as_slice(), &mut self.rng).ok_or(SamplingError::NoCandidate)?;
        for link in &mut self.links {
            link.drawn(&chosen);
        }
        Ok(chosen.id)
    }

    /// The tokens that the last one was drawn from, and the probability of each. In a greedy chain that is one token.
    pub fn drawn_from(&self) -> impl Iterator<Item = (u32, f32)> {
        let best = self.candidates.best().filter(|_| self.greedy);
        let drawn = if self.greedy { &[] } else { self.candidates.as_slice() };
        best.map(|c| (c.id, 1.0)).into_iter().chain(drawn.iter().map(|c| (c.id, c.p)))
    }

    /// Appends a sampled token to the text: penalties, DRY and mirostat take note of it, and the constraint advances.
    pub fn accept(&mut self, token: u32) {
        if let Some(constrained) = &mut self.constraint {
            constrained.constraint.accept(token);
            constrained.is_current = false;
        }
        self.accept_prompt(token);
    }

    /// Appends a token that was not sampled, such as one of the prompt; the constraint does not advance.
    pub fn accept_prompt(&mut self, token: u32) {
        for link in &mut self.links {
            link.accept(token);
        }
    }

    /// Forgets the accepted tokens. The random number generator and the constraint stay as they are.
    pub fn forget(&mut self) {
        for link in &mut self.links {
            link.reset();
        }
    }

    /// Starts over: forgets the accepted tokens, and seeds the random number generator again.
    pub fn reset(&mut self) {
        self.forget();
        self.rng = Rng::new(u64::from(self.seed));
    }
}

/// A constraint and the tokens it allows next.
struct Constrained {
    constraint: Box<dyn Constraint>,
    allowed: TokenMask,
    /// Whether `allowed` is up to date with the text so far.
    is_current: bool,
}

impl Constrained {
    fn allowed(&mut self) -> &TokenMask {
        if !self.is_current {
            self.allowed.clear();
            self.constraint.mask(&mut self.allowed);
            self.is_current = true;
        }
        &self.allowed
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidates::tests::bumpy;
    use super::*;

    fn sampler(params: SamplingParams, n_vocab: usize) -> Sampler {
        Sampler::new(&params, n_vocab, &[2]).unwrap()
    }

    /// Accepts what it samples, like a generation.
    fn generate(sampler: &mut Sampler, logits: &[f32], n: usize) -> Vec<u32> {
        let mut step = || {
            let token = sampler.sample(logits).unwrap();
            sampler.accept(token);
            token
        };
        (0..n).map(|_| step()).collect()
    }

    #[test]
    fn greedy_takes_the_highest_and_the_lowest_id_of_equals() {
        for temp in [0.0, -1.0] {
            let mut s = sampler(SamplingParams { temp, ..Default::default() }, 4);
            assert_eq!(s.sample(&[1.0, 5.0, 5.0, 2.0]), Ok(1));
        }
        for mirostat in [1, 2] {
            let mut s = sampler(SamplingParams { mirostat, ..SamplingParams::greedy() }, 4);
            assert_eq!(s.sample(&[1.0, 5.0, 5.0, 2.0]), Ok(1));
        }
        // Also in a chain that has no temperature.
        let samplers = vec![SamplerKind::TopK];
        let mut s = sampler(SamplingParams { samplers, ..SamplingParams::greedy() }, 4);
        assert_eq!(generate(&mut s, &[1.0, 5.0, 5.0, 4.9], 20), [1; 20]);
    }

    #[test]
    fn greedy_obeys_penalties_and_biases() {
        let params = SamplingParams { penalty_present: 10.0, ..SamplingParams::greedy() };
        assert_eq!(generate(&mut sampler(params, 3), &[3.0, 2.0, 1.0], 3), [0, 1, 2]);
        let params = SamplingParams { logit_bias: vec![(2, 5.0)], ..SamplingParams::greedy() };
        assert_eq!(sampler(params, 3).sample(&[3.0, 2.0, 1.0]), Ok(2));
    }

    #[test]
    fn ignore_eos_rules_the_end_out() {
        let params = SamplingParams { ignore_eos: true, ..SamplingParams::greedy() };
        assert_eq!(sampler(params, 3).sample(&[1.0, 0.0, 9.0]), Ok(0));
        assert_eq!(sampler(SamplingParams::greedy(), 3).sample(&[1.0, 0.0, 9.0]), Ok(2));
    }

    #[test]
    fn bad_logits_are_errors() {
        for params in [SamplingParams::greedy(), SamplingParams::default()] {
            let mut s = sampler(params, 3);
            assert!(matches!(
                s.sample(&[0.0, f32::NAN, 0.0]),
                Err(SamplingError::NotFinite { token: 1, .. })
            ));
            assert_eq!(s.sample(&[f32::NEG_INFINITY; 3]), Err(SamplingError::NoCandidate));
            assert_eq!(s.sample(&[0.0; 2]), Err(SamplingError::WrongLength { found: 2, n_vocab: 3 }));
            assert_eq!(s.sample(&[f32::NEG_INFINITY, 1.0, f32::NEG_INFINITY]), Ok(1));
        }
    }

    #[test]
    fn bad_parameters_are_errors() {
        let new = |params: SamplingParams, n_vocab| Sampler::new(&params, n_vocab, &[2]).err();
        let bias = SamplingParams { logit_bias: vec![(3, 1.0)], ..Default::default() };
        assert_eq!(new(bias, 3), Some(SamplingError::NoSuchToken { token: 3, n_vocab: 3 }));
        let eos = SamplingParams { ignore_eos: true, ..Default::default() };
        assert_eq!(new(eos, 2), Some(SamplingError::NoSuchToken { token: 2, n_vocab: 2 }));
        assert!(new(SamplingParams::default(), 0).is_some());
        assert!(new(SamplingParams { top_p: f32::NAN, ..Default::default() }, 3).is_some());
    }

    #[test]
    fn the_seed_decides() {
        let logits = bumpy(1000);
        let params = |seed| SamplingParams { seed, temp: 20.0, ..Default::default() };
        let mut s = sampler(params(1), 1000);
        let first = generate(&mut s, &logits, 50);
        s.reset();
        assert_eq!(generate(&mut s, &logits, 50), first);
        assert_eq!(generate(&mut sampler(params(1), 1000), &logits, 50), first);
        assert_ne!(generate(&mut sampler(params(2), 1000), &logits, 50), first);
        assert_ne!(sampler(params(RANDOM_SEED), 8).seed(), sampler(params(RANDOM_SEED), 8).seed());
    }

    /// The chain that is on by default, and every link at once in several orders, draw only what each link keeps.
    #[test]
    fn links_act_in_the_order_given() {
        let logits: Vec<f32> = [0.4f32, 0.3, 0.2, 0.1].iter().map(|&p| libm::logf(p)).collect();
        let drawn = |samplers: &str| {
            let samplers = SamplerKind::parse_names(samplers).unwrap();
            let params = SamplingParams {
                seed: 5,
                samplers,
                top_k: 3,
                top_p: 0.75,
                min_p: 0.0,
                temp: 9.0,
                ..Default::default()
            };
            let mut tokens = generate(&mut sampler(params, 4), &logits, 400);
            tokens.sort_unstable();
            tokens.dedup();
            tokens
        };
        // Among all four, 0.4 + 0.3 + 0.2 are needed for 0.75; among the best three, (0.4 + 0.3) / 0.9 = 0.78 do.
        assert_eq!(drawn("top_p"), [0, 1, 2]);
        assert_eq!(drawn("top_k;top_p"), [0, 1]);
        assert_eq!(drawn("top_p;top_k"), [0, 1, 2]);
        // Made nearly flat first, top_p keeps one more of the three.
        assert_eq!(drawn("top_k;temperature;top_p"), [0, 1, 2]);
        assert_eq!(drawn(""), [0, 1, 2, 3]);
    }

    #[test]
    fn every_link_at_once_survives_extremes() {
        let rows = [
            vec![0.0; 300],
            bumpy(300),
            (0..300).map(|i| if i % 2 == 0 { 3e38 } else { -3e38 }).collect(),
            (0..300).map(|i| if i == 7 { -1e30 } else { f32::NEG_INFINITY }).collect(),
        ];
        for mirostat in [0, 1, 2] {
            for letters in ["edskypmxt", "txmpyksde", "ytptdtxte"] {
                for temp in [1e-40, 0.5, 1e30] {
                    let params = SamplingParams {
                        seed: 9,
                        mirostat,
                        temp,
                        samplers: SamplerKind::parse_letters(letters).unwrap(),
                        penalty_repeat: 1.3,
                        penalty_freq: 0.1,
                        dry_multiplier: 0.8,
                        dry_allowed_length: 0,
                        top_n_sigma: 1.0,
                        typ_p: 0.9,
                        xtc_probability: 0.5,
                        dynatemp_range: 0.3,
                        ..Default::default()
                    };
                    let mut s = sampler(params, 300);
                    for row in &rows {
                        let tokens = generate(&mut s, row, 20);
                        assert!(tokens.iter().all(|&t| row[t as usize] > f32::NEG_INFINITY), "{tokens:?}");
                    }
                }
            }
        }
    }

    /// Allows one token after the other, and then the end.
    struct Only(Vec<u32>);

    impl Constraint for Only {
        fn mask(&mut self, allowed: &mut TokenMask) {
            self.0.first().into_iter().for_each(|token| allowed.insert(*token));
        }

        fn accept(&mut self, token: u32) {
            if self.0.first() == Some(&token) {
                self.0.remove(0);
            }
        }

        fn can_end(&self) -> bool {
            self.0.is_empty()
        }
    }

    #[test]
    fn a_constraint_comes_before_everything_else() {
        let logits = bumpy(300);
        for params in [
            SamplingParams::greedy(),
            SamplingParams { seed: 3, top_k: 1, ..Default::default() },
            SamplingParams { seed: 3, mirostat: 1, ..Default::default() },
            SamplingParams { seed: 3, mirostat: 2, ..Default::default() },
            SamplingParams {
                seed: 3,
                top_n_sigma: 1.0,
                typ_p: 0.5,
                xtc_probability: 1.0,
                ..Default::default()
            },
            SamplingParams { logit_bias: vec![(9, 1e9)], ..Default::default() },
        ] {
            let mut s = sampler(params, 300);
            s.accept_prompt(250);
            s.constrain(Box::new(Only(vec![7, 299, 0])));
            assert!(!s.is_complete());
            assert_eq!(generate(&mut s, &logits, 3), [7, 299, 0]);
            assert!(s.is_complete());
            // Token 2 is the end.
            assert_eq!(generate(&mut s, &logits, 1), [2]);
            assert!(s.unconstrain().is_some() && !s.is_complete());
        }
        // An end that is ruled out leaves nothing.
        let mut s = sampler(SamplingParams { ignore_eos: true, ..Default::default() }, 300);
        s.constrain(Box::new(Only(vec![])));
        assert_eq!(s.sample(&logits), Err(SamplingError::NoCandidate));
    }

    #[test]
    fn parameters_change_and_the_random_numbers_go_on() {
        let logits = vec![0.0; 50];
        let params = SamplingParams { seed: 8, top_k: 0, min_p: 0.0, ..Default::default() };
        let mut whole = sampler(params.clone(), 50);
        let want = generate(&mut whole, &logits, 20);
        let mut changed = sampler(params.clone(), 50);
        let mut got = generate(&mut changed, &logits, 10);
        changed.set_params(&SamplingParams { temp: 0.5, ..params.clone() }).unwrap();
        got.extend(generate(&mut changed, &logits, 10));
        assert_eq!(got, want, "among equals the temperature changes nothing");
        assert!(changed.set_params(&SamplingParams { temp: f32::NAN, ..params.clone() }).is_err());
        changed.set_params(&SamplingParams { seed: 9, ..params.clone() }).unwrap();
        let other = SamplingParams { seed: 9, ..params };
        assert_eq!(generate(&mut changed, &logits, 20), generate(&mut sampler(other, 50), &logits, 20));
    }

    /// Computed by tests/golden/sampling.py, which shares no code with this chain: random numbers, sums, order and all.
    #[test]
    fn tokens_of_a_seed_equal_the_reference() {
        let logits: Vec<f32> = bumpy(5000).iter().map(|l| l * 0.05).collect();
        let drawn = |params: SamplingParams| generate(&mut sampler(params, 5000), &logits, 6);
        let seed = SamplingParams { seed: 42, ..Default::default() };
        assert_eq!(drawn(seed.clone()), [310, 1286, 2084, 1563, 4590, 1807]);
        let flat = SamplingParams { top_k: 0, temp: 1.5, ..seed.clone() };
        assert_eq!(drawn(flat), [3727, 2592, 3899, 3951, 3417, 4485]);
        let typical = SamplingParams { typ_p: 0.9, penalty_repeat: 1.1, ..seed.clone() };
        assert_eq!(drawn(typical), [3581, 3304, 3093, 1563, 310, 1807]);
        assert_eq!(
            drawn(SamplingParams { mirostat: 2, ..seed.clone() }),
            [4089, 1596, 4920, 3548, 3957, 2882]
        );
        assert_eq!(
            drawn(SamplingParams { mirostat: 1, temp: 0.02, ..seed }),
            [3304, 3792, 1319, 4557, 2295, 2539]
        );
    }
}
