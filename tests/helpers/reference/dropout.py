"""Dropout's random numbers and masks, computed from counters alone."""

import numpy as np


def philox(counter, key):
    """Philox 4x32-10 (Salmon and others, "Parallel random numbers: as easy as 1, 2, 3", 2011):
    four words of 32 bits each for `counter` (4 words or arrays of words) and `key` (2 words)."""
    mask = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    k0, k1 = (int(word) for word in key)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (
            (p1 >> shift) ^ c1 ^ np.uint64(k0),
            p1 & mask,
            (p0 >> shift) ^ c3 ^ np.uint64(k1),
            p0 & mask,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def dropout_threshold(rate):
    """An element is dropped if its half-word (0 to 65535) is below this number."""
    return min(round(rate * 65536), 65535)


def dropout_keep(rows, features, rate, seed, step, layer):
    """True where an element is kept, by seed, step, layer and its number row * features + column.

    Element number e reads half-word e % 128 // 16 of block (e // 128) * 16 + e % 16: low half of
    word 0, high half of word 0, low half of word 1, and so on."""
    element = np.arange(rows * features, dtype=np.uint64).reshape(rows, features)
    block = element // 128 * 16 + element % 16
    half = element.astype(np.int64) % 128 // 16
    low, high, zeros = step & 0xFFFFFFFF, step >> 32, np.zeros_like(element)
    words = philox(
        (zeros + np.uint64(low), zeros + np.uint64(layer ^ high), block >> np.uint64(32),
         block & np.uint64(0xFFFFFFFF)),
        (seed & 0xFFFFFFFF, seed >> 32),
    )  # fmt: skip
    word = np.choose(half // 2, words)
    value = np.where(half % 2, word >> np.uint64(16), word & np.uint64(0xFFFF))
    return value >= dropout_threshold(rate)


def dropout_scale(rate):
    """The factor of elements that are kept: 1 / the probability to be kept."""
    return 65536 / (65536 - dropout_threshold(rate))
