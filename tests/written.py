"""Saved models that are written down piece by piece, in either form; no Paddle is needed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

# JSON text is untyped, and so are messages that are made from a schema at run time.
Json: TypeAlias = Any
Message: TypeAlias = Any


def pir_tensor(key: object, shape: object) -> Json:
    """Write a result that is a float32 tensor."""
    data: Json = [{"#": "0.t_f32"}, shape, "NCHW", [], 0]
    return {"%": key, "TT": {"#": "0.t_dtensor", "D": data}}


def pir_op(type: str, operands: Iterable[int], results: Sequence[Json], **attributes: Json) -> Json:
    """Write an operator; attributes are typed, as `pir_attribute` makes them."""
    stops = {"#": "0.a_array", "D": [{"#": "0.a_bool", "D": False}]}
    return {
        "#": type,
        "A": [{"AT": held, "N": name} for name, held in attributes.items()],
        "I": [{"%": operand} for operand in operands],
        "O": results,
        "OA": [{"AT": stops, "N": "stop_gradient"}],
    }


def pir_attribute(data: Json) -> Json:
    """Write a number, a text, a flag, or a list of those."""
    if isinstance(data, list):
        return {"#": "0.a_array", "D": [pir_attribute(item) for item in data]}
    return {"#": {bool: "0.a_bool", int: "0.a_i32", str: "0.a_str"}[type(data)], "D": data}


def pir_parameter(key: int, name: object, shape: Sequence[int]) -> Json:
    """Write what reads a parameter."""
    ends = pir_tensor(key, shape)
    return {"#": "p", "A": [0, 1, 1, name], "DA": [], "O": ends, "OA": [1, 0, 1], "QA": []}


def pir_file(ops: Iterable[Json]) -> bytes:
    """Write a program of one Block."""
    block = {"#": "block_0", "args": [], "ops": list(ops)}
    program = {"regions": [{"#": "region_0", "blocks": [block]}]}
    base = {"magic": "pir", "trainable": True, "version": 4}
    return json.dumps({"base_code": base, "program": program}, separators=(",", ":")).encode()


def legacy_variable(block: Message, name: str, shape: Sequence[int]) -> Message:
    """Declare a float32 tensor."""
    var = block.vars.add(name=name)
    var.type.type = 7
    var.type.dense_tensor.tensor.data_type = 5
    var.type.dense_tensor.tensor.dims.extend(shape)
    return var


def legacy_op(
    block: Message, type: str, inputs: Mapping[str, str], output: tuple[str, str], **attributes: Any
) -> Message:
    """Add an operator with one Variable in each slot; attributes are numbers, texts and lists."""
    op = block.ops.add(type=type)
    for slot, name in inputs.items():
        op.inputs.add(parameter=slot, arguments=[name])
    op.outputs.add(parameter=output[0], arguments=[output[1]])
    for name, value in attributes.items():
        attr = op.attrs.add(name=name)
        if isinstance(value, list):
            attr.type = 3
            attr.ints.extend(value)
        elif isinstance(value, str):
            attr.type, attr.s = 2, value.encode()
        else:
            attr.type, attr.i = 0, value
    return op
