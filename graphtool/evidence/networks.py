"""Open two networks, and run the parts that some Values depend on, in test mode, pooled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.backend.errors import convert_paddle_errors, paddle_failed
from graphtool.backend.layer_weights import copy_layer_tensors, weights_layer_unless_in
from graphtool.backend.legacy import pruned_for_test, remove_operators
from graphtool.backend.live import (
    LiveProgram,
    is_live,
    open_saved,
    program_before_merges,
    program_of,
    student_scope_of,
)
from graphtool.backend.paddle import Paddle, load_paddle, program_lock, static_mode
from graphtool.backend.pir import (
    inserting_after,
    operations,
    remove_stack_pushes,
    remove_unused,
    set_test_mode,
)
from graphtool.backend.tensors import (
    as_bfloat16,
    copy_tensor,
    initialised_tensors,
    looks_untrained,
    set_tensors,
    share_tensors,
)
from graphtool.checks.networks import side_effects_of
from graphtool.diagnostics import (
    Call,
    Diagnostic,
    PairError,
    Parts,
    Severity,
    UsageError,
    Where,
    counted,
    listed,
    rule,
)
from graphtool.evidence.samples import SEED, no_evidence, refuse_any
from graphtool.graph import (
    UNKNOWN_DIM,
    Graph,
    Origin,
    ProgramKind,
    Value,
    fits_shape,
    variable_of,
)
from graphtool.ops import LEGACY_PORTS
from graphtool.paths import path_exists
from graphtool.readers.files import combined_path, find_parameters
from graphtool.readers.tensor_files import Tensor
from graphtool.readers.weights import SUFFIXES, persistable_values, read_weights
from graphtool.sources import Source, read
from graphtool.sources.builder import build
from graphtool.sources.inputs import is_callable_spec
from graphtool.sources.layers import Network
from graphtool.sources.problems import not_a_source
from graphtool.structure import analyse
from graphtool.text import path_argument, shell_command

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import Unpack

__all__ = [
    "NOT_BY_SAMPLE",
    "Opened",
    "Runner",
    "check_apart",
    "not_measured",
    "open_network",
    "random_weights",
    "runner_of",
]

_Array: TypeAlias = "np.ndarray[Any, Any]"

# Maps are pooled to a grid of means, four on a side, sequences to the means of 16 parts.
_SIDE = 4
_PARTS = 16
_SCOPES = {"teacher": "teacher_scope", "student": "scope"}
NOT_BY_SAMPLE = "its first axis is not the samples"


@rule("GT376", replaces=("GT520",))
def random_weights(message: str, **parts: Unpack[Parts]) -> Diagnostic:
    """Parameters are as their initialisers left them: such a network has learnt nothing.

    A saved model has its weights in a file beside it, a network from `module:callable` those that
    the callable loads. If all biases, scales and shifts hold one number throughout, as initialisers
    leave them and training never does, the network is taken for untrained. A Layer without biases
    and norms cannot be distinguished from a new one.

    A teacher that knows nothing teaches nothing, and the CKA of random weights means nothing: load
    the weights. `--allow-random` (in Python `allow_random=True`) measures all the same, and draws
    missing parameters at random.
    """
    return Diagnostic(message=message, **parts)


@rule("GT384")
def shared_scope(teacher: Opened, student: Opened, names: Sequence[str]) -> Diagnostic:
    """Teacher and student have parameters of the same name in the same Scope.

    Each Program counts its layers from 0, so parameters of two Programs often have the same names.
    The startup program that ran last set them, so the teacher would run with the student's weights.
    Run the teacher's startup program and load its weights in another Scope, and pass that as
    `teacher_scope`. If both Programs are meant to share the weights, pass their Scope as
    `teacher_scope`.
    """
    parameters = counted(len(names), "parameter")
    return Diagnostic(
        message=f"{parameters} of teacher and student have the same name in the same Scope",
        where=(teacher.place_of(names[0]), student.place_of(names[0])),
        notes=("each Program counts its layers from 0",),
        help='gt.suggest_pairs(teacher, student, evidence="samples.npz", '
        "teacher_scope=teacher_scope)",
    )


@rule("GT380", replaces=("GT381",))
def not_measured(
    where: Where, names: Sequence[str], reason: str, severity: Severity = Severity.NOTE
) -> Diagnostic:
    """Some Values have no CKA; the message says why.

    Variables that are written again later, and maps whose first axis is not the samples, as in
    recurrent networks, are not measured.

    A map that is the same for all samples has no CKA. Either it is dead (the whole input of a ReLU
    is negative) or the samples are all equal.
    """
    message = f"no CKA of {listed(names)} of the {where.role}: {reason}"
    return Diagnostic(message=message, severity=severity, where=(where,))


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A network with its parameters in a private Scope, as far as they were loaded.

    `reason` says why they may not have been, `help` how to load them. `users` is the user's Scope
    that they were copied from, None where they come from elsewhere. The Graph has the names that
    `read` gives for the same source.
    """

    role: str
    live: LiveProgram
    scope: Paddle
    reason: str
    help: str
    users: Paddle | None = None

    @property
    def graph(self) -> Graph:
        """The network."""
        return self.live.graph

    @property
    def where(self) -> Where:
        """The place of the network in a Diagnostic."""
        return Where(role=self.role, program=self.graph.source)

    def place_of(self, name: str) -> Where:
        """Return the place of a Value in a Diagnostic."""
        return replace(self.where, value=name, shape=self.graph.values[name].shape)


