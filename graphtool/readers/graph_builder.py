"""What all readers share: limits, the user's line of an operator, and the builder of PIR Graphs.

The builder names the Values of files and of live Programs in the same way.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from functools import lru_cache
from itertools import count
from math import prod
from typing import Any, TypeVar, cast

from graphtool.graph import (
    UNKNOWN_DIM,
    Attribute,
    Block,
    Graph,
    Operator,
    Origin,
    ProgramKind,
    Shape,
    Value,
    module_path,
    operator_kind,
)
from graphtool.ops import PIR_FEEDS, PIR_FETCHES

__all__ = [
    "MAX_ENCLOSING_BLOCKS",
    "MAX_PATH_LENGTH",
    "NAME_ATTRIBUTES",
    "GraphBuilder",
    "ImpossibleShapeError",
    "ResultType",
    "checked_shape",
    "new_operator",
    "new_value",
    "user_line",
]

# Limits on files, far above those of real models, that bound the cost of malicious ones.
# Every name inside a Block begins with its path: `while_0/0/if_3/1`.
MAX_PATH_LENGTH = 4_000
# Each `else` of `static.nn.case` adds one.
MAX_ENCLOSING_BLOCKS = 500
# Paddle's own tensors have at most 9 dims, and count their elements in 64 bits.
_MAX_DIMS = 32
_MAX_ELEMENTS = 2**63 - 1


class ImpossibleShapeError(ValueError):
    """No tensor can have this shape; the message says why."""


@lru_cache(maxsize=4096)
def checked_shape(dims: Shape) -> Shape:
    """Return the dims of a file as a shape, negative ones as unknown.

    Paddle before 2.0 computed with an unknown dim, -1, as if it were a size, so its files contain
    other negative dims.

    Raises ImpossibleShapeError.
    """
    if len(dims) > _MAX_DIMS:
        raise ImpossibleShapeError(f"{len(dims):,} dims")
    if prod(dim for dim in dims if dim > 0) > _MAX_ELEMENTS:
        raise ImpossibleShapeError("more elements than 64 bits count")
    return tuple(max(dim, UNKNOWN_DIM) for dim in dims)


_FRAME = re.compile(r'\s*File "(?P<path>(?:[^"]*[/\\])?(?P<file>[^"]*))", line (?P<line>\d+)')
# Paddle wraps its functions with the package `decorator` and with the standard library;
# generated code has no file.
_LIBRARY_PATH = re.compile(
    r"[/\\](site-packages|dist-packages|python)[/\\](paddle[/\\]|decorator(\.py|[/\\]))"
    r"|[/\\]graphtool[/\\](backend|cli|readers|sources)[/\\]"
    r"|[/\\]lib[/\\]python3\.\d+[/\\](?!(site|dist)-packages)"
    r"|^<"
)


def user_line(callstack: Sequence[str]) -> str | None:
    """Return the innermost frame of the user's code as `train.py:11`, None if there is none."""
    return next(filter(None, map(_user_frame, reversed(callstack))), None)


@lru_cache(maxsize=4096)
def _user_frame(frame: str) -> str | None:
    match = _FRAME.match(frame)
    if match is None or _LIBRARY_PATH.search(match["path"]):
        return None
    return f"{match['file']}:{match['line']}"


_Record = TypeVar("_Record")


def _fast_constructor(record: type[_Record]) -> Callable[..., _Record]:
    """Return a constructor of a frozen, slotted dataclass that takes a third of the time.

    A frozen dataclass sets each field through `object.__setattr__`. This sets them in a mutable
    class of the same layout, and then changes the class of the instance. Positional arguments, in
    the order of the fields, take half the time of keyword arguments. With the plain constructors,
    reading 10,000 operators takes 9 to 15 % longer.
    """

    def freeze(instance: Any) -> None:
        instance.__class__ = record

    # In Python 3.10 a type variable cannot be bound to dataclasses.
    record_fields = fields(cast("Any", record))
    mutable = make_dataclass(
        record.__name__,
        [
            (one.name, one.type, field(default=one.default, default_factory=one.default_factory))
            for one in record_fields
        ],
        namespace={"__post_init__": freeze, "__doc__": record.__doc__},
        repr=False,
        eq=False,
        match_args=False,
        slots=True,
    )
    return cast("Callable[..., _Record]", mutable)


new_value = _fast_constructor(Value)
new_operator = _fast_constructor(Operator)


# From this many `%` on, a prefix is written as a number: `%4%x`.
_MIN_NUMBERED_PREFIX = 4
# The attribute with the name of the Variable that an operation reads, feeds or fetches.
NAME_ATTRIBUTES = {
    "builtin.parameter": "parameter_name",
    "pd_op.data": "name",
    "pd_op.feed": "name",
    "pd_op.fetch": "name",
}


@dataclass(frozen=True, slots=True)
class ResultType:
    """Shape and dtype of a result, or those of each element of a vector."""

    shape: Shape | None = None
    dtype: str | None = None
    elements: tuple[tuple[str | None, Shape | None], ...] = ()


