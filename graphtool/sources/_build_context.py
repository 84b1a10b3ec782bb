"""Set Paddle's mode, and that of a Layer, while the Layer is built."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from copy import copy
from typing import Any

from graphtool.backend.paddle import Paddle, in_mode, load_paddle
from graphtool.sources._attribution import flatten

__all__ = ["isolated_dynamic_mode", "isolated_static_mode", "layer_mode"]


@contextmanager
def isolated_dynamic_mode() -> Generator[None]:
    """Switch to dynamic mode, with name counters that start at 0."""
    with in_mode(static=False), load_paddle().utils.unique_name.guard():
        yield


@contextmanager
def isolated_static_mode() -> Generator[None]:
    """Switch to static mode, with new default Programs and name counters that start at 0."""
    static, unique_name = load_paddle().static, load_paddle().utils.unique_name
    programs = static.Program(), static.Program()
    with in_mode(static=True), unique_name.guard(), static.program_guard(*programs):
        yield


@contextmanager
def layer_mode(layer: Paddle, *, train: bool | None) -> Generator[None]:
    """Put a Layer into train or eval mode, and restore its sublayers afterwards.

    None is eval mode as well, by the flags alone: neither `eval()` nor `train()` is called.

    The `forward` that Paddle up to 3.0 sets on instances while tracing is removed, since its own
    `jit.save` refuses it; other methods that a Layer assigned meanwhile stay. A `forward` decorated
    by `to_static` is undecorated meanwhile: it refuses static mode.
    """
    layers = layer.sublayers(include_self=True)
    before = [(sublayer.training, sublayer.__dict__.get("forward")) for sublayer in layers]
    for sublayer, (_, assigned) in zip(layers, before, strict=True):
        undecorated = getattr(assigned, "dygraph_function", None)
        if undecorated is not None:
            sublayer.__dict__["forward"] = undecorated.__get__(sublayer)
    if train is None:
        for sublayer in layers:
            sublayer.training = False
    else:
        (layer.train if train else layer.eval)()
    removals = [_value_removal(sublayer) for sublayer in layer.sublayers(include_self=True)]
    try:
        yield
    finally:
        for remove_values in removals:
            remove_values()
        if train is not None:
            (layer.train if before[0][0] else layer.eval)()
        for sublayer, (training, assigned) in zip(layers, before, strict=True):
            sublayer.training = training
            if assigned is not None:
                sublayer.__dict__["forward"] = assigned
            elif _is_set_by_tracing(sublayer.__dict__.get("forward")):
                del sublayer.__dict__["forward"]


# The dicts of a Layer's parts: those that a `forward` creates stay.
_REGISTERED = frozenset({"_parameters", "_buffers", "_sub_layers"})


def _value_removal(layer: Paddle) -> Callable[[], None]:
    """Return a function that removes the Values that `forward` assigns to attributes of a Layer.

    They belong to the Program that is built: using one after that Program died crashes the process.
    """
    attributes: dict[str, Any] = layer.__dict__
    tensor = load_paddle().Tensor
    before = {
        name: copy(one) if type(one) in (dict, list) else one for name, one in attributes.items()
    }

    def remove_values() -> None:
        for name, now in list(attributes.items()):
            if name in _REGISTERED or all(isinstance(one, tensor) for one in flatten(now)):
                continue
            if name in before:
                attributes[name] = before[name]
            else:
                del attributes[name]

    return remove_values


def _is_set_by_tracing(forward: object) -> bool:
    """Return whether Paddle's tracing set a `forward`: a method, or in 3.0 a Paddle object."""
    name: object = getattr(forward, "__name__", None)
    return name == "forward" or type(forward).__module__.startswith("paddle.")
