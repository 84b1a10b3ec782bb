"""One analysis of a Graph, which inspect, matching and pictures read."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import cached_property
from itertools import accumulate, pairwise

from graphtool.diagnostics import counted
from graphtool.graph import UNKNOWN_DIM, Graph, Operator, Origin, Value, collection_paused
from graphtool.ops import (
    ACTIVATIONS,
    CONVOLUTIONS,
    IDENTITIES,
    JOINS,
    NORMS,
    POOLS,
    RESHAPES,
    is_training,
    statistics_of,
)
from graphtool.structure._cost import Costs, costs_of
from graphtool.structure._dominators import dominators_of
from graphtool.structure._flow import Flow, flow_of
from graphtool.structure._heads import Head, heads_of
from graphtool.structure._layouts import GLOBAL, Scale, channel_axes, resolutions, sides_of
from graphtool.structure._necks import Neck, levels_of, necks_of
from graphtool.structure._stages import Course, Stage, Tap, course_of, taps_of
from graphtool.structure._transformer import (
    Encoder,
    encoders_of,
    mixer_of,
    values_in_reduced_attention,
)

__all__ = ["Role", "Section", "Structure", "ValueRow", "analyse", "split_section", "value_row"]

_LAYERS = "layers"
# Published networks are paired at four stages at most.
_MAX_STAGES = 4
_MAX_IMAGE_CHANNELS = 4
# An eighth of each side; the area of the smallest map of a network for small inputs.
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


_ROLE_BY_ORIGIN = {
    Origin.PARAMETER: Role.PARAMETER,
    Origin.FEED: Role.FEED,
    Origin.VARIABLE: Role.VARIABLE,
    Origin.ARGUMENT: Role.ARGUMENT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Consecutive blocks that two networks are aligned by, of a kind, with their outputs in order.

    A stage, layers of a transformer, the middle of a U-Net, or a step up.
    """

    kind: str
    blocks: tuple[str, ...]

    @property
    def end(self) -> str:
        """The output of the last block."""
        return self.blocks[-1]

    @property
    def is_layers(self) -> bool:
        """Return whether these are layers of a transformer, not a stage at one resolution."""
        return self.kind == _LAYERS


