"""What a merge would do, as plain data: all that a rule may look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from graphtool.graph import NOT_KEPT, Graph, Origin, ProgramKind, Shape, Value, keeps_shape
from graphtool.readers._assembly import NAME_ATTRIBUTES
from graphtool.readers.devices import DeviceFacts
from graphtool.readers.facts import ParameterFileFacts, ScopeFacts

__all__ = [
    "MergePlan",
    "ParametersWhen",
    "are_saved_shapes",
    "persistable_names",
    "plan_of",
    "saved_names",
    "used_names",
]


class ParametersWhen(str, Enum):
    """When the teacher's weights have to be in their scope."""

    NOW = "now"
    LATER = "later"


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """The two Graphs, how their feeds and names go together, and what their scopes hold.

    `feed_map` goes from teacher feed names to student feed names. `renames` are the teacher's
    parameters and other persistables (in legacy programs all Variables that aren't fed by the
    student), old name -> new name; `shared` are parameters that are to be the student's of the same
    name instead. A fact that could not be had is None: a rule that needs it gives a `not checked`
    note. `same_variables` are names of the teacher's that mean one Variable in both Scopes.
    `prefixes` are those under which earlier teachers were merged into this student; `operators` and
    `student_operators` are the types that the Paddle at hand knows, of their kinds; `device` is
    what the place that was asked for computes. `brings_weights` says that the teacher's weights are
    in a file or Layer, not in a Scope yet. `unshared` are teacher feeds that the caller mapped onto
    their own new name: to be fed apart. `restored` says that the student goes through
    `for_training` first, as a saved one does there; `translated` that it is made PIR by that.
    `unlike_layer` are names under which the student's Scope holds other numbers than its Layer, and
    `to_start` says that its startup program may yet set them; `changed` are what the Layers of
    teacher and student hold otherwise than their startup programs set it;
    `passed_over` those under which the Scope that was given for the teacher holds tensors that are
    not taken, for the teacher brings its own.
    """

    teacher: Graph
    student: Graph
    feed_map: tuple[tuple[str, str], ...]
    prefix: str
    renames: tuple[tuple[str, str], ...]
    shared: tuple[str, ...] = ()
    parameters: ParametersWhen = ParametersWhen.NOW
    teacher_scope: ScopeFacts | None = None
    student_scope: ScopeFacts | None = None
    same_variables: frozenset[str] = frozenset()
    one_program: bool = False
    prefixes: tuple[str, ...] = ()
    operators: frozenset[str] | None = None
    student_operators: frozenset[str] | None = None
    device: DeviceFacts | None = None
    parameter_file: ParameterFileFacts | None = None
    unshared: tuple[str, ...] = ()
    brings_weights: bool = False
    restored: bool = False
    translated: bool = False
    unlike_layer: tuple[str, ...] | None = ()
    to_start: bool = False
    changed: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    passed_over: tuple[str, ...] = ()

    @property
    def kind(self) -> ProgramKind:
        """Which of Paddle's two representations the merged Program has."""
        return _kind(self.teacher, self.student, translated=self.translated)

    @cached_property
    def student_names(self) -> Mapping[str, Value]:
        """What the student's names stand for: see `used_names`."""
        names = used_names(self.student)
        if self.kind is self.student.kind:
            return names
        return {name: value for name, value in names.items() if _outlives_translation(value)}

    @cached_property
    def teacher_names(self) -> Mapping[str, Value]:
        """What the teacher's names stand for: see `used_names`."""
        return used_names(self.teacher)

    @cached_property
    def student_kept(self) -> tuple[str, ...]:
        """What the student keeps in its Scope from run to run."""
        return persistable_names(self.student)

    @cached_property
    def teacher_kept(self) -> tuple[str, ...]:
        """What the teacher keeps in its Scope from run to run."""
        return persistable_names(self.teacher)

    @cached_property
    def weights(self) -> tuple[tuple[str, str], ...]:
        """Those of `renames` that the Scope keeps from run to run."""
        kept = frozenset(self.teacher_kept)
        return tuple(pair for pair in self.renames if pair[0] in kept)

    @property
    def own_feeds(self) -> tuple[tuple[str, str], ...]:
        """Teacher feeds that the feed map leaves out, old name -> name in the merged Program."""
        mapped = dict(self.feed_map)
        left = (name for name in self.teacher.feeds if name not in mapped)
        return tuple((name, self.prefix + name) for name in left)

    @property
    def stand_ins(self) -> tuple[tuple[str, str], ...]:
        """Teacher feeds and shared parameters -> the student's that stand in for them."""
        return (*self.feed_map, *((name, name) for name in self.shared))


