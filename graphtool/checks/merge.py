"""Check a merge before it: all problems at once, and nothing touched."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from graphtool.checks.arguments import check_sources
from graphtool.checks.plan import (
    ParametersWhen,
    are_saved_shapes,
    persistable_names,
    saved_names,
)
from graphtool.checks.planning import Wanted, Weights, plan_for
from graphtool.checks.rules import run_rules
from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError, Report
from graphtool.graph import Graph, ProgramKind
from graphtool.paths import is_there, saved_model
from graphtool.readers import Source, read, read_own, weight_problems
from graphtool.readers.facts import ParameterFileFacts, known_operators, parameter_file_facts
from graphtool.readers.layer_weights import (
    changed_since_start,
    dynamic_layer,
    holding_layer,
    is_to_start,
)
from graphtool.readers.live import program_of
from graphtool.readers.parameter_files import parameters_beside
from graphtool.readers.registry import home_of, noted
from graphtool.readers.weights import ENDINGS

__all__ = ["check_merge"]

# A Paddle Scope or Place, which has no static type without Paddle.
_Paddle: TypeAlias = Any


def check_merge(
    teacher_program: Source,
    student_program: Source,
    feed_map: Mapping[str, str],
    scope: _Paddle | None = None,
    teacher_scope: _Paddle | None = None,
    *,
    place: _Paddle | None = None,
    name_prefix: str = "teacher_",
    parameters: str = "now",
    shared: Iterable[str] = (),
    restored: bool = False,
    built: bool = False,
) -> Report:
    """Report everything that stands against merging a teacher into a student.

    The two are live Programs, Networks, paths of saved models, `module:callable` or Graphs, and
    `feed_map` goes from teacher feed names to student feed names. `scope` holds the student's
    tensors, `teacher_scope` the teacher's, if that is another; a saved teacher has its own beside
    it. With a `place`, operators are looked for that it cannot compute. `shared` names parameters
    that are to be the student's, as for `merge`. `restored` says that the student goes through
    `for_training` before the merge and brings its parameters, as a saved one does in
    `graphtool merge`; `built` that the teacher's weights are made with it, as there for code.
    Neither Program nor Scope is touched. What cannot be read is in the Report as well; a fact that
    could not be had (no Scope was given) is a `not checked` note.

    Raises UsageError: GT249 for another `parameters` than `now` and `later`, GT248 for arguments of
    another type.
    """
    takes = (str, PathLike, Graph)
    check_sources(teacher_program, student_program, teachers=takes, students=takes)
    wanted = Wanted.of(
        feed_map,
        name_prefix,
        parameters,
        shared,
        place=place,
        scope=scope,
        teacher_scope=teacher_scope,
    )
    wanted = replace(
        wanted,
        one_program=_is_same(teacher_program, student_program),
        restored=restored,
        layer=dynamic_layer(student_program),
        to_start=is_to_start(student_program),
        changed=(changed_since_start(teacher_program), changed_since_start(student_program)),
    )
    find_weights = _built if built else partial(_weights, scopes=(scope, teacher_scope))
    return _report(teacher_program, student_program, wanted, find_weights)


def _report(
    teacher_program: Source,
    student_program: Source,
    wanted: Wanted,
    find_weights: Callable[[Source, Graph, list[Diagnostic]], Weights],
) -> Report:
    found: list[Diagnostic] = []
    teacher, student = _read(teacher_program, found, read_own), _read(student_program, found, read)
    if teacher is None or student is None:
        return Report.of(found)
    now = wanted.parameters is ParametersWhen.NOW
    if now and wanted.restored and _is_file(student_program):
        found += _student_file(student)
    plan = plan_for(
        teacher,
        student,
        wanted,
        find_weights(teacher_program, teacher, found),
        known=(_known(teacher_program, teacher), _known(student_program, student)),
        merges=noted(program_of(student_program)),
    )
    return Report.of([*found, *run_rules(plan)], about=(teacher, student))


def _built(*_: object) -> Weights:
    return Weights(brought=True)


def _student_file(student: Graph) -> Iterator[Diagnostic]:
    """Yield what is wrong with the parameters beside a saved student, which merging loads."""
    names = saved_names(student)
    path = parameters_beside(student.source, names, endings=ENDINGS)
    if path is None:
        if names:
            yield weight_problems.parameters_not_beside(student.source)
        return
    if path.is_dir() or path.suffix == ".pdparams":
        return
    try:
        tensors = parameter_file_facts(path).tensors
    except ReadError as error:
        yield from error.report
        return
    if not are_saved_shapes(student, [shape for shape, _ in tensors]):
        yield weight_problems.other_count(str(path), len(tensors), len(names), student.source)


class _Nowhere:
    """The Scope of a saved model with no weights beside it: it holds nothing."""

    def find_var(self, _: str) -> None:
        return None


def _weights(
    source: Source,
    graph: Graph,
    found: list[Diagnostic],
    *,
    scopes: tuple[_Paddle | None, _Paddle | None],
) -> Weights:
    """Find a teacher's weights; `scopes` are the student's and the teacher's own."""
    students, own = scopes
    home = home_of(program_of(source))
    if home is not None:
        return Weights(scope=home if own is None else own)
    if holding_layer(source, persistable_names(graph), own) is not None:
        return Weights(brought=True)
    if not _is_file(source):
        return Weights(scope=students if own is None else own)
    beside = parameters_beside(graph.source, persistable_names(graph))
    if beside is None:
        # They can't be in the student's Scope by chance of a name.
        return Weights(scope=_Nowhere() if own is None else own)
    return Weights(file=_parameter_file(beside, found), brought=True)


def _read(
    source: Source, found: list[Diagnostic], reader: Callable[[Source], Graph]
) -> Graph | None:
    try:
        return reader(source)
    except GraphtoolError as error:
        found += error.report
        return None


def _is_same(teacher: Source, student: Source) -> bool:
    """Tell one live Program; a path or Graph that is given twice is read into two Programs."""
    if isinstance(teacher, str | PathLike | Graph):
        return False
    return program_of(teacher) is program_of(student)


def _is_file(source: Source) -> TypeGuard[str | PathLike[str]]:
    """Tell a saved model from `module:callable`."""
    return isinstance(source, str | PathLike) and is_there(saved_model(fspath(source)))


def _parameter_file(path: Path, found: list[Diagnostic]) -> ParameterFileFacts | None:
    if path.is_dir():
        return None
    try:
        return parameter_file_facts(path)
    except ReadError as error:
        found += error.report
        return None


def _known(source: Source, graph: Graph) -> frozenset[str] | None:
    """Ask the Paddle at hand what it knows; what a live PIR Program has, it knows.

    Files are checked in less time than importing Paddle takes: without it, None.
    """
    if not isinstance(source, Graph | str | PathLike) and graph.kind is ProgramKind.PIR:
        return frozenset(operator.type for operator in graph.operators.values())
    return known_operators(graph.kind) if "paddle" in sys.modules else None
