"""Add the operators that train a loss to its Program, on one process or on all ranks."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.backend.errors import convert_paddle_errors, not_static
from graphtool.backend.layer_weights import is_dynamic_parameter
from graphtool.backend.live import read_program
from graphtool.backend.optimizers import (
    accumulators,
    complete_clip,
    every_n_runs,
    parameter_list,
    persistent_zeros,
    set_variable,
)
from graphtool.backend.paddle import Paddle, is_legacy, legacy_mode, load_paddle, program_lock
from graphtool.backend.pir import contains_value
from graphtool.checks.networks import already_minimized
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    Severity,
    UsageError,
    Where,
    counted,
    listed,
    rule,
    warn,
)
from graphtool.dtypes import FLOAT_DTYPES, HALF_DTYPES
from graphtool.graph import Graph, ProgramKind, Shape, variable_of
from graphtool.merging.merged import wrong_program
from graphtool.ops import is_optimizer
from graphtool.training import _ranks as ranks
from graphtool.training.program_info import ProgramInfo, ancestors

__all__ = ["minimize"]

# What Paddle itself returns: operators, and pairs of a parameter and its gradient.
_Minimized: TypeAlias = tuple[list[Paddle], list[tuple[Paddle, Paddle]]]

_CALL = "gt.minimize(optimizer, loss)"
_CALL_WITH_STARTUP = "gt.minimize(optimizer, loss, startup)"
# Marks a Program and an optimizer in which Paddle failed half-way, which it cannot undo.
_INCOMPLETE = "_graphtool_half_way"
_AMP_WRAPPER = "OptimizerWithMixedPrecision"
# Optimizers that fail or do nothing under PIR, with the alternative.
_REFUSED_BY_PIR = {
    _AMP_WRAPPER: 'with paddle.amp.auto_cast(dtype="bfloat16"): build the networks in static mode',
    "GradientMergeOptimizer": "gt.minimize(optimizer, loss, accumulate=4)",
    "RecomputeOptimizer": "gt.minimize(optimizer, loss), with a smaller batch and more ranks",
    "PipelineOptimizer": "gt.minimize(optimizer, loss), with the whole network on every rank",
    "DistributedFusedLamb": "gt.minimize(paddle.optimizer.Lamb(...), loss)",
    "LBFGS": "gt.minimize(paddle.optimizer.AdamW(...), loss)",
    "Fleet": "gt.minimize(optimizer, loss), with the optimizer that fleet was given",
}
# Attributes for sparse gradients of an embedding, under PIR and in legacy Programs.
_SPARSE = ("sparse", "is_sparse")


@rule("GT531")
def optimizer_unfit(name: str, reason: str, way: str, notes: Sequence[str] = ()) -> Diagnostic:
    """The optimizer does not work on this kind of Program, on several ranks, or a second time.

    Under PIR, `paddle.static.amp.decorate` inserts no casts, and `fleet.minimize`, gradient merging
    and recomputation fail inside Paddle. Use `accumulate` to add up the gradients of several runs.
    Optimizers that override `minimize` can neither do this nor train on several ranks. On legacy
    Programs all of these work; several ranks need `fleet.distributed_optimizer`.

    An optimizer keeps its state, such as moments, in the first Program that it was added to. Make
    an optimizer for each Program.
    """
    return Diagnostic(message=f"`{name}` {reason}", notes=tuple(notes), help=way)


@rule("GT532")
def not_a_loss(given: str, shape: Shape | None, wanted: str, part: str = "mean()") -> Diagnostic:
    """A loss must be a floating-point Value with one element, built in a static Program.

    Reduce larger tensors with `mean()`: a sum grows with the batch, and so would the steps. Of what
    `gt.distill_loss` returns, `total` is the loss.
    """
    return Diagnostic(
        message=f"the loss, `{given}`, is not {wanted}",
        where=() if shape is None else (Where(role="loss", value=given, shape=shape),),
        help=f"gt.minimize(optimizer, loss.{part})",
    )


@rule("GT534")
def unknown_parameter(name: str, reason: str) -> Diagnostic:
    """A listed parameter is not a parameter of the loss's Program.

    Optimizers of the dynamic graph take `parameters=layer.parameters()`. A static Program needs no
    such list, and does not contain the parameters of a Layer made in dynamic mode.
    """
    return Diagnostic(
        message=f"`{name}` {reason}",
        where=(Where(role="parameter", value=name),),
        help="make the optimizer without `parameters=`",
    )


@rule("GT535")
def nothing_learns(loss: str, names: Sequence[str], frozen: Sequence[str]) -> Diagnostic:
    """The gradient of the loss reaches no parameter to train, so nothing would change.

    The loss compares frozen Values only (two Values of the teacher), something stops the gradient
    (`detach`, `stop_gradient`, an operator without a gradient), or the parameters belong to another
    part of the network.
    """
    note = f"trainable: {listed(names)}" if names else f"frozen: {listed(frozen)}"
    return Diagnostic(
        message=f"the gradient of the loss, `{loss}`, reaches no parameter to train",
        notes=(note,),
        help="add a loss on a Value of the student: merged.student(name)",
    )


@rule("GT539")
def no_low_precision(optimizer: str) -> Diagnostic:
    """Mixed precision was requested, but no operator of the Program computes in it.

    None of the network's operators is on Paddle's list for mixed precision. On a CPU that list is
    empty, and float32 is used.
    """
    return Diagnostic(
        message=f"`{optimizer}` has inserted no cast to float16 or bfloat16",
        severity=Severity.WARNING,
        help="gt.minimize(optimizer, loss), without `paddle.static.amp.decorate`",
    )


@rule("GT547")
def half_way(reason: str | None, *, marked: Iterable[str] = ("Program", "optimizer")) -> Diagnostic:
    """`gt.minimize` failed or was interrupted after it had begun to change the Program.

    Some gradients and updates are in the Program and its startup program, and the optimizer holds
    their state. This cannot be undone, so both are refused from now on. Build the networks, merge
    them, and make a new optimizer; Scopes are as they were. Fleet is one object for the whole
    process and not refused: give it a new optimizer with `fleet.distributed_optimizer`.
    """
    outcome = "failed half-way before" if reason is None else f"failed half-way: {reason}"
    return Diagnostic(
        message=f"`gt.minimize` {outcome}",
        notes=(f"the {' and the '.join(marked)} cannot be used any more",),
        help="build the Programs and the optimizer anew, and call gt.minimize(optimizer, loss)",
    )


def minimize(
    optimizer: Paddle,
    loss: Paddle,
    startup_program: Paddle | None = None,
    parameters: Sequence[Paddle | str] | None = None,
    no_grad_set: Collection[Paddle | str] | None = None,
    *,
    accumulate: int = 1,
) -> _Minimized:
    """Add the operators that train a loss, as the optimizer's own `minimize` does.

    Arguments and result are those of `paddle.optimizer.Optimizer.minimize`: `loss` is a Value with
    one element, under PIR of the current main Program; `startup_program`, by default Paddle's
    default one, gets the initialisers of the optimizer's state; all trainable parameters are
    updated unless `parameters` lists some. Run the startup program afterwards. With a learning rate
    scheduler under PIR, run in `paddle.static.scope_guard(scope)`: `executor.run(scope=...)` looks
    for the rate in the global Scope.

    With `accumulate=n` the parameters are updated in every n-th run, by the mean gradient of the
    last n runs. If all runs have equally many samples and the loss is a mean, that equals a step
    with an n times larger batch, up to rounding, in the memory of one run. Clipping and weight
    decay apply to the mean gradient. Batch norms normalise by the batch of each run and update
    their running statistics in each run. Call a scheduler's `step` once per update. The sums are
    Variables of the Program, so checkpoints include them.

    Under `python -m paddle.distributed.launch` the gradients are averaged over all ranks. Call
    `paddle.distributed.init_parallel_env()` before `paddle.enable_static()`, and feed each rank its
    share of the batch. The startup program then copies rank 0's parameters to every rank, adapters
    included; load weights after it, the same ones on each rank. Gradients are clipped and weights
    decay after averaging: if the shares are equal and the loss is a mean, a step equals that of the
    whole batch, up to rounding. Merged teachers are neither copied nor averaged. Batch norms
    normalise by the share of their rank, and running statistics differ between ranks: save those of
    rank 0. None of this is tested on GPUs (NCCL).

    Ranks wait here for each other, and check that all are about to train the same loss with the
    same optimizer. If they differ, all raise, with nothing added. If the process of a rank fails,
    Paddle's launcher stops the others. With gloo (CPU), a rank that keeps others waiting in a step
    for more than 30 seconds counts as lost.

    Mixed precision under PIR is whatever was built in `with paddle.amp.auto_cast():`, which on a
    CPU takes `dtype="bfloat16"` and static mode. For legacy Programs, the optimizers of
    `paddle.static.amp` and `fleet.distributed_optimizer` work as usual.

    Ctrl-C takes effect once the optimizer has been added; the Program then trains with it.

    Raises UsageError with all problems and the Program unchanged: GT231, GT248, GT340, GT352,
    GT531, GT532, GT534, GT535, GT537. Raises ReadError for a name in `no_grad_set`: GT101, GT102;
    for a Program with Values of another one: GT050. Raises GraphtoolError for other ranks: GT546;
    GT547 where Paddle fails half-way: the Program and the optimizer are incomplete then, and
    have to be built again. Warns with GT539 if mixed precision was requested and has no effect.
    Source: https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/optimizer/Optimizer_en.html
    """
    if load_paddle().in_dynamic_mode():
        raise UsageError(not_static("minimize"))
    _raise_any(_argument_errors(optimizer, loss, startup_program, parameters, no_grad_set))
    if type(accumulate) is not int or accumulate < 1:
        call = "gt.minimize(optimizer, loss, accumulate=4)"
        raise UsageError(
            bad_argument("accumulate", accumulate, "a number of runs, 1 or more", call)
        )
    is_pir = _is_pir_value(loss)
    with program_lock(), nullcontext() if is_pir else legacy_mode():
        # Nothing is added before all checks have passed.
        request = _request(optimizer, loss, startup_program, parameters, accumulate)
        _raise_any(_request_errors(request))
        ignored = _no_grad_values(request, no_grad_set)
        if is_pir and ranks.rank_count() > 1:
            description = ranks.describe(
                request.graph,
                request.loss_name,
                optimizer,
                trained=request.names(trainable=True),
                no_gradient=[request.info.names[value.id] for value in ignored or ()],
                runs=accumulate,
            )
            ranks.require_equal(description)
        guard = load_paddle().static.program_guard(request.info.program, request.startup)
        with _marked_unless_complete(request.info.program, optimizer), guard:
            complete_clip(optimizer)
            result = (_minimize_pir if is_pir else _minimize_legacy)(request, ignored)
        is_mixed = not is_pir and type(optimizer).__name__ == _AMP_WRAPPER
        if is_mixed and not _low_precision_casts(read_program(request.info.program)):
            warn(no_low_precision(_AMP_WRAPPER))
    return result


def _is_pir_value(value: Paddle) -> bool:
    """Return whether an object is a PIR Value, without reading its attributes."""
    kind = getattr(load_paddle().pir, "Value", None)
    return kind is not None and isinstance(value, kind)


def _raise_any(errors: Iterable[Diagnostic]) -> None:
    found = tuple(errors)
    if found:
        raise UsageError(*found)


def _argument_errors(
    optimizer: Paddle, loss: Paddle, startup: Paddle, parameters: object, no_grad_set: object
) -> Iterator[Diagnostic]:
    paddle = load_paddle()
    minimizes = callable(getattr(optimizer, "minimize", None))
    if not minimizes or isinstance(optimizer, type | paddle.amp.GradScaler):
        example = "gt.minimize(paddle.optimizer.AdamW(0.001), loss)"
        yield bad_argument("optimizer", optimizer, "an optimizer of Paddle", example)
    if not _is_pir_value(loss) and not isinstance(loss, paddle.static.Variable):
        # The result of `gt.distill_loss` is not a loss itself.
        part = "total" if hasattr(loss, "total") else "mean()"
        yield not_a_loss(type(loss).__name__, None, "a Value of a static Program", part)
    if startup is not None and not isinstance(startup, paddle.static.Program):
        yield bad_argument("startup_program", startup, "a Program", _CALL_WITH_STARTUP)
    if parameters is not None and not (isinstance(parameters, list | tuple) and parameters):
        wanted = "a list of parameters, or of their names, with one at least"
        yield bad_argument("parameters", cast("object", parameters), wanted, _CALL)
    if no_grad_set is not None and not isinstance(no_grad_set, list | tuple | set | frozenset):
        yield bad_argument("no_grad_set", no_grad_set, "a set of Values, or of their names", _CALL)


@contextmanager
def _marked_unless_complete(program: Paddle, optimizer: Paddle) -> Generator[None]:
    """Mark a Program and an optimizer as incomplete on any exception, interrupts included.

    Fleet is not marked: a process has a single one, which could never be used again.

    Raises GraphtoolError: GT547 with Paddle's error.
    """
    targets = {"Program": program}
    if type(optimizer).__name__ != "Fleet":
        targets["optimizer"] = optimizer
    with convert_paddle_errors(lambda reason: GraphtoolError(half_way(reason, marked=targets))):
        for target in targets.values():
            setattr(target, _INCOMPLETE, True)
        yield
        for target in targets.values():
            delattr(target, _INCOMPLETE)


@dataclass(frozen=True, eq=False)
class _Request:
    """A loss, its Program as it is now, and what is to train it.

    `parameters` are all of the Program's; `requested` are those given to the call or to the
    optimizer, None for all.
    """

    optimizer: Paddle
    loss: Paddle
    info: ProgramInfo
    startup: Paddle
    parameters: Mapping[str, Paddle]
    requested: Sequence[Paddle | str] | None
    accumulate: int

    @property
    def graph(self) -> Graph:
        """The Graph of the Program."""
        return self.info.graph

    @property
    def is_pir(self) -> bool:
        """Return whether the Program is of PIR."""
        return self.graph.kind is ProgramKind.PIR

    @property
    def loss_name(self) -> str:
        """The name of the loss in the Graph: the last write to a legacy Variable."""
        if self.is_pir:
            return self.info.names[self.loss.id]
        name = self.loss.name
        return [one for one in self.graph.values if variable_of(one, self.graph) == name][-1]

    @property
    def chosen(self) -> list[Paddle] | None:
        """The requested parameters as Paddle takes them, None for all."""
        if self.requested is None:
            return None
        return [self.parameters[one] if isinstance(one, str) else one for one in self.requested]

    def names(self, *, trainable: bool) -> list[str]:
        """Return the names of the requested parameters that are trainable, or frozen."""
        return [
            one.name
            for one in (self.parameters.values() if self.chosen is None else self.chosen)
            if (not one.stop_gradient and bool(getattr(one, "trainable", True))) is trainable
        ]

    def contains(self, value: Paddle) -> bool:
        """Return whether a Value is in this Program; only the id of a PIR Value is read."""
        if self.is_pir:
            return _is_pir_value(value) and value.id in self.info.names
        block = getattr(value, "block", None)
        return block is not None and block.program is self.info.program


def _request(
    optimizer: Paddle,
    loss: Paddle,
    startup: Paddle | None,
    parameters: Sequence[Paddle | str] | None,
    accumulate: int,
) -> _Request:
    """Read the loss's Program, which under PIR is the current main one."""
    static = load_paddle().static
    program = static.default_main_program()
    if _is_pir_value(loss):
        # A Value can't be asked for its Program: that crashes if it is gone.
        is_found = not is_legacy(program) and contains_value(program, loss)
    else:
        is_found = startup is not None or loss.block.program is program
        program = loss.block.program
    if not is_found:
        message = "the loss belongs to another Program than the current main one"
        way = f"with paddle.static.program_guard(merged.program, startup): {_CALL}"
        raise UsageError(wrong_program(message, help=way))
    if getattr(program, _INCOMPLETE, False) or getattr(optimizer, _INCOMPLETE, False):
        raise UsageError(half_way(None))
    found = {each.name: each for each in program.global_block().all_parameters()}
    return _Request(
        optimizer=optimizer,
        loss=loss,
        info=ProgramInfo.of(program),
        startup=static.default_startup_program() if startup is None else startup,
        # PIR lists them in no order.
        parameters=dict(sorted(found.items())),
        requested=parameters or parameter_list(optimizer),
        accumulate=accumulate,
    )


