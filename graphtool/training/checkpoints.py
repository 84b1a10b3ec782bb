"""Checkpoints of a training Program: training resumes bit for bit where it stopped.

A checkpoint is a file of tensors in the format of a `.pdiparams`; its first tensor is a JSON
manifest.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Annotated, TypeAlias, cast

import msgspec

from graphtool.arguments import bad_argument, path_of
from graphtool.backend.generators import (
    GeneratorState,
    can_restore,
    random_state,
    set_random_state,
)
from graphtool.backend.optimizers import (
    accumulators,
    learning_rate,
    master_weights,
    rate_variable,
    unwrapped,
)
from graphtool.backend.paddle import Paddle, load_paddle, program_lock
from graphtool.backend.tensors import copy_from_scope, full_like, set_tensors
from graphtool.checks import persistable_names, used_names
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    ReadError,
    Report,
    Severity,
    UsageError,
    Where,
    listed,
    rule,
)
from graphtool.files import atomic_write
from graphtool.graph import fits_shape
from graphtool.merging.folder import other_release, require_initialised
from graphtool.merging.manifest import SCHEMA, decode_manifest, named_tensors, undigested
from graphtool.readers import problems as reading
from graphtool.readers.files import check_not_special, read_errors_reported
from graphtool.readers.tensor_files import Tensor, digest, read_tensors, write_tensors
from graphtool.text import escaped_bounded
from graphtool.training.program_info import ProgramInfo, scope_of
from graphtool.version import version

__all__ = [
    "Checkpoint",
    "Manifest",
    "SavedTeacher",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
    "write_checkpoint",
]

# Larger integers overflow in NumPy and Paddle.
_Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Scalar: TypeAlias = bool | _Int64 | float | str | None
# A learning rate scheduler keeps scalars, and the state of a scheduler that it wraps.
_SchedulerState: TypeAlias = dict[str, _Scalar | dict[str, _Scalar]]
# The key of the learning rate among the Variables.
_RATE_KEY = ":learning_rate"
# Counters of `CosineAnnealingWarmRestarts` that its `state_dict` omits.
_OMITTED_COUNTERS = ("T_cur", "T_i")
# Every scheduler has these from the start; other fields may be None at first.
_ALWAYS_SET = frozenset({"last_epoch", "last_lr"})
_SAVE = "gt.save_checkpoint(path, merged, optimizer, step=1000)"
_SAVE_FROM = "gt.save_checkpoint(path, merged, optimizer, step=step, scope=scope)"


@rule("GT621", replaces=("GT622",))
def not_a_checkpoint(path: str, reason: str, help: str | None = None) -> Diagnostic:
    """The file is not a checkpoint of graphtool, or is damaged or of a newer version.

    `gt.save_checkpoint` writes one. Parameters alone are read by `gt.load_parameters`.
    """
    return Diagnostic(
        message=f"the file is no whole checkpoint: {reason}",
        where=(Where(program=path),),
        help=help or "gt.save_checkpoint(path, merged, optimizer, step=step)",
    )


@rule("GT623", replaces=("GT619",))
def other_optimizer(
    path: str, message: str, help: str, severity: Severity = Severity.ERROR
) -> Diagnostic:
    """The checkpoint was written with another optimizer, or another learning rate or schedule.

    The state of one optimizer means nothing to another. To go on with another one, take the
    parameters alone: `gt.export_student` writes them, `gt.load_parameters` reads them. If only the
    learning rate differs, the optimizer's is used, as are its betas and weight decay; the moments
    are the checkpoint's.
    """
    return Diagnostic(message=message, where=(Where(program=path),), help=help, severity=severity)


@rule("GT624", replaces=("GT626", "GT627"))
def other_program_state(
    path: str,
    message: str,
    notes: Sequence[str] = (),
    help: str | None = None,
    *,
    role: str | None = None,
    severity: Severity = Severity.ERROR,
) -> Diagnostic:
    """The checkpoint is of another Program: its Variables, teachers or operators differ.

    Build the Program as it was built then: the same networks, adapters and optimizer, from the same
    code, each under `paddle.utils.unique_name.guard()` where names are counted. A checkpoint
    refers to its teachers by a digest of their weights: merge the same ones, in the same order. If
    only operators differ, it is loaded with a warning, and the losses will be others.
    """
    return Diagnostic(
        message=message,
        severity=severity,
        where=(Where(role=role, program=path),),
        notes=tuple(notes),
        help=help,
    )


def _never_minimized(optimizer: object) -> Diagnostic:
    wanted = "the optimizer that minimized the Program's loss"
    return bad_argument("optimizer", optimizer, wanted, "gt.minimize(optimizer, loss)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was loaded: the step at which it was saved, and the names of the Variables set."""

    path: str
    step: int
    loaded: tuple[str, ...]
    report: Report

    def __str__(self) -> str:
        return f"{escaped_bounded(self.path)}: step {self.step}, {len(self.loaded)} Variables"


