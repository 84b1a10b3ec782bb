"""The parts of a distillation loss: pairs from any source, grouped by the loss they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from os import PathLike
from typing import cast

from graphtool.arguments import bad_argument
from graphtool.checks.arguments import is_name_tuple
from graphtool.diagnostics import Diagnostic, ReadError, Severity, UsageError, Where
from graphtool.graph import Graph, module_path
from graphtool.loss_specs import group_flows
from graphtool.losses._networks import MergedNetworks
from graphtool.matching import End, Kind, Pair, PairSet
from graphtool.matching.pairs import Relation, end_of
from graphtool.matching.problems import moved_value
from graphtool.matching.recipe import Recipe, recipe_text
from graphtool.merging import Merged
from graphtool.selectors import find
from graphtool.structure import Role
from graphtool.toolkits import read_recipe

__all__ = ["LossPart", "PairSelection", "options_of", "parts_of", "select_pairs"]

_EXPECTED = "a PairSet, a Recipe, the path of one, or a list of pairs"
_EXAMPLE = "gt.distill_loss(merged, gt.suggest_pairs(teacher, student))"
_KINDS = {
    Role.LOGITS: Kind.LOGITS,
    Role.EMBEDDING: Kind.EMBEDDING,
    Role.HIDDEN_STATE: Kind.HIDDEN_STATE,
    Role.ATTENTION: Kind.ATTENTION,
    Role.STAGE_END: Kind.STAGE,
}


@dataclass(frozen=True, slots=True)
class PairSelection:
    """Pairs of the merged networks, and the diagnostics about them."""

    pairs: tuple[Pair, ...]
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LossPart:
    """One loss: its name, its pairs (two for fsp), and their indices among all pairs."""

    name: str
    loss: str
    pairs: tuple[Pair, ...]
    indices: tuple[int, ...]


def select_pairs(networks: MergedNetworks, pairs: object) -> PairSelection:
    """Find the Values of pairs in the two merged networks.

    Raises PairError as `read_recipe` does, UsageError GT248 for anything but pairs.
    """
    plan = networks.merged.plan
    if isinstance(pairs, str | PathLike):
        path = cast("str | PathLike[str]", pairs)
        return _from_recipe(read_recipe(path, teacher=plan.teacher, student=plan.student))
    if isinstance(pairs, Recipe):
        return _relocated(networks.merged, pairs.pairs)
    if isinstance(pairs, PairSet):
        return _relocated(networks.merged, pairs)
    if not isinstance(pairs, Iterable):
        raise UsageError(bad_argument("pairs", pairs, _EXPECTED, _EXAMPLE))
    given = tuple(cast("Iterable[object]", pairs))
    selected = tuple(_pair(one, index, networks) for index, one in enumerate(given))
    diagnostics = tuple(
        found
        for one in given
        if isinstance(one, Pair)
        for found in _moved_values(networks.merged, one)
    )
    return PairSelection(selected, diagnostics)


def _from_recipe(recipe: Recipe) -> PairSelection:
    return PairSelection(recipe.pairs.pairs, tuple(recipe.pairs.report))


def _relocated(merged: Merged, pairs: PairSet) -> PairSelection:
    """Find pairs that were suggested for other Programs of the same networks, as recipes do."""
    teacher, student = merged.plan.teacher, merged.plan.student
    if not pairs.pairs:
        return PairSelection(())
    if _is_same_program(pairs.teacher, teacher) and _is_same_program(pairs.student, student):
        return PairSelection(pairs.pairs, tuple(pairs.report))
    return _from_recipe(read_recipe(recipe_text(pairs), teacher=teacher, student=student))


def _is_same_program(graph: Graph, other: Graph) -> bool:
    """Return whether two Graphs were read from one Program, so that names mean the same."""
    return graph is other or (graph.operators == other.operators and graph.values == other.values)


def _moved_values(merged: Merged, pair: Pair) -> Iterator[Diagnostic]:
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
                (where,),
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


def _pair(given: object, index: int, networks: MergedNetworks) -> Pair:
    if isinstance(given, Pair):
        return given
    if not is_name_tuple(given):
        expected = "a Pair, or (teacher name, student name) with or without a loss"
        raise UsageError(bad_argument(f"pairs[{index}]", given, expected, _EXAMPLE))
    teacher_name, student_name, *loss = given
    merged = networks.merged
    student = _end(merged.plan.student, student_name)
    kind = Kind.FEATURE
    if student.name in merged.plan.student.values:
        kind = _KINDS.get(networks.student.role(student.name), Kind.FEATURE)
    return Pair(
        rank=index + 1,
        score=1.0,
        kind=kind,
        teacher=_end(merged.plan.teacher, _without_prefix(merged, teacher_name)),
        student=student,
        relation=Relation.UNKNOWN,
        adapter=None,
        loss=loss[0] if loss else "l2",
        why=(),
        warnings=(),
    )


def _without_prefix(merged: Merged, selector: str) -> str:
    """Return the teacher's name for a selector with or without the prefix."""
    try:
        return merged.teacher_name(selector)
    except ReadError:
        return selector


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
        name = next(name for name in _possible_names(members[-1]) if name not in taken)
        taken.add(name)
        parts.append(LossPart(name=name, loss=members[0].loss, pairs=members, indices=indices))
    return tuple(parts)


def _possible_names(pair: Pair) -> Iterator[str]:
    """Yield names for a part, best first: `l2_relu_22`, then `l2_relu_22_2`."""
    stem = f"{pair.loss}_{pair.student.name}"
    yield stem
    yield from (f"{stem}_{number}" for number in count(2))


def options_of(part: LossPart, options: Mapping[str, Mapping[str, object]]) -> dict[str, object]:
    """Return the options of a part; those for its name override those for its loss."""
    return {**options.get(part.loss, {}), **options.get(part.name, {})}
