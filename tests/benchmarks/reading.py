"""Reading files and building their Graphs, beside what no reader can do without.

The floor parses, takes out every field that a Graph keeps, and builds a bare networkx graph of the
same nodes and edges. It pauses the garbage collector as the readers do; the peer is the same with
the collector on.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeAlias, cast

import networkx as nx

from graphtool.graph import Graph, collection_paused
from graphtool.matching.suggest import pairs_of
from graphtool.readers.pir_json import read_json
from graphtool.readers.program_desc import program_message, read_protobuf
from graphtool.structure import analyse
from tests.benchmarks.row import Case, Of, Prepare, Quantity, Row, Target, Work
from tests.benchmarks.written import json_program, protobuf_program

__all__ = ["ROWS"]

# What a parser makes of a file has no static types.
_Parsed: TypeAlias = Any

_SIZES = (1_000, 10_000, 100_000)
_TARGETS = (
    *(Target(2, Of.FLOOR, Quantity.CPU, size=size) for size in _SIZES[:-1]),
    Target(1.5, Of.FLOOR, Quantity.CPU, size=_SIZES[-1]),
    Target(1.5, Of.PEER, Quantity.CPU, size=_SIZES[-1]),
    Target(None, Of.FLOOR),
    Target(1.1, Of.GROWTH),
)
_GROWTH = (Target(None, Of.ABSOLUTE), Target(1.1, Of.GROWTH))
_WRITTEN = {"json": json_program, "pdmodel": protobuf_program}


def reading(form: str, size: int) -> Prepare:
    """Read a file's bytes and build the networkx graph."""
    data = _WRITTEN[form](size)
    read = {"json": read_json, "pdmodel": read_protobuf}[form]

    def run() -> Graph:
        graph = read("", data)
        graph.nx  # noqa: B018  the graph is built when it is first asked for
        return graph

    def check(graph: object) -> None:
        assert isinstance(graph, Graph)
        # Weights of a `.json` are operators too, and so is the feed.
        assert len(graph.operators) >= size
        assert graph.nx.number_of_nodes() > 2 * size

    return lambda: Work(run, check)


def least(form: str, collector: bool, size: int) -> Prepare:  # noqa: FBT001  crosses a pipe
    """Parse a file's bytes, walk over what is kept, and build a bare graph."""
    data = _WRITTEN[form](size)
    walk = {"json": _walked_json, "pdmodel": _walked_protobuf}[form]

    def run() -> tuple[_Parsed, nx.DiGraph[Any]]:
        with nullcontext() if collector else collection_paused():
            return walk(data)

    def check(found: _Parsed) -> None:
        assert found[1].number_of_nodes() > 2 * size

    return lambda: Work(run, check)


def _walked_json(data: bytes) -> tuple[_Parsed, nx.DiGraph[Any]]:
    ops = json.loads(data)["program"]["regions"][0]["blocks"][0]["ops"]
    walked = list(_json_fields(ops))
    return walked, _bare((f"{op[0]}_{i}", op[1], op[2]) for i, op in enumerate(walked))


def _json_fields(ops: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    for op in ops:
        if op["#"] == "p":
            result = op["O"]
            yield "p", [], [result["%"]], tuple(result["TT"]["D"][1]), op["A"], op["OA"]
            continue
        attributes = {a["N"]: _plain(a["AT"]["D"]) for a in op["A"]}
        flags = {a["N"]: _plain(a["AT"]["D"]) for a in op["OA"]}
        types = [(o["TT"]["D"][0]["#"], tuple(o["TT"]["D"][1])) for o in op["O"]]
        operands, results = [i["%"] for i in op["I"]], [o["%"] for o in op["O"]]
        yield op["#"], operands, results, types, attributes, flags


def _plain(data: _Parsed) -> _Parsed:
    if isinstance(data, list):
        return tuple([item["D"] for item in cast("list[_Parsed]", data)])
    return data


def _walked_protobuf(data: bytes) -> tuple[_Parsed, nx.DiGraph[Any]]:
    program: _Parsed = program_message()()
    program.ParseFromString(data)
    block = program.blocks[0]
    variables = [_variable_fields(var) for var in block.vars]
    walked = list(_protobuf_fields(block.ops))
    bare = _bare((f"{op[0]}_{i}", op[1], op[2]) for i, op in enumerate(walked))
    return (variables, walked), bare


def _variable_fields(var: _Parsed) -> tuple[Any, ...]:
    tensor = var.type.dense_tensor.tensor
    flags = var.persistable, var.need_check_feed, var.is_parameter, var.stop_gradient
    return var.name, var.type.type, tensor.data_type, tuple(tensor.dims), flags


def _protobuf_fields(ops: Iterable[_Parsed]) -> Iterator[tuple[Any, ...]]:
    content = {0: "i", 2: "s", 3: "ints"}
    for op in ops:
        slots = [slot.parameter for slot in op.inputs]
        operands = [name for slot in op.inputs for name in slot.arguments]
        results = [name for slot in op.outputs for name in slot.arguments]
        attributes: dict[str, Any] = {}
        for attr in op.attrs:
            value = getattr(attr, content[attr.type])
            attributes[attr.name] = tuple(value) if attr.type == 3 else value
        yield op.type, operands, results, slots, attributes


def _bare(operators: Iterable[tuple[str, list[Any], list[Any]]]) -> nx.DiGraph[Any]:
    graph: nx.DiGraph[Any] = nx.DiGraph()
    for name, operands, results in operators:
        graph.add_node(name)
        graph.add_edges_from((operand, name) for operand in operands)
        graph.add_edges_from((name, result) for result in results)
    return graph


def analysing(size: int) -> Prepare:
    """Find the structure of a chain that was read."""
    graph = read_json("", json_program(size))

    def prepare() -> Work:
        # A Graph keeps what was found out about it.
        unknown = replace(graph)
        return Work(lambda: analyse(unknown), check)

    def check(structure: _Parsed) -> None:
        assert len(structure.flow.maker) >= size
        assert structure.stages

    return prepare


def suggesting(size: int) -> Prepare:
    """Suggest pairs for two chains that were read and analysed."""
    graph = read_json("", json_program(size))

    def prepare() -> Work:
        sides = [analyse(replace(graph)) for _ in range(2)]
        return Work(lambda: pairs_of(*sides), check)

    def check(pairs: _Parsed) -> None:
        assert pairs.pairs

    return prepare


def _reading_row(form: str) -> Row:
    floor = f"parse, walk over the kept fields, bare networkx build of a .{form}"
    return Row(
        name=f"read-{form}",
        about=f"read a .{form} and build its Graph",
        ours=Case(about="read", make=reading, arguments=(form,)),
        peer=Case(about=f"{floor}, collector on", make=least, arguments=(form, True)),
        floor=Case(about=f"{floor}, collector paused", make=least, arguments=(form, False)),
        targets=(*_TARGETS, Target(None, Of.FLOOR, Quantity.PEAK, size=100_000)),
        sizes=_SIZES,
    )


ROWS = (
    *map(_reading_row, _WRITTEN),
    Row(
        name="analyse",
        about="find the structure of a Graph",
        ours=Case(about="analyse", make=analysing),
        targets=_GROWTH,
        sizes=_SIZES,
    ),
    Row(
        name="suggest",
        about="suggest pairs for two structures",
        ours=Case(about="suggest", make=suggesting),
        targets=_GROWTH,
        sizes=_SIZES,
    ),
)
