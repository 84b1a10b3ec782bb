"""Rules about weights: the teacher's, those that both networks share, and state that changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from graphtool.checks.networks import modal_operators
from graphtool.checks.plan import MergePlan, ParametersWhen, saved_names
from graphtool.checks.rules import (
    LISTED,
    also,
    at_operator,
    check,
    format_shape,
    in_student,
    in_teacher,
    not_checked,
    of_student,
    of_teacher,
)
from graphtool.diagnostics import Call, Diagnostic, Severity, Where, counted, listed, rule
from graphtool.facts import ScopeVariable
from graphtool.graph import Graph, Operator, Origin, ProgramKind, Value, fits_shape, shapes_agree
from graphtool.ops import VIEWS, is_training, statistics_of, written_operand
from graphtool.paths import ls_command
from graphtool.readers.files import combined_path
from graphtool.readers.problems import misfit_weights

__all__ = ["uninitialised_parameters", "unlike_layer"]

_LATER = 'merge(..., parameters="later")  # and load them after the merge'
_FROM_FILE = 'merge(..., parameters="later").load_teacher(FILE)'
_STARTUP = "exe.run(teacher_startup)  # in the teacher's Scope, then load its weights"

# Suffixes of saved models; `__model__` has none.
_MODEL_SUFFIXES = (".json", ".pdmodel", "")


@rule("GT235", replaces=("GT236", "GT550", "GT612", "GT620", "GT633"))
def uninitialised_parameters(
    message: str,
    where: Sequence[Where] = (),
    *,
    severity: Severity = Severity.ERROR,
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    """Parameters are uninitialised, or the Scope has no Variable for them.

    Run the startup program in that Scope and load the weights, or pass the Scope that has them. To
    load the teacher's weights after the merge, pass `parameters="later"`; `graphtool.compat`
    assumes this with a warning if no parameter of the teacher is initialised.

    Before a merged Program is saved or exported, the student's startup program must have run, and
    the teacher's weights must be loaded (`merged.load_teacher`). Before a checkpoint, run the
    startup program after `gt.minimize`: it initialises the optimizer's state too. The startup
    program of a Layer made in dynamic mode sets no parameters: `gt.merge` copies them into its
    Scope, `gt.load_parameters` into any.
    """
    return Diagnostic(
        message=message, severity=severity, where=tuple(where), notes=tuple(notes), help=help
    )


@check("GT235")
def _teacher_uninitialised(plan: MergePlan) -> Iterator[Diagnostic]:
    if plan.teacher_scope is None:
        if plan.parameters is ParametersWhen.NOW and not plan.brings_weights:
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
    yield from _unavailable(plan, missing, "missing from")
    yield from _unavailable(plan, empty, "uninitialised in")


def _unavailable(plan: MergePlan, names: Sequence[str], state: str) -> Iterator[Diagnostic]:
    if not names:
        return
    later = plan.parameters is ParametersWhen.LATER
    is_all = len(names) == len(plan.weights)
    model = Path(plan.teacher.source)
    is_saved = is_all and not later and model.suffix in _MODEL_SUFFIXES and model.is_file()
    notes = ("they are to be loaded after the merge, under their new names",) if later else ()
    if is_saved:
        notes = (f"there is no `{combined_path(model)}`, where a saved model has its weights",)
    yield uninitialised_parameters(
        f"{'all ' if is_all else ''}{counted(len(names), 'tensor')} of the teacher "
        f"{'is' if len(names) == 1 else 'are'} {state} its Scope: {listed(names, LISTED)}",
        (in_teacher(plan, plan.teacher_names[names[0]], names[0]),),
        severity=Severity.NOTE if later else Severity.ERROR,
        notes=notes,
        help=None if later else _FROM_FILE if is_saved else _STARTUP if is_all else _LATER,
    )


def _scope_weights(plan: MergePlan) -> Iterator[tuple[str, ScopeVariable]]:
    """Yield the teacher's weights that its Scope has a Variable for."""
    if plan.teacher_scope is None:
        return
    for name, _ in plan.weights:
        found = plan.teacher_scope.variables.get(name)
        if found is not None:
            yield name, found


@check("GT237")
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
            (in_teacher(plan, plan.teacher_names[name], name),),
            notes=also([other for other, _ in wrong]),
            help="teacher_scope = paddle.static.Scope()  # for the teacher alone; load it there",
        )
    yield from _misfit_file(plan)


