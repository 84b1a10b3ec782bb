"""Plan a merge from the arguments of a call and all known facts, and check it: nothing changes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import TypeGuard

from graphtool.arguments import bad_argument
from graphtool.backend.devices import as_place, device_facts
from graphtool.backend.facts import is_pir_default, known_operators, same_variables, scope_facts
from graphtool.backend.layer_weights import (
    changed_since_start,
    differing_tensors,
    has_pending_startup,
    weights_layer,
    weights_layer_unless_in,
)
from graphtool.backend.live import is_live, program_of
from graphtool.backend.paddle import Paddle
from graphtool.backend.registry import merge_records, student_scope_of
from graphtool.backend.tensors import initialised_tensors
from graphtool.both import NO_NAMES, Both
from graphtool.checks.plan import (
    MergePlan,
    ParametersWhen,
    are_saved_shapes,
    check_arguments,
    persistable_names,
    plan_without_facts,
    saved_names,
)
from graphtool.checks.rules import run_rules
from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError, Report, UsageError
from graphtool.facts import ScopeFacts
from graphtool.graph import Graph, ProgramKind
from graphtool.paths import path_exists, resolve_model_prefix
from graphtool.readers.files import find_parameters
from graphtool.readers.problems import no_parameters_beside, wrong_tensor_count
from graphtool.readers.tensor_files import ParameterFileFacts, parameter_file_facts
from graphtool.readers.weights import SUFFIXES
from graphtool.sources import Source, read, read_without_teachers

__all__ = [
    "MergeOptions",
    "TeacherWeights",
    "check_merge",
    "check_sources",
    "operator_types",
    "plan_merge",
]

_LIVE = "a Program or a Network, as graphtool.for_training(path) gives for a saved model"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MergeOptions:
    """The arguments of a merge; `scope` is the student's, None if it is unknown.

    `teacher_scope` is the one given for the teacher, which may not hold its weights. `one_program`:
    teacher and student are one Program object. `restored`: the student goes through `for_training`
    first. `layer` is the Layer that holds the student's weights; `startup_pending`: the startup
    program that sets them has not run. `changed` are names whose tensors in the Layers of teacher
    and student changed after their startup programs were read.
    """

    feed_map: Mapping[str, str]
    prefix: str
    parameters: ParametersWhen
    shared: tuple[str, ...] = ()
    scope: Paddle | None = None
    teacher_scope: Paddle | None = None
    place: Paddle | None = None
    one_program: bool = False
    restored: bool = False
    layer: Paddle | None = None
    startup_pending: bool = False
    changed: Both[tuple[str, ...]] = NO_NAMES

    @classmethod
    def of(
        cls,
        feed_map: Mapping[str, str],
        name_prefix: str,
        parameters: object,
        shared: Iterable[str],
        *,
        place: Paddle | None,
        scope: Paddle | None,
        teacher_scope: Paddle | None,
    ) -> MergeOptions:
        """Check and collect the arguments of a call.

        Raises UsageError: GT248.
        """
        check_arguments(feed_map, name_prefix, shared, scope=scope, teacher_scope=teacher_scope)
        # Only strings are compared: PIR Values crash once their Program is gone.
        known = {when.value for when in ParametersWhen}
        if not isinstance(parameters, str) or parameters not in known:
            example = 'merge(..., parameters="later")'
            raise UsageError(bad_argument("parameters", parameters, "`now` or `later`", example))
        wanted = 'a Place, or what Paddle calls it: "cpu"'
        if not (place is None or isinstance(place, str) or type(place).__name__.endswith("Place")):
            raise UsageError(bad_argument("place", place, wanted))
        try:
            place = None if place is None else as_place(place)
        except (TypeError, ValueError, AttributeError) as error:
            raise UsageError(bad_argument("place", place, f"a Place: {error}")) from None
        return cls(
            feed_map=feed_map,
            prefix=name_prefix,
            parameters=ParametersWhen(parameters),
            shared=tuple(shared),
            scope=scope,
            teacher_scope=teacher_scope,
            place=place,
        )

    def with_networks(self, teacher: Paddle, student: Paddle) -> MergeOptions:
        """Add the facts about the Programs and Layers of both networks."""
        return replace(
            self,
            # A path that is given twice is read into two Programs.
            one_program=is_live(teacher) and program_of(teacher) is program_of(student),
            layer=weights_layer(student),
            startup_pending=has_pending_startup(student),
            changed=Both(changed_since_start(teacher), changed_since_start(student)),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherWeights:
    """Where the teacher's weights are: in a Scope, None if it is unknown, or along with it.

    `file` is the content of its parameter file; if `in_source`, the weights are in no Scope yet.
    """

    scope: Paddle | None = None
    file: ParameterFileFacts | None = None
    in_source: bool = False


def plan_merge(
    teacher: Graph,
    student: Graph,
    request: MergeOptions,
    weights: TeacherWeights,
    *,
    known: tuple[frozenset[str] | None, frozenset[str] | None] = (None, None),
    merges: tuple[Paddle, ...] = (),
) -> MergePlan:
    """Return the plan of a merge with all facts about it; nothing is changed.

    `known` holds the operator types that Paddle knows, for the teacher and for the student;
    `merges` are earlier merges into the student.
    """
    plan = plan_without_facts(
        teacher,
        student,
        request.feed_map,
        prefix=request.prefix,
        shared=request.shared,
        translated=request.restored and student.kind is ProgramKind.LEGACY and is_pir_default(),
    )
    teacher_scope = None if weights.in_source else weights.scope
    same_names: frozenset[str] = frozenset()
    if request.scope is not None and teacher_scope is not None:
        same_names = same_variables(teacher_scope, request.scope, plan.teacher_persistables)
    unlike_layer: tuple[str, ...] | None = ()
    # An earlier merge set the Layer's weights, which may have been trained since.
    if request.layer is not None and all(one.scopes.student is not request.scope for one in merges):
        unlike_layer = None
        if request.scope is not None:
            unlike_layer = differing_tensors(request.layer, request.scope)
    ignored: tuple[str, ...] = ()
    given = request.teacher_scope
    if weights.in_source and given is not None and given is not request.scope:
        ignored = tuple(initialised_tensors(given, plan.teacher_persistables))
    types = {found.type for found in teacher.operators.values()}
    place = request.place
    return replace(
        plan,
        parameters=request.parameters,
        one_program=request.one_program,
        prefixes=tuple(earlier.prefix for earlier in merges),
        operators=known[0],
        student_operators=known[1],
        device=None if place is None else device_facts(teacher.kind, types, place),
        parameter_file=weights.file,
        brings_weights=weights.in_source,
        restored=request.restored,
        startup_pending=request.startup_pending,
        changed=request.changed,
        unlike_layer=unlike_layer,
        ignored_scope_names=ignored,
        same_variables=same_names,
        teacher_scope=_scope_facts(teacher_scope, plan.teacher_persistables),
        student_scope=_scope_facts(
            request.scope, [*plan.student_persistables, *(new for _, new in plan.renames)]
        ),
    )


def _scope_facts(scope: Paddle | None, names: Iterable[str]) -> ScopeFacts | None:
    return None if scope is None else scope_facts(scope, names)


def operator_types(graph: Graph) -> frozenset[str]:
    """Return the types of a network's operators: the installed Paddle knows those of a live one."""
    return frozenset(operator.type for operator in graph.operators.values())


