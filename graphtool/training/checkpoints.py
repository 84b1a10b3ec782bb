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

from graphtool.arguments import bad_argument
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
from graphtool.backend.tensors import copy_from_scope, full_like, initialised_tensors, set_tensors
from graphtool.checks import persistable_names, used_names
from graphtool.checks.parameters import uninitialised_parameters
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
from graphtool.merging.folder import other_release
from graphtool.readers import problems as reading
from graphtool.readers.files import check_not_special
from graphtool.readers.tensor_files import Tensor, digest, read_tensors, write_tensors
from graphtool.text import escaped_bounded
from graphtool.training.program_info import ProgramInfo, path_of, scope_of
from graphtool.version import UPGRADE, version

__all__ = [
    "SCHEMA",
    "Checkpoint",
    "CheckpointContents",
    "Manifest",
    "SavedTeacher",
    "load_checkpoint",
    "read_checkpoint",
    "save_checkpoint",
    "write_checkpoint",
]

SCHEMA = 1
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


@rule("GT625")
def never_minimized(optimizer: str) -> Diagnostic:
    """The optimizer has no state in the Program: `gt.minimize` was not called with both.

    Give the optimizer that minimized the loss, and the Program with that loss.
    """
    return Diagnostic(
        message=f"`{optimizer}` has minimized no loss of the Program",
        help="gt.minimize(optimizer, loss), then the checkpoint",
    )


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


@dataclass(frozen=True, slots=True, eq=False)
class CheckpointContents:
    """A checkpoint's manifest, and its tensors by key."""

    manifest: Manifest
    tensors: Mapping[str, Tensor]


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
    file = path_of(path, _SAVE)
    state = _Training.of(program, optimizer, scope)
    if type(step) is not int or step < 0:
        raise UsageError(bad_argument("step", step, "a whole number of 0 or more", _SAVE))
    if not state.is_minimized:
        raise UsageError(never_minimized(state.optimizer))
    names = list(state.variables.values())
    state.require_initialised([*names, *state.info.teacher_weights])
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
    weights, GT623, GT624, GT625. Raises ReadError: GT001, GT010, GT240, GT621 for the file.
    Raises UsageError: GT248.
    """
    file = path_of(path, "gt.load_checkpoint(path, merged, optimizer)")
    contents = read_checkpoint(file)
    saved = contents.manifest
    state = _Training.of(program, optimizer, scope)
    state.require_initialised(state.info.teacher_weights)
    current = state.manifest(saved.step, ())
    report = Report.of(_differences(str(file), contents, current, state))
    if report.errors:
        raise GraphtoolError(*report.errors)
    tensors = {name: contents.tensors[key] for key, name in state.variables.items()}
    if current.rate is not None and current.rate != saved.rate:
        rate = full_like(contents.tensors[_RATE_KEY], current.rate)
        tensors[state.variables[_RATE_KEY]] = rate
    set_tensors(tensors, state.scope)
    state.set_scheduler_state(saved.rates)
    if can_restore(saved.random):
        set_random_state(saved.random)
    return Checkpoint(path=str(file), step=saved.step, loaded=tuple(tensors), report=report)


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
    """Return the digest of the tensors and of the manifest without its own digest."""
    undigested = msgspec.structs.replace(manifest, digest="")
    return digest(manifest.keys, tensors, head=msgspec.json.encode(undigested))


def read_checkpoint(path: Path) -> CheckpointContents:
    """Read a checkpoint and verify its digest.

    Raises ReadError: GT001, GT010, GT240, GT621.
    """
    name = str(path)
    check_not_special(path)
    if not path.exists():
        raise ReadError(reading.no_such_path(name))
    if path.is_dir():
        raise ReadError(not_a_checkpoint(name, "it is a folder"))
    with path.open("rb") as file:
        # Files of tensors start with a version, 0; a `.pdparams` is a pickle.
        if file.read(4).strip(b"\0"):
            load = f"gt.load_parameters(program, {name!r})"
            raise ReadError(not_a_checkpoint(name, "it does not start with a manifest", load))
    first, *tensors = read_tensors(path) or (None,)
    if first is None or first.dtype != "uint8" or len(first.shape) != 1:
        raise ReadError(not_a_checkpoint(name, "it does not start with a manifest"))
    data = first.array.tobytes()
    try:
        schema = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("schema")
        if schema is not None and bytes(schema) != str(SCHEMA).encode():
            reason = f"its `schema` is {bytes(schema).decode()}; this graphtool reads {SCHEMA}"
            raise ReadError(not_a_checkpoint(name, reason, UPGRADE))
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ReadError(not_a_checkpoint(name, f"its manifest: {error}")) from None
    if len(manifest.keys) != len(tensors) or len(set(manifest.keys)) != len(tensors):
        reason = f"it holds {len(tensors)} tensors, and its manifest names {len(manifest.keys)}"
        raise ReadError(not_a_checkpoint(name, reason))
    if _manifest_digest(manifest, tensors) != manifest.digest:
        raise ReadError(not_a_checkpoint(name, "it has changed since it was written"))
    return CheckpointContents(manifest, dict(zip(manifest.keys, tensors, strict=True)))


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
        """Read a Program, and unwrap its optimizer.

        Raises UsageError: GT248 for what holds no Program, or is no Scope or optimizer.
        """
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

    @property
    def is_minimized(self) -> bool:
        """Return whether an optimizer has state in the Program."""
        return _RATE_KEY in self.variables

    def require_initialised(self, names: Sequence[str]) -> None:
        """Raise GraphtoolError unless the Scope holds all Variables: GT235."""
        held = initialised_tensors(self.scope, names)
        empty = [name for name in names if name not in held]
        if empty:
            raise GraphtoolError(
                uninitialised_parameters(
                    f"{len(empty)} of {len(names)} Variables are uninitialised: {listed(empty)}",
                    help="gt.save_checkpoint(path, merged, optimizer, step=step, scope=scope)",
                )
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
            rates=self._scheduler_state(),
            random=random,
            teachers=tuple(teachers),
            operators=dict(sorted(operators.items())),
        )

    def _scheduler_state(self) -> _SchedulerState:
        if self.scheduler is None:
            return {}
        omitted = {name: getattr(self.scheduler, name) for name in self._omitted_counters()}
        return {**self.scheduler.state_dict(), **omitted}

    def set_scheduler_state(self, saved: _SchedulerState) -> None:
        """Set the state of the learning rate's schedule, which has the same fields."""
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
    path: str, contents: CheckpointContents, current: Manifest, state: _Training
) -> Iterator[Diagnostic]:
    """Compare a checkpoint with the Program and optimizer that it is loaded into."""
    saved = contents.manifest
    if not state.is_minimized:
        yield never_minimized(current.optimizer)
    yield from _optimizer_differences(path, saved, current)
    if state.is_minimized and saved.optimizer == current.optimizer:
        yield from _variable_differences(path, contents.tensors, state)
    yield from _teacher_differences(path, saved.teachers, current.teachers)
    counts = [
        (kind, current.operators.get(kind, 0) - saved.operators.get(kind, 0))
        for kind in sorted(saved.operators.keys() | current.operators.keys())
    ]
    if changed := [f"{count:+} {kind}" for kind, count in counts if count]:
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


