"""Write down all that ranks have to agree on before they train together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from graphtool.graph import Graph, Operator, Origin, Value

__all__ = ["Description", "described"]

# An optimizer, its schedule, its clipping and its decay are Paddle's.
_Paddle: TypeAlias = Any

_PLAIN = (bool, int, float, str)
_PARTS = ("_learning_rate", "_grad_clip", "regularization")
# Each rank may draw random numbers of its own, has a device of its own, and one may say more.
_OWN = frozenset({"seed", "fix_seed", "place", "verbose"})


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
    optimizer: _Paddle,
    *,
    learning: Collection[str],
    passed_over: Collection[str],
) -> Description:
    """Describe a Program, its loss, what learns from it, and by which optimizer."""
    parameters = sorted(graph.parameters, key=lambda value: value.name)
    return Description(
        (
            *_settings("optimizer", optimizer),
            *(_parameter(value, value.name in learning) for value in parameters),
            *map(_operator, _computing(graph)),
            f"loss `{loss}`",
            *(f"no gradient for `{name}`" for name in sorted(passed_over)),
        )
    )


def _settings(name: str, thing: _Paddle) -> Iterator[str]:
    """Yield what a thing of Paddle's was made with: its class, its numbers, and its parts'."""
    yield f"{name} {type(thing).__name__}"
    held = cast("dict[str, _Paddle]", vars(thing))
    for key, value in sorted(held.items()):
        inner = f"{name}.{key.strip('_')}"
        if isinstance(value, _PLAIN) and key not in _OWN:
            yield f"{inner} = {value!r}"
        elif key in _PARTS and value is not None:
            yield from _settings(inner, value)


def _parameter(value: Value, learns: bool) -> str:  # noqa: FBT001  # one of two words
    shape = "?" if value.shape is None else list(value.shape)
    return f"parameter `{value.name}` {shape} {value.dtype}, {'learns' if learns else 'frozen'}"


def _computing(graph: Graph) -> Sequence[Operator]:
    """Return all Operators but those of parameters, which PIR lists in no order."""
    values = graph.values
    return [
        operator
        for operator in graph.operators.values()
        if not any(values[name].origin is Origin.PARAMETER for name in operator.results)
    ]


def _operator(operator: Operator) -> str:
    operands = ", ".join("-" if name is None else name for name in operator.operands)
    attributes = [
        f"{key}={value!r}" for key, value in sorted(operator.attributes.items()) if key not in _OWN
    ]
    return f"operator `{operator.name}` ({operands}) {' '.join(attributes)}".rstrip()
