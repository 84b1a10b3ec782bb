"""Checkpoints of a training Program: stop, and go on later as if nothing had been."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias, cast

from graphtool.checks import used_names
from graphtool.diagnostics import Diagnostic, GraphtoolError, Report, Severity, UsageError
from graphtool.graph import Value, keeps_shape
from graphtool.readers._paddle import load_paddle, one_at_a_time
from graphtool.readers.tensors import Tensor, filled, held_tensors, scope_tensors, set_tensors
from graphtool.text import bounded
from graphtool.training import checkpoint_problems as problems
from graphtool.training._checkpoint_file import (
    SCHEMA,
    Contents,
    Manifest,
    SavedTeacher,
    Schedule,
    read_checkpoint,
    write_checkpoint,
)
from graphtool.training._random import is_random_state, random_state, set_random_state
from graphtool.training._ranks import telling
from graphtool.training._state import RATE, State
from graphtool.training._subject import check_scope
from graphtool.version import version

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

# What every schedule counts with; other things may not be known yet.
_COUNTED = frozenset({"last_epoch", "last_lr"})

# Programs, optimizers and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was loaded: how many steps had been trained, and Variables that were set, by name."""

    path: str
    step: int
    loaded: tuple[str, ...]
    report: Report

    def __str__(self) -> str:
        return f"{bounded(self.path)}: step {self.step}, {len(self.loaded)} Variables"


@one_at_a_time()
def save_checkpoint(
    path: str | PathLike[str],
    program: _Paddle,
    optimizer: _Paddle,
    *,
    step: int,
    scope: _Paddle | None = None,
) -> None:
    """Write all that a training Program needs to go on to one file, whole or not at all.

    `program` is a Program of either kind or what holds one (a Merged), `optimizer` the one that
    `gt.minimize` had. The file gets the student, adapters, running statistics, what the optimizer
    keeps (moments, master weights, powers of beta), its schedule of the learning rate, `step` and
    the state of Paddle's random generators; of merged teachers it gets a digest alone. It holds
    plain tensors, in the format of a `.pdiparams`, and nothing that is executed. `scope` is the
    global one where None. The state of NumPy's generators and the place in the data are the
    caller's to keep. Of several ranks each saves a file of its own: random state and running
    statistics differ. Paddle 2.6 hands out no random state, so there its generator is seeded anew.

    Raises GraphtoolError: GT601, GT620 where Variables hold nothing yet. Raises UsageError: GT248,
    GT625 for another optimizer, GT629.
    """
    state = State.of(program, optimizer)
    check_scope(scope)
    held = load_paddle().static.global_scope() if scope is None else scope
    variables = state.variables()
    _check_savable(state, variables, held, step)
    manifest = Manifest(
        schema=SCHEMA,
        graphtool=version(),
        paddle=str(load_paddle().__version__),
        step=step,
        keys=tuple(variables),
        optimizer=state.optimizer,
        schedule=_class_of(state.schedule),
        rate=state.rate,
        rates=state.rates(),
        random=random_state(),
        teachers=state.teachers(held),
        operators=dict(state.operators()),
    )
    with telling(f"saving the checkpoint of step {step}", f"after the checkpoint of step {step}"):
        write_checkpoint(
            Path(fspath(path)), manifest, lambda: scope_tensors(held, variables.values())
        )


@one_at_a_time()
def load_checkpoint(
    path: str | PathLike[str],
    program: _Paddle,
    optimizer: _Paddle,
    *,
    scope: _Paddle | None = None,
) -> Checkpoint:
    """Set a training Program, its optimizer and random state to what `save_checkpoint` saw.

    Build, merge and minimize as then, run the startup program, then load: the losses that follow
    are, bit for bit, those that followed then. Variables whose names an optimizer counts are found
    by what they are. `report` warns of what may make a difference: other operators, another release
    of Paddle, another device, and another learning rate, where the optimizer keeps the one that it
    has now.

    Raises GraphtoolError with all problems and nothing changed: GT620 for a teacher without
    weights, GT623 to GT626. Raises ReadError: GT001, GT017, GT240, GT621, GT622 for the file.
    Raises UsageError: GT248.
    """
    file = Path(fspath(path))
    contents = read_checkpoint(file)
    state = State.of(program, optimizer)
    check_scope(scope)
    held = load_paddle().static.global_scope() if scope is None else scope
    variables = state.variables()
    found = list(_findings(str(file), contents, state, variables, held))
    errors = [one for one in found if one.severity is Severity.ERROR]
    if errors:
        raise GraphtoolError(*errors)
    of_step = f"the checkpoint of step {contents.manifest.step}"
    with telling(f"loading {of_step}", f"after loading {of_step}"):
        _apply(contents, state, variables, held)
    return Checkpoint(
        path=str(file),
        step=contents.manifest.step,
        loaded=tuple(variables.values()),
        report=Report.of(found),
    )


def _check_savable(state: State, variables: Mapping[str, str], scope: _Paddle, step: int) -> None:
    if type(step) is not int or step < 0:
        raise UsageError(problems.bad_step(repr(step)))
    if not state.minimized:
        raise UsageError(problems.never_minimized(state.optimizer))
    _require_held([*variables.values(), *_weights(state)], scope)


def _weights(state: State) -> Iterator[str]:
    return (new for merged in state.subject.merges for _, new in merged.plan.weights)


