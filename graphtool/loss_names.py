"""The losses that pairs can name, each with what it takes; they register themselves.

Recipes and checks judge pairs by this and build nothing. The losses themselves stand in a layer
above: they are found as a user finds them, in `graphtool.losses`, when they are first asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import signature
from types import MappingProxyType
from typing import Any, TypeVar

__all__ = ["Least", "NamedLoss", "Takes", "by_twos", "channel_axis", "for_pairs", "named_losses"]

_Build = TypeVar("_Build", bound=Callable[..., Any])


def channel_axis(rank: int) -> int:
    """Return the axis of the channels: of a map [N, C, H, W] the second, else the last."""
    return 1 if rank == 4 else rank - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Least:
    """How many numbers, `of` what, a loss compares at least: of fewer it is constant.

    They are those of the dims from `start` to before `stop`.
    """

    count: int
    of: tuple[str, str]
    start: int = -1
    stop: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """What a loss takes of a teacher's Value and of a student's.

    `ranks` are the least and the largest number of dims, the same on both sides if `equal_ranks`.
    Dims from `start` to before `stop` are compared one to one; of one that `adapts` all but the
    channels, which a layer that learns makes equal. `known` are the dims, by role, without which it
    cannot be built. One of `logits` applies softmax itself: what it takes must not have gone
    through one. One of `flows` takes pairs by twos, a start and an end; one of `heads` takes what
    attention is made of, [N, heads, L, L] or [N, heads, L, D]. Of less than `least` numbers it is
    constant.
    """

    ranks: tuple[int, int | None] = (1, None)
    equal_ranks: bool = True
    start: int = 1
    stop: int | None = None
    adapts: bool = False
    known: tuple[tuple[str, int], ...] = ()
    logits: bool = False
    flows: bool = False
    heads: bool = False
    least: Least | None = None

    def compared(self, rank: int) -> tuple[int, ...]:
        """Return the axes that are compared one to one."""
        axes = range(rank)[self.start : self.stop]
        return tuple(axis for axis in axes if not self.adapts or axis != channel_axis(rank))

    def known_of(self, role: str, rank: int) -> tuple[int, ...]:
        """Return the axes of a role's Value whose dims must be known."""
        axes = [axis % rank for given, axis in self.known if given == role]
        return (*axes, channel_axis(rank)) if self.adapts else tuple(axes)

    @property
    def within(self) -> Takes:
        """What a loss of flows asks of the start and the end in one network."""
        assert self.stop is not None
        return replace(self, start=self.stop, stop=None)

    @property
    def said_of_ranks(self) -> str:
        """Say which ranks a loss takes."""
        lowest, highest = self.ranks
        if lowest == highest:
            return f"rank {lowest}"
        span = "or more" if highest is None else f"to {highest}"
        return f"the same rank, {lowest} {span}" if self.equal_ranks else f"rank {lowest} {span}"

    def said_of_dims(self, rank: int) -> str:
        """Say what is equal on both sides."""
        axes = self.compared(rank)
        if axes == tuple(range(1, rank)):
            return "equal shapes"
        return f"{'dim' if len(axes) == 1 else 'dims'} {', '.join(map(str, axes))} to be equal"


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedLoss:
    """A loss that pairs can name.

    One `of_classes` takes a softmax over the classes; for one `of_any_channels` an adapter would
    learn in the student's place. `otherwise` is what it takes where an option is given.
    """

    build: Callable[..., Any]
    takes: Takes
    otherwise: Mapping[str, Takes]
    of_classes: bool
    of_any_channels: bool

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the options that the loss has."""
        parameters = signature(self.build).parameters.values()
        return tuple(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)

    def taken(self, options: Mapping[str, object]) -> Takes:
        """Return what the loss takes with these options."""
        given = (takes for name, takes in self.otherwise.items() if options.get(name) is not None)
        return next(given, self.takes)


_LOSSES: dict[str, NamedLoss] = {}


def for_pairs(
    takes: Takes,
    *,
    otherwise: Mapping[str, Takes] | None = None,
    of_classes: bool = False,
    of_any_channels: bool = False,
) -> Callable[[_Build], _Build]:
    """Let pairs name a loss, by the name of its function."""

    def register(build: _Build) -> _Build:
        known = _LOSSES.get(build.__name__)
        # A module whose import was interrupted is imported again.
        assert known is None or known.build.__module__ == build.__module__, build.__name__
        _LOSSES[build.__name__] = NamedLoss(
            build=build,
            takes=takes,
            otherwise=otherwise or {},
            of_classes=of_classes,
            of_any_channels=of_any_channels,
        )
        return build

    return register


def named_losses() -> Mapping[str, NamedLoss]:
    """Return the losses that pairs can name, sorted."""
    import_module(f"{__package__}.losses")
    return MappingProxyType(dict(sorted(_LOSSES.items())))


def by_twos(losses: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Yield the places of pairs that one loss is made of, by their last: a flow has two.

    The one that is left over of a flow comes last, alone.
    """
    known = named_losses()
    waiting: dict[str, int] = {}
    for place, loss in enumerate(losses):
        if loss not in known or not known[loss].takes.flows:
            yield (place,)
        elif loss in waiting:
            yield waiting.pop(loss), place
        else:
            waiting[loss] = place
    yield from ((place,) for place in waiting.values())
