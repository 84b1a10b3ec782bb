"""Make the plan of a merge from what a caller asks for and what can be found out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from graphtool.arguments import bad_argument, shown
from graphtool.checks.arguments import check_arguments
from graphtool.checks.plan import MergePlan, ParametersWhen, plan_of
from graphtool.diagnostics import Diagnostic, UsageError, rule
from graphtool.graph import Graph, ProgramKind
from graphtool.readers._paddle import load_paddle
from graphtool.readers.devices import DeviceFacts, device_facts
from graphtool.readers.facts import (
    ParameterFileFacts,
    ScopeFacts,
    makes_pir,
    same_variables,
    scope_facts,
)
from graphtool.readers.layer_weights import unlike_layer
from graphtool.readers.tensors import held_tensors

__all__ = ["Wanted", "Weights", "bad_parameters_argument", "plan_for"]

# Scopes, Places and Programs are Paddle's, which have no static type without Paddle.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Wanted:
    """What a caller asks of a merge; `scope` is the student's, None where it is not known.

    `teacher_scope` is what was given for the teacher, whether its weights are there or not.
    `one_program` says that teacher and student are one Program object, `restored` that the student
    goes through `for_training` first. `layer` is the student's where that has its
    weights, and `to_start` says that its startup program sets them and has not run. `changed` are
    the names of what the Layers of teacher and student hold otherwise than their startup programs.
    """

    feed_map: Mapping[str, str]
    prefix: str
    parameters: ParametersWhen
    shared: tuple[str, ...] = ()
    scope: _Paddle | None = None
    teacher_scope: _Paddle | None = None
    place: _Paddle | None = None
    one_program: bool = False
    restored: bool = False
    layer: _Paddle | None = None
    to_start: bool = False
    changed: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @classmethod
    def of(
        cls,
        feed_map: Mapping[str, str],
        name_prefix: str,
        parameters: str,
        shared: Iterable[str],
        place: _Paddle | None = None,
        **scopes: _Paddle | None,
    ) -> Wanted:
        """Take arguments of a call, `scope` and `teacher_scope` among them.

        Raises UsageError: GT248, GT249.
        """
        check_arguments(feed_map, name_prefix, shared, **scopes)
        return cls(
            feed_map=feed_map,
            prefix=name_prefix,
            parameters=_when(parameters),
            shared=tuple(shared),
            scope=scopes.get("scope"),
            teacher_scope=scopes.get("teacher_scope"),
            place=_place_of(place),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Weights:
    """Where a teacher has its weights: in a Scope, None where it is not known, or along with it.

    `file` is what its file of parameters holds, `brought` says that they are in no Scope yet.
    """

    scope: _Paddle | None = None
    file: ParameterFileFacts | None = None
    brought: bool = False


@rule("GT249")
def bad_parameters_argument(given: object) -> Diagnostic:
    """`parameters` says when the teacher's weights have to be in their Scope: `now` or `later`."""
    return Diagnostic(
        message=f"`parameters` is `{given}`; wanted `now` or `later`",
        help='merge(..., parameters="later")',
    )


def _when(given: object) -> ParametersWhen:
    # All but text is shown with care: PIR's Values crash once their Program is gone.
    if not isinstance(given, str):
        raise UsageError(bad_parameters_argument(shown(given)))
    try:
        return ParametersWhen(given)
    except ValueError:
        raise UsageError(bad_parameters_argument(given)) from None


def _place_of(place: _Paddle | None) -> _Paddle | None:
    """Return a Place for one, or for what Paddle calls it: `cpu`, `gpu:0`."""
    if place is None:
        return None
    if not (isinstance(place, str) or type(place).__name__.endswith("Place")):
        raise UsageError(bad_argument("place", place, 'a Place, or what Paddle calls it: "cpu"'))
    try:
        return load_paddle().base.framework._get_paddle_place(place)  # noqa: SLF001
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(bad_argument("place", place, f"a Place: {error}")) from None


def plan_for(
    teacher: Graph,
    student: Graph,
    wanted: Wanted,
    weights: Weights,
    *,
    known: tuple[frozenset[str] | None, frozenset[str] | None] = (None, None),
    merges: tuple[_Paddle, ...] = (),
) -> MergePlan:
    """Return the plan of a merge, with all facts about it; nothing is touched.

    `known` are the operator types that Paddle knows, for the teacher and for the student; `merges`
    those into the student before.
    """
    plan = plan_of(
        teacher,
        student,
        wanted.feed_map,
        prefix=wanted.prefix,
        shared=wanted.shared,
        translated=wanted.restored and student.kind is ProgramKind.LEGACY and makes_pir(),
    )
    plan = replace(
        plan,
        parameters=wanted.parameters,
        one_program=wanted.one_program,
        prefixes=tuple(earlier.prefix for earlier in merges),
        operators=known[0],
        student_operators=known[1],
        device=_device(teacher, wanted.place),
        parameter_file=weights.file,
        brings_weights=weights.brought,
        restored=wanted.restored,
        to_start=wanted.to_start,
        changed=wanted.changed,
    )
    plan = replace(
        plan,
        unlike_layer=_unlike_layer(wanted, merges),
        passed_over=_passed_over(plan, wanted),
    )
    return _with_scopes(plan, wanted.scope, None if weights.brought else weights.scope)


def _unlike_layer(wanted: Wanted, merges: tuple[_Paddle, ...]) -> tuple[str, ...] | None:
    # An earlier merge brought the Layer's weights, which may have learnt since.
    if wanted.layer is None or any(merged.scopes.student is wanted.scope for merged in merges):
        return ()
    return None if wanted.scope is None else unlike_layer(wanted.layer, wanted.scope)


def _passed_over(plan: MergePlan, wanted: Wanted) -> tuple[str, ...]:
    own = wanted.teacher_scope
    if not plan.brings_weights or own is None or own is wanted.scope:
        return ()
    return tuple(held_tensors(own, plan.teacher_kept))


def _device(teacher: Graph, place: _Paddle | None) -> DeviceFacts | None:
    if place is None:
        return None
    return device_facts(teacher.kind, {found.type for found in teacher.operators.values()}, place)


def _with_scopes(plan: MergePlan, student: _Paddle | None, teacher: _Paddle | None) -> MergePlan:
    new = [name for _, name in plan.renames]
    known = student is not None and teacher is not None
    same = same_variables(teacher, student, plan.teacher_kept) if known else frozenset[str]()
    return replace(
        plan,
        same_variables=same,
        teacher_scope=_facts(teacher, plan.teacher_kept),
        student_scope=_facts(student, [*plan.student_kept, *new]),
    )


def _facts(scope: _Paddle | None, names: Iterable[str]) -> ScopeFacts | None:
    return None if scope is None else scope_facts(scope, names)
