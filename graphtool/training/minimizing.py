"""Add the operators that train a loss to its Program, on one process or on all ranks."""

from __future__ import annotations

import gc
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.backend.errors import convert_paddle_errors
from graphtool.backend.layer_weights import is_dynamic_parameter
from graphtool.backend.live import LiveProgram, read_program
from graphtool.backend.optimizers import (
    accumulators,
    complete_clip,
    every_n_runs,
    parameter_list,
    persistent_zeros,
    set_variable,
)
from graphtool.backend.paddle import Paddle, is_legacy, legacy_mode, load_paddle, program_lock
from graphtool.backend.pir import PirWalk, contains_value, read_pir
from graphtool.backend.problems import not_static
from graphtool.checks.networks import already_minimized
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    UsageError,
    Where,
    counted,
    listed,
    warn,
)
from graphtool.dtypes import FLOAT_DTYPES, HALF_DTYPES
from graphtool.graph import Graph, variable_of
from graphtool.merging import merged_of
from graphtool.merging.problems import wrong_program
from graphtool.ops import is_optimizer
from graphtool.training import _ranks
from graphtool.training import minimize_problems as problems
from graphtool.training._alike import described
from graphtool.training._reach import reached_by_gradient

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


def minimize(
    optimizer: Paddle,
    loss: Paddle,
    startup_program: Paddle | None = None,
    parameters: Sequence[Paddle | str] | None = None,
    no_grad_set: Collection[Paddle | str] | None = None,
    *,
    accumulate: int = 1,
    rank_timeout: float = 300.0,
) -> _Minimized:
    """Add the operators that train a loss, as the optimizer's own `minimize` does.

    Arguments and result are those of `paddle.optimizer.Optimizer.minimize`: `loss` is a Value with
    one element; `startup_program`, by default Paddle's default one, gets the initialisers of the
    optimizer's state; all trainable parameters are updated unless `parameters` lists some. Run the
    startup program afterwards. With a learning rate scheduler under PIR, run in
    `paddle.static.scope_guard(scope)`: `executor.run(scope=...)` looks for the rate in the global
    Scope.

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

    Ranks wait here for each other, `rank_timeout` seconds at most, and check that all are about to
    train the same loss with the same optimizer. If they differ, all raise, with nothing added; if
    one times out, all do. From then on, if the process of a rank ends for any reason, the others
    name it on standard error at once, and no step waits for it. With gloo (CPU), a rank that keeps
    others waiting in a step for more than 30 seconds counts as lost too.

    Mixed precision under PIR is whatever was built in `with paddle.amp.auto_cast():`, which on a
    CPU takes `dtype="bfloat16"` and static mode. For legacy Programs, the optimizers of
    `paddle.static.amp` and `fleet.distributed_optimizer` work as usual.

    Ctrl-C takes effect once the optimizer has been added; the Program then trains with it.

    Raises UsageError with all problems and the Program unchanged: GT231, GT248, GT340, GT352,
    GT531, GT532, GT534, GT535, GT537. Raises ReadError for a name in `no_grad_set`: GT101, GT102;
    for a Program with Values of another one: GT050. Raises GraphtoolError for other ranks: GT538,
    GT546; GT547 where Paddle fails half-way: the Program and the optimizer are incomplete then, and
    have to be built again. Warns with GT539 if mixed precision was requested and has no effect, and
    with GT538 if ranks can only reach each other through Paddle: nothing is compared then.
    Source: https://www.paddlepaddle.org.cn/documentation/docs/en/api/paddle/optimizer/Optimizer_en.html
    """
    if load_paddle().in_dynamic_mode():
        raise UsageError(not_static("minimize"))
    _raise_any(_argument_errors(optimizer, loss))
    _raise_any(_option_errors(startup_program, parameters, no_grad_set))
    _raise_any(_accumulate_errors(accumulate))
    _raise_any(_timeout_errors(rank_timeout))
    legacy = not _is_pir_value(loss)
    if not legacy and _ranks.joined():
        _ranks.meet(rank_timeout)
    with program_lock(), legacy_mode() if legacy else nullcontext():
        request = _Request(optimizer, loss, startup_program, parameters, accumulate)
        _raise_any(_default_program_errors(request))
        _raise_any(_program_errors(request))
        ignored = request.no_grad_values(no_grad_set)
        if not legacy and _ranks.joined():
            description = described(
                request.graph,
                request.loss_name,
                optimizer,
                learning=request.trainable_names,
                passed_over=request.value_names(ignored or ()),
                runs=accumulate,
            )
            _ranks.require_alike(description, rank_timeout)
        guard = load_paddle().static.program_guard(request.program, request.startup)
        with _marked_unless_complete(request.program, optimizer), guard:
            complete_clip(optimizer)
            chosen = None if parameters is None else request.parameter_list
            if legacy and accumulate > 1:
                wrapper = load_paddle().incubate.optimizer.GradientMergeOptimizer
                wrapped = wrapper(optimizer, k_steps=accumulate, avg=True)
                result = wrapped.minimize(loss, request.startup, chosen, ignored)
            elif legacy or _ranks.rank_count() == accumulate == 1:
                result = optimizer.minimize(loss, request.startup, chosen, ignored)
            elif _ranks.rank_count() == 1:
                result = _minimize_pir(request, ignored)
            else:
                with _ranks.telling("in `gt.minimize`", "after `gt.minimize`"):
                    result = _minimize_pir(request, ignored)
                    teachers = _teacher_parameters(request.program)
                    names = request.program_parameters.keys() - teachers
                    _ranks.start_alike(request.startup, names)
    is_mixed = legacy and type(optimizer).__name__ == _AMP_WRAPPER
    if is_mixed and not _low_precision_casts(read_program(request.program)):
        warn(problems.no_low_precision(_AMP_WRAPPER))
    return result


