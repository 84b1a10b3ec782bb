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
from graphtool.backend.legacy_editing import pruned_for_test, remove_operators
from graphtool.backend.live import (
    LiveProgram,
    is_live,
    open_legacy,
    open_pir,
    program_before_merges,
    program_of,
)
from graphtool.backend.paddle import Paddle, load_paddle, program_lock, static_mode
from graphtool.backend.pir_editing import (
    inserting_after,
    operations,
    remove_stack_pushes,
    remove_unused,
    set_test_mode,
)
from graphtool.backend.registry import student_scope_of
from graphtool.backend.tensors import (
    as_bfloat16,
    copy_tensor,
    initialised_tensors,
    looks_untrained,
    set_tensors,
    share_tensors,
)
from graphtool.both import Both
from graphtool.checks.networks import side_effects
from graphtool.diagnostics import (
    Call,
    Diagnostic,
    PairError,
    Severity,
    UsageError,
    Where,
    listed,
)
from graphtool.dtypes import FLOAT_DTYPES
from graphtool.evidence import problems
from graphtool.evidence.samples import SEED
from graphtool.graph import (
    UNKNOWN_DIM,
    Graph,
    Origin,
    ProgramKind,
    Value,
    fits_shape,
    variable_of,
)
from graphtool.ops import LEGACY_PORTS, has_side_effects
from graphtool.paths import path_exists
from graphtool.readers.files import combined_path, find_parameters
from graphtool.readers.tensor_files import Tensor
from graphtool.readers.weights import SUFFIXES, persistable_values, read_weights
from graphtool.sources import Source, read
from graphtool.sources._builder import build
from graphtool.sources._model_spec import is_callable_spec
from graphtool.sources.layers import Network
from graphtool.sources.problems import not_a_source
from graphtool.structure import Structure, analyse
from graphtool.text import path_argument, shell_command

if TYPE_CHECKING:
    import numpy as np

__all__ = ["NOT_BY_SAMPLE", "Opened", "Runner", "check_apart", "open_network", "runner_of"]

_Array: TypeAlias = "np.ndarray[Any, Any]"

# Maps are pooled to a grid of means, four on a side, sequences to the means of 16 parts.
_SIDE = 4
_PARTS = 16
_SCOPES = {"teacher": "teacher_scope", "student": "scope"}
NOT_BY_SAMPLE = "its first axis is not the samples"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
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
        """The Graph of the Program."""
        return self.live.graph


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
        raise UsageError(problems.no_evidence(message, where=where, help=call))
    reason = f"the Scope does not hold them, which `{_SCOPES[role]}` may name"
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
        layer = weights_layer_unless_in(source, persistable_values(live.graph), scope)
        if home is not None:
            layer = None
        users = scope or home or load_paddle().static.global_scope()
    else:
        raise UsageError(not_a_source(source))
    if layer is not None:
        # All of it: a run also reads Variables that are not persistable.
        copy_layer_tensors(layer, private)
        fix = 'net.set_state_dict(paddle.load("weights.pdparams"))'
        reason = "the Layer does not hold them"
        return Opened(role=role, live=live, scope=private, reason=reason, help=fix)
    tensors = initialised_tensors(users, persistable_values(live.graph))
    share_tensors({name: copy_tensor(tensor) for name, tensor in tensors.items()}, private)
    fix = 'gt.load_parameters(program, "weights.pdparams")'
    return Opened(role=role, live=live, scope=private, reason=reason, help=fix, users=users)


