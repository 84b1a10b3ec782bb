"""Read, copy, share and set the tensors of Scopes."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from graphtool.backend.facts import scope_facts
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.graph import NON_PERSISTABLE_SUFFIX, Value
from graphtool.readers.tensor_files import Tensor

__all__ = [
    "as_bfloat16",
    "assign_tensors",
    "buffer_address",
    "copy_from_scope",
    "copy_tensor",
    "empty_tensor",
    "full_like",
    "initialised_tensors",
    "looks_untrained",
    "new_like",
    "new_scope",
    "private_scope",
    "set_dropout_states",
    "set_tensors",
    "share_tensors",
    "shared_view",
]

# If this share of vectors is constant, initialisers set them and training did not.
_UNTRAINED_SHARE = 0.9


def full_like(tensor: Tensor, number: float) -> Tensor:
    """Return a constant tensor of the same shape and floating-point dtype."""
    import numpy as np

    if tensor.dtype != "bfloat16":
        return Tensor(np.full_like(tensor.array, number), tensor.dtype)
    return Tensor(as_bfloat16(np.full(tensor.shape, number, "float32")), tensor.dtype)


def as_bfloat16(array: Paddle) -> Paddle:
    """Return the bits of float32 numbers in bfloat16, which NumPy lacks, as uint16."""
    return load_paddle().base.data_feeder.convert_float_to_uint16(array)


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


def new_scope() -> Paddle:
    """Return a new Scope, which is freed with its last reference."""
    return load_paddle().base.core.Scope()


@contextmanager
def private_scope() -> Generator[Paddle]:
    """Yield a Scope whose tensors are freed afterwards; Paddle frees other Scopes only at exit.

    The Scope and its tensors must not be used then; tensors that share its buffers may.
    """
    scope = new_scope()
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


def assign_tensors(
    tensors: Mapping[str, Paddle],
    scope: Paddle,
    *,
    place: Paddle | None = None,
    copied: frozenset[str] = frozenset(),
    undo: ExitStack,
) -> None:
    """Assign tensors to Variables of a Scope: those in `copied` are copied, the others shared."""
    for name, tensor in tensors.items():
        before = scope.find_var(name)
        undo.callback(_erase_if_new, scope, name, before)
        variable = scope.var(name)
        target = variable.get_tensor()
        if variable is before:
            _restore_on_undo(target, undo)
        target._share_data_with(_on_place(tensor, place, copy=name in copied))  # noqa: SLF001


def _erase_if_new(scope: Paddle, name: str, before: Paddle | None) -> None:
    # An inner Scope finds the outer one's Variables too.
    if scope.find_var(name) is not before:
        scope.erase([name])


def _restore_on_undo(tensor: Paddle, undo: ExitStack) -> None:
    if tensor._is_initialized():  # noqa: SLF001
        backup = new_like(tensor)
        backup._share_data_with(tensor)  # noqa: SLF001
        undo.callback(tensor._share_data_with, backup)  # noqa: SLF001
        return
    undo.callback(tensor._set_dims, tensor.shape())  # noqa: SLF001
    undo.callback(tensor._clear)  # noqa: SLF001


def _on_place(tensor: Paddle, place: Paddle | None, *, copy: bool) -> Paddle:
    """Return a tensor on a place (its own if None), copied if asked to or if it is elsewhere."""
    if place is None and not copy:
        return tensor
    current = tensor._place()  # noqa: SLF001
    target = current if place is None else _as_general_place(place)
    copy = copy or not target._equals(current)  # noqa: SLF001
    return copy_tensor(tensor, target) if copy else tensor


def _as_general_place(place: Paddle) -> Paddle:
    """Return a place of any device as the one type that compares with a tensor's."""
    general = load_paddle().base.core.Place()
    general.set_place(place)
    return general


def buffer_address(tensor: Paddle) -> int:
    """Return the address of a tensor's buffer, which tensors may share."""
    return tensor._ptr()  # noqa: SLF001


def shared_view(tensor: Paddle) -> Paddle | None:
    """Return a tensor with the same buffer, which outlives the Scope; None if it has no buffer."""
    if 0 in tensor.shape() or not tensor._is_initialized():  # noqa: SLF001
        return None
    shared = new_like(tensor)
    shared._share_data_with(tensor)  # noqa: SLF001
    return shared


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
