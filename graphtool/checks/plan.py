"""What a merge would do, as plain data: all that a rule may look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from graphtool.graph import Graph, Origin, ProgramKind, Value
from graphtool.readers.facts import ParameterFileFacts, ScopeFacts

__all__ = ["MergePlan", "ParametersWhen", "persistable_names", "plan_of", "used_names"]


class ParametersWhen(str, Enum):
    """When the teacher's weights have to be in their scope."""

    NOW = "now"
    LATER = "later"


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """The two Graphs, how their feeds and names go together, and what their scopes hold.

    `feed_map` goes from teacher feed names to student feed names. `renames` are the teacher's
    parameters and other persistables (in legacy programs all Variables that aren't fed by the
    student), old name -> new name. A fact that could not be had is None: a rule that needs it
    gives a `not checked` note. `same_variables` are names of the teacher's that mean one Variable
    in both Scopes. `prefixes` are those under which earlier teachers were merged into
    this student; `operators` the types that the Paddle at hand knows, of the teacher's kind.
    `brings_weights` says that the teacher's weights are in a file or Layer, not in a Scope yet.
    `unshared` are teacher feeds that the caller mapped onto their own new name: to be fed apart.
    `restored` says that the student goes through `for_training` first, as a saved one does there.
    """

    teacher: Graph
    student: Graph
    feed_map: tuple[tuple[str, str], ...]
    prefix: str
    renames: tuple[tuple[str, str], ...]
    parameters: ParametersWhen = ParametersWhen.NOW
    teacher_scope: ScopeFacts | None = None
    student_scope: ScopeFacts | None = None
    same_variables: frozenset[str] = frozenset()
    one_program: bool = False
    prefixes: tuple[str, ...] = ()
    operators: frozenset[str] | None = None
    parameter_file: ParameterFileFacts | None = None
    unshared: tuple[str, ...] = ()
    brings_weights: bool = False
    restored: bool = False

    @cached_property
    def student_names(self) -> Mapping[str, Value]:
        """What the student's names stand for: see `used_names`."""
        return used_names(self.student)

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


def plan_of(
    teacher: Graph,
    student: Graph,
    feed_map: Mapping[str, str],
    *,
    prefix: str = "teacher_",
    parameters: ParametersWhen = ParametersWhen.NOW,
    teacher_scope: ScopeFacts | None = None,
    student_scope: ScopeFacts | None = None,
    same_variables: frozenset[str] = frozenset(),
    one_program: bool = False,
    prefixes: tuple[str, ...] = (),
    operators: frozenset[str] | None = None,
    parameter_file: ParameterFileFacts | None = None,
    brings_weights: bool = False,
    restored: bool = False,
) -> MergePlan:
    """Work out what a merge would rename, and keep the facts that rules look at beside it."""
    unshared = tuple(
        name
        for name, target in feed_map.items()
        if prefix and target == prefix + name and target not in student.values
    )
    feed_map = {name: target for name, target in feed_map.items() if name not in unshared}
    return MergePlan(
        teacher=teacher,
        student=student,
        feed_map=tuple(feed_map.items()),
        prefix=prefix,
        renames=tuple((name, prefix + name) for name in _renamed(teacher, student, feed_map)),
        parameters=parameters,
        teacher_scope=teacher_scope,
        student_scope=student_scope,
        same_variables=same_variables,
        one_program=one_program,
        prefixes=prefixes,
        operators=operators,
        parameter_file=parameter_file,
        unshared=unshared,
        brings_weights=brings_weights,
        restored=restored,
    )


def persistable_names(graph: Graph) -> tuple[str, ...]:
    """List what a program keeps in its Scope from run to run, in program order."""
    holders = _holders(graph)
    return tuple(
        name
        for name, value in used_names(graph).items()
        if (value.persistable or value.origin is Origin.PARAMETER) and name not in holders
    )


def used_names(graph: Graph) -> Mapping[str, Value]:
    """Return the names that Paddle itself gives meaning to, each with its first Value.

    In PIR those of parameters, feeds and persistable data; in legacy programs all Variables.
    """
    names: dict[str, Value] = {}
    for value in graph.values.values():
        name = _variable(graph, value)
        if name is not None:
            names.setdefault(name, value)
    return names


_NAMED = (Origin.PARAMETER, Origin.FEED, Origin.VARIABLE)
_NAME_ATTRIBUTES = ("parameter_name", "name")


def _variable(graph: Graph, value: Value) -> str | None:
    if graph.kind is ProgramKind.LEGACY:
        return _legacy_variable(graph, value.name)
    if value.origin not in _NAMED:
        return None
    # A name that a Program has twice is `%name` in the Graph the second time.
    operator = graph.producer(value.name)
    given = (operator.attributes.get(key) for key in _NAME_ATTRIBUTES) if operator else ()
    return next((name for name in given if isinstance(name, str)), value.name)


def _legacy_variable(graph: Graph, name: str) -> str:
    """Return the Variable of `x@2`, the second write to `x`, and of `while_0/0/x` in a Block."""
    if "@" in name:
        first, _, write = name.rpartition("@")
        name = first if write.isdecimal() and first in graph.values else name
    if "/" in name:
        path, _, inner = name.rpartition("/")
        name = inner if path in graph.blocks else name
    return name


def _renamed(teacher: Graph, student: Graph, feed_map: Mapping[str, str]) -> Iterator[str]:
    # A legacy teacher is translated for a PIR student, where other names mean nothing.
    if ProgramKind.PIR in (teacher.kind, student.kind):
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
