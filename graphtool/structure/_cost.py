"""Multiply-adds of each Operator, for one sample."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import prod

from graphtool.graph import UNKNOWN, Attribute, Graph, Operator, Shape
from graphtool.structure._flow import Flow, Step
from graphtool.structure._resolution import GLOBAL, Scale
from graphtool.structure._step import shape_of
from graphtool.structure._vocabulary import CONVOLUTIONS, PRODUCTS, RECURRENT, RESHAPES

__all__ = ["Cost", "Costs", "costs_of"]

# Stand in for unknown dims of the input, so that fractions of the whole are known all the same.
_NOMINAL_SIDE = 224
_NOMINAL_LENGTH = 128
# Nothing has more elements: Paddle counts them in 64 bits.
_MOST = 2**63


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-adds for one sample; not `exact` where an unknown dim was given a nominal size."""

    multiply_adds: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Costs:
    """Costs by Operator name; `uncounted` says how many Operators of a type have no known cost."""

    by_operator: Mapping[str, Cost]
    uncounted: Mapping[str, int]


def costs_of(flow: Flow, scales: Mapping[str, Scale]) -> Costs:
    """Count convolutions, products and recurrent layers of the top-level Block.

    One multiply-add is one multiplication and one addition: resnet50 at 224 × 224 has 4.1 G.
    Operators with Blocks of their own and custom ones are not counted, and listed.
    """
    sizes = _Sizes(flow.graph, scales, {})
    found: dict[str, Cost] = {}
    uncounted: Counter[str] = Counter()
    for name in flow.graph.feeds:
        sizes.of_feed(name)
    for step in flow.steps.values():
        sizes.of_results(step)
        cost = _cost(sizes, step)
        if cost is not None:
            found[step.operator.name] = cost
        elif _may_cost(step):
            uncounted[step.operator.kind] += 1
    return Costs(found, dict(uncounted))


def _may_cost(step: Step) -> bool:
    multiplies = step.kind in CONVOLUTIONS | PRODUCTS | RECURRENT
    custom = step.operator.type.startswith(("custom_op.", "dialect"))
    return multiplies or custom or bool(step.operator.blocks)


