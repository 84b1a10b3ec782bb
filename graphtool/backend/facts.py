"""Facts about Scopes and the installed Paddle, as plain data for the checks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from functools import lru_cache

from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.diagnostics import ReadError
from graphtool.facts import ScopeFacts, ScopeVariable
from graphtool.graph import ProgramKind

__all__ = [
    "converted_dtype",
    "dtype_name",
    "is_pir_default",
    "known_operators",
    "same_variables",
    "scope_facts",
]


def scope_facts(scope: Paddle, names: Iterable[str]) -> ScopeFacts:
    """Look names up in a Paddle Scope and its parents, without changing them.

    Names that none of them has are missing from the result.
    """
    existing = [name for name in names if scope.find_var(name) is not None]
    if not existing:
        return ScopeFacts({})
    core = load_paddle().base.core
    return ScopeFacts({name: _variable(core, scope, name) for name in existing})


def same_variables(teacher: Paddle, student: Paddle, names: Iterable[str]) -> frozenset[str]:
    """Return the names that mean the same Variable in two Paddle Scopes.

    A Scope also finds the Variables of its parents. If both are one Scope, all names do, also those
    of Variables that are created later.
    """
    if teacher is student:
        return frozenset(names)
    return frozenset(name for name in names if _is_same_variable(teacher, student, name))


def _is_same_variable(teacher: Paddle, student: Paddle, name: str) -> bool:
    variable = teacher.find_var(name)
    return variable is not None and variable is student.find_var(name)


def _variable(core: Paddle, scope: Paddle, name: str) -> ScopeVariable:
    try:
        # `Variable.get_tensor` would turn an empty Variable into a tensor; this raises instead.
        tensor = core.get_variable_tensor(scope, name)
    except (ValueError, RuntimeError):
        return ScopeVariable(initialised=False)
    if not tensor._is_initialized():  # noqa: SLF001  # no public equivalent
        return ScopeVariable(initialised=False)
    dtype = _dtype_name(tensor._dtype())  # noqa: SLF001
    return ScopeVariable(initialised=True, shape=tuple(tensor.shape()), dtype=dtype)


def converted_dtype(dtype: object) -> str:
    """Return what Paddle calls a dtype of Paddle or NumPy: `float32`.

    Raises TypeError or ValueError where it is none.
    """
    return str(load_paddle().base.data_feeder.convert_dtype(dtype))


def dtype_name(dtype: object) -> str:
    """Return the name of the dtype of a Value: `float32`."""
    name = converted_dtype(dtype)
    # Paddle stores bfloat16 in NumPy's uint16 and has no dtype of that name.
    return "bfloat16" if name == "uint16" else name


# Paddle's two dtype classes have different numbers, hence `typed`.
@lru_cache(maxsize=64, typed=True)
def _dtype_name(dtype: Paddle) -> str:
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
        core = load_paddle().base.core
    except ReadError:
        return None
    legacy = frozenset[str](core.get_all_op_names())
    if kind is ProgramKind.LEGACY:
        return legacy
    with_builder = {name for name in dir(core.pir.ops) if not name.startswith("_")}
    # Operators without a builder, and custom ones once loaded, are only in the legacy list.
    custom = {f"custom_op.{name}" for name in legacy}
    pd_ops = {f"pd_op.{name}" for name in with_builder | legacy}
    return frozenset(pd_ops | custom) | _PIR_WITHOUT_BUILDER


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
