"""Diagnostics of parameter files: GT500 to GT504, GT509."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Where, rule
from graphtool.paths import ls_command

__all__ = [
    "not_a_state_dict",
    "not_parameters",
    "other_count",
    "parameters_not_beside",
    "several_parameter_files",
    "unsafe_pickle",
]


@rule("GT500")
def not_parameters(path: str, reason: str) -> Diagnostic:
    """The path holds no parameters that graphtool reads.

    Read are `.pdiparams` and `__params__` (a plain binary beside its model), folders with one file
    for each Variable, and `.pdparams` (a pickle of arrays). `.pdopt` holds an optimizer's state.
    """
    return Diagnostic(
        message=f"`{path}` holds no parameters: {reason}",
        help=ls_command(path),
    )


@rule("GT501")
def several_parameter_files(folder: str, paths: Sequence[str]) -> Diagnostic:
    """The folder holds several files of parameters; name the one that is meant."""
    return Diagnostic(
        message=f"`{folder}` holds {len(paths)} files of parameters",
        where=tuple(Where(program=path) for path in paths),
        help=f"gt.load_parameters(program, {paths[0]!r})",
    )


@rule("GT502")
def unsafe_pickle(path: str, name: str) -> Diagnostic:
    """The `.pdparams` is a pickle that names something besides NumPy's arrays and dtypes.

    Loading a pickle calls what it names, so a file from elsewhere can run any code. This one was
    not loaded and nothing of it ran. Where you made it and trust it, write it anew: a plain
    `paddle.save(layer.state_dict(), path)` holds arrays alone.
    """
    return Diagnostic(
        message=f"the pickle asks for `{name}`; it was not loaded",
        where=(Where(program=path),),
        help="paddle.save(layer.state_dict(), path)",
    )


@rule("GT503")
def not_a_state_dict(path: str, reason: str) -> Diagnostic:
    """The `.pdparams` is damaged, or holds something else than a dict from names to arrays.

    So is one that is made to take far more time or memory than its bytes are worth.
    """
    return Diagnostic(
        message=f"the file is no state dict: {reason}",
        where=(Where(program=path),),
        help="paddle.save(layer.state_dict(), path)",
    )


@rule("GT504")
def other_count(path: str, found: int, wanted: int, program: str) -> Diagnostic:
    """The combined file does not fit its model: it holds more or fewer tensors, or other ones.

    A `.pdiparams` holds no names: its tensors are those of the model that it was saved with, in the
    order of their names. Give the file that was saved with this program, or keep the model that it
    was saved with beside it.
    """
    return Diagnostic(
        message=f"the file holds {found} tensors that do not fit the {wanted} of the program",
        where=(Where(program=path), Where(program=program)),
        help="put the model that the file was saved with beside it, under the same name",
    )


@rule("GT509")
def parameters_not_beside(model: str) -> Diagnostic:
    """No file of parameters lies beside a saved student, so that it has nothing to start from.

    A `.pdiparams`, `.pdparams` or `__params__` is looked for under the model's name, then one file
    for each parameter. `graphtool merge` takes one from elsewhere.
    """
    return Diagnostic(
        message=f"no parameters lie beside `{model}`",
        where=(Where(role="student", program=model),),
        help="graphtool merge TEACHER STUDENT -o DIR --student-weights FILE",
    )
