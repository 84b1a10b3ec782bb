"""Read and write tensors as Paddle keeps them in `.pdiparams`: plain binary, no code in it."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, TypeAlias

from graphtool.diagnostics import ReadError
from graphtool.graph import NOT_KEPT, Shape, Value
from graphtool.readers._paddle import load_paddle
from graphtool.readers.facts import damaged_parameter_file, parameter_file_facts, scope_facts

__all__ = [
    "Tensor",
    "copy_of",
    "digest",
    "empty_like",
    "filled",
    "held_tensors",
    "is_untouched",
    "private_scope",
    "read_tensors",
    "scope_tensors",
    "set_empty",
    "set_tensors",
    "share_tensors",
    "without_elements",
    "write_tensors",
]

# Scopes, their tensors and Places are of Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any
# A NumPy array: what its elements are is known when the file is read, not before.
_Array: TypeAlias = Any

_CODES = {
    "bool": 0,
    "int16": 1,
    "int32": 2,
    "int64": 3,
    "float16": 4,
    "float32": 5,
    "float64": 6,
    "uint8": 20,
    "int8": 21,
    "bfloat16": 22,
    "complex64": 23,
    "complex128": 24,
    "float8_e4m3fn": 32,
    "float8_e5m2": 33,
}
# NumPy has none of these: their bits are kept in whole numbers, as Paddle itself hands them out.
_CARRIERS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}

# This share of all vectors, each of one number throughout, are as initialisers leave them.
_UNTOUCHED = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An array and its dtype: bfloat16 lies in an array of uint16, float8 in one of uint8."""

    array: _Array
    dtype: str

    @property
    def shape(self) -> Shape:
        """The dims."""
        return tuple(self.array.shape)

    @classmethod
    def of(cls, array: _Array) -> Tensor:
        """Take an array that Paddle handed out, where uint16 stands for bfloat16."""
        name = str(array.dtype)
        return cls(array, "bfloat16" if name == "uint16" else name)


def filled(tensor: Tensor, number: float) -> Tensor:
    """Return a tensor of the same shape and floating-point dtype that holds one number."""
    import numpy as np

    if tensor.dtype != "bfloat16":
        return Tensor(np.full_like(tensor.array, number), tensor.dtype)
    convert = load_paddle().base.data_feeder.convert_float_to_uint16
    return Tensor(convert(np.full(tensor.shape, number, "float32")), tensor.dtype)


def read_tensors(path: Path) -> tuple[Tensor, ...]:
    """Read all tensors of a file, in file order: it holds no names.

    Raises ReadError: GT240 where the file is not one whole tensor after another, GT017.
    """
    facts = parameter_file_facts(path)
    try:
        with path.open("rb") as file:
            return tuple([_read(file, shape, dtype) for shape, dtype in facts.tensors])
    except (struct.error, ValueError):
        reason = "it was cut short while it was read"
        raise ReadError(damaged_parameter_file(str(path), 0, reason)) from None


def _read(file: IO[bytes], shape: Shape, dtype: str) -> Tensor:
    import numpy as np

    _skip_header(file)
    array: _Array = np.fromfile(file, _CARRIERS.get(dtype, dtype), prod(shape))
    return Tensor(array.reshape(shape), dtype)


def _skip_header(file: IO[bytes]) -> None:
    _, levels = struct.unpack("<IQ", file.read(12))
    for _ in range(levels):
        file.seek(struct.unpack("<Q", file.read(8))[0], 1)
    _, length = struct.unpack("<Ii", file.read(8))
    file.seek(length, 1)


def write_tensors(path: Path, tensors: Iterable[Tensor]) -> None:
    """Write tensors one after another, as `save_inference_model` writes a combined file."""
    with path.open("wb") as file:
        for tensor in tensors:
            file.write(_header(tensor))
            file.write(tensor.array.tobytes())


def _header(tensor: Tensor) -> bytes:
    """Write a version, no level of detail, a version, and the TensorDesc: dtype, then the dims."""
    described = b"".join(_varints(tensor))
    return struct.pack("<IQIi", 0, 0, 0, len(described)) + described


def _varints(tensor: Tensor) -> Iterator[bytes]:
    yield b"\x08" + _varint(_CODES[tensor.dtype])
    for dim in tensor.shape:
        yield b"\x10" + _varint(dim)


def _varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def digest(names: Iterable[str], tensors: Iterable[Tensor], *, head: bytes = b"") -> str:
    """Return a digest of tensors: their names, dtypes, shapes and bytes, in order, after `head`."""
    from hashlib import blake2b

    found = blake2b(head, digest_size=16)
    for name, tensor in zip(names, tensors, strict=True):
        found.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode("utf-8", "surrogatepass"))
        found.update(tensor.array.tobytes())
    return found.hexdigest()


def scope_tensors(scope: _Paddle, names: Iterable[str]) -> Iterator[Tensor]:
    """Copy initialised Variables out of a scope, in order, one at a time."""
    import numpy as np

    for name in names:
        yield Tensor.of(np.array(scope.find_var(name).get_tensor()))


