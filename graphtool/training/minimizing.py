"""Add what trains a loss to its Program: on one process, or on all ranks of a launch."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, UsageError, counted, listed, warn
from graphtool.graph import FLOATS, HALVES, Graph
from graphtool.merging import merged_of
from graphtool.readers._paddle import legacy_mode, load_paddle, one_at_a_time
from graphtool.readers.layer_weights import is_dynamic
from graphtool.readers.live import read_program
from graphtool.structure import is_update
from graphtool.training import _ranks
from graphtool.training import minimize_problems as problems
from graphtool.training._alike import Description, described
from graphtool.training._clipping import complete_clip
from graphtool.training._half_way import is_marked, whole_or_marked
from graphtool.training._reach import reached
from graphtool.training._request import CALL, Request, is_pir_value

__all__ = ["minimize"]

# Optimizers, Programs and Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any
# What Paddle itself returns: operators, and pairs of a parameter and its gradient.
_Minimized: TypeAlias = tuple[list[_Paddle], list[tuple[_Paddle, _Paddle]]]

_DECORATED = "OptimizerWithMixedPrecision"
# What does nothing or fails under PIR, and what does there what it was meant to do.
_REFUSED_BY_PIR = {
    _DECORATED: 'with paddle.amp.auto_cast(dtype="bfloat16"): build the networks in static mode',
    "GradientMergeOptimizer": "gt.minimize(optimizer, loss, accumulate=4)",
    "RecomputeOptimizer": "gt.minimize(optimizer, loss), with a smaller batch and more ranks",
    "PipelineOptimizer": "gt.minimize(optimizer, loss), with the whole network on every rank",
    "DistributedFusedLamb": "gt.minimize(paddle.optimizer.Lamb(...), loss)",
    "LBFGS": "gt.minimize(paddle.optimizer.AdamW(...), loss)",
    "Fleet": "gt.minimize(optimizer, loss), with the optimizer that fleet was given",
}
# What makes the gradient of an embedding a list of rows, under PIR and in legacy Programs.
_SPARSE = ("sparse", "is_sparse")
_NONE: frozenset[str] = frozenset()
_STARTUP = "gt.minimize(optimizer, loss, startup)"


def minimize(
    optimizer: _Paddle,
    loss: _Paddle,
    startup_program: _Paddle | None = None,
    parameters: Sequence[_Paddle | str] | None = None,
    no_grad_set: Collection[_Paddle | str] | None = None,
    *,
    accumulate: int = 1,
    rank_timeout: float = 300.0,
) -> _Minimized:
    """Add the operators that train a loss, as the optimizer's own `minimize` does.

    Arguments and result are those of `paddle.optimizer.Optimizer.minimize`: `loss` is a Value of
    one element; `startup_program` gets what initialises the optimizer's state, the default one
    where None; all trainable parameters learn unless `parameters` names some. Run the startup
    program afterwards. Where the learning rate has a schedule, run under PIR in
    `paddle.static.scope_guard(scope)`: `executor.run(scope=...)` looks in the global Scope for it.

    With `accumulate` the parameters move in every so-many-th run, by the mean of the gradients of
    the runs since the last move: where each run has as many samples and the loss is a mean, that is
    the step of a batch so many times as large, up to rounding, with the memory of one. Clipping and
    weight decay act on that mean. Batch norms normalise by what one run is fed, and their running
    statistics move in every run; call a scheduler's `step` as often as the parameters move. The
    sums are Variables of the Program, so checkpoints have them.

    Under `python -m paddle.distributed.launch` the Program learns from all ranks: call
    `paddle.distributed.init_parallel_env()` before `paddle.enable_static()`, and feed each rank its
    share of the batch. The startup program then leaves rank 0's parameters on every rank, adapters
    too; load weights after it, the same ones on each rank. A step averages the gradients over the
    ranks, then clips and decays as on one process: where the shares are equal and the loss is a
    mean, it is the step of the joint batch, up to rounding. A merged teacher takes no part. Batch
    norms normalise by the share of their rank, and running statistics are each rank's own: save
    rank 0's. On GPUs (NCCL) all of this is untested.

    Ranks wait here for one another, `rank_timeout` seconds at most, and see that they are about to
    train the same loss by the same optimizer: a difference is said by all of them, with nothing
    added, and where one gives up waiting, all do. From then on a rank whose process ends, however
    it does, is named on the standard error of the others at once, and no step waits for it. One
    that runs, but is busy for more than 30 seconds while others wait for it in a step, counts as
    lost too with gloo (CPU).

    Mixed precision under PIR is what was built in `with paddle.amp.auto_cast():`, which on a CPU
    takes `dtype="bfloat16"` and static mode. For a legacy Program, optimizers of
    `paddle.static.amp` and `fleet.distributed_optimizer` do their own work.

    Ctrl-C waits until the optimizer is added: the Program trains by it then.

    Raises UsageError with all problems and the Program unchanged: GT529 to GT537, GT248. Raises
    ReadError for a name in `no_grad_set`: GT101, GT102; for a loss of another Program's Values:
    GT050. Raises GraphtoolError for other ranks: GT538, GT545, GT546. Raises GraphtoolError GT547
    where Paddle fails half-way: the Program and the optimizer hold part of the work then, and have
    to be built again. Warns with GT539 where mixed precision was asked for and does not act, and
    with GT548 where ranks can't reach each other but by Paddle: nothing is compared then.
    Source: https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/optimizer/Optimizer_en.html
    """
    if load_paddle().in_dynamic_mode():
        raise UsageError(problems.dynamic_mode())
    _refuse(_about_arguments(optimizer, loss))
    _refuse(_about_options(startup_program, parameters, no_grad_set))
    _refuse(_about_runs(accumulate))
    _refuse(_about_timeout(rank_timeout))
    legacy = not is_pir_value(loss)
    if not legacy and _ranks.joined():
        _ranks.meet(rank_timeout)
    with one_at_a_time(), legacy_mode() if legacy else nullcontext():
        request = Request(optimizer, loss, startup_program, parameters, accumulate)
        _refuse(_about_home(request))
        _refuse(_about_program(request))
        passed_over = request.passed_over(no_grad_set)
        if not legacy and _ranks.joined():
            _ranks.require_alike(_description(request, passed_over or ()), rank_timeout)
        guard = load_paddle().static.program_guard(request.program, request.startup)
        with whole_or_marked(request.program, optimizer), guard:
            complete_clip(optimizer)
            chosen = None if parameters is None else request.given
            if legacy and accumulate > 1:
                merging = load_paddle().incubate.optimizer.GradientMergeOptimizer
                merged = merging(optimizer, k_steps=accumulate, avg=True)
                done = merged.minimize(loss, request.startup, chosen, passed_over)
            elif legacy or _ranks.rank_count() == accumulate == 1:
                done = optimizer.minimize(loss, request.startup, chosen, passed_over)
            elif _ranks.rank_count() == 1:
                done = _step_by_step(request, passed_over)
            else:
                with _ranks.telling("in `gt.minimize`", "after `gt.minimize`"):
                    done = _step_by_step(request, passed_over)
                    names = request.known.keys() - _teachers(request.program)
                    _ranks.start_alike(request.startup, names)
    if legacy and type(optimizer).__name__ == _DECORATED:
        _warn_if_exact(request.program)
    return done


def _refuse(found: Iterable[Diagnostic]) -> None:
    problems_found = tuple(found)
    if problems_found:
        raise UsageError(*problems_found)


def _about_arguments(optimizer: _Paddle, loss: _Paddle) -> Iterator[Diagnostic]:
    paddle = load_paddle()
    minimizes = callable(getattr(optimizer, "minimize", None))
    if not minimizes or isinstance(optimizer, type | paddle.amp.GradScaler):
        yield problems.not_an_optimizer(type(optimizer).__name__)
    if not is_pir_value(loss) and not isinstance(loss, paddle.static.Variable):
        # What `gt.distill_loss` returns is no loss itself.
        part = "total" if hasattr(loss, "total") else "mean()"
        kind = type(loss).__name__
        yield problems.not_a_loss(kind, None, "a Value of a static Program", part)


def _about_options(
    startup: object, parameters: object, no_grad_set: object
) -> Iterator[Diagnostic]:
    if startup is not None and not isinstance(startup, load_paddle().static.Program):
        yield bad_argument("startup_program", startup, "a Program", _STARTUP)
    listed = isinstance(parameters, list | tuple)
    if parameters is not None and not (listed and parameters):
        wanted = "a list of parameters, or of their names, with one at least"
        yield bad_argument("parameters", cast("object", parameters), wanted, CALL)
    if no_grad_set is not None and not isinstance(no_grad_set, list | tuple | set | frozenset):
        wanted = "a set of Values, or of their names"
        yield bad_argument("no_grad_set", no_grad_set, wanted, CALL)


def _about_program(request: Request) -> Iterator[Diagnostic]:
    yield from _about_place(request)
    yield from _about_optimizer(request)
    loss, name = request.loss, request.loss_name
    if tuple(loss.shape) not in ((), (1,)) or request.graph.values[name].dtype not in FLOATS:
        yield problems.not_a_loss(name, tuple(loss.shape), "one number of floating point")
    strangers = list(_strangers(request))
    yield from strangers
    if not strangers:
        yield from _about_parameters(request)


def _about_home(request: Request) -> Iterator[Diagnostic]:
    if not request.is_at_home:
        yield problems.other_program(gone=request.startup_program is not None)
    elif is_marked(request.program) or is_marked(request.optimizer):
        yield problems.half_way(None)


def _about_place(request: Request) -> Iterator[Diagnostic]:
    if request.startup is request.program:
        wanted = "one that runs once"
        yield bad_argument("startup_program", "the loss's Program", wanted, _STARTUP)
    if is_pir_value(request.loss) and _ranks.rank_count() > 1 and not _ranks.joined():
        yield problems.ranks_not_joined(_ranks.rank_count())


def _about_optimizer(request: Request) -> Iterator[Diagnostic]:
    ranks, kind = _ranks.rank_count(), cast("_Paddle", type(request.optimizer))
    name: str = kind.__name__
    if not is_pir_value(request.loss):
        if ranks > 1 and name != "Fleet":
            reason = f"would train each of {ranks} ranks by itself on a legacy Program"
            way = "gt.minimize(fleet.distributed_optimizer(optimizer), loss)"
            yield problems.optimizer_unfit(name, reason, way)
    elif name in _REFUSED_BY_PIR:
        casts = _casts(request.graph)
        note = f"the Program has {counted(casts, 'cast')} to float16 or bfloat16"
        notes = [note] if name == _DECORATED else []
        reason = "does not work on a PIR Program"
        yield problems.optimizer_unfit(name, reason, _REFUSED_BY_PIR[name], notes)
    elif ranks > 1 and kind.minimize is not load_paddle().optimizer.Optimizer.minimize:
        reason = f"has a `minimize` of its own, which does not average over {ranks} ranks"
        way = "gt.minimize(paddle.optimizer.AdamW(...), loss)"
        yield problems.optimizer_unfit(name, reason, way)
    if request.accumulate > 1:
        yield from _about_accumulation(request, name)


def _about_accumulation(request: Request, name: str) -> Iterator[Diagnostic]:
    """Yield what stands against adding gradients up over several runs."""
    plain, runs = load_paddle().optimizer.Optimizer.minimize, request.accumulate
    if name == "Fleet":
        reason = "has a strategy of its own for gradients of several runs"
        way = f'strategy.gradient_merge_configs = {{"k_steps": {runs}}}, and gradient_merge = True'
        yield problems.optimizer_unfit(name, reason, way)
    elif cast("_Paddle", type(request.optimizer)).minimize is not plain:
        reason = f"has a `minimize` of its own, which does not add gradients up over {runs} runs"
        way = f"gt.minimize(paddle.optimizer.AdamW(...), loss, accumulate={runs})"
        yield problems.optimizer_unfit(name, reason, way)
    for operator in request.graph.operators.values():
        if any(operator.attributes.get(key) is True for key in _SPARSE):
            reason = f"cannot add up the sparse gradients of `{operator.name}`"
            way = "paddle.nn.Embedding(..., sparse=False)"
            yield problems.optimizer_unfit(name, reason, way)


def _casts(graph: Graph) -> int:
    return sum(
        operator.kind == "cast" and graph.values[operator.results[0]].dtype in HALVES
        for operator in graph.operators.values()
    )


def _warn_if_exact(program: _Paddle) -> None:
    if not _casts(read_program(program)):
        warn(problems.no_low_precision(_DECORATED))


def _strangers(request: Request) -> Iterator[Diagnostic]:
    """Yield what is to learn by the user's word and is no parameter of the Program."""
    for one in request.asked or ():
        name = one if isinstance(one, str) else _name(one, request)
        if is_dynamic(one):
            yield problems.strange_parameter(name, "is a parameter of the dynamic graph")
        elif isinstance(one, dict):
            reason = "is a group of parameters, which only the dynamic graph has"
            yield problems.strange_parameter(name, reason)
        elif name not in request.known or not (isinstance(one, str) or request.has(one)):
            yield problems.strange_parameter(name, "is no parameter of the loss's Program")