def open_network(
    source: Source, role: str, private: Paddle, *, inputs: Sequence[str], scope: Paddle | None
) -> Opened:
    """Open what `read` takes, except a Graph; the parameters of a live Program are in `scope`.

    Raises ReadError as `read` does. Raises GraphtoolError as `read_weights` does. Raises
    UsageError: GT036, GT370 for what cannot run. Raises PairError: GT242 for a saved model with
    side effects.
    """
    if isinstance(source, Graph):
        call = 'gt.suggest_pairs("teacher.json", "student.json", evidence="samples.npz")'
        where = (Where(role=role, program=source.source),)
        message = f"the {role} is a Graph, which cannot run"
        raise UsageError(no_evidence(message, where=where, help=call))
    layer, reason = None, f"the Scope does not hold them, which `{_SCOPES[role]}` may name"
    if isinstance(source, str | PathLike):
        name = fspath(cast("str | PathLike[str]", source))
        if path_exists(name) or not is_callable_spec(name):
            return _open_saved(name, role, private)
        users, reason = load_paddle().static.Scope(), "the callable does not load them"
        built = build(name, inputs, scope=users)
        layer = built.layer if isinstance(built, Network) else None
        live = built.live if isinstance(built, Network) else built
    elif is_live(source):
        live, home = program_before_merges(source), student_scope_of(program_of(source))
        if home is None:
            layer = weights_layer_unless_in(source, persistable_values(live.graph), scope)
        users = scope or home or load_paddle().static.global_scope()
    else:
        raise UsageError(not_a_source(source))
    if layer is not None:
        # All of it: a run also reads Variables that are not persistable.
        copy_layer_tensors(layer, private)
        fix = 'net.set_state_dict(paddle.load("weights.pdparams"))'
        return Opened(role, live, private, "the Layer does not hold them", fix)
    tensors = initialised_tensors(users, persistable_values(live.graph))
    share_tensors({name: copy_tensor(tensor) for name, tensor in tensors.items()}, private)
    fix = 'gt.load_parameters(program, "weights.pdparams")'
    return Opened(role, live, private, reason, fix, users)


def _open_saved(path: str, role: str, private: Paddle) -> Opened:
    graph = read(path)
    without = "graphtool suggest-pairs TEACHER STUDENT"
    unsafe = list(side_effects_of(role, graph, severity=Severity.ERROR, help=without))
    if unsafe:
        raise PairError(*unsafe)
    live = open_saved(graph, graph.kind)
    names = persistable_values(graph)
    file = find_parameters(graph.source, list(names), endings=SUFFIXES)
    if file is not None:
        weights = read_weights(file, graph)
        held = {weights.table.get(name, name): one for name, one in weights.tensors.items()}
        set_tensors({name: held[name] for name in names if name in held}, private)
    beside = path_argument(str(combined_path(Path(graph.source))))
    reason = "no file of parameters beside the model has them"
    return Opened(role, live, private, reason, shell_command("cp", "WEIGHTS.pdiparams", beside))


