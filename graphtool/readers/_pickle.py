"""Read a `.pdparams`, a pickle of arrays and plain data, without executing anything.

This is an interpreter for pickles. Even a restricted `pickle.Unpickler` lets a stream set the state
of a NumPy dtype, and an array of such a dtype takes bytes for addresses. It can also be made to
hash a tuple nested so deeply that the process dies, or to make gigabytes of a few bytes.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from math import prod
from typing import Any, TypeAlias, cast

from graphtool.diagnostics import Diagnostic, GraphtoolError
from graphtool.readers import weight_problems as problems

__all__ = ["not_a_state_dict", "unpickled"]

# The content of a pickle has no static type.
_Object: TypeAlias = Any


class _Global(Enum):
    """The globals that a pickle may name: those of NumPy's arrays and dtypes, and of bytes."""

    NDARRAY = auto()
    DTYPE = auto()
    RECONSTRUCT = auto()
    FROM_BUFFER = auto()
    ENCODE = auto()
    BYTES = auto()


# NumPy 1 and 2 have different modules for two of them. Protocol 2 has no bytes and encodes text.
_GLOBALS = {
    "numpy.ndarray": _Global.NDARRAY,
    "numpy.dtype": _Global.DTYPE,
    "numpy.core.multiarray._reconstruct": _Global.RECONSTRUCT,
    "numpy._core.multiarray._reconstruct": _Global.RECONSTRUCT,
    "numpy.core.numeric._frombuffer": _Global.FROM_BUFFER,
    "numpy._core.numeric._frombuffer": _Global.FROM_BUFFER,
    "_codecs.encode": _Global.ENCODE,
    "__builtin__.bytes": _Global.BYTES,
}
# Bytes per number, by kind; arrays of other dtypes are skipped.
_ITEM_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}
_SIZES = {f"{kind}{size}": size for kind, sizes in _ITEM_SIZES.items() for size in sizes}
# Pickles of up to this many opcodes are read, and longer ones whose opcodes take two bytes or more
# on average, as those of small arrays do. Bare marks and empty dicts take 72 bytes of memory each.
_MAX_OPCODES, _MIN_BYTES_PER_OPCODE = 2_000_000, 2
# NumPy's limits.
_MAX_DIMS, _MAX_DIM = 64, 2**63 - 1
_MAX_NAME_LENGTH = 100


def unpickled(path: str, data: bytes) -> Mapping[str, _Object]:
    """Return the dict in a `.pdparams`, without keys that are not strings.

    Raises GraphtoolError: GT502 if the pickle names anything but NumPy's arrays and dtypes and the
    bytes in them, GT240 if it is damaged or holds no dict. Nothing that the pickle names is called
    or imported.
    """
    try:
        root = _Unpickler(path, len(data)).run(data)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        reason = str(error) if type(error) is ValueError else "its opcodes do not fit together"
        raise GraphtoolError(not_a_state_dict(path, reason)) from None
    if not isinstance(root, dict):
        kind: str = type(root).__name__.strip("_").lower()
        raise GraphtoolError(not_a_state_dict(path, f"it holds a {kind}"))
    items = cast("dict[str, _Object]", root).items()
    return {name: item.array if isinstance(item, _Array) else item for name, item in items}


def not_a_state_dict(path: str, reason: str) -> Diagnostic:
    """Report a pickle that is not a dict of arrays."""
    save = "paddle.save(layer.state_dict(), path)"
    return problems.damaged_weights(path, f"not a state dict: {reason}", help=save)


