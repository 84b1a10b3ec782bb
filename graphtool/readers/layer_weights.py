"""The weights of a Layer that was made in dynamic mode: it holds them itself."""

from __future__ import annotations

import os
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from graphtool.readers._paddle import (
    in_mode,
    is_legacy,
    legacy_mode,
    load_paddle,
    one_at_a_time,
)
from graphtool.readers.tensors import (
    Tensor,
    copy_of,
    held_tensors,
    private_scope,
    scope_tensors,
    share_tensors,
    without_elements,
    write_tensors,
)

__all__ = [
    "Initialisation",
    "dynamic_layer",
    "held_names",
    "hold_layer",
    "holding_layer",
    "is_dynamic",
    "is_part",
    "lacking_tensors",
    "load_layer",
    "note_read",
    "unlike_layer",
    "user_layer",
    "without_initialisers",
]

# Layers, their parameters and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# What Layers were seen to read when they were built, by name.
_READ: weakref.WeakKeyDictionary[_Paddle, dict[str, _Paddle]] = weakref.WeakKeyDictionary()


def is_dynamic(parameter: _Paddle) -> bool:
    """Tell a parameter of dynamic mode, which has a tensor, from one of static mode."""
    return type(parameter).__name__ == "EagerParamBase"


def user_layer(network: object) -> _Paddle | None:
    """Return the Layer that was handed over for a Network: the weights in it are the user's."""
    return dynamic_layer(network) if getattr(network, "handed_over", False) else None


def dynamic_layer(network: object) -> _Paddle | None:
    """Return the Layer of a Network, None for any other source, and for one without parameters."""
    layer = getattr(network, "layer", None)
    made = hasattr(layer, "sublayers") and any(map(is_dynamic, _held(layer)))
    return layer if made else None


def holding_layer(
    network: object, names: Collection[str], scope: _Paddle | None, usual: _Paddle | None
) -> _Paddle | None:
    """Return the Layer that a Network has its weights in, None where a Scope has all of them.

    That is the `scope` which was given for them, else the `usual` one, where the startup program
    may have set them; the usual one does not take the place of a Layer that was handed over.
    """
    layer = dynamic_layer(network)
    home = usual if scope is None and user_layer(network) is None else scope
    if layer is None or home is None:
        return layer
    return None if len(held_tensors(home, names)) == len(names) else layer


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
    # Recurrent networks have a state of dropout without memory, which Paddle refuses to copy. In
    # static mode it is empty.
    return without_elements(tensor, load_paddle().base.data_feeder.convert_dtype(held.dtype))


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


@dataclass(eq=False)
class Initialisation:
    """A startup program, and the Layer whose weights it is to set, None where it is complete.

    A Program cannot hold tensors, so it reads them from a file in memory, which goes with the
    Program. They are written there when the startup program is first asked for: most Networks are
    never started.
    """

    startup: _Paddle
    layer: _Paddle | None

    def program(self) -> _Paddle:
        """Return the startup program, which sets all weights."""
        if self.layer is not None:
            with one_at_a_time():
                _append_load(self.startup, self.layer)
                self.layer = None
        return self.startup


def _append_load(startup: _Paddle, layer: _Paddle) -> None:
    """Let a startup program set what a Layer holds."""
    paddle, tensors = load_paddle(), _tensors_of(layer)
    if not tensors:
        return
    file = os.memfd_create("weights")
    weakref.finalize(startup, os.close, file)
    path = Path(f"/proc/self/fd/{file}")
    outputs: list[_Paddle] = []
    with legacy_mode(), private_scope() as scope:
        loading = startup if is_legacy(startup) else paddle.static.Program()
        block = loading.global_block()

        def declared() -> Iterator[Tensor]:
            for name, found in zip(tensors, scope_tensors(scope, tensors), strict=True):
                described = {"name": name, "shape": found.shape, "dtype": found.dtype}
                outputs.append(block.create_var(**described, persistable=True))
                yield found

        share_tensors(tensors, scope)
        write_tensors(path, declared())
        load = {"file_path": str(path)}
        block.append_op(type="load_combine", outputs={"Out": outputs}, attrs=load)
    if loading is not startup:
        translated = paddle.pir.translate_to_pir(loading.desc)
        _set_copies(translated)
        translated.copy_to_block(paddle.pir.IrMapping(), startup.global_block())


def _set_copies(program: _Paddle) -> None:
    """Let copies be set: an item of a list is not written to a Variable that is there already."""
    paddle = load_paddle()
    with in_mode(static=True), paddle.static.program_guard(program):
        for op in list(program.global_block().ops):
            if op.name() == "builtin.set_parameter":
                paddle.pir.set_insertion_point(op)
                copy = paddle.assign(op.operand_source(0))
                copy.persistable = True
                op.operand(0).set_source(copy)
        paddle.pir.reset_insertion_point_to_end()


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
