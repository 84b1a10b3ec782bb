"""Rules about the new names of the teacher's parameters: collisions and prefixes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from graphtool.checks.plan import MergePlan, ParametersWhen
from graphtool.checks.rules import (
    also,
    at,
    check,
    format_shape,
    in_both,
)
from graphtool.diagnostics import Call, Diagnostic, Severity, counted, listed
from graphtool.graph import Origin, Value

__all__ = ["scope_collision"]

# Names with Paddle's counters: `conv2d_0.w_0`, `batch_norm2d_3.b_0_moment1_0`, `fc_0.tmp_1`.
_COUNTED_NAME = re.compile(r"(^|[._])\d+(\.|$)|\.(w|b|tmp)_\d+")
_SUFFIX = "t_"


@check("GT201")
def name_collision(plan: MergePlan) -> Iterator[Diagnostic]:
    """A teacher name, after renaming, is also a name of the student.

    A name means one tensor in a Program and its Scope, so the teacher would read or overwrite
    the student's weights. Choose a prefix that no student name starts with. Parameters, other
    persistables and unmapped feeds are checked, in legacy programs every Variable.
    """
    groups: dict[str, list[tuple[str, str]]] = {}
    for old, new in dict.fromkeys((*plan.renames, *plan.unmapped_feeds)):
        if new in plan.student_names:
            groups.setdefault(_kind(plan.teacher_names.get(old)), []).append((old, new))
    for kind, collisions in groups.items():
        old, new = collisions[0]
        verb = "gets a name" if len(collisions) == 1 else "get names"
        noun = _kind(plan.student_names[new])
        article = "an" if noun.startswith("a") else "a"
        if plan.prefix in plan.prefixes and plan.prefix:
            note = f"an earlier teacher was merged under the prefix `{plan.prefix}`"
        elif plan.prefix:
            note = f"the student has names that start with `{plan.prefix}`, such as `{new}`"
        else:
            note = _same_name_note(old)
        yield name_collision(
            f"{counted(len(collisions), f'teacher {kind}')} {verb} that the student has: "
            f"`{new}` is {article} {noun} there",
            in_both(plan, old, new),
            notes=(*also([name for _, name in collisions]), note),
            help=_free_prefix(plan),
        )


def _same_name_note(name: str) -> str:
    if _COUNTED_NAME.search(name):
        return "both programs count names from 0 (unique_name.guard())"
    return f"both programs set the name `{name}` explicitly, as ParamAttr(name=...) does"


def _kind(value: Value | None) -> str:
    if value is None:
        return "Variable"
    kinds = {Origin.PARAMETER: "parameter", Origin.FEED: "feed"}
    return kinds.get(value.origin, "persistable" if value.persistable else "activation")


def _free_prefix(plan: MergePlan, suffix: str = "") -> Call:
    """Extend the prefix until no student name starts with it."""
    prefix = plan.prefix or "teacher_"
    taken = (*plan.student_names, *plan.prefixes)
    while any(name.startswith(prefix) for name in taken):
        prefix += _SUFFIX
    return Call("merge", name_prefix=prefix + suffix)


@check("GT202", replaces=("GT255",))
def scope_collision(plan: MergePlan) -> Iterator[Diagnostic]:
    """Teacher and student keep a tensor under the same name in the same Scope, or in nested ones.

    The teacher computes with the student's weights then. Run the teacher's startup program and
    load its weights in a separate Scope, or load them after the merge, where this is a warning.
    To use one tensor for both, name it in `shared` (see GT209). `load_teacher` refuses a Scope
    where the name means the student's tensor.
    """
    if plan.one_program or plan.brings_weights:
        return
    kept = set(plan.student_persistables) - set(plan.shared)
    common = [name for name in plan.teacher_persistables if name in kept]
    later = plan.parameters is ParametersWhen.LATER
    if common and not later and plan.teacher_scope is None and plan.student_scope is None:
        yield scope_collision(
            "not checked: whether both programs use one Scope, with "
            f"{counted(len(common), 'tensor')} of the same name",
            severity=Severity.NOTE,
            notes=("no Scope was given",),
            help="check_merge(..., scope=scope, teacher_scope=teacher_scope)",
        )
    shared = [name for name in common if name in plan.same_variables]
    if shared:
        yield scope_collision(
            f"teacher and student have {counted(len(shared), 'tensor')} of the same name in one "
            "Scope",
            in_both(plan, shared[0], shared[0]),
            severity=Severity.WARNING if later else Severity.ERROR,
            notes=(*also(shared), _same_name_note(shared[0])),
            help="teacher_scope = paddle.static.Scope()  # run the teacher's startup and load its "
            "weights in it, then merge(..., teacher_scope=teacher_scope)",
        )


@check("GT204", Severity.WARNING, replaces=("GT203", "GT205"))
def ambiguous_prefix(plan: MergePlan) -> Iterator[Diagnostic]:
    """The prefix is empty, belongs to an earlier teacher, or begins names of the student.

    Choose another one. Without collisions an empty or ambiguous prefix works, but code that
    selects the teacher by prefix, in checkpoints too, finds the student's tensors as well.
    Under the prefix of an earlier teacher, the second teacher would replace weights of the
    first.
    """
    if not plan.prefix:
        message = "the prefix is empty: names do not tell teacher and student apart"
        yield ambiguous_prefix(message, help=_free_prefix(plan))
    if plan.prefix in plan.prefixes:
        yield ambiguous_prefix(
            f"an earlier teacher has the prefix `{plan.prefix}`",
            at(plan, "student"),
            severity=Severity.ERROR,
            notes=(f"prefixes in use: {listed(plan.prefixes, len(plan.prefixes))}",),
            help=_free_prefix(plan),
        )
    elif plan.prefix:
        names = [name for name in plan.student_names if name.startswith(plan.prefix)]
        if names:
            verb = "starts" if len(names) == 1 else "start"
            yield ambiguous_prefix(
                f"{counted(len(names), 'student name')} {verb} with `{plan.prefix}` already",
                at(plan, "student", names[0]),
                notes=also(names),
                help=_free_prefix(plan),
            )


@check("GT206")
def scope_overwrite(plan: MergePlan) -> Iterator[Diagnostic]:
    """The student's Scope already has tensors under the teacher's new names.

    They are left from an earlier merge, or belong to another Program that runs in this Scope,
    as is certain if shape or dtype differ: an error. The merge replaces them.
    """
    if plan.student_scope is None or not plan.prefix:
        return
    variables = plan.student_scope.variables
    by_severity: dict[Severity, list[tuple[str, str]]] = {Severity.WARNING: [], Severity.ERROR: []}
    for old, new in plan.renames:
        found, value = variables.get(new), plan.teacher_names[old]
        if found is not None and found.initialised and new not in plan.student_names:
            is_same = (found.shape, found.dtype) == (value.shape, value.dtype)
            by_severity[Severity.WARNING if is_same else Severity.ERROR].append((old, new))
    for severity, pairs in by_severity.items():
        if pairs:
            old, new = pairs[0]
            found = variables[new]
            yield scope_overwrite(
                f"the student's Scope already holds {counted(len(pairs), 'tensor')} under teacher "
                f"names: `{new}` {format_shape(found.shape)} {found.dtype}",
                at(plan, "teacher", old),
                severity=severity,
                notes=also([name for _, name in pairs]),
                help=_free_prefix(plan, _SUFFIX),
            )


@check("GT207", Severity.NOTE)
def names_in_common(plan: MergePlan) -> Iterator[Diagnostic]:
    """Both programs have a tensor of the same name, shape and dtype.

    The merge keeps the two apart: the teacher's gets a new name and stays fixed while the student's
    is trained. If one tensor is meant for both, name it in `shared`.
    """
    if plan.one_program or not plan.prefix:
        return
    kept = set(plan.student_persistables) - plan.same_variables - set(plan.shared)
    common: list[str] = []
    for name in plan.teacher_persistables:
        if name in kept and not _COUNTED_NAME.search(name):
            teacher, student = plan.teacher_names[name], plan.student_names[name]
            if (teacher.shape, teacher.dtype) == (student.shape, student.dtype):
                common.append(name)
    if common:
        yield names_in_common(
            f"{counted(len(common), 'tensor')} with the same name in both programs, kept apart by "
            f"the merge: `{common[0]}`",
            in_both(plan, common[0], common[0]),
            notes=also(common),
            help=Call("merge", "  # if one is meant", shared=(common[0],)),
        )
