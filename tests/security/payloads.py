"""Files that would run code, lead out of their folder or eat all memory, were they trusted.

`python -m tests.security.payloads` loads each bomb in a process of its own, under limits.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

# The environment variable that names the folder which a payload makes when it runs.
MARKER = "GRAPHTOOL_PLANTED"


class Payload:
    """Makes a folder where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ[MARKER],)


def pickles() -> dict[str, bytes]:
    """Return pickles that make a folder when they are loaded, by how they do it."""
    path = os.environ[MARKER].encode()
    text = b"X" + struct.pack("<I", len(path)) + path
    found = {
        f"reduce {number}": pickle.dumps({"linear_0.w_0": Payload()}, number) for number in range(6)
    }
    streams = {
        "instance": b"(V" + path + b"\nios\nmkdir\n",
        "object": b"(cos\nmkdir\n" + text + b"o",
        "new object": b"cbuiltins\nmap\ncos\nmkdir\n(" + text + b"t\x86\x81",
        "new object with keys": b"cos\nmkdir\n" + text + b"\x85}\x92",
        "stack global": b"\x8c\x02os\x8c\x05mkdir\x93" + text + b"\x85R",
        "getattr": b"cbuiltins\ngetattr\ncos\nmkdir\nX\x08\x00\x00\x00__call__\x86R"
        + text
        + b"\x85R",
        "eval": b"cbuiltins\neval\nX\x1c\x00\x00\x00__import__('os').mkdir('x')\x85R",
        "persistent id": b"Pos.mkdir\n",
        "binary persistent id": text + b"Q",
        "extension": b"\x82\x01",
        "function of numpy": b"cnumpy\nload\n" + text + b"\x85R",
        "loader of numpy": b"cnumpy.ctypeslib\nload_library\n" + text + text + b"\x86R",
        "runner of numpy": b"cnumpy.testing._private.utils\nrunstring\n" + text + b"}\x86R",
        "inside numpy": b"\x8c\x05numpy\x8c\x0adtype.type\x93" + text + b"\x85R",
        "attribute of a function": b"cnumpy.core.multiarray\n_reconstruct\nN}X\x08\x00\x00\x00"
        b"__code__cos\nmkdir\ns\x86b",
        "attribute of a class": b"cnumpy\ndtype\nN}X\x07\x00\x00\x00__new__cos\nmkdir\ns\x86b",
    }
    return found | {name: b"\x80\x04" + stream + b"." for name, stream in streams.items()}


def bombs() -> dict[str, bytes]:
    """Return small pickles that crash Python's own unpickler, hang it, or take all memory."""
    key = b"\x80\x02}(K\x01"
    text = b"\x80\x02X\x40\x42\x0f\x00"
    hashes = ((k * (2**61 - 1)).to_bytes(10, "little") for k in range(60_000))
    equal = (b"\x8a\x0a" + number + b"N" for number in hashes)
    encoded = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    return {
        "memo": b"\x80\x02}r\xff\xff\xff\x7f.",
        "deep key": key + b"\x85" * 1_000_000 + b"K\x01u.",
        "doubled key": key + b"q\x00h\x00\x86" * 64 + b"K\x01u.",
        "doubled dtype": b"\x80\x02cnumpy\ndtype\nK\x01" + b"q\x00h\x00\x86" * 64 + b"\x85R.",
        "texts": text + b"x" * 1_000_000 + b"q\x00](" + encoded * 2000 + b"e.",
        "long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"ab.",
        "long bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"ab.",
        "equal hashes": b"\x80\x02}(" + b"".join(equal) + b"u.",
        "many dicts": b"\x80\x02](" + b"}" * 5_000_000 + b"e.",
        "addresses": _array(b"O8", b"|", 1, b"A" * 8),
        "size of a text": _array(b"U1", b"<", 2**31 - 1, b"A" * 4),
        "shape": _array(b"f4", b"<", 2**31 - 1, b"A" * 4),
    }


