"""Rules about weights: the teacher's, those that both networks share, and state that changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from graphtool.checks.networks import SAVE_FOR_INFERENCE, modal_operators
from graphtool.checks.plan import MergePlan, ParametersWhen, saved_names
from graphtool.checks.rules import (
    LISTED,
    also,
    at,
    at_operator,
    check,
    finds,
    format_shape,
    in_both,
)
from graphtool.diagnostics import Call, Diagnostic, Severity, Where, counted, listed
from graphtool.facts import ScopeVariable
from graphtool.graph import Operator, Origin, ProgramKind, Value, fits_shape, shapes_agree
from graphtool.ops import VIEWS, is_training, statistics_of, written_operand
from graphtool.paths import ls_command
from graphtool.readers.files import combined_path
from graphtool.readers.problems import misfit_weights

__all__ = ["uninitialised_parameters", "unlike_layer"]

# Suffixes of saved models; `__model__` has none.
_MODEL_SUFFIXES = (".json", ".pdmodel", "")


@check("GT235", replaces=("GT236", "GT550", "GT612", "GT620", "GT633"))
def uninitialised_parameters(plan: MergePlan) -> Iterator[Diagnostic]:
    """Parameters are uninitialised, or the Scope has no Variable for them.

    Run the startup program in that Scope and load the weights, or pass the Scope that has them.
    To load the teacher's weights after the merge, pass `parameters="later"`; `graphtool.compat`
    assumes it with a warning if none is initialised.

    To save or export a merged Program, run the student's startup program and load the teacher's
    weights (`merged.load_teacher`) first. Before a checkpoint, run the startup program after
    `gt.minimize`, for the optimizer's state. The startup program of a Layer made in dynamic
    mode sets no parameters: `gt.merge` copies them into its Scope, `gt.load_parameters` into
    any.
    """
    later = plan.parameters is ParametersWhen.LATER
    if plan.teacher_scope is None:
        if not later and not plan.brings_weights:
            yield uninitialised_parameters(
                "not checked: whether the teacher's weights are loaded",
                severity=Severity.NOTE,
                notes=("the teacher's Scope is not known",),
                help="check_merge(..., teacher_scope=paddle.static.global_scope())",
            )
        return
    variables = plan.teacher_scope.variables
    missing = [name for name, _ in plan.weights if name not in variables]
    empty = [name for name, found in _scope_weights(plan) if not found.initialised]
    for names, state in ((missing, "missing from"), (empty, "uninitialised in")):
        if not names:
            continue
        is_all = len(names) == len(plan.weights)
        model = Path(plan.teacher.source)
        notes: tuple[str, ...] = ()
        fix: str | None = 'merge(..., parameters="later")  # and load them after the merge'
        if later:
            notes, fix = ("they are to be loaded after the merge, under their new names",), None
        elif is_all and model.suffix in _MODEL_SUFFIXES and model.is_file():
            notes = (f"there is no `{combined_path(model)}`, where a saved model has its weights",)
            fix = 'merge(..., parameters="later").load_teacher(FILE)'
        elif is_all:
            fix = "exe.run(teacher_startup)  # in the teacher's Scope, then load its weights"
        yield uninitialised_parameters(
            f"{'all ' if is_all else ''}{counted(len(names), 'tensor')} of the teacher "
            f"{'is' if len(names) == 1 else 'are'} {state} its Scope: {listed(names, LISTED)}",
            at(plan, "teacher", names[0]),
            severity=Severity.NOTE if later else Severity.ERROR,
            notes=notes,
            help=fix,
        )


def _scope_weights(plan: MergePlan) -> Iterator[tuple[str, ScopeVariable]]:
    """Yield the teacher's weights that its Scope has a Variable for."""
    if plan.teacher_scope is not None:
        variables = plan.teacher_scope.variables
        yield from ((name, variables[name]) for name, _ in plan.weights if name in variables)


