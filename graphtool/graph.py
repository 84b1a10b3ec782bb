"""The neutral graph: what a Program computes, as plain data that outlives the Program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from graphtool.diagnostics import Report
from graphtool.garbage import collection_paused
from graphtool.text import bounded, named

if TYPE_CHECKING:
    import networkx

__all__ = [
    "DTYPE_OF_DROPOUT_STATE",
    "FLOATS",
    "HALVES",
    "NOT_KEPT",
    "UNKNOWN",
    "Attribute",
    "Block",
    "Graph",
    "Operator",
    "Origin",
    "ProgramKind",
    "Shape",
    "Value",
    "dims_agree",
    "is_dropout_state",
    "keeps_shape",
    "module_path",
    "operator_kind",
    "shapes_agree",
]

_Found = TypeVar("_Found")
# A node's neighbours, and what is said of the edge to each: nothing.
_Adjacency: TypeAlias = "dict[str, dict[str, dict[str, Any]]]"

# Dtypes of fractions; the halves are computed in float32.
HALVES = frozenset({"bfloat16", "float16"})
FLOATS = HALVES | {"float32", "float64"}
UNKNOWN = -1
# Paddle's own mark for what is a Variable of static programs and in no state dict.
NOT_KEPT = "__non_persistable"
DTYPE_OF_DROPOUT_STATE = "uint8"
# A list of dims, -1 where one is not known before the run.
Shape: TypeAlias = tuple[int, ...]
# What an attribute of an Operator holds.
Attribute: TypeAlias = "bool | int | float | str | bytes | tuple[Attribute, ...] | None"


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
        """The number of dims, of a vector's first element's; None where it is not known."""
        shape = self.elements[0][1] if self.elements else self.shape
        return None if shape is None else len(shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A node that computes: its operands and results are Value names, in order."""

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
        """The type without its dialect and the mark of an in-place operator: `batch_norm`."""
        return operator_kind(self.type)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A list of Operators that run in order; `path` is empty for the top-level one.

    `arguments` are Values that the owner hands in, `results` those that it hands back to its owner.
    """

    path: str
    owner: str | None
    arguments: tuple[str, ...]
    operators: tuple[str, ...]
    results: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class Graph:
    """A Program as plain data: Operators in pre-order, Values by name, Blocks by path.

    `source` says what was read, `version` is the file format's own, `unknown` lists fields of the
    file that the reader does not know; `report` says what else is worth knowing about the reading.
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
    # By what `once` was given; each function has a type of its own.
    _findings: dict[Callable[[Graph], object], Any] = field(
        default_factory=dict[Callable[["Graph"], object], Any],
        init=False,
        repr=False,
        compare=False,
    )

    def __repr__(self) -> str:
        ends = (", ".join(map(named, names)) or "nothing" for names in (self.feeds, self.fetches))
        return (
            f"Graph({bounded(self.source)}: {self.kind.value}, "
            f"{len(self.operators)} operators, {len(self.values)} Values; {' -> '.join(ends)})"
        )

    @property
    def parameters(self) -> Iterator[Value]:
        """Parameters in program order."""
        return (value for value in self.values.values() if value.origin is Origin.PARAMETER)

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Operator, ...]]:
        """Operators that read a Value, in pre-order, each once; unread Values are absent."""
        readers: dict[str, dict[str, Operator]] = {}
        for operator in self.operators.values():
            for name in operator.operands:
                if name is not None:
                    readers.setdefault(name, {})[operator.name] = operator
        return {name: tuple(found.values()) for name, found in readers.items()}

    def once(self, find: Callable[[Graph], _Found]) -> _Found:
        """Return what a function finds out about this Graph, which never changes: it runs once."""
        if find not in self._findings:
            self._findings[find] = find(self)
        return self._findings[find]

    def producer(self, value: str) -> Operator | None:
        """The Operator that a Value comes from, None for arguments and unwritten Variables."""
        name = self.values[value].producer
        return None if name is None else self.operators[name]

    @cached_property
    def nx(self) -> networkx.DiGraph[str]:
        """One `networkx.DiGraph`: Value nodes are keyed by name, Operator nodes by `name()`.

        The node attribute `data` holds the Value or Operator. Edges run operand -> Operator ->
        result. Blocks join in without a cycle: what the owner reads -> the Block's arguments, and
        the Block's results -> the owner.
        """
        import networkx

        digraph: networkx.DiGraph[str] = networkx.DiGraph()
        # Its own methods put the same into these dicts, in twice the time; its types hide them.
        own: Any = digraph
        nodes, after, before = own._node, own._succ, own._pred  # noqa: SLF001
        with collection_paused():
            nodes |= {name: {"data": value} for name, value in self.values.items()}
            keys, operators = self.operator_keys.values(), self.operators.values()
            nodes |= {key: {"data": one} for key, one in zip(keys, operators, strict=True)}
            after |= {name: {} for name in nodes}
            before |= {name: {} for name in nodes}
            self._connect(after, before)
        return digraph

    @cached_property
    def operator_keys(self) -> Mapping[str, str]:
        """Operator name -> key in `nx`: `conv2d_3()`, with `%` before it where a Value has that."""
        keys: dict[str, str] = {}
        for name in self.operators:
            key = f"{name}()"
            while key in self.values:
                key = f"%{key}"
            keys[name] = key
        return keys

    def _connect(self, after: _Adjacency, before: _Adjacency) -> None:
        keys = self.operator_keys
        for operator in self.operators.values():
            key = keys[operator.name]
            into, out = before[key], after[key]
            for operand in operator.operands:
                if operand is not None:
                    into[operand] = after[operand][key] = {}
            for result in operator.results:
                out[result] = before[result][key] = {}
            for path in operator.blocks:
                for tail, head in self._block_edges(operator, self.blocks[path]):
                    after[tail][head] = before[head][tail] = {}

    def _block_edges(self, owner: Operator, block: Block) -> Iterator[tuple[str, str]]:
        for argument in block.arguments:
            for operand in owner.operands:
                if operand is not None:
                    yield operand, argument
        for result in block.results:
            yield result, self.operator_keys[owner.name]