def _name(value: _Paddle, request: Request) -> str:
    if is_pir_value(value):
        return value.name if request.has(value) else type(value).__name__
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else type(value).__name__


def _about_parameters(request: Request) -> Iterator[Diagnostic]:
    found = {request.variable(name) for name in reached(request.graph, [request.loss_name])}
    if found.isdisjoint(request.learning):
        yield problems.nothing_learns(request.loss_name, request.learning, request.frozen)
    updates = dict(_updates(request))
    again = [name for name in request.learning if name in updates and name in found]
    if again:
        yield problems.minimized_before(again, updates[again[0]])
    elsewhere = request.kept_elsewhere
    if elsewhere:
        name = type(request.optimizer).__name__
        reason = "keeps its state in another Program, where it was added before"
        way = f"gt.minimize(paddle.optimizer.{name}(...), loss)"
        yield problems.optimizer_unfit(name, reason, way, [f"state of {listed(elsewhere)}"])


def _updates(request: Request) -> Iterator[tuple[str, str]]:
    """Yield each parameter that an optimizer moves by now, and the operator by which it does."""
    graph = request.graph
    for operator in filter(is_update, graph.operators.values()):
        for name in operator.operands:
            maker = None if name is None else graph.producer(name)
            several = maker.operands if maker and maker.kind == "combine" else (name,)
            for read in several:
                if read is not None and request.variable(read) in request.known:
                    yield request.variable(read), operator.name


