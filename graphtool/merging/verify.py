"""Verify a merge: run both originals and the merged Program, and compare their Values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.arguments import are_texts, bad_argument
from graphtool.backend.errors import paddle_failed
from graphtool.backend.facts import same_variables
from graphtool.backend.generators import generators
from graphtool.backend.legacy import remove_operators, remove_variables
from graphtool.backend.live import LiveProgram, clone_without_schedule, value_gone
from graphtool.backend.paddle import Paddle, load_paddle, program_lock, static_mode
from graphtool.backend.pir import freeze, remove_unused
from graphtool.backend.tensors import buffer_address, initialised_tensors, private_scope
from graphtool.both import Both
from graphtool.checks.feeds import unknown_feed
from graphtool.checks.plan import persistable_names
from graphtool.diagnostics import (
    Diagnostic,
    MergeError,
    ReadError,
    Severity,
    UsageError,
    Where,
    counted,
    listed,
    rule,
)
from graphtool.graph import (
    UNKNOWN_DIM,
    Graph,
    Origin,
    ProgramKind,
    Shape,
    is_dropout_state,
    variable_of,
)
from graphtool.interrupts import interrupts_deferred, raise_pending_interrupt
from graphtool.merging._partitioned_run import array_of, compute_values
from graphtool.ops import PIR_FETCHES, fetched_value, written_operand
from graphtool.selectors import find
from graphtool.text import escaped_bounded, printed_name

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from graphtool.merging.merged import Merged

__all__ = [
    "Comparison",
    "Verification",
    "feeds_not_given",
    "not_fetchable",
    "verify",
]

_Array: TypeAlias = "np.ndarray[Any, Any]"
_Arrays: TypeAlias = "Mapping[str, _Array]"

# Of generated input. Integers are below `_CLASSES`: ids of any embedding, labels of any classifier.
_SEED, _BATCH, _SIDE, _LENGTH, _CLASSES = 20260, 2, 32, 8, 2
_SERIAL_RUN = "FLAGS_new_executor_serial_run"
# NumPy's dtype kinds of numbers: bool, integer, floating and complex.
_NUMBERS = "biufc"
_LISTED = 5
_NO_TENSOR_KINDS = frozenset({"feed", "fetch", "shadow_output", "create_array", "array_write"})


@rule("GT253", replaces=("GT540", "GT541", "GT542", "GT543"))
def not_fetchable(message: str, where: Sequence[Where], help: str) -> Diagnostic:
    """Paddle cannot fetch what was requested, or nothing was requested.

    Paddle fetches tensors at the top level of the Program that it runs. Fetch what a loop or branch
    returns, not what is inside; and no arrays of tensors. A Value of another Program or of a clone,
    or one whose operator was removed, would crash Paddle or fetch nothing: use Values that were
    built in this Program, or names.

    A Program for test has no gradients and no updates: fetch them from the Program that trains. It
    computes what it is to fetch. graphtool knows the outputs of a Network, of a merged student and
    of a saved model; for other Programs list them.
    """
    return Diagnostic(message=message, where=tuple(where), help=help)


@rule("GT256", replaces=("GT373",))
def feeds_not_given(
    message: str, where: Sequence[Where], help: str, notes: Sequence[str] = ()
) -> Diagnostic:
    """Some feeds were not given that the networks need.

    Evidence needs samples for every feed that the feature maps are computed from: a `.npz`, or a
    batch that is a dict, has an array under the name of each. Leave out what only a loss needs,
    such as the label. If a network has one feed, an array without a name, as in a `.npy`, will do.

    `verify` generates input, but no sequences of different lengths (LoD): pass them.
    `paddle.base.create_lod_tensor` makes one from an array and lengths.
    """
    return Diagnostic(message=message, where=tuple(where), notes=tuple(notes), help=help)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A Value or weight of an original compared with its counterpart in the merged Program.

    `difference` is the largest absolute difference: 0.0 if all bytes are equal, infinite if the
    shapes differ or either side is NaN.
    """

    role: str
    name: str
    merged: str
    shape: Shape
    equal: bool
    difference: float


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `Merged.verify`; true if everything was compared and is bit-equal.

    `comparisons` holds Values. `weights` holds the teacher's weights against their source, both as
    they are now, without the dropout state of recurrent layers. Weights that could not be compared
    are in `unchecked`, by old name and with the reason, and printed as not checked; they make the
    result false, and `equal` covers the rest. `generated` names the feeds that were generated.
    """

    comparisons: tuple[Comparison, ...]
    generated: tuple[str, ...] = ()
    weights: tuple[Comparison, ...] = ()
    unchecked: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def equal(self) -> bool:
        """Return whether everything that was compared is bit-equal."""
        return not self.different

    @property
    def different(self) -> tuple[Comparison, ...]:
        """Comparisons that are not bit-equal: Values in program order, then weights."""
        return tuple(row for row in (*self.comparisons, *self.weights) if not row.equal)

    def __bool__(self) -> bool:
        return self.equal and bool(self.comparisons) and not self.unchecked

    def __str__(self) -> str:
        lines = [self._summary()]
        lines += [
            f"  {row.role}  {printed_name(row.name)}  {list(row.shape)}  "
            f"differs by up to {row.difference:.6g}"
            for row in self.different
        ]
        return "\n".join(lines)

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table("role", "Value", "in the merged Program", "shape", "bit-equal")
        table.title = Text(self._summary())
        for row in (*self.comparisons, *self.weights):
            verdict = "yes" if row.equal else f"no: {row.difference:.6g}"
            names = (Text(printed_name(name)) for name in (row.name, row.merged))
            table.add_row(row.role, *names, Text(str(list(row.shape))), verdict)
        return table

    def _summary(self) -> str:
        def count(rows: tuple[Comparison, ...]) -> str:
            return f"{sum(row.equal for row in rows)} of {len(rows)}"

        weights = f" and {count(self.weights)} weights" if self.weights else ""
        notes = [f"{count(self.comparisons)} Values{weights} are bit-equal"]
        if self.generated:
            notes.append(f"generated: {', '.join(map(printed_name, self.generated))}")
        for why, number in Counter(self.unchecked.values()).items():
            notes.append(f"not checked: {counted(number, 'weight')} ({escaped_bounded(why)})")
        return "; ".join(notes)


def verify(
    merged: Merged, feed: Mapping[str, Paddle] | None, fetch: Sequence[str] | None
) -> Verification:
    """Compare as `Merged.verify` documents."""
    with program_lock(), interrupts_deferred():
        comparisons, generated = _compare_values(merged, {} if feed is None else feed, fetch)
        raise_pending_interrupt()
        weights = list[Comparison]()
        unchecked: dict[str, str] = {}
        values = merged.source.graph.values
        with private_scope() as empty:
            scope = merged.provenance.open(empty)
            for old, new in merged.plan.weights:
                if old in values and is_dropout_state(values[old]):
                    continue  # On a GPU the first run fills it.
                row = scope if isinstance(scope, str) else _compare_weight(merged, scope, old, new)
                if isinstance(row, str):
                    unchecked[old] = row
                else:
                    weights.append(row)
        return Verification(comparisons, generated, tuple(weights), unchecked)


def _compare_weight(merged: Merged, scope: Paddle, old: str, new: str) -> Comparison | str:
    """Compare one weight, or return the reason why it cannot be compared."""
    name = merged.provenance.names[new]
    original = initialised_tensors(scope, [name]).get(name)
    current = initialised_tensors(merged.scope, [new]).get(new)
    if name in merged.plan.student_persistables and same_variables(scope, merged.scope, [name]):
        return "the student trains what they were copied from"
    if current is None:
        return "they hold nothing"
    if original is None:
        return "what they came from holds them no more"
    if buffer_address(original) == buffer_address(current) and 0 not in current.shape():
        return "they share the memory of the Scope that they came from"
    return _compared("teacher", old, array_of(original), new, array_of(current))


def _compare_values(
    merged: Merged, feed: Mapping[str, Paddle], fetch: Sequence[str] | None
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Compare the Values of three runs; also return the names of generated feeds."""
    with static_mode(merged.source.kind), _reproducible_runs(), private_scope() as scope:
        live = _forward_only(merged)
        graph = live.graph
        inputs, generated = _inputs(merged, graph, feed)
        weights = _weights(graph, merged.scope, scope)
        names = _select(merged, fetch)
        new_names = {name: merged.merged_name(name) for name in names.teacher}
        merged_names = [*new_names.values(), *names.student]
        teacher_variables = (*merged.plan.weights, *((name, name) for name in merged.plan.shared))
        for name in (*dict(teacher_variables).values(), *merged_names):
            if name not in graph.values:  # A pass or pruning removed it.
                raise ReadError(value_gone(graph.source, name))
        warned = [found for found in merged.report if found.severity is Severity.WARNING]
        again = _call(inputs) if generated else "merged.verify()  # on generated input"

        def failure(what: str) -> Callable[[str], Diagnostic]:
            return lambda reason: paddle_failed(
                f"{what} does not run: {reason}",
                notes=[f"the merge warned, {found.code}: {found.message}" for found in warned],
                help="print(merged.report)" if warned else again,
            )

        teacher_run = compute_values(
            _original(merged, "teacher"),
            {old: inputs[new] for old, new in merged.feed_map.items()},
            {old: weights[new] for old, new in teacher_variables},
            names.teacher,
            failure("the teacher alone"),
        )
        student_run = compute_values(
            _original(merged, "student"),
            {name: inputs[name] for name in _feed_names(merged.before.graph)},
            weights,
            names.student,
            failure("the student alone"),
        )
        merged_run = compute_values(
            live, inputs, weights, merged_names, failure("the merged Program")
        )
        found = {
            (row.role, row.name): row
            for row in _compare_runs(teacher_run, student_run, merged_run, new_names)
        }
    order = [
        *(("teacher", name) for name in names.teacher),
        *(("student", name) for name in names.student),
    ]
    comparisons = tuple(found[key] for key in dict.fromkeys(order) if key in found)
    return comparisons, generated


