"""Rules about the new names of the teacher's parameters: collisions and prefixes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from graphtool.checks.locations import also, format_shape, in_student, in_teacher, of_student
from graphtool.checks.plan import MergePlan, ParametersWhen
from graphtool.checks.rules import check, not_checked
from graphtool.diagnostics import Diagnostic, Severity, counted
from graphtool.graph import Origin, Value
from graphtool.text import string_literal

__all__ = [
    "empty_prefix",
    "free_prefix",
    "name_collision",
    "names_in_common",
    "prefix_in_use",
    "scope_collision",
    "scope_overwrite",
    "two_teachers_one_prefix",
]

# Names with Paddle's counters: `conv2d_0.w_0`, `batch_norm2d_3.b_0_moment1_0`, `fc_0.tmp_1`.
_COUNTED_NAME = re.compile(r"(^|[._])\d+(\.|$)|\.(w|b|tmp)_\d+")
_SUFFIX = "t_"


@check("GT201")
def name_collision(plan: MergePlan) -> Iterator[Diagnostic]:
    """After renaming, a name of the teacher is one that the student has.

    A name means one tensor in a Program and its Scope, so the teacher would read the student's
    weights, or overwrite them. Choose a prefix that no student name starts with. This is asked of
    parameters, of other persistables and of feeds that the feed map leaves out; in legacy programs
    of every Variable.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for old, new in dict.fromkeys((*plan.renames, *plan.unmapped_feeds)):
        if new in plan.student_names:
            groups.setdefault(_kind(plan.teacher_names.get(old)), []).append((old, new))
    for kind, collisions in groups.items():
        yield _collision(plan, kind, collisions)


def _collision(plan: MergePlan, kind: str, collisions: Sequence[tuple[str, str]]) -> Diagnostic:
    old, new = collisions[0]
    student_value = plan.student_names[new]
    verb = "gets the name" if len(collisions) == 1 else "get names"
    return Diagnostic(
        message=f"{counted(len(collisions), f'teacher {kind}')} {verb} that the student has: "
        f"`{new}` is {_with_article(_kind(student_value))} of it",
        where=(
            in_teacher(plan, plan.teacher_names.get(old), old),
            in_student(plan, student_value, new),
        ),
        notes=(*also([name for _, name in collisions]), _collision_note(plan, old, new)),
        help=f'merge(..., name_prefix="{free_prefix(plan)}")',
    )


def _collision_note(plan: MergePlan, old: str, new: str) -> str:
    if plan.prefix in plan.prefixes and plan.prefix:
        return f"an earlier teacher was merged under the prefix `{plan.prefix}`"
    if plan.prefix:
        return f"the student's own naming starts with `{plan.prefix}`, as in `{new}`"
    return _same_name_note(old)


def _same_name_note(name: str) -> str:
    if _COUNTED_NAME.search(name):
        return "each program was built with counters from 0 of its own (unique_name.guard())"
    return f"both programs give the name `{name}` themselves, as ParamAttr(name=...) does"


def _kind(value: Value | None) -> str:
    if value is None:
        return "Variable"
    kinds = {Origin.PARAMETER: "parameter", Origin.FEED: "feed"}
    if value.origin in kinds:
        return kinds[value.origin]
    return "persistable" if value.persistable else "activation"


def _with_article(noun: str) -> str:
    return f"{'an' if noun.startswith('a') else 'a'} {noun}"


def free_prefix(plan: MergePlan) -> str:
    """Extend the prefix until no student name starts with it."""
    prefix = plan.prefix or "teacher_"
    taken = (*plan.student_names, *plan.prefixes)
    while any(name.startswith(prefix) for name in taken):
        prefix += _SUFFIX
    return prefix


@check("GT202")
def scope_collision(plan: MergePlan) -> Iterator[Diagnostic]:
    """Both programs keep a tensor of one name, and share the Scope that holds it.

    That is one Scope for both, or the Scope around the other's. The Programs have no name in common
    after renaming, but there is one tensor where two were meant: the startup program that ran last
    set it, and the teacher computes with the student's weights. Give the teacher a Scope of its
    own, or load its weights after the merge. Where both networks are meant to have one tensor, say
    so with `shared`: see GT209. A warning where the weights are loaded after the merge.
    """
    if plan.one_program or plan.brings_weights:
        return
    kept = set(plan.student_persistables) - set(plan.shared)
    common = [name for name in plan.teacher_persistables if name in kept]
    later = plan.parameters is ParametersWhen.LATER
    if common and not later and plan.teacher_scope is None and plan.student_scope is None:
        yield _scopes_unknown(len(common))
    shared = [name for name in common if name in plan.same_variables]
    if not shared:
        return
    name = shared[0]
    yield Diagnostic(
        severity=Severity.WARNING if later else Severity.ERROR,
        message=f"teacher and student share one Scope, in which both keep "
        f"{counted(len(shared), 'tensor')} under one name",
        where=(
            in_teacher(plan, plan.teacher_names[name], name),
            in_student(plan, plan.student_names[name], name),
        ),
        notes=(*also(shared), _same_name_note(name)),
        help="teacher_scope = paddle.static.Scope()  # run the teacher's startup and load its "
        "weights in it, then merge(..., teacher_scope=teacher_scope)",
    )


