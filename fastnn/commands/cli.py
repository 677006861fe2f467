"""The command ``fastnn``: its arguments, its errors and its exit codes; what it does stands in the
modules beside this one, which are imported when they are asked for.

Exit codes: 0 done, 1 other bits than everywhere (`verify`), 2 wrong usage or a file that is not
what it should be, 130 interrupted by Ctrl-C, 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from fastnn._version import __version__
from fastnn.files import safefile

_EXAMPLES = {
    "": """\
  fastnn train passengers.csv --target survived
  fastnn predict model.safetensors new.csv -o predictions.csv
""",
    "train": """\
  fastnn train passengers.csv --target survived --drop name
  fastnn train houses.parquet --target price --layers 128,128 --cv 5
  fastnn train mnist/                    a folder with MNIST's four files
  fastnn train arrays.npz                X (n, ...) and y (n,)
  fastnn train                           the digits inside the package
""",
    "predict": """\
  fastnn predict model.safetensors new.csv -o predictions.csv
  fastnn predict model.safetensors new.csv --probabilities --keep id | head
""",
    "inspect": """\
  fastnn inspect model.safetensors
  fastnn inspect model.safetensors -o weights.png
""",
    "export": """\
  fastnn export model.safetensors --c -o price.c --name price
  fastnn export model.safetensors --onnx
""",
    "bench": """\
  fastnn bench --seconds 1
""",
    "verify": """\
  fastnn verify                          exit code 0: the same bits as everywhere, 1: not
  fastnn verify --hashes > hashes.json   to publish changed bits, from a tree of the sources