def check_apart(teacher: Opened, student: Opened, *, teacher_scope_given: bool) -> None:
    """Refuse two Programs with parameters of one name in one Scope, which holds one of them.

    Where the user gave the teacher's Scope, the Programs may share parameters that fit both.

    Raises PairError: GT384.
    """
    is_shared = teacher.users is not None and teacher.users is student.users
    if not is_shared or teacher.live.program is student.live.program:
        return
    of_teacher, of_student = map(persistable_values, (teacher.graph, student.graph))
    common = [
        name
        for name, value in of_teacher.items()
        if name in of_student
        and value.origin is of_student[name].origin is Origin.PARAMETER
        and not (teacher_scope_given and value.shape == of_student[name].shape)
    ]
    if common:
        raise PairError(shared_scope(teacher, student, common))


@dataclass(frozen=True, slots=True, eq=False)
class Runner:
    """The part of a network to run: its feeds, the Values measured in program order, fetches.

    `unmeasured` says why others have no CKA; running adds to it.
    """

    network: Opened
    program: Paddle
    feeds: tuple[Value, ...]
    names: tuple[str, ...]
    fetches: Sequence[Paddle]
    executor: Paddle
    unmeasured: dict[str, str]
    report: Sequence[Diagnostic]

    @program_lock()
    def run(self, feed: Mapping[str, _Array]) -> dict[str, _Array]:
        """Return the pooled map of each Value.

        Raises PairError: GT258 where Paddle fails.
        """
        import numpy as np

        network = self.network

        def failed(reason: str) -> PairError:
            message = f"the {network.role} does not run on the samples: {reason}"
            fed = f"fed: {listed(tuple(feed))}"
            return PairError(paddle_failed(message, where=(network.where,), notes=(fed,)))

        with convert_paddle_errors(failed), static_mode(network.graph.kind):
            results = self.executor.run(
                self.program, feed=dict(feed), fetch_list=list(self.fetches), scope=network.scope
            )
        return dict(zip(self.names, map(np.asarray, results), strict=True))


@program_lock()
def runner_of(network: Opened, names: Iterable[str], *, allow_random: bool) -> Runner:
    """Make a Program that computes some feature maps, whose parameters are there.

    Raises PairError: GT376, GT372.
    """
    graph = network.graph
    feeds = [graph.values[name].shape for name in graph.feeds]
    any_batch = any(shape and shape[0] == UNKNOWN_DIM for shape in feeds)
    last_write = {variable_of(name, graph): name for name in graph.values}
    unmeasured: dict[str, str] = {}
    for name in names:
        shape = graph.values[name].shape
        if not shape or (any_batch and shape[0] != UNKNOWN_DIM):
            unmeasured[name] = NOT_BY_SAMPLE
        elif graph.kind is ProgramKind.LEGACY and last_write[variable_of(name, graph)] != name:
            unmeasured[name] = "written again later"
    order = {name: place for place, name in enumerate(graph.values)}
    measured = sorted({*names} - unmeasured.keys(), key=order.__getitem__)
    with static_mode(graph.kind):
        make = _legacy if graph.kind is ProgramKind.LEGACY else _pir
        program, fetches = make(network.live, measured, analyse(graph).channel_axes)
        part = LiveProgram.of(program).graph
        report = _check_parameters(network, persistable_values(part), allow_random=allow_random)
    return Runner(
        network,
        program,
        feeds=tuple(graph.values[name] for name in graph.feeds if name in part.consumers),
        names=tuple(measured),
        fetches=fetches,
        executor=load_paddle().static.Executor(),
        unmeasured=unmeasured,
        report=report,
    )


