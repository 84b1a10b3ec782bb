"""Add what trains a loss to its Program: on one process, or on all ranks of a launch."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, UsageError, counted
from graphtool.graph import Graph
from graphtool.merging import merged_of
from graphtool.readers._legacy import variable_of
from graphtool.readers._paddle import load_paddle
from graphtool.readers._pir import PirWalk, walk_pir
from graphtool.readers.layer_weights import is_dynamic
from graphtool.readers.live import LiveProgram, read_program
from graphtool.structure import is_update
from graphtool.training import _ranks
from graphtool.training import minimize_problems as problems
from graphtool.training._clipping import complete_clip
from graphtool.training._legacy_mode import legacy_mode
from graphtool.training._reach import reached

__all__ = ["minimize"]

# Optimizers, Programs and Values are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any
_Minimized: TypeAlias = tuple[list[_Paddle], list[tuple[_Paddle, _Paddle]]]

_DECORATED = "OptimizerWithMixedPrecision"
# What does nothing or fails under PIR, and what does there what it was meant to do.
_REFUSED_BY_PIR = {
    _DECORATED: "with paddle.amp.auto_cast(): build the networks, and decorate no optimizer",
    "GradientMergeOptimizer": "gt.minimize(optimizer, loss), with a larger batch or more ranks",
    "RecomputeOptimizer": "gt.minimize(optimizer, loss), with a smaller batch and more ranks",
    "PipelineOptimizer": "gt.minimize(optimizer, loss), with the whole network on every rank",
    "DistributedFusedLamb": "gt.minimize(paddle.optimizer.Lamb(...), loss)",
    "LBFGS": "gt.minimize(paddle.optimizer.AdamW(...), loss)",
    "Fleet": "gt.minimize(optimizer, loss), with the optimizer that fleet was given",
}
_LOW_PRECISION = frozenset({"float16", "bfloat16"})
_FRACTIONS = _LOW_PRECISION | {"float32", "float64"}
_NONE: frozenset[str] = frozenset()
_CALL, _STARTUP = "gt.minimize(optimizer, loss)", "gt.minimize(optimizer, loss, startup)"


def minimize(
    optimizer: _Paddle,
    loss: _Paddle,
    startup_program: _Paddle | None = None,
    parameters: Sequence[_Paddle | str] | None = None,
    no_grad_set: Collection[_Paddle | str] | None = None,
) -> _Minimized:
    """Add the operators that train a loss, as the optimizer's own `minimize` does.

    Arguments and result are those of `paddle.optimizer.Optimizer.minimize`: `loss` is a Value of
    one element; `startup_program` gets what initialises the optimizer's state, the default one
    where None; all trainable parameters learn unless `parameters` names some. Run the startup
    program afterwards. Where the learning rate has a schedule, run under PIR in
    `paddle.static.scope_guard(scope)`: `executor.run(scope=...)` looks in the global Scope for it.

    Under `python -m paddle.distributed.launch` the Program learns from all ranks: call
    `paddle.distributed.init_parallel_env()` before `paddle.enable_static()`, and feed each rank its
    share of the batch. The startup program then leaves rank 0's parameters on every rank, adapters
    too; load weights after it, the same ones on each rank. A step averages the gradients over the
    ranks, then clips and decays as on one process: where the shares are equal and the loss is a
    mean, it is the step of the joint batch, up to rounding. A merged teacher takes no part. Batch
    norms normalise by the share of their rank, and running statistics are each rank's own: save
    rank 0's. With gloo (CPU) a rank stops that waits for another for more than 30 seconds. On GPUs
    (NCCL) all of this is untested.

    Mixed precision under PIR is what was built in `with paddle.amp.auto_cast():`. For a legacy
    Program, optimizers of `paddle.static.amp` and `fleet.distributed_optimizer` do their own work.

    Raises UsageError with all problems and the Program unchanged: GT529 to GT537, GT248. Raises
    ReadError for a name in `no_grad_set`: GT101, GT102. Warns with GT539 where mixed precision was
    asked for and does not act.
    Source: https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/optimizer/Optimizer_en.html
    """
    if load_paddle().in_dynamic_mode():
        raise UsageError(problems.dynamic_mode())
    _refuse(_about_arguments(optimizer, loss))
    _refuse(_about_options(startup_program, parameters, no_grad_set))
    legacy = not _is_pir(loss)
    with legacy_mode() if legacy else nullcontext():
        request = _Request(optimizer, loss, startup_program, parameters)
        _refuse(_about_program(request))
        passed_over = request.passed_over(no_grad_set)
        with load_paddle().static.program_guard(request.program, request.startup):
            complete_clip(optimizer)
            if legacy or _ranks.rank_count() == 1:
                chosen = None if parameters is None else request.given
                done = optimizer.minimize(loss, request.startup, chosen, passed_over)
            else:
                done = _on_all_ranks(request, passed_over)
    if legacy and type(optimizer).__name__ == _DECORATED:
        _warn_if_exact(request.program)
    return done


def _refuse(found: Iterable[Diagnostic]) -> None:
    problems_found = tuple(found)
    if problems_found:
        raise UsageError(*problems_found)


def _is_pir(loss: _Paddle) -> bool:
    value = getattr(load_paddle().pir, "Value", None)
    return value is not None and isinstance(loss, value)


def _about_arguments(optimizer: _Paddle, loss: _Paddle) -> Iterator[Diagnostic]:
    paddle = load_paddle()
    minimizes = callable(getattr(optimizer, "minimize", None))
    if not minimizes or isinstance(optimizer, type | paddle.amp.GradScaler):
        yield problems.not_an_optimizer(type(optimizer).__name__)
    if not _is_pir(loss) and not isinstance(loss, paddle.static.Variable):
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
        yield bad_argument("parameters", cast("object", parameters), wanted, _CALL)
    if no_grad_set is not None and not isinstance(no_grad_set, list | tuple | set | frozenset):
        wanted = "a set of Values, or of their names"
        yield bad_argument("no_grad_set", no_grad_set, wanted, _CALL)


@dataclass(frozen=True)
class _Request:
    """A call, and what it works on: looked at before anything is added."""

    optimizer: _Paddle
    loss: _Paddle
    startup_program: _Paddle | None
    parameters: Sequence[_Paddle | str] | None

    @property
    def program(self) -> _Paddle:
        return self.loss.block.program

    @cached_property
    def startup(self) -> _Paddle:
        given = self.startup_program
        return load_paddle().static.default_startup_program() if given is None else given

    @cached_property
    def graph(self) -> Graph:
        return self._walk.graph if self._walk else read_program(self.program)

    @cached_property
    def _walk(self) -> PirWalk | None:
        return walk_pir(self.program) if _is_pir(self.loss) else None

    @cached_property
    def loss_name(self) -> str:
        """The loss's name in the Graph: a legacy Variable's last write."""
        if self._walk:
            return self._walk.names[self.loss.id]
        writes = (name for name in self.graph.values if self.variable(name) == self.loss.name)
        return list(writes)[-1]

    def variable(self, name: str) -> str:
        """Return a Value's Variable; under PIR a Value is one itself."""
        return name if self._walk else variable_of(name, self.graph)

    @cached_property
    def known(self) -> Mapping[str, _Paddle]:
        """All parameters of the Program, by name; PIR lists them in no order."""
        found = {one.name: one for one in self.program.global_block().all_parameters()}
        return dict(sorted(found.items()))

    @cached_property
    def asked(self) -> Sequence[_Paddle | str] | None:
        """What is to learn, as it was given to the call or to the optimizer; None for all."""
        listed = self.parameters or getattr(self.optimizer, "_parameter_list", None)
        return listed or None

    @property
    def given(self) -> list[_Paddle]:
        """What is to learn, as Paddle takes it."""
        asked = self.known.values() if self.asked is None else self.asked
        return [self.known[one] if isinstance(one, str) else one for one in asked]

    def passed_over(
        self, no_grad_set: Collection[_Paddle | str] | None
    ) -> Collection[_Paddle | str] | None:
        """Return what is to get no gradient as Paddle takes it, which knows no names under PIR.

        Raises ReadError: GT101, GT102, GT031.
        """
        if no_grad_set is None or self._walk is None:
            return no_grad_set
        live = LiveProgram(program=self.program, graph=self.graph, keys=self._walk.keys)
        return [live.value(one) if isinstance(one, str) else one for one in no_grad_set]

    @cached_property
    def learning(self) -> list[str]:
        """Names of what is to learn and is not frozen."""
        return [one.name for one in self.given if _learns(one)]

    @property
    def frozen(self) -> list[str]:
        """Names of what is to learn and is frozen."""
        return [one.name for one in self.given if not _learns(one)]


