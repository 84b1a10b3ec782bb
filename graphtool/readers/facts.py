"""Facts about Scopes, parameter files and the installed Paddle, as plain data for the checks."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, TypeAlias

from graphtool.diagnostics import Diagnostic, ReadError, Where, rule
from graphtool.dtypes import BY_CODE
from graphtool.graph import Graph, Operator, ProgramKind, Shape
from graphtool.paths import ls_command
from graphtool.readers._paddle import is_legacy, load_paddle
from graphtool.readers._regular_file import check_not_special

__all__ = [
    "ParameterFileFacts",
    "ScopeFacts",
    "ScopeVariable",
    "damaged_parameter_file",
    "is_pir_default",
    "known_operators",
    "operators_not_known",
    "parameter_file_facts",
    "same_variables",
    "scope_facts",
    "unsupported_operators",
]

# Scopes and their Variables belong to Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class ScopeVariable:
    """A Variable of a Scope; shape and dtype are None if it is not initialised."""

    initialised: bool
    shape: Shape | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class ScopeFacts:
    """The Variables of a Scope that a merge would touch, by name."""

    variables: Mapping[str, ScopeVariable]


@dataclass(frozen=True, slots=True)
class ParameterFileFacts:
    """Shape and dtype of each tensor of a combined `.pdiparams`, in file order; it has no names."""

    path: str
    tensors: tuple[tuple[Shape, str], ...]


def scope_facts(scope: _Paddle, names: Iterable[str]) -> ScopeFacts:
    """Look names up in a Paddle Scope and its parents, without changing them.

    Names that none of them has are missing from the result.
    """
    existing = [name for name in names if scope.find_var(name) is not None]
    if not existing:
        return ScopeFacts({})
    core = load_paddle().base.core
    return ScopeFacts({name: _variable(core, scope, name) for name in existing})


def same_variables(teacher: _Paddle, student: _Paddle, names: Iterable[str]) -> frozenset[str]:
    """Return the names that mean the same Variable in two Paddle Scopes.

    A Scope also finds the Variables of its parents. If both are one Scope, all names do, also those
    of Variables that are created later.
    """
    if teacher is student:
        return frozenset(names)
    return frozenset(name for name in names if _is_same_variable(teacher, student, name))


def _is_same_variable(teacher: _Paddle, student: _Paddle, name: str) -> bool:
    variable = teacher.find_var(name)
    return variable is not None and variable is student.find_var(name)


def _variable(core: _Paddle, scope: _Paddle, name: str) -> ScopeVariable:
    try:
        # `Variable.get_tensor` would turn an empty Variable into a tensor; this raises instead.
        tensor = core.get_variable_tensor(scope, name)
    except (ValueError, RuntimeError):
        return ScopeVariable(initialised=False)
    if not tensor._is_initialized():  # noqa: SLF001  # no public equivalent
        return ScopeVariable(initialised=False)
    dtype = _dtype_name(tensor._dtype())  # noqa: SLF001
    return ScopeVariable(initialised=True, shape=tuple(tensor.shape()), dtype=dtype)


# Paddle's two dtype classes have different numbers, hence `typed`.
@lru_cache(maxsize=64, typed=True)
def _dtype_name(dtype: _Paddle) -> str:
    name = str(dtype).rpartition(".")[2].lower()
    return _DTYPES_BY_VARTYPE.get(name, name)


# The names of dtypes in Paddle 2.6, in lower case, that other releases spell out.
_DTYPES_BY_VARTYPE = {"fp16": "float16", "fp32": "float32", "fp64": "float64", "bf16": "bfloat16"}

# PIR operators of control flow and of inference models that have no builder in `core.pir.ops`.
_PIR_WITHOUT_BUILDER = frozenset(
    {"pd_op.while", "pd_op.if", "pd_op.pylayer", "pd_op.feed", "pd_op.has_elements"}
    | {"pd_op.assert", "pd_op.select_input", "pd_op.increment"}
)


def known_operators(kind: ProgramKind) -> frozenset[str] | None:
    """List the operator types that the installed Paddle knows, None if it is not installed.

    PIR types have their dialect (`pd_op.relu`). The dialects `builtin` and `cf` are part of PIR
    itself and are not listed.
    """
    try:
        from paddle.base import core  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        return None
    untyped: _Paddle = core
    legacy = frozenset[str](untyped.get_all_op_names())
    if kind is ProgramKind.LEGACY:
        return legacy
    with_builder = {name for name in dir(untyped.pir.ops) if not name.startswith("_")}
    # Operators without a builder, and custom ones once loaded, are only in the legacy list.
    custom = {f"custom_op.{name}" for name in legacy}
    pd_ops = {f"pd_op.{name}" for name in with_builder | legacy}
    return frozenset(pd_ops | custom) | _PIR_WITHOUT_BUILDER


# The dialects that are part of PIR itself.
_BUILT_IN = ("builtin.", "cf.")


def unsupported_operators(graph: Graph, known: frozenset[str]) -> list[Operator]:
    """Return the Operators whose types are not in `known`, the result of `known_operators`."""
    return [
        operator
        for operator in graph.operators.values()
        if operator.type not in known and not operator.type.startswith(_BUILT_IN)
    ]


@rule("GT045")
def operators_not_known(path: str, types: Sequence[str]) -> Diagnostic:
    """The saved model has operators that the installed Paddle does not know; it was not opened.

    They are custom operators, whose library has to be loaded first, or ones of another release or
    of an inference engine (fused, quantised). Paddle ends the process where it opens such a file.
    """
    listed = ", ".join(f"`{name}`" for name in dict.fromkeys(types))
    return Diagnostic(
        message=f"Paddle does not know operators of the saved model: {listed}",
        where=(Where(program=path),),
        help='paddle.utils.cpp_extension.load(name="my_ops", sources=[...])  # first',
    )


def is_pir_default() -> bool:
    """Return whether the installed Paddle makes PIR Programs, without importing it.

    If none is installed, release 3 is assumed.
    """
    paddle = sys.modules.get("paddle")
    if paddle is not None:
        return not is_legacy(paddle.static.Program())
    releases = map(_release, ("paddlepaddle", "paddlepaddle-gpu"))
    release = next((one for one in releases if one is not None), "3")
    flag = os.environ.get("FLAGS_enable_pir_api", "1")  # noqa: SIM112  # Paddle's spelling
    is_disabled = flag.lower() in ("0", "false")
    return not (release.startswith(("1.", "2.")) or is_disabled)


def _release(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


_MAX_LOD_LEVELS, _MAX_TENSOR_DESC, _MAX_DIMS = 16, 4096, 32


@rule("GT240")
def damaged_parameter_file(path: str, offset: int, reason: str) -> Diagnostic:
    """A `.pdiparams` does not hold one whole tensor after another.

    The file is cut short, was written by something else (a `.pdparams` is a pickle), or is not
    there. Save the model again, or fetch the file again.
    """
    return Diagnostic(
        message=f"`{path}` holds no saved tensor at byte {offset}: {reason}",
        where=(Where(program=path),),
        help=ls_command(path),
    )


def parameter_file_facts(path: str | PathLike[str]) -> ParameterFileFacts:
    """Read the shapes and dtypes of a combined `.pdiparams`, or `__params__`, without Paddle.

    The data is skipped. `save_inference_model` writes tensors in the order of their names.

    Raises ReadError: GT240 if it is not such a file, GT017 for a pipe, device or socket.
    """
    name = fspath(path)
    try:
        check_not_special(Path(name))
        with Path(name).open("rb") as file:
            return ParameterFileFacts(name, tuple(_tensors(name, file)))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReadError(damaged_parameter_file(name, 0, reason)) from None


def _tensors(path: str, file: IO[bytes]) -> Iterator[tuple[Shape, str]]:
    size = file.seek(0, 2)
    file.seek(0)
    while file.tell() < size:
        start = file.tell()
        try:
            shape, dtype, data_size = _read_header(file)
        except (struct.error, ValueError, IndexError) as error:
            reason = str(error) if type(error) is ValueError else "it ends inside a tensor"
            raise ReadError(damaged_parameter_file(path, start, reason)) from None
        if file.tell() + data_size > size:
            missing = file.tell() + data_size - size
            reason = f"{missing} bytes of its data are missing"
            raise ReadError(damaged_parameter_file(path, start, reason))
        file.seek(data_size, 1)
        yield shape, dtype


def _read_header(file: IO[bytes]) -> tuple[Shape, str, int]:
    """Read version, levels of detail, version and TensorDesc; return shape, dtype and data size."""
    version, levels = _unpack(file, "<IQ")
    if version or levels > _MAX_LOD_LEVELS:
        raise ValueError("it starts with no version that is known")
    for _ in range(levels):
        (length,) = _unpack(file, "<Q")
        file.seek(length, 1)
    version, length = _unpack(file, "<Ii")
    if version or not 0 < length <= _MAX_TENSOR_DESC:
        raise ValueError("it starts with no version that is known")
    number, shape = _parse_tensor_desc(file.read(length))
    dtype = BY_CODE.get(number)
    if dtype is None or dtype.json is None or len(shape) > _MAX_DIMS:
        raise ValueError("its dtype or shape is none")
    # NumPy counts bytes in 64 bits, skipping dims of 0.
    if dtype.size * prod(filter(None, shape)) > sys.maxsize:
        raise ValueError("its dtype or shape is none")
    return shape, dtype.name, dtype.size * prod(shape)


def _unpack(file: IO[bytes], format: str) -> tuple[int, ...]:
    return struct.unpack(format, file.read(struct.calcsize(format)))


def _parse_tensor_desc(data: bytes) -> tuple[int, Shape]:
    """Parse a TensorDesc: field 1 is the dtype, field 2 the dims, packed or one by one."""
    number, dims, offset = -1, list[int](), 0
    while offset < len(data):
        key, offset = _varint(data, offset)
        value, offset = _varint(data, offset)
        if key == 0x08:
            number = value
        elif key == 0x10:
            dims.append(value)
        elif key == 0x12:
            end = offset + value
            while offset < end:
                dim, offset = _varint(data, offset)
                dims.append(dim)
        else:
            raise ValueError("its description has a field that is not known")
    return number, tuple(dims)


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return the varint at an offset, and the offset behind it."""
    value = shift = 0
    while True:
        byte = data[offset]
        value |= (byte & 0x7F) << shift
        offset, shift = offset + 1, shift + 7
        if byte < 0x80:
            return value, offset
