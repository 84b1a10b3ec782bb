"""Export the student without the teacher, as an inference model and a state dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, count
from os import PathLike
from pathlib import Path

import msgspec

from graphtool.arguments import path_of
from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.backend.generators import restore_counters_on
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
from graphtool.checks.parameters import unlike_layer
from graphtool.checks.rules import format_shape
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    ReadError,
    Report,
    Severity,
    Where,
    counted,
    listed,
    rule,
    warn,
)
from graphtool.dtypes import FLOAT_DTYPES
from graphtool.files import atomic_replace, exists_already
from graphtool.graph import DROPOUT_STATE_DTYPE, Graph, is_dropout_state, shapes_agree
from graphtool.matching.fingerprint import fingerprints
from graphtool.merging.folder import check_not_truncated, require_initialised
from graphtool.readers.weights import persistable_values
from graphtool.sources.layers import evaluation_network
from graphtool.structure import analyse
from graphtool.text import escaped_bounded, printed_name
from graphtool.training.evaluation import Evaluation, make_evaluation
from graphtool.training.parameters import StateDictKeys
from graphtool.training.program_info import ProgramInfo, scope_of, training_operators

__all__ = ["Exported", "export_student"]


_STATE_DICT = ".pdparams"
_SUFFIXES = (".json", ".pdmodel", ".pdiparams", _STATE_DICT)
# Records the checksums of the exported files, so that the next export recognises them.
_RECORD = ".graphtool"
# The name of an export whose path is a folder.
_DEFAULT_NAME = "student"
_LISTED = 6


@rule("GT631", replaces=("GT635",))
def outputs_guessed(graph: Graph, names: Sequence[str], *, is_clear: bool) -> Diagnostic:
    """The Program does not name its outputs, so they were inferred from its structure.

    They are what each loss predicts from, or else the logits of each head, the deepest first. If
    there are several, some may be no prediction, such as an RNN's last state: name those that you
    want. If none are found, name them too. A student that `gt.merge` got as a Network knows its
    outputs.
    """
    if not names:
        return Diagnostic(
            message="the student's outputs are not known",
            where=(Where(role="student", program=graph.source),),
            help="gt.export_student(merged, path, fetch=['relu_4'])",
        )
    return Diagnostic(
        message=f"the outputs were inferred from the structure: {listed(names, _LISTED)}",
        severity=Severity.NOTE if is_clear and len(names) == 1 else Severity.WARNING,
        where=tuple(
            Where(program=graph.source, value=name, shape=graph.values[name].shape)
            for name in names[:_LISTED]
        ),
        help=f"gt.export_student(merged, path, fetch={list(names[:1])})",
    )


@rule("GT632")
def reads_what_is_not_the_students(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """An output needs parameters or feeds that came with the merge or after it.

    A teacher's, or an adapter's: an export holds the student alone. Fetch what the student itself
    computes.
    """
    return Diagnostic(
        message=f"the outputs need what is not the student's: {listed(names, _LISTED)}",
        where=tuple(Where(role="merged", value=name) for name in names[:_LISTED]),
        notes=(f"the student is `{graph.source}`, as it was before the merge",),
        help="gt.export_student(merged, path)",
    )


@rule("GT634")
def layer_does_not_fit(layer: str, misfits: Sequence[str], help: str) -> Diagnostic:
    """The Layer's parameters are not those of the student, or not all of them; nothing is written.

    A student that is a Network of `gt.from_layer` knows its keys, which are written without
    `layer`; another Layer has to have the same ones, of the same shapes. Of a Program, give the
    Layer that it was built from: another object of the same class counts its names on
    (`conv2d_53.w_0`). Without `layer` the keys are the names of Variables then.
    """
    message = f"`{layer}` does not fit the student: {'; '.join(misfits)}"
    return Diagnostic(message=message, help=help)


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
        lines = [f"{escaped_bounded(str(one))}: {one.stat().st_size} bytes" for one in self.files]
        ends = (", ".join(map(printed_name, names)) for names in (self.feeds, self.fetches))
        return "\n".join([*lines, " -> ".join(ends)])


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
    requested = path_of(path, 'gt.export_student(merged, "out/student")')
    if requested.suffix in _SUFFIXES:
        requested = requested.with_suffix("")
    target, path_diagnostics = _available_path(requested, force=force)
    targets = _files(target)
    with ExitStack() as stack:
        with raise_paddle_errors_as(GraphtoolError, "gt.export_student"):
            info = ProgramInfo.of(student)
            evaluation, output_diagnostics = _evaluation(info, fetch)
            state = _state_dict_variables(info, evaluation.live.graph, layer)
            source, scope_diagnostics = _parameter_scope(
                info, evaluation.live.graph, [*state.values()], scope, stack
            )
        names = [file.name for file in targets]
        folder = stack.enter_context(atomic_replace(target, target.parent, names))
        with raise_paddle_errors_as(GraphtoolError, "gt.export_student"):
            _write(evaluation, state, folder / target.name, source)
        for file in folder.iterdir():
            check_not_truncated(file)
        checksums = {file.name: _checksum(file) for file in sorted(folder.iterdir())}
        record = msgspec.json.format(msgspec.json.encode(checksums)) + b"\n"
        Path(folder, targets[-1].name).write_bytes(record)
    report = Report.of(
        (*path_diagnostics, *output_diagnostics, *evaluation.report, *scope_diagnostics)
    )
    for diagnostic in report:
        if diagnostic.severity is Severity.WARNING:
            warn(diagnostic)
    return Exported(
        files=tuple(file for file in targets if file.exists() and file.suffix != _RECORD),
        feeds=evaluation.feeds,
        fetches=evaluation.names,
        report=report,
    )


def _available_path(requested: Path, *, force: bool) -> tuple[Path, tuple[Diagnostic, ...]]:
    """Return the requested path, or a numbered one: an error would lose the training."""
    found: list[Diagnostic] = []
    if requested.is_dir() or not requested.name:
        folder, requested = requested, requested / _DEFAULT_NAME
        message = f"`{folder}` is a folder: written into it, as `{requested}`"
        fix = f"gt.export_student(merged, {str(requested)!r})"
        found.append(exists_already(message, fix, Severity.WARNING))
    in_the_way = _conflicts(requested, force=force)
    numbered = (requested.with_name(f"{requested.name}-{number}") for number in count(2))
    target = next(one for one in chain([requested], numbered) if not _conflicts(one, force=force))
    if in_the_way:
        foreign = f"{listed(in_the_way)} {'is' if len(in_the_way) == 1 else 'are'}"
        message = f"{foreign} not of an earlier export: the student was written as `{target}`"
        fix = "gt.export_student(merged, path, force=True)"
        found.append(exists_already(message, fix, Severity.WARNING))
    return target, tuple(found)


def _files(target: Path) -> list[Path]:
    """Return all files that an export may write, the record last."""
    return [target.with_name(target.name + suffix) for suffix in (*_SUFFIXES, _RECORD)]


def _conflicts(target: Path, *, force: bool) -> list[str]:
    """List files that must not be replaced: not exported by graphtool, or modified since."""
    *files, record = _files(target)
    checksums: Mapping[str, str] = {}
    with suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        checksums = msgspec.json.decode(record.read_bytes(), type=dict[str, str])
    others = [file for file in files if file.exists() and not _is_exported(file, checksums)]
    others += [record] if record.exists() and not checksums else []
    return [str(file) for file in others if file.is_dir() or not force]


def _is_exported(file: Path, checksums: Mapping[str, str]) -> bool:
    with suppress(OSError):
        return checksums.get(file.name) == _checksum(file)
    return False


def _checksum(file: Path) -> str:
    return blake2b(file.read_bytes(), digest_size=16).hexdigest()


def _evaluation(
    info: ProgramInfo, fetch: Sequence[Paddle | str] | None
) -> tuple[Evaluation, tuple[Diagnostic, ...]]:
    """Return the student in test mode; a diagnostic if its outputs are inferred."""
    student = info.student.graph
    outputs, diagnostics = _outputs(student) if fetch is None else (fetch, ())
    evaluation = _eval_build(info) if fetch is None else None
    evaluation = evaluation or make_evaluation(info, outputs)
    graph = evaluation.live.graph
    known = {*persistable_names(student), *student.feeds}
    others = [name for name in (*persistable_names(graph), *graph.feeds) if name not in known]
    if others:
        raise GraphtoolError(reads_what_is_not_the_students(student, others))
    return evaluation, diagnostics


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
    heads, names = analyse(graph).heads, list[str]()
    for head in heads:
        value = graph.values[head.output]
        # Probabilities or scores, not a loss or a scalar metric.
        is_prediction = (
            head.prediction == head.output
            and value.dtype in FLOAT_DTYPES
            and len(value.shape or ()) > 1
        )
        name = head.output if is_prediction else head.logits
        names += [name] if graph.values[name].shape else []
    is_clear = all(head.is_clear for head in heads)
    found = outputs_guessed(graph, names, is_clear=is_clear)
    if not names:
        raise GraphtoolError(found)
    return names, (found,)


def _state_dict_variables(
    info: ProgramInfo, exported: Graph, layer: Paddle | None
) -> Mapping[str, str]:
    """Map the keys of the state dict to Variables."""
    student, exported_names = info.student.graph, persistable_names(exported)
    known = StateDictKeys.of(info, layer)
    if known is None:
        names = exported_names if training_operators(student) else persistable_names(student)
        return {name: name for name in names}
    given = known if layer is None else StateDictKeys.held_by(layer)
    if misfits := list(_misfits(given, known, student, exported_names)):
        name = type(given.layer).__name__
        option = "" if info.network is not None else ", layer=network"
        fix = f"gt.export_student(merged, path{option})"
        raise GraphtoolError(layer_does_not_fit(name, misfits, fix))
    return {key: known.variables[key] for key in given.variables}


def _misfits(
    given: StateDictKeys, known: StateDictKeys, student: Graph, exported: Sequence[str]
) -> Iterator[str]:
    """Yield how a Layer differs from the student: keys, shapes, ties, parameters without a key.

    `known` maps keys to the student's Variables, and may be `given` itself. `exported` names the
    persistables of the exported model.
    """
    values = persistable_values(student)
    shared = {key: name for key, name in known.variables.items() if key in given.variables}
    strangers = [
        name if given.layer is known.layer else key
        for key, name in given.variables.items()
        if shared.get(key) not in values
    ]
    if strangers:
        yield f"the student has no {listed(strangers, _LISTED)}"
    state: Mapping[str, Paddle] = given.layer.state_dict() if given.layer is not None else {}
    shapes = {
        key: (tuple(state[key].shape) if state else values[name].shape, values[name].shape)
        for key, name in shared.items()
        if name in values
    }
    misshapen = [key for key, (shape, wanted) in shapes.items() if not shapes_agree(shape, wanted)]
    if misshapen:
        key, more = misshapen[0], f", and {len(misshapen) - 1} more" * (len(misshapen) > 1)
        shape, wanted = map(format_shape, shapes[key])
        yield f"`{key}` is {shape}, the student's `{shared[key]}` {wanted}{more}"
    first_keys: dict[str, str] = {}
    ties = ((first_keys.setdefault(given.variables[key], key), key) for key in shared)
    tied = next((pair for pair in ties if shared[pair[0]] != shared[pair[1]]), None)
    if tied:
        yield f"`{tied[0]}` and `{tied[1]}` are one parameter, and two of the student"
    # Non-persistable buffers are in no state dict, as the Layer's author intended.
    held = frozenset(exported) if known.layer is None else layer_tensor_names(known.layer)
    covered = held - set(known.variables.values()) | set(shared.values())
    if keyless := sum(name not in covered for name in exported):
        yield f"{keyless} of its {counted(len(exported), 'tensor')} have no key"


def _parameter_scope(
    info: ProgramInfo,
    graph: Graph,
    saved: Sequence[str],
    scope: Paddle | None,
    stack: ExitStack,
) -> tuple[Paddle, tuple[Diagnostic, ...]]:
    """Return the Scope to export from, with diagnostics; `stack` closes it if it is temporary."""
    is_merged = scope is None and info.merges
    source = info.merges[0].scope if is_merged else scope_of(scope)
    names = list(dict.fromkeys((*persistable_names(graph), *saved)))
    held = initialised_tensors(source, names)
    # An RNN without dropout has an empty one.
    dropout_states = [
        name
        for name in names
        if name not in held and name in graph.values and is_dropout_state(graph.values[name])
    ]
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
    fix = "executor.run(startup)"
    if layer is not None:
        fix = 'gt.load_parameters(merged, "student.pdparams")'
        fix = fix if scope is None else "gt.export_student(merged, path)"
    needed = [name for name in names if name not in dropout_states]
    require_initialised(source, needed, fix, "student")
    unlike = len(differing_tensors(layer, source)) if prefers_layer else 0
    differing = (
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
    return source, differing if unlike else ()


def _write(evaluation: Evaluation, state: Mapping[str, str], prefix: Path, scope: Paddle) -> None:
    paddle, live = load_paddle(), evaluation.live
    with ExitStack() as stack:
        stack.enter_context(static_mode(live.kind))
        stack.enter_context(paddle.static.scope_guard(scope))
        # Paddle counts names for the fetches, which must not shift the user's.
        restore_counters_on(live.program, stack)
        paddle.static.save_inference_model(
            str(prefix),
            [live.value(name) for name in evaluation.feeds],
            list(evaluation.fetches),
            paddle.static.Executor(),
            program=live.program,
        )
    # The same file as `paddle.save(layer.state_dict(), file)` writes.
    saved = dict[str, Paddle]()
    tensors = copy_from_scope(scope, state.values())
    with in_mode(static=False):
        for (key, name), tensor in zip(state.items(), tensors, strict=True):
            saved[key] = paddle.to_tensor(tensor.array, place=paddle.CPUPlace())
            saved[key].name = name
        paddle.save(saved, str(prefix.with_name(prefix.name + _STATE_DICT)))
