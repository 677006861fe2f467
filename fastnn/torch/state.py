"""State dicts: arrays under PyTorch's names, from a dict or a file, into a model and back.

Imports nothing of PyTorch.  A file's arrays are read where their shapes are the model's, so that no
file takes more memory than the model, or than it has bytes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastnn.files import safefile
from fastnn.model import Sequential
from fastnn.states import IncompatibleKeys
from fastnn.support import arrays, checks, pytorch
from fastnn.torch.layout import Kept, steps

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from numpy.typing import ArrayLike, NDArray

    Shapes = Mapping[str, tuple[int, ...]]

_COUNTER = "num_batches_tracked"  # PyTorch's batch norm has it; fastnn needs none
_SAVE = (
    "write safetensors.torch.save_file(module.state_dict(), 'net.safetensors') in PyTorch and load "
    "that"
)


class Stored(NamedTuple):
    """An array whose shape and type are known before it is read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], NDArray[Any]]


def state_dict(
    model: Sequential, *, names: Sequence[str | None] | None = None, channels: int | None = None
) -> dict[str, NDArray[Any]]:
    """The model's arrays as PyTorch has them: names, axes, order.

    Names begin with the layers' numbers, as those of an `nn.Sequential` with a module for each
    layer, or with `names`, one for each layer that has parameters, None for one to be left out.
    `channels`: see `load_state_dict`.  They are copies, as NumPy arrays: `numpy.savez` and
    ``safetensors.numpy.save_file`` write them, `torch.from_numpy` makes tensors of them.

    Raises TypeError or ValueError for a layer that PyTorch does not have, and where the order of
    features behind `Flatten` is not known.

    >>> from fastnn import Dense, LayerNorm, Sequential
    >>> state = state_dict(Sequential(Dense(3, 2), LayerNorm(2)), names=["fc", "norm"])
    >>> {name: array.shape for name, array in state.items()}
    {'fc.weight': (2, 3), 'fc.bias': (2,), 'norm.weight': (2,), 'norm.bias': (2,)}
    """
    kept = _kept(model, channels)
    prefixes = _given(names, kept) if names is not None else {name: name for name in kept}
    return {
        _joined(prefix, each.their_name): each.theirs()
        for layer, prefix in prefixes.items()
        for each in kept[layer]
        if prefix is not None
    }


def load_state_dict(
    model: Sequential,
    state: Mapping[str, ArrayLike] | str | os.PathLike[str],
    strict: bool = True,
    *,
    names: Sequence[str | None] | None = None,
    channels: int | None = None,
) -> IncompatibleKeys:
    """Copy in a state dict of PyTorch's, rounded to the model's dtype.

    `state` is a dict of tensors or arrays, as PyTorch has them: weights are (out, in), which a
    square one does not show; or the path of a ``.safetensors`` or ``.npz`` file of these.  Neither
    needs PyTorch.  A ``.pt`` file is a pickle, which runs code when it is loaded: it is refused.

    Which of its modules is which layer, "fc1" of ``"fc1.weight"``, is never guessed.  It is

    - what `names` says: a prefix for each layer that has parameters, in the model's order, None for
      one to be passed over;
    - else the same name, if all names are the model's;
    - else the order of their numbers, if all are numbers as in `nn.Sequential`, perhaps behind a
      prefix that all have, and there are as many as layers;
    - else by the arrays' names and shapes, if only one assignment fits.

    The first dense layer behind a `Flatten` of images or sequences gets its inputs in fastnn's
    order, height, width, channels.  `channels` is how many the inputs have, where no layer before
    the `Flatten` says it.  Embeddings are (batch, length, features) in both; behind a convolution
    PyTorch has the features first again.

    Unless `strict`, keys that are missing or unexpected are passed over; the result names them,
    ``(missing_keys, unexpected_keys)``.

    Raises one ValueError that lists all missing, unexpected and misshapen arrays, ValueError where
    the assignment is not certain, for arrays that are not of floating-point numbers, for a damaged
    file or one of another kind, OSError for one that cannot be read; the model is then unchanged.

    >>> from fastnn import Dense, Sequential
    >>> model = Sequential(Dense(3, 1), Dense(1, 2, bias=False))
    >>> weights = {"fc1.weight": [[1.0, 2.0, 3.0]], "fc1.bias": [4.0], "fc2.weight": [[5.0], [6.0]]}
    >>> load_state_dict(model, weights)
    IncompatibleKeys(missing_keys=[], unexpected_keys=[])
    >>> model.predict([[1.0, 1.0, 1.0]])
    array([[50., 60.]], dtype=float32)
    """
    checks.flag(strict, "strict")
    kept = _kept(model, channels)
    if isinstance(state, str | os.PathLike):
        path = os.fspath(state)
        try:
            with _opened(path) as found:
                return _load(model, found, strict, kept, names)
        except ValueError as error:
            raise ValueError(f"{path}: {safefile.shortened(error)}") from None
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a dict of arrays or a path, got {arrays.describe(state)}")
    return _load(model, {k: _stored(k, v) for k, v in state.items()}, strict, kept, names)


