"""Run a Program for many of its Values without holding them all at once.

A PIR Program is cut into pieces that run one after the other in one Scope: what a later piece reads
is fetched and fed to it, and generators of random numbers go on where they stood. That is faster
than one run, too: Paddle's interpreter takes a time to build that grows with the square of the
number of operations (3.3.1: 0.3 s for 1,000, 38 s for 8,000). A legacy Program runs as a whole,
from the start, for each group of Values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.checks import persistable_names
from graphtool.diagnostics import Diagnostic, MergeError
from graphtool.graph import UNKNOWN, Graph, Operator, ProgramKind, Value
from graphtool.merging._comparison import array_of
from graphtool.merging._interrupts import heed_interrupt
from graphtool.merging._pir import remove_unused
from graphtool.readers._messages import brief
from graphtool.readers._paddle import REFUSALS, load_paddle
from graphtool.readers.live import LiveProgram
from graphtool.readers.tensors import copy_of, empty_like, private_scope, share_tensors

if TYPE_CHECKING:
    import numpy as np

__all__ = ["generators", "values_of"]

# Programs, Scopes and tensors are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any
_Array: TypeAlias = "np.ndarray[Any, Any]"
_Fail: TypeAlias = Callable[[str], Diagnostic]

_SEED = 20260
# How many bytes are fetched at once, by the shapes that the Graph has: a run of a whole Program
# costs more than a piece of one.
_BYTES_OF_A_PIECE = 1 << 25
_BYTES_OF_A_RUN = 1 << 28
_OPERATIONS_OF_A_PIECE = 256
_WIDE = frozenset({"int64", "float64", "complex64", "complex128"})
_FEEDS = frozenset({"pd_op.data", "pd_op.feed"})
# Operations without operands that give the same in every piece.
_EVERYWHERE = frozenset(
    {"builtin.constant", "builtin.parameter", "pd_op.full", "pd_op.full_int_array", *_FEEDS}
)
# In-place operators that write over Variables alone.
_NORMS = frozenset({"batch_norm", "sync_batch_norm"})


def values_of(
    live: LiveProgram,
    feed: Mapping[str, _Paddle],
    weights: Mapping[str, _Paddle],
    names: Sequence[str],
    fail: _Fail,
) -> Iterator[dict[str, _Array]]:
    """Run a Program, and yield arrays of Values by name, in program order, some at a time.

    What is no tensor is left out. Random numbers are those of one run from a fixed seed, whatever
    is drawn between two items. Raises MergeError, of what `fail` makes of Paddle's reason, where
    Paddle does not run it.
    """
    heed_interrupt()
    run = _by_groups if live.kind is ProgramKind.LEGACY else _by_pieces
    yield from run(live, feed, weights, _sizes(live.graph, feed, names), fail)


def generators() -> list[_Paddle]:
    """Return Paddle's generators of random numbers."""
    core = load_paddle().base.core
    devices = core.get_cuda_device_count() if core.is_compiled_with_cuda() else 0
    return [core.default_cpu_generator(), *map(core.default_cuda_generator, range(devices))]


def _sizes(graph: Graph, feed: Mapping[str, _Paddle], names: Sequence[str]) -> dict[str, int]:
    """Estimate the bytes of Values: an unknown dim is the batch, or the largest other one fed."""
    fed = list(map(_shape, feed.values()))
    batch = max([shape[0] for shape in fed if shape], default=1)
    side = max([dim for shape in fed for dim in shape[1:]], default=1)
    return {name: _size(graph.values[name], batch, side) for name in names}


def _shape(given: _Paddle) -> tuple[int, ...]:
    """Return the shape of an array, or of a tensor of Paddle's."""
    shape: Iterable[int] = given.shape() if hasattr(given, "lod") else given.shape
    return tuple(shape)


def _size(value: Value, batch: int, side: int) -> int:
    dims = [
        dim if dim != UNKNOWN else side if axis else batch
        for axis, dim in enumerate(value.shape or ())
    ]
    return prod(dims) * (8 if value.dtype in _WIDE else 4)


