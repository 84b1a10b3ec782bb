"""Tell the forward pass from gradients and updates in a Graph, and what of it a Value needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphtool.graph import Graph, Operator
from graphtool.structure import is_training

__all__ = ["SAVES", "inner_operators", "needed", "training_operators"]

# How a branch or a loop keeps what its gradient will read: nothing of the forward pass reads it.
SAVES = frozenset({"cf.tuple_push"})

# Operands that an operator writes in place, where it isn't its first one. A batch norm writes its
# running statistics, not its input, and in test mode not even them; `auc` writes its own counts.
_WRITTEN = {
    "assign_out": slice(1, 2),
    "auc": slice(0),
    "batch_norm": slice(0),
    "sync_batch_norm": slice(0),
}
_FIRST = slice(1)


def training_operators(graph: Graph) -> frozenset[str]:
    """Name the top-level Operators of a backward pass or an update.

    Under PIR only gradients and updates themselves have a type that says so. What is made of their
    results (clipping, weight decay) belongs to them, and so do branches and loops that hold one.
    """
    found: set[str] = set()
    made: set[str] = set()
    for operator in _top(graph):
        inside = list(inner_operators(graph, operator))
        if any(map(is_training, (operator, *inside))) or not made.isdisjoint(
            _reads(operator, inside)
        ):
            found.add(operator.name)
            made.update(operator.results)
    return frozenset(found)


def needed(graph: Graph, names: Iterable[str]) -> tuple[Operator, ...]:
    """Return the top-level Operators that Values of the forward pass need, in program order.

    Whatever writes into one of them in place is among them, unless an optimizer does.
    """
    training = training_operators(graph)
    wanted, kept = set(names), list[Operator]()
    for operator in reversed(list(_top(graph))):
        if operator.name in training:
            continue
        inside = list(inner_operators(graph, operator))
        if wanted.isdisjoint((*operator.results, *_writes(operator, inside))):
            continue
        kept.append(operator)
        wanted.update(_reads(operator, inside))
    return tuple(reversed(kept))


def inner_operators(graph: Graph, operator: Operator) -> Iterator[Operator]:
    """Yield the Operators of the Blocks that an Operator runs, however deep, in pre-order."""
    for path in operator.blocks:
        for name in graph.blocks[path].operators:
            inner = graph.operators[name]
            yield inner
            yield from inner_operators(graph, inner)


def _top(graph: Graph) -> Iterator[Operator]:
    return (graph.operators[name] for name in graph.blocks[""].operators)


def _reads(operator: Operator, inside: Iterable[Operator]) -> Iterator[str]:
    for reader in (operator, *inside):
        if reader.type not in SAVES:
            yield from (name for name in reader.operands if name is not None)


def _writes(operator: Operator, inside: Iterable[Operator]) -> Iterator[str]:
    for writer in (operator, *inside):
        if writer.type.endswith("_"):
            written = writer.operands[_WRITTEN.get(writer.kind, _FIRST)]
            yield from (name for name in written if name is not None)
