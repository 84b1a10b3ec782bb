"""Resolution relative to the input, from operator attributes: H and W may be unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from graphtool.graph import UNKNOWN, Attribute, Graph, Operator, Shape
from graphtool.structure._flow import Flow, Step
from graphtool.structure._vocabulary import CONVOLUTIONS, POOLS, REDUCTIONS, RESIZES

__all__ = ["GLOBAL", "Scale", "channels_last", "resolutions"]


@dataclass(frozen=True, slots=True)
class Scale:
    """Height and width as fractions of the input's; zero where the map was pooled to one place."""

    height: Fraction
    width: Fraction

    def times(self, height: Fraction, width: Fraction) -> Scale:
        """Return the resolution after a step by these factors."""
        return Scale(self.height * height, self.width * width)

    @property
    def area(self) -> Fraction:
        """The number of places as a fraction of the input's."""
        return self.height * self.width

    def __str__(self) -> str:
        if self == GLOBAL:
            return "global"
        height, width = (_fraction(part) for part in (self.height, self.width))
        return height if height == width else f"{height} × {width}"


_ONE = Fraction(1)
_INPUT = Scale(_ONE, _ONE)
GLOBAL = Scale(Fraction(0), Fraction(0))


def resolutions(flow: Flow) -> Mapping[str, Scale]:
    """Return the resolution of every Value that the input reaches and whose resolution is known."""
    graph = flow.graph
    scales: dict[str, Scale] = {
        name: _INPUT for name in graph.feeds if len(graph.values[name].shape or ()) >= 4
    }
    feed = _map_feed(graph)
    for step in flow.steps.values():
        source = _source_scale(step, scales)
        if source is None:
            continue
        scale = _after(graph, step, source, feed)
        if scale is not None:
            scales.update(dict.fromkeys(step.operator.results, scale))
    return scales


def channels_last(operator: Operator) -> bool:
    """Tell whether an operator says that its maps end in channels."""
    return operator.attributes.get("data_format") in ("NHWC", "NLC", "NDHWC")


def _map_feed(graph: Graph) -> Shape | None:
    shapes = (graph.values[name].shape or () for name in graph.feeds)
    return next((shape for shape in shapes if len(shape) == 4), None)


def _source_scale(step: Step, scales: Mapping[str, Scale]) -> Scale | None:
    """Return the resolution of what a step reads; where a gate meets a map, the map's."""
    found = [scales[name] for name in step.data if name in scales]
    maps = [scale for scale in found if scale != GLOBAL]
    return maps[0] if maps else found[0] if found else None


def _after(graph: Graph, step: Step, source: Scale, feed: Shape | None) -> Scale | None:
    operator, kind = step.operator, step.kind
    if kind in CONVOLUTIONS:
        return source.times(*_stride_factors(operator, transposed=kind.endswith("transpose")))
    if kind in POOLS:
        return _after_pool(graph, operator, source)
    if kind in RESIZES:
        return _after_resize(graph, operator, source, feed)
    if kind in REDUCTIONS:
        return _after_reduction(graph, step, source)
    if kind in ("strided_slice", "set_value"):
        return _after_slice(operator, source)
    factor = _REARRANGED.get(kind)
    if factor is not None:
        return _after_rearrangement(operator, source, *factor)
    if kind == "unfold":
        return source.times(*_stride_factors(operator, transposed=False))
    return source


# Operators that trade places for channels: the attribute with the factor, whether places grow.
_REARRANGED = {
    "pixel_shuffle": ("upscale_factor", True),
    "pixel_unshuffle": ("downscale_factor", False),
    "space_to_depth": ("blocksize", False),
}


def _stride_factors(operator: Operator, *, transposed: bool) -> tuple[Fraction, Fraction]:
    strides = _whole_numbers(operator.attributes.get("strides"))
    height, width = strides[-2:] if len(strides) >= 2 else (1, strides[0] if strides else 1)
    if height < 1 or width < 1:
        return _ONE, _ONE
    if transposed:
        return Fraction(height), Fraction(width)
    return Fraction(1, height), Fraction(1, width)


