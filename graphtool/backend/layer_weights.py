"""The weights of a Layer made in dynamic mode, which are in its own tensors, not in a Scope."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from graphtool.backend.facts import converted_dtype
from graphtool.backend.paddle import (
    Paddle,
    in_mode,
    is_legacy,
    legacy_mode,
    load_paddle,
    program_lock,
)
from graphtool.backend.pir import inserting_before
from graphtool.backend.tensors import (
    copy_from_scope,
    copy_tensor,
    empty_tensor,
    initialised_tensors,
    private_scope,
    share_tensors,
)
from graphtool.readers.tensor_files import Tensor, write_tensors

__all__ = [
    "Initialisation",
    "changed_since_start",
    "copy_layer_tensors",
    "differing_tensors",
    "has_pending_startup",
    "is_dynamic_parameter",
    "is_sublayer",
    "layer_tensor_names",
    "map_set_parameters",
    "mark_loaded",
    "missing_tensors",
    "record_traced_tensors",
    "remove_initialisers",
    "share_layer_tensors",
    "weights_layer",
    "weights_layer_unless_in",
]

_SET_PARAMETER = "builtin.set_parameter"

# Layer -> the tensors that its Program reads, by name.
_TRACED_TENSORS: weakref.WeakKeyDictionary[Paddle, dict[str, Paddle]] = weakref.WeakKeyDictionary()


def is_dynamic_parameter(parameter: Paddle) -> bool:
    """Return whether a parameter is one of dynamic mode, which has a tensor."""
    return type(parameter).__name__ == "EagerParamBase"


def _initialisation(network: object) -> Initialisation | None:
    """Return how the weights of a Network come about, None for any other source."""
    return getattr(network, "initialisation", None)


def weights_layer(network: object) -> Paddle | None:
    """Return the Layer with the weights of a Network, None once they are in a Scope.

    None also for any other source, and for a Layer without parameters.
    """
    layer: Paddle = getattr(network, "layer", None)
    initialisation = _initialisation(network)
    if initialisation is None or initialisation.in_scope or not hasattr(layer, "sublayers"):
        return None
    return layer if any(map(is_dynamic_parameter, _persistables(layer))) else None


def has_pending_startup(network: object) -> bool:
    """Return whether a Network has a startup program that sets its weights and was not read yet."""
    initialisation = _initialisation(network)
    if initialisation is None or initialisation.layer is None:
        return False
    return not initialisation.in_scope


def changed_since_start(network: object) -> tuple[str, ...]:
    """Return the names of what a Network's Layer holds otherwise than its startup program sets it.

    Weights were loaded into the Layer after the startup program was asked for.
    """
    initialisation = _initialisation(network)
    if initialisation is None or not initialisation.checksums:
        return ()
    now = _checksums(_tensors_of(initialisation.layer))
    return tuple(name for name, one in initialisation.checksums.items() if now.get(name) != one)


def weights_layer_unless_in(
    network: object, names: Collection[str], scope: Paddle | None
) -> Paddle | None:
    """Return the Layer with the weights of a Network, as `weights_layer` does.

    None also if a Scope is given in which all these names are initialised.
    """
    layer = weights_layer(network)
    if layer is None or scope is None:
        return layer
    return None if len(initialised_tensors(scope, names)) == len(names) else layer


def mark_loaded(network: Paddle, scope: Paddle) -> None:
    """Note that the parameters of a Network are in a Scope, and add the buffers that no file has.

    Some buffers of a Layer are not in its state dict.
    """
    network.initialisation.checksums = {}
    layer = weights_layer(network)
    if layer is not None:
        missing = missing_tensors(layer, scope)
        names = missing.keys() - set(network.parameters.values())
        share_tensors({name: copy_tensor(missing[name]) for name in names}, scope)
        network.initialisation.in_scope = True


def record_traced_tensors(layer: Paddle, concrete: Paddle) -> None:
    """Note the tensors that a Layer's ConcreteProgram reads, such as those in plain lists."""
    tensors: Iterable[Paddle] = concrete.parameters
    if not is_legacy(concrete.main_program):
        tensors, _values = concrete.parameters
    _TRACED_TENSORS.setdefault(layer, {}).update({tensor.name: tensor for tensor in tensors})


