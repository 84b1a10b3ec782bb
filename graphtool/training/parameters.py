"""Load the parameters of a program from a file, all or none."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike

from graphtool.arguments import bad_argument, path_of
from graphtool.backend.layer_weights import is_sublayer, layer_tensor_names, mark_loaded
from graphtool.backend.paddle import Paddle, load_paddle, program_lock
from graphtool.backend.tensors import set_dropout_states, set_tensors
from graphtool.checks.rules import format_shape
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    Report,
    Severity,
    UsageError,
    Where,
    counted,
    listed,
    rule,
)
from graphtool.graph import NON_PERSISTABLE_SUFFIX, Value, fits_shape, variable_of
from graphtool.paths import ls_command
from graphtool.readers.problems import misfit_weights, weights_not_found
from graphtool.readers.tensor_files import Tensor
from graphtool.readers.weights import Weights, persistable_values, read_weights
from graphtool.sources.layers import Network
from graphtool.text import escaped_bounded
from graphtool.training.program_info import ProgramInfo, scope_of, training_operators

__all__ = ["Loaded", "StateDictKeys", "load_parameters"]


@rule("GT506")
def unexpected_parameters(path: str, names: Sequence[str]) -> Diagnostic:
    """The file holds parameters that the program does not have; they are ignored."""
    return Diagnostic(
        message=f"ignored, as the program has no such parameters: {listed(names)}",
        severity=Severity.WARNING,
        where=(Where(program=path),),
    )


@rule("GT508")
def structured_names(path: str, names: Sequence[str]) -> Diagnostic:
    """The file names parameters as a Layer does (`conv1.weight`), the program by Variables.

    Pass the Layer that the program was built from, or the Network that `gt.from_layer` returned: it
    maps one to the other.
    """
    return Diagnostic(
        message=f"the file names parameters as a Layer does: {listed(names)}",
        where=(Where(program=path),),
        help="gt.load_parameters(program, path, layer=network)",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The Variables that were set, those missing from the file, and unexpected keys of the file."""

    path: str
    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    report: Report

    def __str__(self) -> str:
        counts = f"{len(self.loaded)} loaded, {len(self.missing)} missing"
        return f"{escaped_bounded(self.path)}: {counts}, {len(self.unexpected)} unexpected"


@program_lock()
def load_parameters(
    program: Paddle,
    folder_or_file: str | PathLike[str],
    layer: Paddle | None = None,
    *,
    scope: Paddle | None = None,
    allow_missing: bool = False,
) -> Loaded:
    """Set all parameters of a program in a Scope from a file, or none.

    `program` is a Program of either kind, or holds one (a Network, a Merged). Formats are
    `.pdiparams` and `__params__`, which take their names from the model beside them, or else from
    the program; folders with one file per Variable; and `.pdparams`, pickles that may hold arrays
    and nothing else. Structured names (`conv1.weight`) are mapped to Variables by the Network that
    the program came from; for a Program that was never one, by `layer`, the Layer or Network that
    it was built from; otherwise by the table in the file, checked by shape. Parameters of merged
    teachers and of adapters may be missing. Run the startup program first: it would overwrite what
    was loaded.

    Raises GraphtoolError with all problems and nothing set: GT237, GT240, GT250, GT501, GT502,
    GT508; with `allow_missing`, missing parameters are a warning. Raises ReadError: GT001,
    GT010, GT240. Raises UsageError: GT248.
    """
    call = 'gt.load_parameters(program, "student.pdparams")'
    path = path_of(folder_or_file, call, "folder_or_file")
    info, scope = ProgramInfo.of(program), scope_of(scope)
    graph, targets = info.graph, persistable_values(info.graph)
    known = StateDictKeys.of(info, layer)
    keys: Mapping[str, str] = {} if known is None else known.variables
    weights = read_weights(path, graph)
    # The names in the file's table were counted with another Layer: it is the last resort.
    table: Mapping[str, str] = {} if keys else weights.table
    names: dict[str, str] = {}
    for key in weights.tensors:
        candidates = (keys.get(key), key, table.get(key))
        name = next((name for name in candidates if name in targets), None)
        if name is not None:
            names[key] = name
    given = frozenset(names.values())
    misshapen = {
        name: key for key, name in names.items() if not _fits(targets[name], weights.tensors[key])
    }
    loaded = Loaded(
        path=weights.path,
        loaded=tuple(name for name in targets if name in given),
        missing=tuple(name for name in _required_names(info) if name not in given),
        unexpected=tuple(key for key in weights.tensors if key not in names),
        misshapen=tuple(misshapen),
        report=Report(),
    )
    found = [
        *_diagnostics(loaded, weights, misshapen, targets, keys, allow_missing=allow_missing),
        *_contradictions(weights, names),
    ]
    loaded = replace(loaded, report=Report.of(found))
    if loaded.report.errors:
        raise GraphtoolError(*loaded.report)
    set_tensors({name: weights.tensors[key] for key, name in names.items()}, scope)
    set_dropout_states({value.name: value for value in graph.parameters}, scope)
    for network in (info.network, layer):
        if isinstance(network, Network) and network.program is info.program:
            mark_loaded(network, scope)
    return loaded


