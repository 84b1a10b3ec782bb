"""Facts about Scopes and devices as plain data, which rules take in place of Paddle's objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from graphtool.graph import Shape

__all__ = ["DeviceFacts", "ScopeFacts", "ScopeVariable"]


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
class DeviceFacts:
    """The dtypes for which a device has kernels, by operator type; empty if there is no kernel.

    `unsure` are types that may have a kernel under another name. Types that need no kernel (loops,
    branches) are in neither.
    """

    device: str
    dtypes: Mapping[str, frozenset[str]]
    unsure: tuple[str, ...] = ()