def _require_held(names: list[str], scope: _Paddle) -> None:
    held = held_tensors(scope, names)
    empty = [name for name in names if name not in held]
    if empty:
        raise GraphtoolError(problems.state_not_there(empty, len(names)))


def _class_of(schedule: _Paddle | None) -> str | None:
    return None if schedule is None else type(schedule).__name__


def _findings(
    path: str, contents: Contents, state: State, variables: Mapping[str, str], scope: _Paddle
) -> Iterator[Diagnostic]:
    manifest = contents.manifest
    if not state.minimized:
        yield problems.never_minimized(state.optimizer)
    if manifest.optimizer != state.optimizer:
        was = f"{_made(manifest)}(...)"
        names = manifest.optimizer, state.optimizer
        yield problems.other_optimizer(path, "optimizer", *names, was)
    then, now = manifest.schedule, _class_of(state.schedule)
    if then != now or not _alike(manifest.rates, state.rates()):
        yield problems.other_optimizer(
            path, "schedule of its rate", then, now, _scheduled(manifest)
        )
    if state.minimized and manifest.optimizer == state.optimizer:
        yield from _about_variables(path, contents.tensors, state, variables)
    yield from _about_teachers(path, manifest, state, scope)
    yield from _about_surroundings(path, manifest, state)
    was, now = manifest.rate, state.rate
    if was is not None and now is not None and was != now:
        yield problems.other_rate(path, was, now, _scheduled(manifest))


def _made(manifest: Manifest) -> str:
    """Spell the class of the optimizer, the inner one where one wraps another."""
    return f"paddle.optimizer.{manifest.optimizer.rpartition(' ')[2]}"


def _scheduled(manifest: Manifest) -> str:
    """Spell how the learning rate was given."""
    if manifest.schedule is not None:
        return f"paddle.optimizer.lr.{manifest.schedule}(...)"
    return f"{_made(manifest)}({'...' if manifest.rate is None else f'{manifest.rate:g}'})"


def _alike(then: Schedule, now: Schedule) -> bool:
    """Tell whether schedules keep the same, whatever the numbers are; one may be inside another."""
    same = then.keys() == now.keys() and all(_of_a_kind(then[name], now[name]) for name in then)
    return same and all(then[name] is not None for name in _COUNTED & then.keys())


def _of_a_kind(then: object, now: object) -> bool:
    if isinstance(then, dict) and isinstance(now, dict):
        return _alike(cast("Schedule", then), cast("Schedule", now))
    if then is None or now is None:
        return not isinstance(then, dict) and not isinstance(now, dict)
    return all(isinstance(then, kind) == isinstance(now, kind) for kind in (dict, str))


def _about_variables(
    path: str, tensors: Mapping[str, Tensor], state: State, variables: Mapping[str, str]
) -> Iterator[Diagnostic]:
    values = used_names(state.graph)
    missing = [key for key in variables if key not in tensors]
    unexpected = [key for key in tensors if key not in variables]
    misshapen = [
        key
        for key, name in variables.items()
        if key in tensors and not _fits(tensors[key], values[name])
    ]
    if missing or unexpected or misshapen:
        yield problems.other_state(
            path, missing=missing, unexpected=unexpected, misshapen=misshapen
        )


def _fits(tensor: Tensor, value: Value) -> bool:
    return tensor.dtype == value.dtype and keeps_shape(value, tensor.shape)


def _about_teachers(
    path: str, manifest: Manifest, state: State, scope: _Paddle
) -> Iterator[Diagnostic]:
    _require_held(list(_weights(state)), scope)
    now, then = state.teachers(scope), manifest.teachers
    if len(now) != len(then):
        yield problems.other_teacher(path, 1, f"one of {len(then)}", f"one of {len(now)}")
        return
    for number, (old, new) in enumerate(zip(then, now, strict=True), 1):
        if old.digest != new.digest:
            yield problems.other_teacher(path, number, _named(old), _named(new))


def _named(teacher: SavedTeacher) -> str:
    return f"`{teacher.source}` with weights {teacher.digest[:8]}"


def _about_surroundings(path: str, manifest: Manifest, state: State) -> Iterator[Diagnostic]:
    then, now = manifest.operators, state.operators()
    differences = [
        f"{now.get(kind, 0) - then.get(kind, 0):+} {kind}"
        for kind in sorted(then.keys() | now.keys())
        if now.get(kind, 0) != then.get(kind, 0)
    ]
    if differences:
        yield problems.other_operators(path, differences)
    release = str(load_paddle().__version__)
    if manifest.paddle != release:
        yield problems.other_place(path, "Paddle", manifest.paddle, release)
    if not is_random_state(manifest.random):
        device = load_paddle().device.get_device()
        yield problems.other_place(path, "random state", "of other generators", device)


def _apply(contents: Contents, state: State, variables: Mapping[str, str], scope: _Paddle) -> None:
    manifest = contents.manifest
    tensors = {name: contents.tensors[key] for key, name in variables.items()}
    if state.rate is not None and state.rate != manifest.rate:
        tensors[variables[RATE]] = filled(contents.tensors[RATE], state.rate)
    set_tensors(tensors, scope)
    state.set_rates(manifest.rates)
    if is_random_state(manifest.random):
        set_random_state(manifest.random)