def _no_grad_values(
    request: _Request, given: Collection[Paddle | str] | None
) -> Collection[Paddle] | None:
    """Return `no_grad_set` as Paddle takes it, which under PIR means without names."""
    for each in given or ():
        if not isinstance(each, str) and not request.contains(each):
            wanted = "a Value of the loss's Program, or its name"
            raise UsageError(bad_argument("no_grad_set", each, wanted, _CALL))
    if given is None or not request.is_pir:
        return given
    live = request.info.live
    return [live.value(each) if isinstance(each, str) else each for each in given]


def _request_errors(request: _Request) -> Iterator[Diagnostic]:
    graph, loss, name = request.graph, request.loss, request.loss_name
    if request.startup is request.info.program:
        wanted = "one that runs once"
        yield bad_argument("startup_program", "the loss's Program", wanted, _CALL_WITH_STARTUP)
    count = ranks.rank_count()
    if request.is_pir and count > 1 and not load_paddle().distributed.is_initialized():
        yield ranks.ranks_not_joined(count)
    yield from _optimizer_errors(request, count)
    if tuple(loss.shape) not in ((), (1,)) or graph.values[name].dtype not in FLOAT_DTYPES:
        yield not_a_loss(name, tuple(loss.shape), "one number of floating point")
    unknown = list(_unknown_parameters(request))
    yield from unknown or _parameter_errors(request)