def _teacher_differences(
    path: str, saved: Sequence[SavedTeacher], current: Sequence[SavedTeacher]
) -> Iterator[Diagnostic]:
    if len(saved) == len(current):
        pairs = list(enumerate(zip(saved, current, strict=True), 1))
        unlike = [(n, str(was), str(now)) for n, (was, now) in pairs if was.digest != now.digest]
    else:
        unlike = [(1, f"one of {len(saved)}", f"one of {len(current)}")]
    for number, was, now in unlike:
        yield other_program_state(
            path,
            f"teacher {number} was {was} and is {now} now",
            help="merged.load_teacher(...) with the weights of that time",
            role="teacher",
        )


def _have_same_fields(saved: _SchedulerState, current: _SchedulerState) -> bool:
    """Return whether two schedulers, or those that they wrap, have the same fields."""
    same = saved.keys() == current.keys() and all(
        _is_same_kind(saved[name], current[name]) for name in saved
    )
    return same and all(saved[name] is not None for name in _ALWAYS_SET & saved.keys())


def _is_same_kind(saved: object, current: object) -> bool:
    if isinstance(saved, dict) and isinstance(current, dict):
        return _have_same_fields(cast("_SchedulerState", saved), cast("_SchedulerState", current))
    if saved is None or current is None:
        return not isinstance(saved, dict) and not isinstance(current, dict)
    return all(isinstance(saved, kind) == isinstance(current, kind) for kind in (dict, str))


def _variable_differences(
    path: str, tensors: Mapping[str, Tensor], state: _Training
) -> Iterator[Diagnostic]:
    values, variables = used_names(state.info.graph), state.variables
    shared = {key: values[name] for key, name in variables.items() if key in tensors}
    differences = {
        "not in the file": [key for key in variables if key not in tensors],
        "not in the Program": [key for key in tensors if key not in variables],
        "of another shape or dtype": [
            key
            for key, value in shared.items()
            if tensors[key].dtype != value.dtype or not fits_shape(value, tensors[key].shape)
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
