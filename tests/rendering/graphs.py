"""Graphs made by hand, for what no network has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from graphtool.graph import Block, Graph, Operator, Origin, ProgramKind, Value
from graphtool.rendering.board import Board
from graphtool.structure import analyse

__all__ = ["assert_shared_out", "chain", "flat", "heads", "nested", "relus", "two_chains"]


def flat(
    source: str,
    feeds: Sequence[str],
    operators: Sequence[tuple[str, str, Sequence[str]]],
    fetches: Sequence[str],
    /,
    **further: Any,
) -> Graph:
    """Return a Graph of Operators without Blocks: the name of each result, kind and operands.

    `further` are fields of all Operators.
    """
    values = {name: _value(name, None) for name in feeds}
    values |= {name: _value(name, name) for name, _, _ in operators}
    made = {
        name: Operator(
            name=name,
            type=f"pd_op.{kind}",
            index=index,
            block="",
            operands=tuple(operands),
            results=(name,),
            **further,
        )
        for index, (name, kind, operands) in enumerate(operators)
    }
    block = Block(path="", owner=None, arguments=(), operators=tuple(made))
    return _graph(source, made, values, {"": block}, fetches)


def _graph(
    source: str,
    operators: dict[str, Operator],
    values: dict[str, Value],
    blocks: dict[str, Block],
    fetches: Sequence[str],
) -> Graph:
    return Graph(
        source=source,
        kind=ProgramKind.PIR,
        operators=operators,
        values=values,
        blocks=blocks,
        feeds=tuple(name for name, value in values.items() if value.origin is Origin.FEED),
        fetches=tuple(fetches),
    )


def _value(name: str, producer: str | None) -> Value:
    origin = Origin.OPERATOR if producer else Origin.FEED
    return Value(name=name, shape=(-1, 4), dtype="float32", producer=producer, origin=origin)


def relus(count: int) -> Graph:
    """Return a chain of activations, which has no parts or blocks: v0 → v1 …."""
    steps = [(f"v{index}", "relu", [f"v{index - 1}"]) for index in range(1, count + 1)]
    return flat("chain", ["v0"], steps, [f"v{count}"])


def chain(count: int) -> Graph:
    """Return a chain of Operators, of which every third joins two Values."""
    steps = [
        (f"v{index}", "relu", [f"v{index - 1}"])
        if index % 3
        else (f"v{index}", "add", [f"v{index - 1}", f"v{max(0, index - 7)}"])
        for index in range(1, count)
    ]
    return flat("chain", ["v0"], steps, [f"v{count - 1}"])


def two_chains() -> Graph:
    """Return two chains of three Operators, each from a feed of its own to a fetch of its own."""
    steps = [
        step
        for x in ("x", "y")
        for step in (
            (f"relu_{x}", "relu", [x]),
            (f"tanh_{x}", "tanh", [f"relu_{x}"]),
            (f"sigmoid_{x}", "sigmoid", [f"tanh_{x}"]),
        )
    ]
    return flat("two", ["x", "y"], steps, ["sigmoid_x", "sigmoid_y"])


def heads(count: int) -> Graph:
    """Return a relu that many heads read, each a tanh with a fetch of its own."""
    names = [f"head_{index}" for index in range(count)]
    steps = [("stem", "relu", ["x"]), *((name, "tanh", ["stem"]) for name in names)]
    return flat("heads", ["x"], steps, names)


def nested(depth: int) -> Graph:
    """Return conditions within conditions; each has a relu before the next."""
    values = {"x": _value("x", None)}
    operators: dict[str, Operator] = {}
    blocks: dict[str, Block] = {}
    paths = [""]
    for level in range(depth):
        paths.append(f"{paths[-1]}/if_{level}/0".lstrip("/"))
    for level, path in enumerate(paths):
        relu, condition = f"relu_{level}", f"if_{level}"
        steps = [(relu, "relu", f"relu_{level - 1}" if level else "x", ())]
        if level < depth:
            steps.append((condition, "if", relu, (paths[level + 1],)))
        for name, kind, operand, inner in steps:
            operators[name] = Operator(
                name=name,
                type=f"pd_op.{kind}",
                index=None,
                block=path,
                operands=(operand,),
                results=(name,),
                blocks=inner,
            )
            values[name] = _value(name, name)
        blocks[path] = Block(
            path=path,
            owner=f"if_{level - 1}" if level else None,
            arguments=(),
            operators=tuple(name for name, *_ in steps),
            results=(steps[-1][0],) if level else (),
        )
    return _graph("nested", operators, values, blocks, ("if_0",))


def assert_shared_out(graph: Graph, board: Board) -> None:
    """Check that each Operator is in one row, and that all sums are those of the network."""
    structure, (panel,) = analyse(graph), board.panels
    drawn = Counter(name for card in panel.cards for row in card.rows for name in row.operators)
    steps = {step.operator.name for step in structure.flow.steps.values()}

    assert set(drawn) == steps - {"fetch_0"}
    assert set(drawn.values()) == {1}
    assert sum(card.parameters for card in panel.cards) == structure.parameters
    assert sum(card.multiply_adds for card in panel.cards) == structure.multiply_adds
    assert abs(sum(card.share for card in panel.cards) - 1) < 1e-9
