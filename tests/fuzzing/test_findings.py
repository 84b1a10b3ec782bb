"""What fuzzing found, each as the smallest file that shows it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

import graphtool as gt
from graphtool.diagnostics import GraphtoolError
from graphtool.readers.program_desc import program_message
from graphtool.readers.tensor_files import read_tensors
from tests.fuzzing.models import with_model
from tests.refused import refused
from tests.written import (
    Json,
    Message,
    legacy_op,
    legacy_variable,
    pir_file,
    pir_op,
    pir_parameter,
    pir_tensor,
)


def _op(kind: str, reads: list[int], makes: list[Json], **attributes: Json) -> Json:
    typed = {name: {"#": "0.a_x", "D": data} for name, data in attributes.items()}
    return pir_op(kind, reads, makes, **typed)


def _parameter(key: int, name: object) -> Json:
    return pir_parameter(key, name, [8, 8])


_FEED = _op("1.data", [], [pir_tensor(1, [-1, 8])], name="x")


def _pir(*ops: Json) -> bytes:
    return pir_file(ops)


def _legacy(*, blocks: int = 1) -> Message:
    """Return a program that multiplies its feed, with further Blocks that are empty."""
    program: Message = program_message()()
    for index in range(blocks):
        program.blocks.add(idx=index, parent_idx=max(index - 1, -1))
    for name in ("x", "w", "y"):
        var = legacy_variable(program.blocks[0], name, [-1, 8])
        var.need_check_feed, var.is_parameter = name == "x", name == "w"
    legacy_op(program.blocks[0], "matmul_v2", {"X": "x", "Y": "w"}, ("Out", "y"))
    return program


def _running(program: Message, block: int, *inner: int) -> None:
    """Let a Block run others, each as often as it is named."""
    for index in inner:
        op = legacy_op(program.blocks[block], "while", {"X": "x"}, ("Out", "y"))
        op.attrs.add(name="sub_block", type=8, block_idx=index)


def _nested(depth: int) -> bytes:
    op = _op("1.relu", [1], [])
    for _ in range(depth):
        regions = [{"#": "r", "blocks": [{"#": "b", "ops": [op]}]}]
        op = {**_op("1." + "while" * 40, [], []), "regions": regions}
    return _pir(_FEED, op)


def _with_dims(*dims: int) -> bytes:
    program = _legacy()
    var = program.blocks[0].vars[1]
    del var.type.dense_tensor.tensor.dims[:]
    var.type.dense_tensor.tensor.dims.extend(dims)
    return program.SerializeToString()


def _deep_list(depth: int) -> Json:
    nested: Json = 1
    for _ in range(depth):
        nested = [nested]
    return nested


def _relu(dims: list[Any]) -> bytes:
    return _pir(_FEED, _op("1.relu", [1], [pir_tensor(2, dims)]))


_DEEP = "the file is nested too deeply"
_DAMAGED = "does not have the layout that Paddle writes"
_NAMELESS = {**_op("1.relu", [1], []), "A": [{"N": None, "AT": {"#": "x", "D": 1}}]}
_REFUSED: dict[str, tuple[bytes, str]] = {
    "a dim that is no whole number": (
        _relu([1.5]),
        "operator 1, `pd_op.relu`, makes an impossible tensor: it has a dim that is not an integer",
    ),
    "a thousand dims": (_relu([-1] * 1000), "it has 1,000 dims"),
    "more elements than can be counted": (_relu([2**62, 4]), "more elements than 64 bits count"),
    "a number of 400 digits": (
        _pir(_FEED, _op("1.scale", [1], [pir_tensor(2, [8])], scale=10**400)),
        "a number in the file has more than 64 bits: `10000000000000000000`",
    ),
    "a parameter whose name is a number": (
        _pir(_FEED, _parameter(2, 7)),
        f"operator 1, `builtin.parameter`, {_DAMAGED}",
    ),
    "an attribute without a name": (_pir(_FEED, _NAMELESS), _DAMAGED),
    "lists in lists": (_pir(_FEED, _op("1.relu", [1], [], axis=_deep_list(200))), _DEEP),
    "Blocks with long paths": (_nested(40), _DEEP),
    "dims of a Variable that cannot be": (_with_dims(2**62, 4), "declares an impossible tensor"),
    "thousands of Blocks around each other": (_legacy(blocks=2_000).SerializeToString(), _DEEP),
}


def _written(folder: Path, data: bytes) -> Path:
    path = folder / ("model.json" if data.startswith(b"{") else "model.pdmodel")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", _REFUSED)
def test_what_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    data, words = _REFUSED[name]
    found = refused(GraphtoolError, gt.read, _written(tmp_path, data))
    assert found.code == "GT004"
    assert words in found.message


def _unowned() -> bytes:
    """Return a program with a Block that no Operator runs."""
    program = _legacy(blocks=2)
    legacy_op(program.blocks[1], "relu", {"X": "y"}, ("Out", "z"))
    return program.SerializeToString()


def _shared(levels: int) -> bytes:
    """Return Blocks that each run the next one twice."""
    program = _legacy(blocks=levels)
    for level in range(levels - 1):
        _running(program, level, level + 1, level + 1)
    return program.SerializeToString()


def _resized() -> bytes:
    map_of = pir_tensor(1, [-1, 8, 4, 4])
    weight = {**_parameter(2, "w"), "O": pir_tensor(2, [8, 8, 1, 1])}
    return _pir(
        _op("1.data", [], [map_of], name="x"),
        weight,
        _op("1.conv2d", [1, 2], [pir_tensor(3, [-1, 8, 4, 4])]),
        _op("1.nearest_interp", [3], [pir_tensor(4, [-1, 8, 8, 8])], scale=[float("inf")] * 2),
    )


def _growing(steps: int) -> bytes:
    """Return a network in which each step makes a map 2³⁰ times as high and wide."""
    shape = [-1, 8, -1, -1]
    convolutions = [
        _op("1.conv2d_transpose", [last, 2], [pir_tensor(last + 1, shape)], strides=[2**30] * 2)
        for last in range(3, 3 + steps)
    ]
    first = _op("1.relu", [1], [pir_tensor(3, shape)])
    weight = {**_parameter(2, "w"), "O": pir_tensor(2, [8, 8, 1, 1])}
    return _pir(_op("1.data", [], [pir_tensor(1, shape)], name="x"), weight, first, *convolutions)


def _reshaping_nothing() -> bytes:
    program = _legacy()
    legacy_op(program.blocks[0], "reshape2", {}, ("Out", "z"), shape=[4, 2])
    return program.SerializeToString()


def _packed(levels: int) -> bytes:
    """Return lists of lists of a parameter, each of them twice in the next two."""
    lists = [_op("0.combine", [2], [{"%": number}]) for number in (3, 4)]
    for first in range(3, 3 + 2 * levels, 2):
        lists += [
            _op("0.combine", [first, first + 1], [{"%": number}])
            for number in (first + 2, first + 3)
        ]
    return _pir(_FEED, _parameter(2, "w"), *lists)


def _looping() -> bytes:
    """Return a loop that hands two Values to its Block, and is given one."""
    args = [{"#": number, "TT": pir_tensor(number, [-1, 8])["TT"]} for number in (-1, -2)]
    inner = {"#": "b", "args": args, "ops": []}
    loop = _op("1.while", [1], [pir_tensor(2, [-1, 8])])
    return _pir(_FEED, {**loop, "regions": [{"#": "r", "blocks": [inner]}]})


_PRODUCT = _op("1.matmul", [1, 2], [pir_tensor(3, [-1, 8])])
_TAKEN: dict[str, bytes] = {
    "a reshape of nothing": _pir(
        _op("1.data", [], [pir_tensor(1, [4, 8])], name="x"),
        _op("1.reshape", [], [pir_tensor(2, [8])]),
    ),
    "a legacy reshape of nothing": _reshaping_nothing(),
    "a softmax of nothing": _pir(_FEED, _op("1.softmax", [], [pir_tensor(2, [-1, 8])])),
    "a softmax that makes nothing": _pir(
        _FEED, _parameter(2, "w"), _PRODUCT, _op("1.softmax", [3], [])
    ),
    "a list of a parameter that goes nowhere": _pir(
        _FEED, _parameter(2, "w"), _op("0.combine", [2], [])
    ),
    "lists of lists": _packed(40),
    "a loop that hands in more than it is given": _looping(),
    "maps that grow without end": _growing(300),
    "a product of one operand": _pir(
        _FEED, _parameter(2, "w"), _op("1.matmul", [1], [pir_tensor(3, [-1, 8])])
    ),
    "a list taken apart that is not there": _pir(_FEED, _op("0.split", [], [pir_tensor(2, [8])])),
    "a resize by infinity": _resized(),
    "a Block that nothing runs": _unowned(),
    "Blocks that two Operators run": _shared(40),
}


@pytest.mark.parametrize("name", _TAKEN)
@pytest.mark.slow
def test_what_is_odd_is_read_paired_and_drawn(name: str, tmp_path: Path, monkeypatch: Any) -> None:
    path = _written(tmp_path, _TAKEN[name])
    monkeypatch.chdir(tmp_path)
    with_model(path, gt.read(path))


def test_saved_tensors_that_no_array_can_hold_are_refused(tmp_path: Path) -> None:
    """A dim of 0 leaves no bytes to be missing."""
    described = b"\x08\x05" + b"\x10\x00" + b"\x10" + b"\xff" * 8 + b"\x7f"
    path = tmp_path / "model.pdiparams"
    path.write_bytes(struct.pack("<IQIi", 0, 0, 0, len(described)) + described)
    found = refused(GraphtoolError, read_tensors, path)
    assert "no tensor at byte 0: its dtype or shape is invalid" in found.message


def test_dims_that_old_paddle_computed_from_unknown_ones_are_unknown(tmp_path: Path) -> None:
    path = _written(tmp_path, _relu([-1, 8, -7]))
    assert gt.read(path).values["relu_0"].shape == (-1, 8, -1)


@pytest.mark.slow
def test_many_parameters_of_one_name_get_short_names(tmp_path: Path) -> None:
    path = _written(tmp_path, _pir(_FEED, *(_parameter(n, "w") for n in range(2, 3002))))
    names = [value.name for value in gt.read(path).parameters]
    assert names[:6] == ["w", "%w", "%%w", "%%%w", "%4%w", "%5%w"]
    assert names[-1] == "%2999%w"


def test_many_blocks_beside_each_other_are_read(tmp_path: Path) -> None:
    """Each sees the ones around it alone."""
    program = _legacy(blocks=2_000)
    for block in list(program.blocks)[1:]:
        block.parent_idx = 0
    assert len(gt.read(_written(tmp_path, program.SerializeToString())).blocks) == 2_000
