"""Registry of the losses that pairs can name, with their operand constraints.

Recipes and checks judge pairs by these constraints alone and build nothing. The losses themselves
are in `graphtool.losses`, a higher layer, which is imported on first use and registers them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from inspect import signature
from types import MappingProxyType
from typing import Any, TypeVar

__all__ = [
    "LossSpec",
    "MinElements",
    "OperandSpec",
    "channel_axis",
    "group_flows",
    "named_losses",
    "register_loss",
]

_Build = TypeVar("_Build", bound=Callable[..., Any])


def channel_axis(rank: int) -> int:
    """Return the channel axis: the second of a map [N, C, H, W], else the last."""
    return 1 if rank == 4 else rank - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MinElements:
    """The least `count` of elements that a loss needs; with fewer it is constant.

    Counted are the elements of the dims from `start` to before `stop`; `of` names them.
    """

    count: int
    of: tuple[str, str]
    start: int = -1
    stop: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperandSpec:
    """The shapes and kinds of operands that a loss takes.

    `ranks` are the least and the largest number of dims, the same on both sides if `equal_ranks`.
    Dims from `start` to before `stop` must be equal; if it `adapts`, not the channels, which a
    trained adapter makes equal. `known` are the axes, by role, whose dims must be known. A loss of
    `logits` applies softmax itself, so its operands must not be probabilities. A loss of `flows`
    takes two pairs, a start and an end. A loss of `heads` takes attention tensors,
    [N, heads, L, L] or [N, heads, L, D]. With fewer elements than `least` the loss is constant.
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
    least: MinElements | None = None

    def equal_axes(self, rank: int) -> tuple[int, ...]:
        """Return the axes whose dims must be equal in teacher and student."""
        axes = range(rank)[self.start : self.stop]
        return tuple(axis for axis in axes if not self.adapts or axis != channel_axis(rank))

    def known_axes(self, role: str, rank: int) -> tuple[int, ...]:
        """Return the axes of a role's Value whose dims must be known."""
        axes = [axis % rank for known_role, axis in self.known if known_role == role]
        return (*axes, channel_axis(rank)) if self.adapts else tuple(axes)

    @property
    def within_network(self) -> OperandSpec:
        """The constraints of a loss of flows on the start and the end in one network."""
        assert self.stop is not None
        return replace(self, start=self.stop, stop=None)

    @property
    def ranks_text(self) -> str:
        """The ranks that a loss takes, as text."""
        lowest, highest = self.ranks
        if lowest == highest:
            return f"rank {lowest}"
        span = "or more" if highest is None else f"to {highest}"
        return f"the same rank, {lowest} {span}" if self.equal_ranks else f"rank {lowest} {span}"

    def dims_text(self, rank: int) -> str:
        """Return the dims that must be equal, as text."""
        axes = self.equal_axes(rank)
        if axes == tuple(range(1, rank)):
            return "equal shapes"
        return f"{'dim' if len(axes) == 1 else 'dims'} {', '.join(map(str, axes))} to be equal"


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpec:
    """A loss that pairs can name.

    A loss `of_classes` applies softmax over the classes. A loss `of_any_channels` needs no adapter,
    which would learn in the student's place. `otherwise` maps an option to what the loss takes if
    that option is given.
    """

    build: Callable[..., Any]
    takes: OperandSpec
    takes_by_option: Mapping[str, OperandSpec]
    is_class_softmax: bool
    needs_no_adapter: bool

    @property
    def options(self) -> tuple[str, ...]:
        """The names of the loss's options: its keyword-only parameters."""
        parameters = signature(self.build).parameters.values()
        return tuple(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)

    def takes_with(self, options: Mapping[str, object]) -> OperandSpec:
        """Return the operand constraints with these options."""
        for name, takes in self.takes_by_option.items():
            if options.get(name) is not None:
                return takes
        return self.takes


_LOSSES: dict[str, LossSpec] = {}


def register_loss(
    takes: OperandSpec,
    *,
    otherwise: Mapping[str, OperandSpec] | None = None,
    of_classes: bool = False,
    of_any_channels: bool = False,
) -> Callable[[_Build], _Build]:
    """Register a loss, so that pairs can name it by the name of its function."""

    def register(build: _Build) -> _Build:
        registered = _LOSSES.get(build.__name__)
        # A module whose import was interrupted is imported again.
        assert registered is None or registered.build.__module__ == build.__module__, build.__name__
        _LOSSES[build.__name__] = LossSpec(
            build=build,
            takes=takes,
            takes_by_option=otherwise or {},
            is_class_softmax=of_classes,
            needs_no_adapter=of_any_channels,
        )
        return build

    return register


def named_losses() -> Mapping[str, LossSpec]:
    """Return the losses that pairs can name, sorted."""
    import_module(f"{__package__}.losses")
    return MappingProxyType(dict(sorted(_LOSSES.items())))


def group_flows(losses: Sequence[str]) -> Iterator[tuple[int, ...]]:
    """Yield the indices of the pairs of each loss, ordered by their last: a flow has two.

    Unfinished flows, with one index, come last.
    """
    known = named_losses()
    starts: dict[str, int] = {}
    for index, loss in enumerate(losses):
        if loss not in known or not known[loss].takes.flows:
            yield (index,)
        elif loss in starts:
            yield starts.pop(loss), index
        else:
            starts[loss] = index
    yield from ((index,) for index in starts.values())