def _learns(parameter: _Paddle) -> bool:
    return not parameter.stop_gradient and bool(getattr(parameter, "trainable", True))


def _about_program(request: _Request) -> Iterator[Diagnostic]:
    yield from _about_place(request)
    yield from _about_optimizer(request)
    loss, name = request.loss, request.loss_name
    if tuple(loss.shape) not in ((), (1,)) or request.graph.values[name].dtype not in _FRACTIONS:
        yield problems.not_a_loss(name, tuple(loss.shape), "one number of floating point")
    strangers = list(_strangers(request))
    yield from strangers
    if not strangers:
        yield from _about_parameters(request)


def _about_place(request: _Request) -> Iterator[Diagnostic]:
    paddle = load_paddle()
    here = paddle.static.default_main_program() is request.program
    if request.startup_program is None and not here:
        yield problems.other_program(request.loss_name)
    if request.startup is request.program:
        wanted = "one that runs once"
        yield bad_argument("startup_program", "the loss's Program", wanted, _STARTUP)
    if _is_pir(request.loss) and _ranks.rank_count() > 1 and not _ranks.joined():
        yield problems.ranks_not_joined(_ranks.rank_count())


def _about_optimizer(request: _Request) -> Iterator[Diagnostic]:
    ranks, kind = _ranks.rank_count(), cast("_Paddle", type(request.optimizer))
    name: str = kind.__name__
    if not _is_pir(request.loss):
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


