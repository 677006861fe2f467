"""A file of Keras 3: which arrays it has of which layer, and the network's description.

Nothing in a file is believed before it was compared with the file's size; no link is followed, and
no other file is read."""

from __future__ import annotations

import io
import math
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from fastnn.files import safefile

if TYPE_CHECKING:
    from typing import BinaryIO

    from numpy.typing import NDArray

_LONGEST_CONFIG = 2**24  # bytes
_PARTS = ("config.json", "model.weights.h5")  # of a .keras file, a zip archive


class File:
    """An open file: `weights` is its group of layers, `config` the network's description or None.

    Raises ImportError without h5py, OSError for an unreadable file, ValueError for a wrong one."""

    def __init__(self, path: str) -> None:
        try:
            import h5py
        except ImportError:
            raise ImportError("fastnn.keras needs h5py: pip install h5py") from None
        self.config: dict[str, Any] | None = None
        kind = os.path.splitext(path)[1].lower()
        if kind not in (".h5", ".keras"):
            raise ValueError("expected a .weights.h5 or .keras file")
        with ExitStack() as stack:  # closes all again where one is wrong
            file, size = stack.enter_context(safefile.opened(path))
            if kind == ".keras":
                self.config, file, size = _unpacked(file)
            hdf5 = stack.enter_context(h5py.File(file, "r"))
            if "layers" not in hdf5:
                raise ValueError(
                    "it has no 'layers': expected the weights of a Sequential or a straight "
                    "functional network, written by Keras 3"
                )
            self.weights = Group(hdf5, Budget(size)).inner("layers")
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()


def _unpacked(file: BinaryIO) -> tuple[dict[str, Any], BinaryIO, int]:
    """The description, the weights and their size."""
    from zipfile import ZIP_STORED, ZipFile

    archive = ZipFile(file)
    infos = [archive.getinfo(name) for name in _PARTS]
    for info in infos:
        if info.compress_type != ZIP_STORED:
            raise ValueError(f"{info.filename} is compressed, which Keras' own is not")
    if infos[0].file_size > _LONGEST_CONFIG:
        raise ValueError(f"{infos[0].filename} has {infos[0].file_size} bytes")
    text, data = (archive.read(info) for info in infos)
    return safefile.parse(text.decode("utf-8"), infos[0].filename), io.BytesIO(data), len(data)


class Budget:
    """The bytes that a file's arrays may have together: as many as the file."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int, name: str) -> None:
        self.left -= size
        if self.left < 0:
            raise ValueError(f"{name}: the file has fewer bytes than its arrays")


class Group:
    """A group of the file, of which links to other places are refused."""

    def __init__(self, group: Any, budget: Budget) -> None:
        self._group, self._budget = group, budget

    def __contains__(self, name: str) -> bool:
        return name in self._group.keys()  # noqa: SIM118, which would look behind links

    def names(self) -> list[str]:
        return list(self._group.keys())

    def _member(self, name: str, wanted: str) -> Any:
        import h5py

        where = f"{self._group.name}/{name}"
        link = self._group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{where}: expected a {wanted}, got a link to another place")
        member = self._group[name]
        if not isinstance(member, getattr(h5py, wanted)):
            raise ValueError(f"{where}: expected a {wanted}, got a {type(member).__name__}")
        return member

    def inner(self, name: str) -> Group:
        return Group(self._member(name, "Group"), self._budget)

    def variables(self) -> list[Variable]:
        """The arrays of a layer, in Keras' order."""
        if "vars" not in self:
            return []
        its = self.inner("vars")
        names = its.names()
        if sorted(names) != sorted(map(str, range(len(names)))):
            raise ValueError(f"{its._group.name}: expected 0, 1, ..., got {', '.join(names)}")
        return [Variable(its._member(str(i), "Dataset"), self._budget) for i in range(len(names))]


class Variable:
    """An array of the file, whose shape and type are checked before it is read."""

    def __init__(self, dataset: Any, budget: Budget) -> None:
        self.name, self.shape = dataset.name, tuple(dataset.shape or ())
        self.dtype, self._dataset = dataset.dtype, dataset
        if self.dtype.kind != "f" or self.dtype.itemsize > 8:
            raise ValueError(f"{self.name}: expected floating-point numbers, got {self.dtype}")
        size = math.prod(self.shape) * self.dtype.itemsize
        plain = dataset.chunks is None and dataset.external is None and not dataset.is_virtual
        if not plain or dataset.id.get_storage_size() != size:
            raise ValueError(
                f"{self.name}: its numbers do not lie in the file as Keras writes them"
            )
        budget.take(size, self.name)

    def read(self) -> NDArray[Any]:
        array: NDArray[Any] = self._dataset[()]
        return array
