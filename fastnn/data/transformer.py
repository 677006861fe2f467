"""What scikit-learn asks of its transformers, without importing it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn.support import checks

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self


class NotFittedError(RuntimeError, ValueError, AttributeError):
    """A transformer was used before `fit`; scikit-learn expects either of the last two."""


class Transformer(ABC):
    """Base of `Standardizer` and `TableEncoder`: parameters by name, and DataFrames as results.

    Every argument of the constructor is an attribute of its name, which is set checked."""

    @abstractmethod
    def fit(self, X: Any, y: object = None) -> Self: ...

    @abstractmethod
    def transform(self, X: Any) -> Any: ...

    @abstractmethod
    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]: ...

    def fit_transform(self, X: Any, y: object = None) -> Any:
        return self.fit(X).transform(X)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def set_params(self, **params: Any) -> Self:
        """Set the constructor's arguments; ValueError for another name or value."""
        mine = self.get_params()
        if unknown := params.keys() - mine:
            raise ValueError(
                f"{type(self).__name__}: expected {', '.join(mine)}, "
                f"got {', '.join(sorted(unknown))}"
            )
        if params:
            vars(self).update(vars(type(self)(**{**mine, **params})))
        return self

    def set_output(self, *, transform: str | None = None) -> Self:
        """Let `transform` give a DataFrame ("pandas"), or an array again ("default")."""
        if transform is not None:
            choice = checks.choice(transform, "transform", ("default", "pandas"))
            self._sklearn_output_config = {"transform": choice}  # this name is kept by `clone`
        return self

    @abstractmethod
    def __sklearn_is_fitted__(self) -> bool: ...

    def _check_fitted(self, use: str) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(f"{type(self).__name__}: call fit before {use}")

    def _as_asked(self, out: NDArray[Any], X: Any) -> Any:
        """The result of `transform` for X, in the form that `set_output` asks for."""
        if getattr(self, "_sklearn_output_config", {}).get("transform") != "pandas":
            return out
        import pandas

        names = self.get_feature_names_out()
        return pandas.DataFrame(out, columns=names, index=getattr(X, "index", None))

    def __repr__(self) -> str:
        """With the arguments that are not the default."""
        shown = {name: _shown(value) for name, value in self.get_params().items()}
        defaults = {name: _shown(value) for name, value in type(self)().get_params().items()}
        changed = [f"{name}={text}" for name, text in shown.items() if text != defaults[name]]
        return f"{type(self).__name__}({', '.join(changed)})"


def _shown(value: Any) -> str:
    return repr(value.name) if isinstance(value, np.dtype) else repr(value)
