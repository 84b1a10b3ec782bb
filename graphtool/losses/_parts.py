"""The parts of a distillation loss: pairs from any source, the losses they make, and weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from numbers import Real
from os import PathLike
from typing import Any, TypeAlias, cast

from graphtool.arguments import bad_argument, short_repr
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.checks.pairs import is_name_tuple
from graphtool.diagnostics import Diagnostic, ReadError, Severity, UsageError, Where, listed
from graphtool.graph import Graph, module_path
from graphtool.loss_specs import group_flows
from graphtool.losses._operands import bad_option
from graphtool.losses._values import as_number, is_in_main_program, is_value, shape_of
from graphtool.matching import End, Kind, Pair, PairSet
from graphtool.matching.pairs import Relation, end_of
from graphtool.matching.problems import moved_value
from graphtool.matching.recipe import Recipe, recipe_text
from graphtool.merging import Merged
from graphtool.selectors import find
from graphtool.structure import Role, analyse
from graphtool.text import string_literal
from graphtool.toolkits import read_recipe

__all__ = [
    "LossPart",
    "Weight",
    "parts_of",
    "resolve_weights",
    "select_pairs",
    "unknown_part",
    "weighted",
]

# A number, or a scalar Value of the Program.
Weight: TypeAlias = Any

_EXPECTED = "a PairSet, a Recipe, the path of one, or a list of pairs"
_EXAMPLE = "gt.distill_loss(merged, gt.suggest_pairs(teacher, student))"
_KINDS = {
    Role.LOGITS: Kind.LOGITS,
    Role.EMBEDDING: Kind.EMBEDDING,
    Role.HIDDEN_STATE: Kind.HIDDEN_STATE,
    Role.ATTENTION: Kind.ATTENTION,
    Role.STAGE_END: Kind.STAGE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPart:
    """One loss: its name, its pairs (two for fsp), and their indices among all pairs."""

    name: str
    loss: str
    pairs: tuple[Pair, ...]
    indices: tuple[int, ...]

    def options(self, given: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
        """Return the part's options; those for its name override those for its loss."""
        return {**given.get(self.loss, {}), **given.get(self.name, {})}


def select_pairs(merged: Merged, pairs: object) -> tuple[tuple[Pair, ...], tuple[Diagnostic, ...]]:
    """Find the Values of pairs in the two merged networks; return what was found as well.

    Raises PairError as `read_recipe` does, UsageError GT248 for anything but pairs.
    """
    teacher, student = merged.plan.teacher, merged.plan.student
    source: object = pairs.pairs if isinstance(pairs, Recipe) else pairs
    if isinstance(source, PairSet):
        is_same = _is_same_program(source.teacher, teacher) and _is_same_program(
            source.student, student
        )
        if is_same or not source.pairs:
            return source.pairs, tuple(source.report) if source.pairs else ()
        # They were suggested for other Programs of the same networks, as recipes are.
        source = recipe_text(source)
    if isinstance(source, str | PathLike):
        path = cast("str | PathLike[str]", source)
        found = read_recipe(path, teacher=teacher, student=student).pairs
        return found.pairs, tuple(found.report)
    if not isinstance(source, Iterable):
        raise UsageError(bad_argument("pairs", pairs, _EXPECTED, _EXAMPLE))
    given = tuple(cast("Iterable[object]", source))
    chosen = tuple(_pair(one, index, merged) for index, one in enumerate(given))
    found = (found for one in given if isinstance(one, Pair) for found in _moved(merged, one))
    return chosen, tuple(found)


def _is_same_program(graph: Graph, other: Graph) -> bool:
    """Return whether two Graphs were read from one Program, so that names mean the same."""
    return graph is other or (graph.operators == other.operators and graph.values == other.values)


def _moved(merged: Merged, pair: Pair) -> Iterator[Diagnostic]:
    """Yield the ends of a Pair whose names mean another Value than where it was made."""
    for role, graph, end in (
        ("teacher", merged.plan.teacher, pair.teacher),
        ("student", merged.plan.student, pair.student),
    ):
        value = graph.values.get(end.name)
        if value is None:
            continue
        now = end_of(graph, value)
        if not _is_same_end(end, now):
            where = Where(role=role, program=graph.source, value=end.name, shape=value.shape)
            was, now_is = _description(end), _description(now)
            yield moved_value(
                f"`{end.name}` was {was} where the pair was made, and is {now_is} here",
                where=(where,),
                severity=Severity.ERROR,
                help="gt.distill_loss(merged, dataclasses.replace(pairs, pairs=tuple(chosen)))",
            )


