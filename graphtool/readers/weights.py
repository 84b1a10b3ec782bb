"""Files of parameters, each as a mapping from names to tensors; nothing in them is executed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, cast

from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError
from graphtool.graph import Graph, Origin, ProgramKind, Value
from graphtool.paths import is_empty_folder
from graphtool.readers import problems as reading
from graphtool.readers import read
from graphtool.readers import weight_problems as problems
from graphtool.readers._kinds import check_kind
from graphtool.readers._legacy import variable_of
from graphtool.readers._pickle import unpickled
from graphtool.readers.parameter_files import file_of_variable, parameters_beside
from graphtool.readers.tensors import Tensor, read_tensors
from graphtool.staging import finish_exchanges

__all__ = ["ENDINGS", "Weights", "persistables", "read_weights"]

# What a pickle holds is not known before it is read.
_Object: TypeAlias = Any

_TABLE = "StructuredToParameterName@@"
# What `paddle.save` of protocol 2 and 3 cut into slices of less than a GiB.
_SLICED = "UnpackBigParamInfor@@"
ENDINGS = (".pdiparams", ".pdparams")
_COMBINED = ("__params__", "params")
_MODELS = (".json", ".pdmodel")
# A saved tensor starts with a version (uint32) and a level of detail (uint64), both 0.
_TENSORS = bytes(12)
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_NUMBERS = "biufc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The tensors of a file or folder by name, and the names of Variables for structured names."""

    path: str
    tensors: Mapping[str, Tensor]
    table: Mapping[str, str] = field(default_factory=dict[str, str])


def persistables(graph: Graph) -> dict[str, Value]:
    """Return what a program keeps between runs by the name of its Variable, in program order."""
    found: dict[str, Value] = {}
    for value in graph.values.values():
        if not value.persistable or value.shape is None:
            continue
        if graph.kind is ProgramKind.LEGACY:
            found.setdefault(variable_of(value.name, graph), value)
        elif value.origin in (Origin.PARAMETER, Origin.VARIABLE):
            found[value.name] = value
    return found


def read_weights(path: Path, graph: Graph) -> Weights:
    """Read a file of parameters, or a folder that holds one, or one file for each Variable.

    A file without names takes those of the model beside it, else those of `graph`. A path may be
    that of a model, or lack its ending, as Paddle's own loaders take it. Where a writer was killed
    while it moved its files there, that is ended first.

    Raises ReadError: GT001, GT010, GT017, GT240. Raises GraphtoolError: GT500 to GT504.
    """
    try:
        finish_exchanges(path if path.is_dir() else path.parent)
        return _read(_meant(path), graph)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ReadError(reading.unreadable(error.filename or str(path), reason)) from None


def _meant(path: Path) -> Path:
    check_kind(path)
    if not path.exists() or is_empty_folder(str(path)):
        endings = [path.with_name(path.name + ending) for ending in ENDINGS]
        for candidate in endings:
            if candidate.is_file():
                return candidate
        if not path.exists():
            raise ReadError(reading.no_such_path(str(path)))
    if path.is_file() and (path.suffix in _MODELS or path.name == "__model__"):
        found = parameters_beside(path, endings=ENDINGS)
        if found is None and path.name == "__model__":
            return path.parent
        if found is None:
            raise GraphtoolError(problems.not_parameters(str(path), "none lie beside the model"))
        return found
    return path


def _read(path: Path, graph: Graph) -> Weights:
    if path.is_dir():
        files = list(_parameter_files(path))
        if len(files) > 1:
            names = [str(file) for file in files]
            raise GraphtoolError(problems.several_parameter_files(str(path), names))
        return _read(files[0], graph) if files else _separate(path, graph)
    with path.open("rb") as file:
        head = file.read(len(_TENSORS))
    if head.startswith(_TENSORS) or (path.suffix == ".pdiparams" and not head):
        return _combined(path, graph)
    if _PICKLE.match(head):
        return _pickled(path)
    raise GraphtoolError(problems.not_parameters(str(path), "its bytes are neither kind of file"))


