"""Diagnostics of parameters in files."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, rule
from graphtool.paths import ls_command

__all__ = [
    "damaged_weights",
    "misfit_weights",
    "no_parameters_beside",
    "several_parameter_files",
    "unsafe_pickle",
    "weights_not_found",
    "wrong_tensor_count",
]


@rule("GT237", replaces=("GT239", "GT251", "GT504", "GT507"))
def misfit_weights(
    message: str,
    where: Sequence[Where],
    *,
    notes: Sequence[str] = (),
    help: str | None = None,
    count: int = 1,
) -> Diagnostic:
    """Weights do not fit the model: their shapes, dtypes or number differ.

    Most often they belong to another network, or two programs with the same names ran in one Scope:
    give the teacher a Scope for itself. If few parameters differ, it may be a head for another
    number of classes.

    A `.pdiparams` holds no names: its tensors are read in the order of the names in the model, so
    one tensor more or less shifts all that follow. Use the file that was saved with this model, or
    put the model that it was saved with beside it, under the same name.
    """
    return Diagnostic(
        message=message, where=tuple(where), notes=tuple(notes), help=help, count=count
    )


def wrong_tensor_count(path: str, found: int, wanted: int, program: str) -> Diagnostic:
    """Report a combined file that does not hold the tensors of a program."""
    return misfit_weights(
        f"the file holds {found} tensors, which do not fit the {wanted} of the program",
        (Where(program=path), Where(program=program)),
        help="put the model that the file was saved with beside it, under the same name",
    )


@rule("GT240", replaces=("GT500", "GT503"))
def damaged_weights(path: str, reason: str, *, help: str | None = None) -> Diagnostic:
    """A file of parameters is missing, damaged, or in another format.

    `.pdiparams` and `__params__` hold one tensor after another; a folder may hold one file for each
    Variable; a `.pdparams` is a pickle of a dict from names to arrays, as
    `paddle.save(layer.state_dict(), path)` writes it. A `.pdopt` holds the state of an optimizer
    and no parameters. A pickle that would take far more time or memory than its size justifies is
    refused as well. Save the model again, or copy the file again.
    """
    return Diagnostic(
        message=f"`{path}` cannot be read as parameters: {reason}",
        where=(Where(program=path),),
        help=help or ls_command(path),
    )


@rule("GT250", replaces=("GT505", "GT509"))
def weights_not_found(
    message: str,
    where: Sequence[Where],
    *,
    severity: Severity = Severity.ERROR,
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    """Parameters are not in the file, folder, mapping or Scope, or there is no file at all.

    Nothing was loaded. Most often the file is another network's, or the names differ: Paddle counts
    layers, so `conv2d_0.w_0` of one network may be `conv2d_53.w_0` of the next one in the same
    process. `merged.load_teacher` looks for the teacher's own names, then for those after the
    merge. With `allow_missing=True`, `gt.load_parameters` loads what is there, such as a backbone
    without its head.

    A saved student needs a `.pdiparams`, `.pdparams` or `__params__` beside its model, under the
    model's name, or one file for each parameter; `--student-weights` names another place.
    """
    return Diagnostic(
        message=message, severity=severity, where=tuple(where), notes=tuple(notes), help=help
    )


def no_parameters_beside(model: str) -> Diagnostic:
    """Report a saved student without a file of parameters."""
    return weights_not_found(
        f"there are no parameters beside `{model}`",
        (Where(role="student", program=model),),
        help="graphtool merge TEACHER STUDENT -o DIR --student-weights FILE",
    )


@rule("GT501")
def several_parameter_files(folder: str, paths: Sequence[str]) -> Diagnostic:
    """The folder holds several files of parameters: name one of them."""
    return Diagnostic(
        message=f"`{folder}` holds {len(paths)} files of parameters",
        where=tuple(Where(program=path) for path in paths),
        help=f"gt.load_parameters(program, {paths[0]!r})",
    )


@rule("GT502")
def unsafe_pickle(path: str, name: str) -> Diagnostic:
    """The `.pdparams` is a pickle that names more than NumPy's arrays and dtypes.

    Loading a pickle calls what it names, so a file from elsewhere could run any code. This one was
    not loaded, and nothing in it ran. If you made the file and trust it, write it again with
    `paddle.save(layer.state_dict(), path)`, which saves arrays only.
    """
    return Diagnostic(
        message=f"the pickle refers to `{name}`; it was not loaded",
        where=(Where(program=path),),
        help="paddle.save(layer.state_dict(), path)",
    )
