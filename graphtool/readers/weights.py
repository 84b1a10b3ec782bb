"""Read parameter files as mappings from names to tensors, without executing anything in them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

from graphtool.diagnostics import GraphtoolError, ReadError
from graphtool.graph import Graph, Origin, ProgramKind, Value, variable_of
from graphtool.paths import is_empty_folder
from graphtool.readers import problems as reading
from graphtool.readers import weight_problems as problems
from graphtool.readers._files import read_file
from graphtool.readers._pickle import not_a_state_dict, unpickled
from graphtool.readers._regular_file import check_not_special
from graphtool.readers.parameter_files import file_of_variable, find_parameters
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
# A saved tensor starts with a version (uint32) and a level of detail (uint64), both 0.
_TENSOR = bytes(12)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_NUMERIC_KINDS = "biufc"


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
    try:
        return _read(_resolve(path), graph)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReadError(reading.unreadable(error.filename or str(path), reason)) from None


def _resolve(path: Path) -> Path:
    """Return the parameter file or folder of a path without suffix, or of a model."""
    check_not_special(path)
    if not path.exists() or is_empty_folder(str(path)):
        for candidate in [path.with_name(path.name + ending) for ending in SUFFIXES]:
            if candidate.is_file():
                return candidate
        if not path.exists():
            raise ReadError(reading.no_such_path(str(path)))
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
        files = list(_parameter_files(path))
        if len(files) > 1:
            names = [str(file) for file in files]
            raise GraphtoolError(problems.several_parameter_files(str(path), names))
        return _read(files[0], graph) if files else _read_separate(path, graph)
    with path.open("rb") as file:
        head = file.read(len(_TENSOR))
    if head.startswith(_TENSOR) or (path.suffix == ".pdiparams" and not head):
        return _read_combined(path, graph)
    if _PICKLE.match(head):
        return _read_pickle(path)
    raise GraphtoolError(problems.damaged_weights(str(path), "neither tensors nor a pickle"))


def _parameter_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix in SUFFIXES or path.name in _COMBINED):
            yield path


def _read_separate(folder: Path, graph: Graph) -> Weights:
    """Read a folder with one file for each Variable."""
    files = {
        name: file for name in persistable_values(graph) if (file := file_of_variable(folder, name))
    }
    if not files:
        reason = "no file in it has the name of a parameter of the program"
        raise GraphtoolError(problems.damaged_weights(str(folder), reason))
    others = [file for file in _tensor_files(folder) if file not in files.values()]
    files.update({str(file.relative_to(folder)): file for file in others})
    tensors = {name: tensor for name, file in files.items() for tensor in read_tensors(file)[:1]}
    return Weights(path=str(folder), tensors=tensors)


def _tensor_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(len(_TENSOR)) == _TENSOR:
                    yield path


def _read_combined(path: Path, graph: Graph) -> Weights:
    tensors = read_tensors(path)
    shapes = [tensor.shape for tensor in tensors]
    models = [*_models_beside(path), graph]
    for model in models:
        expected = persistable_values(model)
        names = sorted(expected)
        if shapes == [expected[name].shape for name in names]:
            return Weights(path=str(path), tensors=dict(zip(names, tensors, strict=True)))
    count = len(persistable_values(models[0]))
    problem = problems.wrong_tensor_count(str(path), len(tensors), count, models[0].source)
    raise GraphtoolError(problem)


def _models_beside(path: Path) -> Iterator[Graph]:
    """Yield the models beside a parameter file, those of the same name first.

    Models that cannot be read are skipped.
    """
    named = [path.with_suffix(ending) for ending in _MODELS]
    for model in [*named, path.with_name("__model__")]:
        if model.is_file():
            try:
                yield read_file(model)
            except ReadError:
                continue


def _read_pickle(path: Path) -> Weights:
    content = dict(unpickled(str(path), path.read_bytes()))
    table = content.pop(_NAME_TABLE, {})
    _join_slices(str(path), content)
    # A checkpoint may also hold plain numbers (`epoch`), which are not parameters.
    tensors = {name: Tensor.of(value) for name, value in content.items() if _is_array(value)}
    if not tensors:
        dicts = [name for name, value in content.items() if isinstance(value, dict)]
        nested = f"; `{dicts[0]}` in it is a dict" if dicts else ""
        raise GraphtoolError(not_a_state_dict(str(path), f"it holds no array{nested}"))
    return Weights(path=str(path), tensors=tensors, table=_str_values(table))


def _join_slices(path: str, content: dict[str, _Object]) -> None:
    """Join the slices of each large array, as `paddle.load` does; each is used once."""
    table = content.pop(_SLICE_TABLE, {})
    entries = cast("dict[str, _Object]", table) if isinstance(table, dict) else {}
    for name, entry in entries.items():
        joined = _joined(content, entry)
        if joined is None:
            reason = f"the slices of `{name}` do not make an array of its shape"
            raise GraphtoolError(not_a_state_dict(path, reason))
        content[name] = joined


def _joined(content: dict[str, _Object], entry: _Object) -> _Object:
    """Remove the slices of an array and return it joined, None if they do not fit."""
    import numpy as np

    try:
        slices = [content.pop(name) for name in entry["slices"]]
        if all(map(_is_array, slices)) and len({one.dtype for one in slices}) == 1:
            joined: _Object = np.concatenate(slices)
            return joined.reshape(entry["OriginShape"])
    except (KeyError, TypeError, ValueError):
        pass
    return None


def _is_array(value: _Object) -> bool:
    import numpy as np

    return type(value) is np.ndarray and value.dtype.kind in _NUMERIC_KINDS


def _str_values(table: _Object) -> dict[str, str]:
    entries = cast("dict[_Object, _Object]", table) if isinstance(table, dict) else {}
    return {key: name for key, name in entries.items() if isinstance(name, str)}