def _by_groups(
    live: LiveProgram,
    feed: Mapping[str, _Paddle],
    weights: Mapping[str, _Paddle],
    sizes: Mapping[str, int],
    fail: _Fail,
) -> Iterator[dict[str, _Array]]:
    """Run all of a legacy Program for each group of Values."""
    for group in _groups(sizes):
        with private_scope() as scope:
            share_tensors(_copies(live, weights), scope)
            _seed()
            fetches = [live.value(name) for name in group]
            found = _run(live.program, feed, fetches, scope, fail)
            arrays = dict(zip(group, map(array_of, found), strict=True))
        yield arrays


def _groups(sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Divide names, in order, into groups of no more than the bytes to be fetched at once."""
    group: list[str] = []
    total = 0
    for name, size in sizes.items():
        if group and total + size > _BYTES_OF_A_RUN:
            yield group
            group, total = [], 0
        group.append(name)
        total += size
    yield group


def _by_pieces(
    live: LiveProgram,
    feed: Mapping[str, _Paddle],
    weights: Mapping[str, _Paddle],
    sizes: Mapping[str, int],
    fail: _Fail,
) -> Iterator[dict[str, _Array]]:
    """Run a PIR Program piece by piece; tensors are held until the last piece that reads them."""
    cut = _Cut(live)
    held: dict[str, _Paddle] = {}
    kept = _copies(live, weights)
    _seed()
    states = [generator.get_state() for generator in generators()]
    for start, stop in cut.pieces(sizes):
        later = cut.read_later(stop)
        wanted = [name for name in cut.made(start, stop) if name in sizes or name in later]
        program, fetches, fed = cut.piece(start, stop, wanted)
        given = {name: feed[name] for name in fed if name in feed}
        given |= {name: copy_of(held[name]) for name in fed if name in held}
        for generator, state in zip(generators(), states, strict=True):
            generator.set_state(state)
        # A Scope of its own for each piece: Paddle keeps what is fetched in it.
        with private_scope() as scope:
            share_tensors(kept, scope)
            found = _run(program, given, fetches, scope, fail)
            kept = {
                name: _shared(scope.find_var(name).get_tensor(), tensor)
                for name, tensor in kept.items()
            }
        states = [generator.get_state() for generator in generators()]
        held |= dict(zip(wanted, found, strict=True))
        arrays = {name: array_of(held[name]) for name in wanted if name in sizes}
        held = {name: tensor for name, tensor in held.items() if name in later}
        del found, given
        yield arrays


class _Cut:
    """Where a PIR Program can be cut, and its pieces as Programs of their own.

    A piece reads of what earlier ones made tensors alone, and writes over none of them. Variables
    and constants belong to every piece.
    """

    def __init__(self, live: LiveProgram) -> None:
        self._live = live
        ops = live.program.global_block().ops
        indices = {op.id(): index for index, op in enumerate(ops)}
        self._places = {
            name: (indices[op_id], position)
            for name, (op_id, block, position) in live.keys.items()
            if block < 0 and op_id in indices
        }
        self._reads: list[set[str]] = [set() for _ in ops]
        self._last: dict[str, int] = {}
        written = self._read_and_written()
        self._tensors = {
            name
            for name, (index, position) in self._places.items()
            if ops[index].result(position).is_dense_tensor_type()
        }
        fixed = [name for name in self._places if name in written or name not in self._tensors]
        self._everywhere = {
            name
            for name, (index, _) in self._places.items()
            if ops[index].name() in _EVERYWHERE and name not in written
        }
        # How many Values that no cut may separate from their readers lie across each place.
        across = [0] * (len(ops) + 1)
        for name in fixed:
            start, last = self._places[name][0], self._last.get(name, 0)
            if last > start and name not in self._everywhere:
                across[start + 1] += 1
                across[last + 1] -= 1
        self._across = list(accumulate(across))

    def _read_and_written(self) -> set[str]:
        """Note who reads what, and return what is written over, of what is no Variable."""
        written: set[str] = set()
        graph, index = self._live.graph, 0
        for operator in graph.operators.values():
            index = index if operator.index is None else operator.index
            read = {name for name in operator.operands if name in self._places}
            self._reads[index] |= read
            self._last.update(dict.fromkeys(read, index))
            if operator.kind == "while" or _is_in_place(operator):
                written |= {name for name in read if not graph.values[name].persistable}
        return written

    def pieces(self, sizes: Mapping[str, int]) -> Iterator[tuple[int, int]]:
        """Yield where each piece starts and stops, by what is fetched of it and what may be cut."""
        bytes_at = [0] * len(self._reads)
        for name, size in sizes.items():
            bytes_at[self._places[name][0]] += size
        free = {self._places[name][0] for name in self._everywhere}
        start = total = count = 0
        for index, size in enumerate(bytes_at):
            is_full = count and (
                total + size > _BYTES_OF_A_PIECE or count >= _OPERATIONS_OF_A_PIECE
            )
            if is_full and not self._across[index]:
                yield start, index
                start, total, count = index, 0, 0
            total += size
            count += index not in free
        yield start, len(bytes_at)

    def read_later(self, stop: int) -> set[str]:
        """Return the Values from before a cut that are read behind it."""
        return {
            name
            for name, last in self._last.items()
            if self._places[name][0] < stop <= last and name not in self._everywhere
        }

    def made(self, start: int, stop: int) -> list[str]:
        """List the tensors that a piece makes; the last piece has all Variables, as they end."""
        last = len(self._reads)
        values = self._live.graph.values
        return [
            name
            for name, (index, _) in self._places.items()
            if name in self._tensors
            and (stop == last if values[name].persistable else start <= index < stop)
        ]

    def piece(
        self, start: int, stop: int, names: Sequence[str]
    ) -> tuple[_Paddle, list[_Paddle], list[str]]:
        """Cut a piece out of a clone; return it, the Values of these names, and what it is fed."""
        paddle = load_paddle()
        program = self._live.program.clone()
        block = program.global_block()
        ops = block.ops
        remove_unused(block, ops[stop:])
        read = {name for names in self._reads[start:stop] for name in names}
        entering = [n for n in read if self._places[n][0] < start and n not in self._everywhere]
        with paddle.static.program_guard(program):
            for name in entering:
                value = self._value(ops, name)
                fed = paddle.static.data(name, [UNKNOWN] * len(value.shape), value.dtype)
                value.replace_all_uses_with(fed)
        kept = {self._places[name][0] for name in names}
        remove_unused(block, [op for at, op in enumerate(ops[:start]) if at not in kept])
        fed = [op.attrs()["name"] for op in block.ops if op.name() in _FEEDS]
        return program, [self._value(ops, name) for name in names], fed

    def _value(self, ops: Sequence[_Paddle], name: str) -> _Paddle:
        index, position = self._places[name]
        return ops[index].result(position)


def _is_in_place(operator: Operator) -> bool:
    return operator.type.endswith("_") and operator.kind not in _NORMS


def _copies(live: LiveProgram, weights: Mapping[str, _Paddle]) -> dict[str, _Paddle]:
    """Copy what a Program keeps from run to run."""
    return {name: copy_of(weights[name]) for name in persistable_names(live.graph)}


def _shared(tensor: _Paddle, before: _Paddle) -> _Paddle:
    """Return a tensor with the same buffer, to outlive the Scope; `before` where it has none."""
    if 0 in tensor.shape() or not tensor._is_initialized():  # noqa: SLF001
        return before
    held = empty_like(tensor)
    held._share_data_with(tensor)  # noqa: SLF001  # Paddle has no public way to share a buffer
    return held


def _seed() -> None:
    for generator in generators():
        generator.manual_seed(_SEED)


def _run(
    program: _Paddle,
    feed: Mapping[str, _Paddle],
    fetches: Sequence[_Paddle],
    scope: _Paddle,
    fail: _Fail,
) -> list[_Paddle]:
    heed_interrupt()
    executor = load_paddle().static.Executor()
    try:
        return executor.run(
            program, feed=dict(feed), fetch_list=list(fetches), scope=scope, return_numpy=False
        )
    except REFUSALS as error:
        raise MergeError(fail(brief(str(error)))) from error
