"""Every layer as C has the bits of the predictor, with GCC and Clang, on many rows."""

import shutil

import numpy as np
import pytest

from c_files import Compiled
from compare import assert_same_bits
from fastnn import Sequential
from networks import MORE, moved, rows_of
from tables import IMAGE_LAYERS, LAYERS


@pytest.mark.parametrize("name", [*LAYERS, *IMAGE_LAYERS, *MORE])
def test_bits_are_the_predictors(name, dtype, rng, tmp_path):
    """float32 by GCC, float64 by Clang, where there is one."""
    layers, shape, rows = rows_of(name)
    model = moved(Sequential(*layers, seed=1, dtype=dtype), rng)
    sizes = 10 ** rng.uniform(-3, 1, (rows, *(1 for _ in shape)))
    x = (sizes * rng.standard_normal((rows, *shape))).astype(dtype)
    for embedding, columns in model._chain.codes:
        x[:, columns] = rng.integers(0, embedding.n, x[:, columns].shape)
    command = "clang" if dtype == np.float64 and shutil.which("clang") else "gcc"
    run = Compiled(model, tmp_path, command, shape=shape)
    assert_same_bits(run(x), model.predictor(len(x))(x))


SPECIAL = [
    *(0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, -1e-40, 1e-9, -3e-8, 3e-8, 0.5, -0.5),
    *(5.0, -5.0, -5.5, -12.9, -13, -16, 20, -20, 88, 89, -87, -88, -104, -120, 710, -746),
    *(1e4, -1e4, -1.1e4, 1e30, -1e30, 3.4e38),
]


@pytest.mark.parametrize("name", [n for n in LAYERS if len(n.split()) == 1 and n != "dense"])
def test_numbers_at_the_edges(name, dtype, rng, tmp_path):
    layer = LAYERS[name](4)
    model = Sequential(layer, dtype=dtype)
    many = rng.standard_normal(4000) * 10.0 ** rng.integers(-9, 5, 4000)
    with np.errstate(over="ignore"):
        x = np.concatenate([SPECIAL, many]).astype(dtype)
    x = x[: len(x) // 4 * 4].reshape(-1, 4)
    assert_same_bits(Compiled(model, tmp_path, shape=(4,))(x), model.predictor(len(x))(x))