@dataclass
class GraphBuilder:
    """Collect Operators and Values while a reader walks a Program in pre-order.

    `keys` maps what identifies a Value in the source (an id in a file, `Value.id` in a live
    Program) to its name. Names that the user gave are `reserved` before the walk: a derived name
    that collides with one is prefixed with `%`.
    """

    reserved: frozenset[str]
    operators: dict[str, Operator] = field(default_factory=dict[str, Operator])
    values: dict[str, Value] = field(default_factory=dict[str, Value])
    blocks: dict[str, Block] = field(default_factory=dict[str, Block])
    keys: dict[Hashable, str] = field(default_factory=dict[Hashable, str])
    feeds: list[str] = field(default_factory=list[str])
    fetches: list[str] = field(default_factory=list[str])
    _ordinals: dict[str, Iterator[int]] = field(default_factory=dict[str, Iterator[int]])
    _stems: dict[tuple[str, str], tuple[str, Iterator[int]]] = field(
        default_factory=dict[tuple[str, str], tuple[str, Iterator[int]]]
    )
    _prefix_lengths: Counter[tuple[str, bool]] = field(default_factory=Counter[tuple[str, bool]])

    def add_operator(
        self,
        *,
        type: str,
        block: str,
        index: int | None,
        operands: tuple[str | None, ...],
        results: Iterable[tuple[Hashable, ResultType]],
        attributes: Mapping[str, Attribute],
        stop_gradient: tuple[bool, ...] = (),
        persistable: bool = False,
        trainable: bool = False,
        regions: int = 0,
        module: str | None = None,
        role: int = 0,
        source: str | None = None,
    ) -> Operator:
        """Name and add an Operator and its results; call this before adding its Blocks."""
        user_name = attributes.get(NAME_ATTRIBUTES[type]) if type in NAME_ATTRIBUTES else None
        origin = _origin(type, persistable=persistable)
        name = self._operator_name(type, block)
        result_names: list[str] = []
        for output, (key, result_type) in enumerate(results):
            if output == 0 and isinstance(user_name, str):
                value = self._unused_name(user_name, derived=False)
            else:
                value = f"{name}:{output}" if output else name
                if value in self.values or value in self.reserved:
                    value = self._unused_name(value)
            self.keys[key] = value
            self.values[value] = new_value(
                value,
                result_type.shape,
                result_type.dtype,
                name,
                output,
                origin,
                persistable,
                trainable,
                # Paddle's default for `stop_gradient` is true.
                output >= len(stop_gradient) or stop_gradient[output],
                elements=result_type.elements,
            )
            result_names.append(value)
        operator = self.operators[name] = new_operator(
            name,
            type,
            index,
            block,
            operands,
            tuple(result_names),
            attributes=attributes,
            blocks=tuple([f"{name}/{number}" for number in range(regions)]) if regions else (),
            module=module_path(module) if module and module.strip("/") else None,
            role=role,
            source=source,
        )
        if origin is Origin.FEED:
            self.feeds += result_names
        elif type in PIR_FETCHES:
            self.fetches.extend(operand for operand in operands if operand is not None)
        return operator

    def _operator_name(self, type: str, block: str) -> str:
        cached = self._stems.get((block, type))
        if cached is None:
            kind = operator_kind(type)
            stem = f"{block}/{kind}" if block else kind
            cached = self._stems[block, type] = stem, self._ordinals.setdefault(stem, count())
        stem, ordinals = cached
        return f"{stem}_{next(ordinals)}"

    def _unused_name(self, name: str, *, derived: bool = True) -> str:
        """Return the name, prefixed with `%` until it is unused, and if `derived`, not reserved.

        Long prefixes are numbered: `%%%x`, then `%4%x`.
        """
        if name not in self.values and not (derived and name in self.reserved):
            return name
        length = self._prefix_lengths[name, derived] + 1
        prefixed = _prefixed(name, length)
        while prefixed in self.values or (derived and prefixed in self.reserved):
            length += 1
            prefixed = _prefixed(name, length)
        self._prefix_lengths[name, derived] = length
        return prefixed

    def add_argument(self, key: Hashable, type: ResultType, block: str, index: int) -> str:
        """Name and add a Block's argument: `while_0/0/arg_1`."""
        name = self.keys[key] = self._unused_name(f"{block}/arg_{index}")
        self.values[name] = new_value(
            name=name,
            shape=type.shape,
            dtype=type.dtype,
            elements=type.elements,
            producer=None,
            origin=Origin.ARGUMENT,
        )
        return name

    def add_block(
        self,
        path: str,
        *,
        owner: str | None,
        arguments: Iterable[str],
        operators: Iterable[Operator],
    ) -> None:
        """Add a finished Block; its results are the operands of its `cf.yield`."""
        members = tuple(operators)
        yielded = tuple(
            name
            for operator in members
            if operator.type == "cf.yield"
            for name in operator.operands
            if name is not None
        )
        self.blocks[path] = Block(
            path=path,
            owner=owner,
            arguments=tuple(arguments),
            operators=tuple(operator.name for operator in members),
            results=yielded,
        )

    def graph(self, *, source: str, version: str = "", unknown: tuple[str, ...] = ()) -> Graph:
        """Return the finished Graph."""
        return Graph(
            source=source,
            kind=ProgramKind.PIR,
            operators=self.operators,
            values=self.values,
            blocks=self.blocks,
            feeds=tuple(self.feeds),
            fetches=tuple(self.fetches),
            version=version,
            unknown=unknown,
        )


def _prefixed(name: str, length: int) -> str:
    return "%" * length + name if length < _MIN_NUMBERED_PREFIX else f"%{length}%{name}"


def _origin(type: str, *, persistable: bool) -> Origin:
    if type == "builtin.parameter":
        return Origin.PARAMETER
    if type in PIR_FEEDS:
        return Origin.VARIABLE if persistable else Origin.FEED
    return Origin.OPERATOR