def _check_parameters(
    network: Opened, known: Mapping[str, Value], *, allow_random: bool
) -> list[Diagnostic]:
    """Return a diagnostic where parameters were never loaded, and draw those at random.

    Raises PairError: GT376 unless random numbers are allowed; GT372 if some are not finite.
    """
    import numpy as np

    loaded = initialised_tensors(network.scope, known)
    missing = {
        name: value
        for name, value in known.items()
        if name not in loaded or not fits_shape(value, tuple(loaded[name].shape()))
    }
    for name, tensor in () if missing else loaded.items():
        array = np.array(tensor)
        # A ReLU could hide them from the feature maps.
        if array.dtype.kind == "f":
            place = replace(network.where, value=name, shape=tuple(array.shape))
            refuse_any(~np.isfinite(array), "the parameters", place, network.help)
    if not missing and not looks_untrained(network.scope, known):
        return []
    count = len(missing or known)
    number = f"{count}" if count == len(known) else f"{count} of {len(known)}"
    untrained = "trained: biases, scales and shifts have one number throughout"
    reason = f"loaded: {network.reason}" if missing else untrained
    notes = ["CKA of random weights says how alike two random functions are"]
    if not allow_random:
        notes.append("--allow-random (in Python allow_random=True) measures all the same")
    # Untrained parameters were loaded correctly: loading them again does not help.
    allow = None if allow_random else Call("gt.suggest_pairs", allow_random=True)
    found = random_weights(
        f"{number} parameters of the {network.role} were never {reason}",
        where=(network.where,),
        severity=Severity.WARNING if allow_random else Severity.ERROR,
        notes=tuple(notes),
        help=network.help if missing else allow,
    )
    if not allow_random:
        raise PairError(found)
    random, drawn = np.random.default_rng(SEED), dict[str, Tensor]()
    for name, value in missing.items():
        shape, dtype = value.shape or (), value.dtype or "float32"
        # A vector may be a variance. Others are as in He et al. 2015 (arXiv 1502.01852).
        scale = (2 / max(shape[0] if len(shape) == 2 else prod(shape[1:]), 1)) ** 0.5
        is_vector = len(shape) < 2
        numbers = random.uniform(0.5, 1.5, shape) if is_vector else random.normal(0, scale, shape)
        is_bfloat16 = dtype == "bfloat16"
        array = as_bfloat16(numbers.astype("float32")) if is_bfloat16 else numbers.astype(dtype)
        drawn[name] = Tensor(array, dtype)
    set_tensors(drawn, network.scope)
    return [found]


def _pir(
    live: LiveProgram, names: Sequence[str], axes: Mapping[str, int]
) -> tuple[Paddle, list[Paddle]]:
    """Clone a Program, pool after each Value's operation, and remove dead operations."""
    program = live.program.clone()
    copy, block = LiveProgram.of(program), program.global_block()
    for op in operations(block):
        set_test_mode(op)
    for op in block.ops:
        remove_stack_pushes(op)
    fetches: list[Paddle] = []
    for name in names:
        value = copy.value(name)
        # Not at the end: an in-place operator may follow.
        with inserting_after(value.get_defining_op(), program):
            fetches.append(_pooled(value, live.graph.values[name], axes.get(name)))
    kept = {value.get_defining_op().id() for value in fetches}
    remove_unused(block, [op for op in block.ops if op.id() not in kept])
    return program, fetches


def _legacy(
    live: LiveProgram, names: Sequence[str], axes: Mapping[str, int]
) -> tuple[Paddle, list[Paddle]]:
    paddle, graph = load_paddle(), live.graph
    clone = live.program.clone(for_test=True)
    block = clone.global_block()
    # A saved model has them; the Executor adds others, and pruning expects them at the end.
    remove_operators(block, [op for op in block.ops if op.type in LEGACY_PORTS])
    with paddle.static.program_guard(clone, paddle.static.Program()):
        pooled = [
            _pooled(block.var(variable_of(name, graph)), graph.values[name], axes.get(name))
            for name in names
        ]
    program = pruned_for_test(clone, pooled)
    return program, [program.global_block().var(variable.name) for variable in pooled]


def _pooled(tensor: Paddle, value: Value, axis: int | None) -> Paddle:
    """Append a pooling of a map or sequence, in float32, which all kernels support."""
    paddle, shape = load_paddle(), value.shape or ()
    if value.dtype != "float32":
        tensor = paddle.cast(tensor, "float32")
    pool = paddle.nn.functional.adaptive_avg_pool2d
    if len(shape) == 4:
        is_nhwc = axis == 3
        sides = shape[1:3] if is_nhwc else shape[2:4]
        size = [_SIDE if side == UNKNOWN_DIM else min(_SIDE, side) for side in sides]
        return pool(tensor, size, data_format="NHWC" if is_nhwc else "NCHW")
    if len(shape) == 3:
        width, length = (shape[1], shape[2]) if axis == 1 else (shape[2], shape[1])
        parts = _PARTS if length == UNKNOWN_DIM else min(_PARTS, length)
        if width != UNKNOWN_DIM:
            size = [width, parts] if axis == 1 else [parts, width]
            return pool(paddle.unsqueeze(tensor, 1), size)
    return paddle.assign(tensor)