def _parameter_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and (path.suffix in ENDINGS or path.name in _COMBINED):
            yield path


def _separate(folder: Path, graph: Graph) -> Weights:
    tensors = {
        name: file for name in persistables(graph) if (file := file_of_variable(folder, name))
    }
    if not tensors:
        reason = "no file in it has the name of a parameter of the program"
        raise GraphtoolError(problems.not_parameters(str(folder), reason))
    others = [path for path in _tensor_files(folder) if path not in tensors.values()]
    tensors.update({str(path.relative_to(folder)): path for path in others})
    read = {name: tensor for name, path in tensors.items() for tensor in read_tensors(path)[:1]}
    return Weights(path=str(folder), tensors=read)


def _tensor_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(len(_TENSORS)) == _TENSORS:
                    yield path


def _combined(path: Path, graph: Graph) -> Weights:
    tensors = read_tensors(path)
    models = [*_beside(path), graph]
    for model in models:
        names = sorted(persistables(model))
        if _fit(tensors, model, names):
            return Weights(path=str(path), tensors=dict(zip(names, tensors, strict=True)))
    wanted = len(persistables(models[0]))
    problem = problems.other_count(str(path), len(tensors), wanted, models[0].source)
    raise GraphtoolError(problem)


def _beside(path: Path) -> Iterator[Graph]:
    """Yield the models that the parameters may have been saved with, that of the same name first.

    One that can't be read says nothing about the parameters.
    """
    named = [path.with_suffix(ending) for ending in _MODELS]
    for model in [*named, path.with_name("__model__")]:
        if model.is_file():
            try:
                yield read(model)
            except ReadError:
                continue


def _fit(tensors: Iterable[Tensor], graph: Graph, names: Iterable[str]) -> bool:
    kept = persistables(graph)
    wanted = [kept[name].shape for name in names]
    return [tensor.shape for tensor in tensors] == wanted


def _pickled(path: Path) -> Weights:
    held = dict(unpickled(str(path), path.read_bytes()))
    table = held.pop(_TABLE, {})
    _join_slices(str(path), held)
    # A checkpoint may hold plain numbers (`epoch`) beside its arrays; they are no parameters.
    tensors = {name: Tensor.of(value) for name, value in held.items() if _is_array(value)}
    if not tensors:
        raise GraphtoolError(_without_arrays(str(path), held))
    return Weights(path=str(path), tensors=tensors, table=_names(table))


def _join_slices(path: str, held: dict[str, _Object]) -> None:
    """Put the slices of each large array together, as `paddle.load` does; each is used once."""
    sliced = held.pop(_SLICED, {})
    entries = cast("dict[str, _Object]", sliced) if isinstance(sliced, dict) else {}
    for name, entry in entries.items():
        joined = _joined(held, entry)
        if joined is None:
            reason = f"the slices of `{name}` do not make an array of its shape"
            raise GraphtoolError(problems.not_a_state_dict(path, reason))
        held[name] = joined


def _joined(held: dict[str, _Object], entry: _Object) -> _Object:
    """Take slices out of what is held, and return the array; None where they make none."""
    import numpy as np

    try:
        slices = [held.pop(part) for part in entry["slices"]]
        if all(map(_is_array, slices)) and len({part.dtype for part in slices}) == 1:
            joined: _Object = np.concatenate(slices)
            return joined.reshape(entry["OriginShape"])
    except (KeyError, TypeError, ValueError):
        pass
    return None


def _without_arrays(path: str, held: Mapping[str, _Object]) -> Diagnostic:
    inner = [name for name, value in held.items() if isinstance(value, dict)]
    nested = f"; `{inner[0]}` in it is a dict of its own" if inner else ""
    return problems.not_a_state_dict(path, f"it holds no array{nested}")


def _is_array(value: _Object) -> bool:
    import numpy as np

    return type(value) is np.ndarray and value.dtype.kind in _NUMBERS


def _names(table: _Object) -> dict[str, str]:
    entries = cast("dict[_Object, _Object]", table) if isinstance(table, dict) else {}
    return {key: name for key, name in entries.items() if isinstance(name, str)}