def plan_of(
    teacher: Graph,
    student: Graph,
    feed_map: Mapping[str, str],
    *,
    prefix: str = "teacher_",
    shared: Iterable[str] = (),
    translated: bool = False,
) -> MergePlan:
    """Work out what a merge would rename; facts about Scopes and devices are not in it yet."""
    unshared = tuple(
        name
        for name, target in feed_map.items()
        if prefix and target == prefix + name and target not in student.values
    )
    feed_map = {name: target for name, target in feed_map.items() if name not in unshared}
    stay = frozenset(shared)
    renamed = _renamed(teacher, _kind(teacher, student, translated=translated), feed_map)
    return MergePlan(
        teacher=teacher,
        student=student,
        feed_map=tuple(feed_map.items()),
        prefix=prefix,
        renames=tuple((name, prefix + name) for name in renamed if name not in stay),
        shared=tuple(dict.fromkeys(shared)),
        unshared=unshared,
        translated=translated,
    )


def persistable_names(graph: Graph) -> tuple[str, ...]:
    """List what a program keeps in its Scope from run to run, in program order."""
    return graph.once(_persistable_names)


def _persistable_names(graph: Graph) -> tuple[str, ...]:
    holders = _holders(graph)
    return tuple(
        name
        for name, value in used_names(graph).items()
        if (value.persistable or value.origin is Origin.PARAMETER) and name not in holders
    )


def are_saved_shapes(graph: Graph, shapes: Sequence[Shape]) -> bool:
    """Return whether tensors of these shapes, in order, are what a file of parameters has."""
    known, names = used_names(graph), saved_names(graph)
    pairs = zip(names, shapes, strict=False)
    return len(shapes) == len(names) and all(keeps_shape(known[name], one) for name, one in pairs)


def saved_names(graph: Graph) -> tuple[str, ...]:
    """List what a file of parameters has, sorted as in one: all but the state of a dropout."""
    known = used_names(graph)
    names = sorted(persistable_names(graph))
    return tuple(name for name in names if known[name].persistable or not name.endswith(NOT_KEPT))


def used_names(graph: Graph) -> Mapping[str, Value]:
    """Return the names that Paddle itself gives meaning to, each with its first Value.

    In PIR those of parameters, feeds and persistable data; in legacy programs all Variables.
    """
    return graph.once(_used_names)


def _used_names(graph: Graph) -> Mapping[str, Value]:
    names: dict[str, Value] = {}
    for value in graph.values.values():
        name = _variable(graph, value)
        if name is not None:
            names.setdefault(name, value)
    return names


def _kind(teacher: Graph, student: Graph, *, translated: bool) -> ProgramKind:
    # A legacy teacher is translated for a PIR student, where other names mean nothing.
    pir = translated or ProgramKind.PIR in (teacher.kind, student.kind)
    return ProgramKind.PIR if pir else ProgramKind.LEGACY


def _outlives_translation(value: Value) -> bool:
    return value.persistable or value.origin in (Origin.PARAMETER, Origin.FEED)


_NAMED = (Origin.PARAMETER, Origin.FEED, Origin.VARIABLE)


def _variable(graph: Graph, value: Value) -> str | None:
    if graph.kind is ProgramKind.LEGACY:
        return _legacy_variable(graph, value.name)
    if value.origin not in _NAMED:
        return None
    # A name that a Program has twice is `%name` in the Graph the second time.
    operator = graph.producer(value.name)
    given = operator.attributes.get(NAME_ATTRIBUTES.get(operator.type, "")) if operator else None
    return given if isinstance(given, str) else value.name


def _legacy_variable(graph: Graph, name: str) -> str:
    """Return the Variable of `x@2`, the second write to `x`, and of `while_0/0/x` in a Block."""
    if "@" in name:
        first, _, write = name.rpartition("@")
        name = first if write.isdecimal() and first in graph.values else name
    if "/" in name:
        path, _, inner = name.rpartition("/")
        name = inner if path and path in graph.blocks else name
    return name


def _renamed(teacher: Graph, kind: ProgramKind, feed_map: Mapping[str, str]) -> Iterator[str]:
    if kind is ProgramKind.PIR:
        yield from persistable_names(teacher)
        return
    left_out = _holders(teacher) | feed_map.keys()
    yield from (name for name in used_names(teacher) if name not in left_out)


def _holders(graph: Graph) -> set[str]:
    """Return the Variables that carry what is fed and fetched, not a tensor of their own."""
    holders: set[str] = set()
    for operator in graph.operators.values():
        if operator.type == "feed":
            holders.update(name for name in operator.operands if name is not None)
        elif operator.type == "fetch":
            holders.update(operator.results)
    return {_legacy_variable(graph, name) for name in holders}
