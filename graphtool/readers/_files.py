"""Find the model that a path means, tell what its file is, and read it; nothing is executed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path

from graphtool.diagnostics import ReadError
from graphtool.graph import Graph
from graphtool.paths import saved_model
from graphtool.readers import problems
from graphtool.readers._json import read_json
from graphtool.readers._kinds import check_mode
from graphtool.readers._protobuf import read_protobuf
from graphtool.staging import finish_exchanges

__all__ = ["read_file"]

_PREFERRED = "inference.json"
_SNIFFED = 512
_OBJECT = re.compile(rb'\s*\{\s*["}]')
_PIR = re.compile(rb'\s*\{\s*"base_code"\s*:\s*\{[^{}]*"magic"\s*:\s*"pir"')
# A ModelProto starts with its `ir_version` (field 1, a varint); then come fields 2 to 8.
_ONNX = re.compile(rb"\x08[\x01-\x1f][\x12\x1a\x22\x28\x32\x3a\x42]")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
# A saved tensor starts with a version (uint32) and a level of detail (uint64), both 0.
_TENSORS = bytes(12)
_PARAMETER_ENDINGS = frozenset({".pdiparams", ".pdparams", ".pdopt", ".safetensors"})


class _Kind(Enum):
    JSON = "json"
    PROTOBUF = "protobuf"
    PARAMETERS = "parameters"
    ONNX = "onnx"


def read_file(path: Path) -> Graph:
    """Read a saved program: a `.json`, `.pdmodel` or `__model__` file, or a folder that holds one.

    `path` may lack the ending of the first two, as Paddle's own prefixes do.

    An export that was killed while it moved its files is ended first.

    Raises ReadError with a GT0xx Diagnostic where there is no such program or its file is damaged.
    """
    try:
        finish_exchanges(path if path.is_dir() else path.parent)
        path = Path(saved_model(str(path)))
        _check_path(path)
        return _read(_find(path) if path.is_dir() else path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReadError(problems.unreadable(error.filename or str(path), reason)) from None
    except RecursionError:
        raise ReadError(problems.nested_too_deeply(str(path))) from None


def _check_path(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: NUL in the name
        raise ReadError(problems.no_such_path(str(path), _near(path))) from None
    check_mode(path, mode)


def _near(path: Path) -> list[str]:
    """List names in the path's folder that resemble it, most like it first."""
    try:
        names = sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return []
    near = difflib.get_close_matches(path.name, names, n=3)
    return [str(path.with_name(name)) for name in near]


def _find(folder: Path) -> Path:
    if (folder / _PREFERRED).is_file():
        return folder / _PREFERRED
    entries = sorted(folder.iterdir())
    candidates = list(_candidates(entries))
    if not candidates:
        names = [entry.name for entry in entries]
        raise ReadError(problems.folder_without_model(str(folder), names))
    if len(candidates) > 1:
        raise ReadError(problems.several_models(str(folder), [str(path) for path in candidates]))
    return candidates[0]


def _candidates(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_file() and _is_model(path):
            yield path


def _is_model(path: Path) -> bool:
    if path.suffix == ".json":
        return _PIR.match(_head(path)) is not None
    return path.suffix == ".pdmodel" or path.name == "__model__"


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_SNIFFED)


def _read(path: Path) -> Graph:
    with path.open("rb") as file:
        head = file.read(_SNIFFED)
        read = _reader(path, head)
        # A pipe can be read once only, so this goes on where the head ends.
        data = head + file.read()
    return read(str(path), data)


def _reader(path: Path, head: bytes) -> Callable[[str, bytes], Graph]:
    if not head:
        raise ReadError(problems.empty_file(str(path)))
    kind = _kind(path, head)
    if kind is _Kind.ONNX:
        raise ReadError(problems.onnx_file(str(path)))
    if kind is _Kind.PARAMETERS:
        raise ReadError(problems.parameters_file(str(path), _beside(path)))
    return read_json if kind is _Kind.JSON else read_protobuf


def _kind(path: Path, head: bytes) -> _Kind:
    if path.suffix == ".onnx" or _ONNX.match(head):
        return _Kind.ONNX
    if path.suffix in _PARAMETER_ENDINGS or head.startswith(_TENSORS) or _PICKLE.match(head):
        return _Kind.PARAMETERS
    if path.suffix == ".json" or _OBJECT.match(head):
        return _Kind.JSON
    return _Kind.PROTOBUF


def _beside(parameters: Path) -> str | None:
    """Return the model that a parameter file belongs to: of the same name, or the only other."""
    others = (path for path in sorted(parameters.parent.iterdir()) if path != parameters)
    models = list(_candidates(others))
    named = [model for model in models if model.stem == parameters.stem]
    found = named or models
    return str(found[0]) if len(found) == 1 or named else None