@dataclass(slots=True)
class _Dtype:
    """A NumPy dtype: its code, such as `f4`, and its byte order."""

    code: str
    order: str = "="

    def build(self, state: tuple[_Object, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("the state of a dtype is invalid")
        self.order = cast("str", order)


@dataclass(slots=True, eq=False)
class _Array:
    """An array, None before it is built and for dtypes that are not numeric."""

    array: _Object = None

    def build(self, state: tuple[_Object, ...]) -> None:
        _, shape, dtype, is_fortran, data = _exactly(5, state)
        self.array = _array_of(data, dtype, shape, "F" if is_fortran is True else "C").array


def _array_of(data: _Object, dtype: _Object, shape: _Object, order: _Object) -> _Array:
    """Return bytes as an array; they are copied only if they are not in native byte order."""
    import numpy as np

    if not isinstance(dtype, _Dtype):
        raise ValueError("the dtype of an array is invalid")
    if dtype.code not in _SIZES:
        return _Array()
    if not isinstance(data, bytes | bytearray) or not _is_shape(shape):
        raise ValueError("an array lacks its shape or its bytes")
    if prod(shape) * _SIZES[dtype.code] != len(data):
        raise ValueError(f"an array has {len(data)} bytes, which do not fit its shape")
    numbers: _Object = np.frombuffer(data, f"{dtype.order}{dtype.code}")
    # Paddle takes arrays in native byte order only.
    numbers = numbers.astype(dtype.code, copy=False)
    return _Array(numbers.reshape(shape, order="F" if order == "F" else "C"))


def _array_with_axes(
    data: _Object, dtype: _Object, shape: _Object, order: _Object, axes: _Object = None
) -> _Array:
    """Return an array of protocol 5; NumPy 2.3 writes a transposed one with its axes."""
    result = _array_of(data, dtype, shape, order)
    if axes is not None and result.array is not None:
        if not _is_shape(axes):
            raise ValueError("the axes of an array are invalid")
        result.array = result.array.transpose(axes)
    return result


def _exactly(count: int, arguments: tuple[_Object, ...]) -> tuple[_Object, ...]:
    if len(arguments) != count:
        raise ValueError("an array is made with the wrong number of arguments")
    return arguments


def _is_shape(value: _Object) -> bool:
    if not isinstance(value, tuple):
        return False
    dims = cast("tuple[_Object, ...]", value)
    return len(dims) <= _MAX_DIMS and all(
        isinstance(dim, int) and 0 <= dim <= _MAX_DIM for dim in dims
    )


class _Unpickler:
    """The pickle stack machine, without opcodes that call or import anything."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = self._encodable = size
        self._stack: list[_Object] = []
        self._metastack: list[list[_Object]] = []
        self._memo: dict[int, _Object] = {}

    def run(self, data: bytes) -> _Object:
        """Return the object that the pickle leaves on the stack.

        Raises ValueError, IndexError, KeyError and OverflowError if it is damaged.
        """
        limit = max(_MAX_OPCODES, self._size // _MIN_BYTES_PER_OPCODE)
        for step, (opcode, argument, position) in enumerate(pickletools.genops(data)):
            if step == limit:
                raise ValueError(f"it has more than {limit:,} opcodes")
            action = _ACTIONS.get(opcode.name)
            if action is None:
                raise ValueError(f"opcode `{opcode.name}` at byte {position} is not allowed")
            action(self, argument)
        return self._stack[-1]

    def ignore(self, _: _Object) -> None:
        """Ignore the protocol version and the end."""

    def frame(self, length: int) -> None:
        if length > self._size:
            raise ValueError("it is cut short")

    def push(self, value: _Object) -> None:
        self._stack.append(value)

    def mark(self, _: _Object) -> None:
        self._metastack.append(self._stack)
        self._stack = []

    def tuple_since_mark(self, _: _Object) -> None:
        items = tuple(self._pop_mark())
        self.push(items)

    def tuple_of(self, count: int) -> None:
        start = len(self._stack) - count
        if start < 0:
            raise IndexError
        self._stack[start:] = [tuple(self._stack[start:])]

    def append(self, _: _Object) -> None:
        self._extend([self._stack.pop()])

    def append_since_mark(self, _: _Object) -> None:
        self._extend(self._pop_mark())

    def set_item(self, _: _Object) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def set_since_mark(self, _: _Object) -> None:
        self._update(self._pop_mark())

    def put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def put_next(self, _: _Object) -> None:
        self.put(len(self._memo))

    def get(self, index: int) -> None:
        self.push(self._memo[index])

    def global_name(self, name: str) -> None:
        """Push the global of a module and a name in it, separated by a space."""
        dotted = name.replace(" ", ".", 1)
        if dotted not in _GLOBALS:
            is_short = len(dotted) <= _MAX_NAME_LENGTH
            shown = dotted if is_short else f"{dotted[:_MAX_NAME_LENGTH]}…"
            raise GraphtoolError(problems.unsafe_pickle(self._path, shown))
        self.push(_GLOBALS[dotted])

    def stack_global(self, _: _Object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ValueError("a global has no name")
        self.global_name(f"{module} {name}")

    def reduce(self, _: _Object) -> None:
        """Push the result of calling a global with arguments."""
        arguments, function = self._stack.pop(), self._stack.pop()
        if not (isinstance(function, _Global) and isinstance(arguments, tuple)):
            raise ValueError("it calls something that is not a function")
        self.push(self._call(function, cast("tuple[_Object, ...]", arguments)))

    def build(self, _: _Object) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if not (isinstance(target, _Array | _Dtype) and isinstance(state, tuple)):
            raise ValueError("it sets the state of something that has none")
        target.build(cast("tuple[_Object, ...]", state))

    def _call(self, function: _Global, arguments: tuple[_Object, ...]) -> _Object:
        if function is _Global.RECONSTRUCT:
            return _Array()
        if function is _Global.DTYPE:
            return _Dtype(arguments[0] if isinstance(arguments[0], str) else "")
        if function is _Global.FROM_BUFFER:
            return _array_with_axes(*_exactly(5, (*arguments, None)[:5]))
        if function is _Global.ENCODE:
            return self._encode(*_exactly(2, arguments))
        if function is _Global.BYTES and not arguments:
            return b""
        raise ValueError("it calls something that is not a function")

    def _encode(self, text: _Object, encoding: _Object) -> bytes:
        """Return the bytes that protocol 2 wrote as text; in sum at most the size of the file."""
        if encoding != "latin1" or not isinstance(text, str):
            raise ValueError("bytes are in an unexpected encoding")
        self._encodable -= len(text)
        if self._encodable < 0:
            raise ValueError("it would expand to more bytes than it holds")
        return text.encode("latin1")

    def _pop_mark(self) -> list[_Object]:
        items, self._stack = self._stack, self._metastack.pop()
        return items

    def _extend(self, items: Iterable[_Object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise ValueError("it appends to something that is not a list")
        cast("list[_Object]", target).extend(items)

    def _update(self, items: list[_Object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("it adds items to something that is not a dict")
        pairs = zip(items[::2], items[1::2], strict=True)
        # Hashing other keys may never end: a nested tuple is hashed down to its last leaf.
        entries = {key: value for key, value in pairs if isinstance(key, str)}
        cast("dict[str, _Object]", target).update(entries)


_Action: TypeAlias = Callable[[_Unpickler, _Object], None]


def _push_new(make: Callable[[], _Object]) -> _Action:
    return lambda machine, _: machine.push(make())


def _make_tuple(count: int) -> _Action:
    return lambda machine, _: machine.tuple_of(count)


# The opcodes that protocols 2 to 5 use for plain data and arrays. Sets become lists.
_ACTIONS: Mapping[str, _Action] = {
    **dict.fromkeys(("PROTO", "STOP"), _Unpickler.ignore),
    "FRAME": _Unpickler.frame,
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"), _Unpickler.push
    ),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Unpickler.push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Unpickler.push),
    "NONE": _push_new(lambda: None),
    "NEWTRUE": _push_new(lambda: True),
    "NEWFALSE": _push_new(lambda: False),
    "EMPTY_TUPLE": _push_new(tuple),
    "EMPTY_LIST": _push_new(list),
    "EMPTY_SET": _push_new(list),
    "EMPTY_DICT": _push_new(dict),
    "MARK": _Unpickler.mark,
    "TUPLE": _Unpickler.tuple_since_mark,
    "FROZENSET": _Unpickler.tuple_since_mark,
    **{f"TUPLE{count}": _make_tuple(count) for count in (1, 2, 3)},
    "APPEND": _Unpickler.append,
    "APPENDS": _Unpickler.append_since_mark,
    "ADDITEMS": _Unpickler.append_since_mark,
    "SETITEM": _Unpickler.set_item,
    "SETITEMS": _Unpickler.set_since_mark,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Unpickler.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Unpickler.get),
    "MEMOIZE": _Unpickler.put_next,
    "GLOBAL": _Unpickler.global_name,
    "STACK_GLOBAL": _Unpickler.stack_global,
    "REDUCE": _Unpickler.reduce,
    "BUILD": _Unpickler.build,
}
