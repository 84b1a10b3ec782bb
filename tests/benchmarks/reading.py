"""How long reading takes against its floor: `python -m tests.benchmarks.reading [LARGEST]`.

The program is a chain of convolutions, activations and additions that skip back. The floor is what
no reader can do without: the plain parse, a walk that takes out every field a Graph keeps, and a
bare networkx graph of the same nodes and edges.
"""

from __future__ import annotations

import gc
import json
import math
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import networkx as nx

from graphtool.graph import Graph
from graphtool.readers._json import read_json
from graphtool.readers._protobuf import read_protobuf
from graphtool.readers._schema import program_message

SIZES = (1_000, 10_000, 100_000)
ROUNDS = 5
SKIP = 4
SHAPE = [-1, 64, 56, 56]
Edges = Iterable[tuple[str, str]]


def json_program(count: int) -> bytes:
    """Return a PIR file of `count` operators, weights not counted."""
    ops: list[dict[str, Any]] = [_json_op("1.data", [], 1, name="x", dtype="float32")]
    made, last = [1], 1
    while len(made) <= count:
        last += 1
        step = len(made) % 3
        if step == 1:
            ops.append(_json_weight(last))
            last += 1
            ops.append(_json_op("1.conv2d", [made[-1], last - 1], last, **CONVOLUTION))
        elif step == 2:
            ops.append(_json_op("1.relu", [made[-1]], last))
        else:
            ops.append(_json_op("1.add", [made[-1], made[max(0, len(made) - SKIP)]], last))
        made.append(last)
    block = {"#": "block_0", "args": [], "ops": ops}
    program = {"regions": [{"#": "region_0", "blocks": [block]}]}
    base = {"magic": "pir", "trainable": True, "version": 4}
    return json.dumps({"base_code": base, "program": program}, separators=(",", ":")).encode()


CONVOLUTION = {
    "strides": [1, 1],
    "paddings": [1, 1],
    "padding_algorithm": "EXPLICIT",
    "dilations": [1, 1],
    "groups": 1,
    "data_format": "NCHW",
    "struct_name": "/Net/Sequential_1/Conv2D_1/",
}


def _json_op(type: str, operands: list[int], result: int, **attributes: Any) -> dict[str, Any]:
    return {
        "#": type,
        "A": [{"AT": _json_attribute(value), "N": name} for name, value in attributes.items()],
        "I": [{"%": operand} for operand in operands],
        "O": [{"%": result, "TT": _json_type(SHAPE)}],
        "OA": [
            {"AT": {"#": "0.a_array", "D": [{"#": "0.a_bool", "D": False}]}, "N": "stop_gradient"}
        ],
    }


def _json_attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return {"#": "0.a_array", "D": [_json_attribute(item) for item in value]}
    kind = {bool: "0.a_bool", int: "0.a_i32", str: "0.a_str"}[type(value)]
    return {"#": kind, "D": value}


def _json_type(shape: list[int]) -> dict[str, Any]:
    return {"#": "0.t_dtensor", "D": [{"#": "0.t_f32"}, shape, "NCHW", [], 0]}


def _json_weight(key: int) -> dict[str, Any]:
    return {
        "#": "p",
        "A": [0, 1, 1, f"conv2d_{key}.w_0"],
        "DA": [],
        "O": {"%": key, "TT": _json_type([64, 64, 3, 3])},
        "OA": [1, 0, 1],
        "QA": [],
    }


def protobuf_program(count: int) -> bytes:
    """Return a ProgramDesc of `count` operators."""
    program: Any = program_message()()
    block = program.blocks.add(idx=0, parent_idx=-1, forward_block_idx=-1)
    _variable(block, "x", SHAPE).need_check_feed = True
    made = ["x"]
    while len(made) <= count:
        name = f"tmp_{len(made)}"
        _variable(block, name, SHAPE)
        step = len(made) % 3
        if step == 1:
            weight = _variable(block, f"conv2d_{len(made)}.w_0", [64, 64, 3, 3])
            weight.persistable = weight.is_parameter = True
            inputs = {"Filter": weight.name, "Input": made[-1]}
            _operator(block, "conv2d", inputs, ("Output", name), **CONVOLUTION)
        elif step == 2:
            _operator(block, "relu", {"X": made[-1]}, ("Out", name))
        else:
            inputs = {"X": made[-1], "Y": made[max(0, len(made) - SKIP)]}
            _operator(block, "elementwise_add", inputs, ("Out", name), axis=-1)
        made.append(name)
    return program.SerializeToString()