""",
}


_FORMATS = {
    "c": "one C99 file and its header, preprocessing included",
    "onnx": "an ONNX file, preprocessing included",
    "torch": "the weights as PyTorch names and turns them, in a safetensors file",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if sys.stderr is None:  # closed by the caller: nobody reads what is said
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        print("fastnn: error: standard output is closed", file=sys.stderr)
        return 2
    options = _parser().parse_args(arguments)
    shown = warnings.showwarning
    try:
        warnings.showwarning = _show
        if options.command != "predict" and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")  # a report is read by people, "R?" is enough
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `fastnn demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for Python's last flush
        return 141
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        return 130
    except (OSError, ValueError, ImportError, MemoryError, FloatingPointError) as error:
        text = str(error) or "out of memory"
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.filename}: {error.strerror}"
        text = safefile.shortened("\\n".join(text.splitlines()))
        print(f"fastnn {options.command}: error: {text}", file=sys.stderr)
        return 2
    finally:
        warnings.showwarning = shown
    return code


def _show(message: Any, *rest: Any, **more: Any) -> None:
    """A warning as a line."""
    print(f"Warning: {message}", file=sys.stderr)


def _run(module: str, name: str) -> Callable[[argparse.Namespace], int]:
    """A command, whose module is imported when it runs."""
    return lambda options: int(getattr(import_module(f"fastnn.commands.{module}"), name)(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastnn",
        description="Neural networks on CPUs, at the speed of the hardware.",
        **_layout(""),
    )
    parser.add_argument("--version", action="version", version=f"fastnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for add in (_train, _predict, _inspect, _export, _bench, _info, _verify, _demo):
        add(commands)
    return parser


def _layout(command: str) -> dict[str, Any]:
    examples = _EXAMPLES.get(command)
    return {
        "epilog": examples and f"examples:\n{examples}",
        "formatter_class": argparse.RawDescriptionHelpFormatter,
    }


def _new(commands: Any, name: str, run: Any, text: str) -> Any:
    command = commands.add_parser(name, help=text, description=text, **_layout(name))
    command.set_defaults(run=run)
    return command


def _train(commands: Any) -> None:
    command = _new(
        commands, "train", _run("train", "train"),
        "train a network on a file, and say how good it is",
    )  # fmt: skip
    add = command.add_argument
    add("data", nargs="?", help="CSV, Parquet or NPZ file, or folder of IDX files; else the digits")
    add("--target", metavar="NAME", help="the column to predict")
    add("-o", "--output", default="model.safetensors", metavar="FILE", help="default %(default)s")
    add("--force", action="store_true", help="replace files that are there already")
    add("--task", choices=["classification", "regression"], help="found out by the target")
    add("--drop", action="append", default=[], metavar="NAME",
        help="a column to leave out, or several: a,b")  # fmt: skip
    add("--use", action="append", default=[], metavar="NAME",
        help="a column to take though it seems to name or number the rows")  # fmt: skip
    add("--categorical", action="append", default=[], metavar="NAME",
        help="a column whose numbers are codes")  # fmt: skip
    add("--encoding", default="utf-8", help="of CSV files, default %(default)s")
    add("--test", metavar="FILE", help="rows that have no part in training, to be tried at the end")
    group = command.add_argument_group("network and training (defaults suit the data)")
    add = group.add_argument
    add("--network", choices=["auto", "tabular", "dense"], default="auto",
        help="tabular: RealMLP, for up to 100 columns; dense: ReLU and Adam")  # fmt: skip
    add("--layers", type=_widths, metavar="64,64", help="widths of the hidden layers; 0 for none")
    add("--dropout", type=_number(0, 1, "[0, 1)"), metavar="RATE")
    add("--batch-norm", action="store_true", help="before each activation")
    add("--epochs", type=_whole(1), metavar="N", help="at most")
    add("--patience", type=_whole(1), metavar="N", help="stop after N epochs that are no better")
    add("--batch-size", type=_whole(1), metavar="N")
    add("--learning-rate", type=_number(0, 1e6, "a number > 0", open_=True), metavar="RATE")
    add("--balanced", action="store_true", help="let all classes weigh the same")
    add("--validation", type=_number(0, 1, "(0, 1)", open_=True), default=0.2, metavar="PART",
        help="of the rows, held out; default %(default)s")  # fmt: skip
    add("--cv", type=_whole(2), metavar="K", help="first K networks in cross-validation")
    add("--seed", type=_whole(0), default=0, metavar="N", help="default %(default)s")
    add("--threads", type=_whole(1), metavar="N")
    add("--quiet", action="store_true", help="show no progress")


def _predict(commands: Any) -> None:
    command = _new(
        commands, "predict", _run("predict", "predict"),
        "predict what a trained network says of each row of a file",
    )  # fmt: skip
    add = command.add_argument
    add("model", help="file that `fastnn train`, model.save or an estimator's save wrote")
    add("data", help="CSV (- is standard input) or Parquet file, or NPZ file")
    add("-o", "--output", metavar="FILE", help="CSV; else standard output")
    add("--force", action="store_true", help="replace a file that is there already")
    add("--probabilities", action="store_true", help="also a column for each class")
    add("--keep", action="append", default=[], metavar="NAME", help="a column to copy beside")
    add("--encoding", default="utf-8", help="of CSV files, default %(default)s")


def _inspect(commands: Any) -> None:
    text = "show layers, columns and parameters of a network"
    command = _new(commands, "inspect", _run("models", "inspect"), text)
    command.add_argument("model", help="file of a network")
    command.add_argument("-o", "--output", metavar="FILE", help="histograms as a PNG picture")
    command.add_argument("--force", action="store_true", help="replace a picture that is there")


def _export(commands: Any) -> None:
    text = "write a network for other programs"
    command = _new(commands, "export", _run("models", "export"), text)
    command.add_argument("model", help="file of a network")
    formats = command.add_mutually_exclusive_group(required=True)
    for name, text in _FORMATS.items():
        add = formats.add_argument
        add(f"--{name}", action="store_const", dest="format", const=name, help=text)
    add = command.add_argument
    add("-o", "--output", metavar="FILE", help="default: the model's name with another ending")
    add("--name", default="net", help="of the function in C, default %(default)s")
    add("--shape", type=_widths, metavar="28,28,1", help="of a row, for networks that take several")
    add("--force", action="store_true", help="replace files that are there already")


def _bench(commands: Any) -> None:
    text = "measure this machine: products, memory, training steps"
    command = _new(commands, "bench", _run("machine", "bench"), text)
    add = command.add_argument
    add("--seconds", type=_number(0, 60, "(0, 60)", open_=True), default=0.3, metavar="S",
        help="for each line, default %(default)s")  # fmt: skip
    add("--peers", nargs="*", choices=["sklearn", "torch"], default=["sklearn", "torch"],
        help="beside which libraries, if they are installed")  # fmt: skip


def _info(commands: Any) -> None:
    _new(commands, "info", _run("machine", "info"), "print what this build and this machine have")


def _verify(commands: Any) -> None:
    text = "check that this machine computes the same bits as all others"
    command = _new(commands, "verify", _run("verify", "verify"), text)
    text = "print this machine's hashes instead, in the form of the published ones"
    command.add_argument("--hashes", action="store_true", help=text)


def _demo(commands: Any) -> None:
    text = "train a network on handwritten digits"
    command = _new(commands, "demo", _run("demo", "run"), text)
    command.add_argument("--seed", type=_whole(0), default=0, help="of split, start and order")
    command.add_argument("--epochs", type=_whole(1), default=30, help="default %(default)s")


# ---- types of arguments ------------------------------------------------------------------------


def _whole(least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text[:9]) or len(text) > 9:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
        return int(text)

    return read


def _number(low: float, high: float, wanted: str, open_: bool = False) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not low <= number < high or (open_ and number == low):
            raise argparse.ArgumentTypeError(f"expected {wanted}, got {text!r}")
        return number

    return read


def _widths(text: str) -> tuple[int, ...]:
    if text == "0":
        return ()
    try:
        return tuple(_whole(1)(part.strip()) for part in text.split(","))
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected widths such as 64,64, got {text!r}") from None
