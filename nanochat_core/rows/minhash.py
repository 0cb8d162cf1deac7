"""Which of many texts are alike: MinHash of their 5-grams, and only texts that share a band of it are compared.

Source: Broder, "On the resemblance and containment of documents", 1997; bands as in Leskovec, Rajaraman and Ullman,
"Mining of Massive Datasets", chapter 3. In numpy, because a library's loop over texts takes minutes for 100,000.
"""

from collections.abc import Sequence

import numpy as np

GRAM = 5
HASHES, BANDS = 64, 16
"""Of 16 bands of 4: texts that share half of their 5-grams are met in 64 of 100 cases, four fifths in 99.98."""
_PART = 1 << 15
"""Grams that are hashed together: what fits the processor's cache."""
_NEIGHBOURS = 6
"""In a band that very many texts share, each is compared with so many that follow it."""


def signatures(texts: Sequence[str]) -> np.ndarray:
    """uint32 (N, HASHES): the share of equal entries of two texts estimates the share of 5-grams that they share."""
    random = np.random.default_rng(1)
    factors = random.integers(1, 1 << 63, HASHES, dtype=np.uint64) | np.uint64(1)
    offsets = random.integers(0, 1 << 63, HASHES, dtype=np.uint64)
    found = np.empty((len(texts), HASHES), np.uint32)
    grams = [_grams(text) for text in texts]
    sizes = np.array([len(one) for one in grams])
    ends = np.cumsum(sizes)
    first = 0
    while first < len(texts):
        base = int(ends[first] - sizes[first])
        last = max(first + 1, int(np.searchsorted(ends, base + _PART, side="right")))
        values = np.concatenate(grams[first:last])
        starts = ends[first:last] - sizes[first:last] - base
        hashed = ((values[:, None] * factors + offsets) >> np.uint64(32)).astype(np.uint32)
        found[first:last] = np.minimum.reduceat(hashed, starts, axis=0)
        first = last
    return found


def _grams(text: str) -> np.ndarray:
    """A uint64 for each different 5-gram of a text's characters; of a shorter text it is one for all."""
    codes = np.frombuffer(f"{text:\0<{GRAM}}".encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    size = len(codes) - GRAM + 1
    value = np.zeros(size, np.uint64)
    for place in range(GRAM):
        value = value * np.uint64(0x9E3779B97F4A7C15) + codes[place : place + size]
    return value ^ (value >> np.uint64(29))


def similar_pairs(marks: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """(pairs (P, 2) with the first place below the second, their estimated share of 5-grams), of at least `least`.

    Where very many texts share a band, not every one of their pairs is looked at.
    """
    pairs = [_pairs_of_band(marks[:, start : start + HASHES // BANDS]) for start in range(0, HASHES, HASHES // BANDS)]
    keys = np.unique(np.concatenate(pairs)) if pairs else np.empty(0, np.int64)
    found = np.stack([keys // len(marks), keys % len(marks)], axis=1) if len(keys) else np.empty((0, 2), np.int64)
    alike = np.empty(len(found), np.float32)
    for start in range(0, len(found), _PART):
        part = found[start : start + _PART]
        alike[start : start + _PART] = (marks[part[:, 0]] == marks[part[:, 1]]).mean(axis=1)
    return found[alike >= least], alike[alike >= least]


def _pairs_of_band(band: np.ndarray) -> np.ndarray:
    """int64 keys, first * N + second, of texts that share the band: each with those that follow in its bucket."""
    count = len(band)
    keys = np.zeros(count, np.uint64)
    for column in band.T:
        keys = keys * np.uint64(0x100000001B3) + column
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    found = []
    for step in range(1, min(_NEIGHBOURS, count - 1) + 1):
        same = in_order[step:] == in_order[:-step]
        if not same.any():
            break
        first, second = order[:-step][same], order[step:][same]  # stable: places ascend within a bucket
        found.append(first.astype(np.int64) * count + second)
    return np.concatenate(found) if found else np.empty(0, np.int64)