def _open_saved(path: str, role: str, private: Paddle) -> Opened:
    graph = read(path)
    unsafe = [operator for operator in graph.operators.values() if has_side_effects(operator)]
    if unsafe:
        without = "graphtool suggest-pairs TEACHER STUDENT"
        raise PairError(side_effects(role, graph, unsafe, severity=Severity.ERROR, help=without))
    if graph.kind is ProgramKind.PIR:
        live = open_pir(graph.source, graph)
    else:
        with static_mode(graph.kind):
            live = open_legacy(graph.source)
            live = replace(live, graph=replace(live.graph, source=graph.source))
    names = persistable_values(graph)
    file = find_parameters(graph.source, list(names), endings=SUFFIXES)
    if file is not None:
        weights = read_weights(file, graph)
        held = {weights.table.get(name, name): one for name, one in weights.tensors.items()}
        set_tensors({name: held[name] for name in names if name in held}, private)
    beside = path_argument(str(combined_path(Path(graph.source))))
    return Opened(
        role=role,
        live=live,
        scope=private,
        reason="no file of parameters beside the model has them",
        help=shell_command("cp", "WEIGHTS.pdiparams", beside),
    )


def check_apart(teacher: Opened, student: Opened, *, teacher_scope_given: bool) -> None:
    """Refuse two Programs with parameters of one name in one Scope, which holds one of them.

    Where the user gave the teacher's Scope, the Programs may share parameters that fit both.

    Raises PairError: GT384.
    """
    is_shared = teacher.users is not None and teacher.users is student.users
    if not is_shared or teacher.live.program is student.live.program:
        return
    parameters = Both(teacher.graph, student.graph).map(persistable_values)
    common = [
        name
        for name, value in parameters.teacher.items()
        if name in parameters.student
        and value.origin is parameters.student[name].origin is Origin.PARAMETER
        and not (teacher_scope_given and value.shape == parameters.student[name].shape)
    ]
    if common:
        name = common[0]
        places = [
            Where(role=side.role, program=side.graph.source, value=name, shape=held[name].shape)
            for side, held in zip((teacher, student), parameters, strict=True)
        ]
        raise PairError(problems.shared_scope(places, len(common)))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Runner:
    """The part of a network to run: its feeds, the Values measured in program order, fetches.

    `unmeasured` says why others have no CKA; running adds to it.
    """

    role: str
    graph: Graph
    program: Paddle
    feeds: tuple[Value, ...]
    names: tuple[str, ...]
    fetches: tuple[Paddle, ...]
    scope: Paddle
    executor: Paddle
    unmeasured: dict[str, str]
    report: tuple[Diagnostic, ...]

    @program_lock()
    def run(self, feed: Mapping[str, _Array]) -> dict[str, _Array]:
        """Return the pooled map of each Value.

        Raises PairError: GT258 where Paddle fails.
        """
        import numpy as np

        def failed(reason: str) -> PairError:
            message = f"the {self.role} does not run on the samples: {reason}"
            where = Where(role=self.role, program=self.graph.source)
            fed = f"fed: {listed(tuple(feed))}"
            return PairError(paddle_failed(message, where=(where,), notes=(fed,)))

        with convert_paddle_errors(failed), static_mode(self.graph.kind):
            results = self.executor.run(
                self.program, feed=dict(feed), fetch_list=list(self.fetches), scope=self.scope
            )
        return dict(zip(self.names, map(np.asarray, results), strict=True))


@program_lock()
def runner_of(opened: Opened, names: Iterable[str], *, allow_random: bool) -> Runner:
    """Make a Program that computes some Values, whose parameters are there.

    Raises PairError: GT376, GT372.
    """
    graph = opened.graph
    structure = analyse(graph)
    measurable, unmeasured = _measurable(structure, names)
    with static_mode(graph.kind):
        make = _legacy if graph.kind is ProgramKind.LEGACY else _pir
        program, fetches = make(opened.live, measurable, structure.channel_axes)
        part = LiveProgram.of(program).graph
        found = _check_parameters(opened, persistable_values(part), allow_random=allow_random)
    feeds = (value for value in graph.values.values() if value.origin is Origin.FEED)
    return Runner(
        role=opened.role,
        graph=graph,
        program=program,
        feeds=tuple(value for value in feeds if value.name in part.consumers),
        names=tuple(measurable),
        fetches=tuple(fetches),
        scope=opened.scope,
        executor=load_paddle().static.Executor(),
        unmeasured=unmeasured,
        report=tuple(found),
    )