@finds("GT237")
def _misfit_weights(plan: MergePlan) -> Iterator[Diagnostic]:
    wrong = [
        (name, found)
        for name, found in _scope_weights(plan)
        if found.initialised and not _matches(plan.teacher_names[name], found)
    ]
    if wrong:
        name, found = wrong[0]
        yield misfit_weights(
            f"{counted(len(wrong), 'tensor')} in the teacher's Scope "
            f"{'does' if len(wrong) == 1 else 'do'} not fit the teacher: "
            f"`{name}` is {format_shape(found.shape)} {found.dtype} there",
            (at(plan, "teacher", name),),
            notes=also([other for other, _ in wrong]),
            help="teacher_scope = paddle.static.Scope()  # for the teacher alone; load it there",
        )
    if plan.parameter_file is None:
        return
    file, names = plan.parameter_file, saved_names(plan.teacher)
    read = [
        (name, ScopeVariable(initialised=True, shape=shape, dtype=dtype))
        for name, (shape, dtype) in zip(names, file.tensors, strict=False)
    ]
    wrong = [one for one in read if not _matches(plan.teacher_names[one[0]], one[1])]
    if wrong or len(names) != len(file.tensors):
        yield misfit_weights(
            f"`{file.path}` holds {counted(len(file.tensors), 'tensor')}, of which "
            f"{len(file.tensors) - len(wrong)} fit; the teacher has "
            f"{counted(len(names), 'tensor')}",
            (
                at(plan, "teacher", wrong[0][0]) if wrong else at(plan, "teacher"),
                Where(program=file.path),
            ),
            notes=[
                f"the tensor read as `{name}` is {format_shape(found.shape)} {found.dtype}"
                for name, found in wrong[:1]
            ],
            help=ls_command(file.path),
        )


def _matches(value: Value, found: ScopeVariable) -> bool:
    if None not in (value.dtype, found.dtype) and value.dtype != found.dtype:
        return False
    return value.shape is None or fits_shape(value, found.shape)


@check("GT241", Severity.WARNING)
def ignored_teacher_scope(plan: MergePlan) -> Iterator[Diagnostic]:
    """`teacher_scope` holds some of the teacher's weights, which are ignored.

    A saved teacher has the weights of its file, and a Network those of its Layer, unless the
    Scope holds all of them. Load the rest there, or pass `network.live`, which has no Layer.
    """
    if plan.ignored_scope_names:
        count, names = len(plan.ignored_scope_names), listed(plan.ignored_scope_names, LISTED)
        yield ignored_teacher_scope(
            f"`teacher_scope` holds {count} of {len(plan.teacher_persistables)} weights of the "
            f"teacher, which has its own: {names}",
            at(plan, "teacher"),
            help="merge(...)  # without teacher_scope",
        )


@check("GT247", replaces=("GT638",))
def unlike_layer(plan: MergePlan) -> Iterator[Diagnostic]:
    """The weights in a Scope differ from those of the Layer that the network was built from.

    The Scope may hold an earlier student: names are counted from 0 again for each, so a
    notebook cell that runs again finds what it trained before. Merge and export each student in
    its own Scope, or run its startup program. If the Scope's weights are meant, pass
    `network.live`, which has no Layer.

    Weights that were loaded into the Layer after its startup program was read are in no Scope:
    run `network.startup` again. An exported student that was never merged has the weights of
    the Scope that `scope=` names, or those of its Layer if the global Scope has none.
    """
    for (role, graph), names in zip(plan.networks, plan.changed, strict=True):
        if names:
            yield unlike_layer(
                f"{counted(len(names), 'tensor')} of the {role}'s Layer changed after its startup "
                f"program was read: {listed(names, LISTED)}",
                Where(role=role, program=graph.source),
                notes=(f"to use the Scope's weights, pass `{role}.live`, which has no Layer",),
                help=f"executor.run({role}.startup)  # sets them again",
            )
    if plan.unlike_layer is None:
        yield unlike_layer(
            "not checked: whether the student has its Layer's weights",
            severity=Severity.NOTE,
            notes=("the student's Scope is not known",),
            help="check_merge(..., scope=paddle.static.global_scope())",
        )
    elif plan.unlike_layer:
        count = len(plan.unlike_layer)
        fix = "with paddle.static.scope_guard(paddle.static.Scope()):  # from the merge on"
        if plan.startup_pending:
            fix = "executor.run(student.startup)  # sets them again"
        yield unlike_layer(
            f"{counted(count, 'tensor')} in the student's Scope "
            f"{'differs' if count == 1 else 'differ'} from its Layer's: "
            f"{listed(plan.unlike_layer, LISTED)}",
            at(plan, "student"),
            severity=Severity.WARNING if plan.startup_pending else Severity.ERROR,
            notes=(
                "an earlier student may have trained them",
                "to use the Scope's weights, pass `student.live`, which has no Layer",
            ),
            help=fix,
        )