def _optimizer_errors(request: _Request, count: int) -> Iterator[Diagnostic]:
    """Find what the optimizer can't do: PIR, several ranks, or several runs."""
    kind, runs = cast("Paddle", type(request.optimizer)), request.accumulate
    name: str = kind.__name__
    overrides = kind.minimize is not load_paddle().optimizer.Optimizer.minimize
    adam = "gt.minimize(paddle.optimizer.AdamW(...), loss"
    if not request.is_pir:
        if count > 1 and name != "Fleet":
            reason = f"would train each of {count} ranks by itself on a legacy Program"
            way = "gt.minimize(fleet.distributed_optimizer(optimizer), loss)"
            yield optimizer_unfit(name, reason, way)
    elif name in _REFUSED_BY_PIR:
        casts = _low_precision_casts(request.graph)
        note = f"the Program has {counted(casts, 'cast')} to float16 or bfloat16"
        notes = [note] if name == _AMP_WRAPPER else []
        reason = "does not work on a PIR Program"
        yield optimizer_unfit(name, reason, _REFUSED_BY_PIR[name], notes)
    elif count > 1 and overrides:
        reason = f"overrides `minimize` and does not average over {count} ranks"
        yield optimizer_unfit(name, reason, f"{adam})")
    if runs == 1:
        return
    if name == "Fleet":
        reason = "has its own strategy for gradients of several runs"
        way = f'strategy.gradient_merge_configs = {{"k_steps": {runs}}}, and gradient_merge = True'
        yield optimizer_unfit(name, reason, way)
    elif overrides:
        reason = f"overrides `minimize` and does not add up gradients over {runs} runs"
        yield optimizer_unfit(name, reason, f"{adam}, accumulate={runs})")
    for operator in request.graph.operators.values():
        if any(operator.attributes.get(key) is True for key in _SPARSE):
            reason = f"cannot add up the sparse gradients of `{operator.name}`"
            yield optimizer_unfit(name, reason, "paddle.nn.Embedding(..., sparse=False)")


