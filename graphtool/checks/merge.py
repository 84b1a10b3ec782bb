"""Check a merge before it: all problems at once, and nothing touched."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from graphtool.checks.arguments import check_arguments
from graphtool.checks.plan import MergePlan, ParametersWhen, persistable_names, plan_of
from graphtool.checks.rules import run_rules
from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError, Report, UsageError, rule
from graphtool.graph import Graph, ProgramKind
from graphtool.readers import Source, read
from graphtool.readers.facts import (
    ParameterFileFacts,
    ScopeFacts,
    known_operators,
    parameter_file_facts,
    same_variables,
    scope_facts,
)
from graphtool.readers.layers import Network
from graphtool.readers.parameter_files import parameters_beside

__all__ = [
    "bad_parameters_argument",
    "check_merge",
    "merged_prefixes",
    "parameters_when",
]

# A Paddle Scope, which has no static type without Paddle.
_Scope: TypeAlias = Any


@rule("GT249")
def bad_parameters_argument(given: object) -> Diagnostic:
    """`parameters` says when the teacher's weights have to be in their Scope: `now` or `later`."""
    return Diagnostic(
        message=f"`parameters` is `{given}`; wanted `now` or `later`",
        help='merge(..., parameters="later")',
    )


def check_merge(
    teacher_program: Source,
    student_program: Source,
    feed_map: Mapping[str, str],
    scope: _Scope | None = None,
    teacher_scope: _Scope | None = None,
    *,
    name_prefix: str = "teacher_",
    parameters: str = "now",
    restored: bool = False,
) -> Report:
    """Report everything that stands against merging a teacher into a student.

    The two are live Programs, Networks, paths of saved models, `module:callable` or Graphs, and
    `feed_map` goes from teacher feed names to student feed names. `scope` holds the student's
    tensors, `teacher_scope` the teacher's, if that is another; a saved teacher has its own beside
    it. `restored` says that the student goes through `for_training` before the merge, as
    `graphtool merge` does with a saved one. Neither Program nor Scope is touched. What cannot be
    read is in the Report as well; a fact that could not be had (no Scope was given) is a
    `not checked` note.

    Raises UsageError: GT249 for another `parameters` than `now` and `later`, GT248 for arguments of
    another type.
    """
    check_arguments(feed_map, name_prefix, scope=scope, teacher_scope=teacher_scope)
    when = parameters_when(parameters)
    found: list[Diagnostic] = []
    teacher, student = _read(teacher_program, found), _read(student_program, found)
    if teacher is None or student is None:
        return Report.of(found)
    weights = _weights_of(teacher_program, teacher)
    apart = weights is not None or _is_dynamic(teacher_program)
    held = None if apart or _is_file(teacher_program) else scope
    held = held if apart or teacher_scope is None else teacher_scope
    plan = plan_of(
        teacher,
        student,
        feed_map,
        prefix=name_prefix,
        parameters=when,
        one_program=_is_same(teacher_program, student_program),
        prefixes=merged_prefixes(_program(student_program)),
        operators=_operators(teacher_program, teacher),
        parameter_file=_parameter_file(weights, found),
        brings_weights=apart,
        restored=restored,
    )
    plan = _with_scopes(plan, scope, held)
    if not apart and held is None and _is_file(teacher_program):
        # Nothing lies beside it, and no Scope is known to have its weights.
        plan = replace(plan, teacher_scope=ScopeFacts({}))
    return Report.of([*found, *run_rules(plan)])


def parameters_when(given: str) -> ParametersWhen:
    """Return when the weights have to be there.

    Raises UsageError: GT249 for what is neither `now` nor `later`.
    """
    try:
        return ParametersWhen(given)
    except ValueError:
        raise UsageError(bad_parameters_argument(given)) from None


def merged_prefixes(program: Source) -> tuple[str, ...]:
    """Return the prefixes of the teachers that were merged into a live Program before."""
    return tuple(earlier.prefix for earlier in getattr(program, "_graphtool_teachers", ()))


def _read(source: Source, found: list[Diagnostic]) -> Graph | None:
    if isinstance(source, Network):
        return source.graph
    try:
        return read(source)
    except GraphtoolError as error:
        found += error.report
        return None


def _program(source: Source) -> Source:
    return source.program if isinstance(source, Network) else source


def _is_same(teacher: Source, student: Source) -> bool:
    """Tell one live Program; a path or Graph that is given twice is read into two Programs."""
    if isinstance(teacher, str | PathLike | Graph):
        return False
    return _program(teacher) is _program(student)


def _weights_of(source: Source, graph: Graph) -> Path | None:
    if not _is_file(source):
        return None
    return parameters_beside(fspath(source), persistable_names(graph))


def _is_file(source: Source) -> TypeGuard[str | PathLike[str]]:
    """Tell a saved model from `module:callable`."""
    return isinstance(source, str | PathLike) and Path(fspath(source)).exists()


def _is_dynamic(source: Source) -> bool:
    """Tell a Network whose Layer was made in dynamic mode, and so holds the weights itself."""
    if not isinstance(source, Network):
        return False
    return any(type(found).__name__ == "EagerParamBase" for found in source.layer.parameters())


def _parameter_file(path: Path | None, found: list[Diagnostic]) -> ParameterFileFacts | None:
    if path is None or path.is_dir():
        return None
    try:
        return parameter_file_facts(path)
    except ReadError as error:
        found += error.report
        return None


def _operators(source: Source, graph: Graph) -> frozenset[str] | None:
    """Ask the Paddle at hand what it knows; what a live PIR Program has, it knows.

    Files are checked in less time than importing Paddle takes: without it, None.
    """
    if not isinstance(source, Graph | str | PathLike) and graph.kind is ProgramKind.PIR:
        return frozenset(operator.type for operator in graph.operators.values())
    return known_operators(graph.kind) if "paddle" in sys.modules else None


def _with_scopes(plan: MergePlan, scope: _Scope | None, teacher: _Scope | None) -> MergePlan:
    new = [name for _, name in plan.renames]
    known = scope is not None and teacher is not None
    return replace(
        plan,
        same_variables=same_variables(teacher, scope, plan.teacher_kept) if known else frozenset(),
        teacher_scope=_facts(teacher, plan.teacher_kept),
        student_scope=_facts(scope, [*plan.student_kept, *new]),
    )


def _facts(scope: _Scope | None, names: Iterable[str]) -> ScopeFacts | None:
    return None if scope is None else scope_facts(scope, names)
