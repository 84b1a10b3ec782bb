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
from functools import cache
from typing import Any, TypeAlias, cast

import networkx as nx

from graphtool.graph import Graph, collection_paused
from graphtool.matching.suggest import pairs_of
from graphtool.readers.pir_json import read_json
from graphtool.readers.program_desc import program_message, read_protobuf
from graphtool.structure import analyse
from tests.benchmarks.sampling import Case, Row, Target, Work
from tests.written import (
    legacy_op,
    legacy_variable,
    pir_attribute,
    pir_file,
    pir_op,
    pir_parameter,
    pir_tensor,
)

# What a parser makes of a file has no static types.
_Parsed: TypeAlias = Any

_SIZES = (1_000, 10_000, 100_000)
_SHAPE, _WEIGHT = [-1, 64, 56, 56], [64, 64, 3, 3]
# How far back an addition of a written chain reaches.
_SKIP = 4
_CONVOLUTION: dict[str, Any] = {
    "strides": [1, 1],
    "paddings": [1, 1],
    "padding_algorithm": "EXPLICIT",
    "dilations": [1, 1],
    "groups": 1,
    "data_format": "NCHW",
    "struct_name": "/Net/Sequential_1/Conv2D_1/",
}


@cache
def json_program(count: int) -> bytes:
    """Return a PIR file of `count` convolutions, activations and additions that skip back."""

    def op(type: str, operands: list[int], key: int, **attributes: Any) -> Any:
        typed = {name: pir_attribute(data) for name, data in attributes.items()}
        return pir_op(type, operands, [pir_tensor(key, _SHAPE)], **typed)

    ops, made, last = [op("1.data", [], 1, name="x", dtype="float32")], [1], 1
    while len(made) <= count:
        last += 1
        step = len(made) % 3
        if step == 1:
            ops.append(pir_parameter(last, f"conv2d_{last}.w_0", _WEIGHT))
            last += 1
            ops.append(op("1.conv2d", [made[-1], last - 1], last, **_CONVOLUTION))
        elif step == 2:
            ops.append(op("1.relu", [made[-1]], last))
        else:
            ops.append(op("1.add", [made[-1], made[max(0, len(made) - _SKIP)]], last))
        made.append(last)
    return pir_file(ops)


@cache
def protobuf_program(count: int) -> bytes:
    """Return a ProgramDesc of `count` operators."""
    program: _Parsed = program_message()()
    block = program.blocks.add(idx=0, parent_idx=-1, forward_block_idx=-1)
    legacy_variable(block, "x", _SHAPE).need_check_feed = True
    made, common = ["x"], {"op_device": "", "op_role": 0}
    while len(made) <= count:
        name, last = f"tmp_{len(made)}", made[-1]
        legacy_variable(block, name, _SHAPE)
        step = len(made) % 3
        if step == 1:
            weight = legacy_variable(block, f"conv2d_{len(made)}.w_0", _WEIGHT)
            weight.persistable = weight.is_parameter = True
            inputs = {"Filter": weight.name, "Input": last}
            legacy_op(block, "conv2d", inputs, ("Output", name), **_CONVOLUTION, **common)
        elif step == 2:
            legacy_op(block, "relu", {"X": last}, ("Out", name), **common)
        else:
            inputs = {"X": last, "Y": made[max(0, len(made) - _SKIP)]}
            legacy_op(block, "elementwise_add", inputs, ("Out", name), axis=-1, **common)
        made.append(name)
    return program.SerializeToString()


_FORMS = {"json": (json_program, read_json), "pdmodel": (protobuf_program, read_protobuf)}


def reading(form: str, size: int) -> Work:
    """Read a file's bytes and build the networkx graph."""
    write, read = _FORMS[form]
    data = write(size)

    def run() -> Graph:
        graph = read("", data)
        graph.nx  # noqa: B018  the graph is built when it is first asked for
        return graph

    graph = yield run
    # Weights of a `.json` are operators too, and so is the feed.
    assert len(graph.operators) >= size
    assert graph.nx.number_of_nodes() > 2 * size


def least(form: str, collector: bool, size: int) -> Work:  # noqa: FBT001  crosses a pipe
    """Parse a file's bytes, walk over what is kept, and build a bare graph."""
    data = _FORMS[form][0](size)
    walk = {"json": _walked_json, "pdmodel": _walked_protobuf}[form]

    def run() -> tuple[_Parsed, nx.DiGraph[Any]]:
        with nullcontext() if collector else collection_paused():
            kept, ends = walk(data)
            return kept, _bare(ends)

    _, bare = yield run
    assert bare.number_of_nodes() > 2 * size


def _walked_json(data: bytes) -> tuple[_Parsed, list[tuple[Any, ...]]]:
    walked = list(_json_fields(json.loads(data)["program"]["regions"][0]["blocks"][0]["ops"]))
    return walked, walked


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


def _walked_protobuf(data: bytes) -> tuple[_Parsed, list[tuple[Any, ...]]]:
    program: _Parsed = program_message()()
    program.ParseFromString(data)
    block = program.blocks[0]
    variables = [_variable_fields(var) for var in block.vars]
    walked = list(_protobuf_fields(block.ops))
    return (variables, walked), walked


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


def _bare(operators: list[tuple[Any, ...]]) -> nx.DiGraph[Any]:
    graph: nx.DiGraph[Any] = nx.DiGraph()
    for index, (kind, operands, results, *_) in enumerate(operators):
        name = f"{kind}_{index}"
        graph.add_node(name)
        graph.add_edges_from((operand, name) for operand in operands)
        graph.add_edges_from((name, result) for result in results)
    return graph


@cache
def _chain(size: int) -> Graph:
    return read_json("", json_program(size))


def analysing(size: int) -> Work:
    """Find the structure of a chain that was read."""
    # A Graph keeps what was found out about it.
    unknown = replace(_chain(size))
    structure = yield lambda: analyse(unknown)
    assert len(structure.flow.maker) >= size
    assert structure.stages


def suggesting(size: int) -> Work:
    """Suggest pairs for two chains that were read and analysed."""
    sides = [analyse(replace(_chain(size))) for _ in range(2)]
    pairs = yield lambda: pairs_of(*sides)
    assert pairs.pairs


_FLOOR = "parse, walk over the kept fields, bare networkx build of a"
_TARGETS = (
    *(Target(2, "floor", "cpu", size=size) for size in _SIZES[:-1]),
    Target(1.5, "floor", "cpu", size=_SIZES[-1]),
    Target(1.5, "peer", "cpu", size=_SIZES[-1]),
    Target(None, "floor"),
    Target(1.1, "growth"),
    Target(None, "floor", "peak", size=_SIZES[-1]),
)
_GROWTH = Target(None, "absolute"), Target(1.1, "growth")

ROWS = (
    *(
        Row(
            f"read-{form}",
            f"read a .{form} and build its Graph",
            Case(reading, (form,)),
            _TARGETS,
            peer=Case(least, (form, True), f"{_FLOOR} .{form}, collector on"),
            floor=Case(least, (form, False), f"{_FLOOR} .{form}, collector paused"),
            sizes=_SIZES,
        )
        for form in _FORMS
    ),
    Row("analyse", "find the structure of a Graph", Case(analysing), _GROWTH, sizes=_SIZES),
    Row("suggest", "suggest pairs for two structures", Case(suggesting), _GROWTH, sizes=_SIZES),
)