@dataclass(frozen=True, slots=True)
class _Size:
    """Elements that belong to one sample."""

    elements: Fraction
    exact: bool


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Follows how many elements of each Value belong to one sample, through reshapes."""

    graph: Graph
    scales: Mapping[str, Scale]
    found: dict[str, _Size]

    def of_feed(self, name: str) -> None:
        self.found[name] = self._by_itself(name, shape_of(self.graph, name)[1:])

    def of_results(self, step: Step) -> None:
        known = [name for name in step.data if name in self.found]
        tensors = [name for name in known if not self.graph.values[name].elements] or known
        source = max(tensors, key=lambda name: self.found[name].elements, default=None)
        for result in step.operator.results:
            self.found[result] = _bounded(self._after(step, source, result))

    def _after(self, step: Step, source: str | None, result: str) -> _Size:
        before = self.graph.values[source].shape if source else None
        after = shape_of(self.graph, result)
        if source is not None and (step.kind in RESHAPES or self.graph.values[result].elements):
            return self.found[source]
        if source is None or before is None:
            return self._by_itself(result, after[1:])
        pooled = self._is_global(result) and not self._is_global(source)
        alike = before.count(UNKNOWN) == after.count(UNKNOWN) and prod(_known(before)) > 0
        if pooled or not alike:
            return self._by_itself(result, after[1:])
        ratio = Fraction(prod(_known(after)), prod(_known(before)))
        size = self.found[source]
        return _Size(size.elements * ratio * self._area(before, source, result), size.exact)

    def _area(self, before: Shape, source: str, result: str) -> Fraction:
        """Return by how much unknown sides grow from a map to the next."""
        if source not in self.scales or result not in self.scales or self._is_global(source):
            return Fraction(1)
        has_sides = len(before) != 4 or before.count(UNKNOWN) < 3
        return Fraction(1) if has_sides else self.scales[result].area / self.scales[source].area

    def _is_global(self, name: str) -> bool:
        return self.scales.get(name) == GLOBAL

    def _by_itself(self, name: str, sample: Shape) -> _Size:
        """Take the dims as they are, unknown ones at their nominal size."""
        unknown = sample.count(UNKNOWN)
        scale = self.scales.get(name)
        nominal = Fraction(_NOMINAL_LENGTH**unknown)
        if scale is not None and len(sample) == 3 and unknown == 2:
            nominal = Fraction(1) if scale == GLOBAL else scale.area * _NOMINAL_SIDE**2
        return _Size(prod(_known(sample)) * nominal, unknown == 0 or scale == GLOBAL)


def _bounded(size: _Size) -> _Size:
    """Keep sizes that cannot be, as of a file that is damaged, from growing step by step."""
    elements = size.elements
    if max(elements.numerator, elements.denominator) <= _MOST:
        return size
    return _Size(Fraction(min(round(elements), _MOST)), exact=False)


def _known(shape: Shape) -> list[int]:
    return [dim for dim in shape if dim != UNKNOWN]


def _cost(sizes: _Sizes, step: Step) -> Cost | None:
    per_element = _per_element(sizes.graph, step)
    if per_element is None:
        return None
    # A transposed convolution does its work once per element that it reads.
    reads = step.kind.endswith("_transpose") or step.kind in RECURRENT
    size = sizes.found.get(step.data[0] if reads else step.result)
    if size is None:
        return None
    return Cost(round(size.elements * min(per_element, _MOST)), exact=size.exact)


def _per_element(graph: Graph, step: Step) -> Fraction | None:
    """Return the multiply-adds per element that a step writes (or reads: see above)."""
    if step.kind in CONVOLUTIONS and step.weighted:
        return Fraction(prod(shape_of(graph, step.weights[0])[1:]))
    if step.kind in RECURRENT:
        return _per_input_of_recurrent(graph, step)
    if step.kind == "einsum":
        return _summed_by_einsum(graph, step)
    if step.kind in PRODUCTS:
        summed = _summed_axis(graph, step)
        return None if summed is None else Fraction(summed)
    return None


def _per_input_of_recurrent(graph: Graph, step: Step) -> Fraction | None:
    """Every weight matrix is multiplied once per time step."""
    shapes = [shape_of(graph, name) for name in step.weights]
    shapes += [shape or () for name in step.weights for _, shape in graph.values[name].elements]
    width = (shape_of(graph, step.data[0]) or (0,))[-1]
    matrices = sum(prod(shape) for shape in shapes if len(shape) == 2)
    return Fraction(matrices, width) if width > 0 and matrices else None


def _summed_axis(graph: Graph, step: Step) -> int | None:
    """Return the length of the axis that a product sums over, from a weight where there is one."""
    # `addmm` adds the product to its first operand.
    first = 1 if step.kind == "addmm" else 0
    left, right = (*step.operator.operands[first : first + 2], None, None)[:2]
    if left is None or right is None:
        return None
    attributes = step.operator.attributes
    if right in step.weights or left not in step.weights:
        shape, flipped = shape_of(graph, right), _flag(attributes, "transpose_y", "trans_y")
        dim = _dim(shape, -1 if flipped else -2)
        if dim != UNKNOWN:
            return dim
    shape, flipped = shape_of(graph, left), _flag(attributes, "transpose_x", "trans_x")
    dim = _dim(shape, -2 if flipped else -1)
    return dim if dim != UNKNOWN else _NOMINAL_LENGTH


def _flag(attributes: Mapping[str, Attribute], *names: str) -> bool:
    return any(bool(attributes.get(name)) for name in names)


def _dim(shape: Shape, axis: int) -> int:
    return shape[axis] if len(shape) >= -axis else shape[0] if shape else 1


def _summed_by_einsum(graph: Graph, step: Step) -> Fraction | None:
    """Return the product of the dims whose letters stand in the operands and not in the result."""
    equation = step.operator.attributes.get("equation")
    shapes = _listed_shapes(graph, step.operator)
    if not isinstance(equation, str) or "..." in equation or "->" not in equation:
        return None
    operands, result = equation.replace(" ", "").split("->")
    letters = dict[str, int]()
    for spelled, shape in zip(operands.split(","), shapes, strict=False):
        letters.update(zip(spelled, shape, strict=False))
    summed = [dim for letter, dim in letters.items() if letter not in result]
    return None if UNKNOWN in summed else Fraction(prod(summed))


def _listed_shapes(graph: Graph, operator: Operator) -> list[Shape]:
    """Return the shapes of the operands; PIR puts them into one vector."""
    values = [graph.values[name] for name in operator.operands if name is not None]
    return [
        shape or ()
        for value in values
        for shape in ([inner for _, inner in value.elements] or [value.shape])
    ]
