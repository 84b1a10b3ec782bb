"""Sections: what two networks are aligned by, the stages of one or the layers of a transformer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from graphtool.structure._stages import Stage
from graphtool.structure._transformer import Encoder

__all__ = ["Section", "divided", "sections_of"]

_LAYERS = "layers"
# Published networks are paired at four stages at most.
_MOST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Blocks in a row that belong together: `what` they are, their outputs in order."""

    what: str
    blocks: tuple[str, ...]

    @property
    def end(self) -> str:
        """The output of the last block."""
        return self.blocks[-1]

    @property
    def is_layers(self) -> bool:
        """Tell layers of a transformer from a stage at one resolution."""
        return self.what == _LAYERS


def sections_of(
    stages: Sequence[Stage], encoder: Encoder | None, joins: Callable[[str], bool]
) -> tuple[Section, ...]:
    """Return the stages without the stem; the blocks of one made of layers are those layers.

    Where layers have no stage, as those of a network for text, all are one section. `joins` tells
    the outputs of blocks that join branches.
    """
    layers = () if encoder is None else encoder.hidden_states
    body = _without_stem(stages, joins)
    if not body:
        return (Section(what=_LAYERS, blocks=layers),) if layers else ()
    return tuple(_section(stage, layers) for stage in body)


def _section(stage: Stage, layers: Sequence[str]) -> Section:
    within = frozenset(stage.values)
    states = tuple(name for name in layers if name in within)
    return (
        Section(what=_LAYERS, blocks=states)
        if states
        else Section(what="stage", blocks=stage.blocks)
    )


def _without_stem(stages: Sequence[Stage], joins: Callable[[str], bool]) -> Sequence[Stage]:
    """Leave out the stem, which nobody pairs: a first stage of one block, or one of five or more.

    At the highest resolution of five there are a few convolutions, or the stem of a ResNet-vd. The
    one block of a stem is a convolution: it joins nothing.
    """
    if len(stages) > _MOST:
        return stages[1:]
    is_stem = len(stages) == _MOST and len(stages[0].blocks) == 1 and not joins(stages[0].end)
    return stages[1:] if is_stem else stages


def divided(section: Section, count: int) -> tuple[Section, ...]:
    """Divide blocks into parts of equal length, as a ViT is at four depths; one a part at least."""
    blocks = section.blocks
    count = min(count, len(blocks))
    ends = [round(index * len(blocks) / count) for index in range(count + 1)]
    return tuple(
        Section(what=section.what, blocks=blocks[start:end]) for start, end in pairwise(ends)
    )
