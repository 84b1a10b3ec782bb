"""Layouts: the axis of the channels, and the resolution relative to the input.

Transposes move the channels, and some networks are NHWC. The resolution comes from attributes of
operators: H and W may be unknown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from graphtool.graph import UNKNOWN_DIM, Graph, Operator
from graphtool.ops import (
    CONVOLUTIONS,
    POOLS,
    PRODUCTS,
    REDUCTIONS,
    RESHAPES,
    RESIZES,
    integers,
    integers_of,
    is_custom,
    numbers,
)
from graphtool.structure._flow import SHAPE_ONLY, Flow, Step

__all__ = ["GLOBAL", "Scale", "channel_axes", "is_vector", "resolutions", "sides_of"]

# Paddle counts sides in 64 bits.
_MAX_SIDE = 2**63
_ONE = Fraction(1)
# The rank of one vector per sample, or per position.
_VECTORS = 2
# They move pixels into channels or back: the attribute with the factor, whether maps get larger.
_REARRANGING = {
    "pixel_shuffle": ("upscale_factor", True),
    "pixel_unshuffle": ("downscale_factor", False),
    "space_to_depth": ("blocksize", False),
}
_CHANNELS_LAST = frozenset({"NHWC", "NLC", "NDHWC", "NWC"})
_CHANNELS_FIRST_AXIS = 1
_HAVE_DATA_FORMAT = CONVOLUTIONS | POOLS | RESIZES | {"batch_norm", "group_norm"}
# They flatten a map of any rank, and sum over all of it.
_FLATTENING = frozenset({"mul", "fc"})
# Attributes that transpose the data operand of a product, by whether the weight is the left one.
_TRANSPOSE_DATA = {
    True: ("transpose_y", "trans_y", "transpose_Y"),
    False: ("transpose_x", "trans_x", "transpose_X"),
}


@dataclass(frozen=True, slots=True)
class Scale:
    """Height and width as fractions of the input's; 0 where a map was pooled to one pixel."""

    height: Fraction
    width: Fraction

    def times(self, height: Fraction, width: Fraction) -> Scale:
        """Return the resolution after a step by these factors."""
        return Scale(self.height * height, self.width * width)

    @property
    def area(self) -> Fraction:
        """The number of pixels as a fraction of the input's."""
        return self.height * self.width

    @property
    def is_possible(self) -> bool:
        """Return whether a map can have this resolution; a damaged file may give any."""
        parts = (self.height, self.width)
        return all(max(part.numerator, part.denominator) <= _MAX_SIDE for part in parts)

    def __str__(self) -> str:
        if self == GLOBAL:
            return "global"
        height, width = (_fraction(part) for part in (self.height, self.width))
        return height if height == width else f"{height} × {width}"


_INPUT = Scale(_ONE, _ONE)
GLOBAL = Scale(Fraction(0), Fraction(0))


def resolutions(flow: Flow, channel_axes: Mapping[str, int]) -> Mapping[str, Scale]:
    """Return the resolution of every Value that depends on the input, where it is known.

    Attributes decide. Shapes are compared only where an Operator has a size and no factor (adaptive
    pooling, resizing to a size), or is a custom one.
    """
    rules = _ScaleRules(flow.graph, channel_axes)
    scales: dict[str, Scale] = {
        name: _INPUT
        for name in flow.graph.feeds
        if rules.rank(name) in (4, 5) or _is_signal(flow, name)
    }
    is_generator = not scales and any(step.kind in CONVOLUTIONS for step in flow.steps.values())
    for step in flow.steps.values():
        read = [name for name in step.data if name in scales]
        if step.kind == "concat" and rules.joins_positions(flow.branches(step), step, scales):
            continue
        # Where a gate is multiplied with a map, the map decides.
        source = next((x for x in read if scales[x] != GLOBAL), read[0] if read else None)
        if source is None:
            # A generator makes its first map of a vector.
            is_first = is_generator and rules.rank(step.data[0]) == _VECTORS
            if is_first and step.kind == "reshape" and rules.sides(step.result):
                scales[step.result] = _INPUT
            continue
        scale = rules.after(step, source, scales[source])
        if scale == GLOBAL and step.kind == "reshape" and rules.rank(source) == _VECTORS:
            scale = rules.beside_input(step.result)
        if scale is None and step.kind in RESIZES:
            scale = next((scales[x] for x in _sized_like(flow, step) if x in scales), None)
        if scale is not None and scale.is_possible:
            scales.update(dict.fromkeys(step.operator.results, scale))
    return scales


