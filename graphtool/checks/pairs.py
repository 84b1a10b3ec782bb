"""Whether the losses of pairs can be built: names first, then all that stands against each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import TypeAlias

from graphtool.checks import pair_problems as problems
from graphtool.checks.arguments import check_pair_arguments
from graphtool.checks.pair_fits import ROLES, Compared, Ends, Fitted
from graphtool.diagnostics import Diagnostic, ReadError, Report, Where
from graphtool.graph import Graph, Value
from graphtool.loss_names import by_twos, named_losses
from graphtool.matching import Pair
from graphtool.matching.problems import unknown_loss
from graphtool.paths import is_there
from graphtool.readers import Source, read_own
from graphtool.selectors import find

__all__ = ["against_loss", "check_pairs"]

# A teacher's name, a student's, and the name of a loss.
_Names: TypeAlias = "tuple[str, str] | tuple[str, str, str]"

# Losses of Paddle's own, for a pair that is only checked: they compare as `l2` does.
_ELEMENTWISE = frozenset({"l1", "mse", "smooth_l1"})


@dataclass(frozen=True, slots=True)
class _Named:
    """What a pair says."""

    names: tuple[str, str]
    loss: str
    adapter: str | None
    suggested: bool = False

    @classmethod
    def of(cls, pair: Pair | _Names) -> _Named:
        if isinstance(pair, Pair):
            names = pair.teacher.name, pair.student.name
            return cls(names, pair.loss, pair.adapter, pair.is_suggested)
        return cls((pair[0], pair[1]), pair[2] if len(pair) == 3 else "l2", None)


def check_pairs(
    pairs: Iterable[Pair | _Names],
    teacher: Source,
    student: Source,
    *,
    name_prefix: str = "teacher_",
    options: Mapping[str, Mapping[str, object]] | None = None,
    restored: bool = False,
) -> Report:
    """Report everything that stands against distilling through these pairs.

    A pair is a Pair, or `(teacher, student)` or `(teacher, student, loss)` by name, where any
    selector will do and the loss is `l2` if left out; `l1`, `mse` and `smooth_l1`, which are
    Paddle's own and none of `distill_loss`'s, are checked as `l2` is, and two pairs with `fsp` are
    one loss. Those of a recipe are the `pairs` of what
    `read_recipe` returns. `teacher` and `student` are what `read` takes; for a Merged, its
    `source.graph` and `before.graph`. `name_prefix` is what merging puts before the teacher's
    names, which may have it here: on the student's side it is told. `options` are those that
    `distill_loss` gets, by the name of a loss: `from_probs` says what is no mistake, `heads` makes
    other shapes fit. `restored` says that the student goes through `for_training` before the merge,
    as one does that is given as the path of a saved model: its parameters learn again.

    Where this finds no error `distill_loss` raises none for these pairs, and the other way round;
    what weights, labels and other options decide is not looked at.

    Raises ReadError where a network cannot be read, UsageError GT248 for arguments of another type.
    """
    listed = check_pair_arguments(pairs, name_prefix, options)
    networks = Compared(
        graphs=(read_own(teacher), read_own(student)),
        prefix=name_prefix,
        restored=restored or _is_saved(student),
    )
    losses = [_Named.of(pair).loss for pair in listed]
    findings = (
        found
        for places in by_twos(losses)
        for found in against_loss(
            networks,
            [listed[place] for place in places],
            (options or {}).get(losses[places[0]], {}),
            places[0],
            as_l2=_ELEMENTWISE,
        )
    )
    return Report.of(findings, about=networks.graphs)


def _is_saved(student: Source) -> bool:
    return isinstance(student, str | PathLike) and is_there(fspath(student))


def against_loss(
    networks: Compared,
    pairs: Sequence[Pair | _Names],
    options: Mapping[str, object],
    place: int,
    *,
    as_l2: Collection[str] = (),
) -> Iterator[Diagnostic]:
    """Yield what stands against one loss: its pairs are two for flows; `place` is the first's.

    Losses of the names `as_l2` are checked as `l2` is.
    """
    named = [_Named.of(pair) for pair in pairs]
    loss = named[0].loss
    known = named_losses().get("l2" if loss in as_l2 else loss)
    found = [_ends(one, networks) for one in named]
    yield from (said for one in found if not isinstance(one, Ends) for said in one)
    if known is None:
        yield unknown_loss(f"pairs[{place}].loss", loss, tuple(named_losses()))
    elif known.takes.flows and len(named) == 1:
        yield problems.fsp_needs_two(named[0].names[1])
    else:
        ends = [one for one in found if isinstance(one, Ends)]
        if len(ends) == len(found):
            yield from Fitted(networks, loss, known, options).misfits(ends)


def _ends(named: _Named, networks: Compared) -> Ends | list[Diagnostic]:
    ends = [_end(at, name, networks) for at, name in enumerate(named.names)]
    teacher, student = ends
    if isinstance(teacher, Value) and isinstance(student, Value):
        graphs = networks.graphs
        where = _at("teacher", graphs[0], teacher), _at("student", graphs[1], student)
        return Ends(
            values=(teacher, student),
            where=where,
            adapter=named.adapter,
            suggested=named.suggested,
        )
    return [end for end in ends if isinstance(end, Diagnostic)]


def _end(at: int, name: str, networks: Compared) -> Value | Diagnostic:
    role, graph, other = ROLES[at], networks.graphs[at], networks.graphs[1 - at]
    try:
        value = _found(at, name, networks)
        return _unusable(role, graph, value) or value
    except ReadError as error:
        found = problems.unknown_pair_name(role, graph, name, error.report.diagnostics[0])
    for spelt_otherwise in (name, name.removeprefix(networks.prefix)):
        with suppress(ReadError):
            its = find(other, spelt_otherwise).name
            note = f"it is the {ROLES[1 - at]}'s `{its}`, and a pair names the teacher's first"
            return replace(found, notes=(note, *found.notes))
    return found


def _found(at: int, name: str, networks: Compared) -> Value:
    """Find what a pair names; the teacher's may have the name that merging gives it."""
    graph, bare = networks.graphs[at], name.removeprefix(networks.prefix)
    if ROLES[at] == "teacher" and name != bare and name not in graph.values:
        with suppress(ReadError):
            return find(graph, bare)
    return find(graph, name)


def _unusable(role: str, graph: Graph, value: Value) -> Diagnostic | None:
    """Say so where no loss can have a Value."""
    if value.elements:
        parts = [one for reader in graph.consumers.get(value.name, ()) for one in reader.results]
        said = f"a vector of {len(value.elements)} tensors, and losses compare single ones"
        return problems.unusable_pair_name(role, graph, value, said, parts)
    if (owner := _owner(graph, value)) is not None:
        said = f"inside of `{owner}`, and losses compare what is outside"
        results = graph.operators[owner].results
        return problems.unusable_pair_name(role, graph, value, said, results)
    return None


def _owner(graph: Graph, value: Value) -> str | None:
    """Return the Operator of the top level that a Value is inside of, None where it is there."""
    inner = [block for block in graph.blocks.values() if block.owner is not None]
    operator = graph.producer(value.name)
    path = next((one.path for one in inner if value.name in one.arguments), "")
    path = operator.block if operator is not None else path
    owner = graph.blocks[path].owner
    while owner is not None and (path := graph.operators[owner].block):
        owner = graph.blocks[path].owner
    return owner


def _at(role: str, graph: Graph, value: Value) -> Where:
    operator = graph.producer(value.name)
    return Where(
        role=role,
        program=graph.source,
        value=value.name,
        shape=value.shape,
        source=operator.source if operator else None,
    )
