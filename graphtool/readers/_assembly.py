"""Put a PIR Program together as a Graph: one naming for files and live Programs."""

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
from graphtool.readers._records import new_operator, new_value

__all__ = ["NAME_ATTRIBUTES", "Assembly", "ResultType"]

_FETCHES = frozenset({"pd_op.fetch", "builtin.shadow_output"})
_PARAMETERS = frozenset({"builtin.parameter"})
_NUMBERED = 4
# What names the Variable that an operation reads from a Scope, or is fed or fetched under.
NAME_ATTRIBUTES = {
    "builtin.parameter": "parameter_name",
    "pd_op.data": "name",
    "pd_op.feed": "name",
    "pd_op.fetch": "name",
}


@dataclass(frozen=True, slots=True)
class ResultType:
    """Shape and dtype of a result; a vector's are those of its elements."""

    shape: Shape | None = None
    dtype: str | None = None
    elements: tuple[tuple[str | None, Shape | None], ...] = ()


@dataclass
class Assembly:
    """Collects Operators and Values while a reader walks a Program in pre-order.

    `keys` maps whatever identifies a Value in the source (an id in a file, `Value.id` in a live
    Program) to its name. Names that the user gave are `reserved` before the walk: a derived name
    gets `%` before it where one is in the way.
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
    _marks: Counter[tuple[str, bool]] = field(default_factory=Counter[tuple[str, bool]])

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
        """Name an Operator and its results, and keep them; to be called before its own Blocks."""
        given = attributes.get(NAME_ATTRIBUTES[type]) if type in NAME_ATTRIBUTES else None
        origin = _origin(type, persistable=persistable)
        name = self._operator_name(type, block)
        result_names: list[str] = []
        for output, (key, kind) in enumerate(results):
            if output == 0 and isinstance(given, str):
                value = self._free(given, ours=False)
            else:
                value = f"{name}:{output}" if output else name
                if value in self.values or value in self.reserved:
                    value = self._free(value)
            self.keys[key] = value
            self.values[value] = new_value(
                value,
                kind.shape,
                kind.dtype,
                name,
                output,
                origin,
                persistable,
                trainable,
                # Paddle takes the gradient to stop where nothing is said.
                output >= len(stop_gradient) or stop_gradient[output],
                elements=kind.elements,
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
        elif type in _FETCHES:
            self.fetches.extend(operand for operand in operands if operand is not None)
        return operator

    def _operator_name(self, type: str, block: str) -> str:
        known = self._stems.get((block, type))
        if known is None:
            short = operator_kind(type)
            stem = f"{block}/{short}" if block else short
            known = self._stems[block, type] = stem, self._ordinals.setdefault(stem, count())
        stem, ordinals = known
        return f"{stem}_{next(ordinals)}"

    def _free(self, name: str, *, ours: bool = True) -> str:
        """Return the name with `%` before it for as long as something else has it.

        Many that share a name are numbered: `%%%x`, then `%4%x`.
        """
        if name not in self.values and not (ours and name in self.reserved):
            return name
        marks = self._marks[name, ours] + 1
        free = _marked(name, marks)
        while free in self.values or (ours and free in self.reserved):
            marks += 1
            free = _marked(name, marks)
        self._marks[name, ours] = marks
        return free

    def add_argument(self, key: Hashable, kind: ResultType, block: str, index: int) -> str:
        """Name and keep a Block's argument: `while_0/0/arg_1`."""
        name = self.keys[key] = self._free(f"{block}/arg_{index}")
        self.values[name] = new_value(
            name=name,
            shape=kind.shape,
            dtype=kind.dtype,
            elements=kind.elements,
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
        """Keep a finished Block; what its `cf.yield` reads is what it hands back."""
        listed = tuple(operators)
        yielded = tuple(
            name
            for operator in listed
            if operator.type == "cf.yield"
            for name in operator.operands
            if name is not None
        )
        self.blocks[path] = Block(
            path=path,
            owner=owner,
            arguments=tuple(arguments),
            operators=tuple(operator.name for operator in listed),
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


def _marked(name: str, marks: int) -> str:
    return "%" * marks + name if marks < _NUMBERED else f"%{marks}%{name}"


def _origin(type: str, *, persistable: bool) -> Origin:
    if type in _PARAMETERS:
        return Origin.PARAMETER
    if type in ("pd_op.data", "pd_op.feed"):
        return Origin.VARIABLE if persistable else Origin.FEED
    return Origin.OPERATOR
