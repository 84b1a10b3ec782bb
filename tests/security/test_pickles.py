"""What honest picklers of every protocol write is read; what is a little wrong is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import graphtool as gt
from graphtool.diagnostics import GraphtoolError
from graphtool.readers.pickles import unpickled
from graphtool.readers.weights import Weights, read_weights
from tests.refused import refused

MODEL = Path(__file__).parents[1] / "fixtures" / "3.3.1" / "cnn.json"


def why(act: Callable[[], object]) -> str:
    found = refused(GraphtoolError, act)
    assert found.code == "GT240"
    return found.message.partition(" cannot be read as parameters: not a state dict: ")[2]


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">i8", ">u2", ">c8", "|b1"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_an_array_of_either_order_of_bytes_is_in_that_of_the_machine(
    dtype: str, protocol: int
) -> None:
    array = np.arange(6).reshape(3, 2).astype(dtype)

    found = unpickled("net.pdparams", pickle.dumps({"w": array}, protocol))["w"]

    assert found.dtype.isnative
    assert (found.dtype, found.tolist()) == (array.dtype.newbyteorder("="), array.tolist())


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1)])
def test_a_transposed_array_is_read_as_it_was(axes: tuple[int, ...], protocol: int) -> None:
    array = np.arange(24, dtype="f4").reshape(2, 3, 4).transpose(axes)

    found = unpickled("net.pdparams", pickle.dumps({"w": array}, protocol))["w"]

    assert found.tolist() == array.tolist()


class FromBuffer:
    """Pickled as an array that lies in other axes."""

    def __init__(self, axes: Any) -> None:
        self.axes = axes

    def __reduce__(self) -> tuple[Any, ...]:
        from_buffer = cast("tuple[Any, ...]", np.zeros(2).__reduce_ex__(5))[0]
        return from_buffer, (bytes(range(1, 7)), np.dtype("u1"), (2, 3), "K", self.axes)


def test_axes_that_are_none_of_an_array_are_refused() -> None:
    good = unpickled("net.pdparams", pickle.dumps({"w": FromBuffer((1, 0))}, 5))["w"]

    assert good.tolist() == [[1, 4], [2, 5], [3, 6]]
    for axes in ((0, 0), (1,), (2, 3), "ab", 1, ("0", "1"), (2**70, 0)):
        said = why(lambda axes=axes: unpickled("x", pickle.dumps({"w": FromBuffer(axes)}, 5)))
        assert said in (
            "the axes of an array are invalid",
            "axes don't match array",
            "repeated axis in transpose",
            "its opcodes do not fit together",
        ), axes


@pytest.mark.nightly
def test_a_file_may_have_as_many_arrays_as_it_has_bytes_for() -> None:
    array = np.ones((1, 1), "f4")
    state = {f"w{number}": array.copy() for number in range(70_000)}
    data = pickle.dumps(state, 2)

    found = unpickled("net.pdparams", data)

    assert len(found) == 70_000
    assert found["w69999"].tolist() == [[1.0]]
    assert why(lambda: unpickled("x", b"\x80\x02](" + b"}" * 3_000_000 + b"e.")) == (
        "it has more than 2,000,000 opcodes"
    )


def sliced(path: Path, entry: object, **parts: object) -> Weights:
    """Read what `paddle.save` of protocol 2 writes of an array of more than a GiB."""
    held = {**parts, "b": np.zeros(2, "f4"), "UnpackBigParamInfor@@": entry}
    path.write_bytes(pickle.dumps(held, 2))
    return read_weights(path, gt.read(MODEL))


def test_the_slices_of_a_large_array_are_put_together(tmp_path: Path) -> None:
    parts = {"w@@.0": np.arange(4, dtype="f4"), "w@@.1": np.arange(4, 6, dtype="f4")}
    entry = {"w": {"OriginShape": (3, 2), "slices": list(parts)}}

    tensors = sliced(tmp_path / "net.pdparams", entry, **parts).tensors

    assert list(tensors) == ["b", "w"]
    assert tensors["w"].shape == (3, 2)
    assert tensors["w"].array.tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    "entry",
    [
        {"OriginShape": (3, 2), "slices": ["w@@.0"]},
        {"OriginShape": (2, 4), "slices": ["w@@.0", "w@@.0"]},
        {"OriginShape": (3, 2), "slices": ["w@@.0", "w@@.2"]},
        {"OriginShape": (3, 2), "slices": ["w@@.0", "other"]},
        {"OriginShape": (3, 2), "slices": []},
        {"OriginShape": "32", "slices": ["w@@.0", "w@@.1"]},
        {"OriginShape": (3, 2), "slices": 2},
        {"slices": ["w@@.0", "w@@.1"]},
        [],
    ],
)
def test_slices_that_make_no_array_are_refused(tmp_path: Path, entry: object) -> None:
    parts = {"w@@.0": np.arange(4, dtype="f4"), "w@@.1": np.arange(2, dtype="f4")}
    parts["other"] = np.arange(2, dtype="f8")

    said = why(lambda: sliced(tmp_path / "net.pdparams", {"w": entry}, **parts))

    assert said == "the slices of `w` do not make an array of its shape"


def text(word: str) -> bytes:
    data = word.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def views(count: int, order: str) -> bytes:
    """Return a dict of arrays of the same kilobyte, without the end."""
    state = b"(K\x03" + text(order) + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    dtype = named("numpy", "dtype") + b"(" + text("f4") + b"tR" + state
    shared = text("data") + b"B\x00\x04\x00\x00" + bytes(1024) + b"q\x00" + text("type") + dtype
    array = named("numpy", "ndarray") + b")R(K\x01M\x00\x01\x85h\x01\x89h\x00tb"
    each = b"".join(text(f"a{number}") + array for number in range(count))
    return b"\x80\x04}(" + shared + b"q\x01" + each


def joined(slices: bytes, shape: bytes) -> bytes:
    entry = text("slices") + slices + text("OriginShape") + shape
    return text("UnpackBigParamInfor@@") + b"}(" + text("big") + b"}(" + entry + b"uu"


NAMES = b"(" + b"".join(text(f"a{number}") for number in range(40)) + b"t"
ENDLESS = b")" + b"\x85" * 100_000


@pytest.mark.parametrize(
    "stream",
    [
        views(40, ">") + b"u.",
        views(40, "<") + joined(NAMES, b"M\x00\x28\x85") + b"u.",
        b"\x80\x04}(" + joined(ENDLESS + b"\x85", b")") + b"u.",
        views(1, "<") + joined(text("a0") + b"\x85", ENDLESS) + b"u.",
        b"\x80\x05}(" + text("d") + b"\x96" + (4).to_bytes(8, "little") + b"abcdq\x00"
        b"cnumpy\nndarray\n)R(K\x01K\x01\x85" + b"N\x89h\x00tb" + b"u.",
        b"\x80\x02X\x03\x00",
    ],
    ids=["swapped", "joined", "endless name", "endless shape", "no dtype", "cut inside a length"],
)
def test_what_is_cut_or_takes_more_memory_than_the_file_is_damage(
    tmp_path: Path, stream: bytes
) -> None:
    (tmp_path / "bad.pdparams").write_bytes(stream)
    found = refused(GraphtoolError, read_weights, tmp_path / "bad.pdparams", gt.read(MODEL))
    assert found.code == "GT240"