class SavedTeacher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A merged teacher by reference: the name of its source, and a digest of its weights."""

    source: str
    digest: str

    def __str__(self) -> str:
        return f"`{self.source}` with weights {self.digest[:8]}"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything in a checkpoint except the tensors.

    `keys` names the tensors in file order. `digest` covers the tensors and the rest of the
    manifest. `rate` is the optimizer's learning rate if it is a number, not a scheduler.
    """

    schema: int
    graphtool: str
    paddle: str
    step: _Count
    keys: tuple[str, ...]
    optimizer: str
    schedule: str | None
    rate: float | None
    rates: _SchedulerState
    random: tuple[GeneratorState, ...]
    teachers: tuple[SavedTeacher, ...]
    operators: dict[str, _Count]
    digest: str = ""


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

    Raises GraphtoolError: GT601, GT235 for uninitialised Variables. Raises UsageError: GT248.
    """
    file = path_of(path, _SAVE)
    state = _Training.of(program, optimizer, scope)
    if type(step) is not int or step < 0:
        raise UsageError(bad_argument("step", step, "a whole number of 0 or more", _SAVE))
    if _RATE_KEY not in state.variables:
        raise UsageError(_never_minimized(optimizer))
    names = list(state.variables.values())
    require_initialised(state.scope, [*names, *state.info.teacher_weights], _SAVE_FROM)
    manifest = state.manifest(step, random_state())
    write_checkpoint(file, manifest, lambda: copy_from_scope(state.scope, names))


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
    weights, GT248, GT623, GT624. Raises ReadError: GT001, GT010, GT240, GT621 for the file.
    Raises UsageError: GT248.
    """
    file = path_of(path, "gt.load_checkpoint(path, merged, optimizer)")
    saved, tensors = read_checkpoint(file)
    state = _Training.of(program, optimizer, scope)
    require_initialised(state.scope, state.info.teacher_weights, _SAVE_FROM)
    current = state.manifest(saved.step, ())
    found = list(_differences(str(file), saved, tensors, current, state))
    if _RATE_KEY not in state.variables:
        found.insert(0, _never_minimized(optimizer))
    report = Report.of(found)
    if report.errors:
        raise GraphtoolError(*report.errors)
    values = {name: tensors[key] for key, name in state.variables.items()}
    if current.rate is not None and current.rate != saved.rate:
        values[state.variables[_RATE_KEY]] = full_like(tensors[_RATE_KEY], current.rate)
    set_tensors(values, state.scope)
    _restore_schedule(state.scheduler, saved.rates)
    if can_restore(saved.random):
        set_random_state(saved.random)
    return Checkpoint(path=str(file), step=saved.step, loaded=tuple(values), report=report)


def write_checkpoint(
    path: Path, manifest: Manifest, tensors: Callable[[], Iterable[Tensor]]
) -> None:
    """Write a checkpoint atomically, replacing an existing one.

    `tensors` yields them in the order of the keys. It is called twice: for the digest, then to
    write them.

    Raises GraphtoolError: GT601.
    """
    import numpy as np

    manifest = msgspec.structs.replace(manifest, digest=_manifest_digest(manifest, tensors()))
    encoded = np.frombuffer(msgspec.json.encode(manifest), "uint8")
    with atomic_write(path) as temporary:
        write_tensors(temporary, chain([Tensor(encoded, "uint8")], tensors()))


def _manifest_digest(manifest: Manifest, tensors: Iterable[Tensor]) -> str:
    return digest(manifest.keys, tensors, head=undigested(manifest))


