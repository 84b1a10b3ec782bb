"""What the Paddle at hand computes on a device, as plain data for the checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from graphtool.graph import ProgramKind
from graphtool.readers._paddle import load_paddle

__all__ = ["DeviceFacts", "device_facts"]

# Places and kernels are of Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The dtypes that a device computes each operator type in: none where it has no kernel.

    `unsure` are types that may have a kernel under another name. What runs without one (loops,
    branches) is in neither.
    """

    device: str
    dtypes: Mapping[str, frozenset[str]]
    unsure: tuple[str, ...] = ()


def device_facts(kind: ProgramKind, types: Iterable[str], place: _Paddle) -> DeviceFacts:
    """Ask Paddle which of these operator types it has kernels for where a Place is.

    What has none on another device is computed on the CPU.
    """
    device = _backend(place)
    asked = sorted(name for name in types if not _runs_by_itself(name))
    found = {name: _dtypes(kind, name, device) for name in asked}
    return DeviceFacts(
        device=device.lower(),
        dtypes={name: dtypes for name, dtypes in found.items() if dtypes is not None},
        unsure=tuple(name for name, dtypes in found.items() if dtypes is None),
    )


def _backend(place: _Paddle) -> str:
    if not hasattr(place, "is_cpu_place"):  # A CPUPlace of Paddle 3.0 does not know what it is.
        any_place = load_paddle().base.core.Place()
        any_place.set_place(place)
        place = any_place
    kinds = ("cpu", "gpu", "xpu")
    found = (kind for kind in kinds if getattr(place, f"is_{kind}_place", bool)())
    return next(found, "custom").upper()


# By PIR's name, where that of the kernel is another.
_KERNELS = {
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
# Kernels that any device may use; those of oneDNN are the CPU's.
_COMMON = frozenset({"CPU", "ONEDNN", "ALL_BACKEND"})


def _runs_by_itself(type: str) -> bool:
    dialect, _, name = type.rpartition(".")
    return dialect in ("builtin", "cf") or name.rstrip("_") in _WITHOUT_KERNEL


def _dtypes(kind: ProgramKind, type: str, device: str) -> frozenset[str] | None:
    dialect, _, name = type.rpartition(".")
    name, kernels = name.rstrip("_"), _kernels()
    legacy_name = load_paddle().base.core._get_phi_kernel_name(name)  # noqa: SLF001
    for known in (_KERNELS.get(name, name), legacy_name):
        if known in kernels:
            return frozenset(_usable(kernels[known], device))
    # Custom, sparse and many legacy operators have kernels that this list doesn't name.
    listed = kind is ProgramKind.PIR and dialect == "pd_op" and not name.startswith("sparse_")
    return frozenset() if listed else None


def _usable(keys: Iterable[tuple[str, str]], device: str) -> Iterator[str]:
    return (dtype for home, dtype in keys if home == device or home in _COMMON)


@cache
def _kernels() -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Map names of kernels to devices and dtypes; a key is `(CPU, Undefined(AnyLayout), bool)`.

    It takes 50 ms, and what a process has loaded does not change but by custom kernels.
    """
    listed = load_paddle().base.core._get_registered_phi_kernels("all")  # noqa: SLF001
    return {name: tuple(map(_key, keys)) for name, keys in listed.items()}


def _key(text: str) -> tuple[str, str]:
    device, _, dtype = text.strip("()").split(", ")
    return device, dtype