def is_vector(flow: Flow, scales: Mapping[str, Scale], name: str) -> bool:
    """Return whether a Value is one vector per sample, or a map that was pooled to one pixel."""
    return flow.graph.values[name].rank == _VECTORS or scales.get(name) == GLOBAL


def _is_signal(flow: Flow, feed: str) -> bool:
    """Return whether a feed [N, C, L] is read as a map of one row, as 1-D convolutions do."""
    readers = flow.consumers.get(feed, ()) if flow.graph.values[feed].rank == 3 else ()
    after = (
        reader
        for step in readers
        if step.kind == "unsqueeze"
        for reader in flow.consumers.get(step.result, ())
    )
    return any(step.kind in CONVOLUTIONS for step in after)


def _sized_like(flow: Flow, resize: Step) -> Iterator[str]:
    """Yield the Values whose shapes the size of a resized map is computed from at run time."""
    pending, seen = list(resize.data[1:]), set[str]()
    while pending:
        name = pending.pop()
        step = None if name in seen else flow.maker.get(name)
        seen.add(name)
        if step is not None and step.kind in SHAPE_ONLY:
            yield step.data[0]
        elif step is not None and step.result not in flow.features:
            pending += step.data


def sides_of(graph: Graph, name: str, channel_axis: int) -> tuple[int, int] | None:
    """Return H and W of a map, None where they are unknown or the Value is not a map.

    Nor where the channel axis comes before the batch: then it is unknown which axis the batch is.
    """
    shape = graph.values[name].shape
    if shape is None or len(shape) != 4 or channel_axis == 0:
        return None
    height, width = (dim for axis, dim in enumerate(shape) if axis not in (0, channel_axis))
    return None if UNKNOWN_DIM in (height, width) or 0 in (height, width) else (height, width)


