"""One analysis of a Graph, which inspect, matching and the picture read."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cached_property
from itertools import accumulate

from graphtool.garbage import collection_paused
from graphtool.graph import UNKNOWN, Graph, Origin, Value
from graphtool.structure._cost import Costs, costs_of
from graphtool.structure._dominators import dominators_of
from graphtool.structure._flow import Flow, flow_of
from graphtool.structure._layout import channel_axes
from graphtool.structure._necks import Neck, levels_of, necks_of
from graphtool.structure._outputs import Head, heads_of
from graphtool.structure._resolution import GLOBAL, Scale, resolutions, sides_of
from graphtool.structure._sections import Section, sections_of
from graphtool.structure._stages import Stage, stages_of
from graphtool.structure._statistics import statistics_of
from graphtool.structure._taps import Tap, taps_of
from graphtool.structure._transformer import Encoder, encoder_of, inside_attention, mixer_of
from graphtool.structure._vocabulary import (
    ACTIVATIONS,
    IDENTITIES,
    JOINS,
    NORMS,
    POOLS,
    RESHAPES,
    is_training,
)

__all__ = ["Role", "Structure", "analyse"]


# Of each side; the area of the smallest map of a network for small inputs.
_EIGHTH = Fraction(1, 64)


class Role(Enum):
    """What a Value is to the network."""

    PARAMETER = "parameter"
    FEED = "feed"
    VARIABLE = "variable"
    ARGUMENT = "block argument"
    CONSTANT = "constant"
    LOGITS = "logits"
    EMBEDDING = "embedding"
    HIDDEN_STATE = "hidden state"
    ATTENTION = "attention scores"
    STAGE_END = "stage end"
    ACTIVATION = "activation"
    FEATURE = "feature"
    TRAINING = "gradient or optimizer"
    OTHER = "other"


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What was found out about a Graph.

    `scales` has the resolution relative to the input by Value name, `stages` are in order, `heads`
    have the main one first, `encoder` is None where there are no transformer layers. `necks` are
    what the heads read behind the backbone, the coarsest first; () for classifiers.
    `channel_axes` says by Value name which axis holds the channels; where operators say it, the
    name is among `known_axes`, else it is the usual one.
    """

    graph: Graph
    flow: Flow
    scales: Mapping[str, Scale]
    stages: tuple[Stage, ...]
    heads: tuple[Head, ...]
    encoder: Encoder | None
    necks: tuple[Neck, ...]
    channel_axes: Mapping[str, int]
    known_axes: frozenset[str]
    costs: Costs

    @cached_property
    def multiply_adds(self) -> int:
        """Multiply-adds of the whole for one sample."""
        return sum(cost.multiply_adds for cost in self.costs.by_operator.values())

    @property
    def exact(self) -> bool:
        """Tell whether `multiply_adds` counts every Operator, and rests on known dims alone."""
        known = all(cost.exact for cost in self.costs.by_operator.values())
        return known and not self.costs.uncounted

    @cached_property
    def parameters(self) -> int:
        """Elements of all parameters, without running statistics."""
        whole = sum(_elements(value) for value in self.graph.parameters)
        return whole - self.running_statistics

    @cached_property
    def running_statistics(self) -> int:
        """Elements of the means and variances that normalisations keep."""
        names = {
            name for operator in self.graph.operators.values() for name in statistics_of(operator)
        }
        return sum(_elements(self.graph.values[name]) for name in names)

    def depth(self, name: str) -> float:
        """Return how deep a Value lies: Operators on the longest path, of those to the logits."""
        depths = self.flow.depth
        whole = (
            depths.get(self.heads[0].logits, 0) if self.heads else max(depths.values(), default=0)
        )
        return min(1.0, depths.get(name, 0) / whole) if whole else 0.0

    def cost_before(self, name: str) -> float:
        """Return the multiply-adds of all that lies no deeper than a Value, of the whole."""
        return self._cost_by_depth.get(self.flow.depth.get(name, 0), 0.0)

    @cached_property
    def _cost_by_depth(self) -> Mapping[int, float]:
        costs: Counter[int] = Counter()
        for step in self.flow.steps.values():
            cost = self.costs.by_operator.get(step.operator.name)
            costs[self.flow.depth[step.result]] += cost.multiply_adds if cost else 0
        depths, whole = sorted(costs), self.multiply_adds or 1
        spent = accumulate(costs[depth] for depth in depths)
        return {depth: total / whole for depth, total in zip(depths, spent, strict=True)}

    def channels(self, name: str) -> int:
        """Return the channels of a map, or the width of a sequence or vector, UNKNOWN if so."""
        shape = self.graph.values[name].shape
        if not shape:
            return UNKNOWN
        return shape[self.channel_axes.get(name, len(shape) - 1)]

    def sides(self, name: str) -> tuple[int, int] | None:
        """Return H and W of a map, None where it is none or they are unknown."""
        return sides_of(self.graph, name, self.channel_axes.get(name, 1))

    @cached_property
    def main_line(self) -> tuple[str, ...]:
        """What pairs are made of, by depth: block outputs, encoder layers, embedding, logits."""
        names: list[str | None] = [name for stage in self.stages for name in stage.blocks]
        if self.encoder is not None:
            names += [*self.encoder.states, *self.encoder.scores]
        for head in self.heads:
            names += [head.embedding, head.logits]
        known = dict.fromkeys(name for name in names if name is not None)
        return tuple(sorted(known, key=lambda name: self.flow.depth[name]))

    @property
    def is_for_small_inputs(self) -> bool:
        """Tell a network for inputs of some 32 × 32: it begins at full size and keeps an eighth."""
        if not self.stages:
            return False
        return self.stages[0].scale.area >= 1 and self.stages[-1].scale.area >= _EIGHTH

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """What two networks are aligned by: stages, or runs of layers."""
        return sections_of(self.stages, self.encoder, self.joins)

    def taps(self, name: str) -> Mapping[Tap, str]:
        """Return where else the output of a block can be taken."""
        return taps_of(self.flow, name)

    def joins(self, name: str) -> bool:
        """Tell whether a block output comes from a join of branches, not from one convolution."""
        before = self.taps(name).get(Tap.BEFORE_ACTIVATION, name)
        step = self.flow.past(before, RESHAPES | IDENTITIES)
        return step is not None and step.kind in JOINS and len(self.flow.branches(step)) > 1

    def place(self, name: str) -> float:
        """Return where a Value stands among the stages or layers: 1 in the last, 1/4 in one of 4.

        Where there are neither it's the depth.
        """
        ends = self._layer_depths if self._in_encoder(name) else self._stage_depths
        if not ends:
            return self.depth(name)
        return min(1.0, (1 + bisect_left(ends, self.flow.depth.get(name, 0))) / len(ends))

    def _in_encoder(self, name: str) -> bool:
        """Tell what lies among the layers: all of a ViT or BERT, or what is behind the stages."""
        if not self._layer_depths:
            return False
        whole = len(self.sections) == 1 and self.sections[0].is_layers
        return whole or self.flow.depth.get(name, 0) > self._stage_depths[-1]

    @cached_property
    def _stage_depths(self) -> tuple[int, ...]:
        return tuple(self.flow.depth[stage.end] for stage in self.stages)

    @cached_property
    def _layer_depths(self) -> tuple[int, ...]:
        states = () if self.encoder is None else self.encoder.hidden_states
        return tuple(self.flow.depth[name] for name in states)

    def is_on_main_line(self, name: str) -> bool:
        """Tell whether a block, an encoder layer or a head ends in this Value."""
        return name in self._main_names

    @cached_property
    def _main_names(self) -> frozenset[str]:
        return frozenset(self.main_line)

    def head_of(self, name: str) -> Head | None:
        """Return the head whose logits a Value is."""
        return self._head_by_logits.get(name)

    @cached_property
    def _head_by_logits(self) -> Mapping[str, Head]:
        return {head.logits: head for head in self.heads}

    @property
    def first_stage(self) -> int:
        """The number of the first of `stages`: 0 where that is the stem, which nobody pairs, or 1.

        Everything that numbers stages begins here.
        """
        has_stem = bool(self.stages) and len(self.sections) < len(self.stages)
        return 0 if has_stem else 1

    def behind_blocks(self, stage: Stage) -> tuple[str, ...]:
        """Return the Values behind the last block of a stage that are still the stage's.

        Those before a strided convolution are left to the next block, whose first half they are.
        """
        following = self.stages[self.stages.index(stage) + 1 :]
        if following and self.flow.steps[following[0].values[0]].kind not in POOLS:
            return ()
        return stage.values[stage.values.index(stage.end) + 1 :]

    def last_weighed(self, stage: Stage) -> str:
        """Return the Value of a stage that the last weights give: ShuffleNetV2's last convolution.

        That is behind its last block, whose output it is elsewhere.
        """
        steps = (self.flow.steps[name] for name in self.behind_blocks(stage))
        weighed = [step.result for step in steps if step.weighted or step.kind in NORMS]
        return weighed[-1] if weighed else stage.end

    def stage_of(self, name: str) -> int | None:
        """Return the number of the stage that a main-line Value belongs to."""
        return self._stage_numbers.get(name)

    @cached_property
    def _stage_numbers(self) -> Mapping[str, int]:
        numbered = enumerate(self.stages, self.first_stage)
        return {name: number for number, stage in numbered for name in stage.values}

    def role(self, name: str) -> Role:
        """Return what a Value is to the network."""
        special = self._special_roles.get(name)
        return special if special is not None else _plain_role(self, self.graph.values[name])

    @cached_property
    def _special_roles(self) -> Mapping[str, Role]:
        roles: dict[str, Role] = {stage.end: Role.STAGE_END for stage in self.stages}
        if self.encoder is not None:
            roles.update(dict.fromkeys(self.encoder.hidden_states, Role.HIDDEN_STATE))
            roles.update((name, Role.ATTENTION) for name in self.encoder.scores if name)
        for head in self.heads:
            roles[head.logits] = Role.LOGITS
            if head.embedding is not None:
                roles[head.embedding] = Role.EMBEDDING
        return roles


