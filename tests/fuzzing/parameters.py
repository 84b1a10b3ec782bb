"""Files of parameters: `.pdiparams`, one tensor after another, and `.pdparams`, a pickle."""

from __future__ import annotations

import pickle
import pickletools
import struct
from collections.abc import Callable
from math import prod
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import graphtool as gt
from graphtool.merging import check_merge
from graphtool.readers.tensor_files import parameter_file_facts, read_tensors
from graphtool.readers.weights import read_weights
from tests.fuzzing.cases import Subject
from tests.fuzzing.models import FIXTURES, all_of
from tests.fuzzing.spoiling import BYTES, NUMBERS, number, rearranged

_MODELS = {
    "control.pdiparams": FIXTURES / "3.3.1" / "control.json",
    "legacy.pdiparams": FIXTURES / "3.3.1-legacy" / "control.pdmodel",
}
_MODEL = _MODELS["control.pdiparams"].read_bytes()


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*written, value))


def _tensor(random: Random) -> bytes:
    """Write a tensor whose header may say anything."""
    dims = [random.choice((0, 1, 2, number(random))) for _ in range(random.choice((0, 1, 2, 4)))]
    if random.random() < 0.1:
        dims = [2] * 1300
    packed = b"".join(map(_varint, dims))
    described = b"\x08" + _varint(random.choice((5, 5, 5, 3, 0, 7, 22, 99, number(random))))
    if random.random() < 0.5:
        described += b"\x12" + _varint(random.choice((len(packed), number(random)))) + packed
    else:
        described += b"".join(b"\x10" + _varint(dim) for dim in dims)
    levels = random.choice((0, 0, 0, 1, 17, 2**63))
    lods = b"".join(
        struct.pack("<Q", random.choice((0, 8, 2**63, 2**64 - 1))) for _ in range(min(levels, 2))
    )
    length = len(described) if random.random() < 0.8 else random.choice((-1, 0, 4097, 2**31 - 1))
    versions = random.choices((0, 1), (3, 1), k=2)
    head = struct.pack("<IQ", versions[0], levels) + lods + struct.pack("<Ii", versions[1], length)
    content = random.randbytes(min(4 * abs(prod(dims)), 64) if random.random() < 0.8 else 3)
    return head + described + content


def _headers(random: Random, data: bytes) -> bytes:
    """Put a tensor before, behind or inside of honest ones."""
    at = random.choice((0, 0, len(data), random.randrange(len(data))))
    return data[:at] + _tensor(random) + random.choice((b"", data[at:]))


def _integers(random: Random, data: bytes) -> bytes:
    """Overwrite four or eight bytes with a number that is likely to break something."""
    width = random.choice((4, 8))
    value = random.choice(NUMBERS) & (2 ** (8 * width) - 1)
    at = random.randrange(max(1, min(40, len(data)) - width))
    return data[:at] + value.to_bytes(width, "little") + data[at + width :]


def _combined(data: bytes, folder: Path) -> None:
    path = folder / "model.pdiparams"
    path.write_bytes(data)
    (folder / "model.json").write_bytes(_MODEL)
    model = str(folder / "model.json")
    graph = gt.read(model)
    feeds = {name: name for name in graph.feeds}
    all_of(
        lambda: parameter_file_facts(path),
        lambda: read_tensors(path),
        lambda: read_weights(path, graph),
        lambda: check_merge(model, model, feeds),
        lambda: check_merge(model, model, feeds, restored=True),
    )


def _pickled(data: bytes, folder: Path) -> None:
    path = folder / "model.pdparams"
    path.write_bytes(data)
    (folder / "model.json").write_bytes(_MODEL)
    read_weights(path, gt.read(folder / "model.json"))


