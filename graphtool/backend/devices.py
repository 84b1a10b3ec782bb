"""The kernels of the installed Paddle on a device, as plain data for the checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.facts import DeviceFacts
from graphtool.graph import ProgramKind

__all__ = ["as_place", "device_facts"]


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
    {
        "assert",
        "conditional_block",
        "has_elements",
        "if",
        "print",
        "py_func",
        "pylayer",
        "recurrent",
        "select_input",
        "select_output",
        "tensorrt_engine",
        "while",
    }
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