def _array(dtype: bytes, order: bytes, dim: int, data: bytes) -> bytes:
    """Pickle an array of a dtype whose state says that it holds no objects."""
    return b"".join(
        (
            b"\x80\x04}X\x0c\x00\x00\x00linear_0.w_0",
            b"cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R",
            b"(K\x01J" + struct.pack("<i", dim) + b"\x85",
            b"cnumpy\ndtype\nX\x02\x00\x00\x00" + dtype + b"\x89\x88\x87R",
            b"(K\x03X\x01\x00\x00\x00" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
            b"\x89C" + bytes((len(data),)) + data + b"tbs.",
        )
    )


def header(dtype: str, shape: str, data: bytes = b"") -> bytes:
    """Write a `.npy` whose header says what it is told to."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}\n".encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def arrays() -> dict[str, bytes]:
    """Return `.npy` files that hold pickles, code, or shapes that nothing has."""
    buffer = io.BytesIO()
    np.save(buffer, np.array([Payload()], dtype=object), allow_pickle=True)
    return {
        "objects": buffer.getvalue(),
        "pickle": pickle.dumps(Payload(), 4),
        "call": header("__import__('os').mkdir('x')", "(1,)"),
        "call for a shape": header("'<f4'", "(__import__('os').mkdir('x'),)"),
        "terabyte": header("'<f4'", "(1000000000000,)", bytes(16)),
        "beyond numbers": header("'<f4'", f"({10**30},)", bytes(16)),
        "wrapped around": header("'<f4'", f"({2**32}, {2**32})", bytes(16)),
        "nothing times much": header("'<f4'", f"(0, {10**17}, {10**17})"),
        "negative": header("'<f4'", "(-4,)", bytes(16)),
        "truth": header("'<f4'", "(True,)", bytes(16)),
        "brackets": header("(" * 4000, "(1,)"),
        "signs": header("-" * 4000 + "1", "(1,)"),
        "open text": header("'''", "(1,)"),
        "gigabyte of header": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**30),
        "structured": header("[('a', '<f4')]", "(1,)", bytes(4)),
        "giant text": header("'<U999999999'", "(1,)"),
        "no format": b"\x93NUMPY\x63\x00",
        "empty": b"",
    }


def archives() -> dict[str, bytes]:
    """Return `.npz` files: those of `arrays`, bombs, and what no `.npz` is."""
    whole = header("'<f4'", "(4,)", bytes(16))
    packed = _packed({"x.npy": whole})
    directory = packed.index(b"PK\x01\x02")
    odd, locked, large = bytearray(packed), bytearray(packed), bytearray(packed)
    odd[directory + 10] = 99
    locked[directory + 8] |= 1
    large[directory + 24 : directory + 28] = struct.pack("<I", 2**31)
    return {
        **{name: _packed({"x.npy": data}) for name, data in arrays().items()},
        "no array": _packed({"../x": pickle.dumps(Payload(), 4)}),
        "unknown packing": bytes(odd),
        "locked": bytes(locked),
        "two gigabytes": bytes(large),
        "cut short": packed[:-30],
        "nothing": _packed({}),
    }


def _packed(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def swollen() -> bytes:
    """Return a `.npz` of 300 kB that holds 300 MB."""
    data = header("'<f4'", "(4, 6250000)") + bytes(100_000_000)
    return _packed({f"x{number}.npy": data for number in range(3)})


def main() -> None:
    """Load each bomb."""
    import graphtool as gt
    from graphtool.evidence.samples import read_arrays
    from graphtool.readers.weights import read_weights
    from tests.fuzzing.cases import Limits, run

    graph = gt.read(Path(__file__).parents[1] / "fixtures" / "3.3.1" / "cnn.json")
    limits = Limits(seconds=20.0, memory=256 << 20)

    def load(data: bytes, folder: Path) -> None:
        path = folder / ("x.npz" if data.startswith(b"PK") else "net.pdparams")
        path.write_bytes(data)
        read_arrays(path) if path.suffix == ".npz" else read_weights(path, graph)

    every = {**bombs(), "archive": swollen()}
    results = {name: run(load, data, limits) for name, data in every.items()}
    print(json.dumps({name: f"{x.outcome.value} {x.what}" for name, x in results.items()}))


if __name__ == "__main__":
    main()
