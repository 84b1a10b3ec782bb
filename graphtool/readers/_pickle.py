"""Read a `.pdparams`, a pickle of arrays and plain data, without running anything.

The stream is interpreted here. Python's own unpickler, however little it may call, lets a stream
set the state of NumPy's dtypes, and an array of such a dtype takes bytes for addresses; it can also
be made to hash a tuple that is nested until the process ends, or to make gigabytes of a few bytes.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from math import prod
from typing import Any, TypeAlias, cast

from graphtool.diagnostics import GraphtoolError
from graphtool.readers import weight_problems as problems

__all__ = ["unpickled"]

# What a pickle holds is not known before it is read.
_Object: TypeAlias = Any


class _Name(Enum):
    """What a stream may name: what makes NumPy's arrays and dtypes, and bytes in protocol 2."""

    NDARRAY = auto()
    DTYPE = auto()
    RECONSTRUCT = auto()
    FROM_BUFFER = auto()
    ENCODE = auto()
    BYTES = auto()


# NumPy 1 and NumPy 2 spell the modules of two of them differently.
_NAMES = {
    "numpy.ndarray": _Name.NDARRAY,
    "numpy.dtype": _Name.DTYPE,
    "numpy.core.multiarray._reconstruct": _Name.RECONSTRUCT,
    "numpy._core.multiarray._reconstruct": _Name.RECONSTRUCT,
    "numpy.core.numeric._frombuffer": _Name.FROM_BUFFER,
    "numpy._core.numeric._frombuffer": _Name.FROM_BUFFER,
    "_codecs.encode": _Name.ENCODE,
    "__builtin__.bytes": _Name.BYTES,
}
# By kind of number, how many bytes one may take. Arrays of anything else are left aside.
_KINDS = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}
_SIZES = {f"{kind}{size}": size for kind, sizes in _KINDS.items() for size in sizes}
# Files of this many steps are read, longer ones where a step has two bytes or more: those of small
# arrays have, and in bare marks and empty dicts each byte takes 72 of memory.
_MOST_STEPS, _LEAST_BYTES = 2_000_000, 2
# NumPy's own.
_MOST_DIMS, _LONGEST_DIM = 64, 2**63 - 1
_LONGEST_NAME = 100


def unpickled(path: str, data: bytes) -> Mapping[str, _Object]:
    """Return the dict that a `.pdparams` holds; what has no text for a name in it is left out.

    Raises GraphtoolError: GT502 where the pickle names anything but NumPy's arrays and dtypes and
    the bytes in them, GT503 where it is damaged or holds no dict. Nothing that the pickle names is
    called or imported.
    """
    try:
        held = _Machine(path, len(data)).run(data)
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        reason = str(error) if type(error) is ValueError else "its parts do not fit together"
        raise GraphtoolError(problems.not_a_state_dict(path, reason)) from None
    if not isinstance(held, dict):
        kind: str = type(held).__name__.strip("_").lower()
        raise GraphtoolError(problems.not_a_state_dict(path, f"it holds a {kind}"))
    items = cast("dict[str, _Object]", held).items()
    return {name: one.array if isinstance(one, _Array) else one for name, one in items}


@dataclass(slots=True)
class _Dtype:
    """A dtype as it is spelt, and its order of bytes."""

    spelt: str
    order: str = "="

    def build(self, state: tuple[_Object, ...]) -> None:
        order = state[1]
        if order not in ("<", ">", "|", "="):
            raise ValueError("the state of a dtype is none")
        self.order = cast("str", order)


@dataclass(slots=True, eq=False)
class _Array:
    """An array: None as long as it is not filled, and where it holds no numbers."""

    array: _Object = None

    def build(self, state: tuple[_Object, ...]) -> None:
        _, shape, dtype, by_columns, data = _just(5, state)
        self.array = _array_of(data, dtype, shape, "F" if by_columns is True else "C").array