def _low_precision_casts(graph: Graph) -> int:
    return sum(
        operator.kind == "cast" and graph.values[operator.results[0]].dtype in HALF_DTYPES
        for operator in graph.operators.values()
    )


def _unknown_parameters(request: _Request) -> Iterator[Diagnostic]:
    """Find requested parameters that the Program does not have."""
    for each in request.requested or ():
        name, is_known = each, True
        if not isinstance(each, str):
            # Any other Value may have died with its Program.
            is_known = request.contains(each)
            name = getattr(each, "name", None) if is_known or not _is_pir_value(each) else None
        name = name if isinstance(name, str) else type(each).__name__
        if is_dynamic_parameter(each):
            yield unknown_parameter(name, "is a parameter of the dynamic graph")
        elif isinstance(each, dict):
            reason = "is a group of parameters, which only the dynamic graph has"
            yield unknown_parameter(name, reason)
        elif name not in request.parameters or not is_known:
            yield unknown_parameter(name, "is not a parameter of the loss's Program")


def _parameter_errors(request: _Request) -> Iterator[Diagnostic]:
    """Find out that no parameter would learn, or that one would be updated twice."""
    graph, trainable = request.graph, request.names(trainable=True)
    reached = {
        variable_of(name, graph) for name in ancestors(graph, [request.loss_name], gradient=True)
    }
    if reached.isdisjoint(trainable):
        yield nothing_learns(request.loss_name, trainable, request.names(trainable=False))
    updates: dict[str, str] = {}
    for operator in filter(is_optimizer, graph.operators.values()):
        for name in filter(None, operator.operands):
            producer = graph.producer(name)
            is_combine = producer is not None and producer.kind == "combine"
            for each in filter(None, producer.operands if producer and is_combine else (name,)):
                updates[variable_of(each, graph)] = operator.name
    updated = [name for name in trainable if name in updates and name in reached]
    if updated:
        yield already_minimized(
            f"an optimizer already updates {counted(len(updated), 'parameter')}: {listed(updated)}",
            where=(Where(role="optimizer", value=updates[updated[0]]),),
            help="gt.minimize(optimizer, first_loss + second_loss)",
        )
    foreign = {
        name
        for by_name in accumulators(request.optimizer).values()
        for name, variable in by_name.items()
        if not request.contains(variable)
    }
    names = [name for name in trainable if name in foreign]
    if names:
        name = type(request.optimizer).__name__
        reason = "has its state in another Program, to which it was added before"
        way = f"gt.minimize(paddle.optimizer.{name}(...), loss)"
        yield optimizer_unfit(name, reason, way, [f"state of {listed(names)}"])