def _compare_runs(
    teacher_run: Iterator[_Arrays],
    student_run: Iterator[_Arrays],
    merged_run: Iterator[_Arrays],
    new_names: Mapping[str, str],
) -> Iterator[Comparison]:
    """Compare Values while the three runs go on, so that few of them are in memory at a time.

    The merged Program has the student's operators before the teacher's. If Paddle fails to run it
    or the student, and fails to run an original as well (the teacher first), that is reported.
    """
    held: dict[str, _Array] = {}
    try:
        for role, run in (("student", student_run), ("teacher", teacher_run)):
            for arrays in run:
                names = {name: new_names[name] if role == "teacher" else name for name in arrays}
                _hold(names.values(), held, merged_run)
                for name, new in names.items():
                    if new in held:
                        yield _compared(role, name, arrays[name], new, held.pop(new))
        for _ in merged_run:
            pass
    except MergeError:
        for run in (teacher_run, student_run):
            for _ in run:
                pass
        raise


def _hold(names: Collection[str], held: dict[str, _Array], run: Iterator[_Arrays]) -> None:
    """Let a run go on until its arrays of these names are held."""
    while not held.keys() >= {*names}:
        more = next(run, None)
        if more is None:
            return
        held.update(more)


def _select(merged: Merged, fetch: Sequence[str] | None) -> Both[list[str]]:
    """Return the names of the Values to compare."""
    teacher, student = merged.source.graph, merged.before.graph
    if fetch is None:
        return Both(
            [name for name in _comparable(teacher) if name in merged.values],
            list(_comparable(student)),
        )
    names = (fetch,) if isinstance(fetch, str) else ()
    if not are_texts(fetch):
        call = f"merged.verify(fetch={names})" if names else "merged.verify()"
        raise UsageError(bad_argument("fetch", fetch, "a tuple of names", call))
    prefixed = [
        name for name in fetch if name.startswith(merged.prefix) and name not in student.values
    ]
    others = [find(student, name).name for name in fetch if name not in prefixed]
    selected = Both(
        [merged.teacher_name(name) for name in prefixed],
        [fetched_value(student, name) for name in others],
    )
    # Paddle cannot fetch Values of inner Blocks, nor those that are not tensors.
    found = [
        not_fetchable(
            f"the {role}'s `{name}` cannot be fetched",
            (Where(role=role, value=name, shape=graph.values[name].shape),),
            "merged.verify()",
        )
        for role, graph, chosen in (
            ("teacher", teacher, selected.teacher),
            ("student", student, selected.student),
        )
        for name in chosen
        if name.rpartition("/")[0] in graph.blocks.keys() - {""} or graph.values[name].shape is None
    ]
    if found:
        raise MergeError(*found)
    return selected