def _is_pir_value(value: Paddle) -> bool:
    """Return whether an object is a PIR Value, without reading its attributes."""
    kind = getattr(load_paddle().pir, "Value", None)
    return kind is not None and isinstance(value, kind)


def _is_incomplete(target: Paddle) -> bool:
    """Return whether Paddle failed in `minimize` on a Program, its original, or an optimizer."""
    return getattr(target, _INCOMPLETE, False)


@contextmanager
def _marked_unless_complete(program: Paddle, optimizer: Paddle) -> Generator[None]:
    """Mark a Program and an optimizer as incomplete on any exception, interrupts included.

    Fleet is not marked: a process has a single one, which could never be used again.

    Raises GraphtoolError: GT547 with Paddle's error.
    """
    targets = {"Program": program}
    if type(optimizer).__name__ != "Fleet":
        targets["optimizer"] = optimizer
    with convert_paddle_errors(
        lambda reason: GraphtoolError(problems.half_way(reason, marked=tuple(targets)))
    ):
        for target in targets.values():
            setattr(target, _INCOMPLETE, True)
        yield
        for target in targets.values():
            delattr(target, _INCOMPLETE)


@dataclass(frozen=True)
class _Request:
    """The arguments of a `minimize` call, resolved lazily, before anything is added."""

    optimizer: Paddle
    loss: Paddle
    startup_program: Paddle | None
    parameters: Sequence[Paddle | str] | None
    accumulate: int

    @cached_property
    def program(self) -> Paddle:
        """The loss's Program; under PIR the default one unless a startup program is given."""
        if not _is_pir_value(self.loss):
            return self.loss.block.program
        default = load_paddle().static.default_main_program()
        if self.startup_program is None or contains_value(default, self.loss):
            return default
        return next(
            (each for each in _living_programs() if contains_value(each, self.loss)), default
        )

    @property
    def has_found_program(self) -> bool:
        """Return whether the loss is in the default Program; with a startup program, in any."""
        if _is_pir_value(self.loss):
            return self._walk is not None and self.loss.id in self._walk.names
        if self.startup_program is not None:
            return True
        return load_paddle().static.default_main_program() is self.program

    @cached_property
    def startup(self) -> Paddle:
        given = self.startup_program
        return load_paddle().static.default_startup_program() if given is None else given

    @cached_property
    def graph(self) -> Graph:
        return self._walk.graph if self._walk else read_program(self.program)

    @cached_property
    def _walk(self) -> PirWalk | None:
        is_pir = _is_pir_value(self.loss) and not is_legacy(self.program)
        return read_pir(self.program) if is_pir else None

    @cached_property
    def loss_name(self) -> str:
        """The name of the loss in the Graph: the last write to a legacy Variable."""
        if self._walk:
            return self._walk.names[self.loss.id]
        writes = [name for name in self.graph.values if self.variable_name(name) == self.loss.name]
        return writes[-1]

    def value_names(self, values: Iterable[Paddle]) -> list[str]:
        """Return the names of PIR Values in the Graph."""
        return [self._walk.names[value.id] for value in values] if self._walk else []

    def variable_name(self, name: str) -> str:
        """Return the name of a Value's Variable, which under PIR is its own name."""
        return name if self._walk else variable_of(name, self.graph)

    @cached_property
    def program_parameters(self) -> Mapping[str, Paddle]:
        """All parameters of the Program by name, sorted: PIR lists them in no order."""
        found = {each.name: each for each in self.program.global_block().all_parameters()}
        return dict(sorted(found.items()))

    def has_parameter(self, parameter: Paddle) -> bool:
        """Return whether a parameter is the Program's; only the id of a PIR Value is read."""
        if not _is_pir_value(parameter):
            return getattr(parameter, "name", None) in self.program_parameters
        return parameter.id in {each.id for each in self.program_parameters.values()}

    @cached_property
    def requested_parameters(self) -> Sequence[Paddle | str] | None:
        """The parameters given to the call or to the optimizer, None for all."""
        return self.parameters or parameter_list(self.optimizer)

    @property
    def parameter_list(self) -> list[Paddle]:
        """The requested parameters, as Paddle takes them."""
        known, requested = self.program_parameters, self.requested_parameters
        if requested is None:
            return list(known.values())
        return [known[each] if isinstance(each, str) else each for each in requested]

    def no_grad_values(
        self, no_grad_set: Collection[Paddle | str] | None
    ) -> Collection[Paddle | str] | None:
        """Return `no_grad_set` as Paddle takes it, which under PIR means without names.

        Raises UsageError: GT248 for a Value of another Program. Raises ReadError: GT101, GT102,
        GT031.
        """
        if no_grad_set is None or self._walk is None:
            return no_grad_set
        for each in no_grad_set:
            if not isinstance(each, str) and getattr(each, "id", None) not in self._walk.names:
                wanted = "a Value of the loss's Program, or its name"
                raise UsageError(bad_argument("no_grad_set", each, wanted, _CALL))
        live = LiveProgram(program=self.program, graph=self.graph, keys=self._walk.keys)
        return [live.value(each) if isinstance(each, str) else each for each in no_grad_set]

    @cached_property
    def trainable_names(self) -> list[str]:
        """The names of the requested parameters that are not frozen."""
        return [each.name for each in self.parameter_list if _is_trainable(each)]

    @property
    def frozen_names(self) -> list[str]:
        """The names of the requested parameters that are frozen."""
        return [each.name for each in self.parameter_list if not _is_trainable(each)]

    @property
    def names_with_foreign_state(self) -> list[str]:
        """The trainable names for which the optimizer has state in another Program."""
        kinds = accumulators(self.optimizer).values()
        states = [state for by_name in kinds for state in by_name.items()]
        foreign = {name for name, variable in states if not self._is_in_program(variable)}
        return [name for name in self.trainable_names if name in foreign]

    def _is_in_program(self, variable: Paddle) -> bool:
        """Return whether a Variable is in this Program; only the id of a PIR Value is read."""
        if _is_pir_value(variable):
            return self._walk is not None and variable.id in self._walk.names
        return variable.block.program is self.program


