"""The student alone, without any trace of the teacher: an inference model and a state dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias, cast

import msgspec

from graphtool.arguments import bad_argument
from graphtool.checks import persistable_names
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    ReadError,
    Report,
    Severity,
    UsageError,
    warn,
)
from graphtool.files import replacing
from graphtool.graph import (
    DTYPE_OF_DROPOUT_STATE,
    FLOATS,
    Graph,
    Shape,
    Value,
    is_dropout_state,
    shapes_agree,
)
from graphtool.matching.fingerprint import fingerprints
from graphtool.merging._failures import paddle_failures
from graphtool.merging._whole import check_whole
from graphtool.readers._paddle import in_mode, load_paddle, static_mode
from graphtool.readers.counters import keep_counters
from graphtool.readers.layer_weights import dynamic_layer, held_names, load_layer, unlike_layer
from graphtool.readers.layers import in_evaluation
from graphtool.readers.tensors import (
    held_tensors,
    private_scope,
    scope_tensors,
    share_tensors,
    without_elements,
)
from graphtool.readers.weights import persistables
from graphtool.staging import tidy
from graphtool.structure import Head, analyse
from graphtool.text import bounded, named
from graphtool.training import export_problems as problems
from graphtool.training._forward import training_operators
from graphtool.training._subject import Subject, check_scope
from graphtool.training.evaluation import Evaluation, evaluation_of
from graphtool.training.parameters import Keys

__all__ = ["Exported", "export_student"]

# Programs, Scopes, Layers and Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

_STATE = ".pdparams"
_ENDINGS = (".json", ".pdmodel", ".pdiparams", _STATE)
# Has the checksums of what was exported, by which it is known again.
_RECORD = ".graphtool"
# What an export is called that was to go into a folder.
_STUDENT = "student"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The model's files that were written, its feeds and outputs, and what is to be said.

    A record of their checksums, `path.graphtool`, lies beside the files.
    """

    files: tuple[Path, ...]
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    report: Report

    def __str__(self) -> str:
        sizes = [f"{bounded(str(file))}: {file.stat().st_size} bytes" for file in self.files]
        return "\n".join(
            [
                *sizes,
                " -> ".join(", ".join(map(named, names)) for names in (self.feeds, self.fetches)),
            ]
        )