_ROLE_BY_ORIGIN = {
    Origin.PARAMETER: Role.PARAMETER,
    Origin.FEED: Role.FEED,
    Origin.VARIABLE: Role.VARIABLE,
    Origin.ARGUMENT: Role.ARGUMENT,
}


def _plain_role(structure: Structure, value: Value) -> Role:
    by_origin = _ROLE_BY_ORIGIN.get(value.origin)
    if by_origin is not None:
        return by_origin
    operator = structure.graph.producer(value.name)
    step = structure.flow.maker.get(value.name)
    if operator is not None and not operator.operands:
        return Role.CONSTANT
    if step is None:
        is_gradient = operator is not None and is_training(operator)
        return Role.TRAINING if is_gradient else Role.OTHER
    if value.name not in structure.flow.features:
        return Role.OTHER
    return Role.ACTIVATION if step.kind in ACTIVATIONS else Role.FEATURE


def analyse(graph: Graph) -> Structure:
    """Find out what a network is made of; a Graph is looked at once."""
    return graph.once(_analysis)


@collection_paused()
def _analysis(graph: Graph) -> Structure:
    flow = flow_of(graph)
    axes, known_axes = channel_axes(flow)
    scales = resolutions(flow, axes)
    inside = inside_attention(flow, scales)
    scales = {name: scale for name, scale in scales.items() if name not in inside}
    heads = heads_of(flow, scales)
    tree = dominators_of(flow)
    levels = levels_of(flow, scales, heads)
    stages = stages_of(flow, scales, axes, tree, _classifier(flow, scales, heads), levels)
    encoder = encoder_of(flow, heads[0].logits) if heads else None
    return Structure(
        graph=graph,
        flow=flow,
        scales=scales,
        stages=stages,
        heads=heads,
        encoder=encoder or mixer_of(flow, stages),
        necks=necks_of(flow, scales, tree, levels, stages[-1].end if stages else None),
        channel_axes=axes,
        known_axes=known_axes,
        costs=costs_of(flow, scales),
    )


def _classifier(flow: Flow, scales: Mapping[str, Scale], heads: tuple[Head, ...]) -> str | None:
    """Return the main head's logits where they are one vector per sample."""
    if not heads:
        return None
    logits = heads[0].logits
    rank = len(flow.graph.values[logits].shape or ())
    return logits if rank == 2 or scales.get(logits) == GLOBAL else None


def _elements(value: Value) -> int:
    count = 1
    for dim in value.shape or (0,):
        count *= max(dim, 0)
    return count
