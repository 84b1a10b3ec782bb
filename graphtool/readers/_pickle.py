"""Read a `.pdparams` without running anything: a pickle of arrays and plain data."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from graphtool.diagnostics import GraphtoolError
from graphtool.readers import weight_problems as problems

__all__ = ["unpickled"]

# What a pickle holds is not known before it is read.
_Object: TypeAlias = Any

# How NumPy 1 and NumPy 2 spell the module of the function that makes an array.
_MULTIARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
# What a stream that is damaged, or made to do harm, makes the unpickler raise.
_REFUSALS = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    UnicodeDecodeError,
    ValueError,
)


def unpickled(path: str, data: bytes) -> Mapping[str, _Object]:
    """Return the dict that a `.pdparams` holds.

    Raises GraphtoolError: GT502 where the pickle names anything but NumPy's arrays and dtypes,
    GT503 where it is damaged or holds no dict. Nothing that the pickle names is called before that.
    """
    try:
        held: _Object = _Unpickler(path, data).load()
    except _REFUSALS as error:
        reason = str(error) or type(error).__name__
        raise GraphtoolError(problems.not_a_state_dict(path, reason)) from None
    if not isinstance(held, dict):
        raise GraphtoolError(problems.not_a_state_dict(path, f"it holds a {type(held).__name__}"))
    return {str(name): value for name, value in cast("dict[_Object, _Object]", held).items()}


class _Unpickler(pickle.Unpickler):
    """Admits arrays and their dtypes, and hands out stand-ins that can do nothing else."""

    def __init__(self, path: str, data: bytes) -> None:
        super().__init__(io.BytesIO(data))
        self._path = path

    def find_class(self, module: str, name: str) -> _Object:
        import numpy as np

        admitted: dict[tuple[str, str], _Object] = {
            ("numpy", "ndarray"): None,
            ("numpy", "dtype"): np.dtype,
            **{(place, "_reconstruct"): _empty_array() for place in _MULTIARRAYS},
        }
        if (module, name) not in admitted:
            raise GraphtoolError(problems.unsafe_pickle(self._path, f"{module}.{name}"))
        return admitted[module, name]


def _empty_array() -> Callable[..., _Object]:
    """Return what makes the array that the stream then fills, whatever size it asks for."""
    import numpy as np

    def make(*_: object) -> _Object:
        return np.empty(0, np.int8)

    return make