def _about_timeout(given: object) -> Iterator[Diagnostic]:
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not 0 < given < float("inf")
    ):
        call = "gt.minimize(optimizer, loss, rank_timeout=300)"
        yield bad_argument("rank_timeout", given, "seconds, more than 0", call)


def _about_runs(given: object) -> Iterator[Diagnostic]:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        call = "gt.minimize(optimizer, loss, accumulate=4)"
        yield bad_argument("accumulate", given, "a number of runs, 1 or more", call)


def _description(request: Request, passed_over: Collection[_Paddle]) -> Description:
    return described(
        request.graph,
        request.loss_name,
        request.optimizer,
        learning=request.learning,
        passed_over=request.pir_names(passed_over),
        runs=request.accumulate,
    )


def _step_by_step(request: Request, passed_over: Collection[_Paddle | str] | None) -> _Minimized:
    """Do what `minimize` of a PIR Program does, the gradients averaged over ranks and runs."""
    chosen = None if request.asked is None else request.given
    gradients = request.optimizer.backward(request.loss, request.startup, chosen, passed_over)
    if _ranks.rank_count() > 1:
        gradients = _ranks.averaged(gradients)
    if request.accumulate == 1:
        return request.optimizer.apply_gradients(gradients), gradients
    return _applied_every(request.accumulate, request.optimizer, gradients), gradients