@dataclass(frozen=True, slots=True)
class _ScaleRules:
    """How each kind of Operator changes the resolution; `axes` are the channel axes."""

    graph: Graph
    axes: Mapping[str, int]

    def rank(self, name: str) -> int:
        return self.graph.values[name].rank or 0

    def after(self, step: Step, source: str, scale: Scale) -> Scale | None:
        """Return the resolution after a step, None where it is unknown."""
        operator, kind = step.operator, step.kind
        if self.graph.values[step.result].rank in (0, 1, 2):
            return scale if self._is_per_position(step, source) else GLOBAL
        if kind in CONVOLUTIONS and self._covers_map(step, source):
            return GLOBAL
        if kind in CONVOLUTIONS or kind == "unfold":
            return scale.times(*_strides(operator, transposed=kind.endswith("transpose")))
        if kind in POOLS:
            return self._after_pool(operator, source, scale)
        if kind in RESIZES:
            return self._after_resize(operator, source, scale)
        if kind in REDUCTIONS:
            return self._after_reduction(operator, source, scale)
        if kind == "strided_slice":
            return self._after_slice(operator, source, scale)
        if kind in _REARRANGING:
            attribute, enlarges = _REARRANGING[kind]
            factor = Fraction(max(1, *integers(operator.attributes.get(attribute)), 1))
            factor = factor if enlarges else 1 / factor
            return scale.times(factor, factor)
        # Paddle's other operators preserve the resolution.
        return self._by_shape(operator, source, scale) if is_custom(operator) else scale

    def sides(self, name: str) -> tuple[int, int] | None:
        return sides_of(self.graph, name, self.axes.get(name, _CHANNELS_FIRST_AXIS))

    def beside_input(self, name: str) -> Scale | None:
        """Return the resolution of a map that a decoder makes of a vector, None if unknown."""
        image = next((self.sides(feed) for feed in self.graph.feeds if self.rank(feed) == 4), None)
        sides = self.sides(name)
        if sides == (1, 1) or self.rank(name) != 4:
            return GLOBAL
        if image is None or sides is None:
            return None
        return Scale(Fraction(sides[0], image[0]), Fraction(sides[1], image[1]))

    def joins_positions(
        self, branches: Sequence[str], step: Step, scales: Mapping[str, Scale]
    ) -> bool:
        """Return whether a step lists the positions of maps at several resolutions: no map."""
        if len({scales.get(name, GLOBAL) for name in branches} - {GLOBAL}) < 2:
            return False
        channels = [
            shape[self.axes[name]]
            for name in (*branches, step.result)
            if (shape := self.graph.values[name].shape)
        ]
        return len(set(channels)) == 1 and UNKNOWN_DIM not in channels

    def _covers_map(self, step: Step, source: str) -> bool:
        """Return whether the kernel of a convolution is as large as the map, and not its stride."""
        kernel = (self.graph.values[step.weights[0]].shape or ()) if step.weights else ()
        strides = integers(step.operator.attributes.get("strides"))
        is_window = len(kernel) == 4 and max(kernel[2:]) > max(1, *strides, 1)
        return is_window and kernel[2:] == self.sides(source) and self.sides(step.result) == (1, 1)

    def _is_per_position(self, step: Step, source: str) -> bool:
        """Return whether a vector is that of one position: the others are part of the batch."""
        before, after = (self.graph.values[name].shape or () for name in (source, step.result))
        if len(before) == len(after) == _VECTORS:
            return True
        is_kept = before[-1:] == after[-1:] and self.axes[source] == len(before) - 1
        is_flattened = step.kind in ("flatten", "reshape") and len(after) == _VECTORS
        return is_flattened and is_kept and any(dim != 1 for dim in before[1:-1])

    def _after_pool(self, operator: Operator, source: str, scale: Scale) -> Scale:
        if operator.attributes.get("global_pooling"):
            return GLOBAL
        if not operator.attributes.get("adaptive"):
            kernel = integers_of(self.graph, operator, "kernel_size", "ksize")
            is_average = operator.attributes.get("pooling_type") == "avg"
            if is_average and tuple(kernel[-2:]) == self.sides(source):
                return GLOBAL
            return scale.times(*_strides(operator, transposed=False))
        if prod(integers_of(self.graph, operator, "kernel_size", "ksize") or (0,)) == 1:
            return GLOBAL
        return self._by_shape(operator, source, scale) or scale

    def _after_resize(self, operator: Operator, source: str, scale: Scale) -> Scale | None:
        factors = numbers(operator.attributes.get("scale"))
        if not factors or min(factors) <= 0:
            return self._by_shape(operator, source, scale)
        height, width = (Fraction(x).limit_denominator(64) for x in (factors * 2)[:2])
        return scale.times(height, width)

    def _after_reduction(self, operator: Operator, source: str, scale: Scale) -> Scale:
        """A reduction over H or W is global; one over channels preserves the resolution."""
        rank = self.rank(source)
        if not rank:
            return scale
        spatial = set(range(1, rank)) - {self.axes[source]}
        axes = integers_of(self.graph, operator, "axis", "dim", "axes")
        reduced = {axis % rank for axis in axes}
        return GLOBAL if reduced & spatial and reduced <= spatial else scale

    def _after_slice(self, operator: Operator, source: str, scale: Scale) -> Scale:
        strides = integers_of(self.graph, operator, "strides", operand=3)
        axes = integers(operator.attributes.get("axes"))
        stride_by_axis = dict(zip(axes, strides, strict=False))
        spatial = sorted(set(range(1, self.rank(source))) - {self.axes[source]})
        factors = [Fraction(1, max(1, abs(stride_by_axis.get(axis, 1)))) for axis in spatial]
        return scale.times(*factors) if len(factors) == 2 else scale

    def _by_shape(self, operator: Operator, source: str, scale: Scale) -> Scale | None:
        """Return the resolution by the sides before and after, None where they are unknown."""
        result = operator.results[0]
        before, after = self.sides(source), self.sides(result)
        if before is None or after is None:
            return None
        return scale.times(Fraction(after[0], before[0]), Fraction(after[1], before[1]))