def _is_same_end(made: End, now: End) -> bool:
    """Return whether two ends agree, whatever the input size and the enclosing modules."""
    if made.shape is not None and now.shape is not None and len(made.shape) != len(now.shape):
        return False
    if made.module is None or now.module is None:
        return True
    paths = (module_path(module).split("/")[2:] for module in (made.module, now.module))
    shorter, longer = sorted(paths, key=len)
    return longer[len(longer) - len(shorter) :] == shorter


def _description(end: End) -> str:
    module = "" if end.module is None else f" of `{module_path(end.module)}`"
    return f"`{end.op}`{module}, {'of unknown rank' if end.shape is None else list(end.shape)}"


def _pair(given: object, index: int, merged: Merged) -> Pair:
    if isinstance(given, Pair):
        return given
    if not is_name_tuple(given):
        expected = "a Pair, or (teacher name, student name) with or without a loss"
        raise UsageError(bad_argument(f"pairs[{index}]", given, expected, _EXAMPLE))
    teacher_name, student_name, *loss = given
    with suppress(ReadError):  # an unknown name is reported later
        teacher_name = merged.teacher_name(teacher_name)
    student = _end(merged.plan.student, student_name)
    kind = Kind.FEATURE
    if student.name in merged.plan.student.values:
        kind = _KINDS.get(analyse(merged.plan.student).role(student.name), Kind.FEATURE)
    return Pair(
        rank=index + 1,
        score=1.0,
        kind=kind,
        teacher=_end(merged.plan.teacher, teacher_name),
        student=student,
        relation=Relation.UNKNOWN,
        adapter=None,
        loss=loss[0] if loss else "l2",
        why=(),
        warnings=(),
    )


def _end(graph: Graph, selector: str) -> End:
    """Return the end that a selector finds; `check_pairs` reports one that finds nothing."""
    try:
        return end_of(graph, find(graph, selector))
    except ReadError:
        return End(
            name=selector,
            op=None,
            op_index=None,
            output=0,
            module=None,
            layer=None,
            shape=None,
            dtype=None,
        )


def parts_of(pairs: tuple[Pair, ...]) -> tuple[LossPart, ...]:
    """Group pairs into losses, in order; an fsp pair without a partner comes last."""
    parts: list[LossPart] = []
    taken: set[str] = set()
    for indices in group_flows([pair.loss for pair in pairs]):
        members = tuple(pairs[index] for index in indices)
        stem = f"{members[-1].loss}_{members[-1].student.name}"
        names = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
        name = next(name for name in names if name not in taken)
        taken.add(name)
        parts.append(LossPart(name=name, loss=members[0].loss, pairs=members, indices=indices))
    return tuple(parts)


_SCALAR_SHAPES = ((), (1,))


def resolve_weights(
    parts: Sequence[LossPart], defaults: Sequence[float], given: object
) -> tuple[dict[str, Weight], list[Diagnostic]]:
    """Return the weight of each part by its name, and the problems of those given.

    `given` is None, one weight for each pair, or a mapping from the name of a part, the rank or the
    kind of a pair: the more specific key wins. A pair that it leaves out has its default.

    Raises UsageError GT248 for anything else.
    """
    weights: list[Weight] = list(defaults)
    total = len(weights)
    example = "weights=[1.0]" if total == 1 else f"weights=[1.0] * {total}"
    problems: list[Diagnostic] = []
    for rank, weight in enumerate(defaults, 1):
        problems += _check_weight(f"pair {rank}", weight, example)
    if isinstance(given, Mapping):
        problems += _set_by_key(parts, cast("Mapping[object, Weight]", given), weights)
    elif isinstance(given, Sequence) and not isinstance(given, str):
        problems += _set_in_order(cast("Sequence[Weight]", given), weights, example)
    elif given is not None:
        expected = "one weight for each pair, or a mapping"
        raise UsageError(bad_argument("weights", given, expected, 'weights={"l2_relu_22": 0.5}'))
    if problems:
        return {}, problems
    for part in parts:
        first, last = weights[part.indices[0]], weights[part.indices[-1]]
        # Comparing PIR Values would build an operator.
        is_same = first is last if is_value(first) or is_value(last) else first == last
        if not is_same:
            weigh = f"`{short_repr(first)}` and `{short_repr(last)}`"
            message = f"the two pairs of `{part.name}` have the weights {weigh}; wanted one weight"
            typed = f"weights={{{string_literal(part.name)}: 1.0}}"
            problems.append(bad_option(message, help=typed))
    by_name = {part.name: weights[part.indices[-1]] for part in parts}
    if not any(is_value(weight) or weight for weight in by_name.values()):
        problems.append(_bad_weight("every pair", 0.0, "a weight above 0 for one of them", example))
    return {name: one if is_value(one) else float(one) for name, one in by_name.items()}, problems