def _casts(graph: Graph) -> int:
    return sum(
        operator.kind == "cast" and graph.values[operator.results[0]].dtype in _LOW_PRECISION
        for operator in graph.operators.values()
    )


def _warn_if_exact(program: _Paddle) -> None:
    if not _casts(read_program(program)):
        warnings.warn(str(problems.no_low_precision(_DECORATED)), stacklevel=3)


def _strangers(request: _Request) -> Iterator[Diagnostic]:
    """Yield what is to learn by the user's word and is no parameter of the Program."""
    for one in request.asked or ():
        name = one if isinstance(one, str) else _name(one)
        if is_dynamic(one):
            yield problems.strange_parameter(name, "is a parameter of the dynamic graph")
        elif isinstance(one, dict):
            reason = "is a group of parameters, which only the dynamic graph has"
            yield problems.strange_parameter(name, reason)
        elif name not in request.known:
            yield problems.strange_parameter(name, "is no parameter of the loss's Program")


def _name(value: _Paddle) -> str:
    try:
        return value.name
    except (AttributeError, ValueError):  # A Value of PIR that has no name says so in this way.
        return type(value).__name__


def _about_parameters(request: _Request) -> Iterator[Diagnostic]:
    found = {request.variable(name) for name in reached(request.graph, [request.loss_name])}
    if found.isdisjoint(request.learning):
        yield problems.nothing_learns(request.loss_name, request.learning, request.frozen)
    updates = dict(_updates(request))
    again = [name for name in request.learning if name in updates and name in found]
    if again:
        yield problems.minimized_before(again, updates[again[0]])


def _updates(request: _Request) -> Iterator[tuple[str, str]]:
    """Yield each parameter that an optimizer moves by now, and the operator by which it does."""
    graph = request.graph
    for operator in filter(is_update, graph.operators.values()):
        for name in operator.operands:
            maker = None if name is None else graph.producer(name)
            several = maker.operands if maker and maker.kind == "combine" else (name,)
            for read in several:
                if read is not None and request.variable(read) in request.known:
                    yield request.variable(read), operator.name


def _on_all_ranks(request: _Request, passed_over: Collection[_Paddle | str] | None) -> _Minimized:
    chosen = None if request.asked is None else request.given
    gradients = request.optimizer.backward(request.loss, request.startup, chosen, passed_over)
    gradients = _ranks.averaged(gradients)
    done = request.optimizer.apply_gradients(gradients)
    _ranks.start_alike(request.startup, request.known.keys() - _teachers(request.program))
    _ranks.name_lost_ranks()
    return done, gradients


def _teachers(program: _Paddle) -> frozenset[str]:
    """Return the names of merged teachers' parameters: frozen, and loaded alike by every rank."""
    last = merged_of(program)
    return (
        frozenset(name for one in last.teachers for name in one.names.values()) if last else _NONE
    )