def _array_of(data: _Object, dtype: _Object, shape: _Object, order: _Object) -> _Array:
    """Lay bytes out as an array; they are not copied where they are in the machine's order."""
    import numpy as np

    if not isinstance(dtype, _Dtype):
        raise ValueError("the dtype of an array is none")
    if dtype.spelt not in _SIZES:
        return _Array()
    if not isinstance(data, bytes | bytearray) or not _is_shape(shape):
        raise ValueError("an array has neither shape nor bytes")
    if prod(shape) * _SIZES[dtype.spelt] != len(data):
        raise ValueError(f"an array has {len(data)} bytes, which are not those of its shape")
    numbers: _Object = np.frombuffer(data, f"{dtype.order}{dtype.spelt}")
    # Paddle takes arrays in the machine's own order of bytes alone.
    numbers = numbers.astype(dtype.spelt, copy=False)
    return _Array(numbers.reshape(shape, order="F" if order == "F" else "C"))


def _array_with_axes(
    data: _Object, dtype: _Object, shape: _Object, order: _Object, axes: _Object = None
) -> _Array:
    """Lay out an array of protocol 5, of which NumPy 2.3 writes a transposed one as it lies."""
    made = _array_of(data, dtype, shape, order)
    if axes is not None and made.array is not None:
        if not _is_shape(axes):
            raise ValueError("the axes of an array are none")
        made.array = made.array.transpose(axes)
    return made


def _just(count: int, given: tuple[_Object, ...]) -> tuple[_Object, ...]:
    if len(given) != count:
        raise ValueError("what makes an array has too much or too little")
    return given


def _is_shape(given: _Object) -> bool:
    if not isinstance(given, tuple):
        return False
    dims = cast("tuple[_Object, ...]", given)
    return len(dims) <= _MOST_DIMS and all(
        isinstance(dim, int) and 0 <= dim <= _LONGEST_DIM for dim in dims
    )