def check_sources(
    teacher: object,
    student: object,
    *,
    teachers: tuple[type, ...],
    students: tuple[type, ...] = (),
) -> None:
    """Refuse networks that are neither live nor of the other types that a call accepts.

    Raises UsageError: GT248, for both at once.
    """
    networks = (("teacher_program", teacher, teachers), ("student_program", student, students))
    found = [
        bad_argument(name, given, "a Program, a Network or a path" if types else _LIVE)
        for name, given, types in networks
        if not (is_live(given) or isinstance(given, types))
    ]
    if found:
        raise UsageError(*found)


def check_merge(
    teacher_program: Source,
    student_program: Source,
    feed_map: Mapping[str, str],
    scope: Paddle | None = None,
    teacher_scope: Paddle | None = None,
    *,
    place: Paddle | None = None,
    name_prefix: str = "teacher_",
    parameters: str = "now",
    shared: Iterable[str] = (),
    restored: bool = False,
    built: bool = False,
) -> Report:
    """Report all problems of merging a teacher into a student.

    Both are live Programs, Networks, paths of saved models, `module:callable` or Graphs. `feed_map`
    maps teacher feed names to student feed names. `scope` holds the student's tensors and the
    teacher's, unless `teacher_scope` is given; a saved teacher has its weights in a file. With a
    `place`, operators without a kernel for it are reported. `shared` names parameters that the
    teacher takes from the student, as for `merge`. `restored` says that the student goes through
    `for_training` before the merge and loads its own parameters, as a saved one does in
    `graphtool merge`. `built` says that building the teacher also makes its weights, as there for
    `module:callable`. No Program or Scope is changed. Networks that cannot be read are in the
    Report too; a rule without the facts it needs (no Scope was given) gives a `not checked` note.

    Raises UsageError: GT248 for arguments of a wrong type or value.
    """
    types = (str, PathLike, Graph)
    check_sources(teacher_program, student_program, teachers=types, students=types)
    request = MergeOptions.of(
        feed_map,
        name_prefix,
        parameters,
        shared,
        place=place,
        scope=scope,
        teacher_scope=teacher_scope,
    ).with_networks(teacher_program, student_program)
    request = replace(request, restored=restored)
    found: list[Diagnostic] = []
    teacher, student = (
        _read(teacher_program, found, read_without_teachers),
        _read(student_program, found, read),
    )
    if teacher is None or student is None:
        return Report.of(found)
    is_now = request.parameters is ParametersWhen.NOW
    if is_now and restored and _is_saved_model(student_program):
        _check_student_file(student, found)
    weights = TeacherWeights(in_source=True)
    if not built:
        weights = _find_weights(teacher_program, teacher, request, found)
    plan = plan_merge(
        teacher,
        student,
        request,
        weights,
        known=(
            _known_operators(teacher_program, teacher),
            _known_operators(student_program, student),
        ),
        merges=merge_records(program_of(student_program)),
    )
    return Report.of([*found, *run_rules(plan)], about=(teacher, student))


