"""Load the parameters of a program from a file: all that it needs, or nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, GraphtoolError, Report, UsageError
from graphtool.graph import NOT_KEPT, Graph, Value, keeps_shape
from graphtool.readers._legacy import variable_of
from graphtool.readers._paddle import load_paddle, one_at_a_time
from graphtool.readers.layer_weights import held_names, is_part, note_loaded
from graphtool.readers.layers import Network
from graphtool.readers.tensors import Tensor, set_empty, set_tensors
from graphtool.readers.weights import Weights, persistables, read_weights
from graphtool.text import bounded
from graphtool.training import problems
from graphtool.training._forward import training_operators
from graphtool.training._subject import Subject, check_scope

__all__ = ["Keys", "Loaded", "load_parameters", "variables_of"]

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
        return f"{bounded(self.path)}: {counts}, {len(self.unexpected)} unexpected"


@one_at_a_time()
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
    and nothing else. Names of a Layer (`conv1.weight`) go to Variables as the Network knows that
    the program came from; of a Program that was never one, through `layer`, the Layer or Network
    that it was built from, else through the table that the file holds, checked by shape. Parameters
    of merged teachers and of adapters may be missing. Run the startup program before: it sets what
    it initialises anew.

    Raises GraphtoolError with all problems and nothing set: GT500 to GT508, GT551; GT505
    not with `allow_missing`. Raises ReadError: GT001, GT010, GT017, GT240. Raises UsageError:
    GT248.
    """
    if not isinstance(cast("object", folder_or_file), str | PathLike):
        call = 'gt.load_parameters(program, "student.pdparams")'
        raise UsageError(bad_argument("folder_or_file", folder_or_file, "a path", call))
    subject = Subject.of(program)
    check_scope(scope)
    graph = subject.graph
    known = Keys.of(subject, layer)
    variables: Mapping[str, str] = {} if known is None else known.variables
    weights = read_weights(Path(fspath(folder_or_file)), graph)
    names = _names(weights, graph, variables)
    keys = {name: key for key, name in variables.items()}
    loaded = _judged(weights, graph, names, _wanted(subject), keys, allow_missing=allow_missing)
    if loaded.report.errors:
        raise GraphtoolError(*loaded.report)
    set_tensors({name: weights.tensors[key] for key, name in names.items()}, scope)
    set_empty({value.name: value for value in graph.parameters}, scope)
    home = load_paddle().static.global_scope() if scope is None else scope
    for network in (subject.network, layer):
        if isinstance(network, Network) and network.program is subject.program:
            note_loaded(network, home)
    return loaded


def _wanted(subject: Subject) -> Collection[str]:
    """Return the parameters that must not be missing, in program order.

    Those that the forward pass reads: not the learning rate, nor the buffer that an RNN keeps its
    weights in. Of a merged Program they are the student's, not the teacher's nor an adapter's. What
    a Layer keeps out of its state dict is in no file.
    """
    graph = subject.graph
    training = training_operators(graph)
    read = {
        variable_of(name, graph)
        for operator in graph.operators.values()
        if operator.name not in training
        for name in operator.operands
        if name is not None
    }
    if subject.merges:
        read &= persistables(subject.own.graph).keys()
    network = subject.network
    if network is not None and network.layer is not None:
        read -= held_names(network.layer) - set(network.parameters.values())
    return [name for name in _kept(value.name for value in graph.parameters) if name in read]


def _kept(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not name.endswith(NOT_KEPT))


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """What a Layer calls the Variables of a Program; None where only the names are known."""

    layer: _Paddle | None
    variables: Mapping[str, str]

    @classmethod
    def of(cls, subject: Subject, layer: _Paddle | None) -> Keys | None:
        """Return the keys of the Network that a Program came from, else those of a given Layer.

        Names of Variables count on from Layer to Layer, and the same ones may mean others: only of
        parts of the Network's own Layer do they tell. None where neither is there.

        Raises UsageError: GT248 for what is neither a Network nor a Layer.
        """
        own = subject.network
        source = own if layer is None else layer
        if source is None:
            return None
        given = cls.held_by(source)
        if own is None or (own.layer is not None and is_part(given.layer, own.layer)):
            return given
        return cls.held_by(own)

    @classmethod
    def held_by(cls, source: _Paddle) -> Keys:
        """Return the keys of a Layer, or of that of a Network.

        Raises UsageError: GT248 for what is neither.
        """
        variables = variables_of(source)
        return cls(source.layer if isinstance(source, Network) else source, variables)


