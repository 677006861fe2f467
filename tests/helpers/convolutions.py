"""Convolutions for the tests of their kernels: shapes, operands, and which cases go in tiles."""

import numpy as np

import reference
from fastnn import _kernels


def case(
    x, kernel, features, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1
):  # fmt: skip
    """The shapes of images and weight, and the faces' `geometry`."""
    weight = (*kernel, x[3] // groups, features)
    return x, weight, (stride, padding, dilation, groups)


# Channels and features around the vector's width and the tiles' columns, output pixels around the
# tiles' rows, taps times channels around the chunk of 256, images around 16 (fewer: cut by line).
CASES = {
    "one pixel": case((1, 1, 1, 1), (1, 1), 1),
    "one pixel, padded": case((1, 1, 1, 3), (3, 3), 2, padding=((1, 1), (1, 1))),
    "one pixel of many images": case((300, 1, 1, 5), (1, 1), 3),
    "1x1": case((3, 5, 4, 17), (1, 1), 33),
    "1x1, strided": case((2, 5, 6, 16), (1, 1), 15, stride=(2, 3)),
    "kernel as large as the image": case((5, 4, 3, 3), (4, 3), 17),
    "kernel larger than the image": case((2, 2, 3, 3), (5, 4), 5, padding=((2, 1), (1, 2))),
    "3x3": case((2, 9, 7, 3), (3, 3), 16, padding=((1, 1), (1, 1))),
    "one channel": case((3, 8, 9, 1), (3, 3), 15),
    "15 channels": case((2, 5, 8, 15), (3, 2), 16),
    "16 channels": case((2, 5, 8, 16), (2, 3), 17),
    "17 channels": case((2, 5, 8, 17), (3, 3), 1),
    "33 channels, four chunks": case((2, 5, 6, 33), (5, 5), 3, padding=((2, 2), (2, 2))),
    "few features, two chunks of pixels": case((3, 13, 11, 9), (3, 3), 5, padding=((1, 1), (1, 0))),
    "few features, strides, groups": case(
        (2, 19, 31, 36), (2, 3), 6, (1, 2), ((1, 0), (1, 2)), (1, 2), groups=2
    ),
    "few features behind whole vectors": case(
        (3, 11, 14, 20), (3, 3), 34, stride=(2, 1), padding=((1, 1), (1, 1))
    ),
    "few features of many rows": case((1, 17, 18, 35), (4, 4), 2, padding=((1, 2), (2, 1))),
    "256 terms": case((1, 5, 5, 64), (2, 2), 5),
    "257 terms": case((1, 4, 260, 1), (1, 257), 5),
    "many features": case((1, 4, 5, 3), (3, 3), 200, padding=((1, 1), (1, 1))),
    "129 features": case((2, 3, 5, 17), (2, 2), 129),
    "four sides": case((2, 6, 5, 4), (3, 4), 6, padding=((0, 3), (2, 1))),
    "padding larger than the kernel": case((2, 3, 4, 3), (2, 2), 5, padding=((3, 4), (5, 2))),
    "padding alone at a whole line": case((1, 1, 2, 2), (1, 1), 3, padding=((2, 2), (0, 9))),
    "strides": case((2, 9, 11, 3), (3, 3), 8, stride=(2, 3), padding=((1, 1), (2, 0))),
    "strides larger than the kernel": case((2, 11, 9, 3), (2, 1), 4, stride=(4, 3)),
    "a stride that leaves pixels over": case((2, 8, 10, 3), (3, 3), 4, stride=(3, 4)),
    "dilation": case((2, 9, 10, 3), (3, 3), 7, dilation=(2, 3), padding=((2, 2), (1, 3))),
    "dilation and strides": case(
        (2, 11, 13, 5), (3, 2), 9, (3, 2), ((4, 0), (1, 5)), dilation=(2, 4)
    ),
    "dilation over nothing but padding": case(
        (2, 2, 2, 3), (3, 3), 4, padding=((5, 5), (5, 5)), dilation=(5, 5)
    ),
    "a line": case((3, 1, 40, 6), (1, 5), 9, padding=((0, 0), (4, 0))),
    "a column": case((3, 40, 1, 6), (5, 1), 9, stride=(3, 1)),
    "15 images": case((15, 4, 3, 3), (2, 2), 5),
    "16 images": case((16, 4, 3, 3), (2, 2), 5),
    "17 images": case((17, 4, 3, 3), (2, 2), 5, padding=((1, 0), (0, 1))),
    "tiles": case((2, 8, 6, 24), (3, 3), 24, padding=((1, 1), (1, 1))),
    "tiles, some cut": case((3, 9, 7, 33), (3, 3), 25),
    "tiles of one output": case((5, 3, 3, 24), (3, 3), 33),
    "tiles of one pixel": case((17, 1, 1, 32), (3, 3), 31, padding=((1, 1), (1, 1))),
    "tiles on a line": case((2, 1, 13, 33), (3, 3), 24, padding=((2, 1), (0, 3))),
    "tiles over nothing but padding": case((2, 2, 3, 24), (3, 3), 25, padding=((5, 4), (7, 3))),
    "tiles of 300 channels": case((2, 5, 4, 300), (3, 3), 13, padding=((0, 1), (1, 0))),
    "tiles of 300 features": case((2, 4, 5, 17), (3, 3), 300, padding=((1, 1), (1, 1))),
    "tiles of both": case((1, 3, 4, 257), (3, 3), 258, padding=((1, 1), (0, 1))),
    "tiles of 16 images": case((16, 5, 9, 40), (3, 3), 36, padding=((1, 0), (0, 2))),
    "groups": case((2, 5, 6, 6), (3, 3), 9, groups=3, padding=((1, 1), (1, 1))),
    "groups, strides, dilation": case(
        (2, 9, 11, 34), (3, 2), 68, (2, 1), ((3, 1), (0, 2)), (2, 3), groups=2
    ),
    "groups of one channel": case((2, 5, 6, 3), (3, 3), 6, groups=3),
    "groups of one feature": case((2, 5, 6, 6), (3, 3), 3, groups=3),
    "groups of four chunks": case((1, 4, 5, 90), (5, 5), 4, groups=2, padding=((2, 2), (2, 2))),
    "depthwise": case((2, 7, 6, 17), (3, 3), 17, groups=17, padding=((1, 1), (1, 1))),
    "depthwise, two channels": case((3, 5, 9, 2), (2, 5), 2, groups=2),
    "depthwise, 33 channels": case(
        (17, 5, 4, 33), (3, 2), 33, (2, 1), ((2, 0), (1, 3)), groups=33
    ),
    "depthwise, dilation": case(
        (2, 9, 8, 16), (3, 3), 16, (1, 2), ((2, 5), (4, 0)), (2, 3), groups=16
    ),
    "depthwise, strides larger than the kernel": case(
        (2, 9, 8, 15), (2, 2), 15, stride=(3, 4), groups=15
    ),
    "depthwise, channels part by part": case(
        (2, 5, 60, 150), (3, 3), 150, groups=150, padding=((1, 1), (1, 1))
    ),
    "depthwise, 5x5, strides": case(
        (2, 9, 12, 18), (5, 5), 18, (2, 2), ((2, 2), (2, 2)), groups=18
    ),
    "depthwise, strides and dilation": case(
        (2, 14, 15, 5), (2, 3), 5, (2, 2), ((1, 0), (3, 2)), (3, 3), 5
    ),
    "depthwise, strides that are multiples of the dilation": case(
        (2, 13, 14, 3), (3, 2), 3, (4, 2), ((2, 1), (0, 1)), (2, 1), 3
    ),
    "depthwise, 7x4": case((17, 8, 19, 5), (7, 4), 5, groups=5, padding=((3, 3), (1, 2))),
    "depthwise, a line too long to be copied whole": case(
        (2, 1, 6000, 3), (1, 5), 3, groups=3, padding=((0, 0), (4, 0))
    ),
    "depthwise, dilation over more than a band": case(
        (1, 2, 8100, 2), (2, 3), 2, dilation=(1, 4000), groups=2
    ),
    "depthwise, many taps": case(
        (2, 12, 11, 3), (9, 10), 3, groups=3, padding=((4, 4), (9, 12))
    ),
}  # fmt: skip


def operands(rng, shapes, dtype):
    """x, weight, bias, and dz of the output's shape."""
    x_shape, weight_shape, geometry = shapes
    x, weight = (rng.standard_normal(shape).astype(dtype) for shape in (x_shape, weight_shape))
    places = reference.patch_matrix(x[:, :, :, :1], weight_shape[:2], geometry)[1]
    dz = rng.standard_normal((*places, weight_shape[3])).astype(dtype)
    return x, weight, rng.standard_normal(weight_shape[3]).astype(dtype), dz


def weight_gradient(x, dz, weight, geometry):
    dweight = np.full_like(weight, np.nan)
    _kernels.conv_backward_weight(x, dz, dweight, geometry)
    return dweight


def run(x, weight, bias, dz, geometry):
    """The output and the gradients of the input and the weight."""
    return (
        _kernels.conv_forward(x, weight, bias, geometry),
        _kernels.conv_backward_input(x.shape, dz, weight, geometry),
        weight_gradient(x, dz, weight, geometry),
    )


def is_in_tiles(weight, geometry):
    """Whether csrc/winograd.inc computes it.  For numbers of similar size, as here, its rounding
    scales with the largest of 2x2 outputs."""
    *kernel, channels, features = weight.shape
    stride, _, *others = geometry
    enough = channels * features >= 12 * (channels + features)
    return kernel == [3, 3] and stride == (1, 1) and others == [(1, 1), 1] and enough