def _comparable(graph: Graph) -> Iterator[str]:
    """Yield forward tensors that are read, or that are an operator's first result.

    Other results (a dropout's mask, a batch norm's reserve space) may be left unwritten.
    """
    last_writes = {variable_of(name, graph): name for name in graph.values}
    read = {*graph.consumers, *graph.fetches}
    overwritten = frozenset(_overwritten(graph))
    for name, value in graph.values.items():
        operator = graph.producer(name)
        if operator is None or operator.block or operator.role or operator.kind in _NO_TENSOR_KINDS:
            continue
        if value.origin is not Origin.OPERATOR or value.shape is None or value.dtype is None:
            continue
        if graph.kind is ProgramKind.LEGACY and last_writes[variable_of(name, graph)] != name:
            continue
        is_used = value.output == 0 or operator.blocks or name in read
        if is_used and name not in overwritten:
            yield name


def _overwritten(graph: Graph) -> Iterator[str]:
    """Yield Values that are overwritten, so that their number depends on when they are fetched.

    These are the operands that a loop may write in place, and all but the last write to a Variable.
    """
    last_results: dict[str, tuple[str, ...]] = {}
    for operator in graph.operators.values():
        operands = [name for name in operator.operands if name is not None]
        if operator.kind == "while" or (operator.block and operator.type.endswith("_")):
            yield from operands
        if written_operand(operator) is not None:
            for name in operands:
                if graph.values[name].persistable:
                    yield from last_results.get(name, ())
                    last_results[name] = operator.results