# A state dict, pickled in the protocols that Paddle writes.
_STATE = {
    "conv.weight": np.ones((3, 4), "float32"),
    "conv.bias": np.zeros(3, "float16"),
    "empty": np.zeros((0, 2), "int64"),
    "StructuredToParameterName@@": {"conv.weight": "conv2d_0.w_0"},
    "epoch": 3,
}
_BOMBS: tuple[Callable[[Random], bytes], ...] = (
    lambda _: b"cos\nsystem\n" + b"(S'true'\ntR",
    lambda random: b"r" + struct.pack("<I", random.choice((2**31 - 1, 2**32 - 1, 10**8, 5000))),
    lambda random: b"\x8a" + bytes((255,)) + random.randbytes(255),
    lambda random: b"\x8b" + struct.pack("<i", random.choice((2**31 - 1, -1, 10**6))),
    lambda random: b"\x8e" + struct.pack("<Q", random.choice((2**63, 2**40, 2**31))),
    lambda random: b"\x96" + struct.pack("<Q", random.choice((2**63 - 1, 2**40, 2**31, 2**28))),
    lambda random: b"\x8d" + struct.pack("<Q", random.choice((2**64 - 1, 2**36, 2**28))),
    lambda random: b"\x95" + struct.pack("<Q", random.choice((2**63 - 1, 2**36, 2**28))),
    lambda random: b"(" * random.choice((3, 1000, 200_000)),
    lambda random: b"]" + b"]a" * 3 + b"2" * random.choice((3, 1000, 100_000)),
    lambda random: b")" + b"\x85" * random.choice((3, 1000, 100_000)),
    lambda random: b"I" + b"9" * random.choice((10, 5000, 200_000)) + b"\n",
    lambda random: b"L" + b"9" * random.choice((10, 4000, 200_000)) + b"L\n",
    lambda _: b"F1e999\n",
    lambda _: b"P1\n",
    lambda _: b"\x82\x01",
    lambda _: b"}b",
    lambda _: b"\x8f(K\x01\x90",
    lambda random: b"0" * random.choice((1, 50)),
    lambda random: b"cnumpy\ndtype\n(S'V" + str(random.choice(NUMBERS)).encode()[:20] + b"'\ntR",
    lambda random: b"cnumpy\ndtype\n(S'" + b"i4," * random.choice((3, 2000)) + b"i4'\ntR",
    lambda _: b"cnumpy\nndarray\n)\x81",
    lambda random: (
        b"cnumpy.core.numeric\n_frombuffer\n(\x96" + struct.pack("<Q", 4) + b"abcd"
        b"cnumpy\ndtype\nS'f4'\n\x85R(I"
        + str(random.choice(NUMBERS))[:19].encode()
        + b"\ntS'C'\ntR"
    ),
)


def _opcodes(random: Random, data: bytes) -> bytes:
    """Put opcodes between honest ones that name, allocate or nest what they should not."""
    starts = [at for _, _, at in pickletools.genops(data)]
    at = random.choice(starts)
    bomb = random.choice(_BOMBS)(random)
    return data[:at] + bomb + random.choice((b"", b"0")) + data[at:]


def _exchanged(random: Random, data: bytes) -> bytes:
    """Take honest opcodes out, repeat or exchange them."""
    starts = [at for _, _, at in pickletools.genops(data)]
    pieces = [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]
    return b"".join(rearranged(random, pieces, 100))


def _objects(random: Random, _: bytes) -> bytes:
    """Pickle state dicts of other things than arrays."""
    array = np.arange(4, dtype="float32")
    odd: tuple[Any, ...] = (
        *({}, [], None, 7, {1: array}),
        {"a": {"b": array}},
        {"a": [array]},
        {"a": np.array(["x"])},
        {"a": np.array([object], dtype=object)},
        {"a": np.zeros(2, "M8[s]")},
        {"a": np.zeros(2, [("x", "f4")])},
        {"a": np.float32(1)},
        {"a": np.arange(4, dtype=">f4")},
        {"a": np.asfortranarray(np.ones((3, 2)))},
        {"a": array, "StructuredToParameterName@@": []},
        {"a": array, "StructuredToParameterName@@": {"a": array, 3: "x", "b": "y"}},
        {("a", 1): array, None: array, b"x": array},
        {"\ud800": array, "x" * 100_000: array},
        {"a": array[::2]},
        {"a": np.zeros((0, 2**40))},
    )
    return pickle.dumps(random.choice(odd), random.choice((2, 3, 4, 5)))


SUBJECTS = (
    Subject(
        "pdiparams",
        {name: model.with_suffix(".pdiparams").read_bytes() for name, model in _MODELS.items()},
        {**BYTES, "headers": _headers, "integers": _integers},
        _combined,
    ),
    Subject(
        "pdparams",
        {f"protocol{number}": pickle.dumps(_STATE, number) for number in (2, 4, 5)},
        {**BYTES, "opcodes": _opcodes, "exchange": _exchanged, "objects": _objects},
        _pickled,
    ),
)