def read_checkpoint(path: Path) -> tuple[Manifest, Mapping[str, Tensor]]:
    """Read a checkpoint's manifest, and its tensors by key, and verify its digest.

    Raises ReadError: GT001, GT010, GT240, GT621.
    """

    def refusal(reason: str, help: str | None = None) -> ReadError:
        return ReadError(not_a_checkpoint(str(path), reason, help))

    with read_errors_reported(path):
        check_not_special(path)
        if not path.exists():
            raise ReadError(reading.no_such_path(str(path)))
        with path.open("rb") as file:
            # Files of tensors start with a version, 0; a `.pdparams` is a pickle.
            if file.read(4).strip(b"\0"):
                load = f"gt.load_parameters(program, {str(path)!r})"
                raise refusal("it does not start with a manifest", load)
        first, *tensors = read_tensors(path) or (None,)
    if first is None or first.dtype != "uint8" or len(first.shape) != 1:
        raise refusal("it does not start with a manifest")
    manifest = decode_manifest(first.array.tobytes(), Manifest, refusal)
    named = named_tensors(manifest.keys, tensors, refusal)
    if _manifest_digest(manifest, tensors) != manifest.digest:
        raise refusal("it has changed since it was written")
    return manifest, named


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Training:
    """A Program with its Scope, and what trains it.

    `optimizer` names the classes of the optimizers, the outermost first. `rate` is the learning
    rate if it is a number, not a scheduler. `variables` maps stable keys to the names of Variables,
    which may be counted; teachers are left out. A parameter's key is its name; that of an
    optimizer's state for it is `name:moment1`.
    """

    info: ProgramInfo
    scope: Paddle
    optimizer: str
    scheduler: Paddle | None
    rate: float | None
    variables: Mapping[str, str]

    @classmethod
    def of(cls, program: Paddle, optimizer: Paddle, scope: Paddle | None) -> _Training:
        """Read a Program, and unwrap its optimizer."""
        if not hasattr(optimizer, "minimize"):
            raise UsageError(bad_argument("optimizer", optimizer, "an optimizer", _SAVE))
        info, optimizers = ProgramInfo.of(program), tuple(unwrapped(optimizer))
        keys = {
            variable.name: key
            for each in optimizers
            for key, variable in _state_variables(each, info.program)
        }
        names = set(persistable_names(info.graph)).difference(info.teacher_weights)
        rates = [learning_rate(each) for each in optimizers]
        scheduler = next((rate for rate in rates if hasattr(rate, "state_dict")), None)
        numbers = [] if scheduler else [float(one) for one in rates if isinstance(one, int | float)]
        return cls(
            info=info,
            scope=scope_of(scope),
            optimizer=" of ".join(type(each).__name__ for each in optimizers),
            scheduler=scheduler,
            rate=numbers[0] if numbers else None,
            variables=dict(sorted((keys.get(name, name), name) for name in names)),
        )

    def manifest(self, step: int, random: tuple[GeneratorState, ...]) -> Manifest:
        """Describe the state of the training, with a digest of each teacher's weights."""
        teachers: list[SavedTeacher] = []
        for merged in self.info.merges:
            weights = sorted(merged.plan.weights)
            source = merged.source.graph.source.replace("\\", "/").rpartition("/")[2]
            tensors = copy_from_scope(self.scope, (new for _, new in weights))
            teachers.append(SavedTeacher(source, digest((old for old, _ in weights), tensors)))
        operators = Counter(operator.type for operator in self.info.graph.operators.values())
        return Manifest(
            schema=SCHEMA,
            graphtool=version(),
            paddle=str(load_paddle().__version__),
            step=step,
            keys=tuple(self.variables),
            optimizer=self.optimizer,
            schedule=type(self.scheduler).__name__ if self.scheduler else None,
            rate=self.rate,
            rates=_schedule_state(self.scheduler),
            random=random,
            teachers=tuple(teachers),
            operators=dict(sorted(operators.items())),
        )


def _schedule_state(scheduler: Paddle | None) -> _SchedulerState:
    if scheduler is None:
        return {}
    omitted = [name for name in _OMITTED_COUNTERS if hasattr(scheduler, name)]
    return {**scheduler.state_dict(), **{name: getattr(scheduler, name) for name in omitted}}


def _restore_schedule(scheduler: Paddle | None, saved: _SchedulerState) -> None:
    """Set the state of the learning rate's schedule, which has the same fields."""
    if scheduler is None:
        return
    omitted = {name: saved[name] for name in _OMITTED_COUNTERS if name in saved}
    with warnings.catch_warnings():
        # A warm-up considers the state of its inner scheduler unused.
        warnings.filterwarnings("ignore", message="There are some unused values")
        scheduler.set_state_dict({key: saved[key] for key in saved.keys() - omitted.keys()})
    for name, value in omitted.items():
        setattr(scheduler, name, value)


def _state_variables(optimizer: Paddle, program: Paddle) -> Iterator[tuple[str, Paddle]]:
    """Yield the Variables that an optimizer made, each with its stable key."""
    for kind, by_parameter in accumulators(optimizer).items():
        for parameter, variable in by_parameter.items():
            yield f"{parameter}:{kind}", variable
    for parameter, variable in master_weights(optimizer).items():
        yield f"{parameter}:master_weight", variable
    rate = rate_variable(optimizer, program)
    if rate is not None:
        yield _RATE_KEY, rate


