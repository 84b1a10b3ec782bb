"""Checkpoints of a training Program: training resumes bit for bit where it stopped."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import cast

from graphtool.arguments import bad_argument
from graphtool.backend.generators import can_restore, random_state, set_random_state
from graphtool.backend.optimizers import (
    accumulators,
    learning_rate,
    master_weights,
    rate_variable,
    unwrapped,
)
from graphtool.backend.paddle import Paddle, load_paddle, program_lock
from graphtool.backend.tensors import copy_from_scope, full_like, initialised_tensors, set_tensors
from graphtool.checks import persistable_names, used_names
from graphtool.checks.parameters import uninitialised_parameters
from graphtool.diagnostics import Diagnostic, GraphtoolError, Report, Severity, UsageError, listed
from graphtool.graph import Value, fits_shape
from graphtool.merging import Merged
from graphtool.merging.folder import other_release
from graphtool.readers.tensor_files import Tensor, digest
from graphtool.text import escaped_bounded
from graphtool.training import checkpoint_problems as problems
from graphtool.training._checkpoint_file import (
    SCHEMA,
    CheckpointContents,
    Manifest,
    SavedTeacher,
    SchedulerState,
    read_checkpoint,
    write_checkpoint,
)
from graphtool.training._program_info import ProgramInfo, check_scope
from graphtool.version import version

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

# Where optimizers that wrap another one keep it: mixed precision, LookAhead, fleet.
# The key of the learning rate among the Variables.
_RATE_KEY = ":learning_rate"
# Counters of `CosineAnnealingWarmRestarts` that its `state_dict` omits.
_OMITTED_COUNTERS = ("T_cur", "T_i")
# Every scheduler has these from the start; other fields may be None at first.
_ALWAYS_SET = frozenset({"last_epoch", "last_lr"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was loaded: the step at which it was saved, and the names of the Variables set."""

    path: str
    step: int
    loaded: tuple[str, ...]
    report: Report

    def __str__(self) -> str:
        return f"{escaped_bounded(self.path)}: step {self.step}, {len(self.loaded)} Variables"


@program_lock()
def save_checkpoint(
    path: str | PathLike[str],
    program: Paddle,
    optimizer: Paddle,
    *,
    step: int,
    scope: Paddle | None = None,
) -> None:
    """Save everything a training Program needs to resume, in one file, atomically.

    `program` is a Program of either kind or holds one (a Merged); `optimizer` is the one given to
    `gt.minimize`. Saved are the student, adapters, running statistics, the optimizer's state
    (moments, master weights, powers of beta), the state of its learning rate scheduler, `step`, and
    the state of Paddle's random generators; of a merged teacher, only a digest. The file holds
    plain tensors in the format of a `.pdiparams`; loading it executes nothing. `scope` defaults to
    the global Scope. Not saved are the state of NumPy's generators and the position in the data. In
    distributed training each rank saves its own file: random state and running statistics differ.
    Paddle 2.6 exposes no random state, so its generator is reseeded there.

    Raises GraphtoolError: GT601, GT235 for uninitialised Variables. Raises UsageError: GT248, GT625
    for another optimizer.
    """
    state = _TrainingState.of(program, optimizer)
    check_scope(scope)
    scope = load_paddle().static.global_scope() if scope is None else scope
    variables = state.variables()
    if type(step) is not int or step < 0:
        example = "gt.save_checkpoint(path, merged, optimizer, step=1000)"
        raise UsageError(bad_argument("step", step, "a whole number of 0 or more", example))
    if not state.is_minimized:
        raise UsageError(problems.never_minimized(state.optimizer_name))
    _require_initialised([*variables.values(), *state.info.teacher_weights], scope)
    manifest = Manifest(
        schema=SCHEMA,
        graphtool=version(),
        paddle=str(load_paddle().__version__),
        step=step,
        keys=tuple(variables),
        optimizer=state.optimizer_name,
        schedule=state.scheduler_name,
        rate=state.rate,
        rates=state.scheduler_state(),
        random=random_state(),
        teachers=state.teachers(scope),
        operators=dict(state.operator_counts()),
    )
    write_checkpoint(
        Path(fspath(path)), manifest, lambda: copy_from_scope(scope, variables.values())
    )


