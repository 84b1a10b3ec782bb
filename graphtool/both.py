"""A thing of the teacher's and the same of the student's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["NO_NAMES", "Both"]

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Both(Generic[T]):
    """The teacher's and the student's, in this order."""

    teacher: T
    student: T

    def __iter__(self) -> Iterator[T]:
        yield self.teacher
        yield self.student

    def map(self, function: Callable[[T], U]) -> Both[U]:
        """Return what a function gives for each side."""
        return Both(function(self.teacher), function(self.student))


NO_NAMES: Both[tuple[str, ...]] = Both((), ())
