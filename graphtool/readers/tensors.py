"""Read and write the tensors of Scopes and of `.pdiparams` files, which are plain binary."""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any, TypeAlias

from graphtool.diagnostics import ReadError
from graphtool.dtypes import BY_NAME
from graphtool.graph import NON_PERSISTABLE_SUFFIX, Shape, Value
from graphtool.readers._paddle import load_paddle
from graphtool.readers.facts import damaged_parameter_file, parameter_file_facts, scope_facts

__all__ = [
    "Tensor",
    "copy_from_scope",
    "copy_tensor",
    "digest",
    "empty_tensor",
    "full_like",
    "initialised_tensors",
    "looks_untrained",
    "new_like",
    "private_scope",
    "read_tensors",
    "set_dropout_states",
    "set_tensors",
    "share_tensors",
    "write_tensors",
]

# Scopes, their tensors and Places belong to Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any
# A NumPy array, whose dtype is known only when a file is read.
_Array: TypeAlias = Any

# If this share of vectors is constant, initialisers set them and training did not.
_UNTRAINED_SHARE = 0.9


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


def full_like(tensor: Tensor, number: float) -> Tensor:
    """Return a constant tensor of the same shape and floating-point dtype."""
    import numpy as np

    if tensor.dtype != "bfloat16":
        return Tensor(np.full_like(tensor.array, number), tensor.dtype)
    convert = load_paddle().base.data_feeder.convert_float_to_uint16
    return Tensor(convert(np.full(tensor.shape, number, "float32")), tensor.dtype)


