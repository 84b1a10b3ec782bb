"""Rules about the teacher's weights: those in its Scope, those in its file, and tied ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from graphtool.checks.locations import (
    LISTED,
    also,
    format_shape,
    in_teacher,
    of_student,
    of_teacher,
)
from graphtool.checks.plan import MergePlan, ParametersWhen, saved_names
from graphtool.checks.rules import check
from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.facts import ScopeVariable
from graphtool.graph import Graph, Operator, Value, fits_shape
from graphtool.ops import is_training
from graphtool.paths import ls_command
from graphtool.readers.files import combined_path
from graphtool.readers.problems import misfit_weights

__all__ = [
    "ignored_teacher_scope",
    "tied_parameters",
    "uninitialised_parameters",
    "unlike_layer",
]

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
def unlike_layer(
    message: str,
    *,
    severity: Severity = Severity.ERROR,
    where: Sequence[Where] = (),
    notes: Sequence[str] = (),
    help: str,
) -> Diagnostic:
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
    return Diagnostic(
        message=message, severity=severity, where=tuple(where), notes=tuple(notes), help=help
    )


@check("GT247")
def _find_unlike_layer(plan: MergePlan) -> Iterator[Diagnostic]:
    for role, names in zip(("teacher", "student"), plan.changed, strict=True):
        if names:
            yield unlike_layer(
                f"{counted(len(names), 'tensor')} of the {role}'s Layer changed after its "
                f"startup program was read: {listed(names, LISTED)}",
                where=(Where(role=role, program=getattr(plan, role).source),),
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
        verb = "differs" if count == 1 else "differ"
        yield unlike_layer(
            f"{counted(count, 'tensor')} in the student's Scope {verb} from its Layer's: "
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
