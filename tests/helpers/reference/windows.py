"""Convolution and pooling: x (batch, height, width, channels); and convolutions that add in the
order of docs/background/numerics.md."""

import numpy as np

from reference.products import product_in_order, product_in_spans


def pad_images(x, padding, value=0):
    """padding: ((top, bottom), (left, right))."""
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def crop_images(x, padding):
    """The images without their padding."""
    (top, bottom), (left, right) = padding
    return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


def under_taps(padded, kernel, stride, dilation=(1, 1)):
    """For each tap of the kernel, line by line: the elements of the padded images that it meets, a
    view (batch, out height, out width, channels)."""
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
    """z at each output pixel: the sum over the taps of the element under a tap times its weight.

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
    """conv_forward without a bias, as one product with the matrix of all patches: a chain over
    (kernel row, kernel column, channel)."""
    features, groups = weight.shape[3], geometry[3]
    parts = []
    for c, f in group_parts(groups, x.shape[3], features):
        patches, places = patch_matrix(x[..., c], weight.shape[:2], geometry)
        matrix = weight[..., f].reshape(patches.shape[1], -1)
        parts.append(product_in_order(patches, matrix, fma).reshape(*places, -1))
    return np.concatenate(parts, axis=3)


def conv_weight_in_order(x, dz, kernel, geometry, fma):
    """The weight's gradient by chains over (image, row, column)."""
    parts = []
    for c, f in group_parts(geometry[3], x.shape[3], dz.shape[3]):
        patches, _ = patch_matrix(x[..., c], kernel, geometry)
        columns = dz[..., f].reshape(len(patches), -1)
        dweight = product_in_spans(patches.T, columns, fma, min(16, 512 // patches.shape[1]))
        parts.append(dweight.reshape(*kernel, -1, columns.shape[1]))
    return np.concatenate(parts, axis=3)


# In tiles of 2x2 outputs, as in csrc/winograd.inc.  The five transforms run along rows and columns.


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
    """(size, size, tiles, channels): squares that begin 2 pixels apart, `count` of them along each
    axis; zeros follow the images."""
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
    """conv_forward of 3x3 kernels without a bias, by 16 multiplications a tile."""
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
    """The weight's gradient by 16 multiplications a tile, in chains over 128 tiles; up to four
    spans of these chunks are added apart."""
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
    """A row (kernel row, kernel column, channel) for each output pixel; and the output's shape
    without features."""
    stride, padding, dilation, _ = geometry
    taps = list(under_taps(pad_images(x, padding), kernel, stride, dilation))
    return np.concatenate(taps, axis=3).reshape(-1, len(taps) * x.shape[3]), taps[0].shape[:3]


def _window_parts(x, geometry, counted=0):
    """By tap: the elements under it (-inf in padding), which are in the image, which count."""
    kernel, stride, padding = geometry
    counts = pad_images(np.ones(x.shape, x.dtype), padding, counted)
    return list(zip(
        under_taps(pad_images(x, padding, -np.inf), kernel, stride),
        under_taps(pad_images(np.ones(x.shape, bool), padding), kernel, stride),
        under_taps(counts, kernel, stride),
        strict=True,
    ))  # fmt: skip


def pool_forward(x, geometry, average, count_padding=False):
    """The maximum or the average of each window; an average may count the padding's zeros too.

    geometry: (kernel, stride, padding)."""
    parts = _window_parts(x, geometry, count_padding)
    if not average:
        return np.max([under for under, *_ in parts], axis=0)
    return sum(np.where(inside, under, 0) for under, inside, _ in parts) / sum(
        counts for *_, counts in parts
    )


def pool_backward(x, dy, geometry, average, count_padding=False):
    """dx; where several elements are the maximum, or NaN, the first gets the gradient."""
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
