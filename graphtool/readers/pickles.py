"""Read a `.pdparams`, a pickle of arrays and plain data, without executing anything.

This is Python's unpickler with few opcodes and with stand-ins for all that a pickle may name. The
one in C, and NumPy's own constructors, let a stream set the state of a NumPy dtype, and an array of
such a dtype takes bytes for addresses. They can also be made to hash a tuple nested so deeply that
the process dies, or to make gigabytes of a few bytes.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import Any, TypeAlias, cast

from graphtool.diagnostics import Diagnostic, GraphtoolError
from graphtool.dtypes import BY_NAME
from graphtool.readers import problems

__all__ = ["not_a_state_dict", "unpickled"]

# The content of a pickle has no static type, nor have the opcodes of Python's unpickler.
_Object: TypeAlias = Any
_PythonUnpickler: _Object = vars(pickle)["_Unpickler"]

# Bytes per number, by kind; arrays of other dtypes are skipped.
_SIZES = {
    f"{dtype.name[0]}{dtype.size}": dtype.size
    for dtype in BY_NAME.values()
    if dtype.storage == dtype.name
}
# Pickles of up to this many opcodes are read, and longer ones whose opcodes take two bytes or more
# on average, as those of small arrays do. Bare marks and empty dicts take 72 bytes of memory each.
_MAX_OPCODES, _MIN_BYTES_PER_OPCODE = 2_000_000, 2
# NumPy's limits.
_MAX_DIMS, _MAX_DIM = 64, 2**63 - 1
_MAX_NAME_LENGTH = 100
_EXPANDS = "it would expand to more bytes than it holds"
_DAMAGED = (
    pickle.UnpicklingError,
    struct.error,
    BufferError,
    *(EOFError, ValueError, IndexError, KeyError, OverflowError, TypeError, AttributeError),
)


def unpickled(path: str, data: bytes) -> Mapping[str, _Object]:
    """Return the dict in a `.pdparams`, without keys that are not strings.

    Raises GraphtoolError: GT502 if the pickle names anything but NumPy's arrays and dtypes and the
    bytes in them, GT240 if it is damaged or holds no dict. Nothing that the pickle names is called
    or imported.
    """
    try:
        root: _Object = _Unpickler(path, data).load()
    except _DAMAGED as error:
        reason = str(error) if type(error) is ValueError else "its opcodes do not fit together"
        raise GraphtoolError(not_a_state_dict(path, reason)) from None
    if not isinstance(root, dict):
        kind: str = type(root).__name__.strip("_").lower()
        raise GraphtoolError(not_a_state_dict(path, f"it holds a {kind}"))
    content = cast("dict[str, _Object]", root)
    # Many arrays may name the same bytes: what is copied of them is in the file once.
    left = len(data)
    for one in {id(item): item for item in content.values()}.values():
        if isinstance(one, _Array) and one.array is not None and not one.array.dtype.isnative:
            left -= one.array.nbytes
            if left < 0:
                raise GraphtoolError(not_a_state_dict(path, _EXPANDS))
            # Paddle takes arrays in native byte order only.
            one.array = one.array.astype(one.array.dtype.newbyteorder("="))
    return {
        name: item.array if isinstance(item, _Array) else item for name, item in content.items()
    }


def not_a_state_dict(path: str, reason: str) -> Diagnostic:
    """Report a pickle that is not a dict of arrays."""
    save = "paddle.save(layer.state_dict(), path)"
    return problems.damaged_weights(path, f"not a state dict: {reason}", help=save)


class _Dtype:
    """A NumPy dtype: its code, such as `f4`, and its byte order."""

    def __init__(self, code: _Object, *_: _Object) -> None:
        self.code = code if isinstance(code, str) else ""
        self.order = "="

    def build(self, _: _Object, order: _Object, *_rest: _Object) -> None:
        if order not in ("<", ">", "|", "="):
            raise ValueError("the state of a dtype is invalid")
        self.order = cast("str", order)


@dataclass(slots=True, eq=False)
class _Array:
    """An array, None before it is built and for dtypes that are not numeric."""

    array: _Object = None

    def build(
        self, _: _Object, shape: _Object, dtype: _Object, is_fortran: _Object, data: _Object
    ) -> None:
        """Interpret bytes, which are not copied."""
        import numpy as np

        if not isinstance(dtype, _Dtype):
            raise ValueError("the dtype of an array is invalid")
        size = _SIZES.get(dtype.code)
        if size is None:
            return
        if not isinstance(data, bytes | bytearray) or not _is_shape(shape):
            raise ValueError("an array lacks its shape or its bytes")
        if prod(shape) * size != len(data):
            raise ValueError(f"an array has {len(data)} bytes, which do not fit its shape")
        numbers: _Object = np.frombuffer(data, f"{dtype.order}{dtype.code}")
        self.array = numbers.reshape(shape, order="F" if is_fortran is True else "C")


def _empty_array(*_: _Object) -> _Array:
    return _Array()


def _array_of_buffer(
    data: _Object, dtype: _Object, shape: _Object, order: _Object, axes: _Object = None
) -> _Array:
    """Return an array of protocol 5; NumPy 2.3 writes a transposed one with its axes."""
    result = _Array()
    result.build(None, shape, dtype, order == "F", data)
    if axes is not None and result.array is not None:
        if not _is_shape(axes):
            raise ValueError("the axes of an array are invalid")
        result.array = result.array.transpose(axes)
    return result


def _is_shape(value: _Object) -> bool:
    if not isinstance(value, tuple):
        return False
    dims = cast("tuple[_Object, ...]", value)
    return len(dims) <= _MAX_DIMS and all(
        isinstance(dim, int) and 0 <= dim <= _MAX_DIM for dim in dims
    )


_STAND_INS: Mapping[str, Callable[..., object]] = {
    "numpy.ndarray": _empty_array,
    "numpy.core.multiarray._reconstruct": _empty_array,
    "numpy.dtype": _Dtype,
    "numpy.core.numeric._frombuffer": _array_of_buffer,
    "__builtin__.bytes": lambda: b"",
}


class _Unpickler(_PythonUnpickler):
    def __init__(self, path: str, data: bytes) -> None:
        _PythonUnpickler.__init__(self, BytesIO(data))
        self._path, self._size, self._encodable = path, len(data), len(data)
        self.dispatch = _Opcodes(max(_MAX_OPCODES, len(data) // _MIN_BYTES_PER_OPCODE))

    def find_class(self, module: str, name: str) -> object:
        """Return the stand-in for a global."""
        dotted = f"{module}.{name}"
        # NumPy 1 and 2 have different modules for two of them.
        known = dotted.replace("numpy._core.", "numpy.core.")
        if known == "_codecs.encode":
            return self._encode  # Protocol 2 has no bytes and encodes text.
        if known not in _STAND_INS:
            is_short = len(dotted) <= _MAX_NAME_LENGTH
            shown = dotted if is_short else f"{dotted[:_MAX_NAME_LENGTH]}…"
            raise GraphtoolError(problems.unsafe_pickle(self._path, shown))
        return _STAND_INS[known]

    def _encode(self, text: str, encoding: str) -> bytes:
        """Return the bytes that protocol 2 wrote as text; in sum at most the size of the file."""
        if encoding != "latin1":
            raise ValueError("bytes are in an unexpected encoding")
        self._encodable -= len(text)
        if self._encodable < 0:
            raise ValueError(_EXPANDS)
        return text.encode("latin1")

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not (isinstance(target, _Array | _Dtype) and isinstance(state, tuple)):
            raise ValueError("it sets the state of something that has none")
        target.build(*cast("tuple[_Object, ...]", state))

    def load_frame(self) -> None:
        size = int.from_bytes(self.read(8), "little")
        # Python's own takes a frame that goes on behind the end of the file.
        if size > self._size:
            raise ValueError("a frame is longer than the file")
        self._unframer.load_frame(size)

    def load_bytearray8(self) -> None:
        # Python's own makes one of the size that the file says before it reads.
        size = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(size)))

    # Making a set hashes what is in it: they become lists.
    load_empty_set = _PythonUnpickler.load_empty_list
    load_additems = _PythonUnpickler.load_appends
    load_frozenset = _PythonUnpickler.load_tuple

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: list[_Object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("it adds items to something that is not a dict")
        pairs = zip(items[::2], items[1::2], strict=True)
        # Hashing other keys may never end: a nested tuple is hashed down to its last leaf.
        entries = {key: value for key, value in pairs if isinstance(key, str)}
        cast("dict[str, _Object]", target).update(entries)


# The opcodes that protocols 2 to 5 use for plain data and arrays.
_ALLOWED = re.compile(
    r"PROTO|FRAME|STOP|MARK|(LONG_)?BIN(PUT|GET)|MEMOIZE|NONE|NEWTRUE|NEWFALSE|BININT[12]?|LONG[14]"
    r"|BINFLOAT|(SHORT_)?BIN(UNICODE|BYTES)8?|BYTEARRAY8|EMPTY_(TUPLE|LIST|DICT|SET)|TUPLE[123]?"
    r"|APPENDS?|SETITEMS?|ADDITEMS|FROZENSET|(STACK_)?GLOBAL|REDUCE|BUILD"
)
_NAMES = {ord(one.code): one.name for one in pickletools.opcodes}
_Action: TypeAlias = Callable[[_Unpickler], None]
_ACTIONS: Mapping[int, _Action] = {
    code: getattr(_Unpickler, action.__name__)
    for code, action in _PythonUnpickler.dispatch.items()
    if _ALLOWED.fullmatch(_NAMES[code])
}


class _Opcodes:
    """The function for each opcode; those that run are counted."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def __getitem__(self, code: int) -> _Action:
        self._left -= 1
        if self._left < 0:
            raise ValueError(f"it has more than {self._limit:,} opcodes")
        if code not in _ACTIONS:
            raise ValueError(f"opcode `{_NAMES[code]}` is not allowed")
        return _ACTIONS[code]
