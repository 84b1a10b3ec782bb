"""The neutral graph: what a Program computes, as plain data that outlives the Program."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from graphtool.diagnostics import Report
from graphtool.text import escaped_bounded, printed_name

if TYPE_CHECKING:
    import networkx

__all__ = [
    "DROPOUT_STATE_DTYPE",
    "NON_PERSISTABLE_SUFFIX",
    "UNKNOWN_DIM",
    "Attribute",
    "Block",
    "Graph",
    "Operator",
    "Origin",
    "ProgramKind",
    "Shape",
    "Value",
    "collection_paused",
    "dims_agree",
    "fits_shape",
    "is_dropout_state",
    "module_path",
    "operator_kind",
    "shape_text",
    "shapes_agree",
    "variable_of",
]

# `x@2` is the second write to the Variable `x`.
_WRITE_NUMBER = re.compile(r"@\d+$")
_Result = TypeVar("_Result")
# Node -> neighbour -> attributes of the edge, always empty.
_Adjacency: TypeAlias = "dict[str, dict[str, dict[str, Any]]]"

UNKNOWN_DIM = -1
# Paddle's suffix for Variables of static programs that are in no state dict.
NON_PERSISTABLE_SUFFIX = "__non_persistable"
DROPOUT_STATE_DTYPE = "uint8"
# The dims, -1 where one is unknown before the run.
Shape: TypeAlias = tuple[int, ...]
# The content of an attribute of an Operator.
Attribute: TypeAlias = "bool | int | float | str | bytes | tuple[Attribute, ...] | None"


@contextmanager
def collection_paused() -> Generator[None, None, None]:
    """Pause cyclic garbage collection: what is built inside stays alive, so there is none.

    Reading 100,000 operators from a `.json` and building `Graph.nx` takes 3.7 s instead of 7.3 s;
    the time grows with the exponent 1.07 instead of 1.19.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class ProgramKind(Enum):
    """Which of Paddle's two program representations a Graph was read from."""

    PIR = "PIR"
    LEGACY = "legacy"


class Origin(Enum):
    """Where a Value comes from."""

    OPERATOR = "operator"
    PARAMETER = "parameter"
    FEED = "feed"
    ARGUMENT = "block argument"
    VARIABLE = "variable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One SSA result, parameter, feed or block argument."""

    name: str
    shape: Shape | None
    dtype: str | None
    producer: str | None
    output: int = 0
    origin: Origin = Origin.OPERATOR
    persistable: bool = False
    trainable: bool = False
    stop_gradient: bool = False
    aliases: tuple[str, ...] = ()
    layer: str | None = None
    layer_outputs: tuple[str, ...] = ()
    elements: tuple[tuple[str | None, Shape | None], ...] = ()
    lod_level: int = 0

    @property
    def rank(self) -> int | None:
        """The number of dims, for a vector those of its first element; None if unknown."""
        shape = self.elements[0][1] if self.elements else self.shape
        return None if shape is None else len(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A node that computes; its operands and results are names of Values, in order."""

    name: str
    type: str
    index: int | None
    block: str
    operands: tuple[str | None, ...]
    results: tuple[str, ...]
    slots: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict[str, Attribute])
    blocks: tuple[str, ...] = ()
    module: str | None = None
    role: int = 0
    source: str | None = None

    @property
    def kind(self) -> str:
        """The type without dialect and in-place suffix: `batch_norm`."""
        return operator_kind(self.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A list of Operators that run in order; `path` is empty for the top-level one.

    `arguments` are Values that the owner passes in, `results` those that it returns to its owner.
    """

    path: str
    owner: str | None
    arguments: tuple[str, ...]
    operators: tuple[str, ...]
    results: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class Graph:
    """A Program as plain data: Operators in pre-order, Values by name, Blocks by path.

    `source` is what was read, `version` the version of the file format. `unknown` lists the fields
    of the file that the reader does not know, and `report` holds further notes.
    """

    source: str
    kind: ProgramKind
    operators: Mapping[str, Operator]
    values: Mapping[str, Value]
    blocks: Mapping[str, Block]
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    version: str = ""
    unknown: tuple[str, ...] = ()
    report: Report = field(default_factory=Report)
    # Function given to `once` -> its result; each function has its own result type.
    _cache: dict[Callable[[Graph], object], Any] = field(
        default_factory=dict[Callable[["Graph"], object], Any],
        init=False,
        repr=False,
        compare=False,
    )

    def __repr__(self) -> str:
        ends = (
            ", ".join(map(printed_name, names)) or "nothing" for names in (self.feeds, self.fetches)
        )
        return (
            f"Graph({escaped_bounded(self.source)}: {self.kind.value}, "
            f"{len(self.operators)} operators, {len(self.values)} Values; {' -> '.join(ends)})"
        )

    @property
    def parameters(self) -> Iterator[Value]:
        """Parameters in program order."""
        return (value for value in self.values.values() if value.origin is Origin.PARAMETER)

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Operator, ...]]:
        """Operators that read a Value, in pre-order, each once; unread Values are absent."""
        consumers: dict[str, dict[str, Operator]] = {}
        for operator in self.operators.values():
            for name in operator.operands:
                if name is not None:
                    consumers.setdefault(name, {})[operator.name] = operator
        return {name: tuple(operators.values()) for name, operators in consumers.items()}

    def once(self, compute: Callable[[Graph], _Result]) -> _Result:
        """Return the cached result of a function of this Graph, which never changes."""
        if compute not in self._cache:
            self._cache[compute] = compute(self)
        return self._cache[compute]

    def producer(self, value: str) -> Operator | None:
        """The Operator that makes a Value, None for arguments and unwritten Variables."""
        name = self.values[value].producer
        return None if name is None else self.operators[name]

    @cached_property
    def nx(self) -> networkx.DiGraph[str]:
        """One `networkx.DiGraph`: Value nodes are keyed by name, Operator nodes by `name()`.

        The node attribute `data` holds the Value or Operator. Edges run operand -> Operator ->
        result. A Block is connected without a cycle: the operands of its owner -> its arguments,
        and its results -> the owner.
        """
        import networkx

        digraph: networkx.DiGraph[str] = networkx.DiGraph()
        # networkx' methods fill these private dicts the same way, in twice the time.
        untyped: Any = digraph
        nodes, successors, predecessors = untyped._node, untyped._succ, untyped._pred  # noqa: SLF001
        with collection_paused():
            nodes |= {name: {"data": value} for name, value in self.values.items()}
            keys, operators = self.operator_keys.values(), self.operators.values()
            nodes |= {key: {"data": data} for key, data in zip(keys, operators, strict=True)}
            successors |= {name: {} for name in nodes}
            predecessors |= {name: {} for name in nodes}
            self._add_edges(successors, predecessors)
        return digraph

    @cached_property
    def operator_keys(self) -> Mapping[str, str]:
        """Operator name -> key in `nx`: `conv2d_3()`, or `%conv2d_3()` if a Value has that name."""
        keys: dict[str, str] = {}
        for name in self.operators:
            key = f"{name}()"
            while key in self.values:
                key = f"%{key}"
            keys[name] = key
        return keys

    def _add_edges(self, successors: _Adjacency, predecessors: _Adjacency) -> None:
        keys = self.operator_keys
        for operator in self.operators.values():
            key = keys[operator.name]
            operands, results = predecessors[key], successors[key]
            for operand in operator.operands:
                if operand is not None:
                    operands[operand] = successors[operand][key] = {}
            for result in operator.results:
                results[result] = predecessors[result][key] = {}
            for path in operator.blocks:
                for tail, head in self._block_edges(operator, self.blocks[path]):
                    successors[tail][head] = predecessors[head][tail] = {}

    def _block_edges(self, owner: Operator, block: Block) -> Iterator[tuple[str, str]]:
        for argument in block.arguments:
            for operand in owner.operands:
                if operand is not None:
                    yield operand, argument
        for result in block.results:
            yield result, self.operator_keys[owner.name]