def _load(
    model: Sequential,
    state: Mapping[str, Stored],
    strict: bool,
    kept: Mapping[str, list[Kept]],
    names: Sequence[str | None] | None,
) -> IncompatibleKeys:
    state = {name: it for name, it in state.items() if name.rpartition(".")[2] != _COUNTER}
    shapes = {name: it.shape for name, it in state.items()}
    prefixes = _given(names, kept) if names is not None else _matched(shapes, kept)
    wanted = {
        _joined(prefix, each.their_name): (layer, each)
        for layer, prefix in prefixes.items()
        for each in kept[layer]
        if prefix is not None
    }
    found = {name: its for name, its in wanted.items() if name in state}
    missing = [name for name in wanted if name not in found]
    passed = [layer for layer, prefix in prefixes.items() if prefix is None]
    missing += [f"{layer}.{each.name}" for layer in passed for each in kept[layer]]
    unexpected = [name for name in state if name not in found]
    misshapen = [
        f"{name} expected {each.their_shape()}, got {shapes[name]}"
        for name, (_, each) in found.items()
        if shapes[name] != each.their_shape()
    ]
    groups = {"missing": missing, "unexpected": unexpected} if strict else {}
    groups["of another shape"] = misshapen
    if faults := [f"{what} {', '.join(names)}" for what, names in groups.items() if names]:
        raise ValueError(f"state: {'; '.join(faults)}")
    new = {}
    for name, (layer, each) in found.items():
        dtype = state[name].dtype
        if dtype.kind != "f" or dtype.itemsize > 8:
            raise ValueError(f"state: {name}: expected floating-point numbers, got dtype {dtype}")
        new[f"{layer}.{each.name}"] = each.ours(state[name].read())
    model.load_state_dict(new, strict=False)
    return IncompatibleKeys(missing, unexpected)


def _kept(model: Sequential, channels: int | None) -> dict[str, list[Kept]]:
    """What PyTorch keeps of each layer that has parameters or state, by the layer's name."""
    if not isinstance(model, Sequential):
        raise TypeError(f"model: expected a Sequential of fastnn's, got {arrays.describe(model)}")
    found = {step.name: list(step.arrays()) for step in steps(model, channels)}
    return {name: its for name, its in found.items() if its}


# ---- which module is which layer -----------------------------------------------------------------


def _given(names: Iterable[str | None], kept: Mapping[str, Any]) -> dict[str, str | None]:
    """The prefix of each layer, from the argument `names`."""
    listed = [names] if isinstance(names, str) else list(names)
    if isinstance(names, str) or not all(isinstance(name, str | None) for name in listed):
        raise TypeError(f"names: expected a list of prefixes such as ['fc1', 'fc2'], got {names!r}")
    given = [name for name in listed if name is not None]
    if len(listed) != len(kept) or len(set(given)) < len(given):
        raise ValueError(
            f"names: expected {len(kept)} different prefixes, of layers {', '.join(kept)}, "
            f"got {listed}"
        )
    return dict(zip(kept, listed, strict=True))


def _matched(shapes: Shapes, kept: Mapping[str, list[Kept]]) -> dict[str, str | None]:
    """The prefix of each layer; ValueError where names, numbers and shapes leave a doubt."""
    groups: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        prefix, _, last = name.rpartition(".")
        groups.setdefault(prefix, {})[last] = shape
    if groups.keys() == kept.keys():
        return {name: name for name in kept}
    numbers = [_number(prefix) for prefix in _short(list(groups))]
    if len(set(numbers)) == len(kept) == len(groups) and all(numbers):
        ordered = sorted(zip(numbers, groups, strict=True))
        return dict(zip(kept, (prefix for _, prefix in ordered), strict=True))
    signs = {name: {each.their_name: each.their_shape() for each in kept[name]} for name in kept}
    fits = {name: [prefix for prefix in groups if groups[prefix] == signs[name]] for name in kept}
    if len(groups) == len(kept) and all(len(found) == 1 for found in fits.values()):
        its = {name: prefix for name, (prefix,) in fits.items()}
        if len(set(its.values())) == len(kept):
            return dict(its)
    theirs = ", ".join(f"{prefix or 'itself'} {_sign(its)}" for prefix, its in groups.items())
    mine = ", ".join(f"{name} {_sign(its)}" for name, its in signs.items())
    raise ValueError(
        f"state: not certain which module is which layer: it has {theirs or 'nothing'}; the model "
        f"has {mine or 'nothing'}; pass names=[...], the module of each of these"
    )


