"""Run a Program for many of its Values without holding them all in memory at once.

A PIR Program is cut into pieces that run one after the other: what a later piece reads is fetched
and fed to it, and random generators keep their state in between. This is also faster than a single
run, because the time that Paddle's interpreter takes to build grows with the square of the number
of operations (3.3.1: 0.3 s for 1,000, 38 s for 8,000). A legacy Program runs as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.backend.errors import PADDLE_ERRORS, shortened_message
from graphtool.backend.generators import generators
from graphtool.backend.live import LiveProgram
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.backend.pir import remove_unused
from graphtool.backend.tensors import copy_tensor, private_scope, share_tensors, shared_view
from graphtool.checks import persistable_names
from graphtool.diagnostics import Diagnostic, MergeError
from graphtool.dtypes import BY_NAME
from graphtool.graph import UNKNOWN_DIM, Graph, ProgramKind
from graphtool.interrupts import raise_pending_interrupt
from graphtool.ops import PIR_FEEDS, written_operand

if TYPE_CHECKING:
    import numpy as np

__all__ = ["array_of", "compute_values"]

_Array: TypeAlias = "np.ndarray[Any, Any]"
_Failure: TypeAlias = Callable[[str], Diagnostic]

_SEED = 20260
# How many bytes to fetch at once, by the shapes in the Graph.
_BYTES_OF_A_PIECE = 1 << 25
_OPERATIONS_OF_A_PIECE = 256
_UNKNOWN_SIZE = 4
# Operations without operands that give the same result in every piece.
_REPLICATED_OPS = frozenset(
    {"builtin.constant", "builtin.parameter", "pd_op.full", "pd_op.full_int_array", *PIR_FEEDS}
)


def array_of(tensor: Paddle) -> _Array:
    """Copy a tensor, or anything else that NumPy accepts, to an array."""
    import numpy as np

    return np.array(tensor)


def compute_values(
    live: LiveProgram,
    feed: Mapping[str, Paddle],
    weights: Mapping[str, Paddle],
    names: Sequence[str],
    failure: _Failure,
) -> Iterator[dict[str, _Array]]:
    """Run a Program, and yield arrays of Values by name, in program order, some at a time.

    Values that are not tensors are left out. Random numbers are those of a single run from a fixed
    seed, even if the caller draws others between two items.

    Raises MergeError: if Paddle fails, with the Diagnostic that `failure` makes of the reason.
    """
    raise_pending_interrupt()
    variables = {name: copy_tensor(weights[name]) for name in persistable_names(live.graph)}
    for generator in generators():
        generator.manual_seed(_SEED)
    if live.kind is ProgramKind.PIR:
        yield from _run_pieces(live, feed, variables, _byte_sizes(live.graph, feed, names), failure)
        return
    with private_scope() as scope:
        share_tensors(variables, scope)
        tensors = _run(live.program, feed, list(map(live.value, names)), scope, failure)
        yield dict(zip(names, map(array_of, tensors), strict=True))


def _byte_sizes(graph: Graph, feed: Mapping[str, Paddle], names: Sequence[str]) -> dict[str, int]:
    """Estimate Values' sizes in bytes.

    For an unknown dim it takes the batch size on the first axis, the largest other fed dim else.
    """
    shapes = [tuple(fed.shape() if hasattr(fed, "lod") else fed.shape) for fed in feed.values()]
    batch = max([shape[0] for shape in shapes if shape], default=1)
    side = max([dim for shape in shapes for dim in shape[1:]], default=1)
    sizes: dict[str, int] = {}
    for name in names:
        shape, dtype = graph.values[name].shape or (), graph.values[name].dtype
        fed_dims = (batch, *[side] * len(shape))
        dims = (
            dim if dim != UNKNOWN_DIM else fed for dim, fed in zip(shape, fed_dims, strict=False)
        )
        sizes[name] = prod(dims) * (BY_NAME[dtype].size if dtype in BY_NAME else _UNKNOWN_SIZE)
    return sizes


def _run_pieces(
    live: LiveProgram,
    feed: Mapping[str, Paddle],
    variables: Mapping[str, Paddle],
    sizes: Mapping[str, int],
    failure: _Failure,
) -> Iterator[dict[str, _Array]]:
    """Run a PIR Program piece by piece, holding tensors until the last piece that reads them."""
    partition = _Partition(live)
    held: dict[str, Paddle] = {}
    states = [generator.get_state() for generator in generators()]
    for start, stop in partition.pieces(sizes):
        live_out = partition.live_out(stop)
        names = [
            name for name in partition.results(start, stop) if name in sizes or name in live_out
        ]
        program, fetches, feeds = partition.extract(start, stop, names)
        fed = {name: feed[name] for name in feeds if name in feed}
        fed |= {name: copy_tensor(held[name]) for name in feeds if name in held}
        for generator, state in zip(generators(), states, strict=True):
            generator.set_state(state)
        # A new Scope for each piece: Paddle keeps fetched tensors in it.
        with private_scope() as scope:
            share_tensors(variables, scope)
            tensors = _run(program, fed, fetches, scope, failure)
            variables = {
                name: shared_view(scope.find_var(name).get_tensor()) or tensor
                for name, tensor in variables.items()
            }
        states = [generator.get_state() for generator in generators()]
        held |= dict(zip(names, tensors, strict=True))
        arrays = {name: array_of(held[name]) for name in names if name in sizes}
        held = {name: tensor for name, tensor in held.items() if name in live_out}
        del tensors, fed
        yield arrays


class _Partition:
    """Where a PIR Program can be cut, and its pieces as separate Programs.

    A piece reads only tensors from earlier pieces, and overwrites none of them. Variables and
    constants are replicated in every piece.
    """

    def __init__(self, live: LiveProgram) -> None:
        self._live = live
        graph, ops = live.graph, live.program.global_block().ops
        indices = {op.id(): index for index, op in enumerate(ops)}
        # The operation that defines a Value, and the Value's position among its results.
        self._definitions = {
            name: (indices[op_id], position)
            for name, (op_id, block, position) in live.keys.items()
            if block < 0 and op_id in indices
        }
        self._operands: list[set[str]] = [set() for _ in ops]
        self._last_use: dict[str, int] = {}
        overwritten, index = set[str](), 0
        for operator in graph.operators.values():
            index = index if operator.index is None else operator.index
            operands = {name for name in operator.operands if name in self._definitions}
            self._operands[index] |= operands
            self._last_use.update(dict.fromkeys(operands, index))
            if operator.kind == "while" or written_operand(operator) is not None:
                overwritten |= {name for name in operands if not graph.values[name].persistable}
        self._tensors = {
            name
            for name, (index, position) in self._definitions.items()
            if ops[index].result(position).is_dense_tensor_type()
        }
        self._replicated = {
            name
            for name, (index, _) in self._definitions.items()
            if ops[index].name() in _REPLICATED_OPS and name not in overwritten
        }
        # Where a cut would separate a Value from a use although it must not.
        self._uncut: set[int] = set()
        for name, (index, _) in self._definitions.items():
            is_separable = name in self._tensors and name not in overwritten
            if not is_separable and name not in self._replicated:
                self._uncut.update(range(index + 1, self._last_use.get(name, 0) + 1))

    def pieces(self, sizes: Mapping[str, int]) -> Iterator[tuple[int, int]]:
        """Yield where each piece starts and stops, by the bytes to fetch and the possible cuts."""
        bytes_at = [0] * len(self._operands)
        for name, size in sizes.items():
            bytes_at[self._definitions[name][0]] += size
        replicated = {self._definitions[name][0] for name in self._replicated}
        start = total = count = 0
        for index, size in enumerate(bytes_at):
            is_full = total + size > _BYTES_OF_A_PIECE or count >= _OPERATIONS_OF_A_PIECE
            if count and is_full and index not in self._uncut:
                yield start, index
                start, total, count = index, 0, 0
            total += size
            count += index not in replicated
        yield start, len(bytes_at)

    def live_out(self, stop: int) -> set[str]:
        """Return the Values that are defined before a cut and read after it."""
        return {
            name
            for name, last in self._last_use.items()
            if self._definitions[name][0] < stop <= last and name not in self._replicated
        }

    def results(self, start: int, stop: int) -> list[str]:
        """List the tensors that a piece computes; Variables are results of the last piece."""
        last = len(self._operands)
        values = self._live.graph.values
        return [
            name
            for name, (index, _) in self._definitions.items()
            if name in self._tensors
            and (stop == last if values[name].persistable else start <= index < stop)
        ]

    def extract(
        self, start: int, stop: int, names: Sequence[str]
    ) -> tuple[Paddle, list[Paddle], list[str]]:
        """Cut a piece out of a clone; return it, its Values of these names, and its feed names."""
        paddle = load_paddle()
        program = self._live.program.clone()
        block = program.global_block()
        ops = block.ops
        remove_unused(block, ops[stop:])
        operands = {name for used in self._operands[start:stop] for name in used}
        live_in = [
            name
            for name in operands
            if self._definitions[name][0] < start and name not in self._replicated
        ]
        with paddle.static.program_guard(program):
            for name in live_in:
                value = self._value(ops, name)
                feed = paddle.static.data(name, [UNKNOWN_DIM] * len(value.shape), value.dtype)
                value.replace_all_uses_with(feed)
        kept = {self._definitions[name][0] for name in names}
        remove_unused(block, [op for index, op in enumerate(ops[:start]) if index not in kept])
        feeds = [op.attrs()["name"] for op in block.ops if op.name() in PIR_FEEDS]
        return program, [self._value(ops, name) for name in names], feeds

    def _value(self, ops: Sequence[Paddle], name: str) -> Paddle:
        index, position = self._definitions[name]
        return ops[index].result(position)


def _run(
    program: Paddle,
    feed: Mapping[str, Paddle],
    fetches: Sequence[Paddle],
    scope: Paddle,
    failure: _Failure,
) -> list[Paddle]:
    raise_pending_interrupt()
    executor = load_paddle().static.Executor()
    try:
        return executor.run(
            program, feed=dict(feed), fetch_list=list(fetches), scope=scope, return_numpy=False
        )
    except PADDLE_ERRORS as error:
        raise MergeError(failure(shortened_message(str(error)))) from error
