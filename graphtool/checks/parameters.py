"""Rules about the teacher's weights: those in its Scope, those in its file, and tied ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
from graphtool.checks.rules import check, not_checked
from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed
from graphtool.facts import ScopeVariable
from graphtool.graph import Graph, Operator, Shape, Value, fits_shape
from graphtool.ops import is_training
from graphtool.paths import ls_command
from graphtool.readers.parameter_files import combined_path

__all__ = [
    "misfit_parameter_file",
    "misshapen_parameters",
    "missing_parameters",
    "passed_over_scope",
    "tied_parameters",
    "uninitialised_parameters",
    "unlike_layer",
]

_LATER = 'merge(..., parameters="later")  # and load them after the merge'
_FROM_FILE = 'merge(..., parameters="later").load_teacher(FILE)'
_STARTUP = "exe.run(teacher_startup)  # in the teacher's Scope, then load its weights"

# Suffixes of saved models; `__model__` has none.
_MODEL_SUFFIXES = (".json", ".pdmodel", "")


@check("GT235")
def missing_parameters(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher's Scope has no Variable of the name of a teacher parameter.

    Run the teacher's startup program in that Scope and load its weights, or hand over the Scope
    that has them. Who loads the weights after the merge says so with `parameters="later"`.
    """
    if plan.teacher_scope is None:
        if plan.parameters is ParametersWhen.NOW and not plan.brings_weights:
            yield not_checked(
                "whether the teacher's weights are loaded",
                "the teacher's Scope is not known",
                "check_merge(..., teacher_scope=paddle.static.global_scope())",
            )
        return
    variables = plan.teacher_scope.variables
    missing = [name for name, _ in plan.weights if name not in variables]
    yield from _unavailable(plan, missing, "not in its Scope")