def _living_programs() -> list[Paddle]:
    """Return all living PIR Programs.

    A Value can't be asked for its Program: it crashes if that, or its operation, is gone.
    """
    kind = load_paddle().pir.Program
    # Not lazily: CPython fails if anything else refers to a tuple that it is still building.
    return [each for each in gc.get_objects() if type(each) is kind]


def _is_trainable(parameter: Paddle) -> bool:
    return not parameter.stop_gradient and bool(getattr(parameter, "trainable", True))


def _raise_any(errors: Iterable[Diagnostic]) -> None:
    found = tuple(errors)
    if found:
        raise UsageError(*found)


def _argument_errors(optimizer: Paddle, loss: Paddle) -> Iterator[Diagnostic]:
    paddle = load_paddle()
    minimizes = callable(getattr(optimizer, "minimize", None))
    if not minimizes or isinstance(optimizer, type | paddle.amp.GradScaler):
        example = "gt.minimize(paddle.optimizer.AdamW(0.001), loss)"
        yield bad_argument("optimizer", optimizer, "an optimizer of Paddle", example)
    if not _is_pir_value(loss) and not isinstance(loss, paddle.static.Variable):
        # The result of `gt.distill_loss` is not a loss itself.
        part = "total" if hasattr(loss, "total") else "mean()"
        kind = type(loss).__name__
        yield problems.not_a_loss(kind, None, "a Value of a static Program", part)