def _misfit_file(plan: MergePlan) -> Iterator[Diagnostic]:
    if plan.parameter_file is None:
        return
    file = plan.parameter_file
    names = saved_names(plan.teacher)
    wrong = [
        (name, ScopeVariable(initialised=True, shape=shape, dtype=dtype))
        for name, (shape, dtype) in zip(names, file.tensors, strict=False)
    ]
    wrong = [
        (name, found) for name, found in wrong if not _matches(plan.teacher_names[name], found)
    ]
    if len(names) == len(file.tensors) and not wrong:
        return
    notes = [
        f"the tensor read as `{name}` is {format_shape(found.shape)} {found.dtype}"
        for name, found in wrong[:1]
    ]
    first = [in_teacher(plan, plan.teacher_names[name], name) for name, _ in wrong[:1]]
    yield misfit_weights(
        f"`{file.path}` holds {counted(len(file.tensors), 'tensor')}, of which "
        f"{len(file.tensors) - len(wrong)} fit; the teacher has {counted(len(names), 'tensor')}",
        (*(first or (of_teacher(plan),)), Where(program=file.path)),
        notes=notes,
        help=ls_command(file.path),
    )


def _matches(value: Value, found: ScopeVariable) -> bool:
    if None not in (value.dtype, found.dtype) and value.dtype != found.dtype:
        return False
    return value.shape is None or fits_shape(value, found.shape)


@check("GT238")
def tied_parameters(plan: MergePlan) -> Iterator[Diagnostic]:
    """Several operators of the teacher read one parameter: its weights are tied.

    They stay tied: they are one tensor, under one new name.
    """
    tied = [value.name for value in plan.teacher.parameters if _is_tied(plan.teacher, value.name)]
    if tied:
        yield Diagnostic(
            message=f"{counted(len(tied), 'teacher parameter')} with several uses "
            f"{'stays' if len(tied) == 1 else 'stay'} tied: {listed(tied, LISTED)}",
            severity=Severity.NOTE,
            where=(in_teacher(plan, plan.teacher.values[tied[0]]),),
        )


def _is_tied(graph: Graph, name: str) -> bool:
    consumers = graph.consumers.get(name, ())
    if len(consumers) < 2 and all(one.type != "builtin.combine" for one in consumers):
        return False
    return sum(not is_training(operator) for operator in _readers(graph, name)) > 1


def _readers(graph: Graph, name: str) -> Iterator[Operator]:
    """Yield the Operators that compute with a Value, also if they read it as part of a list.

    Paddle's recurrent layers also copy their parameters into one buffer (`coalesce_tensor`), which
    does not count.
    """
    seen = {name}
    pending = [name]
    for current in pending:
        for operator in graph.consumers.get(current, ()):
            if operator.type == "builtin.combine":
                pending += [result for result in operator.results if result not in seen]
                seen.update(operator.results)
            elif operator.kind != "coalesce_tensor":
                yield operator


@check("GT241")
def ignored_teacher_scope(plan: MergePlan) -> Iterator[Diagnostic]:
    """`teacher_scope` holds some of the teacher's weights, which are ignored.

    A saved teacher has the weights of its file, and a Network those of its Layer, unless the Scope
    holds all of them. To merge the Scope's weights, load the rest there, or pass `network.live`,
    which has no Layer.
    """
    if plan.ignored_scope_names:
        count, names = len(plan.ignored_scope_names), listed(plan.ignored_scope_names, LISTED)
        yield Diagnostic(
            message=f"`teacher_scope` holds {count} of {len(plan.teacher_persistables)} weights of "
            f"the teacher, which has its own: {names}",
            severity=Severity.WARNING,
            where=(of_teacher(plan),),
            help="merge(...)  # without teacher_scope",
        )


@rule("GT247", replaces=("GT638",))
def unlike_layer(layer: str, count: int, *, scope_is_empty: bool) -> Diagnostic:
    """The weights in a Scope differ from those of the Layer that the network was built from.

    The Scope may hold an earlier student: names are counted from 0 again for each, so a notebook
    cell that runs again finds what it trained before. Merge and export each student in its own
    Scope, or run its startup program. If the Scope's weights are meant, pass `network.live`, which
    has no Layer, or load them after the merge.

    Weights that were loaded into the Layer after its startup program was read are in no Scope: run
    `network.startup` again.

    An exported student that was never merged has the weights of the Scope, or those of its Layer if
    the global Scope has none. `scope=` says which Scope is meant.
    """
    if scope_is_empty:
        message = f"exported {counted(count, 'parameter')} of `{layer}`: the global Scope has none"
        fix = "gt.export_student(network, path, scope=scope)"
    else:
        message = (
            f"exported the Scope's parameters, and {count} of them differ from those of `{layer}`"
        )
        fix = (
            "with paddle.static.scope_guard(paddle.static.Scope()): "
            "gt.export_student(network, path)"
        )
    return Diagnostic(message=message, severity=Severity.WARNING, help=fix)


