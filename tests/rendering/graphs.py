"""Graphs made by hand, for what no network has."""

from __future__ import annotations

from graphtool.graph import Block, Graph, Operator, Origin, ProgramKind, Value

__all__ = ["chain", "graph_of", "heads", "nested", "two_chains"]


def graph_of(
    source: str,
    operators: dict[str, Operator],
    values: dict[str, Value],
    blocks: dict[str, Block],
    fetches: tuple[str, ...],
) -> Graph:
    feeds = tuple(name for name, value in values.items() if value.origin is Origin.FEED)
    return Graph(
        source=source,
        kind=ProgramKind.PIR,
        operators=operators,
        values=values,
        blocks=blocks,
        feeds=feeds,
        fetches=fetches,
    )


def _value(name: str, producer: str | None, origin: Origin = Origin.OPERATOR) -> Value:
    return Value(name=name, shape=(2,), dtype="float32", producer=producer, origin=origin)


def chain(count: int) -> Graph:
    """Return a chain of Operators, of which every third joins two Values."""
    values = {"v0": _value("v0", None, Origin.FEED)}
    operators: dict[str, Operator] = {}
    for index in range(1, count):
        operators[f"o{index}"] = Operator(
            name=f"o{index}",
            type="pd_op.relu" if index % 3 else "pd_op.add",
            index=index,
            block="",
            operands=(f"v{index - 1}", f"v{max(0, index - 7)}")[: 1 if index % 3 else 2],
            results=(f"v{index}",),
        )
        values[f"v{index}"] = _value(f"v{index}", f"o{index}")
    block = Block(path="", owner=None, arguments=(), operators=tuple(operators))
    return graph_of("chain", operators, values, {"": block}, (f"v{count - 1}",))


def nested(depth: int) -> Graph:
    """Return conditions within conditions; each has a relu before the next."""
    values = {"x": _value("x", None, Origin.FEED)}
    operators: dict[str, Operator] = {}
    blocks: dict[str, Block] = {}
    paths = [""]
    for level in range(depth):
        paths.append(f"{paths[-1]}/if_{level}/0".lstrip("/"))
    for level, path in enumerate(paths):
        names = [f"relu_{level}"]
        before = f"r{level - 1}" if level else "x"
        operators[f"relu_{level}"] = Operator(
            name=f"relu_{level}",
            type="pd_op.relu",
            index=None,
            block=path,
            operands=(before,),
            results=(f"r{level}",),
        )
        values[f"r{level}"] = _value(f"r{level}", f"relu_{level}")
        result = f"r{level}"
        if level < depth:
            names.append(f"if_{level}")
            result = f"i{level}"
            operators[f"if_{level}"] = Operator(
                name=f"if_{level}",
                type="pd_op.if",
                index=None,
                block=path,
                operands=(f"r{level}",),
                results=(result,),
                blocks=(paths[level + 1],),
            )
            values[result] = _value(result, f"if_{level}")
        blocks[path] = Block(
            path=path,
            owner=f"if_{level - 1}" if level else None,
            arguments=(),
            operators=tuple(names),
            results=(result,) if level else (),
        )
    return graph_of("nested", operators, values, blocks, ("i0",))


def two_chains() -> Graph:
    """Return two chains of three Operators, each from a feed of its own to a fetch of its own."""
    values: dict[str, Value] = {}
    operators: dict[str, Operator] = {}
    for feed in ("x", "y"):
        values[feed] = _value(feed, None, Origin.FEED)
        before = feed
        for kind in ("relu", "tanh", "sigmoid"):
            name = f"{kind}_{feed}"
            operators[name] = Operator(
                name=name,
                type=f"pd_op.{kind}",
                index=len(operators),
                block="",
                operands=(before,),
                results=(name,),
            )
            values[name] = _value(name, name)
            before = name
    block = Block(path="", owner=None, arguments=(), operators=tuple(operators))
    return graph_of("two", operators, values, {"": block}, ("sigmoid_x", "sigmoid_y"))


def heads(count: int) -> Graph:
    """Return a relu that many heads read, each a tanh with a fetch of its own."""
    values = {"x": _value("x", None, Origin.FEED)}
    operators: dict[str, Operator] = {}
    for name, kind, before in (
        ("stem", "relu", "x"),
        *((f"head_{index}", "tanh", "stem") for index in range(count)),
    ):
        operators[name] = Operator(
            name=name,
            type=f"pd_op.{kind}",
            index=len(operators),
            block="",
            operands=(before,),
            results=(name,),
        )
        values[name] = _value(name, name)
    block = Block(path="", owner=None, arguments=(), operators=tuple(operators))
    return graph_of("heads", operators, values, {"": block}, tuple(operators)[1:])