def _option_errors(
    startup: object, parameters: object, no_grad_set: object
) -> Iterator[Diagnostic]:
    if startup is not None and not isinstance(startup, load_paddle().static.Program):
        yield bad_argument("startup_program", startup, "a Program", _CALL_WITH_STARTUP)
    is_list = isinstance(parameters, list | tuple)
    if parameters is not None and not (is_list and parameters):
        wanted = "a list of parameters, or of their names, with one at least"
        yield bad_argument("parameters", cast("object", parameters), wanted, _CALL)
    if no_grad_set is not None and not isinstance(no_grad_set, list | tuple | set | frozenset):
        wanted = "a set of Values, or of their names"
        yield bad_argument("no_grad_set", no_grad_set, wanted, _CALL)


def _accumulate_errors(given: object) -> Iterator[Diagnostic]:
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        call = "gt.minimize(optimizer, loss, accumulate=4)"
        yield bad_argument("accumulate", given, "a number of runs, 1 or more", call)


def _timeout_errors(given: object) -> Iterator[Diagnostic]:
    if (
        isinstance(given, bool)
        or not isinstance(given, int | float)
        or not 0 < given < float("inf")
    ):
        call = "gt.minimize(optimizer, loss, rank_timeout=300)"
        yield bad_argument("rank_timeout", given, "seconds, more than 0", call)


def _default_program_errors(request: _Request) -> Iterator[Diagnostic]:
    if not request.has_found_program:
        yield wrong_program(
            "the loss belongs to another Program than the current main one"
            if request.startup_program is None
            else "the loss belongs to no Program that still exists",
            help=f"with paddle.static.program_guard(merged.program, startup): {_CALL}",
        )
    elif _is_incomplete(request.program) or _is_incomplete(request.optimizer):
        yield problems.half_way(None)


def _program_errors(request: _Request) -> Iterator[Diagnostic]:
    if request.startup is request.program:
        wanted = "one that runs once"
        yield bad_argument("startup_program", "the loss's Program", wanted, _CALL_WITH_STARTUP)
    if _is_pir_value(request.loss) and _ranks.rank_count() > 1 and not _ranks.joined():
        yield problems.ranks_not_joined(_ranks.rank_count())
    yield from _optimizer_errors(request)
    loss, name = request.loss, request.loss_name
    if tuple(loss.shape) not in ((), (1,)) or request.graph.values[name].dtype not in FLOAT_DTYPES:
        yield problems.not_a_loss(name, tuple(loss.shape), "one number of floating point")
    unknown = list(_unknown_parameters(request))
    yield from unknown
    if not unknown:
        yield from _parameter_errors(request)


def _optimizer_errors(request: _Request) -> Iterator[Diagnostic]:
    ranks, kind = _ranks.rank_count(), cast("Paddle", type(request.optimizer))
    name: str = kind.__name__
    if not _is_pir_value(request.loss):
        if ranks > 1 and name != "Fleet":
            reason = f"would train each of {ranks} ranks by itself on a legacy Program"
            way = "gt.minimize(fleet.distributed_optimizer(optimizer), loss)"
            yield problems.optimizer_unfit(name, reason, way)
    elif name in _REFUSED_BY_PIR:
        casts = _low_precision_casts(request.graph)
        note = f"the Program has {counted(casts, 'cast')} to float16 or bfloat16"
        notes = [note] if name == _AMP_WRAPPER else []
        reason = "does not work on a PIR Program"
        yield problems.optimizer_unfit(name, reason, _REFUSED_BY_PIR[name], notes)
    elif ranks > 1 and kind.minimize is not load_paddle().optimizer.Optimizer.minimize:
        reason = f"overrides `minimize` and does not average over {ranks} ranks"
        way = "gt.minimize(paddle.optimizer.AdamW(...), loss)"
        yield problems.optimizer_unfit(name, reason, way)
    if request.accumulate > 1:
        yield from _accumulation_errors(request, name)