def _original(merged: Merged, role: str) -> LiveProgram:
    """Clone an original; the teacher in test mode."""
    is_teacher = role == "teacher"
    program = merged.originals[0 if is_teacher else 1]
    if merged.source.kind is ProgramKind.LEGACY:
        return LiveProgram.of(clone_without_schedule(program, for_test=is_teacher))
    clone = clone_without_schedule(program)
    block = clone.global_block()
    # They would share columns with the fetches of a run.
    remove_unused(block, [op for op in block.ops if op.name() in PIR_FETCHES])
    for op in block.ops if is_teacher else ():
        freeze(op)
    return LiveProgram.of(clone)


def _forward_only(merged: Merged) -> LiveProgram:
    """Clone the merged Program without later additions: losses, gradients, optimizers."""
    program, extent = merged.program, merged.joined.extent
    clone = clone_without_schedule(program)
    block = clone.global_block()
    pairs = zip(program.global_block().ops, block.ops, strict=True)
    if merged.source.kind is ProgramKind.LEGACY:
        remove_operators(block, [copied for op, copied in pairs if not extent.contains(op)])
        remove_variables(block, block.vars.keys() - extent.variables)
    else:
        added = (
            copied for op, copied in pairs if not extent.contains(op) or op.name() in PIR_FETCHES
        )
        remove_unused(block, list(added))
    live = LiveProgram.of(clone)
    # A legacy Program made by `to_static` has no feed operators: mark its feeds.
    fed = {new for earlier in merged.teachers for new in earlier.feed_map.values()}
    fed.update(_feed_names(merged.before.graph))
    values = {
        name: replace(value, origin=Origin.FEED) if name in fed else value
        for name, value in live.graph.values.items()
    }
    return replace(live, graph=replace(live.graph, values=values))


def _weights(graph: Graph, student_scope: Paddle, scope: Paddle) -> dict[str, Paddle]:
    """Return the merged Program's persistable tensors; generate uninitialised ones in `scope`."""
    import numpy as np

    names = persistable_names(graph)
    tensors = initialised_tensors(student_scope, names)
    for name in names:
        if name not in tensors:
            tensors[name] = scope.var(name).get_tensor()
            # Positive, since it may be a running variance.
            value, random = graph.values[name], np.random.default_rng(_SEED)
            array = _uniform(value.shape or (), value.dtype, random, low=0.01)
            tensors[name].set(array, load_paddle().CPUPlace())
    return tensors


def _feed_names(graph: Graph) -> tuple[str, ...]:
    """List the names of a Program's feeds, in program order."""
    return tuple(value.name for value in graph.values.values() if value.origin is Origin.FEED)


def _call(feeds: Iterable[str], array: str = "array") -> str:
    """Write the call that verifies on input of one's own."""
    return f"merged.verify({{{', '.join(f'{name!r}: {array}' for name in feeds)}}})"


