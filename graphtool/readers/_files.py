"""Find the model file of a path, detect its format, and read it without executing anything."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path

from graphtool.diagnostics import ReadError
from graphtool.graph import Graph
from graphtool.paths import resolve_model_prefix
from graphtool.readers import problems
from graphtool.readers._json import read_json
from graphtool.readers._protobuf import read_protobuf
from graphtool.readers._regular_file import check_mode_not_special
from graphtool.text import inspect_command, shell_command

__all__ = ["read_file"]

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


class _FileFormat(Enum):
    JSON = "json"
    PROTOBUF = "protobuf"
    PARAMETERS = "parameters"
    ONNX = "onnx"


def read_file(path: Path) -> Graph:
    """Read a saved program: a `.json`, `.pdmodel` or `__model__` file, or a folder with one.

    `path` may lack the suffix of the first two, as Paddle's own prefixes do.

    Raises ReadError with a GT0xx Diagnostic if there is no such program or its file is damaged.
    """
    try:
        path = Path(resolve_model_prefix(str(path)))
        _check_path(path)
        return _read(_model_in(path) if path.is_dir() else path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReadError(problems.unreadable(error.filename or str(path), reason)) from None
    except RecursionError:
        raise ReadError(problems.damaged_model(str(path), problems.TOO_DEEP)) from None


def _check_path(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: NUL in the name
        raise ReadError(problems.no_such_path(str(path), _similar_paths(path))) from None
    check_mode_not_special(path, mode)


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
        if path.is_file() and _is_model(path):
            yield path


def _is_model(path: Path) -> bool:
    if path.suffix == ".json":
        return _PIR.match(_head(path)) is not None
    return path.suffix == ".pdmodel" or path.name == "__model__"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_SIZE)


def _read(path: Path) -> Graph:
    with path.open("rb") as file:
        head = file.read(_HEAD_SIZE)
        read = _reader(path, head)
        # A pipe can be read only once, so continue where the head ends.
        data = head + file.read()
    return read(str(path), data)


def _reader(path: Path, head: bytes) -> Callable[[str, bytes], Graph]:
    if not head:
        raise ReadError(problems.damaged_model(str(path), "the file is empty"))
    file_format = _detect_format(path, head)
    if file_format is _FileFormat.ONNX:
        folder = f"{str(path).removesuffix('.onnx')}-paddle"
        options = "--framework=onnx", f"--model={path}", f"--save_dir={folder}"
        convert = shell_command("x2paddle", *options)
        raise ReadError(problems.not_a_program(str(path), "is an ONNX model", convert))
    if file_format is _FileFormat.PARAMETERS:
        model = _model_of(path)
        notes = () if model is None else (f"the program beside it is `{model}`",)
        inspect = inspect_command(model or "MODULE:CALLABLE")
        raise ReadError(problems.not_a_program(str(path), "holds parameters", inspect, notes))
    return read_json if file_format is _FileFormat.JSON else read_protobuf


def _detect_format(path: Path, head: bytes) -> _FileFormat:
    if path.suffix == ".onnx" or _ONNX.match(head):
        return _FileFormat.ONNX
    if path.suffix in _PARAMETER_SUFFIXES or head.startswith(_TENSOR) or _PICKLE.match(head):
        return _FileFormat.PARAMETERS
    if path.suffix == ".json" or _OBJECT.match(head):
        return _FileFormat.JSON
    return _FileFormat.PROTOBUF


def _model_of(parameters: Path) -> str | None:
    """Return the model beside a parameter file: that of the same name, or the only one."""
    others = (path for path in sorted(parameters.parent.iterdir()) if path != parameters)
    models = list(_models(others))
    for model in models:
        if model.stem == parameters.stem:
            return str(model)
    return str(models[0]) if len(models) == 1 else None
