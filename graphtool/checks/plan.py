"""The plan of a merge as plain data, the only input of a rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import cast

from graphtool.arguments import are_texts, bad_argument, is_text
from graphtool.both import NO_NAMES, Both
from graphtool.diagnostics import Diagnostic, UsageError
from graphtool.facts import DeviceFacts, ScopeFacts
from graphtool.graph import (
    NON_PERSISTABLE_SUFFIX,
    Graph,
    Origin,
    ProgramKind,
    Shape,
    Value,
    fits_shape,
    variable_of,
)
from graphtool.readers.graph_builder import NAME_ATTRIBUTES
from graphtool.readers.tensor_files import ParameterFileFacts

__all__ = [
    "MergePlan",
    "ParametersWhen",
    "are_saved_shapes",
    "check_arguments",
    "persistable_names",
    "plan_without_facts",
    "saved_names",
    "used_names",
]


class ParametersWhen(str, Enum):
    """When the teacher's weights must be in their Scope."""

    NOW = "now"
    LATER = "later"


@dataclass(frozen=True, kw_only=True)
class MergePlan:
    """The two Graphs, the mapping of their feeds and names, and facts about Scopes and Paddle.

    `feed_map` maps teacher feed names to student feed names. `renames` maps old to new names of the
    teacher's persistables (in legacy programs of all Variables but shared feeds). `shared` are
    parameters that are replaced by the student's of the same name. `separate_feeds` are teacher
    feeds that the caller mapped to their own new name.

    A fact that is not available is None; a rule that needs it gives a `not checked` note.
    `same_variables` are names of the teacher's that mean one Variable in both Scopes. `prefixes`
    are those of earlier teachers of this student. `operators` and `student_operators` are the types
    that the imported Paddle knows. `device` is what the requested place supports.

    `brings_weights`: the teacher's weights are in a file or Layer, not in a Scope yet. `restored`:
    the student goes through `for_training` first; `translated`: that makes it PIR. `unlike_layer`
    are names whose tensors in the student's Scope differ from its Layer; `startup_pending`: its
    startup program may still set them. `changed` are names whose tensors in the Layers of teacher
    and student changed after their startup programs were read. `ignored_scope_names` are names
    whose tensors in the teacher's Scope are ignored, as the teacher brings its own.
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
    separate_feeds: tuple[str, ...] = ()
    brings_weights: bool = False
    restored: bool = False
    translated: bool = False
    unlike_layer: tuple[str, ...] | None = ()
    startup_pending: bool = False
    changed: Both[tuple[str, ...]] = NO_NAMES
    ignored_scope_names: tuple[str, ...] = ()

    @property
    def kind(self) -> ProgramKind:
        """The kind of the merged Program."""
        return _kind(self.teacher, self.student, translated=self.translated)

    @cached_property
    def student_names(self) -> Mapping[str, Value]:
        """The student's names with their Values: see `used_names`."""
        names = used_names(self.student)
        if self.kind is self.student.kind:
            return names
        return {
            name: value
            for name, value in names.items()
            if value.persistable or value.origin in (Origin.PARAMETER, Origin.FEED)
        }

    @cached_property
    def teacher_names(self) -> Mapping[str, Value]:
        """The teacher's names with their Values: see `used_names`."""
        return used_names(self.teacher)

    @cached_property
    def student_persistables(self) -> tuple[str, ...]:
        """The names of the student's persistables."""
        return persistable_names(self.student)

    @cached_property
    def teacher_persistables(self) -> tuple[str, ...]:
        """The names of the teacher's persistables."""
        return persistable_names(self.teacher)

    @cached_property
    def weights(self) -> tuple[tuple[str, str], ...]:
        """The `renames` of persistables."""
        persistables = frozenset(self.teacher_persistables)
        return tuple(pair for pair in self.renames if pair[0] in persistables)

    @property
    def networks(self) -> tuple[tuple[str, Graph], tuple[str, Graph]]:
        """Both Graphs with their roles."""
        return ("teacher", self.teacher), ("student", self.student)

    @property
    def unmapped_feeds(self) -> tuple[tuple[str, str], ...]:
        """The teacher feeds that are not in the feed map: old name, name in the merged Program."""
        mapped = dict(self.feed_map)
        unmapped = (name for name in self.teacher.feeds if name not in mapped)
        return tuple((name, self.prefix + name) for name in unmapped)

    @property
    def replacements(self) -> tuple[tuple[str, str], ...]:
        """Teacher feeds and shared parameters, each with the student's that replaces it."""
        return (*self.feed_map, *((name, name) for name in self.shared))


def plan_without_facts(
    teacher: Graph,
    student: Graph,
    feed_map: Mapping[str, str],
    *,
    prefix: str = "teacher_",
    shared: Iterable[str] = (),
    translated: bool = False,
) -> MergePlan:
    """Return the plan of a merge, without facts about Scopes and devices."""
    separate_feeds = tuple(
        name
        for name, target in feed_map.items()
        if prefix and target == prefix + name and target not in student.values
    )
    feed_map = {name: target for name, target in feed_map.items() if name not in separate_feeds}
    not_renamed = frozenset(shared)
    renamed = _names_to_rename(teacher, _kind(teacher, student, translated=translated), feed_map)
    return MergePlan(
        teacher=teacher,
        student=student,
        feed_map=tuple(feed_map.items()),
        prefix=prefix,
        renames=tuple((name, prefix + name) for name in renamed if name not in not_renamed),
        shared=tuple(dict.fromkeys(shared)),
        separate_feeds=separate_feeds,
        translated=translated,
    )