def _inputs(
    merged: Merged, graph: Graph, feed: Mapping[str, Paddle]
) -> tuple[dict[str, Paddle], tuple[str, ...]]:
    """Return each feed's input, given or generated, and the names of those that were generated."""
    import numpy as np

    known = _feed_names(graph)
    call = _call(known)
    if not isinstance(cast("object", feed), Mapping):
        raise UsageError(bad_argument("feed", feed, "a mapping from feed names to arrays", call))
    arrays: dict[str, _Array] = {}
    for name, given in feed.items():
        with suppress(ValueError):  # Ragged.
            arrays[name] = array_of(given)
        if name not in arrays or arrays[name].dtype.kind not in _NUMBERS:
            raise UsageError(bad_argument(f"feed[{name!r}]", given, "an array of numbers", call))
    unknown = [name for name in arrays if name not in known]
    if unknown:
        message = f"the merged Program has no feed {', '.join(f'`{name}`' for name in unknown)}"
        notes = (f"its feeds: {', '.join(f'`{name}`' for name in known)}",)
        raise MergeError(unknown_feed(message, notes=notes, help=call))
    generated = tuple(name for name in known if name not in arrays)
    sequences = [name for name in generated if graph.values[name].lod_level]
    if sequences:
        message = f"{listed(sequences)} takes sequences (LoD), which are not generated"
        where = [Where(role="merged", value=name) for name in sequences[:_LISTED]]
        fix = _call(sequences, "paddle.base.create_lod_tensor(array, [lengths], place)")
        raise MergeError(feeds_not_given(message, where, help=fix))
    teacher = merged.source.graph
    shapes = [tuple(array.shape) for array in arrays.values()]
    for network in (graph, teacher):
        shapes += [network.values[name].shape or () for name in _feed_names(network)]
    batch = next((shape[0] for shape in shapes if shape and shape[0] != UNKNOWN_DIM), _BATCH)
    teacher_shapes = {new: teacher.values[old].shape for old, new in merged.feed_map.items()}
    random = np.random.default_rng(_SEED)
    inputs: dict[str, Paddle] = {}
    for name in known:
        shape = graph.values[name].shape or ()
        # Unknown dims are the teacher's if it knows them.
        other = teacher_shapes.get(name) or shape
        other = other if len(other) == len(shape) else shape
        defaults = (batch, *[_SIDE if len(shape) == 4 else _LENGTH] * len(shape))
        dims = tuple(
            next(dim for dim in choice if dim != UNKNOWN_DIM)
            for choice in zip(shape, other, defaults[: len(shape)], strict=True)
        )
        # Drawn for all, so that what is generated does not depend on what is given.
        inputs[name] = _uniform(dims, graph.values[name].dtype, random, low=-1.0)
    given = {name: one if hasattr(one, "lod") else arrays[name] for name, one in feed.items()}
    return inputs | given, generated


def _uniform(shape: Shape, dtype: str | None, random: np.random.Generator, *, low: float) -> _Array:
    import numpy as np

    if dtype == "bfloat16":  # Paddle takes it as the upper half of a float32.
        floats = random.uniform(low, 0.1, shape).astype(np.float32)
        halves: _Array = np.frombuffer(floats.tobytes(), np.uint16)[1::2]
        return np.reshape(halves, shape)
    kind = np.dtype(dtype or "float32")
    if kind.kind in "iub":
        return random.integers(0, _CLASSES, shape).astype(kind)
    return random.uniform(low, 0.1 if low > 0 else 1.0, shape).astype(kind)


@contextmanager
def _reproducible_runs() -> Generator[None]:
    """Run operators serially, and restore the state of all random generators afterwards.

    Paddle orders operators that draw random numbers, but not operators with such ones in their
    Blocks: two branches with a dropout each, run in parallel, would draw in any order.
    """
    paddle = load_paddle()
    states = [(generator, generator.get_state()) for generator in generators()]
    flags = paddle.get_flags([_SERIAL_RUN])
    paddle.set_flags({_SERIAL_RUN: True})
    try:
        yield
    finally:
        paddle.set_flags(flags)
        for generator, state in states:
            generator.set_state(state)


def _compared(role: str, name: str, original: _Array, new: str, copied: _Array) -> Comparison:
    import numpy as np

    equal = original.shape == copied.shape and original.tobytes() == copied.tobytes()
    difference = 0.0 if equal else float("inf")
    if not equal and original.shape == copied.shape:
        largest = np.abs(_as_float(original) - _as_float(copied)).max()
        difference = float("inf") if np.isnan(largest) else float(largest)
    return Comparison(
        role=role,
        name=name,
        merged=new,
        shape=tuple(copied.shape),
        equal=equal,
        difference=difference,
    )


def _as_float(array: _Array) -> _Array:
    import numpy as np

    if array.dtype == np.uint16:  # NumPy holds bfloat16 as the upper half of a float32.
        data = np.left_shift(array, 16, dtype=np.uint32).tobytes()
        array = np.reshape(np.frombuffer(data, np.float32), array.shape)
    return array.astype(np.float64)
