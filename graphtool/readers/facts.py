"""Facts about scopes, parameter files and the Paddle at hand, as plain data for the checks."""

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
from graphtool.graph import Graph, Operator, ProgramKind, Shape
from graphtool.paths import look_at
from graphtool.readers._kinds import check_kind
from graphtool.readers._paddle import is_legacy, load_paddle

__all__ = [
    "ParameterFileFacts",
    "ScopeFacts",
    "ScopeVariable",
    "damaged_parameter_file",
    "known_operators",
    "makes_pir",
    "operators_not_known",
    "parameter_file_facts",
    "same_variables",
    "scope_facts",
    "strange_operators",
]

# Scopes and their Variables are of Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class ScopeVariable:
    """What a Scope holds under a name; shape and dtype are None where it holds nothing yet."""

    initialised: bool
    shape: Shape | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class ScopeFacts:
    """The Variables of a Scope that a merge would touch, by name; others are left out."""

    variables: Mapping[str, ScopeVariable]


@dataclass(frozen=True, slots=True)
class ParameterFileFacts:
    """The tensors of a combined `.pdiparams`, in file order: it holds no names."""

    path: str
    tensors: tuple[tuple[Shape, str], ...]


def scope_facts(scope: _Paddle, names: Iterable[str]) -> ScopeFacts:
    """Look names up in a Paddle Scope and the Scopes around it, which stay as they are.

    A name that none of them has is left out of the result.
    """
    held = [name for name in names if scope.find_var(name) is not None]
    if not held:
        return ScopeFacts({})
    core = load_paddle().base.core
    return ScopeFacts({name: _variable(core, scope, name) for name in held})


def same_variables(one: _Paddle, other: _Paddle, names: Iterable[str]) -> frozenset[str]:
    """Return the names that mean one and the same Variable in two Paddle Scopes.

    A Scope inside another finds the outer one's Variables too. In one Scope that is given twice
    all names do, also those that come later.
    """
    if one is other:
        return frozenset(names)
    return frozenset(name for name in names if _is_same_variable(one, other, name))


def _is_same_variable(one: _Paddle, other: _Paddle, name: str) -> bool:
    found = one.find_var(name)
    return found is not None and found is other.find_var(name)


def _variable(core: _Paddle, scope: _Paddle, name: str) -> ScopeVariable:
    try:
        # `Variable.get_tensor` would make an empty Variable a tensor; this refuses instead.
        tensor = core.get_variable_tensor(scope, name)
    except (ValueError, RuntimeError):
        return ScopeVariable(initialised=False)
    if not tensor._is_initialized():  # noqa: SLF001  # there is no public spelling
        return ScopeVariable(initialised=False)
    dtype = _spelt(tensor._dtype())  # noqa: SLF001
    return ScopeVariable(initialised=True, shape=tuple(tensor.shape()), dtype=dtype)


# Releases have dtypes of two types, with other numbers each.
@lru_cache(maxsize=64, typed=True)
def _spelt(dtype: _Paddle) -> str:
    name = str(dtype).rpartition(".")[2].lower()
    return _DTYPES_BY_VARTYPE.get(name, name)


# How Paddle 2.6 spells dtypes, in lower case, where other releases differ.
_DTYPES_BY_VARTYPE = {"fp16": "float16", "fp32": "float32", "fp64": "float64", "bf16": "bfloat16"}

# PIR's operators of control flow and of inference models, which `core.pir.ops` has no builder for.
_PIR_WITHOUT_BUILDER = frozenset(
    {"pd_op.while", "pd_op.if", "pd_op.pylayer", "pd_op.feed", "pd_op.has_elements"}
    | {"pd_op.assert", "pd_op.select_input", "pd_op.increment"}
)


def known_operators(kind: ProgramKind) -> frozenset[str] | None:
    """List the operator types that the installed Paddle knows, None where it is not there.

    Types of PIR have their dialect before them (`pd_op.relu`). `builtin` and `cf` are part of PIR
    itself and are left out.
    """
    try:
        from paddle.base import core  # pyright: ignore[reportMissingTypeStubs]
    except ImportError:
        return None
    core_any: _Paddle = core
    legacy = frozenset[str](core_any.get_all_op_names())
    if kind is ProgramKind.LEGACY:
        return legacy
    built = {name for name in dir(core_any.pir.ops) if not name.startswith("_")}
    # Operators without a builder and custom ones, once loaded, are in the legacy list alone.
    custom = {f"custom_op.{name}" for name in legacy}
    return frozenset({f"pd_op.{name}" for name in built | legacy} | custom) | _PIR_WITHOUT_BUILDER


# The dialects that are part of PIR itself.
_BUILT_IN = ("builtin.", "cf.")


