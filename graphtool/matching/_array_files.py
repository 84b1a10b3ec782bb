"""Files of arrays as `numpy.save` and `numpy.savez` write them.

They are read here and not by `numpy.load`, which takes what such a file says of itself: shapes of a
terabyte, headers that are code to be parsed, archives of which a megabyte becomes a gigabyte.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, TypeAlias

from graphtool.graph import Shape

__all__ = ["read_archive", "read_array"]

# NumPy's arrays, of what the file says.
_Array: TypeAlias = Any

_MAGIC = b"\x93NUMPY"
# By the version of the format: how many bytes the length of the header takes.
_LENGTHS = {1: 2, 2: 4, 3: 4}
_LONGEST_HEADER = 10_000
_HEADER = re.compile(
    r"\{'descr': (?P<dtype>.+), 'fortran_order': (?P<by_columns>True|False), "
    r"'shape': \((?P<shape>[\d, ]*)\), ?\}\s*"
)
_NUMBERS = re.compile(r"'(?P<dtype>[<>=|](?:b1|[iu][1248]|f[248]|c8|c16))'")
_TEXTS = re.compile(r"'[<>=|][US]\d+'")
_MOST_DIMS, _MOST_DIGITS = 32, 18
_NO_NUMBERS = "it holds no arrays of numbers, as `numpy.save` writes them"
# An archive may become so many bytes, and beyond them so many times its own size.
_SMALL, _MOST_GROWTH = 256 << 20, 20
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """What a file says that its array is."""

    dtype: str
    shape: Shape
    by_columns: bool

    @property
    def size(self) -> int:
        """The bytes that the array takes."""
        return prod(self.shape) * int(self.dtype[2:])

    def array(self, data: _Array) -> _Array:
        return data.view(self.dtype).reshape(self.shape, order="F" if self.by_columns else "C")


def read_array(path: Path) -> _Array:
    """Open a `.npy` of numbers; what is taken of it is read when it is needed.

    Raises ValueError with a reason for what is none. Raises OSError.
    """
    import numpy as np

    with path.open("rb") as file:
        header, start = _header(file), file.tell()
        size = file.seek(0, 2) - start
    if header is None:
        raise ValueError(_NO_NUMBERS)
    _check_size(header, size)
    if not header.size:
        return header.array(np.empty(0, np.uint8))
    return header.array(np.memmap(path, np.uint8, "r", start, (header.size,)))


def read_archive(path: Path) -> dict[str, _Array]:
    """Read the arrays of numbers in a `.npz` by their names; texts beside them are left aside.

    Raises ValueError with a reason for what is none. Raises OSError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = list(_members(archive, path.stat().st_size))
            read = ((name, _member(archive, name, member)) for name, member in members)
            arrays = {name: array for name, array in read if array is not None}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(str(error)) from None
    if not arrays:
        raise ValueError(_NO_NUMBERS)
    return arrays


def _members(archive: zipfile.ZipFile, size: int) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    found = {one.filename: one for one in archive.infolist() if one.filename.endswith(".npy")}
    whole = sum(one.file_size for one in archive.infolist())
    if whole > _SMALL + _MOST_GROWTH * size:
        reason = f"its {size:,} bytes become {whole:,}; `numpy.savez` writes it uncompressed"
        raise ValueError(reason)
    for name, member in found.items():
        if member.compress_type not in _PLAIN or member.flag_bits & _ENCRYPTED:
            raise ValueError(f"`{name}` in it is packed in another way than numpy's")
        yield name.removesuffix(".npy"), member


def _member(archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> _Array | None:
    import numpy as np

    with archive.open(member) as stream:
        header = _header(stream, f"`{name}` in it holds no numbers")
        if header is None:
            return None
        _check_size(header, member.file_size - stream.tell())
        data = bytearray()
        while piece := stream.read(min(_PIECE, header.size - len(data))):
            data += piece
    if len(data) != header.size:
        raise ValueError(f"`{name}` in it is cut short")
    return header.array(np.frombuffer(data, np.uint8))


def _header(file: IO[bytes], none: str = _NO_NUMBERS) -> _Header | None:
    """Read up to the data of an array; None for one of texts."""
    start = file.read(len(_MAGIC) + 2)
    width = _LENGTHS.get(start[-2]) if start[:-2] == _MAGIC else None
    if width is None:
        raise ValueError(none)
    length = int.from_bytes(file.read(width), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header has {length:,} bytes")
    found = _HEADER.fullmatch(file.read(length).decode("latin1"))
    if found is None:
        raise ValueError("its header is not as `numpy.save` writes it")
    if _TEXTS.fullmatch(found["dtype"]):
        return None
    numbers = _NUMBERS.fullmatch(found["dtype"])
    dims = re.findall(r"\d+", found["shape"])
    if numbers is None:
        raise ValueError(none)
    if len(dims) > _MOST_DIMS or any(len(dim) > _MOST_DIGITS for dim in dims):
        raise ValueError("its shape is that of no array")
    return _Header(
        dtype=numbers["dtype"],
        shape=tuple(map(int, dims)),
        by_columns=found["by_columns"] == "True",
    )


def _check_size(header: _Header, size: int) -> None:
    if header.size > size:
        shape = ", ".join(map(str, header.shape))
        reason = f"an array [{shape}] takes {header.size:,} bytes, of which {size:,} are there"
        raise ValueError(reason)
