"""Check whether the losses of pairs can be built: first the names, then each loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from os import PathLike, fspath
from typing import NamedTuple, TypeAlias, TypeGuard, cast

from graphtool.arguments import are_texts, bad_argument, is_text
from graphtool.both import Both
from graphtool.checks.fits import Fit, LossUse, Operand, fit, passes_gradient, reaches_parameter
from graphtool.diagnostics import Diagnostic, ReadError, Report, UsageError, Where
from graphtool.dtypes import FLOAT_DTYPES
from graphtool.graph import Graph, Origin, Value
from graphtool.loss_specs import LossSpec, group_flows, named_losses
from graphtool.matching import Pair
from graphtool.matching.problems import no_pairs, unknown_loss
from graphtool.ops import kind_of, logits_of
from graphtool.paths import path_exists
from graphtool.selectors import find, unknown_name
from graphtool.sources import Source, read_without_teachers
from graphtool.structure import analyse
from graphtool.text import string_literal

__all__ = [
    "ComparedNetworks",
    "NamedPair",
    "check_options",
    "check_pairs",
    "class_axis",
    "fit_pairs",
    "is_name_tuple",
]

# A teacher's name, a student's, and the name of a loss.
_Names: TypeAlias = "tuple[str, str] | tuple[str, str, str]"

_EXAMPLE = "gt.check_pairs(gt.suggest_pairs(teacher, student), teacher, student)"
# The axes of the channels of a map.
_CHANNELS_FIRST, _CHANNELS_LAST = 1, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedNetworks:
    """The Graphs of both networks, the prefix, and whether the student is made trainable first.

    The losses named in `like_l2` are unknown to `distill_loss`, and compare as `l2` does.
    """

    graphs: Both[Graph]
    prefix: str
    restored: bool = False
    like_l2: frozenset[str] = frozenset()


class NamedPair(NamedTuple):
    """What decides whether a pair fits: any selectors of its Values, and how they are compared."""

    teacher: str
    student: str
    loss: str = "l2"
    adapter: str | None = None
    is_suggested: bool = False

    @classmethod
    def of(cls, pair: Pair) -> NamedPair:
        """Return what decides whether a Pair fits."""
        return cls(pair.teacher.name, pair.student.name, pair.loss, pair.adapter, pair.is_suggested)


def check_pairs(
    pairs: Iterable[Pair | _Names],
    teacher: Source,
    student: Source,
    *,
    name_prefix: str = "teacher_",
    options: Mapping[str, Mapping[str, object]] | None = None,
    restored: bool = False,
) -> Report:
    """Report all problems of distilling through these pairs.

    A pair is a Pair, or `(teacher, student)` or `(teacher, student, loss)` with any selectors; the
    loss defaults to `l2`. `l1`, `mse` and `smooth_l1`, which are Paddle's own and unknown to
    `distill_loss`, are checked like `l2`; two pairs with `fsp` are one loss. For a recipe, pass the
    `pairs` of what `read_recipe` returns. `teacher` and `student` are what `read` accepts; for a
    Merged, its `source.graph` and `before.graph`. `name_prefix` is the prefix that merging gives to
    the teacher's names; they are accepted with and without it, and a teacher's name on the
    student's side is pointed out. `options` are those of `distill_loss`, by the name of a loss:
    with `from_probs` probabilities are no problem, with `heads` other shapes are accepted.
    `restored` says that the student goes through `for_training` before the merge, which makes its
    parameters trainable again; it is implied for the path of a saved model.

    `distill_loss` raises an error for these pairs if and only if this finds one. Weights, labels
    and other options are not checked.

    Raises ReadError if a network cannot be read, UsageError GT248 for arguments of the wrong type.
    """
    given = _checked_arguments(pairs, name_prefix, options)
    networks = ComparedNetworks(
        graphs=Both(read_without_teachers(teacher), read_without_teachers(student)),
        prefix=name_prefix,
        restored=restored or (isinstance(student, str | PathLike) and path_exists(fspath(student))),
        like_l2=frozenset({"l1", "mse", "smooth_l1"}),
    )
    losses = [pair.loss for pair in given]
    found = [
        fit_pairs(
            networks,
            [given[index] for index in indices],
            (options or {}).get(losses[indices[0]], {}),
            indices[0],
        ).diagnostics
        for indices in group_flows(losses)
    ]
    return Report.of(chain.from_iterable(found), about=tuple(networks.graphs))


def _checked_arguments(pairs: object, name_prefix: object, options: object) -> list[NamedPair]:
    """Return the pairs; refuse arguments of the wrong type, all of them at once."""
    found: list[Diagnostic] = []
    given: list[NamedPair] = []
    if not isinstance(pairs, Iterable) or isinstance(pairs, str | PathLike):
        found.append(bad_argument("pairs", pairs, "a PairSet, or a list of pairs", _EXAMPLE))
        pairs = ()
    for index, pair in enumerate(cast("Iterable[object]", pairs)):
        if isinstance(pair, Pair):
            given.append(NamedPair.of(pair))
        elif is_name_tuple(pair):
            teacher, student, *loss = pair
            given.append(NamedPair(teacher, student, loss[0] if loss else "l2"))
        else:
            expected = "a Pair, or (teacher name, student name) with or without a loss"
            found.append(bad_argument(f"pairs[{index}]", pair, expected, _EXAMPLE))
    if not is_text(name_prefix):
        found.append(bad_argument("name_prefix", name_prefix, "text", _EXAMPLE))
    found += check_options(options)
    if found:
        raise UsageError(*found)
    return given


def is_name_tuple(given: object) -> TypeGuard[tuple[str, ...]]:
    """Return whether an argument is `(teacher name, student name)`, with or without a loss."""
    return are_texts(given) and isinstance(given, tuple) and len(given) in (2, 3)


def check_options(options: object) -> list[Diagnostic]:
    """Return what is wrong with the options of losses: they are a mapping to mappings, or None."""
    is_mapping = isinstance(options, Mapping)
    tables = cast("Mapping[object, object]", options).values() if is_mapping else ()
    if options is None or (is_mapping and all(isinstance(one, Mapping) for one in tables)):
        return []
    expected, example = "a mapping to mappings", 'options={"kl": {"from_probs": "teacher"}}'
    return [bad_argument("options", cast("object", options), expected, example)]


def fit_pairs(
    networks: ComparedNetworks,
    pairs: Sequence[NamedPair],
    options: Mapping[str, object],
    index: int,
) -> Fit:
    """Decide whether the loss of pairs can be built; it has two pairs if it compares flows.

    `index` is that of its first pair.
    """
    loss, is_suggested = pairs[0].loss, pairs[0].is_suggested
    spec = named_losses().get("l2" if loss in networks.like_l2 else loss)
    ends = [
        Both(_end("teacher", pair.teacher, networks), _end("student", pair.student, networks))
        for pair in pairs
    ]
    problems = [end for both in ends for end in both if isinstance(end, Diagnostic)]
    if spec is None:
        problems.append(unknown_loss(f"pairs[{index}].loss", loss, tuple(named_losses())))
    elif spec.takes.flows and len(pairs) == 1:
        alone = f"`{pairs[0].student}` has no partner"
        problems.append(
            no_pairs(
                f"`fsp` takes pairs by twos, a start and an end; {alone}",
                help='gt.distill_loss(merged, [("t_1", "s_1", "fsp"), ("t_2", "s_2", "fsp")])',
            )
        )
    if problems or spec is None:
        return Fit(tuple(problems))
    operands = [
        Both(
            _operand("teacher", both.teacher, spec, networks, is_suggested=is_suggested),
            _operand("student", both.student, spec, networks, is_suggested=is_suggested),
        )
        for both in cast("list[Both[Value]]", ends)
    ]
    use = LossUse(name=loss, spec=spec, options=options, is_call=False)
    return fit(use, operands, [pair.adapter for pair in pairs])


def _end(role: str, selector: str, networks: ComparedNetworks) -> Value | Diagnostic:
    """Return the Value that a pair names in a network, or what is wrong."""
    graphs, plain = networks.graphs, selector.removeprefix(networks.prefix)
    graph, other_graph = graphs.teacher, graphs.student
    if role == "student":
        graph, other_graph = other_graph, graph
    try:
        if role == "teacher" and selector != plain and selector not in graph.values:
            with suppress(ReadError):
                return _check_usable(role, graph, find(graph, plain))
        return _check_usable(role, graph, find(graph, selector))
    except ReadError as error:
        found = replace(
            error.report.diagnostics[0],
            message=f"a pair's {role} side: {error.report.diagnostics[0].message}",
            where=(Where(role=role, program=graph.source, value=selector),),
        )
    other = "student" if role == "teacher" else "teacher"
    for candidate in (selector, plain):
        with suppress(ReadError):
            name = find(other_graph, candidate).name
            note = f"it is the {other}'s `{name}`, and a pair names the teacher's first"
            return replace(found, notes=(note, *found.notes))
    return found


def _check_usable(role: str, graph: Graph, value: Value) -> Value | Diagnostic:
    """Return a Value, or a problem if no loss can compare it."""
    if value.elements:
        instead = [one for reader in graph.consumers.get(value.name, ()) for one in reader.results]
        description = f"a vector of {len(value.elements)} tensors; losses compare single tensors"
    elif (owner := _owner(graph, value)) is not None:
        instead = graph.operators[owner].results
        description = f"inside `{owner}`; losses compare Values outside of branches and loops"
    else:
        return value
    return unknown_name(
        f"a pair's {role} side: `{value.name}` is {description}",
        Where(role=role, program=graph.source, value=value.name),
        help=string_literal(instead[0]) if instead else None,
    )


def _owner(graph: Graph, value: Value) -> str | None:
    """Return the top-level Operator whose Blocks contain a Value, None for a top-level Value."""
    nested = [block for block in graph.blocks.values() if block.owner is not None]
    operator = graph.producer(value.name)
    path = next((block.path for block in nested if value.name in block.arguments), "")
    path = operator.block if operator is not None else path
    owner = graph.blocks[path].owner
    while owner is not None and (path := graph.operators[owner].block):
        owner = graph.blocks[path].owner
    return owner


def _operand(
    role: str, value: Value, spec: LossSpec, networks: ComparedNetworks, *, is_suggested: bool
) -> Operand:
    """Return what a Graph says of one side of a pair; a merged teacher is not trained."""
    graph = networks.graphs.teacher if role == "teacher" else networks.graphs.student
    producer, rank = graph.producer(value.name), len(value.shape or ())
    axis = usual_axis = None
    if spec.needs_class_axis:
        axis = class_axis(graph, value.name)
        if is_suggested:  # the pair is one of logits, whatever its layers say
            channels = _channel_axis(graph, value.name)
            usual_axis = rank - 1 if channels is None else channels
    elif not spec.takes.heads:
        axis = _channel_axis(graph, value.name)
    return Operand(
        where=Where(
            role=role,
            program=graph.source,
            value=value.name,
            shape=value.shape,
            source=producer.source if producer else None,
        ),
        code=string_literal(value.name),
        shape=value.shape,
        dtype=value.dtype,
        axis=axis,
        usual_axis=usual_axis,
        is_trainable=role == "student"
        and _reaches_parameter(graph, value.name, restored=networks.restored),
        is_feed=value.origin is Origin.FEED,
        logits=logits_of(value.name, lambda name: _source(graph, name)),
    )


def _source(graph: Graph, name: str) -> tuple[str, str] | None:
    """Return the kind of operator that produces a Value, and its first operand."""
    operator = graph.producer(name)
    operand = operator.operands[0] if operator is not None and operator.operands else None
    return None if operator is None or operand is None else (kind_of(operator), operand)


def _reaches_parameter(graph: Graph, name: str, *, restored: bool) -> bool:
    """Return whether the gradient of a Value of a Graph reaches a trainable parameter or a feed.

    `restored`: `for_training` makes parameters trainable unless they are frozen explicitly, and
    lets gradients pass where the translation to PIR stopped them.
    """

    def gradient_sources(name: str) -> Iterable[str] | None:
        value, operator = graph.values[name], graph.producer(name)
        if value.stop_gradient and (not restored or value.origin is not Origin.OPERATOR):
            return ()
        if value.origin is Origin.PARAMETER:
            trainable = value.dtype in FLOAT_DTYPES if restored else value.trainable
            return None if trainable else ()
        if value.origin is not Origin.OPERATOR or operator is None or operator.blocks:
            return None
        if not passes_gradient(kind_of(operator), value.dtype):
            return ()
        return [operand for operand in operator.operands if operand is not None]

    return reaches_parameter(name, gradient_sources, lambda name: name)


def class_axis(graph: Graph, name: str) -> int | None:
    """Return the class axis of a Value, None if no operator determines it."""
    rank, structure = len(graph.values[name].shape or ()), analyse(graph)
    if rank < 3:
        return rank - 1 if rank else None
    return (structure.channel_axes[name] or None) if name in structure.known_axes else None


def _channel_axis(graph: Graph, name: str) -> int | None:
    if len(graph.values[name].shape or ()) != 4:
        return None
    axis = analyse(graph).channel_axes.get(name, _CHANNELS_FIRST)
    return axis if axis in (_CHANNELS_FIRST, _CHANNELS_LAST) else None
