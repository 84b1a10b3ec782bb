"""The weights of a Layer that was made in dynamic mode: it holds them itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from graphtool.readers._paddle import in_mode, is_legacy, load_paddle
from graphtool.readers.tensors import copy_of, empty_like, held_tensors, share_tensors

__all__ = [
    "dynamic_layer",
    "held_names",
    "hold_layer",
    "holding_layer",
    "is_dynamic",
    "is_foreign",
    "is_part",
    "lacking_tensors",
    "load_layer",
    "note_read",
    "unlike_layer",
    "without_initialisers",
]

# Layers, their parameters and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# What Layers were seen to read when they were built, by name.
_READ: WeakKeyDictionary[_Paddle, dict[str, _Paddle]] = WeakKeyDictionary()


def is_dynamic(parameter: _Paddle) -> bool:
    """Tell a parameter of dynamic mode, which has a tensor, from one of static mode."""
    return type(parameter).__name__ == "EagerParamBase"


def is_foreign(layer: _Paddle, program: _Paddle) -> bool:
    """Tell a Layer with parameters of static mode that are none of a PIR Program's.

    They are asked for their addresses alone: they crash where their own Program is gone.
    """
    if is_legacy(program):
        return False
    own = {result.id for op in program.global_block().ops for result in op.results()}
    held = (
        parameter
        for inner in layer.sublayers(include_self=True)
        for parameter in inner._parameters.values()  # noqa: SLF001
    )
    return any(one is not None and not is_dynamic(one) and one.id not in own for one in held)


def dynamic_layer(network: object) -> _Paddle | None:
    """Return the Layer of a Network that was made in dynamic mode, None for any other source.

    One without parameters counts as none.
    """
    layer = getattr(network, "layer", None)
    made = hasattr(layer, "sublayers") and any(map(is_dynamic, _held(layer)))
    return layer if made else None


def holding_layer(network: object, names: Collection[str], scope: _Paddle | None) -> _Paddle | None:
    """Return the Layer that a Network of dynamic mode has its weights in, as `dynamic_layer` does.

    None, too, where a Scope was given for them that holds all of these names.
    """
    layer = dynamic_layer(network)
    if layer is None or scope is None:
        return layer
    return None if len(held_tensors(scope, names)) == len(names) else layer


def note_read(layer: _Paddle, built: _Paddle) -> None:
    """Note what a Layer reads by its ConcreteProgram: of a tensor in a list it tells nobody."""
    tensors: Iterable[_Paddle] = built.parameters
    if not is_legacy(built.main_program):
        tensors, _values = built.parameters
    _READ.setdefault(layer, {}).update({tensor.name: tensor for tensor in tensors})


def held_names(layer: _Paddle) -> frozenset[str]:
    """Return the names of all that a Layer holds, what is in no state dict as well."""
    return frozenset(held.name for held in _held(layer))


def is_part(layer: _Paddle, whole: _Paddle) -> bool:
    """Tell a Layer that holds nothing but parameters and buffers of another one, or that itself."""
    return set(map(id, _held(layer))) <= set(map(id, _held(whole)))


def _tensors_of(layer: _Paddle) -> dict[str, _Paddle]:
    """Return the tensors of a Layer of dynamic mode by the names of its Variables."""
    with in_mode(static=False):
        return {held.name: _tensor(held) for held in _held(layer)}


def _tensor(held: _Paddle) -> _Paddle:
    tensor = held.value().get_tensor()
    if held._is_initialized():  # noqa: SLF001  # there is no public spelling
        return tensor
    import numpy as np

    # Recurrent networks have a state of dropout without memory, which Paddle refuses to copy. In
    # static mode it is empty.
    paddle, empty = load_paddle(), empty_like(tensor)
    empty.set(np.empty([0], paddle.base.data_feeder.convert_dtype(held.dtype)), paddle.CPUPlace())
    return empty


def load_layer(layer: _Paddle, scope: _Paddle) -> None:
    """Copy the tensors of a Layer of dynamic mode into a Scope: the Layer may go on training."""
    copies = {name: copy_of(tensor) for name, tensor in _tensors_of(layer).items()}
    share_tensors(copies, scope)


def hold_layer(network: object, scope: _Paddle) -> None:
    """Give a Scope what it lacks of a Network's Layer of dynamic mode, whose buffers it shares."""
    layer = dynamic_layer(network)
    if layer is not None:
        share_tensors(lacking_tensors(layer, scope), scope)


def lacking_tensors(layer: _Paddle, scope: _Paddle) -> dict[str, _Paddle]:
    """Return the tensors of a Layer of dynamic mode that a Scope does not hold."""
    tensors = _tensors_of(layer)
    held = held_tensors(scope, tensors)
    return {name: tensor for name, tensor in tensors.items() if name not in held}


def unlike_layer(layer: _Paddle, scope: _Paddle) -> tuple[str, ...]:
    """Return the names under which a Scope holds other numbers than a Layer of dynamic mode."""
    return tuple(_unlike(_tensors_of(layer), scope))


def _unlike(tensors: Mapping[str, _Paddle], scope: _Paddle) -> Iterator[str]:
    import numpy as np

    for name, held in held_tensors(scope, tensors).items():
        found, wanted = np.array(held), np.array(tensors[name])
        if found.tobytes() != wanted.tobytes() or found.shape != wanted.shape:
            yield name


def without_initialisers(startup: _Paddle, names: Collection[str]) -> _Paddle:
    """Take out of a startup program what sets these parameters, and return it.

    `to_static` lets it set zeros, over whatever a Layer's weights were by then.
    """
    if is_legacy(startup):
        return startup
    block = startup.global_block()
    for op in list(block.ops):
        if op.name() == "builtin.set_parameter" and op.attrs()["parameter_name"] in names:
            initialiser = op.operand_source(0).get_defining_op()
            block.remove_op(op)
            if all(value.use_empty() for value in initialiser.results()):
                block.remove_op(initialiser)
    return startup


def _held(layer: _Paddle) -> Iterator[_Paddle]:
    """Yield a Layer's parameters and buffers, and what else it reads."""
    yield from _READ.get(layer, {}).values()
    # `parameters()` refuses those of the mode that Paddle is not in.
    for inner in layer.sublayers(include_self=True):
        for held in (*inner._parameters.values(), *inner._buffers.values()):  # noqa: SLF001
            if held is not None:
                yield held
