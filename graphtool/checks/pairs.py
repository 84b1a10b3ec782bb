"""Check whether the losses of pairs can be built: first the names, then each loss."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from os import PathLike, fspath
from typing import TypeAlias

from graphtool.checks import pair_problems as problems
from graphtool.checks.arguments import check_pair_arguments
from graphtool.checks.pair_losses import ROLES, ComparedNetworks, PairLoss, PairValues
from graphtool.diagnostics import Diagnostic, ReadError, Report, Where
from graphtool.graph import Graph, Value
from graphtool.loss_specs import group_flows, named_losses
from graphtool.matching import Pair
from graphtool.matching.problems import no_pairs, unknown_loss
from graphtool.paths import path_exists
from graphtool.selectors import find
from graphtool.sources import Source, read_without_teachers

__all__ = ["check_loss", "check_pairs"]

# A teacher's name, a student's, and the name of a loss.
_Names: TypeAlias = "tuple[str, str] | tuple[str, str, str]"

# Paddle's own losses, which `check_pairs` accepts: they compare as `l2` does.
_LIKE_L2 = frozenset({"l1", "mse", "smooth_l1"})


@dataclass(frozen=True, slots=True)
class _NamedPair:
    """A pair by the names of its Values."""

    names: tuple[str, str]
    loss: str
    adapter: str | None
    suggested: bool = False

    @classmethod
    def of(cls, pair: Pair | _Names) -> _NamedPair:
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
    listed = check_pair_arguments(pairs, name_prefix, options)
    networks = ComparedNetworks(
        graphs=(read_without_teachers(teacher), read_without_teachers(student)),
        prefix=name_prefix,
        restored=restored or _is_saved_model(student),
    )
    losses = [_NamedPair.of(pair).loss for pair in listed]
    diagnostics = (
        found
        for indices in group_flows(losses)
        for found in check_loss(
            networks,
            [listed[index] for index in indices],
            (options or {}).get(losses[indices[0]], {}),
            indices[0],
            as_l2=_LIKE_L2,
        )
    )
    return Report.of(diagnostics, about=networks.graphs)


def _is_saved_model(student: Source) -> bool:
    return isinstance(student, str | PathLike) and path_exists(fspath(student))


def check_loss(
    networks: ComparedNetworks,
    pairs: Sequence[Pair | _Names],
    options: Mapping[str, object],
    index: int,
    *,
    as_l2: Collection[str] = (),
) -> Iterator[Diagnostic]:
    """Yield the problems of one loss, which has two pairs if it compares flows.

    `index` is that of its first pair. Losses named in `as_l2` are checked like `l2`.
    """
    named = [_NamedPair.of(pair) for pair in pairs]
    name = named[0].loss
    loss = named_losses().get("l2" if name in as_l2 else name)
    found = [_pair_values(pair, networks) for pair in named]
    for errors in found:
        if not isinstance(errors, PairValues):
            yield from errors
    if loss is None:
        yield unknown_loss(f"pairs[{index}].loss", name, tuple(named_losses()))
    elif loss.takes.flows and len(named) == 1:
        yield no_pairs(
            f"`fsp` takes pairs by twos, a start and an end; `{named[0].names[1]}` has no partner",
            help='gt.distill_loss(merged, [("t_1", "s_1", "fsp"), ("t_2", "s_2", "fsp")])',
        )
    else:
        values = [pair for pair in found if isinstance(pair, PairValues)]
        if len(values) == len(found):
            yield from PairLoss(networks, name, loss, options).check(values)


def _pair_values(pair: _NamedPair, networks: ComparedNetworks) -> PairValues | list[Diagnostic]:
    ends = [_value(index, name, networks) for index, name in enumerate(pair.names)]
    teacher, student = ends
    if isinstance(teacher, Value) and isinstance(student, Value):
        graphs = networks.graphs
        return PairValues(
            values=(teacher, student),
            where=(_where("teacher", graphs[0], teacher), _where("student", graphs[1], student)),
            adapter=pair.adapter,
            suggested=pair.suggested,
        )
    return [end for end in ends if isinstance(end, Diagnostic)]


def _value(index: int, name: str, networks: ComparedNetworks) -> Value | Diagnostic:
    """Return the Value that a pair names in a network (0 is the teacher), or what is wrong."""
    role, graph, other_graph = ROLES[index], networks.graphs[index], networks.graphs[1 - index]
    try:
        value = _find(index, name, networks)
        return _check_usable(role, graph, value) or value
    except ReadError as error:
        found = problems.in_pair(error.report.diagnostics[0], role, graph, name)
    for candidate in (name, name.removeprefix(networks.prefix)):
        with suppress(ReadError):
            other_name = find(other_graph, candidate).name
            other = ROLES[1 - index]
            note = f"it is the {other}'s `{other_name}`, and a pair names the teacher's first"
            return replace(found, notes=(note, *found.notes))
    return found


def _find(index: int, name: str, networks: ComparedNetworks) -> Value:
    """Find the Value that a pair names; the teacher's may have the prefix."""
    graph, unprefixed = networks.graphs[index], name.removeprefix(networks.prefix)
    if ROLES[index] == "teacher" and name != unprefixed and name not in graph.values:
        with suppress(ReadError):
            return find(graph, unprefixed)
    return find(graph, name)


def _check_usable(role: str, graph: Graph, value: Value) -> Diagnostic | None:
    """Return a problem if no loss can compare a Value."""
    if value.elements:
        elements = [one for reader in graph.consumers.get(value.name, ()) for one in reader.results]
        description = f"a vector of {len(value.elements)} tensors; losses compare single tensors"
        return problems.unusable_pair_name(role, graph, value, description, elements)
    if (owner := _owner(graph, value)) is not None:
        description = f"inside `{owner}`; losses compare Values outside of branches and loops"
        results = graph.operators[owner].results
        return problems.unusable_pair_name(role, graph, value, description, results)
    return None


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


def _where(role: str, graph: Graph, value: Value) -> Where:
    operator = graph.producer(value.name)
    return Where(
        role=role,
        program=graph.source,
        value=value.name,
        shape=value.shape,
        source=operator.source if operator else None,
    )