@dataclass(frozen=True, kw_only=True)
class Structure:
    """What a Graph is made of.

    `scales` has the resolution relative to the input by Value name, `course` the stages; `heads`
    have the main one first. `encoders` are the stacks of transformer layers, a decoder before the
    encoder that it attends to. `necks` are what the heads read after the backbone, the finest
    first; () for classifiers. `channel_axes` has the axis of the channels by Value name; where no
    operator determines it, the name is not among `known_axes`, and the axis is the usual one.
    """

    graph: Graph
    flow: Flow
    scales: Mapping[str, Scale]
    course: Course
    heads: tuple[Head, ...]
    encoders: tuple[Encoder, ...]
    necks: tuple[Neck, ...]
    channel_axes: Mapping[str, int]
    known_axes: frozenset[str]
    costs: Costs

    @property
    def encoder(self) -> Encoder | None:
        """The transformer layers that lead to the logits; a decoder's, where there is one."""
        return self.encoders[0] if self.encoders else None

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages from the input to the deepest map."""
        return self.course.down

    @cached_property
    def multiply_adds(self) -> int:
        """Multiply-adds of the whole network for one sample."""
        return sum(cost.multiply_adds for cost in self.costs.by_operator.values())

    @property
    def is_cost_exact(self) -> bool:
        """Return whether `multiply_adds` counts every Operator, by known dims alone."""
        is_known = all(cost.exact for cost in self.costs.by_operator.values())
        return is_known and not self.costs.uncounted

    @cached_property
    def parameters(self) -> int:
        """Elements of all parameters, without running statistics."""
        total = sum(_elements(value) for value in self.graph.parameters)
        return total - self.running_statistics

    @cached_property
    def running_statistics(self) -> int:
        """Elements of the running means and variances of batch norms."""
        names = {
            name for operator in self.graph.operators.values() for name in statistics_of(operator)
        }
        return sum(_elements(self.graph.values[name]) for name in names)

    def depth(self, name: str) -> float:
        """Return the depth of a Value as a fraction of the logits', in Operators on a path."""
        depths = self.flow.depth
        total = (
            depths.get(self.heads[0].logits, 0) if self.heads else max(depths.values(), default=0)
        )
        return min(1.0, depths.get(name, 0) / total) if total else 0.0

    def cost_fraction(self, name: str) -> float:
        """Return the fraction of the multiply-adds that is no deeper than a Value."""
        return self._cost_by_depth.get(self.flow.depth.get(name, 0), 0.0)

    @cached_property
    def _cost_by_depth(self) -> Mapping[int, float]:
        costs: Counter[int] = Counter()
        for step in self.flow.steps.values():
            cost = self.costs.by_operator.get(step.operator.name)
            costs[self.flow.depth[step.result]] += cost.multiply_adds if cost else 0
        depths, total = sorted(costs), self.multiply_adds or 1
        cumulative = accumulate(costs[depth] for depth in depths)
        return {depth: cost / total for depth, cost in zip(depths, cumulative, strict=True)}

    def channels(self, name: str) -> int:
        """Return the channels of a map, or the width of a sequence or vector; may be UNKNOWN."""
        shape = self.graph.values[name].shape
        if not shape:
            return UNKNOWN_DIM
        return shape[self.channel_axes.get(name, len(shape) - 1)]

    def sides(self, name: str) -> tuple[int, int] | None:
        """Return H and W of a map, None where they are unknown or the Value is not a map."""
        return sides_of(self.graph, name, self.channel_axes.get(name, 1))

    @cached_property
    def main_line(self) -> tuple[str, ...]:
        """What pairs are made of, by depth: block outputs, encoder layers, embedding, logits."""
        names: list[str | None] = [name for part in self.parts for name in part.blocks]
        for encoder in self.encoders:
            names += [*encoder.states, *encoder.scores, *encoder.cross_scores]
        for head in self.heads:
            names += [head.embedding, head.logits]
        distinct = dict.fromkeys(name for name in names if name is not None)
        return tuple(sorted(distinct, key=lambda name: self.flow.depth[name]))

    def is_on_main_line(self, name: str) -> bool:
        """Return whether a block, an encoder layer or a head ends in this Value."""
        return name in self._main_line_names

    @cached_property
    def _main_line_names(self) -> frozenset[str]:
        return frozenset(self.main_line)

    @property
    def is_for_small_inputs(self) -> bool:
        """Return whether inputs are about 32 × 32: the stages go from full size to 1/8."""
        classified = (head.logits for head in self.heads if head.classifies)
        scores_pixels = any(self.scales.get(name, GLOBAL) != GLOBAL for name in classified)
        if not self.stages or self.course.up or scores_pixels:
            return False
        return self.stages[0].scale.area >= 1 and self.stages[-1].scale.area >= _EIGHTH

    @property
    def description(self) -> str:
        """What the network is read as, for the user: `U-Net: 3 stages down, the middle, 3 up`."""
        layers = [len(encoder.hidden_states) for encoder in self.encoders]
        down, up = len(self.stages), len(self.course.up)
        if up:
            name = "U-Net" if self.is_u_shaped else "encoder and decoder"
            middle = ", the middle" if self.course.middle else ""
            before = f"{counted(down, 'stage')} down{middle}, " if down else ""
            return f"{name}: {before}{up} up"
        if len(layers) > 1:
            return f"transformer: {layers[1]} encoder layers, {layers[0]} decoder layers"
        if layers and len(self.sections) == 1:
            return f"transformer: {counted(layers[0], 'layer')}"
        if not self.stages:
            return "no stages or layers"
        parts = [counted(down, "stage")]
        if down == 1:
            parts[0] += f" of {counted(len(self.stages[0].blocks), 'block')}"
        if layers and all(section.is_layers for section in self.sections):
            parts[0] += f" with {counted(layers[0], 'layer')}"
        if self.has_pyramid:
            parts.append(f"a pyramid of {len(self.necks)} levels")
        parts += [f"{len(self.heads)} heads"] if len(self.heads) > 1 else []
        kind = "transformer: " if self.sections[-1].is_layers else ""
        return kind + ", ".join(parts)

    @cached_property
    def answers_image(self) -> bool:
        """Return whether the main output is an image, not class scores of each pixel.

        It has the channels of the input image, up to 4, and is larger, or ends in tanh or in a sum
        with the input, or more than an image is fed, as to diffusion networks. Where no image is
        fed, it ends in tanh.
        """
        head = self.heads[0] if self.heads else None
        step = None if head is None else self.flow.maker.get(head.prediction)
        if head is None or step is None or head.prediction != head.logits:
            return False
        scale = self.scales.get(head.logits, GLOBAL)
        images = [name for name in self.graph.feeds if name in self.scales]
        if not images or scale == GLOBAL:
            return scale != GLOBAL and step.kind == "tanh"
        is_alike = self.channels(head.logits) == self.channels(images[0]) <= _MAX_IMAGE_CHANNELS
        is_made = step.kind == "tanh" or images[0] in step.data or len(self.graph.feeds) > 1
        return is_alike and (scale.area > 1 or (scale.area == 1 and is_made))

    @property
    def has_pyramid(self) -> bool:
        """Return whether heads read several levels of a neck."""
        return len(self.necks) > 1 and len({self.scales[neck.value] for neck in self.necks}) > 1

    @cached_property
    def is_u_shaped(self) -> bool:
        """Return whether the way up joins what was computed on the way down, as in a U-Net."""
        depth = self.flow.depth
        before = depth[self.stages[-1].end] if self.stages else 0
        joins = (
            step
            for stage in self.course.up
            for name in stage.values
            if (step := self.flow.steps[name]).kind in JOINS
        )
        return any(depth[name] < before for step in joins for name in self.flow.branches(step))

    @cached_property
    def decoder(self) -> tuple[Section, ...]:
        """The stages after the deepest map: the middle of a diffusion network, and those up."""
        up = [
            Section(kind="step up", blocks=self._with_transition(stage, self.course.up))
            for stage in self.course.up
        ]
        middle = self.course.middle
        return (*([Section(kind="middle", blocks=middle.blocks)] if middle else ()), *up)

    def _with_transition(self, stage: Stage, stages: Sequence[Stage]) -> tuple[str, ...]:
        """Return the blocks of a stage of a U-Net, with the convolution that changes its size.

        In diffusion networks a convolution alone, before the residual blocks of the next stage,
        closes a block: the way up joins its output too.
        """
        following = stages[stages.index(stage) + 1 :][:1]
        if not following or not self.is_join(stage.end):
            return stage.blocks
        values = following[0].values
        steps = (self.flow.steps[name] for name in values)
        first = next((index for index, step in enumerate(steps) if self.flow.joins(step)), 0)
        step = self.flow.producer(values[first - 1], skip={"add"}) if first else None
        if step is None or step.kind not in CONVOLUTIONS:
            return stage.blocks
        return (*stage.blocks, values[first - 1])

    @cached_property
    def parts(self) -> tuple[Stage | Section, ...]:
        """Everything that has blocks: the stages, the sections made of them, and the way up."""
        return (*self.stages, *self.sections, *self.decoder)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """What two networks are aligned by: the stages without the stem.

        A stage made of transformer layers has these as blocks. Where layers have no stage, as in
        networks for text, all are one section.
        """
        stages = self.stages
        layers = () if self.encoder is None else self.encoder.hidden_states
        # Published pairs leave out the stem. With five stages or more, the first is one: a few
        # convolutions, as in a ResNet-vd. With four, it is one if its only block is a convolution.
        is_stem = not self.is_u_shaped and (
            len(stages) > _MAX_STAGES
            or (
                len(stages) == _MAX_STAGES
                and len(stages[0].blocks) == 1
                and not self.is_join(stages[0].end)
            )
        )
        body = stages[1:] if is_stem else stages
        if not body:
            return (Section(kind=_LAYERS, blocks=layers),) if layers else ()
        # Attention between convolutions is inside a block.
        if len({self.graph.values[name].rank for name in layers}) > 1:
            layers = ()
        sections: list[Section] = []
        for stage in body:
            within = frozenset(stage.values)
            states = tuple(name for name in layers if name in within)
            # What pools or averages the last layer is no layer: the stage ends before it.
            if states and stage is body[-1] and layers[-1:] != states[-1:]:
                states = (*states, stage.end)
            whole = self._with_transition(stage, stages) if self.is_u_shaped else stage.blocks
            kind, blocks = (_LAYERS, states) if states else ("stage", whole)
            sections.append(Section(kind=kind, blocks=tuple(dict.fromkeys(blocks))))
        return tuple(sections)

    def taps(self, name: str) -> Mapping[Tap, str]:
        """Return the taps of the block that a Value is the output of."""
        return taps_of(self.flow, name)

    def is_join(self, name: str) -> bool:
        """Return whether a block output comes from a join of branches, not from a convolution."""
        before = self.taps(name).get(Tap.BEFORE_ACTIVATION, name)
        step = self.flow.producer(before, skip=RESHAPES | IDENTITIES)
        return step is not None and self.flow.joins(step)

    def relative_position(self, name: str) -> float:
        """Return the position of a Value among stages or layers: 1 in the last, 1/4 in one of 4.

        The depth where there are neither.
        """
        depth, depths = self.flow.depth.get(name, 0), self._stage_depths
        has_layers_alone = len(self.sections) == 1 and self.sections[0].is_layers
        if self._layer_depths and (has_layers_alone or depth > depths[-1]):
            depths = self._layer_depths
        if not depths:
            return self.depth(name)
        return min(1.0, (1 + bisect_left(depths, depth)) / len(depths))

    @cached_property
    def _stage_depths(self) -> tuple[int, ...]:
        return tuple(self.flow.depth[stage.end] for stage in self.stages)

    @cached_property
    def _layer_depths(self) -> tuple[int, ...]:
        states = () if self.encoder is None else self.encoder.hidden_states
        return tuple(self.flow.depth[name] for name in states)

    def head_of(self, name: str) -> Head | None:
        """Return the head whose logits a Value is."""
        return self._head_by_logits.get(name)

    @cached_property
    def _head_by_logits(self) -> Mapping[str, Head]:
        return {head.logits: head for head in self.heads}

    @property
    def first_stage(self) -> int:
        """The number of the first of `stages`: 0 where that is an unpaired stem, else 1.

        Everything that numbers stages starts here.
        """
        has_stem = bool(self.stages) and len(self.sections) < len(self.stages)
        return 0 if has_stem else 1

    def after_blocks(self, stage: Stage) -> tuple[str, ...]:
        """Return the Values of a stage after its last block.

        () before a strided convolution: the next block begins with them.
        """
        if stage not in self.stages:
            return ()
        following = self.stages[self.stages.index(stage) + 1 :]
        if following and self.flow.steps[following[0].values[0]].kind not in POOLS:
            return ()
        return stage.values[stage.values.index(stage.end) + 1 :]

    def last_parametric_value(self, stage: Stage) -> str:
        """Return a stage's last Value with parameters: a weighted step's or a normalisation's.

        In ShuffleNetV2 a convolution after the last block; mostly the output of that block.
        """
        steps = (self.flow.steps[name] for name in self.after_blocks(stage))
        parametric = [step.result for step in steps if step.is_weighted or step.kind in NORMS]
        return parametric[-1] if parametric else stage.end

    def stage_of(self, name: str) -> int | None:
        """Return the number of the stage that a main-line Value belongs to."""
        return self._stage_numbers.get(name)

    @cached_property
    def _stage_numbers(self) -> Mapping[str, int]:
        numbered = enumerate(self.stages, self.first_stage)
        return {name: number for number, stage in numbered for name in stage.values}

    def role(self, name: str) -> Role:
        """Return what a Value is to the network."""
        value, operator = self.graph.values[name], self.graph.producer(name)
        role = self._special_roles.get(name) or _ROLE_BY_ORIGIN.get(value.origin)
        if role is not None:
            return role
        step = self.flow.maker.get(name)
        if operator is not None and not operator.operands:
            return Role.CONSTANT
        if step is None:
            return Role.TRAINING if operator is not None and is_training(operator) else Role.OTHER
        if name not in self.flow.features:
            return Role.OTHER
        return Role.ACTIVATION if step.kind in ACTIVATIONS else Role.FEATURE

    @cached_property
    def _special_roles(self) -> Mapping[str, Role]:
        roles: dict[str, Role] = {part.end: Role.STAGE_END for part in self.parts}
        for encoder in self.encoders:
            roles.update(dict.fromkeys(encoder.hidden_states, Role.HIDDEN_STATE))
            scores = (*encoder.scores, *encoder.cross_scores)
            roles.update((name, Role.ATTENTION) for name in scores if name)
        for head in self.heads:
            roles[head.logits] = Role.LOGITS
            if head.embedding is not None:
                roles[head.embedding] = Role.EMBEDDING
        return roles


