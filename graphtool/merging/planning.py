"""Make the plan of a merge from the arguments of a call and all available facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from graphtool.arguments import bad_argument
from graphtool.backend.devices import as_place, device_facts
from graphtool.backend.facts import is_pir_default, same_variables, scope_facts
from graphtool.backend.layer_weights import differing_tensors
from graphtool.backend.live import is_live
from graphtool.backend.paddle import Paddle
from graphtool.backend.tensors import initialised_tensors
from graphtool.both import NO_NAMES, Both
from graphtool.checks.plan import MergePlan, ParametersWhen, check_arguments, plan_without_facts
from graphtool.diagnostics import UsageError
from graphtool.facts import DeviceFacts, ScopeFacts
from graphtool.graph import Graph, ProgramKind
from graphtool.readers.tensor_files import ParameterFileFacts

__all__ = [
    "MergeOptions",
    "TeacherWeights",
    "check_sources",
    "plan_merge",
]


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
        parameters: str,
        shared: Iterable[str],
        place: Paddle | None = None,
        **scopes: Paddle | None,
    ) -> MergeOptions:
        """Check and collect the arguments of a call, including `scope` and `teacher_scope`.

        Raises UsageError: GT248.
        """
        check_arguments(feed_map, name_prefix, shared, **scopes)
        return cls(
            feed_map=feed_map,
            prefix=name_prefix,
            parameters=_parameters_when(parameters),
            shared=tuple(shared),
            scope=scopes.get("scope"),
            teacher_scope=scopes.get("teacher_scope"),
            place=_paddle_place(place),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TeacherWeights:
    """Where the teacher's weights are: in a Scope, None if it is unknown, or along with it.

    `file` is the content of its parameter file; if `brought`, the weights are in no Scope yet.
    """

    scope: Paddle | None = None
    file: ParameterFileFacts | None = None
    in_source: bool = False


def _parameters_when(given: object) -> ParametersWhen:
    # Only strings are compared: PIR Values crash once their Program is gone.
    if isinstance(given, str) and given in {when.value for when in ParametersWhen}:
        return ParametersWhen(given)
    example = 'merge(..., parameters="later")'
    raise UsageError(bad_argument("parameters", given, "`now` or `later`", example))


def _paddle_place(place: Paddle | None) -> Paddle | None:
    """Return the Place for a Place or its name in Paddle: `cpu`, `gpu:0`."""
    if place is None:
        return None
    if not (isinstance(place, str) or type(place).__name__.endswith("Place")):
        raise UsageError(bad_argument("place", place, 'a Place, or what Paddle calls it: "cpu"'))
    try:
        return as_place(place)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(bad_argument("place", place, f"a Place: {error}")) from None


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
    plan = replace(
        plan,
        parameters=request.parameters,
        one_program=request.one_program,
        prefixes=tuple(earlier.prefix for earlier in merges),
        operators=known[0],
        student_operators=known[1],
        device=_device(teacher, request.place),
        parameter_file=weights.file,
        brings_weights=weights.in_source,
        restored=request.restored,
        startup_pending=request.startup_pending,
        changed=request.changed,
    )
    plan = replace(
        plan,
        unlike_layer=_unlike_layer(request, merges),
        ignored_scope_names=_ignored_scope_names(plan, request),
    )
    return _with_scopes(plan, request.scope, None if weights.in_source else weights.scope)


def _unlike_layer(request: MergeOptions, merges: tuple[Paddle, ...]) -> tuple[str, ...] | None:
    # An earlier merge set the Layer's weights, which may have been trained since.
    if request.layer is None or any(merged.scopes.student is request.scope for merged in merges):
        return ()
    return None if request.scope is None else differing_tensors(request.layer, request.scope)


def _ignored_scope_names(plan: MergePlan, request: MergeOptions) -> tuple[str, ...]:
    scope = request.teacher_scope
    if not plan.brings_weights or scope is None or scope is request.scope:
        return ()
    return tuple(initialised_tensors(scope, plan.teacher_persistables))


def _device(teacher: Graph, place: Paddle | None) -> DeviceFacts | None:
    if place is None:
        return None
    return device_facts(teacher.kind, {found.type for found in teacher.operators.values()}, place)


def _with_scopes(plan: MergePlan, student: Paddle | None, teacher: Paddle | None) -> MergePlan:
    new_names = [name for _, name in plan.renames]
    are_known = student is not None and teacher is not None
    same = (
        same_variables(teacher, student, plan.teacher_persistables)
        if are_known
        else frozenset[str]()
    )
    return replace(
        plan,
        same_variables=same,
        teacher_scope=_scope_facts(teacher, plan.teacher_persistables),
        student_scope=_scope_facts(student, [*plan.student_persistables, *new_names]),
    )


def _scope_facts(scope: Paddle | None, names: Iterable[str]) -> ScopeFacts | None:
    return None if scope is None else scope_facts(scope, names)


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


_LIVE = "a Program or a Network, as graphtool.for_training(path) gives for a saved model"