class _Machine:
    """The stack machine that a pickle is written for, without what calls or imports anything."""

    def __init__(self, path: str, size: int) -> None:
        self._path = path
        self._size = self._text_left = size
        self._stack: list[_Object] = []
        self._outer: list[list[_Object]] = []
        self._memo: dict[int, _Object] = {}

    def run(self, data: bytes) -> _Object:
        """Return what the stream leaves on the stack.

        Raises ValueError, IndexError, KeyError and OverflowError where it is damaged.
        """
        most = max(_MOST_STEPS, self._size // _LEAST_BYTES)
        for step, (opcode, argument, place) in enumerate(pickletools.genops(data)):
            if step == most:
                raise ValueError(f"it goes on after {most:,} steps")
            act = _ACTIONS.get(opcode.name)
            if act is None:
                raise ValueError(f"`{opcode.name}` at byte {place} is no part of one")
            act(self, argument)
        return self._stack[-1]

    def ignore(self, _: _Object) -> None:
        """Pass over the version, and the end."""

    def frame(self, length: int) -> None:
        if length > self._size:
            raise ValueError("it is cut short")

    def push(self, value: _Object) -> None:
        self._stack.append(value)

    def mark(self, _: _Object) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def tuple_since_mark(self, _: _Object) -> None:
        found = tuple(self._since_mark())
        self.push(found)

    def tuple_of(self, count: int) -> None:
        start = len(self._stack) - count
        if start < 0:
            raise IndexError
        self._stack[start:] = [tuple(self._stack[start:])]

    def append(self, _: _Object) -> None:
        self._extend([self._stack.pop()])

    def append_since_mark(self, _: _Object) -> None:
        self._extend(self._since_mark())

    def set_item(self, _: _Object) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._update([key, value])

    def set_since_mark(self, _: _Object) -> None:
        self._update(self._since_mark())

    def put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def put_next(self, _: _Object) -> None:
        self.put(len(self._memo))

    def get(self, place: int) -> None:
        self.push(self._memo[place])

    def name(self, spelt: str) -> None:
        """Take a module and a name in it, a space between them."""
        full = spelt.replace(" ", ".", 1)
        if full not in _NAMES:
            shown = full if len(full) <= _LONGEST_NAME else f"{full[:_LONGEST_NAME]}…"
            raise GraphtoolError(problems.unsafe_pickle(self._path, shown))
        self.push(_NAMES[full])

    def name_of_two(self, _: _Object) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            raise ValueError("what it asks for has no name")
        self.name(f"{module} {name}")

    def reduce(self, _: _Object) -> None:
        """Make what a name stands for out of its arguments."""
        arguments, name = self._stack.pop(), self._stack.pop()
        if not (isinstance(name, _Name) and isinstance(arguments, tuple)):
            raise ValueError("it calls what is no function")
        self.push(self._made(name, cast("tuple[_Object, ...]", arguments)))

    def build(self, _: _Object) -> None:
        state = self._stack.pop()
        target = self._stack[-1]
        if not (isinstance(target, _Array | _Dtype) and isinstance(state, tuple)):
            raise ValueError("it sets the state of what has none")
        target.build(cast("tuple[_Object, ...]", state))

    def _made(self, name: _Name, arguments: tuple[_Object, ...]) -> _Object:
        if name is _Name.RECONSTRUCT:
            return _Array()
        if name is _Name.DTYPE:
            return _Dtype(arguments[0] if isinstance(arguments[0], str) else "")
        if name is _Name.FROM_BUFFER:
            return _array_with_axes(*_just(5, (*arguments, None)[:5]))
        if name is _Name.ENCODE:
            return self._encoded(*_just(2, arguments))
        if name is _Name.BYTES and not arguments:
            return b""
        raise ValueError("it calls what is no function")

    def _encoded(self, text: _Object, encoding: _Object) -> bytes:
        """Give bytes back that protocol 2, which has none, wrote as text, each text once."""
        if encoding != "latin1" or not isinstance(text, str):
            raise ValueError("text in another encoding stands where bytes should")
        self._text_left -= len(text)
        if self._text_left < 0:
            raise ValueError("it makes more bytes than it holds")
        return text.encode("latin1")

    def _since_mark(self) -> list[_Object]:
        found, self._stack = self._stack, self._outer.pop()
        return found

    def _extend(self, items: Iterable[_Object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise ValueError("it adds to what is no list")
        cast("list[_Object]", target).extend(items)

    def _update(self, items: list[_Object]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("it adds to what is no dict")
        pairs = zip(items[::2], items[1::2], strict=True)
        # Hashing other keys may take for ever: a tuple is hashed down to its last leaf.
        named = {key: value for key, value in pairs if isinstance(key, str)}
        cast("dict[str, _Object]", target).update(named)


_Action: TypeAlias = Callable[[_Machine, _Object], None]


def _pushing(make: Callable[[], _Object]) -> _Action:
    return lambda machine, _: machine.push(make())


def _joining(count: int) -> _Action:
    return lambda machine, _: machine.tuple_of(count)


# What picklers of protocol 2 to 5 write for plain data and arrays. Sets are kept as lists.
_ACTIONS: Mapping[str, _Action] = {
    **dict.fromkeys(("PROTO", "STOP"), _Machine.ignore),
    "FRAME": _Machine.frame,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"), _Machine.push),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), _Machine.push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"), _Machine.push),
    "NONE": _pushing(lambda: None),
    "NEWTRUE": _pushing(lambda: True),
    "NEWFALSE": _pushing(lambda: False),
    "EMPTY_TUPLE": _pushing(tuple),
    "EMPTY_LIST": _pushing(list),
    "EMPTY_SET": _pushing(list),
    "EMPTY_DICT": _pushing(dict),
    "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple_since_mark,
    "FROZENSET": _Machine.tuple_since_mark,
    **{f"TUPLE{count}": _joining(count) for count in (1, 2, 3)},
    "APPEND": _Machine.append,
    "APPENDS": _Machine.append_since_mark,
    "ADDITEMS": _Machine.append_since_mark,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_since_mark,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.get),
    "MEMOIZE": _Machine.put_next,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_of_two,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}
