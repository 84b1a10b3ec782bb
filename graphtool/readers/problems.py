"""What can be wrong with the files of models and their parameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from graphtool.diagnostics import Diagnostic, Severity, Where, listed, rule
from graphtool.paths import list_command, ls_command
from graphtool.text import inspect_command
from graphtool.version import UPGRADE

__all__ = [
    "TOO_DEEP",
    "damaged_model",
    "damaged_weights",
    "misfit_weights",
    "no_parameters_beside",
    "no_single_model",
    "no_such_path",
    "not_a_program",
    "several_parameter_files",
    "unknown_version",
    "unreadable",
    "unsafe_pickle",
    "weights_not_found",
    "wrong_tensor_count",
]


TOO_DEEP = "the file is nested too deeply"
_LISTED = 8


@rule("GT001", replaces=("GT018",))
def no_such_path(path: str, near: Sequence[str] = ()) -> Diagnostic:
    """The file or folder does not exist, or MODEL is empty.

    A MODEL is a path (`.json` and `.pdmodel`, with or without the suffix, `__model__`, or a folder
    that holds one of them) or `module:callable`. An empty MODEL most often comes from a shell
    variable that is not set; the working directory is `.`.
    """
    if not path:
        return Diagnostic(message="MODEL is empty", help="graphtool inspect .")
    notes = tuple(f"there is `{name}`" for name in near)
    folder = PurePath(path).parent
    return Diagnostic(message=f"`{path}` does not exist", notes=notes, help=list_command(folder))


@rule("GT004", replaces=("GT002", "GT003", "GT006", "GT007", "GT008", "GT009", "GT015", "GT016"))
def damaged_model(
    path: str, message: str, help: str | None = "save or copy the model again"
) -> Diagnostic:
    """The file is damaged, or is not a program that Paddle saved.

    An interrupted save or copy leaves a file that is empty or cut off, and an edit can leave
    operators or Blocks that refer to what is not there: save or copy the model again.

    Otherwise name the file that Paddle saved. Paddle 3 writes a `.json`, an object with `base_code`
    (magic `pir`) and `program`; earlier releases write a ProgramDesc (`.pdmodel`, `__model__`). A
    `config.json` is neither. Name a network in a Python file as `module:callable`.
    """
    return Diagnostic(message=message, where=(Where(program=path),), help=help)


@rule("GT005", replaces=("GT103",))
def unknown_version(path: str, message: str, severity: Severity = Severity.ERROR) -> Diagnostic:
    """The file has a newer format than this graphtool knows, or fields that it does not know.

    An unknown version is an error, as a field may have changed its meaning. Unknown fields are a
    warning: the model is read without them, but they may matter to what the network computes.
    Upgrade graphtool.
    """
    return Diagnostic(
        message=message, severity=severity, where=(Where(program=path),), help=UPGRADE
    )


@rule("GT010", replaces=("GT017",))
def unreadable(path: str, reason: str) -> Diagnostic:
    """The path exists, but it cannot be read.

    Either the operating system refuses (check permissions and links), or the path is a pipe, a
    device or a socket, which may block forever. The pipe of the shell's `<(command)` can be read.
    """
    return Diagnostic(message=f"`{path}` cannot be read: {reason}", help=ls_command(path))


@rule("GT011", replaces=("GT012",))
def no_single_model(folder: str, models: Sequence[str], names: Sequence[str]) -> Diagnostic:
    """The folder holds no saved program, or several and none is called `inference.json`.

    Only the folder itself is searched: for `inference.json`, any `.json` that Paddle saved,
    `.pdmodel` and `__model__`. Configurations, tokenizers and parameters (`.pdiparams`,
    `.pdparams`) are not programs. Name the file instead of the folder.
    """
    if models:
        return Diagnostic(
            message=f"`{folder}` holds {len(models)} saved programs",
            where=tuple(Where(program=model) for model in models),
            help=inspect_command(models[0]),
        )
    return Diagnostic(
        message=f"`{folder}` holds no saved program",
        notes=(f"it holds {listed(names, _LISTED)}" if names else "it is empty",),
        help="graphtool inspect FILE",
    )


@rule("GT013", replaces=("GT014",))
def not_a_program(path: str, found: str, help: str, notes: tuple[str, ...] = ()) -> Diagnostic:
    """The file is an ONNX model or holds parameters; graphtool reads Paddle programs.

    X2Paddle (`pip install x2paddle`) converts an ONNX model.

    The program of a `.pdiparams` file is beside it, in a `.json`, `.pdmodel` or `__model__` of the
    same name. A `.pdparams` or `.pdopt` of a dynamic-graph network has no program: name the network
    as `module:callable`. Parameter files are never loaded here, as some are pickles, which can run
    code.
    """
    return Diagnostic(
        message=f"the file {found}, not a program",
        where=(Where(program=path),),
        notes=notes,
        help=help,
    )


@rule("GT237", replaces=("GT239", "GT251", "GT504", "GT507", "GT551"))
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


_OF_NESTED_DICTS = {"builtins.eval", "builtins.tuple", "collections.OrderedDict"}


@rule("GT502")
def unsafe_pickle(path: str, name: str) -> Diagnostic:
    """The `.pdparams` is a pickle that names more than NumPy's arrays and dtypes.

    Loading a pickle calls what it names, so a file from elsewhere could run any code. This one was
    not loaded, and nothing in it ran. If you made the file and trust it, write it again with
    `paddle.save(layer.state_dict(), path)`, which saves arrays only; for
    a dict within a dict it names more.
    """
    nested = "`paddle.save` names it for a dict within a dict: save the state dict alone"
    return Diagnostic(
        message=f"the pickle refers to `{name}`; it was not loaded",
        where=(Where(program=path),),
        notes=(nested,) if name in _OF_NESTED_DICTS else (),
        help="paddle.save(layer.state_dict(), path)",
    )
