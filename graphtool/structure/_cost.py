"""Multiply-adds of each Operator, for one sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from graphtool.graph import UNKNOWN_DIM, Attribute, Graph, Operator, Shape
from graphtool.ops import CONVOLUTIONS, PRODUCTS, RECURRENT, RESHAPES, is_custom
from graphtool.structure._flow import Flow, Step, shape_of
from graphtool.structure._layouts import GLOBAL, Scale

__all__ = ["Cost", "Costs", "costs_of"]

# Replace unknown dims of the input, so that fractions of the total are known all the same.
_NOMINAL_SIDE = 224
_NOMINAL_LENGTH = 128
# Paddle counts elements in 64 bits.
_MAX_ELEMENTS = 2**63


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-adds for one sample; not `exact` where an unknown dim was given a nominal size."""

    multiply_adds: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs by Operator name; `uncounted` has the number of Operators of unknown cost by kind."""

    by_operator: Mapping[str, Cost]
    uncounted: Mapping[str, int]


def costs_of(flow: Flow, scales: Mapping[str, Scale]) -> Costs:
    """Count convolutions, products and recurrent layers of the top-level Block.

    One multiply-add is one multiplication and one addition: resnet50 at 224 × 224 has 4.1 G.
    Operators with Blocks and custom ones are listed as `uncounted`.
    """
    sizes = _SampleSizes(flow.graph, scales, {})
    found: dict[str, Cost] = {}
    uncounted: Counter[str] = Counter()
    for name in flow.graph.feeds:
        sizes.add_feed(name)
    for step in flow.steps.values():
        sizes.add_results(step)
        cost = _cost(sizes, step)
        if cost is not None:
            found[step.operator.name] = cost
            continue
        multiplies = step.kind in CONVOLUTIONS | PRODUCTS | RECURRENT
        if multiplies or is_custom(step.operator) or step.operator.blocks:
            uncounted[step.operator.kind] += 1
    return Costs(found, dict(uncounted))


@dataclass(frozen=True, slots=True)
class _Size:
    """The elements of a Value that belong to one sample."""

    elements: Fraction
    exact: bool


@dataclass(frozen=True, slots=True)
class _SampleSizes:
    """Propagates how many elements of each Value belong to one sample, through reshapes."""

    graph: Graph
    scales: Mapping[str, Scale]
    found: dict[str, _Size]

    def add_feed(self, name: str) -> None:
        self.found[name] = self._by_shape(name, shape_of(self.graph, name)[1:])

    def add_results(self, step: Step) -> None:
        known = [name for name in step.data if name in self.found]
        tensors = [name for name in known if not self.graph.values[name].elements] or known
        source = max(tensors, key=lambda name: self.found[name].elements, default=None)
        for result in step.operator.results:
            size = self._after(step, source, result)
            elements = size.elements
            # Impossible sizes, as of a damaged file, would grow step by step.
            if max(elements.numerator, elements.denominator) > _MAX_ELEMENTS:
                size = _Size(Fraction(min(round(elements), _MAX_ELEMENTS)), exact=False)
            self.found[result] = size

    def _after(self, step: Step, source: str | None, result: str) -> _Size:
        before = self.graph.values[source].shape if source else None
        after = shape_of(self.graph, result)
        if source is not None and (step.kind in RESHAPES or self.graph.values[result].elements):
            return self.found[source]
        if source is None or before is None:
            return self._by_shape(result, after[1:])
        is_pooled = self._is_global(result) and not self._is_global(source)
        is_alike = (
            before.count(UNKNOWN_DIM) == after.count(UNKNOWN_DIM) and prod(_known(before)) > 0
        )
        if is_pooled or not is_alike:
            return self._by_shape(result, after[1:])
        ratio = Fraction(prod(_known(after)), prod(_known(before)))
        size = self.found[source]
        return _Size(size.elements * ratio * self._area_ratio(before, source, result), size.exact)

    def _area_ratio(self, before: Shape, source: str, result: str) -> Fraction:
        """Return the factor between the areas of two maps whose sides are unknown, else 1."""
        if source not in self.scales or result not in self.scales or self._is_global(source):
            return Fraction(1)
        has_sides = len(before) != 4 or before.count(UNKNOWN_DIM) < 3
        return Fraction(1) if has_sides else self.scales[result].area / self.scales[source].area

    def _is_global(self, name: str) -> bool:
        return self.scales.get(name) == GLOBAL

    def _by_shape(self, name: str, sample: Shape) -> _Size:
        """Return the size of a sample's dims, unknown ones at their nominal size."""
        unknown = sample.count(UNKNOWN_DIM)
        scale = self.scales.get(name)
        nominal = Fraction(_NOMINAL_LENGTH**unknown)
        if scale is not None and len(sample) == 3 and unknown == 2:
            nominal = Fraction(1) if scale == GLOBAL else scale.area * _NOMINAL_SIDE**2
        return _Size(prod(_known(sample)) * nominal, unknown == 0 or scale == GLOBAL)


