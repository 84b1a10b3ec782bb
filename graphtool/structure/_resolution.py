"""Resolution relative to the input, from operator attributes: H and W may be unknown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from graphtool.graph import UNKNOWN, Graph, Operator
from graphtool.structure._flow import Flow, Step
from graphtool.structure._numbers import numbers, numbers_of, whole_numbers
from graphtool.structure._vocabulary import CONVOLUTIONS, POOLS, REDUCTIONS, RESIZES

__all__ = ["GLOBAL", "Scale", "resolutions", "sides_of"]


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

    @property
    def is_possible(self) -> bool:
        """Tell a resolution that a map can have from one that only a damaged file gives."""
        parts = (self.height, self.width)
        return all(max(part.numerator, part.denominator) <= _FINEST for part in parts)

    def __str__(self) -> str:
        if self == GLOBAL:
            return "global"
        height, width = (_fraction(part) for part in (self.height, self.width))
        return height if height == width else f"{height} × {width}"


# Sides are counted in 64 bits.
_FINEST = 2**63
_ONE = Fraction(1)
_INPUT = Scale(_ONE, _ONE)
GLOBAL = Scale(Fraction(0), Fraction(0))


def resolutions(flow: Flow, channel_axes: Mapping[str, int]) -> Mapping[str, Scale]:
    """Return the resolution of every Value that the input reaches and whose resolution is known.

    Attributes decide. Shapes are looked at only where an Operator has a size and no factor
    (adaptive pooling, resizing to a size), or is unknown.
    """
    walk = _Walk(flow.graph, channel_axes)
    scales: dict[str, Scale] = {
        name: _INPUT for name in flow.graph.feeds if walk.rank(name) in (4, 5)
    }
    for step in flow.steps.values():
        source = _source(step, scales)
        if source is None:
            continue
        scale = walk.after(step, source, scales[source])
        if scale is not None and scale.is_possible:
            scales.update(dict.fromkeys(step.operator.results, scale))
    return scales


def sides_of(graph: Graph, name: str, channel_axis: int) -> tuple[int, int] | None:
    """Return H and W of a map, None where it is none or they are unknown.

    A map whose channels lie in front of the samples is none: which axis they are on is lost then.
    """
    shape = graph.values[name].shape
    if shape is None or len(shape) != 4 or channel_axis == 0:
        return None
    height, width = (dim for axis, dim in enumerate(shape) if axis not in (0, channel_axis))
    return None if UNKNOWN in (height, width) or 0 in (height, width) else (height, width)


def _source(step: Step, scales: Mapping[str, Scale]) -> str | None:
    """Return what gives a step its resolution; where a gate meets a map, the map."""
    found = [name for name in step.data if name in scales]
    maps = [name for name in found if scales[name] != GLOBAL]
    return maps[0] if maps else found[0] if found else None


@dataclass(frozen=True, slots=True)
class _Walk:
    graph: Graph
    axes: Mapping[str, int]

    def rank(self, name: str) -> int:
        return self.graph.values[name].rank or 0

    def after(self, step: Step, source: str, scale: Scale) -> Scale | None:
        """Return the resolution after a step, None where it cannot be known."""
        operator, kind = step.operator, step.kind
        if self.graph.values[step.result].rank in (0, 1, 2):
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
        if kind in _REARRANGED:
            return _after_rearrangement(operator, scale, kind)
        return scale if _is_known(operator) else self._by_shape(operator, source, scale)

    def _after_pool(self, operator: Operator, source: str, scale: Scale) -> Scale:
        if operator.attributes.get("global_pooling"):
            return GLOBAL
        if not operator.attributes.get("adaptive"):
            return scale.times(*_strides(operator, transposed=False))
        if prod(numbers_of(self.graph, operator, "kernel_size", "ksize") or (0,)) == 1:
            return GLOBAL
        return self._by_shape(operator, source, scale) or scale

    def _after_resize(self, operator: Operator, source: str, scale: Scale) -> Scale | None:
        factors = numbers(operator.attributes.get("scale"))
        if not factors or min(factors) <= 0:
            return self._by_shape(operator, source, scale)
        height, width = (Fraction(x).limit_denominator(64) for x in (factors * 2)[:2])
        return scale.times(height, width)

    def _after_reduction(self, operator: Operator, source: str, scale: Scale) -> Scale:
        """A mean over places leaves one; over channels it leaves the map."""
        rank = self.rank(source)
        if not rank:
            return scale
        places = set(range(1, rank)) - {self.axes[source]}
        axes = numbers_of(self.graph, operator, "axis", "dim", "axes")
        reduced = {axis % rank for axis in axes}
        return GLOBAL if reduced & places and reduced <= places else scale

    def _after_slice(self, operator: Operator, source: str, scale: Scale) -> Scale:
        strides = numbers_of(self.graph, operator, "strides", operand=3)
        axes = whole_numbers(operator.attributes.get("axes"))
        steps = dict(zip(axes, strides, strict=False))
        places = sorted(set(range(1, self.rank(source))) - {self.axes[source]})
        factors = [Fraction(1, max(1, abs(steps.get(axis, 1)))) for axis in places]
        return scale.times(*factors) if len(factors) == 2 else scale

    def _by_shape(self, operator: Operator, source: str, scale: Scale) -> Scale | None:
        """Compare the sides before and after; None where they are unknown."""
        result = operator.results[0]
        before = sides_of(self.graph, source, self.axes[source])
        after = sides_of(self.graph, result, self.axes[result])
        if before is None or after is None:
            return None
        return scale.times(Fraction(after[0], before[0]), Fraction(after[1], before[1]))


# Operators that trade places for channels: the attribute with the factor, whether places grow.
_REARRANGED = {
    "pixel_shuffle": ("upscale_factor", True),
    "pixel_unshuffle": ("downscale_factor", False),
    "space_to_depth": ("blocksize", False),
}


def _after_rearrangement(operator: Operator, scale: Scale, kind: str) -> Scale:
    attribute, grows = _REARRANGED[kind]
    factor = Fraction(max(1, *whole_numbers(operator.attributes.get(attribute)), 1))
    factor = factor if grows else 1 / factor
    return scale.times(factor, factor)


def _is_known(operator: Operator) -> bool:
    """Tell Paddle's own operators from custom ones, which may do anything to a map."""
    return not operator.type.startswith(("custom_op.", "dialect"))


def _strides(operator: Operator, *, transposed: bool) -> tuple[Fraction, Fraction]:
    strides = whole_numbers(operator.attributes.get("strides"))
    height, width = strides[-2:] if len(strides) >= 2 else (1, strides[0] if strides else 1)
    if height < 1 or width < 1:
        return _ONE, _ONE
    if transposed:
        return Fraction(height), Fraction(width)
    return Fraction(1, height), Fraction(1, width)


def _fraction(part: Fraction) -> str:
    return str(part.numerator) if part.denominator == 1 else f"{part.numerator}/{part.denominator}"
