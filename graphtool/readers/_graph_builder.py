"""Build the Graph of a PIR Program, with the same names for files and live Programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from graphtool.graph import (
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
from graphtool.readers._records import new_operator, new_value

__all__ = ["NAME_ATTRIBUTES", "GraphBuilder", "ResultType"]

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
