"""Export the student without the teacher, as an inference model and a state dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from os import PathLike, fspath
from pathlib import Path
from typing import cast

import msgspec

from graphtool.arguments import bad_argument
from graphtool.backend.counters import restore_counters_on
from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.layer_weights import (
    copy_layer_tensors,
    differing_tensors,
    layer_tensor_names,
    weights_layer,
)
from graphtool.backend.paddle import Paddle, in_mode, load_paddle, static_mode
from graphtool.backend.tensors import (
    copy_from_scope,
    empty_tensor,
    initialised_tensors,
    private_scope,
    share_tensors,
)
from graphtool.checks import persistable_names
from graphtool.checks.parameters import uninitialised_parameters, unlike_layer
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    ReadError,
    Report,
    Severity,
    UsageError,
    Where,
    counted,
    listed,
    warn,
)
from graphtool.dtypes import FLOAT_DTYPES
from graphtool.files import atomic_replace, exists_already
from graphtool.graph import DROPOUT_STATE_DTYPE, Graph, Shape, Value, is_dropout_state, shapes_agree
from graphtool.matching.fingerprint import fingerprints
from graphtool.merging.folder import check_not_truncated
from graphtool.readers.weights import persistable_values
from graphtool.sources.layers import evaluation_network
from graphtool.structure import Head, analyse
from graphtool.text import escaped_bounded, printed_name
from graphtool.training import export_problems as problems
from graphtool.training._dataflow import training_operators
from graphtool.training._program_info import ProgramInfo, check_scope
from graphtool.training.evaluation import Evaluation, make_evaluation
from graphtool.training.parameters import StateDictKeys

__all__ = ["Exported", "export_student"]


_STATE_DICT = ".pdparams"
_SUFFIXES = (".json", ".pdmodel", ".pdiparams", _STATE_DICT)
# Records the checksums of the exported files, so that the next export recognises them.
_RECORD = ".graphtool"
# The name of an export whose path is a folder.
_DEFAULT_NAME = "student"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The files written, the model's feeds and fetches, and a report.

    The checksums of the files are recorded beside them, in `path.graphtool`.
    """

    files: tuple[Path, ...]
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    report: Report

    def __str__(self) -> str:
        sizes = [
            f"{escaped_bounded(str(file))}: {file.stat().st_size} bytes" for file in self.files
        ]
        return "\n".join(
            [
                *sizes,
                " -> ".join(
                    ", ".join(map(printed_name, names)) for names in (self.feeds, self.fetches)
                ),
            ]
        )