def _elements(value: Value) -> int:
    count = 1
    for dim in value.shape or (0,):
        count *= max(dim, 0)
    return count


def analyse(graph: Graph) -> Structure:
    """Find out what a network is made of; the result is cached in the Graph."""
    return graph.once(_analysis)


@collection_paused()
def _analysis(graph: Graph) -> Structure:
    flow = flow_of(graph)
    axes, known_axes = channel_axes(flow)
    scales = resolutions(flow, axes)
    reduced = values_in_reduced_attention(flow, scales)
    scales = {name: scale for name, scale in scales.items() if name not in reduced}
    heads = heads_of(flow, scales)
    # What else is fed, such as the time step of a diffusion network, is no path through the maps.
    images = [name for name in graph.feeds if name in scales] or list(graph.feeds)
    tree = dominators_of(flow, images)
    levels = levels_of(flow, scales, heads)
    logits = heads[0].logits if heads else None
    course = course_of(flow, scales, axes, tree, images, heads, levels)
    stages = course.down
    encoders = encoders_of(flow, logits) if logits is not None else ()
    mixer = None if encoders else mixer_of(flow, stages)
    return Structure(
        graph=graph,
        flow=flow,
        scales=scales,
        course=course,
        heads=heads,
        encoders=encoders or ((mixer,) if mixer else ()),
        necks=necks_of(flow, scales, tree, levels, stages[-1].end if stages else None),
        channel_axes=axes,
        known_axes=known_axes,
        costs=costs_of(flow, scales),
    )


def split_section(section: Section, count: int) -> tuple[Section, ...]:
    """Divide a section into equal parts, as a ViT into four, with at least one block in each."""
    blocks = section.blocks
    count = min(count, len(blocks))
    ends = [round(index * len(blocks) / count) for index in range(count + 1)]
    return tuple(
        Section(kind=section.kind, blocks=blocks[start:end]) for start, end in pairwise(ends)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRow:
    """What was found out about one Value; `stage` counts from 1, the stem is 0."""

    value: Value
    operator: Operator | None
    role: str
    stage: int | None
    resolution: str | None
    depth: float | None
    cost_fraction: float | None
    main_line: bool


def value_row(structure: Structure, value: Value) -> ValueRow:
    """Collect what a Structure has on a Value."""
    name = value.name
    scale = structure.scales.get(name)
    is_computed = name in structure.flow.maker
    return ValueRow(
        value=value,
        operator=structure.graph.producer(name),
        role=structure.role(name).value,
        stage=structure.stage_of(name),
        resolution=None if scale is None else str(scale),
        depth=structure.depth(name) if is_computed else None,
        cost_fraction=structure.cost_fraction(name) if is_computed else None,
        main_line=structure.is_on_main_line(name),
    )
