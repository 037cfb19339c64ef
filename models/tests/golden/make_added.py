"""Writes `added.json.gz`: what Hugging Face's Llama tokenizer makes of texts with added tokens in them.

Needs `pip install tokenizers mistral-common[sentencepiece] sentencepiece`. The tokenizer is rebuilt from Mistral's first
vocabulary the way `transformers` converts a SentencePiece model (`legacy`: a space before the text and after every added
token), and tokens are added to it as fine-tunes do. Ids come from `tokenizers`, never from bise.

    python models/tests/golden/make_added.py
"""

import gzip
import json
import random
from pathlib import Path

import mistral_common
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, models, normalizers

HERE = Path(__file__).parent
MODEL = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"

# Fine-tunes of Mistral, and sets in which tokens overlap, contain each other, and hold spaces and line breaks.
SETS = {
    "chatml": ["<|im_end|>", "<|im_start|>"],
    "tools": ["<|im_end|>", "<|im_start|>", "<tool_call>", "</tool_call>", "<think>", "</think>", "<pad>"],
    "overlapping": ["<a", "<a>", "<a><b>", "a><", "b>", "<|a|>", "|>", "ab", "abc", "bcd"],
    "spaces": ["\n", "\n\n", "  ", "    ", "\t", " <x>", "<y> ", "a b", "<x>"],
    "unicode": ["é", "ñandú", "日本", "本", "🦀", "👨‍👩‍👧", "é", "☺", "…"],
    "ordinary": ["the", "ing", "hello world", "Paris", "1", ".", "'s", "<"],
}
TEXTS = [
    " ", "  ", "   ", "\n", "\n\n", "\t", "\r\n", " \n", "\n ", "a", "b", "ab", "the", " the", "user", "Hello", "world",
    "Paris, France.", "it's", "12", "x<", ">y", "<", "<|", "|>", "<|im_", "end|>", "<a", "<tool", "é", "ñ", "e\u0301",
    "日", "日本語", "🦀", "👍🏽", "\u2581", "\u00a0", "\u200d", "", "fn main() {}", "…", "[INST]", "<0x0A>", "\ufffd",
]  # fmt: skip


def build(pieces, scores, added):
    """The conversion of `transformers`: merges are all ways to cut a piece in two, the best pieces first."""
    ids = {piece: id for id, piece in enumerate(pieces)}
    merges = []
    for piece, id in ids.items():
        cuts = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        cuts = [cut for cut in cuts if cut[0] in ids and cut[1] in ids]
        merges += [(scores[id], cut) for cut in sorted(cuts, key=lambda cut: (ids[cut[0]], ids[cut[1]]))]
    merges.sort(key=lambda merge: -merge[0])
    bpe = models.BPE(ids, [cut for _, cut in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    special = [AddedToken(text, special=True, normalized=False) for text in ("<unk>", "<s>", "</s>")]
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in added])
    return tokenizer


def main():
    rng = random.Random(1)
    reference = SentencePieceProcessor(str(MODEL))
    n = reference.get_piece_size()
    pieces = [reference.id_to_piece(id) for id in range(n)]
    scores = [reference.get_score(id) for id in range(n)]
    plain = build(pieces, scores, [])

    def agree(text, parts):
        """Whether Hugging Face's own BPE and SentencePiece agree on the text between the tokens: they differ on ties."""
        return all(plain.encode(part, add_special_tokens=False).ids == reference.encode(part) for part in parts)

    sets = []
    n_dropped = 0
    for name, added in SETS.items():
        tokenizer = build(pieces, scores, added)
        added_ids = [tokenizer.token_to_id(token) for token in added]
        texts = {}
        # Every pair of a token and a neighbour, on either side, and at random.
        short = [a + b for a in added for b in TEXTS + added] + [b + a for a in added for b in TEXTS]
        while len(texts) < 1200:
            text = short.pop() if short else "".join(
                rng.choice(added) if rng.random() < 0.4 else
                rng.choice(("<s>", "</s>", "<unk>")) if rng.random() < 0.08 else rng.choice(TEXTS)
                for _ in range(rng.randint(1, 9))
            )  # fmt: skip
            encoding = tokenizer.encode(text, add_special_tokens=False)
            parts = between(text, encoding, added_ids)
            if text and text not in texts:
                if agree(text, parts):
                    texts[text] = encoding.ids
                else:
                    n_dropped += 1
        sets.append({
            "name": name, "added": added, "added_ids": added_ids, "texts": list(texts), "ids": list(texts.values())
        })  # fmt: skip
    data = json.dumps(sets, ensure_ascii=False, separators=(",", ":")).encode()
    data = gzip.compress(data, 9, mtime=0)
    (HERE / "added.json.gz").write_bytes(data)
    print(f"{sum(len(s['texts']) for s in sets)} texts, {n_dropped} dropped, {len(data)} bytes")


def between(text, encoding, added_ids):
    """The stretches of text between special and added tokens."""
    parts, done = [], 0
    for id, (start, end) in zip(encoding.ids, encoding.offsets):
        if id < 3 or id in added_ids:
            parts.append(text[done:start])
            done = end
    return [part for part in parts + [text[done:]] if part]


main()