def layer_tensor_names(layer: Paddle) -> frozenset[str]:
    """Return the names of a Layer's parameters and buffers, also those not in its state dict."""
    return frozenset(one.name for one in _persistables(layer))


def is_sublayer(layer: Paddle, whole: Paddle) -> bool:
    """Return whether all parameters and buffers of a Layer are those of another one."""
    return set(map(id, _persistables(layer))) <= set(map(id, _persistables(whole)))


def _tensors_of(layer: Paddle) -> dict[str, Paddle]:
    """Return the tensors of a Layer of dynamic mode by the names of its Variables."""
    with in_mode(static=False):
        return {one.name: _tensor_of(one) for one in _persistables(layer)}


def _tensor_of(variable: Paddle) -> Paddle:
    if variable._is_initialized():  # noqa: SLF001  # no public equivalent
        # Sharing or copying a buffer ignores strides (3.3.1).
        variable = variable if variable.is_contiguous() else variable.contiguous()
        return variable.value().get_tensor()
    tensor = variable.value().get_tensor()
    # Recurrent networks have a dropout state without memory, which Paddle refuses to copy. In
    # static mode it is empty.
    dtype = converted_dtype(variable.dtype)
    return empty_tensor(tensor, dtype, variable.shape if 0 in variable.shape else (0,))


def copy_layer_tensors(layer: Paddle, scope: Paddle) -> None:
    """Copy the tensors of a Layer of dynamic mode into a Scope: the Layer may go on training."""
    copies = {name: copy_tensor(tensor) for name, tensor in _tensors_of(layer).items()}
    share_tensors(copies, scope)


def share_layer_tensors(network: object, scope: Paddle) -> None:
    """Share the tensors of a Network's Layer with a Scope that lacks them."""
    layer = weights_layer(network)
    if layer is not None:
        share_tensors(missing_tensors(layer, scope), scope)


def missing_tensors(layer: Paddle, scope: Paddle) -> dict[str, Paddle]:
    """Return the tensors of a Layer of dynamic mode that are not initialised in a Scope."""
    tensors = _tensors_of(layer)
    initialised = initialised_tensors(scope, tensors)
    return {name: tensor for name, tensor in tensors.items() if name not in initialised}


def differing_tensors(layer: Paddle, scope: Paddle) -> tuple[str, ...]:
    """Return the names whose tensors in a Scope differ from those of a Layer of dynamic mode."""
    import numpy as np

    tensors = _tensors_of(layer)

    def differs(name: str, tensor: Paddle) -> bool:
        in_scope, in_layer = np.array(tensor), np.array(tensors[name])
        return in_scope.shape != in_layer.shape or in_scope.tobytes() != in_layer.tobytes()

    held = initialised_tensors(scope, tensors)
    return tuple(name for name, tensor in held.items() if differs(name, tensor))


class _MemoryFile:
    """A file in memory that is freed with its last reference."""

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("weights")
        self.path = Path(f"/proc/self/fd/{self._descriptor}")

    def __del__(self) -> None:
        os.close(self._descriptor)


@dataclass(eq=False)
class Initialisation:
    """A startup program, and the Layer with the weights that it sets.

    `layer` is None for a Layer that was given: its startup program leaves the weights alone. The
    weights are `in_scope` once the startup program was read or parameters were loaded; then those
    of the Layer are no longer used.

    A Program cannot hold tensors, so it reads them from a file in memory. That file is written when
    the startup program is read, as most Networks are never started, and again if the Layer has
    changed since; `checksums` are those of the tensors written.
    """

    startup: Paddle
    layer: Paddle | None
    in_scope: bool = False
    checksums: Mapping[str, int] = field(default_factory=dict[str, int])
    _file: _MemoryFile | None = None

    def program(self) -> Paddle:
        """Return the startup program, which sets all weights to those that the Layer has now."""
        with program_lock():
            if self.layer is not None:
                self._write(_tensors_of(self.layer))
                self.in_scope = True
        return self.startup

    def _write(self, tensors: Mapping[str, Paddle]) -> None:
        checksums = _checksums(tensors)
        if checksums == self.checksums:
            return
        if self._file is None:
            self._file = _MemoryFile()
            _append_load(self.startup, tensors, self._file)
        else:
            with private_scope() as scope:
                share_tensors(tensors, scope)
                write_tensors(self._file.path, copy_from_scope(scope, tensors))
        self.checksums = checksums