def _set_in_order(
    given: Sequence[Weight], weights: list[Weight], example: str
) -> Iterator[Diagnostic]:
    """Set the weights of all pairs, and yield what is wrong with those given."""
    if len(given) != len(weights):
        message = f"`weights` has length {len(given)}; wanted {len(weights)}, one for each pair"
        yield bad_option(message, help=example)
        return
    for index, weight in enumerate(given):
        yield from _check_weight(f"pair {index + 1}", weight, example)
        weights[index] = weight


def _set_by_key(
    parts: Sequence[LossPart], given: Mapping[object, Weight], weights: list[Weight]
) -> Iterator[Diagnostic]:
    """Set the weights of pairs by the keys of a mapping, and yield what is wrong with those."""
    known = [part.name for part in parts]
    invalid = [key for key in given if not isinstance(key, str | int)]
    if invalid:
        # They are not compared either: PIR Values crash once their Program is gone.
        yield from (unknown_part("weights", short_repr(key), known) for key in invalid)
        return
    for key, weight in given.items():
        yield from _check_weight(f"`{key}`", weight, f"weights={{{key!r}: 1.0}}")
    used: set[object] = set()
    for part in parts:
        for index, pair in zip(part.indices, part.pairs, strict=True):
            # The last of them that is given wins.
            for key in (pair.kind.value, pair.rank, part.name):
                if key in given:
                    used.add(key)
                    weights[index] = given[key]
    yield from (unknown_part("weights", key, known) for key in given if key not in used)


def unknown_part(argument: str, key: object, known: Sequence[str]) -> Diagnostic:
    """Report a key of `weights` or `options` that belongs to no part of the loss."""
    value, more = (
        ("1.0", ", kinds of pairs, and their ranks") if argument == "weights" else ("{}", "")
    )
    return bad_option(
        f"`{argument}` has the key `{key!r}`, which belongs to no part of the loss",
        notes=(f"known: {listed(known, len(known))}{more}",),
        help=f"{argument}={{{string_literal(known[0])}: {value}}}" if known else None,
    )


def _bad_weight(of: str, given: object, expected: str, example: str) -> Diagnostic:
    message = f"the weight of {of} is `{short_repr(given)}`; wanted {expected}"
    return bad_option(message, help=example)


def _check_weight(of: str, weight: Weight, example: str) -> Iterator[Diagnostic]:
    """Yield a problem if a weight is invalid; `example` is a valid argument."""
    if is_value(weight):
        example = 'weight = paddle.static.data("weight", [1], "float32")'
        if not is_in_main_program(weight):
            yield _bad_weight(of, "<Value>", "a Value of the merged Program", example)
        elif shape_of(weight) not in _SCALAR_SHAPES:
            shown = f"<Value {list(shape_of(weight))}>"
            yield _bad_weight(of, shown, "a scalar: a Value of shape [] or [1]", example)
        return
    number = as_number(weight)
    if number is None or number < 0:
        is_number = isinstance(weight, Real) and weight is not True and weight is not False
        wanted = "a finite number of 0 or more" if is_number else "a number, or a scalar Value"
        yield _bad_weight(of, weight, wanted, example)


def weighted(loss: Paddle, weight: Weight) -> Paddle:
    """Return a loss times its weight, in the dtype of the loss."""
    if is_value(weight):
        paddle = load_paddle()
        return loss * paddle.reshape(paddle.cast(weight, loss.dtype), [])
    return loss if weight == 1 else loss * weight