def _accumulation_errors(request: _Request, name: str) -> Iterator[Diagnostic]:
    """Find what prevents the accumulation of gradients."""
    plain, runs = load_paddle().optimizer.Optimizer.minimize, request.accumulate
    if name == "Fleet":
        reason = "has its own strategy for gradients of several runs"
        way = f'strategy.gradient_merge_configs = {{"k_steps": {runs}}}, and gradient_merge = True'
        yield problems.optimizer_unfit(name, reason, way)
    elif cast("Paddle", type(request.optimizer)).minimize is not plain:
        reason = f"overrides `minimize` and does not add up gradients over {runs} runs"
        way = f"gt.minimize(paddle.optimizer.AdamW(...), loss, accumulate={runs})"
        yield problems.optimizer_unfit(name, reason, way)
    for operator in request.graph.operators.values():
        if any(operator.attributes.get(key) is True for key in _SPARSE):
            reason = f"cannot add up the sparse gradients of `{operator.name}`"
            way = "paddle.nn.Embedding(..., sparse=False)"
            yield problems.optimizer_unfit(name, reason, way)


def _low_precision_casts(graph: Graph) -> int:
    """Count the casts to float16 and bfloat16."""
    return sum(
        operator.kind == "cast" and graph.values[operator.results[0]].dtype in HALF_DTYPES
        for operator in graph.operators.values()
    )


def _unknown_parameters(request: _Request) -> Iterator[Diagnostic]:
    """Find requested parameters that the Program does not have."""
    for each in request.requested_parameters or ():
        name = each if isinstance(each, str) else _display_name(each, request)
        if is_dynamic_parameter(each):
            yield problems.unknown_parameter(name, "is a parameter of the dynamic graph")
        elif isinstance(each, dict):
            reason = "is a group of parameters, which only the dynamic graph has"
            yield problems.unknown_parameter(name, reason)
        elif name not in request.program_parameters or not (
            isinstance(each, str) or request.has_parameter(each)
        ):
            yield problems.unknown_parameter(name, "is not a parameter of the loss's Program")


def _display_name(value: Paddle, request: _Request) -> str:
    if _is_pir_value(value):
        return value.name if request.has_parameter(value) else type(value).__name__
    name = getattr(value, "name", None)
    return name if isinstance(name, str) else type(value).__name__


def _parameter_errors(request: _Request) -> Iterator[Diagnostic]:
    trainable = request.trainable_names
    reached = {
        request.variable_name(name)
        for name in reached_by_gradient(request.graph, [request.loss_name])
    }
    if reached.isdisjoint(trainable):
        yield problems.nothing_learns(request.loss_name, trainable, request.frozen_names)
    updates = dict(_updates(request))
    updated = [name for name in trainable if name in updates and name in reached]
    if updated:
        yield already_minimized(
            f"an optimizer already updates {counted(len(updated), 'parameter')}: {listed(updated)}",
            where=(Where(role="optimizer", value=updates[updated[0]]),),
            help="gt.minimize(optimizer, first_loss + second_loss)",
        )
    foreign = request.names_with_foreign_state
    if foreign:
        name = type(request.optimizer).__name__
        reason = "has its state in another Program, to which it was added before"
        way = f"gt.minimize(paddle.optimizer.{name}(...), loss)"
        yield problems.optimizer_unfit(name, reason, way, [f"state of {listed(foreign)}"])


def _updates(request: _Request) -> Iterator[tuple[str, str]]:
    """Yield each parameter that an optimizer already updates, and the operator that does."""
    graph = request.graph
    for operator in filter(is_optimizer, graph.operators.values()):
        for name in operator.operands:
            producer = None if name is None else graph.producer(name)
            is_combine = producer is not None and producer.kind == "combine"
            operands = producer.operands if producer and is_combine else (name,)
            variables = [request.variable_name(each) for each in operands if each is not None]
            yield from (
                (each, operator.name) for each in variables if each in request.program_parameters
            )


def _minimize_pir(request: _Request, ignored: Collection[Paddle | str] | None) -> _Minimized:
    """Minimize a loss of a PIR Program, with gradients averaged over ranks and runs."""
    chosen = None if request.requested_parameters is None else request.parameter_list
    gradients = request.optimizer.backward(request.loss, request.startup, chosen, ignored)
    if _ranks.rank_count() > 1:
        gradients = _ranks.averaged(gradients)
    if request.accumulate == 1:
        return request.optimizer.apply_gradients(gradients), gradients
    return _apply_every(request.accumulate, request.optimizer, gradients), gradients


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


def _teacher_parameters(program: Paddle) -> frozenset[str]:
    """Return the names of merged teachers' parameters: frozen, and loaded by every rank."""
    last = merged_of(program)
    teachers = last.teachers if last else ()
    return frozenset(name for merged in teachers for name in merged.names.values())