@check("GT236")
def uninitialised_parameters(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher's Scope has the Variable of a teacher parameter, but there is nothing in it.

    The startup program has not run in this Scope. Who loads the weights after the merge says so
    with `parameters="later"`.
    """
    empty = [name for name, found in _scope_weights(plan) if not found.initialised]
    yield from _unavailable(plan, empty, "not initialised in its Scope")


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
    yield Diagnostic(
        message=f"{'all ' if is_all else ''}{counted(len(names), 'tensor')} of the teacher "
        f"{'is' if len(names) == 1 else 'are'} {state}: "
        f"{listed(names, LISTED)}",
        severity=Severity.NOTE if later else Severity.ERROR,
        where=(in_teacher(plan, plan.teacher_names[names[0]], names[0]),),
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
def misshapen_parameters(plan: MergePlan) -> Iterator[Diagnostic]:
    """A tensor in the teacher's Scope has not the shape or dtype that the teacher gives it.

    It is another network's: two programs whose names are equal ran in one Scope, or other weights
    were loaded.
    """
    wrong = [
        (name, found)
        for name, found in _scope_weights(plan)
        if found.initialised and not _matches(plan.teacher_names[name], found)
    ]
    if wrong:
        name, found = wrong[0]
        yield Diagnostic(
            message=f"{counted(len(wrong), 'tensor')} in the teacher's Scope "
            f"{'does' if len(wrong) == 1 else 'do'} not fit the teacher: "
            f"`{name}` is {format_shape(found.shape)} {found.dtype} there",
            where=(in_teacher(plan, plan.teacher_names[name], name),),
            notes=also([other for other, _ in wrong]),
            help="teacher_scope = paddle.static.Scope()  # for the teacher alone; load it there",
        )


def _matches(value: Value, found: ScopeVariable) -> bool:
    if None not in (value.dtype, found.dtype) and value.dtype != found.dtype:
        return False
    return value.shape is None or fits_shape(value, found.shape)


@check("GT238")
def tied_parameters(plan: MergePlan) -> Iterator[Diagnostic]:
    """A parameter of the teacher is read in several places: its weights are tied.

    They stay tied, as it is one tensor under one new name.
    """
    tied = [value.name for value in plan.teacher.parameters if _is_tied(plan.teacher, value.name)]
    if tied:
        yield Diagnostic(
            message=f"{counted(len(tied), 'teacher parameter')} read in several places stay tied: "
            f"{listed(tied, LISTED)}",
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


@check("GT239")
def misfit_parameter_file(plan: MergePlan) -> Iterator[Diagnostic]:
    """The teacher's `.pdiparams` holds other tensors than its model asks for.

    The file has no names: tensors are taken in the order of the names in the model. One tensor more
    or less shifts all that follow, and where shapes happen to agree nothing would tell.
    """
    if plan.parameter_file is None:
        return
    file = plan.parameter_file
    names = saved_names(plan.teacher)
    pairs = zip(names, file.tensors, strict=False)
    wrong = [
        (name, tensor) for name, tensor in pairs if not _is_for(plan.teacher_names, name, tensor)
    ]
    if len(names) == len(file.tensors) and not wrong:
        return
    where = Where(program=file.path)
    notes = [f"{_description(tensor)} stands where `{name}` should" for name, tensor in wrong[:1]]
    first = [in_teacher(plan, plan.teacher_names[name], name) for name, _ in wrong[:1]]
    yield Diagnostic(
        message=f"`{file.path}` holds {counted(len(file.tensors), 'tensor')}, of which "
        f"{len(file.tensors) - len(wrong)} fit; the teacher has {counted(len(names), 'tensor')}",
        where=(*first, where) if first else (of_teacher(plan), where),
        notes=tuple(notes),
        help=ls_command(file.path),
    )


@check("GT241")
def passed_over_scope(plan: MergePlan) -> Iterator[Diagnostic]:
    """The Scope that was given for the teacher holds weights of it, and they are not taken.

    A teacher that is a saved model brings those of its file, and a Network those of its Layer,
    unless its Scope holds all of them. To merge what is in the Scope,
    load the rest there as well, or hand over the `live` of the Network, which has no Layer.
    """
    if plan.ignored_scope_names:
        count, names = len(plan.ignored_scope_names), listed(plan.ignored_scope_names, LISTED)
        yield Diagnostic(
            message=f"`teacher_scope` holds {count} of {len(plan.teacher_persistables)} weights of "
            f"the teacher, which brings its own: {names}",
            severity=Severity.WARNING,
            where=(of_teacher(plan),),
            help="merge(...)  # without teacher_scope",
        )


@check("GT247")
def unlike_layer(plan: MergePlan) -> Iterator[Diagnostic]:
    """A Scope holds other numbers than the Layer that its network was built from.

    A Network that was not started has the weights of its Layer, which merging brings. Others under
    their names are most often those of an earlier student: names are counted anew for each, so that
    a notebook's cell that runs again finds what it trained before. Let each student have a Scope of
    its own, or run the startup program of one that a class or factory made, where this is a warning
    as long as it may yet run. Where the Scope's are
    meant, load them after the merge, or hand over the `live` of the Network, which has no Layer. A
    student into which a teacher was merged in this Scope before brought its weights then, and may
    have trained on.

    Weights that were loaded into a Layer after its startup program was asked for are in no Scope:
    load them before, or run `network.startup` again, which sets what the Layer has by then.
    """
    for role, names in zip(("teacher", "student"), plan.changed, strict=True):
        if names:
            yield Diagnostic(
                message=f"{counted(len(names), 'tensor')} of the {role}'s Layer changed after its "
                f"startup program was asked for: {listed(names, LISTED)}",
                where=(Where(role=role, program=getattr(plan, role).source),),
                notes=(
                    f"where the Scope's are meant, hand over `{role}.live`, which has no Layer",
                ),
                help=f"executor.run({role}.startup)  # sets them anew",
            )
    if plan.unlike_layer is None:
        yield not_checked(
            "whether the student has its Layer's weights",
            "the student's Scope is not known",
            "check_merge(..., scope=paddle.static.global_scope())",
        )
    elif plan.unlike_layer:
        count = len(plan.unlike_layer)
        verb = "is not that" if count == 1 else "are not those"
        yield Diagnostic(
            message=f"{counted(count, 'tensor')} in the student's Scope {verb} of its Layer: "
            f"{listed(plan.unlike_layer, LISTED)}",
            severity=Severity.WARNING if plan.startup_pending else Severity.ERROR,
            where=(of_student(plan),),
            notes=(
                "they may be what an earlier student has learnt",
                "where they are meant, hand over `student.live`, which has no Layer",
            ),
            help="executor.run(student.startup)  # sets them anew"
            if plan.startup_pending
            else "with paddle.static.scope_guard(paddle.static.Scope()):  # from the merge on",
        )


def _is_for(names: Mapping[str, Value], name: str, tensor: tuple[Shape, str]) -> bool:
    shape, dtype = tensor
    return _matches(names[name], ScopeVariable(initialised=True, shape=shape, dtype=dtype))


def _description(tensor: tuple[Shape, str]) -> str:
    shape, dtype = tensor
    return f"a tensor {format_shape(shape)} {dtype}"
