"""What can be wrong with a model that is to be read."""

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
    "no_single_model",
    "no_such_path",
    "not_a_program",
    "unknown_version",
    "unreadable",
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
