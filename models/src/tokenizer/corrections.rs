//! Types and scores for vocabularies whose file is wrong or silent about them.

use super::error::{TokenizerError, keys, quoted};
use super::names::{self, Named};
use super::token_type::{TokenType, parse_byte};
use super::vocabulary::{Algorithm, Vocabulary};

/// The type of every token; each kind of correction adds a line to `warnings`.
///
/// Converters that read `tokenizer.json` type byte pieces and added tokens as normal. llama.cpp corrects the tokens it
/// knows by name in the same way. `roles` are the ids to which the file gives a role, with the types that go with them.
///
/// # Errors
///
/// If a type is not a number from 0 to 6.
pub(super) fn types(
    vocabulary: &Vocabulary,
    roles: &[(u32, TokenType)],
    named: &Named,
    warnings: &mut Vec<String>,
) -> Result<Vec<TokenType>, TokenizerError> {
    let untyped = vocabulary.types.is_empty();
    let mut types = if untyped {
        vec![TokenType::Normal; vocabulary.tokens.len()]
    } else {
        let typed = |(index, &number): (usize, &i32)| {
            TokenType::from_gguf(number).ok_or_else(|| {
                TokenizerError::key(keys::TYPES, format!("{number} at index {index}"), "a type from 0 to 6")
            })
        };
        vocabulary.types.iter().enumerate().map(typed).collect::<Result<_, _>>()?
    };
    let n_bytes = match vocabulary.algorithm {
        Algorithm::SentencePiece => find_bytes(vocabulary, &mut types),
        Algorithm::ByteLevel { .. } => 0,
    };
    let mut corrected = Vec::new();
    for (id, token) in (0..).zip(vocabulary.tokens.iter()) {
        let kind = &mut types[id as usize];
        if kind.is_text() && names::looks_added(token) {
            *kind = if names::is_shown(token) { TokenType::UserDefined } else { TokenType::Control };
            corrected.push(id);
        }
        // Converters type these as text, and no merge leads to them.
        if kind.is_text() && vocabulary.algorithm == Algorithm::SentencePiece && names::is_inline(token) {
            *kind = TokenType::UserDefined;
        }
    }
    for &(id, role) in roles {
        let kind = &mut types[id as usize];
        let token = vocabulary.tokens.get(id as usize).unwrap_or_default();
        let is_structure = names::is_bracketed(token);
        if kind.is_text() && is_structure {
            corrected.push(id);
        }
        if untyped || is_structure && (kind.is_text() || *kind == TokenType::UserDefined) {
            *kind = role;
        }
    }
    for id in named.ids() {
        let kind = &mut types[id as usize];
        // Many files call these user-defined; they end a turn all the same, and are not shown.
        if kind.is_text() || *kind == TokenType::UserDefined {
            if kind.is_text() {
                corrected.push(id);
            }
            *kind = TokenType::Control;
        }
    }
    if !untyped {
        if n_bytes > 0 {
            warnings.push(format!(
                "{n_bytes} byte pieces such as \"<0x0A>\" are typed as text in '{}': they are used as bytes",
                keys::TYPES
            ));
        }
        warnings.extend(correction(vocabulary, corrected));
    }
    Ok(types)
}

/// Types the pieces that are spelled `<0x0A>` as bytes, where no typed piece has that byte. Returns how many.
fn find_bytes(vocabulary: &Vocabulary, types: &mut [TokenType]) -> usize {
    let mut found = [false; 256];
    for (token, kind) in vocabulary.tokens.iter().zip(&*types) {
        if let (TokenType::Byte, Some(byte)) = (kind, parse_byte(token)) {
            found[byte as usize] = true;
        }
    }
    let mut n_corrected = 0;
    for (token, kind) in vocabulary.tokens.iter().zip(types) {
        if let Some(byte) = parse_byte(token)
            && (kind.is_text() || *kind == TokenType::UserDefined)
            && !std::mem::replace(&mut found[byte as usize], true)
        {
            *kind = TokenType::Byte;
            n_corrected += 1;
        }
    }
    n_corrected
}

/// The warning about tokens that are typed as text but are not.
fn correction(vocabulary: &Vocabulary, mut ids: Vec<u32>) -> Option<String> {
    const N_NAMED: usize = 4;
    ids.sort_unstable();
    ids.dedup();
    let named: Vec<String> =
        ids.iter().take(N_NAMED).filter_map(|&id| vocabulary.tokens.get(id as usize)).map(quoted).collect();
    let more = match ids.len().saturating_sub(N_NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    (!named.is_empty()).then(|| {
        format!(
            "typed as text in '{}' but used as control or added tokens: {}{more}",
            keys::TYPES,
            named.join(", ")
        )
    })
}

/// The merge priority of each piece of a SentencePiece vocabulary: lower goes first, for higher scores. Without scores,
/// or where all are the same (converters that have none write such), pieces merge in the order of the vocabulary, and
/// `warnings` gets a line.
pub(super) fn priorities(
    vocabulary: &Vocabulary,
    types: &[TokenType],
    warnings: &mut Vec<String>,
) -> Vec<u32> {
    let in_order =
        |what: &str| format!("'{}' {what}: pieces merge in the order of the vocabulary", keys::SCORES);
    let by_id = || (0..vocabulary.tokens.len() as u32).collect();
    if vocabulary.scores.is_empty() {
        warnings.push(in_order("is missing"));
        return by_id();
    }
    // Nothing merges into a single character, so its score does not count.
    let merged =
        |token: &[u8]| token.len() > 1 && std::str::from_utf8(token).is_ok_and(|t| t.chars().count() > 1);
    let mut scores = vocabulary.tokens.iter().zip(types).zip(&vocabulary.scores);
    let mut next =
        || scores.find(|((token, kind), _)| kind.is_text() && merged(token)).map(|(_, score)| *score);
    if let (Some(first), Some(second)) = (next(), next())
        && first == second
        && std::iter::from_fn(next).all(|score| score == first)
    {
        warnings.push(in_order(&format!("is {first} for every piece")));
        return by_id();
    }
    vocabulary.scores.iter().map(|&score| descending(score)).collect()
}

/// Maps scores to integers that grow as scores fall; equal scores (0 and −0 too) give equal integers.
fn descending(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 0x8000_0000 };
    !ascending
}