def _strides(operator: Operator, *, transposed: bool) -> tuple[Fraction, Fraction]:
    """Return the factors by which strides change H and W; 1 where strides are invalid."""
    strides = integers(operator.attributes.get("strides"))
    height, width = strides[-2:] if len(strides) >= 2 else (1, strides[0] if strides else 1)
    if height < 1 or width < 1:
        return _ONE, _ONE
    if transposed:
        return Fraction(height), Fraction(width)
    return Fraction(1, height), Fraction(1, width)


def _fraction(part: Fraction) -> str:
    return str(part.numerator) if part.denominator == 1 else f"{part.numerator}/{part.denominator}"


def channel_axes(flow: Flow) -> tuple[Mapping[str, int], frozenset[str]]:
    """Return the channel axis of every Value that depends on the input, and the known ones.

    For Values that are not among the known ones, no operator determines the axis: it is the one
    that most networks have at that rank.
    """
    graph = flow.graph
    axes, known = dict[str, int](), set[str]()
    for name in graph.feeds:
        axis = _axis_of_feed(flow, name)
        axes[name] = _axis_or_default(graph, name, axis)
        known.update([name] if axis is not None else ())
    for step in flow.steps.values():
        axis = _axis_after(graph, step, axes, known)
        is_known = axis is not None and _is_axis_known(graph, step, axis, known)
        for name in step.operator.results:
            axes[name] = _axis_or_default(graph, name, axis)
            known.update([name] if is_known and axes[name] == axis else ())
    return axes, frozenset(known)


def _axis_or_default(graph: Graph, name: str, axis: int | None) -> int:
    rank = graph.values[name].rank or 0
    if axis is not None and 0 <= axis < rank:
        return axis
    return _CHANNELS_FIRST_AXIS if rank > 3 else max(rank - 1, 0)


def _axis_of_feed(flow: Flow, name: str) -> int | None:
    """Return the channel axis of a map by the first Operator that has a data format."""
    rank = flow.graph.values[name].rank or 0
    if rank <= 3:
        return None
    axes = (_axis_by_format(step.operator, rank) for step in flow.steps.values())
    return next((axis for axis in axes if axis is not None), None)


def _axis_by_format(operator: Operator, rank: int) -> int | None:
    data_format = operator.attributes.get("data_format", operator.attributes.get("data_layout"))
    if operator.kind not in _HAVE_DATA_FORMAT or not isinstance(data_format, str):
        return None
    return rank - 1 if data_format in _CHANNELS_LAST else _CHANNELS_FIRST_AXIS


def _is_axis_known(graph: Graph, step: Step, axis: int, known: Collection[str]) -> bool:
    """Return whether a step determines the channel axis, or preserves a known one."""
    if step.kind in _HAVE_DATA_FORMAT:
        return True
    if step.kind in PRODUCTS and step.weights:
        return axis == _axis_made_by_weight(graph, step)
    source = step.data[0]
    before, after = (graph.values[name].shape or () for name in (source, step.result))
    if step.kind in PRODUCTS or (step.kind in RESHAPES and len(before) == len(after)):
        is_transpose = step.kind == "transpose"
        is_same_dim = axis < len(before) and before[axis] == after[axis]
        return source in known and (is_transpose or is_same_dim)
    return source in known


