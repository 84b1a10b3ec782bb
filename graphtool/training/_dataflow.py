"""What Values are computed from, and what of a Program is its forward pass."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from graphtool.graph import Graph, Operator
from graphtool.ops import STACK_PUSHES, is_training, written_operand

__all__ = ["ancestors", "reached_by_gradient", "required_operators", "training_operators"]


def reached_by_gradient(graph: Graph, outputs: Iterable[str]) -> frozenset[str]:
    """Return the Values that a gradient from the outputs reaches, outputs included.

    It flows from an Operator's results to its operands, and ends at Values with `stop_gradient`.
    """
    return ancestors(graph, outputs, gradient=True)


def ancestors(graph: Graph, outputs: Iterable[str], *, gradient: bool = False) -> frozenset[str]:
    """Return the Values that the outputs are computed from, outputs included.

    With `gradient`, Values that stop it are left out, with all that only they are computed from.
    """
    found, pending = set[str](), list(outputs)
    while pending:
        name = pending.pop()
        if name in found or (gradient and graph.values[name].stop_gradient):
            continue
        found.add(name)
        operator = graph.producer(name)
        if operator is not None:
            pending += [operand for operand in operator.operands if operand is not None]
            pending += [result for path in operator.blocks for result in graph.blocks[path].results]
    return frozenset(found)


def training_operators(graph: Graph) -> frozenset[str]:
    """Return the names of the top-level Operators of backward passes and updates.

    Under PIR only gradients and updates have a type of that kind. Operators that read their results
    (clipping, weight decay) count too, and so do branches and loops that contain one.
    """
    training: set[str] = set()
    training_values: set[str] = set()
    for operator in _top_level(graph):
        nested = list(_nested_operators(graph, operator))
        if any(map(is_training, (operator, *nested))) or not training_values.isdisjoint(
            _reads(operator, nested)
        ):
            training.add(operator.name)
            training_values.update(operator.results)
    return frozenset(training)


def required_operators(graph: Graph, names: Iterable[str]) -> tuple[Operator, ...]:
    """Return the top-level Operators that compute Values of the forward pass, in program order.

    Operators that write one of those Values in place are included, optimizers are not.
    """
    training = training_operators(graph)
    required_values, required = set(names), list[Operator]()
    for operator in reversed(list(_top_level(graph))):
        if operator.name in training:
            continue
        nested = list(_nested_operators(graph, operator))
        if required_values.isdisjoint((*operator.results, *_writes(operator, nested))):
            continue
        required.append(operator)
        required_values.update(_reads(operator, nested))
    return tuple(reversed(required))


def _top_level(graph: Graph) -> Iterator[Operator]:
    return (graph.operators[name] for name in graph.blocks[""].operators)


def _nested_operators(graph: Graph, operator: Operator) -> Iterator[Operator]:
    """Yield the Operators in an Operator's Blocks, at any depth, in pre-order."""
    for path in operator.blocks:
        for name in graph.blocks[path].operators:
            nested = graph.operators[name]
            yield nested
            yield from _nested_operators(graph, nested)


def _reads(operator: Operator, nested: Iterable[Operator]) -> Iterator[str]:
    for reader in (operator, *nested):
        if reader.type not in STACK_PUSHES:
            yield from (name for name in reader.operands if name is not None)


def _writes(operator: Operator, nested: Iterable[Operator]) -> Iterator[str]:
    """Return the operands that in-place operators write."""
    written = map(written_operand, (operator, *nested))
    return (name for name in written if name is not None)