def read_tensors(path: Path) -> tuple[Tensor, ...]:
    """Read all tensors of a combined file, in file order; it has no names.

    Raises ReadError: GT240 if the file is not a sequence of whole tensors, GT017 for a pipe, device
    or socket.
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
    array: _Array = np.fromfile(file, BY_NAME[dtype].storage, prod(shape))
    return Tensor(array.reshape(shape), dtype)


def _skip_header(file: IO[bytes]) -> None:
    _, levels = struct.unpack("<IQ", file.read(12))
    for _ in range(levels):
        file.seek(struct.unpack("<Q", file.read(8))[0], 1)
    _, length = struct.unpack("<Ii", file.read(8))
    file.seek(length, 1)


def write_tensors(path: Path, tensors: Iterable[Tensor]) -> None:
    """Write tensors one after another, in the format of `save_inference_model`."""
    with path.open("wb") as file:
        for tensor in tensors:
            file.write(_header(tensor))
            file.write(tensor.array.tobytes())


def _header(tensor: Tensor) -> bytes:
    """Return version, no level of detail, version, and the TensorDesc: dtype, then dims."""
    desc = b"\x08" + _varint(BY_NAME[tensor.dtype].code)
    desc += b"".join(b"\x10" + _varint(dim) for dim in tensor.shape)
    return struct.pack("<IQIi", 0, 0, 0, len(desc)) + desc


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def digest(names: Iterable[str], tensors: Iterable[Tensor], *, head: bytes = b"") -> str:
    """Return a digest of `head` and the names, dtypes, shapes and bytes of tensors, in order."""
    from hashlib import blake2b

    hasher = blake2b(head, digest_size=16)
    for name, tensor in zip(names, tensors, strict=True):
        hasher.update(f"{name} {tensor.dtype} {tensor.shape}\n".encode("utf-8", "surrogatepass"))
        hasher.update(tensor.array.tobytes())
    return hasher.hexdigest()


def copy_from_scope(scope: _Paddle, names: Iterable[str]) -> Iterator[Tensor]:
    """Copy initialised Variables out of a Scope, in order, one at a time."""
    import numpy as np

    for name in names:
        yield Tensor.of(np.array(scope.find_var(name).get_tensor()))


def initialised_tensors(scope: _Paddle, names: Iterable[str]) -> dict[str, _Paddle]:
    """Return the initialised tensors of a Scope under these names."""
    facts = scope_facts(scope, names).variables
    return {
        name: scope.find_var(name).get_tensor() for name, fact in facts.items() if fact.initialised
    }


def share_tensors(tensors: Mapping[str, _Paddle], scope: _Paddle) -> None:
    """Make Variables of a Scope share the buffers of tensors."""
    for name, tensor in tensors.items():
        # Paddle has no public way to share a buffer.
        scope.var(name).get_tensor()._share_data_with(tensor)  # noqa: SLF001


def looks_untrained(scope: _Paddle, known: Mapping[str, Value]) -> bool | None:
    """Return whether nearly all vectors of a network are constant, as initialisers set them.

    Biases and shifts are then 0, scales 1, running means 0 and variances 1; training changes each
    of them. None if it has no vectors.
    """
    import numpy as np

    vectors = [
        np.array(scope.find_var(name).get_tensor())
        for name, value in known.items()
        if len(value.shape or ()) == 1 and value.shape != (1,)
    ]
    constant = [vector for vector in vectors if vector.size and (vector == vector[0]).all()]
    return len(constant) >= _UNTRAINED_SHARE * len(vectors) if vectors else None


def set_tensors(tensors: Mapping[str, Tensor], scope: _Paddle | None = None) -> None:
    """Set Variables of a Scope, by default the global one; each stays on its device.

    Each gets a new buffer, since another Scope may share the old one.
    """
    paddle = load_paddle()
    target = paddle.static.global_scope() if scope is None else scope
    default = _default_place(paddle)
    for name, tensor in tensors.items():
        old = target.var(name).get_tensor()
        new = new_like(old)
        new.set(tensor.array, _place_of(paddle, old) or default)
        old._share_data_with(new)  # noqa: SLF001  # Paddle has no public way to share a buffer


def set_dropout_states(known: Mapping[str, Value], scope: _Paddle | None = None) -> None:
    """Set the dropout states that are in no file; they are empty until a GPU fills them."""
    import numpy as np

    target = load_paddle().static.global_scope() if scope is None else scope
    names = [name for name in known if name.endswith(NON_PERSISTABLE_SUFFIX)]
    initialised = initialised_tensors(target, names)
    empty = {
        name: Tensor(np.empty([0], known[name].dtype or "uint8"), known[name].dtype or "uint8")
        for name in names
        if name not in initialised
    }
    set_tensors(empty, target)


@contextmanager
def private_scope() -> Generator[_Paddle]:
    """Yield a Scope whose tensors are freed afterwards; Paddle frees other Scopes only at exit.

    The Scope and its tensors must not be used then; tensors that share its buffers may.
    """
    scope = load_paddle().base.core.Scope()
    try:
        yield scope
    finally:
        scope._remove_from_pool()  # noqa: SLF001  # Paddle has no public way to free a Scope


def new_like(tensor: _Paddle) -> _Paddle:
    """Return a new tensor of the same class, whose name differs between releases."""
    return type(tensor)()


def empty_tensor(tensor: _Paddle, dtype: str, shape: Sequence[int] = (0,)) -> _Paddle:
    """Return an initialised tensor of the same class without elements."""
    import numpy as np

    empty = new_like(tensor)
    empty.set(np.empty(shape, dtype), load_paddle().CPUPlace())
    return empty


def copy_tensor(tensor: _Paddle, place: _Paddle | None = None) -> _Paddle:
    """Copy a tensor to a place, by default its own."""
    if 0 in tensor.shape():
        return tensor  # Paddle gives the copy of an empty tensor no memory, and then refuses it.
    return tensor._copy(tensor._place() if place is None else place)  # noqa: SLF001


def _default_place(paddle: _Paddle) -> _Paddle:
    """Return the place that Paddle runs on by default."""
    kind, _, number = paddle.device.get_device().partition(":")
    index = int(number or 0)
    if kind == "cpu":
        return paddle.CPUPlace()
    name = {"gpu": "CUDAPlace", "xpu": "XPUPlace"}.get(kind)
    return getattr(paddle, name)(index) if name else paddle.CustomPlace(kind, index)


def _place_of(paddle: _Paddle, tensor: _Paddle) -> _Paddle | None:
    """Return the place of a tensor, None if it is not initialised or on another device."""
    if not tensor._is_initialized():  # noqa: SLF001  # no public equivalent
        return None
    place = tensor._place()  # noqa: SLF001
    if place.is_gpu_place():
        return paddle.CUDAPlace(place.gpu_device_id())
    return paddle.CPUPlace() if place.is_cpu_place() else None