def export_student(
    student: Paddle,
    path: str | PathLike[str],
    *,
    fetch: Sequence[Paddle | str] | None = None,
    layer: Paddle | None = None,
    scope: Paddle | None = None,
    force: bool = False,
) -> Exported:
    """Export the student before or after `minimize`: no teacher, no adapter, no loss.

    `student` is a Merged or its Program, or a Network or Program that was never merged. The files
    are those of a student trained without a teacher, byte for byte if the parameters are equal:
    `path.json` (`path.pdmodel` of a legacy Program) and `path.pdiparams`, an inference model in
    test mode for `paddle.static.load_inference_model`, built again in eval mode if the Layer's
    `forward` reads `self.training`; and `path.pdparams`, all parameters and running statistics, to
    continue training. Its keys are those of the Layer (`conv1.weight`) if
    the student was merged as a Network or `layer` is given, for
    `layer.set_state_dict(paddle.load("path.pdparams"))`; otherwise the names of Variables. A
    Network knows which key is which parameter, so `layer` may be any Layer with the same keys and
    shapes; for any other Program it has to be the Layer that the Program was built from.

    `fetch` has Values or names. Without it the outputs of the Network are fetched; otherwise they
    are inferred from the structure, which GT631 notes, as a warning if there are several or they
    are unclear. The feeds are those that the fetches need. Parameters come from `scope`; by default
    from the Scope of the merge, or from the global Scope without a merge. If the global Scope holds
    none of the parameters of a Network whose Layer was made in dynamic mode, they come from that
    Layer. GT247 warns then, and if the two differ. Either all files are written or none.

    An earlier export of the same name is replaced, unless its files have been modified. Other files
    in the way are kept, and the export succeeds under another name, so that no training is lost:
    see `files`, and the warning GT604. If `path` is a folder, the files are written into it
    (GT604 too). With `force`, files that graphtool did not write are replaced too.

    Raises UsageError: GT248. Raises GraphtoolError: GT253 for what can't be fetched, GT632
    for an output that needs the teacher or an adapter, GT235 for uninitialised parameters, GT634
    for a Layer that does not fit, GT631 if the outputs cannot be inferred, GT258 where Paddle
    fails, GT601. Raises ReadError for a name: GT101, GT102, GT031.
    """
    _check_path(path)
    check_scope(scope)
    requested = Path(fspath(path))
    if requested.suffix in _SUFFIXES:
        requested = requested.with_suffix("")
    target, path_diagnostics = _available_path(requested, force=force)
    targets = _files(target)
    with ExitStack() as stack:
        with raise_paddle_errors_as(GraphtoolError, "gt.export_student"):
            plan = _plan(ProgramInfo.of(student), fetch, layer)
            source, scope_diagnostics = _parameter_scope(plan, scope, stack)
        names = [file.name for file in targets]
        folder = stack.enter_context(atomic_replace(target, target.parent, names))
        with raise_paddle_errors_as(GraphtoolError, "gt.export_student"):
            _write(plan, folder / target.name, source)
        for file in folder.iterdir():
            check_not_truncated(file)
        _record_checksums(folder / target.name)
    report = Report.of(
        (*path_diagnostics, *plan.diagnostics, *plan.evaluation.report, *scope_diagnostics)
    )
    for diagnostic in report:
        if diagnostic.severity is Severity.WARNING:
            warn(diagnostic)
    return Exported(
        files=tuple(file for file in targets if file.exists() and file.suffix != _RECORD),
        feeds=plan.evaluation.feeds,
        fetches=plan.evaluation.names,
        report=report,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _ExportPlan:
    """What to export. `state` maps keys of the state dict to Variables."""

    info: ProgramInfo
    evaluation: Evaluation
    state: Mapping[str, str]
    diagnostics: tuple[Diagnostic, ...]


def _check_path(path: object) -> None:
    if not (isinstance(path, str | PathLike) and fspath(cast("str | PathLike[str]", path))):
        wanted, call = "the path of the files", 'gt.export_student(merged, "out/student")'
        raise UsageError(bad_argument("path", cast("object", path), wanted, call))


def _available_path(requested: Path, *, force: bool) -> tuple[Path, tuple[Diagnostic, ...]]:
    """Return the requested path, or a numbered one if other files are in the way.

    An error would lose the training that the export concludes.
    """
    found: list[Diagnostic] = []
    if requested.is_dir() or not requested.name:
        folder, requested = requested, requested / _DEFAULT_NAME
        message = f"`{folder}` is a folder: written into it, as `{requested}`"
        fix = f"gt.export_student(merged, {str(requested)!r})"
        found.append(exists_already(message, fix, Severity.WARNING))
    target, names = requested, (f"{requested.name}-{number}" for number in count(2))
    in_the_way = conflicts = list(_conflicts(requested, force=force))
    while conflicts:
        target = requested.with_name(next(names))
        conflicts = list(_conflicts(target, force=force))
    if in_the_way:
        foreign = f"{listed(in_the_way)} {'is' if len(in_the_way) == 1 else 'are'}"
        message = f"{foreign} not of an earlier export: the student was written as `{target}`"
        fix = "gt.export_student(merged, path, force=True)"
        found.append(exists_already(message, fix, Severity.WARNING))
    return target, tuple(found)


def _files(target: Path) -> list[Path]:
    """Return all files that an export may write, the record last."""
    return [target.with_name(target.name + suffix) for suffix in (*_SUFFIXES, _RECORD)]


def _conflicts(target: Path, *, force: bool) -> Iterator[str]:
    """Yield files that must not be replaced: not exported by graphtool, or modified since."""
    *files, record = _files(target)
    recorded = _recorded_checksums(record)
    for file in files:
        is_other = file.exists() and recorded.get(file.name) != _checksum(file)
        if file.is_dir() or (is_other and not force):
            yield str(file)
    if record.is_dir() or (record.exists() and not recorded and not force):
        yield str(record)


def _recorded_checksums(record: Path) -> Mapping[str, str]:
    """Return the checksums of an earlier export by file name; empty if there is no valid record."""
    try:
        return msgspec.json.decode(record.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _checksum(file: Path) -> str:
    """Return the checksum of a file, or an empty string if it cannot be read."""
    checksum = blake2b(digest_size=16)
    try:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                checksum.update(block)
    except OSError:
        return ""
    return checksum.hexdigest()


def _record_checksums(target: Path) -> None:
    *files, record = _files(target)
    checksums = {file.name: _checksum(file) for file in files if file.exists()}
    record.write_bytes(msgspec.json.format(msgspec.json.encode(checksums)) + b"\n")


def _plan(
    info: ProgramInfo,
    fetch: Sequence[Paddle | str] | None,
    layer: Paddle | None,
) -> _ExportPlan:
    outputs, diagnostics = _outputs(info.student.graph) if fetch is None else (fetch, ())
    evaluation = _eval_build(info) if fetch is None else None
    evaluation = evaluation or make_evaluation(info, outputs)
    graph, student = evaluation.live.graph, info.student.graph
    student_names = {*persistable_names(student), *student.feeds}
    others = [
        name for name in (*persistable_names(graph), *graph.feeds) if name not in student_names
    ]
    if others:
        raise GraphtoolError(problems.reads_what_is_not_the_students(student, others))
    return _ExportPlan(
        info=info,
        evaluation=evaluation,
        state=_state_dict_variables(info, graph, layer),
        diagnostics=diagnostics,
    )


def _eval_build(info: ProgramInfo) -> Evaluation | None:
    """Build the student's Layer again in eval mode, if its `forward` reads `self.training`.

    None if the Program in test mode computes the same, or if the Layer cannot be built in eval
    mode or has other parameters there.
    """
    network = info.network
    if network is None or network.layer is None:
        return None
    try:
        with static_mode(info.live.kind):
            evaluated = evaluation_network(network)
    except ReadError:
        return None
    before, after = (
        [fingerprints(one.graph)[name] for name in one.fetches] for one in (network, evaluated)
    )
    known = persistable_names(network.graph)
    if before == after or not set(persistable_names(evaluated.graph)).issubset(known):
        return None
    return make_evaluation(ProgramInfo.of(evaluated), evaluated.fetches)


def _outputs(graph: Graph) -> tuple[Sequence[str], tuple[Diagnostic, ...]]:
    """Return the outputs of a network, the deepest first; a diagnostic if they are inferred."""
    if graph.fetches:
        return graph.fetches, ()
    heads = analyse(graph).heads
    names = [head.output if _is_prediction(graph, head) else head.logits for head in heads]
    names = [name for name in names if graph.values[name].shape]
    if not names:
        raise GraphtoolError(problems.outputs_guessed(graph, (), is_clear=False))
    is_clear = all(head.is_clear for head in heads)
    return names, (problems.outputs_guessed(graph, names, is_clear=is_clear),)


def _is_prediction(graph: Graph, head: Head) -> bool:
    """Return whether a head ends in probabilities or scores, not in a loss or a scalar metric."""
    value = graph.values[head.output]
    is_loss = head.prediction != head.output
    return not is_loss and value.dtype in FLOAT_DTYPES and len(value.shape or ()) > 1


def _state_dict_variables(
    info: ProgramInfo, exported: Graph, layer: Paddle | None
) -> Mapping[str, str]:
    """Map the keys of the state dict to Variables.

    Raises GraphtoolError: GT634 if the Layer does not fit.
    """
    student, exported_names = info.student.graph, persistable_names(exported)
    known = StateDictKeys.of(info, layer)
    if known is None:
        names = exported_names if training_operators(student) else persistable_names(student)
        return {name: name for name in names}
    given = known if layer is None else StateDictKeys.held_by(layer)
    misfits = _misfits(given, known, student, exported_names)
    if any(misfits):
        name = type(given.layer).__name__
        raise GraphtoolError(
            problems.layer_does_not_fit(name, misfits, of_network=info.network is not None)
        )
    return {key: known.variables[key] for key in given.variables}


def _misfits(
    given: StateDictKeys, known: StateDictKeys, student: Graph, exported: Sequence[str]
) -> problems.Misfits:
    """Compare a Layer with the student: unknown keys, other shapes, ties, parameters without a key.

    `known` maps keys to the student's Variables, and may be `given` itself. `exported` names the
    persistables of the exported model.
    """
    values = persistable_values(student)
    shapes = _shapes(given, values)
    shared = {key: name for key, name in known.variables.items() if key in shapes}
    matched = {key: values[name] for key, name in shared.items() if name in values}
    # Non-persistable buffers are in no state dict, as the Layer's author intended.
    held = frozenset(exported) if known.layer is None else layer_tensor_names(known.layer)
    covered = held - set(known.variables.values()) | set(shared.values())
    return problems.Misfits(
        strangers=[
            name if given.layer is known.layer else key
            for key, name in given.variables.items()
            if key not in matched
        ],
        misshapen=[
            (key, shapes[key], value)
            for key, value in matched.items()
            if not shapes_agree(shapes[key], value.shape)
        ],
        tied=list(_tied_keys(given.variables, shared)),
        keyless=sum(name not in covered for name in exported),
        total=len(exported),
    )


def _shapes(given: StateDictKeys, values: Mapping[str, Value]) -> dict[str, Shape]:
    """Return the shapes of a Layer's parameters by key, the student's shapes without a Layer."""
    if given.layer is None:
        return {key: values[name].shape or () for key, name in given.variables.items()}
    state = given.layer.state_dict()
    return {key: tuple(state[key].shape) for key in given.variables}


def _tied_keys(given: Mapping[str, str], known: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of keys that are one parameter of the given Layer, but two of the student."""
    first_keys: dict[str, str] = {}
    for key in known:
        first_key = first_keys.setdefault(given[key], key)
        if known[key] != known[first_key]:
            yield first_key, key


def _parameter_scope(
    plan: _ExportPlan, scope: Paddle | None, stack: ExitStack
) -> tuple[Paddle, tuple[Diagnostic, ...]]:
    """Return the Scope to export from, with diagnostics; `stack` closes it if it is temporary.

    Raises GraphtoolError: GT235 for uninitialised parameters.
    """
    info, graph = plan.info, plan.evaluation.live.graph
    source = scope
    if source is None and info.merges:
        source = info.merges[0].scopes.student
    elif source is None:
        source = load_paddle().static.global_scope()
    names = list(dict.fromkeys((*persistable_names(graph), *plan.state.values())))
    held = initialised_tensors(source, names)
    empty = [name for name in names if name not in held]
    dropout_states = [name for name in empty if _is_dropout_state(graph, name)]
    uninitialised = [name for name in empty if name not in dropout_states]
    layer = weights_layer(info.network)
    prefers_layer = layer is not None and scope is None and not info.merges
    if prefers_layer and not held:
        temporary = stack.enter_context(private_scope())
        copy_layer_tensors(layer, temporary)
        return temporary, (
            unlike_layer(
                f"exported {counted(len(names), 'parameter')} of `{type(layer).__name__}`: the "
                "global Scope has none",
                severity=Severity.WARNING,
                help="gt.export_student(network, path, scope=scope)",
            ),
        )
    if uninitialised:
        fix = "executor.run(startup)"
        if layer is not None and scope is not None:
            fix = "gt.export_student(merged, path)"
        elif layer is not None:
            fix = 'gt.load_parameters(merged, "student.pdparams")'
        raise GraphtoolError(
            uninitialised_parameters(
                f"{len(uninitialised)} of {len(names)} parameters are uninitialised: "
                f"{listed(uninitialised)}",
                [Where(role="student", value=name) for name in uninitialised[:6]],
                help=fix,
            )
        )
    unlike = len(differing_tensors(layer, source)) if prefers_layer else 0
    found: tuple[Diagnostic, ...] = ()
    if unlike:
        found = (
            unlike_layer(
                f"exported the Scope's parameters, and {unlike} of them differ from those of "
                f"`{type(layer).__name__}`",
                severity=Severity.WARNING,
                help="with paddle.static.scope_guard(paddle.static.Scope()): "
                "gt.export_student(network, path)",
            ),
        )
    if dropout_states:
        # Paddle saves no uninitialised Variable, and the user's Scope must not change.
        empty_state = empty_tensor(next(iter(held.values())), DROPOUT_STATE_DTYPE)
        source = stack.enter_context(private_scope())
        share_tensors(held | dict.fromkeys(dropout_states, empty_state), source)
    return source, found


def _is_dropout_state(graph: Graph, name: str) -> bool:
    """Return whether a Variable is an RNN's dropout state, which is empty without dropout."""
    value = graph.values.get(name)
    return value is not None and is_dropout_state(value)


def _write(plan: _ExportPlan, prefix: Path, scope: Paddle) -> None:
    paddle, live = load_paddle(), plan.evaluation.live
    with ExitStack() as stack:
        stack.enter_context(static_mode(live.kind))
        stack.enter_context(paddle.static.scope_guard(scope))
        # Paddle counts names for the fetches, which must not shift the user's.
        restore_counters_on(live.program, stack)
        paddle.static.save_inference_model(
            str(prefix),
            [live.value(name) for name in plan.evaluation.feeds],
            list(plan.evaluation.fetches),
            paddle.static.Executor(),
            program=live.program,
        )
    _save_state_dict(plan.state, prefix.with_name(prefix.name + _STATE_DICT), scope)


def _save_state_dict(variables: Mapping[str, str], file: Path, scope: Paddle) -> None:
    """Write the same file as `paddle.save(layer.state_dict(), file)`."""
    paddle, state = load_paddle(), dict[str, Paddle]()
    tensors = copy_from_scope(scope, variables.values())
    with in_mode(static=False):
        for (key, name), tensor in zip(variables.items(), tensors, strict=True):
            state[key] = paddle.to_tensor(tensor.array, place=paddle.CPUPlace())
            state[key].name = name
        paddle.save(state, str(file))
