"""What is around a Layer while it is built: its Programs, its mode, and an `if` that refuses."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

from graphtool.readers._paddle import in_mode, is_legacy, load_paddle

__all__ = ["layer_mode", "no_silent_branches", "room"]

# Layers, Programs and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@contextmanager
def room(*, static: bool) -> Generator[tuple[_Paddle, _Paddle]]:
    """Give a main and a startup Program of their own, where names count from 0."""
    paddle = load_paddle()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with in_mode(static=static), paddle.utils.unique_name.guard():
        if not static:
            yield main, startup
            return
        with paddle.static.program_guard(main, startup):
            yield main, startup


@contextmanager
def no_silent_branches(program: _Paddle) -> Generator[None]:
    """Make `if variable:` fail in legacy static mode, as it does in PIR.

    A Variable is true like any object: one branch would be built, the other dropped in silence.
    """
    if not is_legacy(program):
        yield
        return
    variable = load_paddle().base.framework.Variable
    variable.__bool__ = _refuse_truth
    try:
        yield
    finally:
        del variable.__bool__


def _refuse_truth(variable: _Paddle) -> bool:
    frame = inspect.currentframe()
    caller = frame.f_back if frame else None
    # Paddle itself writes `if bias:` for `if bias is not None:`.
    if caller is None or caller.f_globals.get("__name__", "").startswith("paddle."):
        return True
    raise TypeError(f"`if {variable.name}` depends on data, which static mode does not have")


@contextmanager
def layer_mode(layer: _Paddle, *, train: bool) -> Generator[None]:
    """Put a Layer into train or eval mode, and each of its sublayers back afterwards.

    What Paddle up to 3.0 writes over their `forward` goes as well, for its own `jit.save` refuses
    that; another method that a Layer itself put there while it was built stays. What `to_static`
    has put there is out of the way meanwhile: it refuses static mode.
    """
    layers = layer.sublayers(include_self=True)
    before = [(sublayer.training, sublayer.__dict__.get("forward")) for sublayer in layers]
    for sublayer, (_, own_forward) in zip(layers, before, strict=True):
        plain = getattr(own_forward, "dygraph_function", None)
        if plain is not None:
            sublayer.__dict__["forward"] = plain.__get__(sublayer)
    (layer.train if train else layer.eval)()
    try:
        yield
    finally:
        (layer.train if before[0][0] else layer.eval)()
        for sublayer, (training, own_forward) in zip(layers, before, strict=True):
            sublayer.training = training
            if own_forward is not None:
                sublayer.__dict__["forward"] = own_forward
            elif _is_rewritten(sublayer.__dict__.get("forward")):
                del sublayer.__dict__["forward"]


def _is_rewritten(forward: object) -> bool:
    """Tell what Paddle makes of a `forward`: a method of that name, in 3.0 in its own class."""
    name: object = getattr(forward, "__name__", None)
    return name == "forward" or type(forward).__module__.startswith("paddle.")
