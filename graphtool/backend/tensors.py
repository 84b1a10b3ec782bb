"""Read, copy, share and set the tensors of Scopes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from graphtool.backend.facts import scope_facts
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.graph import NON_PERSISTABLE_SUFFIX, Value
from graphtool.readers.tensor_files import Tensor

__all__ = [
    "copy_from_scope",
    "copy_tensor",
    "empty_tensor",
    "full_like",
    "initialised_tensors",
    "looks_untrained",
    "new_like",
    "private_scope",
    "set_dropout_states",
    "set_tensors",
    "share_tensors",
]

# If this share of vectors is constant, initialisers set them and training did not.
_UNTRAINED_SHARE = 0.9


def full_like(tensor: Tensor, number: float) -> Tensor:
    """Return a constant tensor of the same shape and floating-point dtype."""
    import numpy as np

    if tensor.dtype != "bfloat16":
        return Tensor(np.full_like(tensor.array, number), tensor.dtype)
    convert = load_paddle().base.data_feeder.convert_float_to_uint16
    return Tensor(convert(np.full(tensor.shape, number, "float32")), tensor.dtype)


def copy_from_scope(scope: Paddle, names: Iterable[str]) -> Iterator[Tensor]:
    """Copy initialised Variables out of a Scope, in order, one at a time."""
    import numpy as np

    for name in names:
        yield Tensor.of(np.array(scope.find_var(name).get_tensor()))


def initialised_tensors(scope: Paddle, names: Iterable[str]) -> dict[str, Paddle]:
    """Return the initialised tensors of a Scope under these names."""
    facts = scope_facts(scope, names).variables
    return {
        name: scope.find_var(name).get_tensor() for name, fact in facts.items() if fact.initialised
    }


def share_tensors(tensors: Mapping[str, Paddle], scope: Paddle) -> None:
    """Make Variables of a Scope share the buffers of tensors."""
    for name, tensor in tensors.items():
        # Paddle has no public way to share a buffer.
        scope.var(name).get_tensor()._share_data_with(tensor)  # noqa: SLF001


def looks_untrained(scope: Paddle, known: Mapping[str, Value]) -> bool | None:
    """Return whether nearly all vectors of a network are constant, as initialisers set them.

    Biases and shifts are then 0, scales 1, running means 0 and variances 1; training changes each
    of them. None if it has no vectors.
    """
    import numpy as np

    vectors = [
        np.array(scope.find_var(name).get_tensor())
        for name, value in known.items()
        if len(value.shape or ()) == 1 and value.shape != (1,)
    ]
    constant = [vector for vector in vectors if vector.size and (vector == vector[0]).all()]
    return len(constant) >= _UNTRAINED_SHARE * len(vectors) if vectors else None


def set_tensors(tensors: Mapping[str, Tensor], scope: Paddle | None = None) -> None:
    """Set Variables of a Scope, by default the global one; each stays on its device.

    Each gets a new buffer, since another Scope may share the old one.
    """
    paddle = load_paddle()
    target = paddle.static.global_scope() if scope is None else scope
    default = _default_place(paddle)
    for name, tensor in tensors.items():
        old = target.var(name).get_tensor()
        new = new_like(old)
        new.set(tensor.array, _place_of(paddle, old) or default)
        old._share_data_with(new)  # noqa: SLF001  # Paddle has no public way to share a buffer


def set_dropout_states(known: Mapping[str, Value], scope: Paddle | None = None) -> None:
    """Set the dropout states that are in no file; they are empty until a GPU fills them."""
    import numpy as np

    target = load_paddle().static.global_scope() if scope is None else scope
    names = [name for name in known if name.endswith(NON_PERSISTABLE_SUFFIX)]
    initialised = initialised_tensors(target, names)
    empty = {
        name: Tensor(np.empty([0], known[name].dtype or "uint8"), known[name].dtype or "uint8")
        for name in names
        if name not in initialised
    }
    set_tensors(empty, target)


@contextmanager
def private_scope() -> Generator[Paddle]:
    """Yield a Scope whose tensors are freed afterwards; Paddle frees other Scopes only at exit.

    The Scope and its tensors must not be used then; tensors that share its buffers may.
    """
    scope = load_paddle().base.core.Scope()
    try:
        yield scope
    finally:
        scope._remove_from_pool()  # noqa: SLF001  # Paddle has no public way to free a Scope


def new_like(tensor: Paddle) -> Paddle:
    """Return a new tensor of the same class, whose name differs between releases."""
    return type(tensor)()


def empty_tensor(tensor: Paddle, dtype: str, shape: Sequence[int] = (0,)) -> Paddle:
    """Return an initialised tensor of the same class without elements."""
    import numpy as np

    empty = new_like(tensor)
    empty.set(np.empty(shape, dtype), load_paddle().CPUPlace())
    return empty


def copy_tensor(tensor: Paddle, place: Paddle | None = None) -> Paddle:
    """Copy a tensor to a place, by default its own."""
    if 0 in tensor.shape():
        return tensor  # Paddle gives the copy of an empty tensor no memory, and then refuses it.
    return tensor._copy(tensor._place() if place is None else place)  # noqa: SLF001


def _default_place(paddle: Paddle) -> Paddle:
    """Return the place that Paddle runs on by default."""
    kind, _, number = paddle.device.get_device().partition(":")
    index = int(number or 0)
    if kind == "cpu":
        return paddle.CPUPlace()
    name = {"gpu": "CUDAPlace", "xpu": "XPUPlace"}.get(kind)
    return getattr(paddle, name)(index) if name else paddle.CustomPlace(kind, index)


def _place_of(paddle: Paddle, tensor: Paddle) -> Paddle | None:
    """Return the place of a tensor, None if it is not initialised or on another device."""
    if not tensor._is_initialized():  # noqa: SLF001  # no public equivalent
        return None
    place = tensor._place()  # noqa: SLF001
    if place.is_gpu_place():
        return paddle.CUDAPlace(place.gpu_device_id())
    return paddle.CPUPlace() if place.is_cpu_place() else None