def _short(prefixes: list[str]) -> list[str]:
    """The prefixes without the parts that all of them begin with."""
    parts = [prefix.split(".") for prefix in prefixes]
    same = 0
    while parts and all(len(p) > same + 1 and p[same] == parts[0][same] for p in parts):
        same += 1
    return [".".join(p[same:]) for p in parts]


def _number(prefix: str) -> tuple[int, ...]:
    """(3, 0) for "3.0", () for what is no number."""
    parts = prefix.split(".")
    return tuple(map(int, parts)) if all(p.isdecimal() and len(p) < 9 for p in parts) else ()


def _sign(shapes: Shapes) -> str:
    return "(" + ", ".join(f"{name} {shape}" for name, shape in shapes.items()) + ")"


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


# ---- where arrays come from ----------------------------------------------------------------------


def _stored(name: Any, value: Any) -> Stored:
    """A value of a dict."""
    if not isinstance(name, str):
        raise TypeError(f"state: expected names such as '0.weight', got {name!r}")
    if pytorch.tensors({name: value}):
        try:
            value = value.detach().cpu().numpy()
        except (TypeError, RuntimeError) as error:
            raise TypeError(f"state: {name}: {error}; write {name!r}: tensor.float()") from None
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"state: {name}: not an array of numbers ({error})") from None
    return Stored(array.shape, array.dtype, lambda: array)


@contextmanager
def _opened(path: str) -> Iterator[dict[str, Stored]]:
    """A file's arrays, which may be read as long as the block lasts."""
    kind = os.path.splitext(path)[1].lower()
    if kind == ".npz":
        with safefile.opened(path) as (file, _):
            yield _members(file)
    elif kind == ".safetensors":
        metadata, tensors = safefile.read(path, safefile.FOREIGN)
        if any(key.startswith("fastnn") for key in metadata):
            raise ValueError("fastnn wrote it: fastnn.load reads it")
        yield {name: _stored(name, array) for name, array in tensors.items()}
    else:
        pickled = kind in (".pt", ".pth", ".bin", ".ckpt")
        what = f"{kind} is a pickle, which runs code when it is loaded" if pickled else "unknown"
        raise ValueError(f"expected a .safetensors or .npz file; {what}: {_SAVE}")


def _members(file: BinaryIO) -> dict[str, Stored]:
    """The arrays of an .npz file, of which the headers alone are read."""
    from zipfile import ZipFile

    found: dict[str, Stored] = _guarded(lambda: _listed(ZipFile(file)))
    return found


def _listed(archive: Any) -> dict[str, Stored]:
    found: dict[str, Stored] = {}
    for info in archive.infolist():
        name = info.filename.removesuffix(".npy")
        if name == info.filename or name in found:
            raise ValueError(f"{info.filename}: expected arrays of different names, as of np.savez")
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            read = getattr(np.lib.format, f"read_array_header_{version[0]}_0", None)
            if read is None:
                raise ValueError(f"{name}: unknown version {version} of NumPy's format")
            shape, _, dtype = read(member)
            size = int(np.prod([int(n) for n in shape], dtype=object)) * dtype.itemsize
            if member.tell() + size != info.file_size:
                raise ValueError(f"{name}: {dtype} of shape {shape} does not fill its bytes")
        found[name] = Stored(shape, dtype, partial(_guarded, partial(_array, archive, info)))
    return found


def _array(archive: Any, info: Any) -> NDArray[Any]:
    with archive.open(info) as member:
        array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        return array


def _guarded(read: Callable[[], Any]) -> Any:
    """What `read` returns; whatever goes wrong in a damaged archive is a ValueError."""
    try:
        return read()
    except Exception as error:  # zipfile raises errors of many kinds
        raise ValueError(f"no .npz file, or a damaged one: {error}") from None
