"""Check a merge before it: all problems at once, and nothing touched."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

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
    scope_facts,
)
from graphtool.readers.layers import Network

__all__ = [
    "bad_parameters_argument",
    "check_merge",
    "merged_prefixes",
    "parameters_beside",
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
) -> Report:
    """Report everything that stands against merging a teacher into a student.

    The two are live Programs, Networks, paths of saved models, `module:callable` or Graphs, and
    `feed_map` goes from teacher feed names to student feed names. `scope` holds the student's
    tensors, `teacher_scope` the teacher's, if that is another. Neither Program nor Scope is
    touched. What cannot be read is in the Report as well; a fact that could not be had (no Scope
    was given) is a `not checked` note.

    Raises UsageError: GT249 for another `parameters` than `now` and `later`.
    """
    when = parameters_when(parameters)
    found: list[Diagnostic] = []
    teacher, student = _read(teacher_program, found), _read(student_program, found)
    if teacher is None or student is None:
        return Report.of(found)
    weights = _weights_of(teacher_program, teacher)
    apart = weights is not None or _is_dynamic(teacher_program)
    held = None if apart else (scope if teacher_scope is None else teacher_scope)
    plan = plan_of(
        teacher,
        student,
        feed_map,
        prefix=name_prefix,
        parameters=when,
        one_scope=scope is not None and held is scope,
        one_program=_is_same(teacher_program, student_program),
        prefixes=merged_prefixes(_program(student_program)),
        operators=_operators(teacher_program, teacher),
        parameter_file=_parameter_file(weights, found),
        brings_weights=apart,
    )
    return Report.of([*found, *run_rules(_with_scopes(plan, scope, held))])


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


def parameters_beside(model: str | PathLike[str], names: Sequence[str] = ()) -> Path | None:
    """Return the parameters of a saved model: the combined file, else the folder with one for each.

    `names` are those of the single files; without them only a combined file is looked for. None
    where nothing of that is beside the model.
    """
    path = Path(model)
    folder = path if path.is_dir() else path.parent
    combined = next((found for found in _combined(path, folder) if found.is_file()), None)
    if combined is None and names and all((folder / name).is_file() for name in names):
        return folder
    return combined


def _combined(path: Path, folder: Path) -> Iterator[Path]:
    """Yield where the combined file may be: it shares the model's name, or has the old one."""
    if path.is_dir():
        yield path / "inference.pdiparams"
        models = sorted([*path.glob("*.json"), *path.glob("*.pdmodel")])
        yield from (found.with_suffix(".pdiparams") for found in models)
    else:
        yield path.with_suffix(".pdiparams")
    yield folder / "__params__"


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
    if not isinstance(source, str | Path):
        return None
    return parameters_beside(source, persistable_names(graph))


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
    return replace(
        plan,
        teacher_scope=_facts(teacher, plan.teacher_kept),
        student_scope=_facts(scope, [*plan.student_kept, *new]),
    )


def _facts(scope: _Scope | None, names: Iterable[str]) -> ScopeFacts | None:
    return None if scope is None else scope_facts(scope, names)
