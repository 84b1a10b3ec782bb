"""What a loss is to be made of: pairs from wherever they come, grouped into parts with names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from os import PathLike
from typing import cast

from graphtool.checks.arguments import names_two
from graphtool.diagnostics import Diagnostic, ReadError, UsageError, Where
from graphtool.graph import Graph, module_path
from graphtool.loss_names import by_twos
from graphtool.losses import pair_problems as problems
from graphtool.losses._networks import Networks
from graphtool.matching import End, Kind, Pair, PairSet
from graphtool.matching.pairs import Relation, end_of
from graphtool.matching.recipe import Recipe, read_recipe, recipe_text
from graphtool.merging import Merged
from graphtool.selectors import find
from graphtool.structure import Role

__all__ = ["Part", "Selection", "options_of", "parts_of", "selected"]

_WANTED = "a PairSet, a Recipe, the path of one, or a list of pairs"
_EXAMPLE = "gt.distill_loss(merged, gt.suggest_pairs(teacher, student))"


@dataclass(frozen=True, slots=True)
class Selection:
    """Pairs of the merged networks, and what is to be said about them."""

    pairs: tuple[Pair, ...]
    said: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One loss: its name, and the places of its pairs among all pairs; fsp has two."""

    name: str
    loss: str
    pairs: tuple[Pair, ...]
    places: tuple[int, ...]


def selected(networks: Networks, pairs: object) -> Selection:
    """Find the Values of pairs in the two networks that were merged.

    Raises PairError as `read_recipe` does, UsageError GT358 for what are no pairs.
    """
    merged = networks.merged
    if isinstance(pairs, str | PathLike):
        path = cast("str | PathLike[str]", pairs)
        recipe = read_recipe(path, teacher=merged.plan.teacher, student=merged.plan.student)
        return _of_recipe(recipe)
    if isinstance(pairs, Recipe):
        return _moved(merged, pairs.pairs)
    if isinstance(pairs, PairSet):
        return _moved(merged, pairs)
    if not isinstance(pairs, Iterable):
        raise UsageError(problems.wrong_argument("pairs", pairs, _WANTED, _EXAMPLE))
    given = tuple(cast("Iterable[object]", pairs))
    listed = tuple(_pair(one, place, networks) for place, one in enumerate(given))
    moved = tuple(found for one in given if isinstance(one, Pair) for found in _moves(merged, one))
    return Selection(listed, moved)


def _of_recipe(recipe: Recipe) -> Selection:
    return Selection(recipe.pairs.pairs, tuple(recipe.pairs.report))


def _moved(merged: Merged, pairs: PairSet) -> Selection:
    """Find pairs that were suggested for other Programs of the same networks, as recipes do."""
    graphs = merged.plan.teacher, merged.plan.student
    if not pairs.pairs:
        return Selection(())
    if _is_one(pairs.teacher, graphs[0]) and _is_one(pairs.student, graphs[1]):
        return Selection(pairs.pairs, tuple(pairs.report))
    return _of_recipe(read_recipe(recipe_text(pairs), teacher=graphs[0], student=graphs[1]))


def _is_one(graph: Graph, other: Graph) -> bool:
    """Tell whether two Graphs, read at different times, are of one Program: names hold then."""
    return graph is other or (graph.operators == other.operators and graph.values == other.values)


def _moves(merged: Merged, pair: Pair) -> Iterator[Diagnostic]:
    """Find out whether the names of a Pair mean what they meant where it was made."""
    for role, graph, end in (
        ("teacher", merged.plan.teacher, pair.teacher),
        ("student", merged.plan.student, pair.student),
    ):
        value = graph.values.get(end.name)
        if value is None:
            continue
        now = end_of(graph, value)
        if not _is_alike(end, now):
            where = Where(role=role, program=graph.source, value=end.name, shape=value.shape)
            yield problems.moved_value(where, _spelt(end), _spelt(now))


def _is_alike(one: End, other: End) -> bool:
    """Compare what holds whatever the size of the input is, and whatever a network is put into."""
    if one.shape is not None and other.shape is not None and len(one.shape) != len(other.shape):
        return False
    if one.module is None or other.module is None:
        return True
    paths = sorted((module_path(end.module).split("/")[2:] for end in (one, other)), key=len)
    return paths[1][len(paths[1]) - len(paths[0]) :] == paths[0]


def _spelt(end: End) -> str:
    place = "" if end.module is None else f" of `{module_path(end.module)}`"
    return f"`{end.op}`{place}, {'of unknown rank' if end.shape is None else list(end.shape)}"


def _pair(given: object, place: int, networks: Networks) -> Pair:
    if isinstance(given, Pair):
        return given
    if not names_two(given):
        wanted = "a Pair, or (teacher name, student name) with or without a loss"
        raise UsageError(problems.wrong_argument(f"pairs[{place}]", given, wanted, _EXAMPLE))
    teacher, student, *loss = given
    return _named_pair(networks, place, (teacher, student), loss[0] if loss else "l2")


def _named_pair(networks: Networks, place: int, names: tuple[str, str], loss: str) -> Pair:
    merged = networks.merged
    student = _end(merged.plan.student, names[1])
    return Pair(
        rank=place + 1,
        score=1.0,
        kind=_kind(networks, student.name),
        teacher=_end(merged.plan.teacher, _own_name(merged, names[0])),
        student=student,
        relation=Relation.UNKNOWN,
        adapter=None,
        loss=loss,
        why=(),
        warnings=(),
    )


def _own_name(merged: Merged, name: str) -> str:
    """Return the teacher's own name for a selector with or without the prefix."""
    try:
        return merged.teacher_name(name)
    except ReadError:
        return name


def _end(graph: Graph, name: str) -> End:
    """Describe what a selector means; where it means nothing `check_pairs` will say so."""
    try:
        return end_of(graph, find(graph, name))
    except ReadError:
        return End(
            name=name,
            op=None,
            op_index=None,
            output=0,
            module=None,
            layer=None,
            shape=None,
            dtype=None,
        )


_KINDS = {
    Role.LOGITS: Kind.LOGITS,
    Role.EMBEDDING: Kind.EMBEDDING,
    Role.HIDDEN_STATE: Kind.HIDDEN_STATE,
    Role.ATTENTION: Kind.ATTENTION,
    Role.STAGE_END: Kind.STAGE,
}


def _kind(networks: Networks, name: str) -> Kind:
    if name not in networks.merged.plan.student.values:
        return Kind.FEATURE
    return _KINDS.get(networks.student.role(name), Kind.FEATURE)


def parts_of(pairs: tuple[Pair, ...]) -> tuple[Part, ...]:
    """Group pairs into losses, in order; the one that is left over of a flow comes last."""
    found: list[Part] = []
    taken: set[str] = set()
    for places in by_twos([pair.loss for pair in pairs]):
        members = tuple(pairs[place] for place in places)
        name = next(name for name in _spellings(members[-1]) if name not in taken)
        taken.add(name)
        found.append(Part(name=name, loss=members[0].loss, pairs=members, places=places))
    return tuple(found)


def options_of(part: Part, options: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """Return what is said for the loss of a part, and for the part itself, which counts more."""
    return {**options.get(part.loss, {}), **options.get(part.name, {})}


def _spellings(pair: Pair) -> Iterator[str]:
    """Yield names that a part may have, best first: `l2_relu_22`, then `l2_relu_22_2`."""
    stem = f"{pair.loss}_{pair.student.name}"
    yield stem
    yield from (f"{stem}_{number}" for number in count(2))