@check("GT247")
def _find_unlike_layer(plan: MergePlan) -> Iterator[Diagnostic]:
    for role, graph, names in (
        ("teacher", plan.teacher, plan.changed.teacher),
        ("student", plan.student, plan.changed.student),
    ):
        if names:
            yield Diagnostic(
                message=f"{counted(len(names), 'tensor')} of the {role}'s Layer changed after its "
                f"startup program was read: {listed(names, LISTED)}",
                where=(Where(role=role, program=graph.source),),
                notes=(f"to use the Scope's weights, pass `{role}.live`, which has no Layer",),
                help=f"executor.run({role}.startup)  # sets them again",
            )
    if plan.unlike_layer is None:
        yield not_checked(
            "whether the student has its Layer's weights",
            "the student's Scope is not known",
            help="check_merge(..., scope=paddle.static.global_scope())",
        )
    elif plan.unlike_layer:
        count = len(plan.unlike_layer)
        yield Diagnostic(
            message=f"{counted(count, 'tensor')} in the student's Scope "
            f"{'differs' if count == 1 else 'differ'} from its Layer's: "
            f"{listed(plan.unlike_layer, LISTED)}",
            severity=Severity.WARNING if plan.startup_pending else Severity.ERROR,
            where=(of_student(plan),),
            notes=(
                "an earlier student may have trained them",
                "to use the Scope's weights, pass `student.live`, which has no Layer",
            ),
            help="executor.run(student.startup)  # sets them again"
            if plan.startup_pending
            else "with paddle.static.scope_guard(paddle.static.Scope()):  # from the merge on",
        )


@check("GT208")
def not_shareable(plan: MergePlan) -> Iterator[Diagnostic]:
    """A name in `shared` is not a parameter that teacher and student can share.

    A shared parameter, such as the table of an embedding, has the same name, shape and dtype in
    both programs. Running statistics of a batch norm cannot be shared: they change while the
    student trains.
    """
    for name in plan.shared:
        reason = _why_not_shareable(plan, name)
        if reason is not None:
            yield Diagnostic(
                message=f"`{name}` cannot be shared: {reason}",
                where=(
                    in_teacher(plan, plan.teacher_names.get(name), name),
                    in_student(plan, plan.student_names.get(name), name),
                ),
                help=Call("merge", shared=tuple(other for other in plan.shared if other != name)),
            )


def _why_not_shareable(plan: MergePlan, name: str) -> str | None:
    teacher, student = plan.teacher_names.get(name), plan.student_names.get(name)
    networks = (("teacher", plan.teacher, teacher), ("student", plan.student, student))
    for role, _, value in networks:
        if value is None or value.origin is not Origin.PARAMETER:
            return f"the {role} has no parameter of that name"
    assert teacher is not None
    assert student is not None
    if teacher.dtype != student.dtype or not shapes_agree(teacher.shape, student.shape):
        return (
            f"it is {format_shape(teacher.shape)} {teacher.dtype} in the teacher and "
            f"{format_shape(student.shape)} {student.dtype} in the student"
        )
    for role, graph, _ in networks:
        if any(name in statistics_of(operator) for operator in graph.operators.values()):
            return f"it is a running statistic of the {role}, which each run changes"
    return None


@check("GT209")
def teacher_changes(plan: MergePlan) -> Iterator[Diagnostic]:
    """Shared parameters are trained with the student, so the teacher changes too.

    Gradients reach them only through the student. The teacher's own values for them are not used.
    Set `trainable=False` on the student's parameter to keep the teacher fixed.
    """
    shared = (plan.student_names.get(name) for name in plan.shared)
    trainable = [value for value in shared if value is not None and value.trainable]
    if trainable:
        names = [value.name for value in trainable]
        yield Diagnostic(
            message=f"the teacher shares {counted(len(trainable), 'parameter')} with the student, "
            f"and changes as the student is trained: `{names[0]}`",
            severity=Severity.WARNING,
            where=(in_student(plan, trainable[0]),),
            notes=also(names),
            help="paddle.ParamAttr(name=..., trainable=False)  # in the student, to stop that",
        )
    in_both = (name for name in plan.shared if name in plan.teacher_names)
    unused = [name for name in in_both if name not in plan.same_variables]
    if unused and (plan.brings_weights or plan.teacher_scope is not None):
        yield Diagnostic(
            message=f"{counted(len(unused), 'tensor')} of the teacher will not be used, as the "
            f"student's is shared: `{unused[0]}`",
            severity=Severity.WARNING,
            where=(in_teacher(plan, plan.teacher_names.get(unused[0]), unused[0]),),
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
        yield Diagnostic(
            message=f"`{operator.name}` writes `{name}`, which the teacher keeps between runs",
            where=(
                at_operator("teacher", plan.teacher, operator),
                in_teacher(plan, plan.teacher_names.get(name), name),
            ),
            notes=also([other.name for other, _ in writers]),
            help="paddle.static.save_inference_model(path, feeds, [logits], exe)  # then merge it",
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
