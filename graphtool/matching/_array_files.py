"""Read arrays from untrusted `.npy` and `.npz` files.

`numpy.load` trusts a file: shapes of a terabyte, headers that are parsed as code, archives in which
a megabyte expands to a gigabyte.
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

# NumPy arrays, of the dtype in the file.
_Array: TypeAlias = Any

_MAGIC = b"\x93NUMPY"
# The size in bytes of the header length, by version of the format.
_LENGTH_SIZES = {1: 2, 2: 4, 3: 4}
_LONGEST_HEADER = 10_000
_HEADER = re.compile(
    r"\{'descr': (?P<dtype>.+), 'fortran_order': (?P<fortran_order>True|False), "
    r"'shape': \((?P<shape>[\d, ]*)\), ?\}\s*"
)
_NUMBERS = re.compile(r"'(?P<dtype>[<>=|](?:b1|[iu][1248]|f[248]|c8|c16))'")
_STRINGS = re.compile(r"'[<>=|][US]\d+'")
_MOST_DIMS, _MOST_DIGITS = 32, 18
_NOT_NUMERIC = "it holds no arrays of numbers, as `numpy.save` writes them"
# An archive may expand to this many bytes, and beyond that by this factor.
_MOST_EXPANDED, _MOST_GROWTH = 256 << 20, 20
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _ArrayHeader:
    """The header of an array in a file."""

    dtype: str
    shape: Shape
    fortran_order: bool

    @property
    def size(self) -> int:
        """The size of the array in bytes."""
        return prod(self.shape) * int(self.dtype[2:])

    def array(self, data: _Array) -> _Array:
        return data.view(self.dtype).reshape(self.shape, order="F" if self.fortran_order else "C")


def read_array(path: Path) -> _Array:
    """Open a `.npy` of numbers as a memory map.

    Raises ValueError with a reason for an invalid file. Raises OSError.
    """
    import numpy as np

    with path.open("rb") as file:
        header, start = _header(file), file.tell()
        size = file.seek(0, 2) - start
    if header is None:
        raise ValueError(_NOT_NUMERIC)
    _check_size(header, size)
    if not header.size:
        return header.array(np.empty(0, np.uint8))
    return header.array(np.memmap(path, np.uint8, "r", start, (header.size,)))


def read_archive(path: Path) -> dict[str, _Array]:
    """Read the numeric arrays of a `.npz` by name; arrays of strings are ignored.

    Raises ValueError with a reason for an invalid file. Raises OSError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = list(_members(archive, path.stat().st_size))
            found = ((name, _member(archive, name, member)) for name, member in members)
            arrays = {name: array for name, array in found if array is not None}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(str(error)) from None
    if not arrays:
        raise ValueError(_NOT_NUMERIC)
    return arrays


def _members(archive: zipfile.ZipFile, size: int) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    members = {one.filename: one for one in archive.infolist() if one.filename.endswith(".npy")}
    expanded = sum(one.file_size for one in archive.infolist())
    if expanded > _MOST_EXPANDED + _MOST_GROWTH * size:
        reason = f"its {size:,} bytes become {expanded:,}; `numpy.savez` writes it uncompressed"
        raise ValueError(reason)
    for name, member in members.items():
        if member.compress_type not in _COMPRESSIONS or member.flag_bits & _ENCRYPTED:
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
        while chunk := stream.read(min(_CHUNK, header.size - len(data))):
            data += chunk
    if len(data) != header.size:
        raise ValueError(f"`{name}` in it is cut short")
    return header.array(np.frombuffer(data, np.uint8))


def _header(file: IO[bytes], invalid: str = _NOT_NUMERIC) -> _ArrayHeader | None:
    """Read the header of an array; None for strings. `invalid` is the reason for other files."""
    start = file.read(len(_MAGIC) + 2)
    width = _LENGTH_SIZES.get(start[-2]) if start[:-2] == _MAGIC else None
    if width is None:
        raise ValueError(invalid)
    length = int.from_bytes(file.read(width), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header has {length:,} bytes")
    match = _HEADER.fullmatch(file.read(length).decode("latin1"))
    if match is None:
        raise ValueError("its header is not as `numpy.save` writes it")
    if _STRINGS.fullmatch(match["dtype"]):
        return None
    numbers = _NUMBERS.fullmatch(match["dtype"])
    dims = re.findall(r"\d+", match["shape"])
    if numbers is None:
        raise ValueError(invalid)
    if len(dims) > _MOST_DIMS or any(len(dim) > _MOST_DIGITS for dim in dims):
        raise ValueError("its shape is that of no array")
    return _ArrayHeader(
        dtype=numbers["dtype"],
        shape=tuple(map(int, dims)),
        fortran_order=match["fortran_order"] == "True",
    )


def _check_size(header: _ArrayHeader, size: int) -> None:
    if header.size > size:
        shape = ", ".join(map(str, header.shape))
        reason = f"an array [{shape}] takes {header.size:,} bytes, of which {size:,} are there"
        raise ValueError(reason)