def persistable_names(graph: Graph) -> tuple[str, ...]:
    """Return the names of a program's persistables, in program order."""
    return graph.once(_find_persistable_names)


def _find_persistable_names(graph: Graph) -> tuple[str, ...]:
    containers = _feed_fetch_variables(graph)
    return tuple(
        name
        for name, value in used_names(graph).items()
        if (value.persistable or value.origin is Origin.PARAMETER) and name not in containers
    )


def are_saved_shapes(graph: Graph, shapes: Sequence[Shape]) -> bool:
    """Return whether shapes are, in order, those of a parameter file of a program."""
    values, names = used_names(graph), saved_names(graph)
    pairs = zip(names, shapes, strict=False)
    return len(shapes) == len(names) and all(
        fits_shape(values[name], shape) for name, shape in pairs
    )


def saved_names(graph: Graph) -> tuple[str, ...]:
    """Return the names in a parameter file, sorted as there: all but the state of a dropout."""
    values = used_names(graph)
    names = sorted(persistable_names(graph))
    return tuple(
        name
        for name in names
        if values[name].persistable or not name.endswith(NON_PERSISTABLE_SUFFIX)
    )


def used_names(graph: Graph) -> Mapping[str, Value]:
    """Return the names that Paddle itself uses, each with its first Value.

    In PIR they are those of parameters, feeds and persistables, in legacy programs of all
    Variables.
    """
    return graph.once(_find_used_names)


def _find_used_names(graph: Graph) -> Mapping[str, Value]:
    names: dict[str, Value] = {}
    for value in graph.values.values():
        name = _variable_name(graph, value)
        if name is not None:
            names.setdefault(name, value)
    return names


def _kind(teacher: Graph, student: Graph, *, translated: bool) -> ProgramKind:
    # A legacy teacher is translated for a PIR student.
    pir = translated or ProgramKind.PIR in (teacher.kind, student.kind)
    return ProgramKind.PIR if pir else ProgramKind.LEGACY


_NAMED_ORIGINS = (Origin.PARAMETER, Origin.FEED, Origin.VARIABLE)


def _variable_name(graph: Graph, value: Value) -> str | None:
    if graph.kind is ProgramKind.LEGACY:
        return _legacy_variable_name(graph, value.name)
    if value.origin not in _NAMED_ORIGINS:
        return None
    # The second use of a name in a Program is `%name` in the Graph.
    operator = graph.producer(value.name)
    given = operator.attributes.get(NAME_ATTRIBUTES.get(operator.type, "")) if operator else None
    return given if isinstance(given, str) else value.name


def _legacy_variable_name(graph: Graph, name: str) -> str:
    """Return the Variable `x` of `x@2`, its second write, and of `while_0/0/x` in a Block."""
    name = variable_of(name, graph)
    path, _, inner = name.rpartition("/")
    return inner if path and path in graph.blocks else name


def _names_to_rename(
    teacher: Graph, kind: ProgramKind, feed_map: Mapping[str, str]
) -> Iterator[str]:
    if kind is ProgramKind.PIR:
        yield from persistable_names(teacher)
        return
    excluded = _feed_fetch_variables(teacher) | feed_map.keys()
    yield from (name for name in used_names(teacher) if name not in excluded)


def _feed_fetch_variables(graph: Graph) -> set[str]:
    """Return the Variables that contain the lists of feeds and fetches."""
    containers: set[str] = set()
    for operator in graph.operators.values():
        if operator.type == "feed":
            containers.update(name for name in operator.operands if name is not None)
        elif operator.type == "fetch":
            containers.update(operator.results)
    return {_legacy_variable_name(graph, name) for name in containers}


def check_arguments(
    feed_map: object, name_prefix: object, shared: object, **scopes: object
) -> None:
    """Refuse arguments of `merge` and `check_merge` of the wrong type.

    Raises UsageError: GT248, for all of them at once.
    """
    found: list[Diagnostic] = []
    is_mapping = isinstance(feed_map, Mapping)
    names = cast("Mapping[object, object]", feed_map).items() if is_mapping else ()
    if not is_mapping or not all(map(are_texts, names)):
        expected = "a mapping from teacher feed names to student feed names"
        found.append(bad_argument("feed_map", cast("object", feed_map), expected))
    if not is_text(name_prefix):
        found.append(bad_argument("name_prefix", name_prefix, "text"))
    if not are_texts(shared):
        found.append(bad_argument("shared", shared, "a tuple of names"))
    found += [
        bad_argument(name, scope, "a Scope or None")
        for name, scope in scopes.items()
        if not (scope is None or hasattr(scope, "find_var"))
    ]
    if found:
        raise UsageError(*found)