def _variable(block: Any, name: str, shape: list[int]) -> Any:
    var = block.vars.add(name=name)
    var.type.type = 7
    var.type.dense_tensor.tensor.data_type = 5
    var.type.dense_tensor.tensor.dims.extend(shape)
    return var


def _operator(
    block: Any, type: str, inputs: dict[str, str], output: tuple[str, str], **attributes: Any
) -> None:
    op = block.ops.add(type=type)
    for slot, name in inputs.items():
        op.inputs.add(parameter=slot, arguments=[name])
    op.outputs.add(parameter=output[0], arguments=[output[1]])
    for name, value in {**attributes, "op_device": "", "op_role": 0}.items():
        attr = op.attrs.add(name=name)
        if isinstance(value, list):
            attr.type = 3
            attr.ints.extend(value)
        elif isinstance(value, str):
            attr.type, attr.s = 2, value.encode()
        else:
            attr.type, attr.i = 0, value


def json_floor(data: bytes) -> Any:
    """Parse, take out every kept field, and build a bare graph."""
    ops = json.loads(data)["program"]["regions"][0]["blocks"][0]["ops"]
    walked = list(_walk_json(ops))
    return walked, _bare(
        (f"{kind}_{i}", ins, outs) for i, (kind, ins, outs, *_) in enumerate(walked)
    )


def _walk_json(ops: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
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


def _plain(data: Any) -> Any:
    return tuple([item["D"] for item in data]) if isinstance(data, list) else data


def protobuf_floor(data: bytes) -> Any:
    """Parse, take out every kept field, and build a bare graph."""
    program: Any = program_message()()
    program.ParseFromString(data)
    block = program.blocks[0]
    variables = [_walk_variable(var) for var in block.vars]
    walked = list(_walk_protobuf(block.ops))
    return variables, walked, _bare((f"{o[0]}_{i}", o[1], o[2]) for i, o in enumerate(walked))


def _walk_variable(var: Any) -> tuple[Any, ...]:
    tensor = var.type.dense_tensor.tensor
    flags = var.persistable, var.need_check_feed, var.is_parameter, var.stop_gradient
    return var.name, var.type.type, tensor.data_type, tuple(tensor.dims), flags


def _walk_protobuf(ops: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
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


@dataclass(frozen=True, slots=True)
class Format:
    name: str
    program: Callable[[int], bytes]
    floor: Callable[[bytes], Any]
    read: Callable[[str, bytes], Graph]


FORMATS = (
    Format("PIR .json", json_program, json_floor, read_json),
    Format(".pdmodel", protobuf_program, protobuf_floor, read_protobuf),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    format: str
    operators: int
    floor: float
    reading: float
    bytes_per_operator: float

    @property
    def ratio(self) -> float:
        return self.reading / self.floor


def measure(format: Format, count: int, rounds: int = ROUNDS) -> Row:
    """Time the floor and the reader in turns and take medians; then trace one reading's memory."""
    data = format.program(count)
    floors: list[float] = []
    readings: list[float] = []
    for _ in range(rounds):
        floors.append(_seconds(lambda: format.floor(data)))
        readings.append(_seconds(lambda: format.read("", data).nx))
    return Row(
        format=format.name,
        operators=count,
        floor=statistics.median(floors),
        reading=statistics.median(readings),
        bytes_per_operator=_kept_bytes(lambda: format.read("", data)) / count,
    )


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _kept_bytes(work: Callable[[], Graph]) -> int:
    gc.collect()
    tracemalloc.start()
    graph = work()
    graph.nx  # noqa: B018  the graph is built when it is first asked for
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return kept


def exponent(rows: Iterable[Row]) -> float:
    """Fit `seconds = c * operators ** e` by least squares in logarithms, and return e."""
    points = [(math.log(row.operators), math.log(row.reading)) for row in rows]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def main() -> None:
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else SIZES[-1]
    print("format     operators   floor s  reading s  ratio  bytes/operator")
    for kind in FORMATS:
        rows = [measure(kind, count) for count in SIZES if count <= largest]
        for row in rows:
            print(
                f"{row.format:<10} {row.operators:>9,}  {row.floor:>8.4f}  {row.reading:>9.4f}"
                f"  {row.ratio:>5.2f}  {row.bytes_per_operator:>14,.0f}"
            )
        print(f"{kind.name:<10} exponent  {exponent(rows):.3f}")


if __name__ == "__main__":
    main()