def _applied_every(
    runs: int, optimizer: _Paddle, gradients: Iterable[tuple[_Paddle, _Paddle]]
) -> list[_Paddle]:
    """Add gradients up, and let the optimizer move the parameters by their mean in a branch.

    Sums of half precision are kept in float32, as so many small terms would be lost.
    """
    paddle = load_paddle()
    ops, done = paddle._C_ops, list[_Paddle]()  # noqa: SLF001
    sums: list[tuple[_Paddle, _Paddle, _Paddle]] = []
    for parameter, gradient in sorted(gradients, key=lambda pair: pair[0].name):
        is_double = gradient.dtype == paddle.float64
        kept = _zeros(
            f"{parameter.name}_accumulated", gradient.shape, "float64" if is_double else "float32"
        )
        total = ops.assign_out_(kept + gradient.astype(kept.dtype), kept)
        sums.append((parameter, gradient, total))
    counter = _zeros(paddle.utils.unique_name.generate("accumulated_runs"), [1], "int64")
    run = ops.assign_out_((counter + 1) % runs, counter)

    def move() -> None:
        means = [(one, (total / runs).astype(each.dtype)) for one, each, total in sums]
        done.extend(optimizer.apply_gradients(means) or ())
        for _, _, total in sums:
            ops.assign_out_(paddle.zeros_like(total), total)

    # An Executor that follows a schedule looks for the rate outside of branches.
    optimizer._create_global_learning_rate()  # noqa: SLF001
    paddle.static.nn.cond(run == 0, move, lambda: None)
    return done


def _zeros(name: str, shape: Sequence[int], dtype: str) -> _Paddle:
    """Return a Variable that is kept from run to run, and is zero at first."""
    paddle = load_paddle()
    zero = paddle.nn.initializer.Constant(0.0)
    make = paddle.pir.core.create_persistable_value
    return make(dtype=dtype, shape=list(shape), name=name, initializer=zero)


def _teachers(program: _Paddle) -> frozenset[str]:
    """Return the names of merged teachers' parameters: frozen, and loaded alike by every rank."""
    last = merged_of(program)
    return (
        frozenset(name for one in last.teachers for name in one.names.values()) if last else _NONE
    )
