"""Check a merge beforehand: report all problems at once and change nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import TypeGuard

from graphtool.backend.facts import known_operators
from graphtool.backend.layer_weights import (
    changed_since_start,
    has_pending_startup,
    weights_layer,
    weights_layer_unless_in,
)
from graphtool.backend.live import program_of
from graphtool.backend.paddle import Paddle
from graphtool.backend.registry import merge_records, student_scope_of
from graphtool.both import Both
from graphtool.checks.plan import (
    ParametersWhen,
    are_saved_shapes,
    persistable_names,
    saved_names,
)
from graphtool.checks.rules import run_rules
from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError, Report
from graphtool.graph import Graph, ProgramKind
from graphtool.merging.planning import MergeOptions, TeacherWeights, check_sources, plan_merge
from graphtool.paths import path_exists, resolve_model_prefix
from graphtool.readers.files import find_parameters
from graphtool.readers.problems import no_parameters_beside, wrong_tensor_count
from graphtool.readers.tensor_files import ParameterFileFacts, parameter_file_facts
from graphtool.readers.weights import SUFFIXES
from graphtool.sources import Source, read, read_without_teachers

__all__ = ["check_merge"]


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
    )
    request = replace(
        request,
        one_program=_is_one_program(teacher_program, student_program),
        restored=restored,
        layer=weights_layer(student_program),
        startup_pending=has_pending_startup(student_program),
        changed=Both(changed_since_start(teacher_program), changed_since_start(student_program)),
    )
    find_weights = (
        _weights_of_built_teacher
        if built
        else partial(_find_weights, student_scope=scope, teacher_scope=teacher_scope)
    )
    return _report(teacher_program, student_program, request, find_weights)


def _report(
    teacher_program: Source,
    student_program: Source,
    request: MergeOptions,
    find_weights: Callable[[Source, Graph, list[Diagnostic]], TeacherWeights],
) -> Report:
    found: list[Diagnostic] = []
    teacher, student = (
        _read(teacher_program, found, read_without_teachers),
        _read(student_program, found, read),
    )
    if teacher is None or student is None:
        return Report.of(found)
    is_now = request.parameters is ParametersWhen.NOW
    if is_now and request.restored and _is_saved_model(student_program):
        found += _check_student_file(student)
    plan = plan_merge(
        teacher,
        student,
        request,
        find_weights(teacher_program, teacher, found),
        known=(
            _known_operators(teacher_program, teacher),
            _known_operators(student_program, student),
        ),
        merges=merge_records(program_of(student_program)),
    )
    return Report.of([*found, *run_rules(plan)], about=(teacher, student))


def _weights_of_built_teacher(*_: object) -> TeacherWeights:
    return TeacherWeights(in_source=True)


def _check_student_file(student: Graph) -> Iterator[Diagnostic]:
    """Yield the problems of a saved student's parameter file, which merging loads."""
    names = saved_names(student)
    path = find_parameters(student.source, names, endings=SUFFIXES)
    if path is None:
        if names:
            yield no_parameters_beside(student.source)
        return
    if path.is_dir() or path.suffix == ".pdparams":
        return
    try:
        tensors = parameter_file_facts(path).tensors
    except ReadError as error:
        yield from error.report
        return
    if not are_saved_shapes(student, [shape for shape, _ in tensors]):
        yield wrong_tensor_count(str(path), len(tensors), len(names), student.source)


class _EmptyScope:
    """The Scope of a saved model without a parameter file."""

    def find_var(self, _: str) -> None:
        return None


def _find_weights(
    teacher: Source,
    graph: Graph,
    found: list[Diagnostic],
    *,
    student_scope: Paddle | None,
    teacher_scope: Paddle | None,
) -> TeacherWeights:
    """Find a teacher's weights, in a given Scope or along with the network."""
    registered_scope = student_scope_of(program_of(teacher))
    if registered_scope is not None:
        return TeacherWeights(scope=registered_scope if teacher_scope is None else teacher_scope)
    if weights_layer_unless_in(teacher, persistable_names(graph), teacher_scope) is not None:
        return TeacherWeights(in_source=True)
    if not _is_saved_model(teacher):
        return TeacherWeights(scope=student_scope if teacher_scope is None else teacher_scope)
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


def _is_one_program(teacher: Source, student: Source) -> bool:
    """Return whether both are one live Program; a path given twice is read into two Programs."""
    if isinstance(teacher, str | PathLike | Graph):
        return False
    return program_of(teacher) is program_of(student)


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
        return frozenset(operator.type for operator in graph.operators.values())
    return known_operators(graph.kind) if "paddle" in sys.modules else None
