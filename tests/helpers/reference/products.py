"""Dense layers: x (batch, in), weight (in, out), bias (out,); and matrix products that add in the
order of docs/background/numerics.md."""

import functools
from fractions import Fraction
from itertools import pairwise

import numpy as np

from reference.activations import activation_forward

CHUNK = 256  # a matrix product adds in chunks of this many terms


def dense_forward(x, weight, bias=None, activation="linear", alpha=0.0):
    """y = f(z), z = x @ weight + bias."""
    z = x @ weight
    if bias is not None:
        z = z + bias
    return activation_forward(z, activation, alpha), z


def dense_backward(x, weight, dz):
    """Gradients of the input, the weight and the bias."""
    return dz @ weight.T, x.T @ dz, dz.sum(axis=0)


def fma32(a, b, c):
    """a * b + c in float32, rounded once, since the float64 sum is rounded to odd before."""
    product, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + c
    shadow = total - product
    error = (product - (total - shadow)) + (c - shadow)  # total + error is exact (Knuth)
    even = total.view(np.int64) % 2 == 0
    odd = np.nextafter(total, np.copysign(np.inf, error))
    return np.where((error != 0) & even, odd, total).astype(np.float32)


def fma64(a, b, c):
    """a * b + c of three Python floats, rounded once, by exact fractions."""
    return float(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def product_in_order(x, weight, fma, chunk=CHUNK):
    """x @ weight by one chain of fused multiply-adds over k in each chunk of `chunk` terms; chunk
    sums are added in order.  `fma` works on whole arrays."""
    (rows, terms), columns = x.shape, weight.shape[1]
    total = None
    for first in range(0, terms, chunk):
        chain = np.zeros((rows, columns), x.dtype)
        for k in range(first, min(first + chunk, terms)):
            a, b = np.broadcast_arrays(x[:, k, None], weight[k])
            chain = fma(a, b, chain)
        total = chain if total is None else total + chain
    return total


def product_in_spans(x, weight, fma, most, chunk=CHUNK):
    """The same in at most `most` spans of whole chunks, whose sums are added in order."""
    chunks = -(-x.shape[1] // chunk)
    spans = max(1, min(most, chunks))
    ends = [chunks * span // spans * chunk for span in range(spans + 1)]
    parts = [product_in_order(x[:, i:j], weight[i:j], fma, chunk) for i, j in pairwise(ends)]
    return functools.reduce(np.add, parts)
