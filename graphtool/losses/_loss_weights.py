"""The weight of each part of a loss: a number, or a Value that may change from run to run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from typing import Any, TypeAlias, cast

from graphtool.arguments import bad_argument, short_repr
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.diagnostics import Diagnostic, UsageError, listed
from graphtool.losses._parts import LossPart
from graphtool.losses._values import is_in_main_program, is_value, shape_of
from graphtool.losses.problems import bad_option
from graphtool.text import string_literal

__all__ = ["Weight", "resolve_weights", "unknown_part", "weighted"]

# A number, or a scalar Value of the Program.
Weight: TypeAlias = Any

_SCALAR_SHAPES = ((), (1,))
_EXAMPLE = 'weights={"l2_relu_22": 0.5}'
_VALUE_EXAMPLE = 'weight = paddle.static.data("weight", [1], "float32")'


@dataclass(kw_only=True)
class _PairWeights:
    """The weights of all pairs as they are resolved, and the problems found."""

    weights: list[Weight]
    problems: list[Diagnostic] = field(default_factory=list[Diagnostic])


def resolve_weights(
    parts: Sequence[LossPart], defaults: Sequence[float], given: object
) -> tuple[dict[str, Weight], tuple[Diagnostic, ...]]:
    """Return the weight of each part by its name, and the problems of those given.

    `given` is None, one weight for each pair, or a mapping from the name of a part, the rank or the
    kind of a pair: the more specific key wins. A pair that it leaves out has its default.

    Raises UsageError GT248 for anything else.
    """
    pairs = _PairWeights(weights=list(defaults))
    for rank, weight in enumerate(defaults, 1):
        pairs.problems.extend(_check_weight(f"pair {rank}", weight, _all_ones(len(defaults))))
    if isinstance(given, Mapping):
        _set_by_key(parts, cast("Mapping[object, Weight]", given), pairs)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        _set_in_order(cast("Sequence[Weight]", given), pairs)
    elif given is not None:
        expected = "one weight for each pair, or a mapping"
        raise UsageError(bad_argument("weights", given, expected, _EXAMPLE))
    if pairs.problems:
        return {}, tuple(pairs.problems)
    last = {part.name: pairs.weights[part.indices[-1]] for part in parts}
    weights = {name: one if is_value(one) else float(one) for name, one in last.items()}
    found = list(_check_equal(parts, pairs.weights))
    if not any(is_value(weight) or weight for weight in weights.values()):
        expected = "a weight above 0 for one of them"
        found.append(_bad_weight("every pair", 0.0, expected, _all_ones(len(defaults))))
    return weights, tuple(found)


def _set_in_order(given: Sequence[Weight], pairs: _PairWeights) -> None:
    count = len(pairs.weights)
    if len(given) != count:
        message = f"`weights` has length {len(given)}; wanted {count}, one for each pair"
        pairs.problems.append(bad_option(message, help=_all_ones(count)))
        return
    for index, weight in enumerate(given):
        pairs.problems.extend(_check_weight(f"pair {index + 1}", weight, _all_ones(count)))
        pairs.weights[index] = weight


def _set_by_key(
    parts: Sequence[LossPart], given: Mapping[object, Weight], pairs: _PairWeights
) -> None:
    known = [part.name for part in parts]
    invalid = [key for key in given if not isinstance(key, str | int)]
    if invalid:
        # They are not compared either: PIR Values crash once their Program is gone.
        pairs.problems.extend(unknown_part("weights", short_repr(key), known) for key in invalid)
        return
    for key, weight in given.items():
        pairs.problems.extend(_check_weight(f"`{key}`", weight, f"weights={{{key!r}: 1.0}}"))
    used: set[object] = set()
    for part in parts:
        for index, pair in zip(part.indices, part.pairs, strict=True):
            # The last of them that is given wins.
            for key in (pair.kind.value, pair.rank, part.name):
                if key in given:
                    used.add(key)
                    pairs.weights[index] = given[key]
    pairs.problems.extend(unknown_part("weights", key, known) for key in given if key not in used)


def _all_ones(count: int) -> str:
    return "weights=[1.0]" if count == 1 else f"weights=[1.0] * {count}"


def unknown_part(argument: str, key: object, known: Sequence[str]) -> Diagnostic:
    """Report a key of `weights` or `options` that belongs to no part of the loss."""
    value = "1.0" if argument == "weights" else "{}"
    return bad_option(
        f"`{argument}` has the key `{key!r}`, which belongs to no part of the loss",
        notes=(f"known: {listed(known, len(known))}",),
        help=f"{argument}={{{string_literal(known[0])}: {value}}}" if known else None,
    )


def _bad_weight(of: str, given: object, expected: str, example: str) -> Diagnostic:
    message = f"the weight of {of} is `{short_repr(given)}`; wanted {expected}"
    return bad_option(message, help=example)


def _check_weight(of: str, weight: Weight, example: str) -> Iterator[Diagnostic]:
    """Yield a problem if a weight is invalid; `example` is a valid argument."""
    if is_value(weight):
        if not is_in_main_program(weight):
            expected = "a Value of the merged Program"
            yield _bad_weight(of, "<Value>", expected, _VALUE_EXAMPLE)
        elif shape_of(weight) not in _SCALAR_SHAPES:
            given = f"<Value {list(shape_of(weight))}>"
            expected = "a scalar: a Value of shape [] or [1]"
            yield _bad_weight(of, given, expected, _VALUE_EXAMPLE)
    elif isinstance(weight, bool) or not isinstance(weight, Real):
        yield _bad_weight(of, weight, "a number, or a scalar Value", example)
    elif not isfinite(weight) or weight < 0:
        yield _bad_weight(of, weight, "a finite number of 0 or more", example)


def _check_equal(parts: Sequence[LossPart], weights: Sequence[Weight]) -> Iterator[Diagnostic]:
    """Yield the parts of two pairs with different weights; Values are compared by identity."""
    for part in parts:
        first, last = weights[part.indices[0]], weights[part.indices[-1]]
        is_same = first is last if is_value(first) or is_value(last) else first == last
        if not is_same:
            weigh = f"`{short_repr(first)}` and `{short_repr(last)}`"
            message = f"the two pairs of `{part.name}` have the weights {weigh}; wanted one weight"
            yield bad_option(message, help=f"weights={{{string_literal(part.name)}: 1.0}}")


def weighted(loss: Paddle, weight: Weight) -> Paddle:
    """Return a loss times its weight, in the dtype of the loss."""
    if is_value(weight):
        paddle = load_paddle()
        return loss * paddle.reshape(paddle.cast(weight, loss.dtype), [])
    return loss if weight == 1 else loss * weight