def _check_student_file(student: Graph, found: list[Diagnostic]) -> None:
    """Find the problems of a saved student's parameter file, which merging loads."""
    names = saved_names(student)
    path = find_parameters(student.source, names, endings=SUFFIXES)
    if path is None:
        if names:
            found.append(no_parameters_beside(student.source))
        return
    facts = None if path.suffix == ".pdparams" else _parameter_file(path, found)
    if facts is None:
        return
    if not are_saved_shapes(student, [shape for shape, _ in facts.tensors]):
        count = len(facts.tensors)
        found.append(wrong_tensor_count(str(path), count, len(names), student.source))


class _EmptyScope:
    """The Scope of a saved model without a parameter file."""

    def find_var(self, _: str) -> None:
        return None


def _find_weights(
    teacher: Source, graph: Graph, request: MergeOptions, found: list[Diagnostic]
) -> TeacherWeights:
    """Find a teacher's weights, in a given Scope or along with the network."""
    teacher_scope = request.teacher_scope
    registered_scope = student_scope_of(program_of(teacher))
    if registered_scope is not None:
        return TeacherWeights(scope=registered_scope if teacher_scope is None else teacher_scope)
    if weights_layer_unless_in(teacher, persistable_names(graph), teacher_scope) is not None:
        return TeacherWeights(in_source=True)
    if not _is_saved_model(teacher):
        return TeacherWeights(scope=request.scope if teacher_scope is None else teacher_scope)
    path = find_parameters(graph.source, persistable_names(graph))
    if path is None:
        # Equal names in the student's Scope are a coincidence.
        return TeacherWeights(scope=_EmptyScope() if teacher_scope is None else teacher_scope)
    return TeacherWeights(file=_parameter_file(path, found), in_source=True)


def _read(
    source: Source, found: list[Diagnostic], reader: Callable[[Source], Graph]
) -> Graph | None:
    try:
        return reader(source)
    except GraphtoolError as error:
        found += error.report
        return None


def _is_saved_model(source: Source) -> TypeGuard[str | PathLike[str]]:
    """Return whether a source is the path of a saved model, not `module:callable`."""
    return isinstance(source, str | PathLike) and path_exists(resolve_model_prefix(fspath(source)))


def _parameter_file(path: Path, found: list[Diagnostic]) -> ParameterFileFacts | None:
    if path.is_dir():
        return None
    try:
        return parameter_file_facts(path)
    except ReadError as error:
        found += error.report
        return None


def _known_operators(source: Source, graph: Graph) -> frozenset[str] | None:
    """Return the operator types that Paddle knows, None if it is not imported.

    Checking files takes less time than importing Paddle. Paddle knows all types of a live PIR
    Program.
    """
    if not isinstance(source, Graph | str | PathLike) and graph.kind is ProgramKind.PIR:
        return operator_types(graph)
    return known_operators(graph.kind) if "paddle" in sys.modules else None
