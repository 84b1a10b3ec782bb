"""What can be wrong with a model that is to be read: GT0xx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from graphtool.diagnostics import Diagnostic, Where, listed, rule
from graphtool.paths import list_command, ls_command
from graphtool.text import path_argument, shell_command
from graphtool.version import UPGRADE

__all__ = [
    "bad_program_json",
    "block_inside_itself",
    "empty_file",
    "folder_without_model",
    "nested_too_deeply",
    "no_such_block",
    "no_such_path",
    "not_a_file",
    "not_a_program",
    "not_json",
    "onnx_file",
    "parameters_file",
    "repeated_value",
    "several_models",
    "undefined_value",
    "unknown_version",
    "unreadable",
]


_LISTED = 8


@rule("GT001")
def no_such_path(path: str, near: Sequence[str] = ()) -> Diagnostic:
    """MODEL names a file or folder that does not exist.

    A MODEL is a path (`.json`, `.pdmodel`, both also without their ending, a folder that holds one,
    or `__model__`) or `module:callable`.
    """
    notes = tuple(f"there is `{name}`" for name in near)
    folder = PurePath(path).parent
    return Diagnostic(message=f"`{path}` does not exist", notes=notes, help=list_command(folder))


@rule("GT002")
def empty_file(path: str) -> Diagnostic:
    """The file has no content, as an interrupted copy or save leaves it."""
    return Diagnostic(
        message="the file is empty",
        where=(Where(program=path),),
        help="save or copy the model again",
    )


@rule("GT003")
def not_json(path: str, reason: str) -> Diagnostic:
    """The file ends in `.json` but its text is no JSON, most often since it was cut off."""
    return Diagnostic(
        message=f"the text is not JSON: {reason}",
        where=(Where(program=path),),
        help="save or copy the model again",
    )


@rule("GT004")
def bad_program_json(path: str, reason: str) -> Diagnostic:
    """The JSON is no Paddle program, or is not laid out as Paddle lays one out.

    A program saved by Paddle 3 is an object with `base_code` (magic `pir`) and `program`.
    """
    return Diagnostic(message=reason, where=(Where(program=path),))


@rule("GT005")
def unknown_version(path: str, version: object, newest: int) -> Diagnostic:
    """The file says that it is of a version of the format that this graphtool has never seen.

    It is not read: a field that changed its meaning would give wrong answers in silence.
    """
    return Diagnostic(
        message=f"the file is of PIR format version {version}; this graphtool knows 0 to {newest}",
        where=(Where(program=path),),
        help=UPGRADE,
    )


@rule("GT006")
def not_a_program(path: str, reason: str) -> Diagnostic:
    """The file is taken for a ProgramDesc (`.pdmodel`, `__model__`), and its content is none.

    Such a file is the protobuf that Paddle saves a legacy program as. A copy that was cut off looks
    like this too.
    """
    return Diagnostic(
        message=f"the file is no Paddle program: {reason}",
        where=(Where(program=path),),
        help=_of_code(path) if path.endswith(".py") else "save or copy the model again",
    )


def _of_code(path: str) -> str:
    """Return what to type for a file of Python, which makes a network where it is imported."""
    parts = PurePath(path).with_suffix("").parts
    module = ".".join(parts if all(map(str.isidentifier, parts)) else parts[-1:])
    return f"{_inspect(f'{module}:CALLABLE')} --input 3,224,224"


@rule("GT007")
def no_such_block(path: str, user: int, index: int, count: int) -> Diagnostic:
    """A Block of the program names another by a number that the program does not have.

    Control flow (`while`, `conditional_block`) refers to the Blocks that it runs by number. The
    file is damaged, or a tool that took Blocks out left such numbers behind.
    """
    return Diagnostic(
        message=f"block {user} refers to block {index}; the program has blocks 0 to {count - 1}",
        where=(Where(program=path),),
        help="save the model again",
    )


@rule("GT008")
def block_inside_itself(path: str, user: int, index: int) -> Diagnostic:
    """A Block of the program runs itself, directly or through a Block that it runs.

    Paddle writes no such program: the file is damaged.
    """
    return Diagnostic(
        message=f"block {user} runs block {index}, which it is a part of",
        where=(Where(program=path),),
        help="save the model again",
    )


@rule("GT009")
def nested_too_deeply(path: str) -> Diagnostic:
    """The file nests objects or Blocks deeper than Python can follow, as no saved network does.

    The file is damaged or made to do harm. Networks nest as deep as their control flow: a few
    levels.
    """
    return Diagnostic(
        message="the file is nested too deeply to be read",
        where=(Where(program=path),),
        help="save the model again",
    )


@rule("GT010")
def unreadable(path: str, reason: str) -> Diagnostic:
    """The file or folder is there, and the operating system does not let graphtool read it."""
    return Diagnostic(message=f"`{path}` cannot be read: {reason}", help=ls_command(path))


@rule("GT011")
def folder_without_model(folder: str, names: Sequence[str]) -> Diagnostic:
    """The folder holds no saved program.

    Looked for are `inference.json`, any `.json` that Paddle wrote, `.pdmodel` and `__model__`, in
    the folder itself and not below it. A `config.json`, a tokenizer's files and parameter files
    (`.pdiparams`, `.pdparams`) hold no program.
    """
    return Diagnostic(
        message=f"`{folder}` holds no saved program",
        notes=(f"it holds {listed(names, _LISTED)}" if names else "it is empty",),
        help="graphtool inspect FILE",
    )


@rule("GT012")
def several_models(folder: str, models: Sequence[str]) -> Diagnostic:
    """The folder holds several saved programs, and none of them is called `inference.json`.

    Name the one that is meant instead of the folder.
    """
    return Diagnostic(
        message=f"`{folder}` holds {len(models)} saved programs",
        where=tuple(Where(program=model) for model in models),
        help=_inspect(models[0]),
    )


@rule("GT013")
def onnx_file(path: str) -> Diagnostic:
    """The file is an ONNX model; graphtool reads Paddle programs.

    X2Paddle (`pip install x2paddle`) converts one into the other.
    """
    stem = path.removesuffix(".onnx")
    return Diagnostic(
        message="the file is an ONNX model, not a Paddle program",
        where=(Where(program=path),),
        help=shell_command(
            "x2paddle", "--framework=onnx", f"--model={path}", f"--save_dir={stem}-paddle"
        ),
    )


@rule("GT014")
def parameters_file(path: str, model: str | None) -> Diagnostic:
    """The file holds a network's parameters (`.pdiparams`, `.pdparams`, `.pdopt`), not its program.

    The program lies beside it in a `.json`, `.pdmodel` or `__model__`, under the same name. A
    `.pdparams` of a dynamic-graph network has none: name the network as `module:callable`.
    Parameter files are never loaded: some are pickles, and loading a pickle runs code.
    """
    return Diagnostic(
        message="the file holds parameters, not a program",
        where=(Where(program=path),),
        notes=() if model is None else (f"the program beside it is `{model}`",),
        help=_inspect("MODULE:CALLABLE" if model is None else model),
    )


@rule("GT015")
def undefined_value(path: str, operator: str, key: object) -> Diagnostic:
    """An operator of the file reads a Value that no operator before it makes.

    Paddle writes operators in the order in which they run, so the file is damaged or was edited.
    """
    return Diagnostic(
        message=f"operator `{operator}` reads value {key}, which nothing before it makes",
        where=(Where(program=path),),
        help="save the model again",
    )


@rule("GT016")
def repeated_value(path: str, name: str) -> Diagnostic:
    """Two operators of the file give the same number to a Value, so it is not known which is read.

    Paddle numbers every Value once: the file is damaged or was edited.
    """
    return Diagnostic(
        message=f"the number of value `{name}` is given a second time",
        where=(Where(program=path),),
        help="save the model again",
    )


@rule("GT017")
def not_a_file(path: str, kind: str) -> Diagnostic:
    """The path names a pipe, a device or a socket, where a file or a folder is read.

    Reading such a thing may wait for ever. The shell's `<(command)` is a pipe from which graphtool
    does read models and recipes: whatever writes it is running.
    """
    return Diagnostic(message=f"`{path}` is {kind}, not a file", help=ls_command(path))


def _inspect(model: str) -> str:
    return shell_command("graphtool", "inspect", path_argument(model))