def _required_names(info: ProgramInfo) -> Collection[str]:
    """Return the parameters that must be in the file, in program order.

    These are the ones the forward pass reads, which excludes the learning rate, and the buffer that
    holds an RNN's weights. Of a merged Program they are the student's, without teachers and
    adapters. What a Layer keeps out of its state dict is in no file.
    """
    graph = info.graph
    training = training_operators(graph)
    read = {
        variable_of(name, graph)
        for operator in graph.operators.values()
        if operator.name not in training
        for name in operator.operands
        if name is not None
    }
    if info.merges:
        read &= persistable_values(info.student.graph).keys()
    network = info.network
    if network is not None and network.layer is not None:
        read -= layer_tensor_names(network.layer) - set(network.parameters.values())
    names = (value.name for value in graph.parameters)
    return [name for name in names if name in read and not name.endswith(NON_PERSISTABLE_SUFFIX)]


@dataclass(frozen=True, slots=True, eq=False)
class StateDictKeys:
    """The keys of a Layer's state dict, mapped to Variables.

    `layer` is None for a Network without its Layer.
    """

    layer: Paddle | None
    variables: Mapping[str, str]

    @classmethod
    def of(cls, info: ProgramInfo, layer: Paddle | None) -> StateDictKeys | None:
        """Return the keys of the Network that a Program came from, else those of a given Layer.

        Paddle counts names of Variables from Layer to Layer, so those of another Layer may mean
        other Variables: `layer` only decides if it is part of the Network's own Layer. None without
        a Network and a Layer.

        Raises UsageError: GT248 for anything else than a Network or a Layer.
        """
        network = info.network
        source = network if layer is None else layer
        if source is None:
            return None
        given = cls.held_by(source)
        if network is None or (
            network.layer is not None and is_sublayer(given.layer, network.layer)
        ):
            return given
        return cls.held_by(network)

    @classmethod
    def held_by(cls, source: Paddle) -> StateDictKeys:
        """Return the keys of a Layer, or of a Network's Layer."""
        if isinstance(source, Network):
            layer, found = source.layer, source.parameters
        elif isinstance(source, load_paddle().nn.Layer):
            layer = source
            found = {key: value.name for key, value in source.state_dict().items()}
        else:
            wanted = "a Layer or a Network"
            raise UsageError(bad_argument("layer", source, wanted, "layer=network"))
        saved = {k: name for k, name in found.items() if not name.endswith(NON_PERSISTABLE_SUFFIX)}
        return cls(layer, saved)


def _contradictions(weights: Weights, names: Mapping[str, str]) -> Iterator[Diagnostic]:
    """Find keys that differ though they mean one Variable, such as an RNN's and its cell's."""
    first_keys: dict[str, str] = {}
    for key, name in names.items():
        first_key = first_keys.setdefault(name, key)
        first, other = weights.tensors[first_key], weights.tensors[key]
        if first.dtype != other.dtype or first.array.tobytes() != other.array.tobytes():
            yield misfit_weights(
                f"`{first_key}` and `{key}` are both for `{name}` and differ",
                [Where(program=weights.path, value=each) for each in (first_key, key)],
                notes=["if the file's table of names is wrong, pass `layer`"],
            )


def _diagnostics(
    loaded: Loaded,
    weights: Weights,
    misshapen: Mapping[str, str],
    targets: Mapping[str, Value],
    keys: Mapping[str, str],
    *,
    allow_missing: bool,
) -> Iterator[Diagnostic]:
    """Compare a file with what the program needs; `misshapen` maps Variables to its keys."""
    # Structured (`conv1.weight`, `0._mean`), not counted: `fc_0.w_0`.
    lasts = {key: key.rpartition(".")[2] for key in loaded.unexpected if "." in key}
    structured = [k for k, last in lasts.items() if not last[:1].isdigit() and last[1:2] != "_"]
    by_name = {name: key for key, name in keys.items()}
    missing_keys = [by_name[name] for name in loaded.missing if name in by_name]
    in_layer = (f"in the Layer: {listed(missing_keys)}",) if missing_keys else ()
    place = (Where(program=loaded.path),)
    # The first two explain everything else that could be reported.
    if not loaded.loaded and structured and not keys:
        yield structured_names(loaded.path, structured)
        return
    if not loaded.loaded and loaded.missing:
        known = listed(loaded.unexpected)
        in_file = (f"in the file, as of another network: {known}",) if known else ()
        yield weights_not_found(
            f"the file has none of the program's {counted(len(loaded.missing), 'parameter')}",
            place,
            notes=(*in_layer, *in_file),
            help=ls_command(loaded.path),
        )
        return
    if misshapen:
        name, *others = misshapen
        key = misshapen[name]
        value, tensor = targets[name], weights.tensors[key]
        notes = [f"also {listed(others)}"] if others else []
        if loaded.missing or 2 * len(misshapen) > len(loaded.loaded):
            notes.append("the file looks like another network's")
        yield misfit_weights(
            f"`{name}` is {format_shape(value.shape)} {value.dtype or '?'} in the program and "
            f"{format_shape(tensor.shape)} {tensor.dtype} in the file",
            (
                Where(role="program", value=name, shape=value.shape),
                Where(role="file", program=loaded.path, value=key, shape=tensor.shape),
            ),
            notes=notes,
            count=len(misshapen),
        )
    if loaded.missing:
        count = counted(len(loaded.missing), "parameter")
        yield weights_not_found(
            f"{count} not in the file: {listed(loaded.missing)}",
            place,
            severity=Severity.WARNING if allow_missing else Severity.ERROR,
            notes=in_layer,
            help=None if allow_missing else "gt.load_parameters(program, path, allow_missing=True)",
        )
    if loaded.unexpected:
        yield unexpected_parameters(loaded.path, loaded.unexpected)


def _fits(value: Value, tensor: Tensor) -> bool:
    # Paddle's pickles store bfloat16 tensors as uint16 arrays.
    same = value.dtype in (None, tensor.dtype, tensor.array.dtype.name)
    return same and fits_shape(value, tensor.shape)