def export_student(
    student: _Paddle,
    path: str | PathLike[str],
    *,
    fetch: Sequence[_Paddle | str] | None = None,
    layer: _Paddle | None = None,
    scope: _Paddle | None = None,
    force: bool = False,
) -> Exported:
    """Write the student alone, before or after `minimize`: no teacher, no adapter, no loss.

    `student` is a Merged or its Program; a Network or a Program that was never merged will do. The
    files are those that a student trained without a teacher gives, byte for byte where the
    parameters are: `path.json` (`path.pdmodel` of a legacy Program) and `path.pdiparams`, an
    inference model in test mode for `paddle.static.load_inference_model`, of a Layer whose
    `forward` asks whether it trains as it evaluates; and `path.pdparams`, all
    its parameters and running statistics, to go on with. Its keys are those of the Layer
    (`conv1.weight`) where the student was merged as a Network or `layer` is given, for
    `layer.set_state_dict(paddle.load("path.pdparams"))`; else the names of Variables. Which key is
    which parameter is known of a Network: any Layer with keys and shapes like its own will do. To a
    Program that was none, `layer` has to be what it was built from.

    `fetch` has Values or names; where None, it is what the Network answers, else what is found by
    structure (GT631 says so, and warns where that is several or unclear); it is fed what that
    takes. Parameters come from the Scope of the merge, the global one if there was none, or
    `scope`. Where the global one has none of a Network whose Layer was made in dynamic mode, they
    are that Layer's; GT638 warns of that, and where it has others. All files are written or none.

    An earlier export of the same name is replaced, unless its files have changed since. What else
    is in the way stays, and a training is not lost for it: the files get another name, as `files`
    and the warning GT630 say, and lie in a folder where `path` is one (GT636). With `force`, files
    of others are replaced as well.

    Raises UsageError: GT248. Raises GraphtoolError: GT540 to GT543 for what can't be fetched, GT632
    for an output that needs the teacher or an adapter, GT633 for parameters that hold nothing,
    GT634 for another Layer, GT635 where the outputs cannot be found, GT258 where Paddle fails,
    GT601. Raises ReadError for a name: GT101, GT102, GT031.
    """
    _check_path(path)
    check_scope(scope)
    target, moved = _target(_without_ending(Path(fspath(path))), force=force)
    targets = _files(target)
    with ExitStack() as stack:
        with paddle_failures(GraphtoolError, "gt.export_student"):
            job = _planned(Subject.of(student), fetch, layer)
            held, said = _held(job, scope, stack)
        folder = stack.enter_context(replacing(target, targets))
        with paddle_failures(GraphtoolError, "gt.export_student"):
            _write(job, folder / target.name, held)
        for file in folder.iterdir():
            check_whole(file)
        _record(folder / target.name)
    report = Report.of((*moved, *job.said, *job.evaluation.report, *said))
    for found in report:
        if found.severity is Severity.WARNING:
            warn(found)
    return Exported(
        files=tuple(file for file in targets if file.exists() and file.suffix != _RECORD),
        feeds=job.feeds,
        fetches=job.fetches,
        report=report,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Job:
    """What is to be written: `state` goes from keys of the state dict to Variables."""

    subject: Subject
    evaluation: Evaluation
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    state: Mapping[str, str]
    said: tuple[Diagnostic, ...]


def _check_path(path: object) -> None:
    if not (isinstance(path, str | PathLike) and fspath(cast("str | PathLike[str]", path))):
        wanted, call = "the path of the files", 'gt.export_student(merged, "out/student")'
        raise UsageError(bad_argument("path", cast("object", path), wanted, call))


def _without_ending(path: Path) -> Path:
    return path.with_suffix("") if path.suffix in _ENDINGS else path


def _target(wanted: Path, *, force: bool) -> tuple[Path, tuple[Diagnostic, ...]]:
    """Return what the files are to be called: as wanted, or otherwise where that is in use.

    An export ends a training, which an error would lose.
    """
    said: list[Diagnostic] = []
    if wanted.is_dir() or not wanted.name:
        said.append(problems.path_is_folder(str(wanted), str(wanted / _STUDENT)))
        wanted /= _STUDENT
    tidy(wanted.parent)
    target, names = wanted, (f"{wanted.name}-{number}" for number in count(2))
    in_the_way = found = list(_in_the_way(wanted, force=force))
    while found:
        target = wanted.with_name(next(names))
        found = list(_in_the_way(target, force=force))
    if in_the_way:
        said.append(problems.exists_already(in_the_way, str(target)))
    return target, tuple(said)


def _files(target: Path) -> list[Path]:
    """Return all files that an export may write, its record last."""
    return [target.with_name(target.name + ending) for ending in (*_ENDINGS, _RECORD)]


def _in_the_way(target: Path, *, force: bool) -> Iterator[str]:
    """Yield files that must not be replaced: they are not as graphtool has exported them."""
    *files, record = _files(target)
    known = _recorded(record)
    for file in files:
        is_other = file.exists() and known.get(file.name) != _checksum(file)
        if file.is_dir() or (is_other and not force):
            yield str(file)
    if record.is_dir() or (record.exists() and not known and not force):
        yield str(record)


def _recorded(record: Path) -> Mapping[str, str]:
    """Return the checksums of an earlier export by the names of its files, none where it has none.

    What cannot be read was not written by graphtool.
    """
    try:
        return msgspec.json.decode(record.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _checksum(file: Path) -> str:
    """Return a file's checksum, nothing where it cannot be read."""
    found = blake2b(digest_size=16)
    try:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                found.update(block)
    except OSError:
        return ""
    return found.hexdigest()


def _record(target: Path) -> None:
    """Write down which files were exported, for the next export to know them again."""
    *files, record = _files(target)
    sums = {file.name: _checksum(file) for file in files if file.exists()}
    record.write_bytes(msgspec.json.format(msgspec.json.encode(sums)) + b"\n")


def _planned(
    subject: Subject,
    fetch: Sequence[_Paddle | str] | None,
    layer: _Paddle | None,
) -> _Job:
    given, said = _outputs(subject.own.graph) if fetch is None else (fetch, ())
    evaluation = _evaluated(subject) if fetch is None else None
    evaluation = evaluation or evaluation_of(subject, given)
    _check_own(subject, evaluation.live.graph)
    return _Job(
        subject=subject,
        evaluation=evaluation,
        feeds=evaluation.feeds,
        fetches=evaluation.names,
        state=_state(subject, evaluation.live.graph, layer),
        said=said,
    )


def _evaluated(subject: Subject) -> Evaluation | None:
    """Build the student's Layer anew where its `forward` asks in Python whether it trains.

    None where the Program in test mode computes the same, and where the Layer cannot be built or
    reads other parameters then.
    """
    network = subject.network
    if network is None or network.layer is None:
        return None
    try:
        with static_mode(subject.live.kind):
            evaluating = in_evaluation(network)
    except ReadError:
        return None
    new, old = (
        [fingerprints(graph)[name] for name in ends]
        for graph, ends in (
            (evaluating.graph, evaluating.fetches),
            (network.graph, network.fetches),
        )
    )
    known = persistable_names(network.graph)
    if new == old or not set(persistable_names(evaluating.graph)).issubset(known):
        return None
    return evaluation_of(Subject.of(evaluating), evaluating.fetches)


def _outputs(graph: Graph) -> tuple[Sequence[str], tuple[Diagnostic, ...]]:
    """Return what a network answers, the deepest first, and a note where that was found out."""
    if graph.fetches:
        return graph.fetches, ()
    heads = analyse(graph).heads
    names = [head.output if _is_answer(graph, head) else head.logits for head in heads]
    names = [name for name in names if graph.values[name].shape]
    if not names:
        raise GraphtoolError(problems.no_answer(graph))
    is_clear = all(head.is_clear for head in heads)
    return names, (problems.outputs_guessed(graph, names, is_clear=is_clear),)


def _is_answer(graph: Graph, head: Head) -> bool:
    """Tell probabilities and scores from a loss, and from a share, which is one number."""
    value = graph.values[head.output]
    is_loss = head.answer != head.output
    return not is_loss and value.dtype in FLOATS and len(value.shape or ()) > 1


def _check_own(subject: Subject, graph: Graph) -> None:
    own = {*persistable_names(subject.own.graph), *subject.own.graph.feeds}
    others = [name for name in (*persistable_names(graph), *graph.feeds) if name not in own]
    if others:
        raise GraphtoolError(problems.reads_what_is_not_the_students(subject.own.graph, others))


def _state(subject: Subject, exported: Graph, layer: _Paddle | None) -> Mapping[str, str]:
    needed = persistable_names(exported)
    known = Keys.of(subject, layer)
    if known is None:
        whole = not training_operators(subject.own.graph)
        names = persistable_names(subject.own.graph) if whole else needed
        return {name: name for name in names}
    given = known if layer is None else Keys.held_by(layer)
    reasons = _misfits(given, known, subject.own.graph, needed)
    if any(reasons):
        name = type(given.layer).__name__
        raise GraphtoolError(
            problems.layer_does_not_fit(name, reasons, of_network=subject.network is not None)
        )
    return {key: known.variables[key] for key in given.variables}


def _misfits(given: Keys, known: Keys, student: Graph, needed: Sequence[str]) -> problems.Misfits:
    """Find where a Layer has other parameters than the student, of other shapes, or too few.

    `known` are the keys that decide, the Layer's own or those of the student's Network. `needed`
    has the names of the student that an export can't do without.
    """
    values = persistables(student)
    shapes = _shapes(given, values)
    fitting = {key: name for key, name in known.variables.items() if key in shapes}
    meant = {key: values[name] for key, name in fitting.items() if name in values}
    # Buffers that are not persistable are in no state dict, as who made the Layer wished.
    held = frozenset(needed) if known.layer is None else held_names(known.layer)
    own = held - set(known.variables.values()) | set(fitting.values())
    return problems.Misfits(
        strangers=[
            name if given.layer is known.layer else key
            for key, name in given.variables.items()
            if key not in meant
        ],
        misshapen=[
            (key, shapes[key], value)
            for key, value in meant.items()
            if not shapes_agree(shapes[key], value.shape)
        ],
        tied=list(_tied(given.variables, fitting)),
        keyless=sum(name not in own for name in needed),
        total=len(needed),
    )


def _shapes(given: Keys, values: Mapping[str, Value]) -> dict[str, Shape]:
    """Return the shapes of a Layer's parameters by key, the student's own where it is gone."""
    if given.layer is None:
        return {key: values[name].shape or () for key, name in given.variables.items()}
    state = given.layer.state_dict()
    return {key: tuple(state[key].shape) for key in given.variables}


def _tied(given: Mapping[str, str], variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield pairs of keys that are one parameter of a Layer, and two of the student."""
    first: dict[str, str] = {}
    for key in variables:
        other = first.setdefault(given[key], key)
        if variables[key] != variables[other]:
            yield other, key


def _held(
    job: _Job, scope: _Paddle | None, stack: ExitStack
) -> tuple[_Paddle, tuple[Diagnostic, ...]]:
    """Return the Scope that holds the parameters, and what there is to say of it."""
    subject = job.subject
    home = _scope_of(subject) if scope is None else scope
    graph = job.evaluation.live.graph
    names = list(dict.fromkeys((*persistable_names(graph), *job.state.values())))
    held = held_tensors(home, names)
    states = [name for name in names if name not in held and _is_dropout_state(graph, name)]
    empty = [name for name in names if name not in held and name not in states]
    layer = dynamic_layer(subject.network)
    alone = layer is not None and scope is None and not subject.merges
    if alone and not held:
        own = stack.enter_context(private_scope())
        load_layer(layer, own)
        return own, (problems.layer_and_scope(type(layer).__name__, len(names)),)
    if empty:
        raise GraphtoolError(
            problems.student_not_initialised(
                empty, len(names), of_layer=layer is not None, scoped=scope is not None
            )
        )
    unlike = len(unlike_layer(layer, home)) if alone else 0
    said = (problems.layer_and_scope(type(layer).__name__, len(names), unlike),) if unlike else ()
    if states:
        # Paddle saves nothing that is not initialised, and the user's Scope stays as it is.
        state = without_elements(next(iter(held.values())), DTYPE_OF_DROPOUT_STATE)
        home = stack.enter_context(private_scope())
        share_tensors(held | dict.fromkeys(states, state), home)
    return home, said


def _is_dropout_state(graph: Graph, name: str) -> bool:
    """Return whether a recurrent network keeps its dropout there: without one, nothing is held."""
    value = graph.values.get(name)
    return value is not None and is_dropout_state(value)


def _scope_of(subject: Subject) -> _Paddle:
    if subject.merges:
        return subject.merges[0].scopes.student
    return load_paddle().static.global_scope()


def _write(job: _Job, prefix: Path, scope: _Paddle) -> None:
    paddle, live = load_paddle(), job.evaluation.live
    with ExitStack() as stack:
        stack.enter_context(static_mode(live.kind))
        stack.enter_context(paddle.static.scope_guard(scope))
        # Paddle names what is fetched, which is none of the user's.
        keep_counters(live.program, stack)
        paddle.static.save_inference_model(
            str(prefix),
            [live.value(name) for name in job.feeds],
            list(job.evaluation.fetches),
            paddle.static.Executor(),
            program=live.program,
        )
    _save_state(job.state, prefix.with_name(prefix.name + _STATE), scope)


def _save_state(names: Mapping[str, str], file: Path, scope: _Paddle) -> None:
    """Write what `paddle.save(layer.state_dict(), file)` writes."""
    paddle, state = load_paddle(), dict[str, _Paddle]()
    tensors = scope_tensors(scope, names.values())
    with in_mode(static=False):
        for (key, name), tensor in zip(names.items(), tensors, strict=True):
            state[key] = paddle.to_tensor(tensor.array, place=paddle.CPUPlace())
            state[key].name = name
        paddle.save(state, str(file))