def _checksums(tensors: Mapping[str, Paddle]) -> dict[str, int]:
    import numpy as np

    return {name: crc32(np.ascontiguousarray(tensor).data) for name, tensor in tensors.items()}


# The files of legacy Programs, kept for good: a clone has the load operator but not the attribute.
_LEGACY_FILES: list[_MemoryFile] = []


def _append_load(startup: Paddle, tensors: Mapping[str, Paddle], file: _MemoryFile) -> None:
    """Append operators to a startup program that load tensors from a file, which is written."""
    paddle = load_paddle()
    if is_legacy(startup):
        _LEGACY_FILES.append(file)
    else:
        startup.graphtool_weights = file
    outputs: list[Paddle] = []
    with legacy_mode(), private_scope() as scope:
        loading = startup if is_legacy(startup) else paddle.static.Program()
        block = loading.global_block()

        def declared() -> Iterator[Tensor]:
            for name, tensor in zip(tensors, copy_from_scope(scope, tensors), strict=True):
                properties = {"name": name, "shape": tensor.shape, "dtype": tensor.dtype}
                outputs.append(block.create_var(**properties, persistable=True))
                yield tensor

        share_tensors(tensors, scope)
        write_tensors(file.path, declared())
        load = {"file_path": str(file.path)}
        block.append_op(type="load_combine", outputs={"Out": outputs}, attrs=load)
    if loading is not startup:
        translated = paddle.pir.translate_to_pir(loading.desc)
        setters = [op for op in translated.global_block().ops if op.name() == _SET_PARAMETER]
        # `set_parameter` does not write a list item to an existing Variable, but writes its copy.
        map_set_parameters(translated, setters, paddle.assign)
        translated.copy_to_block(paddle.pir.IrMapping(), startup.global_block())


def map_set_parameters(
    program: Paddle, setters: Iterable[Paddle], compute: Callable[[Paddle], Paddle]
) -> None:
    """Apply a function to the operands of `set_parameter` operations of a PIR Program."""
    with in_mode(static=True):
        for op in setters:
            with inserting_before(op, program):
                computed = compute(op.operand_source(0))
                computed.persistable = True
                op.operand(0).set_source(computed)


def remove_initialisers(startup: Paddle, names: Collection[str]) -> Paddle:
    """Remove the initialisers of these parameters from a startup program, and return it.

    Those of `to_static` set zeros, which would overwrite the weights of the Layer.
    """
    if is_legacy(startup):
        return startup
    block = startup.global_block()
    for op in list(block.ops):
        if op.name() == _SET_PARAMETER and op.attrs()["parameter_name"] in names:
            initialiser = op.operand_source(0).get_defining_op()
            block.remove_op(op)
            if all(value.use_empty() for value in initialiser.results()):
                block.remove_op(initialiser)
    return startup


def _persistables(layer: Paddle) -> Iterator[Paddle]:
    """Yield a Layer's parameters and buffers, and the other tensors that its Program reads."""
    yield from _TRACED_TENSORS.get(layer, {}).values()
    # `parameters()` raises for those of the mode that Paddle is not in. A sublayer that a forward
    # made while it was traced has parameters of static mode.
    for sublayer in layer.sublayers(include_self=True):
        for one in (*sublayer._parameters.values(), *sublayer._buffers.values()):  # noqa: SLF001
            if hasattr(one, "_is_initialized"):
                yield one