def _known(shape: Shape) -> list[int]:
    return [dim for dim in shape if dim != UNKNOWN_DIM]


def _cost(sizes: _SampleSizes, step: Step) -> Cost | None:
    per_element = _cost_per_element(sizes.graph, step)
    if per_element is None:
        return None
    is_per_input = step.kind.endswith("_transpose") or step.kind in RECURRENT
    size = sizes.found.get(step.data[0] if is_per_input else step.result)
    if size is None:
        return None
    return Cost(round(size.elements * min(per_element, _MAX_ELEMENTS)), exact=size.exact)


def _cost_per_element(graph: Graph, step: Step) -> Fraction | None:
    """Return the multiply-adds per output element.

    For transposed convolutions and recurrent layers: per input element.
    """
    if step.kind in CONVOLUTIONS and step.is_weighted:
        return Fraction(prod(shape_of(graph, step.weights[0])[1:]))
    if step.kind in RECURRENT:
        return _cost_of_recurrent(graph, step)
    if step.kind == "einsum":
        return _summed_by_einsum(graph, step.operator)
    if step.kind in PRODUCTS:
        summed = _summed_length(graph, step)
        return None if summed is None else Fraction(summed)
    return None


def _cost_of_recurrent(graph: Graph, step: Step) -> Fraction | None:
    """Return the multiply-adds per input element: each time step multiplies every matrix once."""
    shapes = [shape_of(graph, name) for name in step.weights]
    shapes += [shape or () for name in step.weights for _, shape in graph.values[name].elements]
    width = (shape_of(graph, step.data[0]) or (0,))[-1]
    matrices = sum(prod(shape) for shape in shapes if len(shape) == 2)
    return Fraction(matrices, width) if width > 0 and matrices else None


def _summed_length(graph: Graph, step: Step) -> int | None:
    """Return the length of the axis that a product sums over, by its weight if it has one."""
    # `addmm` adds the product to its first operand.
    start = 1 if step.kind == "addmm" else 0
    left, right = (*step.operator.operands[start : start + 2], None, None)[:2]
    if left is None or right is None:
        return None
    attributes = step.operator.attributes
    if right in step.weights or left not in step.weights:
        is_transposed = _is_set(attributes, "transpose_y", "trans_y")
        dim = _dim(shape_of(graph, right), -1 if is_transposed else -2)
        if dim != UNKNOWN_DIM:
            return dim
    is_transposed = _is_set(attributes, "transpose_x", "trans_x")
    dim = _dim(shape_of(graph, left), -2 if is_transposed else -1)
    return dim if dim != UNKNOWN_DIM else _NOMINAL_LENGTH


def _is_set(attributes: Mapping[str, Attribute], *names: str) -> bool:
    return any(bool(attributes.get(name)) for name in names)


def _dim(shape: Shape, axis: int) -> int:
    return shape[axis] if len(shape) >= -axis else shape[0] if shape else 1


def _summed_by_einsum(graph: Graph, operator: Operator) -> Fraction | None:
    """Return the product of the dims whose letters are in the operands and not in the result."""
    equation = operator.attributes.get("equation")
    if not isinstance(equation, str) or "..." in equation or "->" not in equation:
        return None
    values = [graph.values[name] for name in operator.operands if name is not None]
    # PIR packs the operands into one vector.
    shapes = [
        shape or ()
        for value in values
        for shape in ([inner for _, inner in value.elements] or [value.shape])
    ]
    operands, result = equation.replace(" ", "").split("->")
    dims = dict[str, int]()
    for letters, shape in zip(operands.split(","), shapes, strict=False):
        dims.update(zip(letters, shape, strict=False))
    summed = [dim for letter, dim in dims.items() if letter not in result]
    return None if UNKNOWN_DIM in summed else Fraction(prod(summed))
