"""Build the Program that `module:callable` names: a Layer class, a factory, or a function."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from importlib import import_module
from inspect import getattr_static
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from graphtool.diagnostics import ReadError, Report
from graphtool.readers import problems
from graphtool.readers._inputs import Input
from graphtool.readers._messages import Attempt, brief, user_frames
from graphtool.readers._paddle import load_paddle, one_at_a_time
from graphtool.readers._spelling import parse_input, parse_spec
from graphtool.readers.layers import (
    Network,
    build_made,
    build_network,
    handed_over,
    is_program,
)
from graphtool.readers.live import LiveProgram
from graphtool.selectors import nearest

__all__ = ["build"]

# What the user's module holds is not known before it runs; what it returns is Paddle's.
_Made: TypeAlias = Any
_Paddle: TypeAlias = Any


@one_at_a_time()
def build(
    spec: str, inputs: Sequence[str] = (), *, train: bool = False, scope: _Paddle | None = None
) -> Network | LiveProgram:
    """Import the module, call the callable, and build the Layer that it returns, in eval mode.

    `inputs` are spelt as `--input` is: `3,224,224` or `NAME=3,224,224:float32`; a batch of unknown
    size is put before them. What the module prints goes to stderr. What it loads in static mode,
    where `set_state_dict` writes to the global Scope before any startup program ran, is in `scope`
    afterwards, as are the weights of a Network that it returns, and left aside where that is None.

    Raises UsageError: GT036 malformed spec, GT037 malformed input, GT041 missing input, GT042 input
    for which there is no parameter. Raises ReadError: GT030 no Paddle, GT034 forward fails, GT035
    callable raises, GT038 module does not import, GT039 no such attribute, GT040 wrong return type.
    """
    module, name = parse_spec(spec)
    feeds = [parse_input(text) for text in inputs]
    with _working_directory_first(), redirect_stdout(sys.stderr), warnings.catch_warnings():
        paddle = load_paddle()
        # Said once for each batch norm that is built in training mode.
        warnings.filterwarnings("ignore", message="When training, we now always track")
        with paddle.static.scope_guard(paddle.static.Scope() if scope is None else scope):
            made = _attribute(_module(module), name, inputs)
            return _built(spec, made, feeds, train=train)


@contextmanager
def _working_directory_first() -> Generator[None]:
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = before


def _module(name: str) -> ModuleType:
    attempt = Attempt()
    with attempt:
        return import_module(name)
    error = attempt.error
    assert error is not None
    frames = user_frames(error)
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(error.name):
        frames = ()
    reason = f"{type(error).__name__}: {brief(str(error))}"
    raise ReadError(problems.module_not_imported(name, reason, frames))


def _attribute(module: ModuleType, name: str, inputs: Sequence[str]) -> _Made:
    found: _Made = module
    for part in name.split("."):
        if not hasattr(found, part):
            near = nearest(part, list(_callables(found)))
            raise ReadError(problems.no_such_attribute(module.__name__, name, near, inputs))
        found = getattr(found, part)
    return found


def _callables(owner: _Made) -> Iterator[str]:
    """Yield the public names of classes and functions; modules that it imports are none."""
    for name in dir(owner):
        if not name.startswith("_") and callable(getattr_static(owner, name, None)):
            yield name


def _built(
    spec: str, found: _Made, feeds: Sequence[Input], *, train: bool
) -> Network | LiveProgram:
    if is_program(found):
        built = LiveProgram.of(found)
    elif isinstance(found, Network):
        built = handed_over(found)
    elif isinstance(found, load_paddle().nn.Layer):
        built = build_made(found, feeds, name=spec, train=train)
    elif callable(found):
        built = build_network(found, feeds, name=spec, train=train)
    else:
        kind: str = type(found).__name__
        raise ReadError(problems.wrong_type(spec, kind))
    return built if isinstance(built, Network) else _named(spec, built, feeds)


def _named(spec: str, live: LiveProgram, feeds: Sequence[Input]) -> LiveProgram:
    """Name a Program that was built by the user's code, and say so where inputs are left aside."""
    report = Report((problems.inputs_not_used(spec),) if feeds else ())
    return replace(live, graph=replace(live.graph, source=spec, report=report))
