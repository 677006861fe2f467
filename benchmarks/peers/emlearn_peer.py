"""emlearn: scikit-learn's regressor as C, as it is and with -ffast-math, whichever is faster."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import emlearn
import numpy as np
from sklearn.neural_network import MLPRegressor

from deployed import Rows
from peers.compiled import loop
from peers.trial import fastest


def rows(case: Rows) -> Callable[[], Any]:
    network, x = case.network, case.data()
    outputs = network.sizes[-1]
    regressor = MLPRegressor(
        hidden_layer_sizes=network.sizes[1:-1], activation=network.activation, max_iter=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one epoch is not enough
        regressor.fit(x, np.zeros((len(x), outputs)))
    for i, (weight, bias) in enumerate(network.weights()):
        regressor.coefs_[i], regressor.intercepts_[i] = weight, bias
    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)  # emlearn leaves a folder there
    converted = emlearn.convert(regressor, return_type="regressor")
    (folder / "net.c").write_text(converted.save(name="net"))
    call = f"net_regress(x, {x.shape[1]}, y, {outputs})"
    include = f"-I{emlearn.includedir}"
    steps = [loop(folder, call, x, outputs, [include, *more]) for more in ([], ["-ffast-math"])]
    assert np.allclose(steps[0](), regressor.predict(x), rtol=1e-3, atol=1e-4)
    return fastest(steps)
