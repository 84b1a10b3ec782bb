"""Build the Program of a `module:callable`: a Layer class, a factory, or a function."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module
from inspect import getattr_static
from types import ModuleType
from typing import Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, load_paddle, program_lock
from graphtool.diagnostics import ReadError, Report, Severity, UsageError, listed
from graphtool.selectors import nearest_names
from graphtool.sources import problems
from graphtool.sources.inputs import Input, parse_input, parse_spec
from graphtool.sources.layers import Network, build_network, is_program, live_program_of
from graphtool.sources.user_code import Attempt, error_notes, working_directory_first
from graphtool.text import inspect_command, shell_command, shell_option, string_literal

__all__ = ["build"]

# The content of the user's module has no static type; what it returns is Paddle's.
_UserObject: TypeAlias = Any


@program_lock()
def build(
    spec: str, inputs: Sequence[str] = (), *, train: bool = False, scope: Paddle | None = None
) -> Network | LiveProgram:
    """Import the module, call the callable, and build the Layer that it returns, in eval mode.

    `inputs` are spelt as `--input` is: `3,224,224` or `NAME=3,224,224:float32`; a batch of unknown
    size is prepended. The module's stdout goes to stderr. Weights that it loads in static mode,
    where `set_state_dict` writes to the global Scope before any startup program ran, and those of a
    Network that it returns, go into `scope`, by default a temporary one.

    Raises UsageError: GT036 malformed spec, GT037 malformed, missing or unknown input, GT248
    `inputs` is not a list of strings. Raises ReadError: GT030 no Paddle, GT034 the code fails,
    GT036 the code makes no network.
    """
    module, name = parse_spec(spec)
    given = cast("Sequence[object]", inputs)
    if type(given) not in (list, tuple) or not all(isinstance(text, str) for text in given):
        call = f'gt.read({string_literal(spec)}, inputs=["{problems.SAMPLE}"])'
        raise UsageError(bad_argument("inputs", inputs, "a list of strings", call))
    feeds = [parse_input(text) for text in inputs]
    with working_directory_first(), redirect_stdout(sys.stderr), warnings.catch_warnings():
        paddle = load_paddle()
        # Issued for each batch norm that is built in training mode.
        warnings.filterwarnings("ignore", message="When training, we now always track")
        with paddle.static.scope_guard(paddle.static.Scope() if scope is None else scope):
            target = _attribute(_imported(module), name, inputs)
            return _build(spec, target, feeds, train=train)


def _imported(name: str) -> ModuleType:
    attempt = Attempt()
    with attempt:
        return import_module(name)
    error = attempt.error
    assert error is not None
    notes = error_notes(error)
    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(error.name):
        notes = notes[:1]
    command = shell_command("python", "-c", f"import {name}")
    raise ReadError(problems.code_failed(f"module `{name}` cannot be imported", notes, command))


def _attribute(module: ModuleType, name: str, inputs: Sequence[str]) -> _UserObject:
    target: _UserObject = module
    for part in name.split("."):
        if not hasattr(target, part):
            near = nearest_names(part, list(_callables(target)))
            options = (shell_option("--input", text) for text in inputs)
            raise ReadError(
                problems.not_a_network(
                    f"module `{module.__name__}` has no `{name}`",
                    notes=(f"nearest: {listed(near)}",) if near else (),
                    help=" ".join((inspect_command(f"{module.__name__}:{near[0]}"), *options))
                    if near
                    else None,
                )
            )
        target = getattr(target, part)
    return target


def _callables(owner: _UserObject) -> Iterator[str]:
    """Yield the public names of the classes and functions of a module or class."""
    for name in dir(owner):
        if not name.startswith("_") and callable(getattr_static(owner, name, None)):
            yield name


def _build(
    spec: str, target: _UserObject, feeds: Sequence[Input], *, train: bool
) -> Network | LiveProgram:
    if is_program(target):
        built = LiveProgram.of(target)
    elif isinstance(target, Network):
        built = live_program_of(target)
    elif callable(target):
        built = build_network(target, feeds, name=spec, train=train)
    else:
        message = f"`{spec}` is of type `{type(target).__name__}`; wanted a Layer or a Program"
        raise ReadError(problems.not_a_network(message))
    if isinstance(built, Network):
        return built
    # The user's code built the Program: the inputs given are ignored.
    message = f"`{spec}` makes a Program, which has its own feeds: the inputs are ignored"
    found = problems.bad_input(message, severity=Severity.NOTE)
    report = Report((found,) if feeds else ())
    return replace(built, graph=replace(built.graph, source=spec, report=report))
