"""What is around a Layer while it is built: Paddle's mode and the Layer's own."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeAlias

from graphtool.readers._attribution import flatten
from graphtool.readers._paddle import in_mode, load_paddle

__all__ = ["dynamic_room", "layer_mode", "static_room"]

# Layers, Programs and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any


@contextmanager
def dynamic_room() -> Generator[None]:
    """Be in dynamic mode, where names count from 0."""
    with in_mode(static=False), load_paddle().utils.unique_name.guard():
        yield


@contextmanager
def static_room() -> Generator[None]:
    """Be in static mode, with default Programs of its own, where names count from 0."""
    static, unique_name = load_paddle().static, load_paddle().utils.unique_name
    programs = static.Program(), static.Program()
    with in_mode(static=True), unique_name.guard(), static.program_guard(*programs):
        yield


@contextmanager
def layer_mode(layer: _Paddle, *, train: bool | None) -> Generator[None]:
    """Put a Layer into train or eval mode, and each of its sublayers back afterwards.

    None is eval mode as well, by the flags alone: neither `eval()` nor `train()` is called.

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
    if train is None:
        for sublayer in layers:
            sublayer.training = False
    else:
        (layer.train if train else layer.eval)()
    kept = [_kept(sublayer) for sublayer in layer.sublayers(include_self=True)]
    try:
        yield
    finally:
        for undo in kept:
            undo()
        if train is not None:
            (layer.train if before[0][0] else layer.eval)()
        for sublayer, (training, own_forward) in zip(layers, before, strict=True):
            sublayer.training = training
            if own_forward is not None:
                sublayer.__dict__["forward"] = own_forward
            elif _is_rewritten(sublayer.__dict__.get("forward")):
                del sublayer.__dict__["forward"]


# What a Layer keeps its parts in: those that a `forward` makes stay.
_REGISTERED = frozenset({"_parameters", "_buffers", "_sub_layers"})


def _kept(layer: _Paddle) -> Callable[[], None]:
    """Return what takes out of a Layer's attributes the Values that its `forward` puts there.

    They are of the Program that is built, and using one crashes the process once that is gone.
    """
    own: dict[str, Any] = layer.__dict__
    tensor = load_paddle().Tensor
    before = {name: copy(one) if type(one) in (dict, list) else one for name, one in own.items()}

    def undo() -> None:
        for name, now in list(own.items()):
            if name in _REGISTERED or all(isinstance(one, tensor) for one in flatten(now)):
                continue
            if name in before:
                own[name] = before[name]
            else:
                del own[name]

    return undo


def _is_rewritten(forward: object) -> bool:
    """Tell what Paddle makes of a `forward`: a method of that name, in 3.0 in its own class."""
    name: object = getattr(forward, "__name__", None)
    return name == "forward" or type(forward).__module__.startswith("paddle.")