def _measurable(structure: Structure, names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """Return the Values that have one map per sample, in program order, and why others do not."""
    graph = structure.graph
    feeds = [value for value in graph.values.values() if value.origin is Origin.FEED]
    any_batch = any(feed.shape and feed.shape[0] == UNKNOWN_DIM for feed in feeds)
    order = {name: index for index, name in enumerate(graph.values)}
    last_write = {variable_of(name, graph): name for name in graph.values}
    measurable: list[str] = []
    unmeasured: dict[str, str] = {}
    for name in sorted(set(names), key=order.__getitem__):
        value = graph.values[name]
        if name not in structure.flow.maker or value.shape is None:
            unmeasured[name] = "no result of the forward pass, or one inside a branch or loop"
        elif value.dtype not in FLOAT_DTYPES:
            unmeasured[name] = "no floating-point numbers"
        elif not value.shape:
            unmeasured[name] = "a single number"
        elif any_batch and value.shape[0] != UNKNOWN_DIM:
            unmeasured[name] = NOT_BY_SAMPLE
        elif graph.kind is ProgramKind.LEGACY and last_write[variable_of(name, graph)] != name:
            unmeasured[name] = "written again later"
        else:
            measurable.append(name)
    return measurable, unmeasured


def _check_parameters(
    opened: Opened, known: Mapping[str, Value], *, allow_random: bool
) -> list[Diagnostic]:
    """Return a diagnostic where parameters were never loaded, and draw those at random.

    Raises PairError: GT376 unless random numbers are allowed; GT372 if some are not finite.
    """
    import numpy as np

    loaded = initialised_tensors(opened.scope, known)
    missing = {
        name: value
        for name, value in known.items()
        if name not in loaded or not fits_shape(value, tuple(loaded[name].shape()))
    }
    where = Where(role=opened.role, program=opened.graph.source)
    if not missing:
        for name, tensor in loaded.items():
            array = np.array(tensor)
            # A ReLU could hide them from the feature maps.
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                place = replace(where, value=name, shape=tuple(array.shape))
                message = "the parameters have a NaN or an infinity"
                raise PairError(problems.unusable_evidence(message, (place,), help=opened.help))
        if not looks_untrained(opened.scope, known):
            return []
    count = len(missing or known)
    number = f"{count}" if count == len(known) else f"{count} of {len(known)}"
    untrained = "trained: biases, scales and shifts have one number throughout"
    notes = ["CKA of random weights says how alike two random functions are"]
    if not allow_random:
        notes.append("--allow-random (in Python allow_random=True) measures all the same")
    # Untrained parameters were loaded correctly: loading them again does not help.
    allow = None if allow_random else Call("gt.suggest_pairs", allow_random=True)
    found = problems.random_weights(
        f"{number} parameters of the {opened.role} were never "
        + (f"loaded: {opened.reason}" if missing else untrained),
        (where,),
        severity=Severity.WARNING if allow_random else Severity.ERROR,
        notes=notes,
        help=opened.help if missing else allow,
    )
    if not allow_random:
        raise PairError(found)
    random, drawn = np.random.default_rng(SEED), dict[str, Tensor]()
    for name, value in missing.items():
        shape, dtype = value.shape or (), value.dtype or "float32"
        # A vector may be a variance. Others are as in He et al. 2015 (arXiv 1502.01852).
        fan_in = shape[0] if len(shape) == 2 else prod(shape[1:])
        numbers = (
            random.uniform(0.5, 1.5, shape)
            if len(shape) < 2
            else random.normal(0.0, (2 / max(fan_in, 1)) ** 0.5, shape)
        )
        is_bfloat16 = dtype == "bfloat16"
        array = as_bfloat16(numbers.astype("float32")) if is_bfloat16 else numbers.astype(dtype)
        drawn[name] = Tensor(array, dtype)
    set_tensors(drawn, opened.scope)
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
