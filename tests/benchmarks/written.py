"""Files of chains that are written down, in either form; no Paddle is needed."""

from __future__ import annotations

import functools
import json
from typing import Any, TypeAlias, cast

from graphtool.readers.program_desc import program_message

__all__ = ["json_program", "protobuf_program"]

# Messages that are made from a schema have no types.
_Message: TypeAlias = Any

_SHAPE = [-1, 64, 56, 56]
# How far back an addition of a written chain reaches.
_SKIP = 4
_CONVOLUTION = {
    "strides": [1, 1],
    "paddings": [1, 1],
    "padding_algorithm": "EXPLICIT",
    "dilations": [1, 1],
    "groups": 1,
    "data_format": "NCHW",
    "struct_name": "/Net/Sequential_1/Conv2D_1/",
}


@functools.cache
def json_program(count: int) -> bytes:
    """Return a PIR file of `count` convolutions, activations and additions that skip back."""
    ops: list[dict[str, Any]] = [_json_op("1.data", [], 1, name="x", dtype="float32")]
    made, last = [1], 1
    while len(made) <= count:
        last += 1
        step = len(made) % 3
        if step == 1:
            ops.append(_json_weight(last))
            last += 1
            ops.append(_json_op("1.conv2d", [made[-1], last - 1], last, **_CONVOLUTION))
        elif step == 2:
            ops.append(_json_op("1.relu", [made[-1]], last))
        else:
            ops.append(_json_op("1.add", [made[-1], made[max(0, len(made) - _SKIP)]], last))
        made.append(last)
    block = {"#": "block_0", "args": [], "ops": ops}
    program = {"regions": [{"#": "region_0", "blocks": [block]}]}
    base = {"magic": "pir", "trainable": True, "version": 4}
    return json.dumps({"base_code": base, "program": program}, separators=(",", ":")).encode()


def _json_op(type: str, operands: list[int], result: int, **attributes: Any) -> dict[str, Any]:
    return {
        "#": type,
        "A": [{"AT": _json_attribute(value), "N": name} for name, value in attributes.items()],
        "I": [{"%": operand} for operand in operands],
        "O": [{"%": result, "TT": _json_type(_SHAPE)}],
        "OA": [
            {"AT": {"#": "0.a_array", "D": [{"#": "0.a_bool", "D": False}]}, "N": "stop_gradient"}
        ],
    }


def _json_attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        items = map(_json_attribute, cast("list[Any]", value))
        return {"#": "0.a_array", "D": list(items)}
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


@functools.cache
def protobuf_program(count: int) -> bytes:
    """Return a ProgramDesc of `count` operators."""
    program: _Message = program_message()()
    block = program.blocks.add(idx=0, parent_idx=-1, forward_block_idx=-1)
    _variable(block, "x", _SHAPE).need_check_feed = True
    made = ["x"]
    while len(made) <= count:
        name = f"tmp_{len(made)}"
        _variable(block, name, _SHAPE)
        step = len(made) % 3
        if step == 1:
            weight = _variable(block, f"conv2d_{len(made)}.w_0", [64, 64, 3, 3])
            weight.persistable = weight.is_parameter = True
            inputs = {"Filter": weight.name, "Input": made[-1]}
            _operator(block, "conv2d", inputs, ("Output", name), **_CONVOLUTION)
        elif step == 2:
            _operator(block, "relu", {"X": made[-1]}, ("Out", name))
        else:
            inputs = {"X": made[-1], "Y": made[max(0, len(made) - _SKIP)]}
            _operator(block, "elementwise_add", inputs, ("Out", name), axis=-1)
        made.append(name)
    return program.SerializeToString()


def _variable(block: _Message, name: str, shape: list[int]) -> _Message:
    var = block.vars.add(name=name)
    var.type.type = 7
    var.type.dense_tensor.tensor.data_type = 5
    var.type.dense_tensor.tensor.dims.extend(shape)
    return var


def _operator(
    block: _Message, type: str, inputs: dict[str, str], output: tuple[str, str], **attributes: Any
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