def dims_agree(a: int, b: int) -> bool:
    """Tell whether two dims may be equal: they are, or one is unknown."""
    return a == b or UNKNOWN in (a, b)


def shapes_agree(a: Shape | None, b: Shape | None) -> bool:
    """Tell whether two shapes may be equal: same rank, and every dim agrees."""
    return a is not None and b is not None and len(a) == len(b) and all(map(dims_agree, a, b))


def keeps_shape(value: Value, shape: Shape | None) -> bool:
    """Return whether a tensor of a shape can be what a Value keeps from run to run.

    A recurrence keeps a state of its dropout, of which a program says nothing: on a CPU it is
    empty.
    """
    return value.name.endswith(NOT_KEPT) or shapes_agree(shape, value.shape)


def is_dropout_state(value: Value) -> bool:
    """Return whether a recurrence keeps its dropout there: no weight, and empty without one."""
    is_state = value.dtype == DTYPE_OF_DROPOUT_STATE and not value.shape
    return is_state and value.name.endswith(NOT_KEPT)


@lru_cache(maxsize=4096)
def operator_kind(type: str) -> str:
    """Return a type without its dialect and the mark of an in-place operator: `batch_norm`."""
    return type.rpartition(".")[2].rstrip("_")


@lru_cache(maxsize=4096)
def module_path(struct_name: str) -> str:
    """Return a module path without the root's counter, which grows with every network built.

    `/ResNet_1/Sequential_2/ReLU_1/` becomes `/ResNet/Sequential_2/ReLU_1`.
    """
    root, *rest = struct_name.strip("/").split("/")
    stem, _, counter = root.rpartition("_")
    return "/" + "/".join([stem if stem and counter.isdecimal() else root, *rest])