def _scopes_unknown(count: int) -> Diagnostic:
    return not_checked(
        f"whether {counted(count, 'name')} that both programs have share one Scope",
        "no Scope was given",
        "check_merge(..., scope=scope, teacher_scope=teacher_scope)",
    )


@check("GT203")
def empty_prefix(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher keeps its names, as the prefix is empty.

    That works where no name is in both programs. Checkpoints then do not tell teacher from
    student, and a second teacher may collide.
    """
    if not plan.prefix:
        yield Diagnostic(
            message="the prefix is empty: teacher and student cannot be told apart by name",
            severity=Severity.WARNING,
            help='merge(..., name_prefix="teacher_")',
        )


@check("GT204")
def prefix_in_use(plan: MergePlan) -> Iterator[Diagnostic]:
    """Student names start with the prefix that is to mark the teacher's.

    Nothing collides by that alone, but whatever selects the teacher by its prefix selects these
    too.
    """
    if not plan.prefix or plan.prefix in plan.prefixes:
        return
    names = [name for name in plan.student_names if name.startswith(plan.prefix)]
    if names:
        verb = "starts" if len(names) == 1 else "start"
        yield Diagnostic(
            message=f"{counted(len(names), 'student name')} {verb} with `{plan.prefix}` already",
            severity=Severity.WARNING,
            where=(in_student(plan, plan.student_names[names[0]], names[0]),),
            notes=also(names),
            help=f'merge(..., name_prefix="{free_prefix(plan)}")',
        )


@check("GT205")
def two_teachers_one_prefix(plan: MergePlan) -> Iterator[Diagnostic]:
    """An earlier teacher was merged into this student under the same prefix.

    Where the two have a name in common, the second would replace the weights of the first.
    """
    if plan.prefix in plan.prefixes:
        yield Diagnostic(
            message=f"an earlier teacher has the prefix `{plan.prefix}`",
            where=(of_student(plan),),
            notes=(f"prefixes in use: {', '.join(f'`{name}`' for name in plan.prefixes)}",),
            help=f'merge(..., name_prefix="{free_prefix(plan)}")',
        )


@check("GT206")
def scope_overwrite(plan: MergePlan) -> Iterator[Diagnostic]:
    """The student's Scope has tensors already under the names that the teacher is to get.

    The Programs do not: the tensors are left from an earlier merge, or belong to a third Program
    that runs in this Scope. They are replaced. One of another shape or dtype is another network's
    for sure, which is an error.
    """
    if plan.student_scope is None or not plan.prefix:
        return
    variables = plan.student_scope.variables
    matching: list[tuple[str, str]] = []
    different: list[tuple[str, str]] = []
    for old, new in plan.renames:
        found, value = variables.get(new), plan.teacher_names[old]
        if found is None or not found.initialised or new in plan.student_names:
            continue
        same = (found.shape, found.dtype) == (value.shape, value.dtype)
        (matching if same else different).append((old, new))
    yield from _overwritten(plan, matching, Severity.WARNING)
    yield from _overwritten(plan, different, Severity.ERROR)


def _overwritten(
    plan: MergePlan, pairs: Sequence[tuple[str, str]], severity: Severity
) -> Iterator[Diagnostic]:
    if not pairs or plan.student_scope is None:
        return
    old, new = pairs[0]
    found = plan.student_scope.variables[new]
    yield Diagnostic(
        message=f"the student's Scope holds {counted(len(pairs), 'tensor')} already under teacher "
        f"names: `{new}` {format_shape(found.shape)} {found.dtype}",
        severity=severity,
        where=(in_teacher(plan, plan.teacher_names[old], old),),
        notes=also([name for _, name in pairs]),
        help=f'merge(..., name_prefix="{free_prefix(plan)}{_SUFFIX}")',
    )


@check("GT207")
def names_in_common(plan: MergePlan) -> Iterator[Diagnostic]:
    """Both programs give a tensor the same name, shape and dtype, as networks do that share it.

    The merge keeps the two apart: the teacher's is a tensor of its own under the new name, and
    stays as it is while the student's is trained. To use one for both, name it in `shared`.
    """
    if plan.one_program or not plan.prefix:
        return
    kept = set(plan.student_persistables) - plan.same_variables - set(plan.shared)
    common = [
        name
        for name in plan.teacher_persistables
        if name in kept and not _COUNTED_NAME.search(name) and _has_same_type(plan, name)
    ]
    if common:
        yield Diagnostic(
            message=f"both programs name {counted(len(common), 'tensor')} alike, which the merge "
            f"keeps apart: `{common[0]}`",
            severity=Severity.NOTE,
            where=(
                in_teacher(plan, plan.teacher_names[common[0]], common[0]),
                in_student(plan, plan.student_names[common[0]], common[0]),
            ),
            notes=also(common),
            help=f"merge(..., shared=({string_literal(common[0])},))  # if one is meant",
        )


def _has_same_type(plan: MergePlan, name: str) -> bool:
    teacher, student = plan.teacher_names[name], plan.student_names[name]
    return (teacher.shape, teacher.dtype) == (student.shape, student.dtype)