def _minimize_legacy(request: _Request, ignored: Collection[Paddle | str] | None) -> _Minimized:
    optimizer = request.optimizer
    if request.accumulate > 1:
        merging = load_paddle().incubate.optimizer.GradientMergeOptimizer
        optimizer = merging(optimizer, k_steps=request.accumulate, avg=True)
    return optimizer.minimize(request.loss, request.startup, request.chosen, ignored)


def _minimize_pir(request: _Request, ignored: Collection[Paddle | str] | None) -> _Minimized:
    """Minimize a loss of a PIR Program, with gradients averaged over ranks and runs."""
    optimizer, count = request.optimizer, ranks.rank_count()
    arguments = (request.loss, request.startup, request.chosen, ignored)
    if count == request.accumulate == 1:
        return optimizer.minimize(*arguments)
    gradients = optimizer.backward(*arguments)
    if count > 1:
        gradients = ranks.average_gradients(gradients)
    if request.accumulate > 1:
        applied = _apply_every(request.accumulate, optimizer, gradients)
    else:
        applied = optimizer.apply_gradients(gradients)
    if count > 1:
        # Every rank loads its own teachers.
        frozen = {name for merged in request.info.merges for name in merged.names.values()}
        ranks.broadcast_start(request.startup, request.parameters.keys() - frozen)
    return applied, gradients


