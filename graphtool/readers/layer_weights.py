"""The weights of a Layer that was made in dynamic mode: it holds them itself."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias
from zlib import crc32

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
    "changed_since_start",
    "dynamic_layer",
    "held_names",
    "hold_layer",
    "holding_layer",
    "is_dynamic",
    "is_part",
    "is_to_start",
    "lacking_tensors",
    "load_layer",
    "note_loaded",
    "note_read",
    "set_through",
    "unlike_layer",
    "without_initialisers",
]

# Layers, their parameters and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any
_Compute: TypeAlias = Callable[[_Paddle], _Paddle]

_SETTER = "builtin.set_parameter"

# What Layers were seen to read when they were built, by name.
_READ: weakref.WeakKeyDictionary[_Paddle, dict[str, _Paddle]] = weakref.WeakKeyDictionary()


class _Network(Protocol):
    """A Layer built into a Program, of which this module is a part."""

    @property
    def initialisation(self) -> Initialisation: ...

    @property
    def parameters(self) -> Mapping[str, str]: ...


def is_dynamic(parameter: _Paddle) -> bool:
    """Tell a parameter of dynamic mode, which has a tensor, from one of static mode."""
    return type(parameter).__name__ == "EagerParamBase"


def dynamic_layer(network: object) -> _Paddle | None:
    """Return the Layer that a Network has its weights in, None once they are in a Scope.

    None, too, for any other source, and for a Layer without parameters.
    """
    layer: _Paddle = getattr(network, "layer", None)
    initialisation = getattr(network, "initialisation", None)
    if initialisation is None or initialisation.in_scope or not hasattr(layer, "sublayers"):
        return None
    return layer if any(map(is_dynamic, _held(layer))) else None


def is_to_start(network: object) -> bool:
    """Return whether a Network has a startup program that sets its weights, and was not started."""
    initialisation = getattr(network, "initialisation", None)
    return (
        initialisation is not None
        and initialisation.layer is not None
        and not initialisation.in_scope
    )


def changed_since_start(network: object) -> tuple[str, ...]:
    """Return the names of what a Network's Layer holds otherwise than its startup program sets it.

    Weights were loaded into the Layer after the startup program was asked for.
    """
    initialisation = getattr(network, "initialisation", None)
    if initialisation is None or not initialisation.checksums:
        return ()
    now = _checksums(_tensors_of(initialisation.layer))
    return tuple(name for name, one in initialisation.checksums.items() if now.get(name) != one)


def holding_layer(network: object, names: Collection[str], scope: _Paddle | None) -> _Paddle | None:
    """Return the Layer that a Network has its weights in, as `dynamic_layer` does.

    None, too, where a Scope was given for them that holds all of these names.
    """
    layer = dynamic_layer(network)
    if layer is None or scope is None:
        return layer
    return None if len(held_tensors(scope, names)) == len(names) else layer


def note_loaded(network: _Network, scope: _Paddle) -> None:
    """Note that the parameters of a Network are in a Scope, which gets what no file has.

    A Layer keeps some buffers out of its state dict.
    """
    network.initialisation.checksums = {}
    layer = dynamic_layer(network)
    if layer is None:
        return
    named = set(network.parameters.values())
    lacking = lacking_tensors(layer, scope)
    share_tensors({name: copy_of(one) for name, one in lacking.items() if name not in named}, scope)
    network.initialisation.in_scope = True


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
    if held._is_initialized():  # noqa: SLF001  # there is no public spelling
        # What shares or copies a buffer takes no account of strides (3.3.1).
        held = held if held.is_contiguous() else held.contiguous()
        return held.value().get_tensor()
    tensor = held.value().get_tensor()
    # Recurrent networks have a state of dropout without memory, which Paddle refuses to copy. In
    # static mode it is empty.
    dtype = load_paddle().base.data_feeder.convert_dtype(held.dtype)
    return without_elements(tensor, dtype, held.shape if 0 in held.shape else (0,))


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


class _Memory:
    """A file in memory, which goes with the last that refers to it."""

    def __init__(self) -> None:
        self._file = os.memfd_create("weights")
        self.path = Path(f"/proc/self/fd/{self._file}")

    def __del__(self) -> None:
        os.close(self._file)


@dataclass(eq=False)
class Initialisation:
    """A startup program, and where the weights are that it is to set.

    `layer` is the Layer that has them, None for one that was handed over: its startup program
    leaves them alone. They are `in_scope` once the startup program was asked for, or parameters
    were loaded; from then on the Layer's are not taken.

    A Program cannot hold tensors, so it reads them from a file in memory. They are written there
    when the startup program is asked for, as most Networks are never started, and again where the
    Layer has changed since; `checksums` are those of what was written.
    """

    startup: _Paddle
    layer: _Paddle | None
    in_scope: bool = False
    checksums: Mapping[str, int] = field(default_factory=dict[str, int])
    _memory: _Memory | None = None

    def program(self) -> _Paddle:
        """Return the startup program, which sets all weights as the Layer has them now."""
        with one_at_a_time():
            if self.layer is not None:
                self._write(_tensors_of(self.layer))
                self.in_scope = True
        return self.startup

    def _write(self, tensors: Mapping[str, _Paddle]) -> None:
        checksums = _checksums(tensors)
        if checksums == self.checksums:
            return
        if self._memory is None:
            self._memory = _Memory()
            _append_load(self.startup, tensors, self._memory)
        else:
            with private_scope() as scope:
                share_tensors(tensors, scope)
                write_tensors(self._memory.path, scope_tensors(scope, tensors))
        self.checksums = checksums


def _checksums(tensors: Mapping[str, _Paddle]) -> dict[str, int]:
    import numpy as np

    return {name: crc32(np.ascontiguousarray(tensor).data) for name, tensor in tensors.items()}


# Clones of a legacy Program share its operators and none of its attributes.
_KEPT: list[_Memory] = []


def _append_load(startup: _Paddle, tensors: Mapping[str, _Paddle], memory: _Memory) -> None:
    """Let a startup program set these tensors, which are written into memory."""
    paddle = load_paddle()
    if is_legacy(startup):
        _KEPT.append(memory)
    else:
        startup.graphtool_weights = memory
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
        write_tensors(memory.path, declared())
        load = {"file_path": str(memory.path)}
        block.append_op(type="load_combine", outputs={"Out": outputs}, attrs=load)
    if loading is not startup:
        translated = paddle.pir.translate_to_pir(loading.desc)
        setters = [op for op in translated.global_block().ops if op.name() == _SETTER]
        # An item of a list is not written to a Variable that is there already: a copy of it is.
        set_through(translated, setters, paddle.assign)
        translated.copy_to_block(paddle.pir.IrMapping(), startup.global_block())


def set_through(program: _Paddle, setters: Iterable[_Paddle], compute: _Compute) -> None:
    """Let operations that set parameters of a PIR Program set what is computed of their Values."""
    paddle = load_paddle()
    with in_mode(static=True), paddle.static.program_guard(program):
        for op in setters:
            paddle.pir.set_insertion_point(op)
            computed = compute(op.operand_source(0))
            computed.persistable = True
            op.operand(0).set_source(computed)
        paddle.pir.reset_insertion_point_to_end()


def without_initialisers(startup: _Paddle, names: Collection[str]) -> _Paddle:
    """Take out of a startup program what sets these parameters, and return it.

    `to_static` lets it set zeros, over whatever a Layer's weights were by then.
    """
    if is_legacy(startup):
        return startup
    block = startup.global_block()
    for op in list(block.ops):
        if op.name() == _SETTER and op.attrs()["parameter_name"] in names:
            initialiser = op.operand_source(0).get_defining_op()
            block.remove_op(op)
            if all(value.use_empty() for value in initialiser.results()):
                block.remove_op(initialiser)
    return startup


def _held(layer: _Paddle) -> Iterator[_Paddle]:
    """Yield a Layer's parameters and buffers, and what else it reads."""
    yield from _READ.get(layer, {}).values()
    # `parameters()` refuses those of the mode that Paddle is not in. A sublayer that a forward made
    # while it was traced has parameters of static mode.
    for inner in layer.sublayers(include_self=True):
        for held in (*inner._parameters.values(), *inner._buffers.values()):  # noqa: SLF001
            if hasattr(held, "_is_initialized"):
                yield held
