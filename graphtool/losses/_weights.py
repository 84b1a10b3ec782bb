"""The weight of each part of a loss: a number, or a Value that may change from run to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from typing import Any, TypeAlias, cast

from graphtool.arguments import shown
from graphtool.diagnostics import Diagnostic, UsageError
from graphtool.losses import pair_problems as problems
from graphtool.losses._parts import Part
from graphtool.losses._values import belongs, is_value, shape_of
from graphtool.readers._paddle import load_paddle

__all__ = ["Weight", "weigh", "weighted"]

# Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any
# A number, or a scalar Value of the Program.
Weight: TypeAlias = Any

_SCALARS = ((), (1,))
_EXAMPLE = 'weights={"l2_relu_22": 0.5}'
_VALUE = 'weight = paddle.static.data("weight", [1], "float32")'


@dataclass(kw_only=True)
class _Scale:
    """The weights of pairs while they are put together."""

    pairs: list[Weight]
    found: list[Diagnostic] = field(default_factory=list[Diagnostic])


def weigh(
    parts: Sequence[Part], defaults: Sequence[float], given: object
) -> tuple[dict[str, Weight], tuple[Diagnostic, ...]]:
    """Return the weight of each part by its name, and what is wrong with those given.

    `given` is None, one weight for each pair, or a mapping from the name of a part, the rank or the
    kind of a pair: the more special key wins. What it leaves out weighs what the pair says.

    Raises UsageError GT358 for anything else.
    """
    scale = _Scale(pairs=list(defaults))
    for place, weight in enumerate(defaults, 1):
        scale.found.extend(_wrong(f"pair {place}", weight, _ones(len(defaults))))
    if isinstance(given, Mapping):
        _by_key(parts, cast("Mapping[object, Weight]", given), scale)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        _in_order(cast("Sequence[Weight]", given), scale)
    elif given is not None:
        wanted = "one weight for each pair, or a mapping"
        raise UsageError(problems.wrong_argument("weights", given, wanted, _EXAMPLE))
    if scale.found:
        return {}, tuple(scale.found)
    whole = {part.name: _plain(scale.pairs[part.places[-1]]) for part in parts}
    found = list(_unequal(parts, scale.pairs))
    if not any(is_value(weight) or weight for weight in whole.values()):
        wanted = "a weight above 0 for one of them"
        found.append(problems.bad_weight("every pair", 0.0, wanted, _ones(len(defaults))))
    return whole, tuple(found)


def _plain(weight: Weight) -> Weight:
    return weight if is_value(weight) else float(weight)


def _in_order(given: Sequence[Weight], scale: _Scale) -> None:
    if len(given) != len(scale.pairs):
        wanted = len(scale.pairs)
        scale.found.append(problems.weights_length(len(given), wanted, _ones(wanted)))
        return
    for index, weight in enumerate(given):
        scale.found.extend(_wrong(f"pair {index + 1}", weight, _ones(len(given))))
        scale.pairs[index] = weight


def _by_key(parts: Sequence[Part], given: Mapping[object, Weight], scale: _Scale) -> None:
    known = [part.name for part in parts]
    strange = [key for key in given if not isinstance(key, str | int)]
    if strange:
        # Not compared either: PIR's Values crash once their Program is gone.
        scale.found.extend(problems.unknown_part("weights", shown(key), known) for key in strange)
        return
    for key, weight in given.items():
        scale.found.extend(_wrong(f"`{key}`", weight, f"weights={{{key!r}: 1.0}}"))
    fitting: set[object] = set()
    for part in parts:
        for index, pair in zip(part.places, part.pairs, strict=True):
            # The last one that is given wins.
            for key in (pair.kind.value, pair.rank, part.name):
                if key in given:
                    fitting.add(key)
                    scale.pairs[index] = given[key]
    scale.found.extend(
        problems.unknown_part("weights", key, known) for key in given if key not in fitting
    )


def _ones(count: int) -> str:
    return "weights=[1.0]" if count == 1 else f"weights=[1.0] * {count}"


def _wrong(place: str, weight: Weight, typed: str) -> Iterator[Diagnostic]:
    """Find what is no weight; `typed` is an argument that would be one."""
    if is_value(weight):
        if not belongs(weight):
            yield problems.bad_weight(place, "<Value>", "a Value of the merged Program", _VALUE)
        elif shape_of(weight) not in _SCALARS:
            shown = f"<Value {list(shape_of(weight))}>"
            yield problems.bad_weight(place, shown, "a scalar: a Value of shape [] or [1]", _VALUE)
    elif isinstance(weight, bool) or not isinstance(weight, Real):
        yield problems.bad_weight(place, weight, "a number, or a scalar Value", typed)
    elif not isfinite(weight) or weight < 0:
        yield problems.bad_weight(place, weight, "a finite number that is not negative", typed)


def _unequal(parts: Sequence[Part], weights: Sequence[Weight]) -> Iterator[Diagnostic]:
    """Find parts of two pairs that weigh differently; Values are compared by identity."""
    for part in parts:
        first, last = weights[part.places[0]], weights[part.places[-1]]
        same = first is last if is_value(first) or is_value(last) else first == last
        if not same:
            yield problems.fsp_weights_differ(part.name, first, last)


def weighted(loss: _Paddle, weight: Weight) -> _Paddle:
    """Return a loss times its weight, in the dtype of the loss."""
    if is_value(weight):
        paddle = load_paddle()
        return loss * paddle.reshape(paddle.cast(weight, loss.dtype), [])
    return loss if weight == 1 else loss * weight
