"""``fastnn inspect`` and ``fastnn export``: what is in a file, and the same for other programs."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from fastnn.commands import pictures, trained
from fastnn.commands.tables import listed
from fastnn.commands.trained import Trained, say
from fastnn.data import TableEncoder
from fastnn.files import safefile
from fastnn.looking.inspection import histogram

if TYPE_CHECKING:
    from argparse import Namespace

_SHADES = " .:-=+*#%@"
_BINS = 16
_ENDINGS = {"c": ".c", "onnx": ".onnx", "torch": ".torch.safetensors"}


def inspect(options: Namespace) -> int:
    """Run the command; returns the exit code."""
    trained.check_files([options.model], [options.output], options.force)
    network = trained.read(options.model)
    print(network.model.summary())
    for line in _preprocessing(network):
        print(line)
    print(
        f"\n{'parameter':<22} {'mean':>10} {'deviation':>10} {'least':>10} {'most':>10}  histogram"
    )
    for name, values in network.model.parameters.items():
        values = values.astype(np.float64)  # in which sums of float32 do not overflow
        counts = histogram(values, _BINS)[0]
        level = np.ceil(counts / max(counts.max(), 1) * (len(_SHADES) - 1)).astype(int)
        with np.errstate(over="ignore", invalid="ignore"):
            numbers = (values.mean(), values.std(), values.min(), values.max())
        shown = " ".join(f"{float(number):>10.3g}" for number in numbers)
        print(f"{name:<22} {shown}  |{''.join(_SHADES[i] for i in level)}|")
    if options.output is not None:
        if not pictures.histograms(network.model, options.output):
            raise ImportError("--output: pictures need matplotlib: pip install matplotlib")
        say(f"Saved {options.output}.")
    return 0


def _preprocessing(network: Trained) -> list[str]:
    """What stands before and behind the network, a line each."""
    lines, encoder = [], network.encoder
    if isinstance(encoder, TableEncoder):
        names = network.names or [f"column {i}" for i in range(1, encoder.n_features_in_ + 1)]
        texts = np.flatnonzero(encoder.is_categorical_).tolist()
        numbers = [name for i, name in enumerate(names) if i not in texts]
        lines += [f"numbers: {listed(numbers)}"] if numbers else []
        for i, items in zip(texts, encoder.categories_, strict=True):
            lines.append(f"{names[i]!r}: one of {listed(items)}")
    elif encoder is not None:
        lines.append(f"{network.n_features} numbers, standardised")
    if network.classes is not None:
        lines.append(f"classes: {listed(network.classes)}")
    return ["", *lines] if lines else []


def export(options: Namespace) -> int:
    """Run the command; returns the exit code."""
    stem = os.path.splitext(options.model)[0]
    output = stem + _ENDINGS[options.format] if options.output is None else options.output
    outputs = [output, os.path.splitext(output)[0] + ".h"] if options.format == "c" else [output]
    trained.check_files([options.model], [*outputs], options.force)
    network = trained.read(options.model)
    try:
        _export(network, options, output)
    except TypeError as error:  # such as a layer that the other side does not have
        raise ValueError(f"{options.model}: {error}") from None
    say(f"Saved {' and '.join(outputs)}.")
    return 0


def _export(network: Trained, options: Namespace, output: str) -> None:
    if options.format == "c":
        from fastnn.export.c99 import export_c

        export_c(network.exported(), output, options.name, shape=options.shape)
    elif options.format == "onnx":
        import_module("fastnn.onnx").export(network.exported(), output, shape=options.shape)
    else:
        state = import_module("fastnn.torch").state_dict(network.model)
        safefile.write(output, state, {"format": "pt"})
        if network.encoder is not None:
            say("These are the network's weights alone; what makes numbers of a row is not there.")