def _apply_every(
    runs: int, optimizer: Paddle, gradients: Iterable[tuple[Paddle, Paddle]]
) -> list[Paddle]:
    """Accumulate gradients, and apply their mean in a branch that every n-th run takes.

    Gradients of half precision are summed in float32, which does not lose small terms.
    """
    paddle = load_paddle()
    applied = list[Paddle]()
    sums: list[tuple[Paddle, Paddle, Paddle]] = []
    for parameter, gradient in sorted(gradients, key=lambda pair: pair[0].name):
        dtype = "float64" if gradient.dtype == paddle.float64 else "float32"
        variable = persistent_zeros(f"{parameter.name}_accumulated", gradient.shape, dtype)
        total = set_variable(variable, variable + gradient.astype(variable.dtype))
        sums.append((parameter, gradient, total))
    # Named after a parameter: unique to the Program, and the same one when it is built again.
    counter = persistent_zeros(f"{sums[0][0].name}_accumulated_runs", [1], "int64")
    run = set_variable(counter, (counter + 1) % runs)

    def update() -> None:
        means = [
            (parameter, (total / runs).astype(gradient.dtype))
            for parameter, gradient, total in sums
        ]
        applied.extend(optimizer.apply_gradients(means) or ())
        for _, _, total in sums:
            set_variable(total, paddle.zeros_like(total))

    every_n_runs(optimizer, run == 0, update)
    return applied