def _differences(
    path: str,
    saved: Manifest,
    tensors: Mapping[str, Tensor],
    current: Manifest,
    state: _Training,
) -> Iterator[Diagnostic]:
    """Compare a checkpoint with the Program and optimizer that it is loaded into."""
    is_minimized = _RATE_KEY in state.variables
    yield from _optimizer_differences(path, saved, current)
    if is_minimized and saved.optimizer == current.optimizer:
        yield from _variable_differences(path, tensors, state)
    then, now = saved.teachers, current.teachers
    pairs = list(enumerate(zip(then, now, strict=False), 1))
    others = [(n, str(was), str(one)) for n, (was, one) in pairs if was.digest != one.digest]
    if len(then) != len(now):
        others = [(1, f"one of {len(then)}", f"one of {len(now)}")]
    for number, was, is_now in others:
        message = f"teacher {number} was {was} and is {is_now} now"
        fix = "merged.load_teacher(...) with the weights of that time"
        yield other_program_state(path, message, help=fix, role="teacher")
    counts = Counter(current.operators)
    counts.subtract(saved.operators)
    if changed := [f"{count:+} {kind}" for kind, count in sorted(counts.items()) if count]:
        message = f"the Program has other operators than then: {listed(changed)}"
        yield other_program_state(path, message, severity=Severity.WARNING)
    if saved.paddle != current.paddle:
        message = f"Paddle: `{saved.paddle}` then, `{current.paddle}` now"
        yield other_release(path, message, Severity.WARNING)
    if not can_restore(saved.random):
        device = load_paddle().device.get_device()
        message = f"random state: `of other generators` then, `{device}` now"
        yield other_release(path, message, Severity.WARNING)


def _optimizer_differences(path: str, saved: Manifest, current: Manifest) -> Iterator[Diagnostic]:
    optimizer = f"paddle.optimizer.{saved.optimizer.rpartition(' ')[2]}"
    rate = f"{optimizer}({'...' if saved.rate is None else f'{saved.rate:g}'})"
    rate = f"paddle.optimizer.lr.{saved.schedule}(...)" if saved.schedule else rate
    if saved.optimizer != current.optimizer:
        message = f"the optimizer was `{saved.optimizer}` and is `{current.optimizer}` now"
        yield other_optimizer(path, message, f"{optimizer}(...)")
    if saved.schedule != current.schedule or not _have_same_fields(saved.rates, current.rates):
        schedules = saved.schedule, current.schedule
        was, now = (f"`{name}`" if name else "none" for name in schedules)
        yield other_optimizer(path, f"the schedule of its rate was {was} and is {now} now", rate)
    if saved.rate is not None and current.rate is not None and saved.rate != current.rate:
        now = f"`{current.rate:g}`"
        message = f"the learning rate was `{saved.rate:g}` and is {now} now: {now} is used"
        yield other_optimizer(path, message, rate, Severity.WARNING)


def _have_same_fields(saved: _SchedulerState, current: _SchedulerState) -> bool:
    """Return whether two schedulers, or those that they wrap, have fields of the same kinds."""

    def is_same_kind(name: str) -> bool:
        then, now = saved[name], current[name]
        if isinstance(then, dict) and isinstance(now, dict):
            return _have_same_fields(cast("_SchedulerState", then), cast("_SchedulerState", now))
        if then is None or now is None:
            is_unset = then is None and name in _ALWAYS_SET
            return not is_unset and not isinstance(then, dict) and not isinstance(now, dict)
        return all(isinstance(then, kind) == isinstance(now, kind) for kind in (dict, str))

    return saved.keys() == current.keys() and all(map(is_same_kind, saved))


def _variable_differences(
    path: str, tensors: Mapping[str, Tensor], state: _Training
) -> Iterator[Diagnostic]:
    values, variables = used_names(state.info.graph), state.variables
    differences = {
        "not in the file": [key for key in variables if key not in tensors],
        "not in the Program": [key for key in tensors if key not in variables],
        "of another shape or dtype": [
            key
            for key, name in variables.items()
            if key in tensors
            and not (
                tensors[key].dtype == values[name].dtype
                and fits_shape(values[name], tensors[key].shape)
            )
        ],
    }
    found = {what: keys for what, keys in differences.items() if keys}
    if found:
        counts = ", ".join(f"{len(keys)} {what}" for what, keys in found.items())
        yield other_program_state(
            path,
            f"the checkpoint does not fit the Program: {counts}",
            [f"{what}: {listed(keys)}" for what, keys in found.items()],
            "build the Program by the code that the checkpoint was written by",
        )
