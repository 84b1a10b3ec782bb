"""Networks that lack a block."""

from __future__ import annotations

from dataclasses import replace

from graphtool.graph import Graph, Operator
from tests.matching.rewrites.editing import Editor, edited
from tests.matching.rewrites.rewritten import Rewritten

__all__ = ["without_block"]


def without_block(graph: Graph, before: str, after: str) -> Rewritten:
    """Take a block out: what read its output `after` reads its input `before` instead.

    Both have one shape, and every path to `after` passes `before`.
    """
    assert graph.values[before].shape == graph.values[after].shape
    inside, pending = set[str](), [after]
    while pending:
        operator = graph.producer(pending.pop())
        if operator is not None and before not in operator.results and operator.name not in inside:
            inside.add(operator.name)
            pending += [name for name in operator.operands if name is not None]
    gone = inside - _needed(graph, before)

    def step(editor: Editor, operator: Operator) -> None:
        if operator.name in gone:
            editor.names.update(dict.fromkeys(operator.results))
            return
        operands = tuple(before if name == after else name for name in operator.operands)
        editor.keep(replace(operator, operands=operands))

    editor = edited(graph, step)
    editor.names[after] = before
    return editor.done()


def _needed(graph: Graph, name: str) -> set[str]:
    """Name the Operators that a Value rests on."""
    found, pending = set[str](), [name]
    while pending:
        operator = graph.producer(pending.pop())
        if operator is not None and operator.name not in found:
            found.add(operator.name)
            pending += [one for one in operator.operands if one is not None]
    return found
