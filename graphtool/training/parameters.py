"""Load the parameters of a program from a file: all that it needs, or nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.diagnostics import Diagnostic, GraphtoolError, Report
from graphtool.graph import Graph, Origin, Value, shapes_agree
from graphtool.merging import merged_of
from graphtool.readers.live import read_program
from graphtool.readers.tensors import set_tensors
from graphtool.readers.weights import Weights, persistables, read_weights
from graphtool.training import problems

__all__ = ["Loaded", "load_parameters"]

# Programs, Scopes and Layers are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was loaded: Variables that were set, Variables without an entry, entries left over."""

    path: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    report: Report

    def __str__(self) -> str:
        counts = f"{len(self.loaded)} loaded, {len(self.missing)} missing"
        return f"{self.path}: {counts}, {len(self.unexpected)} unexpected"


def load_parameters(
    program: _Paddle,
    folder_or_file: str | PathLike[str],
    layer: _Paddle | None = None,
    *,
    scope: _Paddle | None = None,
    allow_missing: bool = False,
) -> Loaded:
    """Set the parameters of a program in a scope from a file: every one, or nothing.

    `program` is a Program of either kind, or what holds one (a Network, a Merged). Read are
    `.pdiparams` and `__params__`, which take their names from the model beside them, else from the
    program; folders with one file for each Variable; and `.pdparams`, pickles that may hold arrays
    and nothing else. Names of a Layer (`conv1.weight`) go to Variables through `layer`, the Layer
    or Network that the program was built from, else through the table that the file holds, checked
    by shape. Parameters of merged teachers may be missing. Run the startup program before: it sets
    what it initialises anew.

    Raises GraphtoolError with all problems and nothing set: GT500 to GT508; GT505 not with
    `allow_missing`. Raises ReadError: GT001, GT010, GT240.
    """
    graph = _graph_of(program)
    weights = read_weights(Path(fspath(folder_or_file)), graph)
    assignment = _assigned(weights, graph, _variables_of(program if layer is None else layer))
    loaded = _judged(
        weights, graph, assignment, others=_teachers_in(program), allow_missing=allow_missing
    )
    if loaded.report.errors:
        raise GraphtoolError(*loaded.report)
    set_tensors({name: weights.tensors[key] for name, key in assignment.items()}, scope)
    return loaded


def _graph_of(program: _Paddle) -> Graph:
    return read_program(getattr(program, "program", program))


def _teachers_in(program: _Paddle) -> frozenset[str]:
    """Return the parameters of merged teachers, which a file of the student's does not have."""
    merged = merged_of(getattr(program, "program", program))
    teachers = merged.teachers if merged else ()
    return frozenset(new for teacher in teachers for new in teacher.names.values())


def _variables_of(layer: _Paddle) -> Mapping[str, str]:
    """Map structured names to those of Variables, for a Network or a Layer."""
    if hasattr(layer, "parameters") and not callable(layer.parameters):
        return layer.parameters
    if hasattr(layer, "state_dict") and hasattr(layer, "sublayers"):
        return {name: value.name for name, value in layer.state_dict().items()}
    return {}


def _assigned(weights: Weights, graph: Graph, variables: Mapping[str, str]) -> dict[str, str]:
    """Map Variables of the program to keys of the file: by layer, by name, by the file's table."""
    targets = persistables(graph)
    assignment: dict[str, str] = {}
    for key in weights.tensors:
        for name in (variables.get(key), key, weights.table.get(key)):
            if name in targets:
                assignment.setdefault(name, key)
                break
    return assignment


def _judged(
    weights: Weights,
    graph: Graph,
    assignment: Mapping[str, str],
    *,
    others: Collection[str],
    allow_missing: bool,
) -> Loaded:
    targets = persistables(graph)
    used = set(assignment.values())
    missing = tuple(
        name
        for name, value in targets.items()
        if value.origin is Origin.PARAMETER and name not in assignment and name not in others
    )
    found = Loaded(
        path=weights.path,
        loaded=tuple(name for name in targets if name in assignment),
        missing=missing,
        unexpected=tuple(key for key in weights.tensors if key not in used),
        misshapen=tuple(
            name for name, key in assignment.items() if not _fits(targets[name], weights, key)
        ),
        report=Report(),
    )
    said = _said(found, weights, targets, assignment, allow_missing=allow_missing)
    return replace(found, report=Report.of(said))


def _said(
    found: Loaded,
    weights: Weights,
    targets: Mapping[str, Value],
    assignment: Mapping[str, str],
    *,
    allow_missing: bool,
) -> Iterator[Diagnostic]:
    structured = [key for key in found.unexpected if _is_structured(key)]
    if structured and not assignment:
        yield problems.structured_names(found.path, structured)
    for name in found.misshapen:
        key = assignment[name]
        tensor = weights.tensors[key]
        yield problems.misshapen_parameter(
            found.path,
            name,
            wanted=(targets[name].shape, targets[name].dtype),
            found=(tensor.shape, tensor.dtype),
            key=key,
        )
    if found.missing:
        # A file that has nothing of the program's is the wrong one, whatever may be missing.
        allowed = allow_missing and bool(assignment)
        yield problems.missing_parameters(found.path, found.missing, allowed=allowed)
    if found.unexpected:
        yield problems.unexpected_parameters(found.path, found.unexpected)


def _fits(value: Value, weights: Weights, key: str) -> bool:
    tensor = weights.tensors[key]
    # Arrays of Paddle's pickles are uint16 where the tensor was bfloat16.
    same = value.dtype in (None, tensor.dtype, tensor.array.dtype.name)
    return same and shapes_agree(value.shape, tensor.shape)


def _is_structured(key: str) -> bool:
    """Tell `conv1.weight` and `0._mean` from names that Paddle counts: `conv2d_0.w_0`."""
    last = key.rpartition(".")[2]
    return "." in key and not last[:1].isdigit() and last[1:2] != "_"