def strange_operators(graph: Graph, known: frozenset[str]) -> list[Operator]:
    """Return the Operators of types that are not known, `known` as `known_operators` lists them."""
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


def makes_pir() -> bool:
    """Tell whether the Paddle at hand makes PIR Programs; without importing it where it is not yet.

    Where none is installed, one of release 3 is thought of.
    """
    paddle = sys.modules.get("paddle")
    if paddle is not None:
        return not is_legacy(paddle.static.Program())
    releases = (_release(name) for name in ("paddlepaddle", "paddlepaddle-gpu"))
    release = next((found for found in releases if found is not None), "3")
    flag = os.environ.get("FLAGS_enable_pir_api", "1")  # noqa: SIM112  # Paddle spells it so
    switched_off = flag.lower() in ("0", "false")
    return not (release.startswith(("1.", "2.")) or switched_off)


def _release(distribution: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


# By the number in a TensorDesc: the dtype and how many bytes one element takes.
_ELEMENTS = {
    0: ("bool", 1),
    1: ("int16", 2),
    2: ("int32", 4),
    3: ("int64", 8),
    4: ("float16", 2),
    5: ("float32", 4),
    6: ("float64", 8),
    20: ("uint8", 1),
    21: ("int8", 1),
    22: ("bfloat16", 2),
    23: ("complex64", 8),
    24: ("complex128", 16),
    32: ("float8_e4m3fn", 1),
    33: ("float8_e5m2", 1),
}
_MOST_LEVELS, _LONGEST_DESCRIPTION, _MOST_DIMS = 16, 4096, 32


@rule("GT240")
def damaged_parameter_file(path: str, offset: int, reason: str) -> Diagnostic:
    """A `.pdiparams` does not hold one whole tensor after another.

    The file is cut short, was written by something else (a `.pdparams` is a pickle), or is not
    there. Save the model again, or fetch the file again.
    """
    return Diagnostic(
        message=f"`{path}` holds no saved tensor at byte {offset}: {reason}",
        where=(Where(program=path),),
        help=look_at(path),
    )


def parameter_file_facts(path: str | PathLike[str]) -> ParameterFileFacts:
    """Read the shapes and dtypes of a combined `.pdiparams`, or `__params__`, without Paddle.

    The tensors' data is skipped. `save_inference_model` writes them in the order of their names.

    Raises ReadError: GT240 where the file cannot be read as that, GT017 where it is none.
    """
    name = fspath(path)
    try:
        check_kind(Path(name))
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
            shape, dtype, data = _header(file)
        except (struct.error, ValueError, IndexError) as error:
            reason = str(error) if type(error) is ValueError else "it ends inside a tensor"
            raise ReadError(damaged_parameter_file(path, start, reason)) from None
        if file.tell() + data > size:
            missing = file.tell() + data - size
            reason = f"{missing} bytes of its data are missing"
            raise ReadError(damaged_parameter_file(path, start, reason))
        file.seek(data, 1)
        yield shape, dtype


def _header(file: IO[bytes]) -> tuple[Shape, str, int]:
    """Read up to a tensor's data: version, levels of detail, version, TensorDesc."""
    version, levels = _unpack(file, "<IQ")
    if version or levels > _MOST_LEVELS:
        raise ValueError("it starts with no version that is known")
    for _ in range(levels):
        (length,) = _unpack(file, "<Q")
        file.seek(length, 1)
    version, length = _unpack(file, "<Ii")
    if version or not 0 < length <= _LONGEST_DESCRIPTION:
        raise ValueError("it starts with no version that is known")
    number, shape = _description(file.read(length))
    dtype, size = _ELEMENTS.get(number, ("", 0))
    # An array's bytes are counted in 64 bits, also where a dim of 0 leaves it none.
    if not size or len(shape) > _MOST_DIMS or size * prod(filter(None, shape)) > sys.maxsize:
        raise ValueError("its dtype or shape is none")
    return shape, dtype, size * prod(shape)


def _unpack(file: IO[bytes], format: str) -> tuple[int, ...]:
    return struct.unpack(format, file.read(struct.calcsize(format)))


def _description(data: bytes) -> tuple[int, Shape]:
    """Read a TensorDesc: field 1 is the dtype, field 2 the dims, packed or one by one."""
    number, dims, at = -1, list[int](), 0
    while at < len(data):
        key, at = _varint(data, at)
        value, at = _varint(data, at)
        if key == 0x08:
            number = value
        elif key == 0x10:
            dims.append(value)
        elif key == 0x12:
            end = at + value
            while at < end:
                dim, at = _varint(data, at)
                dims.append(dim)
        else:
            raise ValueError("its description has a field that is not known")
    return number, tuple(dims)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
