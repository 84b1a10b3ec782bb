"""Read parameter files as mappings from names to tensors, without executing anything in them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

from graphtool.diagnostics import GraphtoolError, ReadError
from graphtool.graph import Graph, Origin, ProgramKind, Value, variable_of
from graphtool.paths import is_empty_folder
from graphtool.readers import problems
from graphtool.readers.files import (
    Format,
    check_not_special,
    file_of_variable,
    find_parameters,
    format_of,
    head_of,
    read_errors_reported,
    read_file,
)
from graphtool.readers.pickles import not_a_state_dict, unpickled
from graphtool.readers.tensor_files import Tensor, read_tensors

__all__ = ["SUFFIXES", "Weights", "persistable_values", "read_weights"]

# The content of a pickle has no static type.
_Object: TypeAlias = Any

_NAME_TABLE = "StructuredToParameterName@@"
# The arrays that `paddle.save` of protocol 2 and 3 split into slices of less than a GiB.
_SLICE_TABLE = "UnpackBigParamInfor@@"
SUFFIXES = (".pdiparams", ".pdparams")
_COMBINED = ("__params__", "params")
_MODELS = (".json", ".pdmodel")


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The tensors of a file or folder by name; `table` maps structured names to Variables."""

    path: str
    tensors: Mapping[str, Tensor]
    table: Mapping[str, str] = field(default_factory=dict[str, str])


def persistable_values(graph: Graph) -> dict[str, Value]:
    """Return the persistable Values of a program by Variable name, in program order."""
    values: dict[str, Value] = {}
    for value in graph.values.values():
        if not value.persistable or value.shape is None:
            continue
        if graph.kind is ProgramKind.LEGACY:
            values.setdefault(variable_of(value.name, graph), value)
        elif value.origin in (Origin.PARAMETER, Origin.VARIABLE):
            values[value.name] = value
    return values


def read_weights(path: Path, graph: Graph) -> Weights:
    """Read a parameter file, a folder with one, or a folder with one file for each Variable.

    A file without names gets those of the model beside it, else those of `graph`. As in Paddle's
    loaders, the path may be that of the model, or lack its suffix.

    Raises ReadError: GT001, GT010, GT240. Raises GraphtoolError: GT237, GT240, GT501,
    GT502.
    """
    with read_errors_reported(path):
        return _read(_resolve(path), graph)


def _resolve(path: Path) -> Path:
    """Return the parameter file or folder of a path without suffix, or of a model."""
    check_not_special(path)
    if not path.exists() or is_empty_folder(str(path)):
        for candidate in [path.with_name(path.name + ending) for ending in SUFFIXES]:
            if candidate.is_file():
                return candidate
        if not path.exists():
            raise ReadError(problems.no_such_path(str(path)))
    if not path.is_file() or (path.suffix not in _MODELS and path.name != "__model__"):
        return path
    beside = find_parameters(path, endings=SUFFIXES)
    if beside is not None:
        return beside
    if path.name == "__model__":
        return path.parent
    raise GraphtoolError(problems.damaged_weights(str(path), "there are none beside the model"))


def _read(path: Path, graph: Graph) -> Weights:
    if path.is_dir():
        files = [
            file
            for file in sorted(path.iterdir())
            if file.is_file() and (file.suffix in SUFFIXES or file.name in _COMBINED)
        ]
        if len(files) > 1:
            names = [str(file) for file in files]
            raise GraphtoolError(problems.several_parameter_files(str(path), names))
        return _read(files[0], graph) if files else _read_separate(path, graph)
    head = head_of(path)
    file_format = format_of(path, head)
    if file_format is Format.TENSORS or (path.suffix == ".pdiparams" and not head):
        return _read_combined(path, graph)
    if file_format is Format.PICKLE:
        return _read_pickle(path)
    raise GraphtoolError(problems.damaged_weights(str(path), "neither tensors nor a pickle"))


def _read_separate(folder: Path, graph: Graph) -> Weights:
    """Read a folder with one file for each Variable."""
    files = {
        name: file for name in persistable_values(graph) if (file := file_of_variable(folder, name))
    }
    if not files:
        reason = "no file in it has the name of a parameter of the program"
        raise GraphtoolError(problems.damaged_weights(str(folder), reason))
    for file in sorted(folder.iterdir()):
        is_regular = file.is_file() and not file.is_symlink() and file not in files.values()
        if is_regular and format_of(file, head_of(file)) is Format.TENSORS:
            files[file.name] = file
    tensors = {name: tensor for name, file in files.items() for tensor in read_tensors(file)[:1]}
    return Weights(path=str(folder), tensors=tensors)


def _read_combined(path: Path, graph: Graph) -> Weights:
    tensors = read_tensors(path)
    shapes = [tensor.shape for tensor in tensors]
    models: list[Graph] = []
    # Those beside the file, of the same name first; models that cannot be read are skipped.
    for model in [*map(path.with_suffix, _MODELS), path.with_name("__model__")]:
        if model.is_file():
            with suppress(ReadError):
                models.append(read_file(model))
    models.append(graph)
    for model in models:
        expected = persistable_values(model)
        names = sorted(expected)
        if shapes == [expected[name].shape for name in names]:
            return Weights(path=str(path), tensors=dict(zip(names, tensors, strict=True)))
    count = len(persistable_values(models[0]))
    problem = problems.wrong_tensor_count(str(path), len(tensors), count, models[0].source)
    raise GraphtoolError(problem)


def _read_pickle(path: Path) -> Weights:
    data = path.read_bytes()
    content = dict(unpickled(str(path), data))
    left = len(data)
    table = _entries(content.pop(_NAME_TABLE, {}))
    for name, entry in _entries(content.pop(_SLICE_TABLE, {})).items():
        content[name] = joined = _joined(content, entry, left)
        left -= 0 if joined is None else joined.nbytes
        if joined is None:
            reason = f"the slices of `{name}` do not make an array of its shape"
            raise GraphtoolError(not_a_state_dict(str(path), reason))
    # A checkpoint may also hold plain numbers (`epoch`), which are not parameters.
    tensors = {name: Tensor.of(value) for name, value in content.items() if _is_array(value)}
    if not tensors:
        dicts = [name for name, value in content.items() if isinstance(value, dict)]
        nested = f"; `{dicts[0]}` in it is a dict" if dicts else ""
        raise GraphtoolError(not_a_state_dict(str(path), f"it holds no array{nested}"))
    names = {key: name for key, name in table.items() if isinstance(name, str)}
    return Weights(path=str(path), tensors=tensors, table=names)


def _entries(table: _Object) -> dict[str, _Object]:
    return cast("dict[str, _Object]", table) if isinstance(table, dict) else {}


def _joined(content: dict[str, _Object], entry: _Object, limit: int) -> _Object:
    """Remove the slices of a large array, and join them as `paddle.load` does, if they fit.

    They have up to `limit` bytes: slices may be views of the same.
    """
    import numpy as np

    with suppress(KeyError, TypeError, ValueError):
        # Hashing another name may never end, as that of a nested tuple.
        slices = [content.pop(name) for name in entry["slices"] if isinstance(name, str)]
        is_whole = all(map(_is_array, slices)) and len({one.dtype for one in slices}) == 1
        if is_whole and sum(one.nbytes for one in slices) <= limit:
            joined: _Object = np.concatenate(slices)
            return joined.reshape(entry["OriginShape"])
    return None


def _is_array(value: _Object) -> bool:
    import numpy as np

    return isinstance(value, np.ndarray)
