"""The sampler chain once more, in numpy and float64, for the tokens pinned in src/sampling/chain.rs.

Needs numpy. Prints one line per pinned list.
"""

import numpy as np

MASK = (1 << 64) - 1
N = 5000
LOGITS = np.array([((i * 7919) % 1009) * 0.25 - 100.0 for i in range(N)], np.float32) * np.float32(0.05)


class Xoshiro256pp:
    def __init__(self, seed):
        self.s = []
        for _ in range(4):  # SplitMix64
            seed = (seed + 0x9E3779B97F4A7C15) & MASK
            z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
            self.s.append(z ^ (z >> 31))

    def unit(self):
        rotl = lambda x, k: ((x << k) | (x >> (64 - k))) & MASK
        s = self.s
        result = (rotl((s[0] + s[3]) & MASK, 23) + s[0]) & MASK
        t = (s[1] << 17) & MASK
        s[2] ^= s[0]
        s[3] ^= s[1]
        s[1] ^= s[2]
        s[0] ^= s[3]
        s[2] ^= t
        s[3] = rotl(s[3], 45)
        return (result >> 11) * 2.0**-53


def softmax(l):
    e = np.exp(l - l.max())
    return e / e.sum()


def generate(temp=0.8, top_k=40, typ_p=1.0, top_p=0.95, min_p=0.05, penalty_repeat=1.0, mirostat=0, seed=42):
    rng, tokens, mu, tau, eta = Xoshiro256pp(seed), [], 10.0, 5.0, 0.1
    for _ in range(6):
        ids, l = np.arange(N), LOGITS.astype(np.float64)
        best_first = lambda: np.lexsort((ids, -l))
        if mirostat == 0:
            for t in set(tokens):
                l[t] = l[t] / penalty_repeat if l[t] > 0 else l[t] * penalty_repeat
            if top_k > 0:
                keep = best_first()[:top_k]
                ids, l = ids[keep], l[keep]
            if typ_p < 1:
                p = softmax(l)
                distance = np.abs(-np.log(p) + (p * np.log(p)).sum()).astype(np.float32)
                order = np.lexsort((ids, -p, distance))
                keep = np.sort(order[: np.argmax(np.cumsum(p[order]) > typ_p) + 1])
                ids, l = ids[keep], l[keep]
            order = best_first()
            keep = order[: np.argmax(np.cumsum(softmax(l)[order]) >= top_p) + 1]
            ids, l = ids[keep], l[keep]
            keep = l >= l.max() + np.log(min_p)
            ids, l = ids[keep], l[keep] / temp
        else:
            l = l / temp
            order = best_first()
            if mirostat == 1:
                ids, l = ids[order], l[order]
                t = np.log(np.arange(2, 101) / np.arange(1, 100))
                s = (t * (l[:99] - l[1:100])).sum() / (t * t).sum()
                k = ((s - 1) * 2**mu / (1 - N ** -(s - 1))) ** (1 / s)
                k = max(int(min(k, N)), 1)
                ids, l = ids[:k], l[:k]
            else:
                keep = -np.log2(softmax(l)) <= mu
                keep[order[0]] = True
                ids, l = ids[keep], l[keep]
        p = softmax(l)
        drawn = int(np.argmax(np.cumsum(p) > rng.unit() * p.sum()))
        tokens.append(int(ids[drawn]))
        mu -= eta * (-np.log2(p[drawn]) - tau)
    return tokens


print(generate())
print(generate(top_k=0, temp=1.5))
print(generate(typ_p=0.9, penalty_repeat=1.1))
print(generate(mirostat=2))
print(generate(mirostat=1, temp=0.02))