@program_lock()
def load_checkpoint(
    path: str | PathLike[str],
    program: Paddle,
    optimizer: Paddle,
    *,
    scope: Paddle | None = None,
) -> Checkpoint:
    """Restore a training Program, its optimizer and random state from a checkpoint.

    Build, merge and minimize as before, run the startup program, then load: the following losses
    are bit for bit those that followed `save_checkpoint`. The optimizer's Variables are matched by
    parameter and kind, not by their counted names. `report` warns of possible differences: other
    operators, another release of Paddle, another device, another learning rate. An optimizer with a
    number for its learning rate keeps that.

    Raises GraphtoolError with all problems and nothing changed: GT235 for a teacher without
    weights, GT623, GT624, GT625. Raises ReadError: GT001, GT010, GT240, GT621 for the file.
    Raises UsageError: GT248.
    """
    file = Path(fspath(path))
    contents = read_checkpoint(file)
    state = _TrainingState.of(program, optimizer)
    check_scope(scope)
    scope = load_paddle().static.global_scope() if scope is None else scope
    variables = state.variables()
    found = list(_diagnostics(str(file), contents, state, variables, scope))
    errors = [each for each in found if each.severity is Severity.ERROR]
    if errors:
        raise GraphtoolError(*errors)
    _apply(contents, state, variables, scope)
    return Checkpoint(
        path=str(file),
        step=contents.manifest.step,
        loaded=tuple(variables.values()),
        report=Report.of(found),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _TrainingState:
    """A Program, and the optimizers that update its parameters, the outermost first."""

    info: ProgramInfo
    optimizers: tuple[Paddle, ...]

    @classmethod
    def of(cls, program: Paddle, optimizer: Paddle) -> _TrainingState:
        """Read a Program, and unwrap its optimizer.

        Raises UsageError: GT248 for what holds no Program.
        """
        return cls(info=ProgramInfo.of(program), optimizers=tuple(unwrapped(optimizer)))

    @property
    def optimizer_name(self) -> str:
        """The classes of the optimizers, the outermost first."""
        return " of ".join(type(each).__name__ for each in self.optimizers)

    @property
    def scheduler(self) -> Paddle | None:
        """The scheduler of the learning rate, None if the rate is a number."""
        rates = map(learning_rate, self.optimizers)
        return next((rate for rate in rates if hasattr(rate, "state_dict")), None)

    @property
    def scheduler_name(self) -> str | None:
        return None if self.scheduler is None else type(self.scheduler).__name__

    @property
    def rate(self) -> float | None:
        """The learning rate as `get_lr` returns it, None if a scheduler sets it."""
        if self.scheduler is not None:
            return None
        rates = map(learning_rate, self.optimizers)
        return next((float(rate) for rate in rates if isinstance(rate, int | float)), None)

    @property
    def is_minimized(self) -> bool:
        """Return whether an optimizer has state in the Program."""
        return any(rate_variable(each, self.info.program) is not None for each in self.optimizers)

    def variables(self) -> dict[str, str]:
        """Map stable keys to the names of Variables, which may be counted; without teachers.

        A parameter's key is its name; the key of an optimizer's state for it is `name:moment1`.
        """
        teacher_names = set(self.info.teacher_weights)
        state_keys = dict(self._state_keys())
        names = [name for name in persistable_names(self.info.graph) if name not in teacher_names]
        return dict(sorted((state_keys.get(name, name), name) for name in names))

    def _state_keys(self) -> Iterator[tuple[str, str]]:
        """Yield the names of Variables that optimizers made, each with its stable key."""
        for optimizer in self.optimizers:
            for kind, by_parameter in accumulators(optimizer).items():
                for parameter, variable in by_parameter.items():
                    yield variable.name, f"{parameter}:{kind}"
            for parameter, variable in master_weights(optimizer).items():
                yield variable.name, f"{parameter}:master_weight"
            rate = rate_variable(optimizer, self.info.program)
            if rate is not None:
                yield rate.name, _RATE_KEY

    def teachers(self, scope: Paddle) -> tuple[SavedTeacher, ...]:
        """Return the source name and digest of each merged teacher."""
        return tuple(_saved_teacher(merged, scope) for merged in self.info.merges)

    def scheduler_state(self) -> SchedulerState:
        if self.scheduler is None:
            return {}
        omitted = {name: getattr(self.scheduler, name) for name in self._omitted_counters()}
        return {**self.scheduler.state_dict(), **omitted}

    def set_scheduler_state(self, saved: SchedulerState) -> None:
        if self.scheduler is None:
            return
        omitted = self._omitted_counters()
        with warnings.catch_warnings():
            # A warm-up considers the state of its inner scheduler unused.
            warnings.filterwarnings("ignore", message="There are some unused values")
            self.scheduler.set_state_dict(
                {name: value for name, value in saved.items() if name not in omitted}
            )
        for name in omitted:
            setattr(self.scheduler, name, saved[name])

    def _omitted_counters(self) -> tuple[str, ...]:
        return tuple(name for name in _OMITTED_COUNTERS if hasattr(self.scheduler, name))

    def operator_counts(self) -> Mapping[str, int]:
        """Count the operators by type."""
        counts = Counter(operator.type for operator in self.info.graph.operators.values())
        return dict(sorted(counts.items()))


def _saved_teacher(merged: Merged, scope: Paddle) -> SavedTeacher:
    weights = sorted(merged.plan.weights)
    source = merged.source.graph.source.replace("\\", "/").rpartition("/")[2]
    tensors = copy_from_scope(scope, (new for _, new in weights))
    return SavedTeacher(source, digest((old for old, _ in weights), tensors))


def _require_initialised(names: list[str], scope: Paddle) -> None:
    held = initialised_tensors(scope, names)
    empty = [name for name in names if name not in held]
    if empty:
        raise GraphtoolError(
            uninitialised_parameters(
                f"{len(empty)} of {len(names)} Variables are uninitialised: {listed(empty)}",
                help="gt.save_checkpoint(path, merged, optimizer, step=step, scope=scope)",
            )
        )


def _diagnostics(
    path: str,
    contents: CheckpointContents,
    state: _TrainingState,
    variables: Mapping[str, str],
    scope: Paddle,
) -> Iterator[Diagnostic]:
    """Compare a checkpoint with the Program and optimizer that it is loaded into."""
    manifest = contents.manifest
    if not state.is_minimized:
        yield problems.never_minimized(state.optimizer_name)
    if manifest.optimizer != state.optimizer_name:
        message = f"the optimizer was `{manifest.optimizer}` and is `{state.optimizer_name}` now"
        yield problems.other_optimizer(path, message, f"{_optimizer_class(manifest)}(...)")
    if manifest.schedule != state.scheduler_name or not _have_same_fields(
        manifest.rates, state.scheduler_state()
    ):
        schedules = manifest.schedule, state.scheduler_name
        was, now = (f"`{name}`" if name else "none" for name in schedules)
        message = f"the schedule of its rate was {was} and is {now} now"
        yield problems.other_optimizer(path, message, _rate_call(manifest))
    if state.is_minimized and manifest.optimizer == state.optimizer_name:
        yield from _variable_diagnostics(path, contents.tensors, state, variables)
    yield from _teacher_diagnostics(path, manifest, state, scope)
    yield from _environment_diagnostics(path, manifest, state)
    if manifest.rate is not None and state.rate is not None and manifest.rate != state.rate:
        now = f"`{state.rate:g}`"
        message = f"the learning rate was `{manifest.rate:g}` and is {now} now: {now} is used"
        yield problems.other_optimizer(path, message, _rate_call(manifest), Severity.WARNING)


def _optimizer_class(manifest: Manifest) -> str:
    """Return the class of the innermost optimizer, as code."""
    return f"paddle.optimizer.{manifest.optimizer.rpartition(' ')[2]}"


def _rate_call(manifest: Manifest) -> str:
    """Return the call that set the learning rate, as code."""
    if manifest.schedule is not None:
        return f"paddle.optimizer.lr.{manifest.schedule}(...)"
    rate = "..." if manifest.rate is None else f"{manifest.rate:g}"
    return f"{_optimizer_class(manifest)}({rate})"


def _have_same_fields(saved: SchedulerState, current: SchedulerState) -> bool:
    """Return whether two schedulers, or those that they wrap, have the same fields."""
    same = saved.keys() == current.keys() and all(
        _is_same_kind(saved[name], current[name]) for name in saved
    )
    return same and all(saved[name] is not None for name in _ALWAYS_SET & saved.keys())


def _is_same_kind(saved: object, current: object) -> bool:
    if isinstance(saved, dict) and isinstance(current, dict):
        return _have_same_fields(cast("SchedulerState", saved), cast("SchedulerState", current))
    if saved is None or current is None:
        return not isinstance(saved, dict) and not isinstance(current, dict)
    return all(isinstance(saved, kind) == isinstance(current, kind) for kind in (dict, str))


def _variable_diagnostics(
    path: str, tensors: Mapping[str, Tensor], state: _TrainingState, variables: Mapping[str, str]
) -> Iterator[Diagnostic]:
    values = used_names(state.info.graph)
    missing = [key for key in variables if key not in tensors]
    unexpected = [key for key in tensors if key not in variables]
    misshapen = [
        key
        for key, name in variables.items()
        if key in tensors and not _fits(tensors[key], values[name])
    ]
    found = {
        "not in the file": missing,
        "not in the Program": unexpected,
        "of another shape or dtype": misshapen,
    }
    found = {what: keys for what, keys in found.items() if keys}
    if found:
        counts = ", ".join(f"{len(keys)} {what}" for what, keys in found.items())
        yield problems.other_program_state(
            path,
            f"the checkpoint does not fit the Program: {counts}",
            [f"{what}: {listed(keys)}" for what, keys in found.items()],
            "build the Program by the code that the checkpoint was written by",
        )


def _fits(tensor: Tensor, value: Value) -> bool:
    return tensor.dtype == value.dtype and fits_shape(value, tensor.shape)


def _teacher_diagnostics(
    path: str, manifest: Manifest, state: _TrainingState, scope: Paddle
) -> Iterator[Diagnostic]:
    _require_initialised(state.info.teacher_weights, scope)
    saved, current = manifest.teachers, state.teachers(scope)
    if len(saved) != len(current):
        yield _other_teacher(path, 1, f"one of {len(saved)}", f"one of {len(current)}")
        return
    for number, (old, new) in enumerate(zip(saved, current, strict=True), 1):
        if old.digest != new.digest:
            yield _other_teacher(path, number, _described(old), _described(new))


def _other_teacher(path: str, number: int, was: str, now: str) -> Diagnostic:
    message = f"teacher {number} was {was} and is {now} now"
    fix = "merged.load_teacher(...) with the weights of that time"
    return problems.other_program_state(path, message, help=fix, role="teacher")


def _described(teacher: SavedTeacher) -> str:
    return f"`{teacher.source}` with weights {teacher.digest[:8]}"


def _environment_diagnostics(
    path: str, manifest: Manifest, state: _TrainingState
) -> Iterator[Diagnostic]:
    saved, current = manifest.operators, state.operator_counts()
    differences = [
        f"{current.get(kind, 0) - saved.get(kind, 0):+} {kind}"
        for kind in sorted(saved.keys() | current.keys())
        if current.get(kind, 0) != saved.get(kind, 0)
    ]
    if differences:
        message = f"the Program has other operators than then: {listed(differences)}"
        yield problems.other_program_state(path, message, severity=Severity.WARNING)
    release = str(load_paddle().__version__)
    if manifest.paddle != release:
        message = f"Paddle: `{manifest.paddle}` then, `{release}` now"
        yield other_release(path, message, Severity.WARNING)
    if not can_restore(manifest.random):
        device = load_paddle().device.get_device()
        message = f"random state: `of other generators` then, `{device}` now"
        yield other_release(path, message, Severity.WARNING)


def _apply(
    contents: CheckpointContents,
    state: _TrainingState,
    variables: Mapping[str, str],
    scope: Paddle,
) -> None:
    manifest = contents.manifest
    tensors = {name: contents.tensors[key] for key, name in variables.items()}
    if state.rate is not None and state.rate != manifest.rate:
        tensors[variables[_RATE_KEY]] = full_like(contents.tensors[_RATE_KEY], state.rate)
    set_tensors(tensors, scope)
    state.set_scheduler_state(manifest.rates)
    if can_restore(manifest.random):
        set_random_state(manifest.random)