@check("GT208")
def not_shareable(plan: MergePlan) -> Iterator[Diagnostic]:
    """A name in `shared` is not a parameter that teacher and student can share.

    A shared parameter, such as the table of an embedding, has the same name, shape and dtype in
    both programs. Running statistics of a batch norm change while the student trains.
    """
    for name in plan.shared:
        reason = _why_not_shareable(plan, name)
        if reason is not None:
            yield not_shareable(
                f"`{name}` cannot be shared: {reason}",
                in_both(plan, name, name),
                help=Call("merge", shared=tuple(other for other in plan.shared if other != name)),
            )


def _why_not_shareable(plan: MergePlan, name: str) -> str | None:
    found = plan.teacher_names.get(name), plan.student_names.get(name)
    for (role, _), value in zip(plan.networks, found, strict=True):
        if value is None or value.origin is not Origin.PARAMETER:
            return f"the {role} has no parameter of that name"
    teacher, student = found
    assert teacher is not None
    assert student is not None
    if teacher.dtype != student.dtype or not shapes_agree(teacher.shape, student.shape):
        return (
            f"it is {format_shape(teacher.shape)} {teacher.dtype} in the teacher and "
            f"{format_shape(student.shape)} {student.dtype} in the student"
        )
    for role, graph in plan.networks:
        if any(name in statistics_of(operator) for operator in graph.operators.values()):
            return f"it is a running statistic of the {role}, which each run changes"
    return None


@check("GT209", Severity.WARNING)
def teacher_changes(plan: MergePlan) -> Iterator[Diagnostic]:
    """Shared parameters are trained with the student, so the teacher changes too.

    Gradients reach them only through the student. The teacher's own values for them are not used.
    Set `trainable=False` on the student's parameter to keep the teacher fixed.
    """
    shared = (plan.student_names.get(name) for name in plan.shared)
    trainable = [value.name for value in shared if value is not None and value.trainable]
    if trainable:
        yield teacher_changes(
            f"the teacher shares {counted(len(trainable), 'parameter')} with the student, and "
            f"changes as the student is trained: `{trainable[0]}`",
            at(plan, "student", trainable[0]),
            notes=also(trainable),
            help="paddle.ParamAttr(name=..., trainable=False)  # in the student, to stop that",
        )
    own = (name for name in plan.shared if name in plan.teacher_names)
    unused = [name for name in own if name not in plan.same_variables]
    if unused and (plan.brings_weights or plan.teacher_scope is not None):
        yield teacher_changes(
            f"{counted(len(unused), 'tensor')} of the teacher will not be used, as the student's "
            f"is shared: `{unused[0]}`",
            at(plan, "teacher", unused[0]),
            notes=also(unused),
        )


@check("GT225")
def teacher_writes_state(plan: MergePlan) -> Iterator[Diagnostic]:
    """An operator of the teacher changes its state in each run, such as a counter.

    Test mode does not stop it, so the teacher would not stay fixed. Build the teacher without that
    operator.
    """
    stopped_by_test_mode = {operator.name for operator in modal_operators(plan.teacher)}
    writers = [
        (operator, name)
        for operator in plan.teacher.operators.values()
        for name in _written_state(plan, operator)
        if operator.name not in stopped_by_test_mode and not is_training(operator)
    ]
    if writers:
        operator, name = writers[0]
        yield teacher_writes_state(
            f"`{operator.name}` writes `{name}`, which the teacher keeps between runs",
            (at_operator("teacher", plan.teacher, operator), at(plan, "teacher", name)),
            notes=also([other.name for other, _ in writers]),
            help=SAVE_FOR_INFERENCE,
        )


def _written_state(plan: MergePlan, operator: Operator) -> Iterator[str]:
    """Yield the persistable names that an operator updates in place, or sets in PIR."""
    graph = plan.teacher
    if graph.kind is ProgramKind.LEGACY:
        for name in operator.results:
            variable, _, write = name.rpartition("@")
            first = graph.values.get(variable) if write.isdecimal() else None
            if first and first.producer is None and first.persistable:
                yield first.name
    elif operator.type == "builtin.set_parameter":
        yield str(operator.attributes.get("parameter_name", operator.name))
    elif operator.type.endswith("_") and operator.kind not in VIEWS:
        written = written_operand(operator)
        if written is not None and graph.values[written].persistable:
            yield written
