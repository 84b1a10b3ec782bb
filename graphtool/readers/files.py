"""Find the files of a saved model, tell their formats apart, and read its program."""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum, auto
from os import PathLike
from pathlib import Path

from graphtool.diagnostics import ReadError
from graphtool.graph import Graph
from graphtool.paths import path_exists, resolve_model_prefix
from graphtool.readers import problems
from graphtool.readers.pir_json import read_json
from graphtool.readers.program_desc import read_protobuf
from graphtool.text import inspect_command, shell_command

__all__ = [
    "Format",
    "check_not_special",
    "combined_path",
    "file_of_variable",
    "find_parameters",
    "format_of",
    "head_of",
    "read_errors_reported",
    "read_file",
]

_PREFERRED = "inference.json"
_HEAD_SIZE = 512
_OBJECT = re.compile(rb'\s*\{\s*["}]')
_PIR = re.compile(rb'\s*\{\s*"base_code"\s*:\s*\{[^{}]*"magic"\s*:\s*"pir"')
# A ModelProto starts with its `ir_version` (field 1, a varint); then come fields 2 to 8.
_ONNX = re.compile(rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
# A saved tensor starts with a version (uint32) and a level of detail (uint64), both 0.
_TENSOR = bytes(12)
_PARAMETER_SUFFIXES = frozenset({".pdiparams", ".pdparams", ".pdopt", ".safetensors"})
_OLD_NAMES = ("__params__", "params")

# Reading these may block, except for the pipes of the shell's `<(command)` and `|`.
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_SHELL_PIPE = re.compile(r"/dev/stdin|(/dev|/proc/(self|\d+))/fd/\d+")


class Format(Enum):
    """What a file is, by its first bytes, and by its suffix where those are any."""

    JSON = auto()
    PROTOBUF = auto()
    TENSORS = auto()
    PICKLE = auto()
    OTHER_PARAMETERS = auto()
    ONNX = auto()


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file, for `format_of`."""
    with path.open("rb") as file:
        return file.read(_HEAD_SIZE)


def format_of(path: Path, head: bytes) -> Format:
    """Return the format of a file by its first bytes and its suffix."""
    if head.startswith(_TENSOR):
        return Format.TENSORS
    if _PICKLE.match(head):
        return Format.PICKLE
    if path.suffix == ".onnx" or _ONNX.match(head):
        return Format.ONNX
    if path.suffix in _PARAMETER_SUFFIXES:
        return Format.OTHER_PARAMETERS
    if path.suffix == ".json" or _OBJECT.match(head):
        return Format.JSON
    return Format.PROTOBUF


def check_not_special(path: Path) -> None:
    """Reject a pipe, device or socket, which could block reading or never end.

    A missing path passes. Raises ReadError: GT010. Raises OSError if the path cannot be examined.
    """
    with suppress(FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: NUL in the name
        mode = path.stat().st_mode
        kind = _SPECIAL.get(stat.S_IFMT(mode))
        if kind is not None and not (stat.S_ISFIFO(mode) and _SHELL_PIPE.match(str(path))):
            raise ReadError(problems.unreadable(str(path), f"it is {kind}, not a file"))


@contextmanager
def read_errors_reported(path: Path) -> Generator[None]:
    """Raise an OSError of the body as ReadError: GT010."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReadError(problems.unreadable(error.filename or str(path), reason)) from None


def read_file(path: Path) -> Graph:
    """Read a saved program: a `.json`, `.pdmodel` or `__model__` file, or a folder with one.

    `path` may lack the suffix of the first two, as Paddle's own prefixes do.

    Raises ReadError with a GT0xx Diagnostic if there is no such program or its file is damaged.
    """
    path = Path(resolve_model_prefix(str(path)))
    try:
        with read_errors_reported(path):
            check_not_special(path)
            if not path_exists(str(path)):
                raise ReadError(problems.no_such_path(str(path), _similar_paths(path)))
            return _read(_model_in(path) if path.is_dir() else path)
    except RecursionError:
        raise ReadError(problems.damaged_model(str(path), problems.TOO_DEEP)) from None


def _read(path: Path) -> Graph:
    with path.open("rb") as file:
        head = file.read(_HEAD_SIZE)
        if not head:
            raise ReadError(problems.damaged_model(str(path), "the file is empty"))
        file_format = format_of(path, head)
        if file_format is Format.ONNX:
            folder = f"{str(path).removesuffix('.onnx')}-paddle"
            options = "--framework=onnx", f"--model={path}", f"--save_dir={folder}"
            convert = shell_command("x2paddle", *options)
            raise ReadError(problems.not_a_program(str(path), "is an ONNX model", convert))
        if file_format not in (Format.JSON, Format.PROTOBUF):
            model = _model_of(path)
            notes = () if model is None else (f"the program beside it is `{model}`",)
            inspect = inspect_command(model or "MODULE:CALLABLE")
            raise ReadError(problems.not_a_program(str(path), "holds parameters", inspect, notes))
        # A pipe can be read only once, so continue where the head ends.
        data = head + file.read()
    return (read_json if file_format is Format.JSON else read_protobuf)(str(path), data)


def _similar_paths(path: Path) -> list[str]:
    """List paths in the same folder with similar names, the most similar first."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return []
    return [str(path.with_name(name)) for name in difflib.get_close_matches(path.name, names, n=3)]


def _model_in(folder: Path) -> Path:
    if (folder / _PREFERRED).is_file():
        return folder / _PREFERRED
    entries = sorted(folder.iterdir())
    candidates = list(_models(entries))
    if len(candidates) != 1:
        models, names = list(map(str, candidates)), [entry.name for entry in entries]
        raise ReadError(problems.no_single_model(str(folder), models, names))
    return candidates[0]


def _models(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_file():
            if path.suffix == ".json":
                is_model = _PIR.match(head_of(path)) is not None
            else:
                is_model = path.suffix == ".pdmodel" or path.name == "__model__"
            if is_model:
                yield path


def _model_of(parameters: Path) -> str | None:
    """Return the model beside a parameter file: that of the same name, or the only one."""
    others = (path for path in sorted(parameters.parent.iterdir()) if path != parameters)
    models = list(_models(others))
    for model in models:
        if model.stem == parameters.stem:
            return str(model)
    return str(models[0]) if len(models) == 1 else None


def find_parameters(
    model: str | PathLike[str],
    names: Sequence[str] = (),
    *,
    endings: Sequence[str] = (".pdiparams",),
) -> Path | None:
    """Return the combined parameter file of a saved model, else the folder with one file for each.

    `model` is a file or its folder. The combined file has one of the `endings` or an old name.
    `names` are those of the Variables, for separate files; without them only a combined file is
    looked for. None if there is neither.
    """
    path = Path(model)
    folder, models = path.parent, [path]
    if path.is_dir():
        saved = sorted([*path.glob("*.json"), *path.glob("*.pdmodel")])
        folder, models = path, [path / _PREFERRED, *saved, path / "__model__"]
    candidates = [model.with_suffix(ending) for model in models for ending in endings]
    candidates += [models[0].with_name(name) for name in _OLD_NAMES]
    combined = next((file for file in candidates if file.is_file()), None)
    if combined is None and names and all(file_of_variable(folder, name) for name in names):
        return folder
    return combined


def combined_path(model: Path) -> Path:
    """Return the path of the combined file of a saved model, whether or not it exists."""
    is_old = model.name == "__model__"
    return model.with_name("__params__") if is_old else model.with_suffix(".pdiparams")


def file_of_variable(folder: Path, name: str) -> Path | None:
    """Return the file of a Variable in a folder with one for each, None if it has none.

    Names come from the model; those that lead out of the folder are rejected.
    """
    path = folder / name
    try:
        is_inside = path.is_file() and folder.resolve() in path.resolve().parents
    except OSError:  # The name is too long for a file.
        return None
    return path if is_inside else None
