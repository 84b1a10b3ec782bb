"""Facts about Scopes and the installed Paddle, as plain data for the checks."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache

from graphtool.backend.paddle import Paddle, is_legacy, load_paddle
from graphtool.diagnostics import ReadError
from graphtool.facts import DeviceFacts, ScopeFacts, ScopeVariable
from graphtool.graph import ProgramKind

__all__ = [
    "as_place",
    "converted_dtype",
    "device_facts",
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
    dtype = dtype_name(tensor._dtype())  # noqa: SLF001
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


def device_facts(kind: ProgramKind, types: Iterable[str], place: Paddle) -> DeviceFacts:
    """Return the kernels of these operator types on the device of a Place.

    Operators without a kernel on another device run on the CPU.
    """
    device = _backend(place)
    with_kernels = sorted(name for name in types if not _needs_no_kernel(name))
    dtypes_by_type = {name: _dtypes(kind, name, device) for name in with_kernels}
    return DeviceFacts(
        device=device.lower(),
        dtypes={name: dtypes for name, dtypes in dtypes_by_type.items() if dtypes is not None},
        unsure=tuple(name for name, dtypes in dtypes_by_type.items() if dtypes is None),
    )


def as_place(place: Paddle) -> Paddle:
    """Return the Place for a Place or its name in Paddle: `cpu`, `gpu:0`.

    Raises TypeError, ValueError or AttributeError where it is none.
    """
    return load_paddle().base.framework._get_paddle_place(place)  # noqa: SLF001


def _backend(place: Paddle) -> str:
    """Return the kernel backend of a Place: `CPU`, `GPU`, `XPU` or `CUSTOM`."""
    if not hasattr(place, "is_cpu_place"):  # As in Paddle 3.0, on a CPUPlace.
        generic = load_paddle().base.core.Place()
        generic.set_place(place)
        place = generic
    for kind in ("cpu", "gpu", "xpu"):
        if getattr(place, f"is_{kind}_place", bool)():
            return kind.upper()
    return "CUSTOM"


# PIR operators whose kernels have another name.
_KERNEL_NAMES = {
    "assign_out": "assign",
    "det": "determinant",
    "hardshrink": "hard_shrink",
    "reindex_graph": "graph_reindex",
    "share_var": "share_data",
}
_WITHOUT_KERNEL = frozenset(
    {"assert", "conditional_block", "has_elements", "if", "print", "py_func", "pylayer"}
    | {"recurrent", "select_input", "select_output", "tensorrt_engine", "while"}
)
# Kernels that any device may use; those of oneDNN run on the CPU.
_COMMON_BACKENDS = frozenset({"CPU", "ONEDNN", "ALL_BACKEND"})


def _needs_no_kernel(type: str) -> bool:
    dialect, _, name = type.rpartition(".")
    return dialect in ("builtin", "cf") or name.rstrip("_") in _WITHOUT_KERNEL


def _dtypes(kind: ProgramKind, type: str, device: str) -> frozenset[str] | None:
    """Return the dtypes of an operator's kernels on a device, None if unsure."""
    dialect, _, name = type.rpartition(".")
    name, kernels = name.rstrip("_"), _kernels()
    legacy_name = load_paddle().base.core._get_phi_kernel_name(name)  # noqa: SLF001
    for kernel in (_KERNEL_NAMES.get(name, name), legacy_name):
        if kernel in kernels:
            return frozenset(
                dtype
                for backend, dtype in kernels[kernel]
                if backend == device or backend in _COMMON_BACKENDS
            )
    # Custom, sparse and many legacy operators have kernels that are not in this list.
    is_listed = kind is ProgramKind.PIR and dialect == "pd_op" and not name.startswith("sparse_")
    return frozenset() if is_listed else None


@cache
def _kernels() -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Map names of kernels to their backends and dtypes.

    Cached, as this takes 50 ms. Only loading custom kernels changes the result.
    """
    registered = load_paddle().base.core._get_registered_phi_kernels("all")  # noqa: SLF001
    return {name: tuple(map(_parse_key, keys)) for name, keys in registered.items()}


def _parse_key(text: str) -> tuple[str, str]:
    """Return backend and dtype of `(CPU, Undefined(AnyLayout), bool)`."""
    backend, _, dtype = text.strip("()").split(", ")
    return backend, dtype
