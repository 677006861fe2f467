"""Every operation of fastnn in plain NumPy: the readable specification that the tests judge by.

Formulas only, no speed: each function computes in the type of what it is given, and the tests
give float64 (or long double, where the kernel under test is itself float64).
"""

import functools
import math
from itertools import pairwise

import numpy as np

# ---- dense layers: x (batch, in), weight (in, out), bias (out,) ----

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
    """a * b + c in float32, rounded once: through float64 rounded to odd, which is exact."""
    product, c = a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)
    total = product + c
    shadow = total - product
    error = (product - (total - shadow)) + (c - shadow)  # total + error is exact (Knuth)
    even = total.view(np.int64) % 2 == 0
    odd = np.nextafter(total, np.copysign(np.inf, error))
    return np.where((error != 0) & even, odd, total).astype(np.float32)


def fma64(a, b, c):
    """a * b + c of three Python floats, rounded once: by exact fractions."""
    from fractions import Fraction

    return float(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def product_in_order(x, weight, fma, chunk=CHUNK):
    """x @ weight as the law states it: one chain of fused multiply-adds over k in each chunk of
    so many terms, chunk sums added in order.  `fma` works on whole arrays."""
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
    """The same of at most so many spans of whole chunks, and their sums added in order."""
    chunks = -(-x.shape[1] // chunk)
    spans = max(1, min(most, chunks))
    ends = [chunks * span // spans * chunk for span in range(spans + 1)]
    parts = [product_in_order(x[:, i:j], weight[i:j], fma, chunk) for i, j in pairwise(ends)]
    return functools.reduce(np.add, parts)


# ---- activations ----

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def erfc(x):
    """The complementary error function of a long double (or shorter), to about float64's ULP:
    erfc of the nearest float64, moved by the rest along the tangent."""
    near = np.asarray(x, np.float64)
    rest = x - near
    value = np.vectorize(math.erfc, otypes=[np.float64])(near)
    with np.errstate(over="ignore", invalid="ignore"):
        slope = -2 / np.sqrt(np.pi) * np.exp(-(near.astype(np.longdouble) ** 2))
        moved = value + np.where(np.isfinite(x), slope * rest, 0)
    return moved.astype(np.result_type(x))


def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow and accurate in the left tail."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def softplus(x):
    """log(1 + exp(x)), without overflow."""
    return np.where(x < 0, 0, x) + np.log1p(np.exp(-np.abs(x)))


def normal_cdf(x):
    return erfc(-x / np.sqrt(np.asarray(2, np.result_type(x)))) / 2


def normal_density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.asarray(np.pi, np.result_type(x)))


def tanh_derivative(x):
    """1 / cosh(x)^2, which 1 - tanh(x)^2 is, without its cancellation."""
    e = np.exp(-2 * np.abs(x))
    return 4 * e / (1 + e) ** 2


def _where_negative(x, negative, positive):
    """negative(x) up to zero, so that a kink has the left slope; positive(x) elsewhere."""
    below = x <= 0
    return np.where(below, negative(np.where(below, x, 0)), positive(np.where(below, 0, x)))


# name -> (f(x, alpha), f'(x, alpha))
ACTIVATIONS = {
    "linear": (lambda x, a: x, lambda x, a: np.ones_like(x)),
    "relu": (
        lambda x, a: np.where(x < 0, 0, x),
        lambda x, a: np.where(x > 0, 1.0, 0.0),
    ),
    "leaky_relu": (
        lambda x, a: np.where(x < 0, a * x, x),
        lambda x, a: np.where(x > 0, 1.0, a),
    ),
    "sigmoid": (
        lambda x, a: sigmoid(x),
        lambda x, a: sigmoid(x) * sigmoid(-x),
    ),
    "tanh": (
        lambda x, a: np.tanh(x),
        lambda x, a: tanh_derivative(x),
    ),
    "elu": (
        lambda x, a: _where_negative(x, lambda n: a * np.expm1(n), lambda p: p),
        lambda x, a: _where_negative(x, lambda n: a * np.exp(n), np.ones_like),
    ),
    "selu": (
        lambda x, a: _where_negative(
            x, lambda n: SELU_SCALE * SELU_ALPHA * np.expm1(n), lambda p: SELU_SCALE * p
        ),
        lambda x, a: _where_negative(
            x, lambda n: SELU_SCALE * SELU_ALPHA * np.exp(n), lambda p: np.full_like(p, SELU_SCALE)
        ),
    ),
    "softplus": (
        lambda x, a: softplus(x),
        lambda x, a: sigmoid(x),
    ),
    "silu": (
        lambda x, a: x * sigmoid(x),
        lambda x, a: sigmoid(x) * (1 + x * sigmoid(-x)),
    ),
    "gelu": (
        lambda x, a: x * normal_cdf(x),
        lambda x, a: normal_cdf(x) + x * normal_density(x),
    ),
    "mish": (
        lambda x, a: x * np.tanh(softplus(x)),
        lambda x, a: np.tanh(softplus(x)) + x * tanh_derivative(softplus(x)) * sigmoid(x),
    ),
}


def activation_forward(x, name, alpha=0.0):
    return ACTIVATIONS[name][0](x, alpha)


def activation_backward(x, dy, name, alpha=0.0):
    return dy * ACTIVATIONS[name][1](x, alpha)


def softmax(x):
    """exp(x_j) / sum_k exp(x_k) over the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_backward(y, dy):
    return y * (dy - (y * dy).sum(axis=-1, keepdims=True))


# ---- dropout ----


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
    """Of the 65536 values of a half-word, those below this one drop their element."""
    return min(round(rate * 65536), 65535)


def dropout_keep(rows, features, rate, seed, step, layer):
    """True where an element is kept, by (seed, step, layer, row * features + column) alone.

    An element e, counted so, reads block (e // 128) * 16 + e % 16, half-word e % 128 // 16 of its
    eight (low half of word 0, high half of word 0, low half of word 1, ...)."""
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
    """What kept values are multiplied by: one over the probability of being kept."""
    return 65536 / (65536 - dropout_threshold(rate))


# ---- normalisation: x (batch, features) ----


def batchnorm_forward(x, gamma, beta, running_mean, running_var, momentum, eps):
    """y, mean, inv_std, new running mean, new running variance; biased variance throughout."""
    mean, var = x.mean(axis=0), x.var(axis=0)
    inv_std = 1 / np.sqrt(var + eps)
    y = gamma * (x - mean) * inv_std + beta
    running_mean = (1 - momentum) * running_mean + momentum * mean
    running_var = (1 - momentum) * running_var + momentum * var
    return y, mean, inv_std, running_mean, running_var


def batchnorm_evaluate(x, gamma, beta, running_mean, running_var, eps):
    return gamma * (x - running_mean) / np.sqrt(running_var + eps) + beta


def batchnorm_backward(x, dy, gamma, eps):
    """dx, dgamma, dbeta."""
    mean, inv_std = x.mean(axis=0), 1 / np.sqrt(x.var(axis=0) + eps)
    normal = (x - mean) * inv_std
    dgamma, dbeta = (dy * normal).sum(axis=0), dy.sum(axis=0)
    dx = gamma * inv_std * (dy - dbeta / len(x) - normal * dgamma / len(x))
    return dx, dgamma, dbeta


def layernorm_forward(x, gamma, beta, eps):
    """y, mean, inv_std: each row has its own."""
    mean, var = x.mean(axis=-1), x.var(axis=-1)
    inv_std = 1 / np.sqrt(var + eps)
    return gamma * (x - mean[:, None]) * inv_std[:, None] + beta, mean, inv_std


def layernorm_backward(x, dy, gamma, eps):
    """dx, dgamma, dbeta."""
    mean = x.mean(axis=-1, keepdims=True)
    inv_std = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + eps)
    normal, d = (x - mean) * inv_std, dy * gamma
    dx = inv_std * (
        d - d.mean(axis=-1, keepdims=True) - normal * (d * normal).mean(axis=-1, keepdims=True)
    )
    return dx, (dy * normal).sum(axis=0), dy.sum(axis=0)


# ---- convolution and pooling: x (batch, height, width, channels) ----


def pad_images(x, padding, value=0):
    """padding: ((top, bottom), (left, right))."""
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def crop_images(x, padding):
    """What pad_images has padded."""
    (top, bottom), (left, right) = padding
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def under_taps(padded, kernel, stride, dilation=(1, 1)):
    """By tap of the kernel, line after line: what of the padded images lies under it at each place,
    a view (batch, out height, out width, channels)."""
    height, width = (
        (size - (k - 1) * d - 1) // s + 1
        for size, k, s, d in zip(padded.shape[1:3], kernel, stride, dilation, strict=True)
    )
    for row, column in np.ndindex(*kernel):
        from_top, from_left = padded[:, row * dilation[0] :], column * dilation[1]
        yield from_top[:, :: stride[0], from_left :: stride[1]][:, :height, :width]


def group_parts(groups, channels, features):
    """The slices of channels and of features of each group."""
    c, f = channels // groups, features // groups
    return [(slice(g * c, g * c + c), slice(g * f, g * f + f)) for g in range(groups)]


def conv_forward(x, weight, bias, geometry):
    """z at a place: the sum over the taps of what lies under a tap times the tap's weight.

    weight: (kernel height, kernel width, channels / groups, features);
    geometry: (stride, padding, dilation, groups), padding ((top, bottom), (left, right))."""
    stride, padding, dilation, groups = geometry
    kernel, features = weight.shape[:2], weight.shape[3]
    total = 0
    for tap, under in zip(
        weight.reshape(-1, *weight.shape[2:]),
        under_taps(pad_images(x, padding), kernel, stride, dilation),
        strict=True,
    ):
        parts = group_parts(groups, x.shape[3], features)
        total = total + np.concatenate([under[..., c] @ tap[:, f] for c, f in parts], axis=3)
    return total if bias is None else total + bias


def conv_backward(x, weight, dz, geometry):
    """Gradients of the input, the weight and the bias."""
    stride, padding, dilation, groups = geometry
    padded = pad_images(x, padding)
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    window = weight.shape[:2], stride, dilation
    for tap, dtap, under, dunder in zip(
        weight.reshape(-1, *weight.shape[2:]),
        dweight.reshape(-1, *weight.shape[2:]),
        under_taps(padded, *window),
        under_taps(dpadded, *window),
        strict=True,
    ):
        for c, f in group_parts(groups, x.shape[3], weight.shape[3]):
            dtap[:, f] = np.einsum("bhwc,bhwf->cf", under[..., c], dz[..., f])
            dunder[..., c] += dz[..., f] @ tap[:, f].T
    return crop_images(dpadded, padding), dweight, dz.sum(axis=(0, 1, 2))


def conv_in_order(x, weight, geometry, fma):
    """conv_forward without a bias as the law states it, a product of the matrix of all patches: one
    chain over (kernel row, kernel column, channel)."""
    features, groups = weight.shape[3], geometry[3]
    parts = []
    for c, f in group_parts(groups, x.shape[3], features):
        patches, places = patch_matrix(x[..., c], weight.shape[:2], geometry)
        matrix = weight[..., f].reshape(patches.shape[1], -1)
        parts.append(product_in_order(patches, matrix, fma).reshape(*places, -1))
    return np.concatenate(parts, axis=3)


def conv_weight_in_order(x, dz, kernel, geometry, fma):
    """The weight's gradient as the law states it: chains over (image, row, column)."""
    parts = []
    for c, f in group_parts(geometry[3], x.shape[3], dz.shape[3]):
        patches, _ = patch_matrix(x[..., c], kernel, geometry)
        columns = dz[..., f].reshape(len(patches), -1)
        dweight = product_in_spans(patches.T, columns, fma, min(16, 512 // patches.shape[1]))
        parts.append(dweight.reshape(*kernel, -1, columns.shape[1]))
    return np.concatenate(parts, axis=3)


# In tiles of 2x2 outputs, as csrc/winograd.inc states it: each of these along rows and columns.


def _input_sums(d):
    return np.stack([d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]])


def _kernel_sums(g):
    half = g.dtype.type(0.5)
    return np.stack([g[0], half * (g[0] + g[2] + g[1]), half * (g[0] + g[2] - g[1]), g[2]])


def _output_sums(m):
    return np.stack([m[0] + m[1] + m[2], m[1] - m[2] - m[3]])


def _output_shares(y):
    return np.stack([y[0], y[0] + y[1], y[0] - y[1], -y[1]])


def _kernel_shares(m):
    half = m.dtype.type(0.5)
    sums = half * (m[1] + m[2])
    return np.stack([m[0] + sums, half * (m[1] - m[2]), sums + m[3]])


def _on_axes(f, x, axes):
    for axis in axes:
        x = np.moveaxis(f(np.moveaxis(x, axis, 0)), 0, axis)
    return x


def _tiles(x, size, count):
    """(size, size, tiles, channels): squares 2 apart, `count` of them along each axis; zeros behind
    the images."""
    down, across = count
    behind = [
        (0, max(0, 2 * n - 2 + size - have)) for n, have in zip(count, x.shape[1:3], strict=True)
    ]
    x = np.pad(x, [(0, 0), *behind, (0, 0)])
    return np.stack([
        np.stack([x[:, i : i + 2 * down - 1 : 2, j : j + 2 * across - 1 : 2].reshape(-1, x.shape[3])
                  for j in range(size)])
        for i in range(size)
    ])  # fmt: skip


def _tile_count(x, padding):
    return [(n + sum(sides) - 2 + 1) // 2 for n, sides in zip(x.shape[1:3], padding, strict=True)]


def conv_by_tiles(x, weight, padding, fma):
    """conv_forward of 3x3 kernels without a bias by 16 multiplications for a tile."""
    count = _tile_count(x, padding)
    inputs = _on_axes(_input_sums, _tiles(pad_images(x, padding), 4, count), (0, 1))
    kernels = _on_axes(_kernel_sums, weight, (1, 0))
    sums = np.stack([
        [product_in_order(a, b, fma) for a, b in zip(*rows, strict=True)]
        for rows in zip(inputs, kernels, strict=True)
    ])  # fmt: skip
    y = _on_axes(_output_sums, sums, (0, 1)).reshape(2, 2, len(x), *count, -1)
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(len(x), 2 * count[0], 2 * count[1], -1)
    height, width = (n + sum(sides) - 2 for n, sides in zip(x.shape[1:3], padding, strict=True))
    return np.ascontiguousarray(y[:, :height, :width])


def conv_weight_by_tiles(x, dz, padding, fma):
    """The weight's gradient by 16 multiplications a tile, in chains of 128 tiles, of which spans
    are added apart."""
    count = _tile_count(x, padding)
    inputs = _on_axes(_input_sums, _tiles(pad_images(x, padding), 4, count), (0, 1))
    outputs = _on_axes(_output_shares, _tiles(dz, 2, count), (0, 1))
    spans = 4 // -(-x.shape[3] // 64)
    sums = np.stack([
        [product_in_spans(a.T, b, fma, spans, 128) for a, b in zip(*rows, strict=True)]
        for rows in zip(inputs, outputs, strict=True)
    ])  # fmt: skip
    return _on_axes(_kernel_shares, sums, (1, 0))


def patch_matrix(x, kernel, geometry):
    """A row under each place, (kernel row, kernel column, channel) along it; and the places."""
    stride, padding, dilation, _ = geometry
    taps = list(under_taps(pad_images(x, padding), kernel, stride, dilation))
    return np.concatenate(taps, axis=3).reshape(-1, len(taps) * x.shape[3]), taps[0].shape[:3]


def _window_parts(x, geometry, counted=0):
    """By tap: the elements under it, -inf outside the image, and whether they count."""
    kernel, stride, padding = geometry
    counts = pad_images(np.ones(x.shape, x.dtype), padding, counted)
    return list(zip(
        under_taps(pad_images(x, padding, -np.inf), kernel, stride),
        under_taps(pad_images(np.ones(x.shape, bool), padding), kernel, stride),
        under_taps(counts, kernel, stride),
        strict=True,
    ))  # fmt: skip


def pool_forward(x, geometry, average, count_padding=False):
    """The maximum of each window, or its average, over the image or over the padding (zeros) too.

    geometry: (kernel, stride, padding)."""
    parts = _window_parts(x, geometry, count_padding)
    if not average:
        return np.max([under for under, *_ in parts], axis=0)
    return sum(np.where(inside, under, 0) for under, inside, _ in parts) / sum(
        counts for *_, counts in parts
    )


def pool_backward(x, dy, geometry, average, count_padding=False):
    """dx; of equal maxima, and of several NaN, the first has the gradient."""
    kernel, stride, padding = geometry
    parts = _window_parts(x, geometry, count_padding)
    y, share = pool_forward(x, geometry, average, count_padding), sum(c for *_, c in parts)
    dpadded, rest = np.zeros_like(pad_images(x, padding)), np.ones(dy.shape, bool)
    for (under, inside, _), dunder in zip(parts, under_taps(dpadded, kernel, stride), strict=True):
        if average:
            dunder += np.where(inside, dy / share, 0)
        else:
            first = rest & inside & ((under == y) | np.isnan(under))
            dunder += np.where(first, dy, 0)
            rest &= ~first
    return crop_images(dpadded, padding)


# ---- embeddings: codes of any shape, weight (codes, features) ----


def embedding_forward(codes, weight):
    return weight[codes.astype(int)]


def embedding_backward(codes, dy, weight):
    """Each code's row is the sum of its gradients, in the order of the batch."""
    dweight = np.zeros_like(weight)
    np.add.at(dweight, codes.astype(int), dy)
    return dweight


# ---- losses: outputs (batch, n) -> value of each row, its gradient; then the weighted mean ----


def one_hot(labels, classes, like=np.float64):
    return np.eye(classes, dtype=like)[labels]


def softmax_cross_entropy(logits, targets, label_smoothing=0.0):
    classes = logits.shape[1]
    if targets.ndim == 1:
        targets = one_hot(targets, classes, logits.dtype)
    t = (1 - label_smoothing) * targets + label_smoothing / classes
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    mass = t.sum(axis=1, keepdims=True)  # 1 for probabilities
    terms = np.where(t == 0, 0, t * (log_sum - shifted))
    return terms.sum(axis=1), softmax(logits) * mass - t


def sigmoid_cross_entropy(logits, targets):
    n = logits.shape[1]
    # -t log s(z) - (1 - t) log(1 - s(z)), as a sum of terms that cannot overflow
    value = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    return value.mean(axis=1), (sigmoid(logits) - targets) / n


def squared_error(outputs, targets):
    difference = outputs - targets
    return (difference**2).mean(axis=1), 2 * difference / outputs.shape[1]


def absolute_error(outputs, targets):
    difference = outputs - targets
    return np.abs(difference).mean(axis=1), np.sign(difference) / outputs.shape[1]


def quantile(outputs, targets, q=0.5):
    """The pinball loss; q is a number, or one for each column."""
    d, q = targets - outputs, np.asarray(q)
    slope = np.where(d > 0, -q, np.where(d < 0, 1 - q, 0))
    return np.maximum(q * d, (q - 1) * d).mean(axis=1), slope / outputs.shape[1]


def huber(outputs, targets, delta=1.0):
    """Quadratic to a distance of delta, linear with slope delta beyond."""
    difference = outputs - targets
    size = np.abs(difference)
    value = np.where(size <= delta, difference**2 / 2, delta * (size - delta / 2))
    return value.mean(axis=1), np.clip(difference, -delta, delta) / outputs.shape[1]


def poisson(outputs, targets):
    """The outputs are logarithms of means."""
    value = np.exp(outputs) - targets * outputs
    return value.mean(axis=1), (np.exp(outputs) - targets) / outputs.shape[1]


def hinge(scores, targets, margin=1.0):
    """Σ_{j≠y} max(0, s_j - s_y + margin); the derivative at the kink is 0."""
    rows = np.arange(len(scores))
    over = scores - scores[rows, targets][:, None] + margin
    over[rows, targets] = 0
    gradient = (over > 0).astype(scores.dtype)
    gradient[rows, targets] = -gradient.sum(axis=1)
    return np.maximum(over, 0).sum(axis=1), gradient


def weighted(rows, gradient, sample_weight=None):
    """Σ w_i l_i / Σ w_i, and its gradient from the rows' gradients."""
    w = np.ones(len(rows), rows.dtype) if sample_weight is None else sample_weight
    share = w / w.sum()
    return (share * rows).sum(), share[:, None] * gradient


# ---- optimizers: each is the update of one vector p by g at step t = 1, 2, ... ----


class Optimizer:
    """Holds the state that update() needs from step to step."""

    def __init__(self, learning_rate, **options):
        self.learning_rate, self.t, self.state = learning_rate, 0, {}
        self.__dict__.update(options)

    def moment(self, name, p):
        return self.state.setdefault(name, np.zeros_like(p))

    def step(self, p, g):
        self.t += 1
        return self.update(p, g)


class SGD(Optimizer):
    def update(self, p, g):
        return p - self.learning_rate * g


class Momentum(Optimizer):
    beta, nesterov = 0.9, False

    def update(self, p, g):
        v = self.state["v"] = self.beta * self.moment("v", p) + g
        return p - self.learning_rate * (g + self.beta * v if self.nesterov else v)


class RMSprop(Optimizer):
    beta, eps, bias_correction = 0.9, 1e-8, False

    def update(self, p, g):
        s = self.state["s"] = self.beta * self.moment("s", p) + (1 - self.beta) * g * g
        if self.bias_correction:
            s = s / (1 - self.beta**self.t)
        return p - self.learning_rate * g / (np.sqrt(s) + self.eps)


class Adam(Optimizer):
    beta1, beta2, eps, weight_decay = 0.9, 0.999, 1e-8, 0.0

    def update(self, p, g):
        m = self.state["m"] = self.beta1 * self.moment("m", p) + (1 - self.beta1) * g
        s = self.state["s"] = self.beta2 * self.moment("s", p) + (1 - self.beta2) * g * g
        m, s = m / (1 - self.beta1**self.t), s / (1 - self.beta2**self.t)
        p = p - self.learning_rate * self.weight_decay * p  # decoupled: AdamW
        return p - self.learning_rate * m / (np.sqrt(s) + self.eps)


def clip_norm(gradients, max_norm):
    """The global norm, and the factor that brings it to max_norm at most."""
    norm = np.sqrt((gradients**2).sum())
    return norm, min(1.0, max_norm / (norm + 1e-6))


# ---- initialisers: the standard deviation (or the limit) for `fan_in` inputs ----

STANDARD_DEVIATION = {
    "zeros": lambda fan_in: 0.0,
    "normal": lambda fan_in: 0.01,
    "xavier": lambda fan_in: math.sqrt(1 / fan_in),
    "he": lambda fan_in: math.sqrt(2 / fan_in),
    # uniform in [-limit, limit] with limit sqrt(3/n), sqrt(6/n): the same deviations
    "xavier_uniform": lambda fan_in: math.sqrt(1 / fan_in),
    "he_uniform": lambda fan_in: math.sqrt(2 / fan_in),
}
LIMIT = {
    "xavier_uniform": lambda fan_in: math.sqrt(3 / fan_in),
    "he_uniform": lambda fan_in: math.sqrt(6 / fan_in),
}


# ---- the rest ----


def l2_penalty(weights, strength, batch_size):
    """λ/(2m) Σ‖W‖²; its gradient is λ/m W."""
    return strength / (2 * batch_size) * sum((w**2).sum() for w in weights)


def exponential_average(values, beta):
    """v = β v + (1-β) x from v = 0, divided by 1 - β^t."""
    v, averages = 0.0, []
    for t, x in enumerate(values, start=1):
        v = beta * v + (1 - beta) * x
        averages.append(v / (1 - beta**t))
    return averages


def standardize(train, x):
    """(x - mean) / deviation of the training set; a constant feature is only centred."""
    deviation = train.std(axis=0)
    return (x - train.mean(axis=0)) / np.where(deviation == 0, 1, deviation)
