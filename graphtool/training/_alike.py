"""Write down all that ranks have to agree on before they train together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import cast

from graphtool.backend.paddle import Paddle
from graphtool.graph import Attribute, Graph, Operator, Origin, Value
from graphtool.training._reach import ancestors

__all__ = ["Description", "described"]


_PLAIN = (bool, int, float, str)
_PARTS = ("_learning_rate", "_grad_clip", "regularization")
# Each rank may draw random numbers of its own, has a device of its own, and one may say more.
_OWN = frozenset({"seed", "fix_seed", "place", "verbose"})
# Paddle's names for what it adds, which each rank may have used up in its own way.
_NAMES = frozenset({"name", "var_name"})
# What holds the batch in front where the Program was built for one size of it.
_SHAPES = frozenset({"shape", "value"})


@dataclass(frozen=True, slots=True)
class Description:
    """What a rank is about to train, a line for each thing, in an order that all ranks have."""

    lines: tuple[str, ...]

    def first_difference(self, other: Description) -> tuple[str | None, str | None]:
        """Return the first lines that differ; None stands for the end."""
        most = max(len(self.lines), len(other.lines))
        padded = [one.lines + (None,) * (most - len(one.lines)) for one in (self, other)]
        return next(pair for pair in zip(*padded, strict=True) if pair[0] != pair[1])

    def count(self, noun: str) -> int:
        """Return how many lines begin with a noun."""
        return sum(line.startswith(f"{noun} ") for line in self.lines)


def described(
    graph: Graph,
    loss: str,
    optimizer: Paddle,
    *,
    learning: Collection[str],
    passed_over: Collection[str],
    runs: int = 1,
) -> Description:
    """Describe what computes a loss, all parameters, what learns, and by which optimizer.

    A rank may compute more than the loss, so Operators are numbered anew, by kind, in their order.
    It may also have a batch of its own size: the first dim of a feed is left out.
    """
    parameters = sorted(graph.parameters, key=lambda value: value.name)
    part = _Part.of(graph, loss)
    return Description(
        (
            *_settings("optimizer", optimizer),
            *([f"gradients of {runs} runs"] if runs > 1 else ()),
            *(_parameter(value, value.name in learning) for value in parameters),
            *map(part.line, part.operators),
            f"loss `{part.names[loss]}`",
            *sorted(f"no gradient for `{part.names[n]}`" for n in passed_over if n in part.names),
        )
    )


def _settings(name: str, thing: Paddle) -> Iterator[str]:
    """Yield what a thing of Paddle's was made with: its class, its numbers, and its parts'."""
    yield f"{name} {type(thing).__name__}"
    held = cast("dict[str, Paddle]", vars(thing))
    for key, value in sorted(held.items()):
        inner = f"{name}.{key.strip('_')}"
        if isinstance(value, _PLAIN) and key.strip("_") not in _OWN | _NAMES:
            yield f"{inner} = {value!r}"
        elif key in _PARTS and value is not None:
            yield from _settings(inner, value)


def _parameter(value: Value, learns: bool) -> str:  # noqa: FBT001  # one of two words
    shape = "?" if value.shape is None else list(value.shape)
    return f"parameter `{value.name}` {shape} {value.dtype}, {'learns' if learns else 'frozen'}"


@dataclass(frozen=True, slots=True)
class _Part:
    """The part of a Graph that computes a loss; `names` are those of its Values on every rank."""

    operators: tuple[Operator, ...]
    names: Mapping[str, str]
    has_fixed_batch: bool

    @staticmethod
    def of(graph: Graph, loss: str) -> _Part:
        found, names, counts = ancestors(graph, [loss]), dict[str, str](), Counter[str]()
        operators: list[Operator] = []
        for operator in graph.operators.values():
            values = [graph.values[name] for name in operator.results]
            # PIR lists parameters in no order.
            if found.isdisjoint(operator.results) or any(map(_is_parameter, values)):
                continue
            name = f"{operator.kind}_{counts[operator.kind]}"
            counts[operator.kind] += 1
            operators.append(replace(operator, name=name))
            names.update((one, one.replace(operator.name, name, 1)) for one in operator.results)
        names.update((name, name) for name in found if name not in names)
        shapes = (graph.values[name].shape for name in graph.feeds if name in found)
        return _Part(tuple(operators), names, any(shape and shape[0] >= 0 for shape in shapes))

    def line(self, operator: Operator) -> str:
        operands = ", ".join("-" if one is None else self.names[one] for one in operator.operands)
        attributes = [
            f"{key}={self._attribute(key, value)!r}"
            for key, value in sorted(operator.attributes.items())
            if key not in _OWN
        ]
        return f"operator `{operator.name}` ({operands}) {' '.join(attributes)}".rstrip()

    def _attribute(self, key: str, value: Attribute) -> Attribute:
        if self.has_fixed_batch and key in _SHAPES and isinstance(value, tuple) and value:
            return ("batch", *value[1:])
        return value


def _is_parameter(value: Value) -> bool:
    return value.origin is Origin.PARAMETER
