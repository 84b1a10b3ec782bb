"""What a row of the benchmark is: two or three cases, and what is wanted of their samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

__all__ = ["Case", "Of", "Prepare", "Python", "Quantity", "Row", "Sample", "Target", "Work"]

# What work gives is for its own check alone.
_Result: TypeAlias = Any


class Quantity(Enum):
    """What a target is about: seconds, or bytes in memory or of what was written.

    Seconds of the process's CPU time hardly change where other work shares the cores.
    """

    SECONDS = "seconds"
    CPU = "cpu"
    PEAK = "peak"
    SIZE = "size"


class Of(Enum):
    """What a limit is a multiple of; of growth it is the exponent, absolute is itself."""

    PEER = "peer"
    FLOOR = "floor"
    ABSOLUTE = "absolute"
    GROWTH = "growth"


class Python(Enum):
    """Where a case runs: in the Python of the benchmark, or beside PaddleSlim on Paddle 2.6.2."""

    HERE = "here"
    PEER = "peer"


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: seconds, those of CPU time and bytes where they are known.

    The peak is that of a whole process, or how much it grew while work was done in one. `at_least`
    says that nobody waited for the end.
    """

    seconds: float
    peak: int | None = None
    size: int | None = None
    at_least: bool = False
    cpu: float | None = None


class Work(NamedTuple):
    """What the clock is held to, and what makes sure afterwards that it was done.

    Work that returns a Sample has measured itself.
    """

    run: Callable[[], _Result]
    check: Callable[[_Result], object] = lambda _: None


Prepare: TypeAlias = Callable[[], Work]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A way of doing something, made once by `make(*arguments)` and prepared for each sample.

    `fresh` gives each sample a process of its own, `rounds` is how many samples are taken at most.
    """

    about: str
    make: Callable[..., Prepare]
    arguments: tuple[str | int | bool, ...] = ()
    python: Python = Python.HERE
    fresh: bool = False
    rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """At `most` so many times another side's median, or so much; None reports without a wish.

    `size` restricts it to one size of the row.
    """

    most: float | None
    of: Of
    quantity: Quantity = Quantity.SECONDS
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is measured under one name; with `sizes`, once for each, given as the last argument."""

    name: str
    about: str
    ours: Case
    peer: Case | None = None
    floor: Case | None = None
    targets: Sequence[Target]
    sizes: Sequence[int] = ()
    quick: bool = True

    @property
    def sides(self) -> dict[str, Case]:
        """The cases by the names of their sides, in the order in which they take turns."""
        cases = {"ours": self.ours, "peer": self.peer, "floor": self.floor}
        return {side: case for side, case in cases.items() if case is not None}
