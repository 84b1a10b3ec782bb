"""Read and write `.pdiparams` files, which are plain binary, without Paddle."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, TypeAlias

from graphtool.diagnostics import Diagnostic, ReadError
from graphtool.dtypes import BY_CODE, BY_NAME
from graphtool.graph import Shape
from graphtool.readers.files import check_not_special
from graphtool.readers.problems import damaged_weights
from graphtool.readers.program_desc import parse_program, program_message

__all__ = [
    "ParameterFileFacts",
    "Tensor",
    "digest",
    "parameter_file_facts",
    "read_tensors",
    "write_tensors",
]

# A NumPy array, whose dtype is known only when a file is read.
_Array: TypeAlias = Any


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An array and its dtype: bfloat16 is stored as uint16, float8 as uint8."""

    array: _Array
    dtype: str

    @property
    def shape(self) -> Shape:
        """The dims."""
        return tuple(self.array.shape)

    @classmethod
    def of(cls, array: _Array) -> Tensor:
        """Wrap an array from Paddle, in which uint16 is bfloat16."""
        name = str(array.dtype)
        return cls(array, "bfloat16" if name == "uint16" else name)


def read_tensors(path: Path) -> tuple[Tensor, ...]:
    """Read all tensors of a combined file, in file order; it has no names.

    Raises ReadError: GT240 if the file is not a sequence of whole tensors, GT010 for a pipe, device
    or socket.
    """
    import numpy as np

    headers = _headers(str(path))
    try:
        with path.open("rb") as file:
            tensors: list[Tensor] = []
            for shape, dtype, offset in headers:
                file.seek(offset)
                array: _Array = np.fromfile(file, BY_NAME[dtype].storage, prod(shape))
                tensors.append(Tensor(array.reshape(shape), dtype))
            return tuple(tensors)
    except ValueError:
        reason = "it was cut short while it was read"
        raise ReadError(_no_tensor_at(str(path), 0, reason)) from None


def write_tensors(path: Path, tensors: Iterable[Tensor]) -> None:
    """Write tensors one after another, in the format of `save_inference_model`."""
    with path.open("wb") as file:
        for tensor in tensors:
            file.write(_header(tensor))
            file.write(tensor.array.tobytes())


def _header(tensor: Tensor) -> bytes:
    """Return version, no level of detail, version, and the TensorDesc."""
    fields: dict[str, Any] = {"data_type": BY_NAME[tensor.dtype].code, "dims": tensor.shape}
    desc = program_message("Tensor")(**fields).SerializeToString()
    return struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc


def digest(names: Iterable[str], tensors: Iterable[Tensor], *, head: bytes = b"") -> str:
    """Return a digest of `head` and the names, dtypes, shapes and bytes of tensors, in order."""
    from hashlib import blake2b

    hasher = blake2b(head, digest_size=16)
    for name, tensor in zip(names, tensors, strict=True):
        hasher.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode("utf-8", "surrogatepass"))
        hasher.update(tensor.array.tobytes())
    return hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class ParameterFileFacts:
    """Shape and dtype of each tensor of a combined `.pdiparams`, in file order; it has no names."""

    path: str
    tensors: tuple[tuple[Shape, str], ...]


_MAX_LOD_LEVELS, _MAX_TENSOR_DESC, _MAX_DIMS = 16, 4096, 32


def _no_tensor_at(path: str, offset: int, reason: str) -> Diagnostic:
    return damaged_weights(path, f"no tensor at byte {offset}: {reason}")


def parameter_file_facts(path: str | PathLike[str]) -> ParameterFileFacts:
    """Read the shapes and dtypes of a combined `.pdiparams`, or `__params__`, without Paddle.

    The data is skipped. `save_inference_model` writes tensors in the order of their names.

    Raises ReadError: GT240 if it is not such a file, GT010 for a pipe, device or socket.
    """
    name = fspath(path)
    return ParameterFileFacts(name, tuple((shape, dtype) for shape, dtype, _ in _headers(name)))


def _headers(path: str) -> list[tuple[Shape, str, int]]:
    """Return the shape and dtype of each tensor of a file, and where its data begins."""
    try:
        check_not_special(Path(path))
        with Path(path).open("rb") as file:
            size, headers = file.seek(0, 2), list[tuple[Shape, str, int]]()
            start = file.seek(0)
            while start < size:
                headers.append(_header_at(path, file, start, size))
                start = file.tell()
            return headers
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReadError(_no_tensor_at(path, 0, reason)) from None


def _header_at(path: str, file: IO[bytes], start: int, size: int) -> tuple[Shape, str, int]:
    """Read the header of a tensor, and skip its data."""
    from google.protobuf.message import DecodeError

    try:
        shape, dtype, data_size = _read_header(file)
    except (struct.error, ValueError, DecodeError) as error:
        reason = str(error) if type(error) is ValueError else "it ends inside a tensor"
        raise ReadError(_no_tensor_at(path, start, reason)) from None
    offset = file.tell()
    if offset + data_size > size:
        reason = f"{offset + data_size - size} bytes of its data are missing"
        raise ReadError(_no_tensor_at(path, start, reason))
    file.seek(data_size, 1)
    return shape, dtype, offset


def _read_header(file: IO[bytes]) -> tuple[Shape, str, int]:
    """Read version, levels of detail, version and TensorDesc; return shape, dtype and data size."""
    version, levels = _unpack(file, "<IQ")
    if version or levels > _MAX_LOD_LEVELS:
        raise ValueError("its version is unknown")
    for _ in range(levels):
        (length,) = _unpack(file, "<Q")
        file.seek(length, 1)
    version, length = _unpack(file, "<Ii")
    if version or not 0 < length <= _MAX_TENSOR_DESC:
        raise ValueError("its version is unknown")
    desc, unknown = parse_program(file.read(length), "Tensor")
    if unknown:
        raise ValueError("its description has an unknown field")
    shape = tuple(desc.dims)
    dtype = BY_CODE.get(desc.data_type) if desc.HasField("data_type") else None
    if dtype is None or dtype.json is None or len(shape) > _MAX_DIMS or min(shape, default=0) < 0:
        raise ValueError("its dtype or shape is invalid")
    # NumPy counts bytes in 64 bits, skipping dims of 0.
    if dtype.size * prod(filter(None, shape)) > sys.maxsize:
        raise ValueError("its dtype or shape is invalid")
    return shape, dtype.name, dtype.size * prod(shape)


def _unpack(file: IO[bytes], format: str) -> tuple[int, ...]:
    return struct.unpack(format, file.read(struct.calcsize(format)))