def held_tensors(scope: _Paddle, names: Iterable[str]) -> dict[str, _Paddle]:
    """Return what a Scope holds under names; those that are not initialised are left out."""
    facts = scope_facts(scope, names).variables
    return {
        name: scope.find_var(name).get_tensor() for name, fact in facts.items() if fact.initialised
    }


def share_tensors(tensors: Mapping[str, _Paddle], scope: _Paddle) -> None:
    """Set Variables of a Scope to tensors, whose buffers they share."""
    for name, tensor in tensors.items():
        # Paddle has no public way to hand a buffer over.
        scope.var(name).get_tensor()._share_data_with(tensor)  # noqa: SLF001


def is_untouched(scope: _Paddle, known: Mapping[str, Value]) -> bool | None:
    """Tell whether nearly all vectors that a network keeps are of one number throughout.

    Initialisers set biases and shifts to 0, scales to 1, running means to 0 and variances to 1;
    training moves each of them. None where it keeps no vectors, so that nothing tells.
    """
    import numpy as np

    vectors = [
        np.array(scope.find_var(name).get_tensor())
        for name, value in known.items()
        if len(value.shape or ()) == 1 and value.shape != (1,)
    ]
    alike = [vector for vector in vectors if vector.size and (vector == vector[0]).all()]
    return len(alike) >= _UNTOUCHED * len(vectors) if vectors else None


def set_tensors(tensors: Mapping[str, Tensor], scope: _Paddle | None = None) -> None:
    """Set Variables of a scope, the global one unless given; each stays on the device it is on.

    Each gets a buffer of its own: another Scope may share the one that it has.
    """
    paddle = load_paddle()
    home = paddle.static.global_scope() if scope is None else scope
    usual = _place(paddle)
    for name, tensor in tensors.items():
        held = home.var(name).get_tensor()
        new = empty_like(held)
        new.set(tensor.array, _place_of(paddle, held) or usual)
        held._share_data_with(new)  # noqa: SLF001  # Paddle has no public way to hand a buffer over


def set_empty(known: Mapping[str, Value], scope: _Paddle | None = None) -> None:
    """Give a Scope what no file has: states of dropout, which are empty until a GPU fills them."""
    import numpy as np

    home = load_paddle().static.global_scope() if scope is None else scope
    names = [name for name in known if name.endswith(NOT_KEPT)]
    held = held_tensors(home, names)
    empty = {
        name: Tensor(np.empty([0], known[name].dtype or "uint8"), known[name].dtype or "uint8")
        for name in names
        if name not in held
    }
    set_tensors(empty, home)


@contextmanager
def private_scope() -> Generator[_Paddle]:
    """Hand out a Scope whose tensors are freed afterwards: Paddle frees no Scope before it exits.

    Neither the Scope nor what was found in it may be used then; what shares its buffers may.
    """
    scope = load_paddle().base.core.Scope()
    try:
        yield scope
    finally:
        scope._remove_from_pool()  # noqa: SLF001  # Paddle has no public way to free a Scope


def empty_like(tensor: _Paddle) -> _Paddle:
    """Return a tensor of the same class, which is called otherwise from release to release."""
    return type(tensor)()


def without_elements(tensor: _Paddle, dtype: str, shape: Sequence[int] = (0,)) -> _Paddle:
    """Return a tensor of the same class that is initialised, and holds nothing."""
    import numpy as np

    empty = empty_like(tensor)
    empty.set(np.empty(shape, dtype), load_paddle().CPUPlace())
    return empty


def copy_of(tensor: _Paddle, place: _Paddle | None = None) -> _Paddle:
    """Copy a tensor to a place, its own one where None."""
    if 0 in tensor.shape():
        return tensor  # Paddle gives the copy of an empty tensor no memory, and then refuses it.
    return tensor._copy(tensor._place() if place is None else place)  # noqa: SLF001


def _place(paddle: _Paddle) -> _Paddle:
    """Return the place that Paddle runs on unless told otherwise."""
    kind, _, number = paddle.device.get_device().partition(":")
    return _numbered(paddle, kind, int(number or 0))


def _place_of(paddle: _Paddle, tensor: _Paddle) -> _Paddle | None:
    """Return where a tensor lies, None where it holds nothing yet."""
    if not tensor._is_initialized():  # noqa: SLF001  # there is no public spelling
        return None
    place = tensor._place()  # noqa: SLF001
    if place.is_gpu_place():
        return paddle.CUDAPlace(place.gpu_device_id())
    return paddle.CPUPlace() if place.is_cpu_place() else None


def _numbered(paddle: _Paddle, kind: str, number: int) -> _Paddle:
    if kind == "cpu":
        return paddle.CPUPlace()
    named = {"gpu": "CUDAPlace", "xpu": "XPUPlace"}.get(kind)
    return getattr(paddle, named)(number) if named else paddle.CustomPlace(kind, number)
