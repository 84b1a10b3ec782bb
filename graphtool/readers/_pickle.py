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
# And that of the one which protocol 5 names.
_NUMERICS = ("numpy.core.numeric", "numpy._core.numeric")
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

    Raises GraphtoolError: GT502 where the pickle names anything but NumPy's arrays and dtypes and
    the bytes in them, GT503 where it is damaged or holds no dict. Nothing that the pickle names is
    called before that.
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
            ("_codecs", "encode"): _from_text(),
            ("__builtin__", "bytes"): _no_bytes(),
            **{(place, "_reconstruct"): _empty_array() for place in _MULTIARRAYS},
            **{(place, "_frombuffer"): _from_buffer() for place in _NUMERICS},
        }
        if (module, name) not in admitted:
            raise GraphtoolError(problems.unsafe_pickle(self._path, f"{module}.{name}"))
        return admitted[module, name]


# Each stream gets functions of its own: it may set attributes of what it is given.
def _from_text() -> Callable[..., _Object]:
    """Return what gives bytes back that protocol 2, which has none, wrote as text."""

    def encode(text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text in `{encoding}` stands where bytes should")
        return text.encode("latin1")

    return encode


def _no_bytes() -> Callable[..., _Object]:
    """Return what gives back the empty bytes of protocol 2: an array without elements has them."""
    return lambda: b""


def _from_buffer() -> Callable[..., _Object]:
    """Return what gives back an array of protocol 5: its rows one after another, or its columns."""
    import numpy as np

    def make(data: bytearray, dtype: _Object, shape: tuple[int, ...], order: str) -> _Object:
        array: _Object = np.frombuffer(data, dtype)
        return array.reshape(shape, order="F" if order == "F" else "C")

    return make


def _empty_array() -> Callable[..., _Object]:
    """Return what makes the array that the stream then fills, whatever size it asks for."""
    import numpy as np

    def make(*_: object) -> _Object:
        return np.empty(0, np.int8)

    return make