def dims_agree(a: int, b: int) -> bool:
    """Return whether two dims are equal or one is unknown."""
    return a == b or UNKNOWN_DIM in (a, b)


def shapes_agree(a: Shape | None, b: Shape | None) -> bool:
    """Return whether two shapes may be equal: same rank, and all dims agree."""
    return a is not None and b is not None and len(a) == len(b) and all(map(dims_agree, a, b))


def shape_text(shape: Shape | None) -> str:
    """Return a shape as text, `[?, 512, 7, 7]`, with `?` for an unknown dim, and for no shape."""
    if shape is None:
        return "?"
    return f"[{', '.join('?' if dim == UNKNOWN_DIM else str(dim) for dim in shape)}]"


def fits_shape(value: Value, shape: Shape | None) -> bool:
    """Return whether a tensor of this shape fits a persistable Value.

    The dropout state of a recurrent operator fits any: programs do not declare its shape, and it is
    empty on a CPU.
    """
    return value.name.endswith(NON_PERSISTABLE_SUFFIX) or shapes_agree(shape, value.shape)


def is_dropout_state(value: Value) -> bool:
    """Return whether a Value is the dropout state of a recurrent operator, which is no weight."""
    is_state = value.dtype == DROPOUT_STATE_DTYPE and not value.shape
    return is_state and value.name.endswith(NON_PERSISTABLE_SUFFIX)


@lru_cache(maxsize=4096)
def operator_kind(type: str) -> str:
    """Return a type without dialect and in-place suffix: `batch_norm`."""
    return type.rpartition(".")[2].rstrip("_")


@lru_cache(maxsize=4096)
def module_path(struct_name: str) -> str:
    """Return a module path without the root's counter, which grows with every Layer built.

    `/ResNet_1/Sequential_2/ReLU_1/` becomes `/ResNet/Sequential_2/ReLU_1`.
    """
    root, *rest = struct_name.strip("/").split("/")
    stem, _, counter = root.rpartition("_")
    return "/" + "/".join([stem if stem and counter.isdecimal() else root, *rest])


def variable_of(name: str, graph: Graph) -> str:
    """Return the Variable of a Value: `x` for `x@2`, a legacy program's second write to `x`."""
    if graph.kind is ProgramKind.PIR:
        return name
    variable = _WRITE_NUMBER.sub("", name)
    return variable if variable in graph.values else name
