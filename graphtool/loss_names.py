"""The losses that pairs can name, each with what it takes; they register themselves.

Recipes and checks judge pairs by this and build nothing. The losses themselves stand in a layer
above: they are found as a user finds them, in `graphtool.losses`, when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import Any, TypeVar

__all__ = ["NamedLoss", "Takes", "for_pairs", "named_losses"]

_Build = TypeVar("_Build", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Takes:
    """What a loss takes: the least and the largest rank, equal dims from `start` to `stop`.

    One of `logits` applies softmax itself: what it takes must not have gone through one.
    Of maps no dim is compared here, for channels are last in some; their losses do that when they
    are built, once channels are first.
    """

    ranks: tuple[int, int | None] = (1, None)
    start: int = 1
    stop: int | None = None
    logits: bool = False

    def fits(self, teacher: int, student: int) -> bool:
        """Tell whether a loss is defined for two ranks."""
        lowest, highest = self.ranks
        return teacher == student >= lowest and (highest is None or student <= highest)

    def compared(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the dims that are equal on both sides."""
        return shape[self.start : self.stop]

    @property
    def said_of_ranks(self) -> str:
        """Say which ranks a loss takes."""
        lowest, highest = self.ranks
        if lowest == highest:
            return f"rank {lowest}"
        span = "or more" if highest is None else f"to {highest}"
        return f"the same rank, {lowest} {span}"

    @property
    def said_of_dims(self) -> str:
        """Say what is equal on both sides."""
        return "equal shapes" if self.stop is None else f"dim {self.start} to be equal"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLoss:
    """A loss that pairs can name.

    `takes` is None for one of any two shapes. One `of_classes` takes a softmax over the last dim;
    for one `of_any_channels` an adapter would learn in the student's place.
    """

    build: Callable[..., Any]
    takes: Takes | None
    of_classes: bool
    of_any_channels: bool


_LOSSES: dict[str, NamedLoss] = {}


def for_pairs(
    takes: Takes | None = None, *, of_classes: bool = False, of_any_channels: bool = False
) -> Callable[[_Build], _Build]:
    """Let pairs name a loss, by the name of its function."""

    def register(build: _Build) -> _Build:
        known = _LOSSES.get(build.__name__)
        # A module whose import was interrupted is imported again.
        assert known is None or known.build.__module__ == build.__module__, build.__name__
        _LOSSES[build.__name__] = NamedLoss(
            build=build, takes=takes, of_classes=of_classes, of_any_channels=of_any_channels
        )
        return build

    return register


def named_losses() -> Mapping[str, NamedLoss]:
    """Return the losses that pairs can name, sorted."""
    import_module(f"{__package__}.losses")
    return MappingProxyType(dict(sorted(_LOSSES.items())))