def _axis_after(
    graph: Graph, step: Step, axes: Mapping[str, int], known: Collection[str]
) -> int | None:
    """Return the channel axis after a step, None for the default of its rank."""
    operator, rank = step.operator, graph.values[step.result].rank or 0
    if step.kind in _HAVE_DATA_FORMAT:
        return _axis_by_format(operator, rank)
    if step.kind == "einsum":
        return None
    source = step.data[0]
    if step.kind in PRODUCTS and step.weights:
        return _axis_after_weight(graph, step, axes[source] if source in known else None)
    axis = axes[source]
    if step.kind == "transpose":
        permutation = integers(operator.attributes.get("perm", operator.attributes.get("axis")))
        return permutation.index(axis) if axis in permutation else None
    if step.kind == "squeeze":
        return _axis_after_squeeze(graph, step, axis)
    rank_before = graph.values[source].rank or 0
    if step.kind == "reshape" and rank_before != rank:
        return _axis_after_reshape(graph, step, axis)
    # A flatten of H and W merges only axes after the channels.
    start = operator.attributes.get("start_axis")
    merges_after = step.kind == "flatten" and isinstance(start, int) and start > axis
    return axis if rank_before == rank or merges_after else None


def _axis_after_weight(graph: Graph, step: Step, axis: int | None) -> int | None:
    """Return the axis that a product with a weight makes, or that of channels it doesn't sum over.

    `axis` is the channel axis before it, None where that is not known.
    """
    made, rank = _axis_made_by_weight(graph, step), graph.values[step.data[0]].rank or 0
    if axis is None or rank < 3 or step.operator.kind in _FLATTENING:
        return made
    weight_is_left = _weight_is_left(step)
    is_transposed = any(
        step.operator.attributes.get(name) is True for name in _TRANSPOSE_DATA[weight_is_left]
    )
    summed = rank - (1 if weight_is_left == is_transposed else 2)
    if axis == summed:
        return made
    return None if is_transposed else axis


def _axis_made_by_weight(graph: Graph, step: Step) -> int | None:
    """Return the axis that a product takes from its weight, None for an einsum."""
    rank = graph.values[step.result].rank or 0
    if step.kind == "einsum":
        return None
    return rank - 2 if rank > 2 and _weight_is_left(step) else rank - 1


def _weight_is_left(step: Step) -> bool:
    """Return whether a product has its weight as left operand: W · x."""
    operands = step.operator.operands
    return len(operands) == 2 and operands[0] in step.weights


def _axis_after_reshape(graph: Graph, step: Step, axis: int) -> int | None:
    """Return the axis of channels that a reshape preserves: last, or with all dims before them."""
    before, after = (graph.values[name].shape for name in (step.data[0], step.result))
    if not before or not after:
        return None
    if axis == len(before) - 1 and before[-1] == after[-1] != UNKNOWN_DIM:
        return len(after) - 1
    end = axis + 1
    is_kept = before[:end] == after[:end] and UNKNOWN_DIM not in before[1:end]
    sizes = [None if UNKNOWN_DIM in dims else prod(dims) for dims in (before[end:], after[end:])]
    # If the dims after it changed in size, the difference went into the batch.
    return axis if is_kept and (None in sizes or sizes[0] == sizes[1]) else None


def _axis_after_squeeze(graph: Graph, step: Step, axis: int) -> int | None:
    """Move the axis up by the squeezed axes before it: a map of one row becomes a sequence."""
    rank = graph.values[step.data[0]].rank or 0
    squeezed = {one % rank for one in integers_of(graph, step.operator, "axis", "axes") if rank}
    if not squeezed or axis in squeezed:
        return None
    return axis - sum(one < axis for one in squeezed)