def _after_pool(graph: Graph, operator: Operator, source: Scale) -> Scale:
    attributes = operator.attributes
    if attributes.get("global_pooling"):
        return GLOBAL
    kernel = _numbers_of(graph, operator, "kernel_size", "ksize")
    if attributes.get("adaptive"):
        if kernel and prod(kernel) == 1:
            return GLOBAL
        return _adapted(graph, operator, source)
    return source.times(*_stride_factors(operator, transposed=False))


def _adapted(graph: Graph, operator: Operator, source: Scale) -> Scale:
    """Return the resolution after adaptive pooling to a fixed size; the same if unknown."""
    before, after = _sides(graph, operator.operands[0]), _sides(graph, operator.results[0])
    if before is None or after is None:
        return source
    return source.times(Fraction(after[0], before[0]), Fraction(after[1], before[1]))


def _numbers_of(graph: Graph, operator: Operator, *attributes: str) -> tuple[int, ...]:
    """Return the first of these attributes that has numbers, else a constant second operand."""
    for attribute in attributes:
        numbers = _whole_numbers(operator.attributes.get(attribute))
        if numbers:
            return numbers
    operand = operator.operands[1] if len(operator.operands) > 1 else None
    source = None if operand is None else graph.producer(operand)
    return () if source is None else _whole_numbers(source.attributes.get("value"))


def _after_resize(
    graph: Graph, operator: Operator, source: Scale, feed: Shape | None
) -> Scale | None:
    factors = _numbers(operator.attributes.get("scale"))
    if factors and all(factor > 0 for factor in factors):
        height, width = (factors * 2)[:2]
        return source.times(
            Fraction(height).limit_denominator(64), Fraction(width).limit_denominator(64)
        )
    after, whole = _sides(graph, operator.results[0]), _sides_of(feed, last=False)
    if after is None or whole is None:
        return None
    return Scale(Fraction(after[0], whole[0]), Fraction(after[1], whole[1]))


def _after_reduction(graph: Graph, step: Step, source: Scale) -> Scale:
    """Return the resolution after a mean or the like: over places it leaves one."""
    shape = graph.values[step.operator.operands[0] or ""].shape or ()
    places = _PLACES.get(len(shape), frozenset())
    reduced = (
        {axis % len(shape) for axis in _numbers_of(graph, step.operator, "axis", "dim", "axes")}
        if shape
        else set[int]()
    )
    return GLOBAL if reduced & places and reduced <= places else source


# Which axes are places, by rank: N C H W, N L C.
_PLACES = {3: frozenset({1}), 4: frozenset({2, 3})}


def _after_slice(operator: Operator, source: Scale) -> Scale:
    strides = _whole_numbers(operator.attributes.get("strides"))
    axes = _whole_numbers(operator.attributes.get("axes"))
    steps = dict(zip(axes, strides, strict=False))
    height, width = (max(1, abs(steps.get(axis, 1))) for axis in (2, 3))
    return source.times(Fraction(1, height), Fraction(1, width))


def _after_rearrangement(operator: Operator, source: Scale, attribute: str, grows: bool) -> Scale:  # noqa: FBT001
    factor = _whole_numbers((operator.attributes.get(attribute),))
    step = Fraction(max(1, factor[0])) if factor else _ONE
    return source.times(step, step) if grows else source.times(1 / step, 1 / step)


def _sides(graph: Graph, name: str | None) -> tuple[int, int] | None:
    return None if name is None else _sides_of(graph.values[name].shape, last=False)


def _sides_of(shape: Shape | None, *, last: bool) -> tuple[int, int] | None:
    if shape is None or len(shape) != 4:
        return None
    height, width = shape[1:3] if last else shape[2:4]
    return None if UNKNOWN in (height, width) or 0 in (height, width) else (height, width)


def _whole_numbers(value: Attribute) -> tuple[int, ...]:
    listed = value if isinstance(value, tuple) else (value,)
    return tuple(item for item in listed if isinstance(item, int) and not isinstance(item, bool))


def _numbers(value: Attribute) -> tuple[float, ...]:
    listed = value if isinstance(value, tuple) else (value,)
    return tuple(float(item) for item in listed if isinstance(item, (int, float)))


def _fraction(part: Fraction) -> str:
    return str(part.numerator) if part.denominator == 1 else f"{part.numerator}/{part.denominator}"