def variables_of(source: _Paddle) -> Mapping[str, str]:
    """Map structured names to those of Variables.

    Raises UsageError: GT248 for what is neither a Network nor a Layer.
    """
    if isinstance(source, Network):
        found = source.parameters
    elif isinstance(source, load_paddle().nn.Layer):
        found = {key: value.name for key, value in source.state_dict().items()}
    else:
        wanted = "a Layer or a Network"
        raise UsageError(bad_argument("layer", source, wanted, "layer=network"))
    kept = frozenset(_kept(found.values()))
    return {key: name for key, name in found.items() if name in kept}


def _names(weights: Weights, graph: Graph, variables: Mapping[str, str]) -> dict[str, str]:
    """Map keys of the file to Variables of the program: by layer, by name, by the file's table.

    The table has names that another Layer counted, as long as nothing better is known.
    """
    targets = persistables(graph)
    table: Mapping[str, str] = {} if variables else weights.table
    names: dict[str, str] = {}
    for key in weights.tensors:
        meant = (variables.get(key), key, table.get(key))
        name = next((name for name in meant if name in targets), None)
        if name is not None:
            names[key] = name
    return names


def _judged(
    weights: Weights,
    graph: Graph,
    names: Mapping[str, str],
    wanted: Collection[str],
    keys: Mapping[str, str],
    *,
    allow_missing: bool,
) -> Loaded:
    targets = persistables(graph)
    given = frozenset(names.values())
    misfits = {
        name: key for key, name in names.items() if not _fits(targets[name], weights.tensors[key])
    }
    found = Loaded(
        path=weights.path,
        loaded=tuple(name for name in targets if name in given),
        missing=tuple(name for name in wanted if name not in given),
        unexpected=tuple(key for key in weights.tensors if key not in names),
        misshapen=tuple(misfits),
        report=Report(),
    )
    said = _said(found, weights, targets, misfits, keys, allow_missing=allow_missing)
    return replace(found, report=Report.of((*said, *_contradictions(weights, names))))


def _contradictions(weights: Weights, names: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Find Variables that two keys mean, as an RNN's and its cell's do, and that differ there."""
    first: dict[str, str] = {}
    for key, name in names.items():
        one, other = (weights.tensors[each] for each in (first.setdefault(name, key), key))
        if one.dtype != other.dtype or one.array.tobytes() != other.array.tobytes():
            yield problems.contradicting_keys(weights.path, name, (first[name], key))


def _said(
    found: Loaded,
    weights: Weights,
    targets: Mapping[str, Value],
    misfits: Mapping[str, str],
    keys: Mapping[str, str],
    *,
    allow_missing: bool,
) -> Iterator[Diagnostic]:
    structured = [key for key in found.unexpected if _is_structured(key)]
    known = [keys[name] for name in found.missing if name in keys]
    # All else that could be said follows from these.
    if not found.loaded and structured and not keys:
        yield problems.structured_names(found.path, structured)
        return
    if not found.loaded and found.missing:
        yield problems.missing_parameters(
            found.path, found.missing, allowed=False, keys=known, others=found.unexpected
        )
        return
    if misfits:
        name, *others = misfits
        key = misfits[name]
        tensor = weights.tensors[key]
        yield problems.misshapen_parameter(
            found.path,
            name,
            wanted=(targets[name].shape, targets[name].dtype),
            found=(tensor.shape, tensor.dtype),
            key=key,
            also=others,
            alien=bool(found.missing) or 2 * len(misfits) > len(found.loaded),
        )
    if found.missing:
        yield problems.missing_parameters(
            found.path, found.missing, allowed=allow_missing, keys=known
        )
    if found.unexpected:
        yield problems.unexpected_parameters(found.path, found.unexpected)


def _fits(value: Value, tensor: Tensor) -> bool:
    # Arrays of Paddle's pickles are uint16 where the tensor was bfloat16.
    same = value.dtype in (None, tensor.dtype, tensor.array.dtype.name)
    return same and keeps_shape(value, tensor.shape)


def _is_structured(key: str) -> bool:
    """Tell `conv1.weight` and `0._mean` from names that Paddle counts: `conv2d_0.w_0`."""
    last = key.rpartition(".")[2]
    return "." in key and not last[:1].isdigit() and last[1:2] != "_"
