"""Verify a merge: run both originals and the merged Program, and compare their Values."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.backend.errors import paddle_failed
from graphtool.backend.generators import generators
from graphtool.backend.interrupts import heed_interrupt, interrupts_held
from graphtool.backend.legacy_editing import remove_operators, remove_variables
from graphtool.backend.live import LiveProgram, clone_without_schedule
from graphtool.backend.paddle import Paddle, load_paddle, program_lock, static_mode
from graphtool.backend.pir_editing import freeze, remove_unused
from graphtool.backend.problems import value_gone
from graphtool.backend.tensors import initialised_tensors, private_scope
from graphtool.both import Both
from graphtool.checks import check_names, persistable_names
from graphtool.checks.feeds import unknown_feed
from graphtool.diagnostics import (
    Diagnostic,
    MergeError,
    ReadError,
    Report,
    Severity,
    UsageError,
    Where,
    listed,
)
from graphtool.graph import UNKNOWN_DIM, Graph, Origin, ProgramKind, variable_of
from graphtool.merging import problems
from graphtool.merging._comparison import Comparison, Verification, array_of, compare
from graphtool.merging._generated_inputs import feed_names, generate_feeds, generate_weight
from graphtool.merging._partitioned_run import compute_values
from graphtool.merging._provenance import compare_weights
from graphtool.ops import PIR_FETCHES, fetched_value, written_operand
from graphtool.selectors import find

if TYPE_CHECKING:
    import numpy as np

    from graphtool.merging.merged import Merged

__all__ = ["Comparison", "Verification", "verify"]

_Array: TypeAlias = "np.ndarray[Any, Any]"
_Arrays: TypeAlias = "Mapping[str, _Array]"

_SERIAL_RUN = "FLAGS_new_executor_serial_run"
# NumPy's dtype kinds of numbers: bool, integer, floating and complex.
_NUMBERS = "biufc"
_LISTED = 5
_NO_TENSOR_KINDS = frozenset({"feed", "fetch", "shadow_output", "create_array", "array_write"})


def verify(
    merged: Merged, feed: Mapping[str, Paddle] | None, fetch: Sequence[str] | None
) -> Verification:
    """Compare as `Merged.verify` documents."""
    with program_lock(), interrupts_held():
        comparisons, generated = _compare_values(merged, {} if feed is None else feed, fetch)
        heed_interrupt()
        return Verification(comparisons, generated, *compare_weights(merged))


def _compare_values(
    merged: Merged, feed: Mapping[str, Paddle], fetch: Sequence[str] | None
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Compare the Values of three runs; also return the names of generated feeds."""
    with static_mode(merged.source.kind), _reproducible_runs(), private_scope() as scope:
        merged_live = _with_feeds(_forward_only(merged), merged)
        arrays = _feed_arrays(feed, problems.verify_call(feed_names(merged_live.graph)))
        inputs = _inputs(merged, merged_live.graph, feed, arrays)
        weights = _weights(merged_live.graph, merged.scopes.student, scope)
        names = _select(merged, fetch)
        new_names = {name: merged.merged_name(name) for name in names.teacher}
        merged_names = [*new_names.values(), *names.student]
        teacher_variables = (*merged.plan.weights, *((name, name) for name in merged.plan.shared))
        _check_present(merged_live.graph, [*dict(teacher_variables).values(), *merged_names])
        failure = partial(
            _run_failure, merged.report, tuple(inputs), given=arrays.keys() >= inputs.keys()
        )
        teacher_run = compute_values(
            _teacher_in_test_mode(merged),
            {old: inputs[new] for old, new in merged.feed_map.items()},
            {old: weights[new] for old, new in teacher_variables},
            names.teacher,
            partial(failure, "the teacher alone"),
        )
        student_run = compute_values(
            _student_before(merged),
            {name: inputs[name] for name in feed_names(merged.before.graph)},
            weights,
            names.student,
            partial(failure, "the student alone"),
        )
        merged_run = compute_values(
            merged_live, inputs, weights, merged_names, partial(failure, "the merged Program")
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
    return comparisons, tuple(name for name in inputs if name not in arrays)


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
    merged_arrays: dict[str, _Array] = {}
    try:
        for role, run in (("student", student_run), ("teacher", teacher_run)):
            for arrays in run:
                names = {name: new_names[name] if role == "teacher" else name for name in arrays}
                while not merged_arrays.keys() >= set(names.values()):
                    more = next(merged_run, None)
                    if more is None:
                        break
                    merged_arrays.update(more)
                yield from compare(role, arrays, merged_arrays, names)
                for name in names.values():
                    merged_arrays.pop(name, None)
        for _ in merged_run:
            pass
    except MergeError:
        for run in (teacher_run, student_run):
            for _ in run:
                pass
        raise


def _check_present(graph: Graph, names: Iterable[str]) -> None:
    """Refuse a merged Program that has since lost a Value, to a pass or by pruning."""
    lost = next((name for name in names if name not in graph.values), None)
    if lost is not None:
        raise ReadError(value_gone(graph.source, lost))


def _select(merged: Merged, fetch: Sequence[str] | None) -> Both[list[str]]:
    """Return the names of the Values to compare."""
    teacher, student = merged.source.graph, merged.before.graph
    if fetch is None:
        return Both(
            [name for name in _comparable(teacher) if name in merged.values],
            list(_comparable(student)),
        )
    names = (fetch,) if isinstance(fetch, str) else ()
    check_names("fetch", fetch, f"merged.verify(fetch={names})" if names else "merged.verify()")
    prefixed = [
        name for name in fetch if name.startswith(merged.prefix) and name not in student.values
    ]
    selected = Both(
        [merged.teacher_name(name) for name in prefixed],
        [
            fetched_value(student, find(student, name).name)
            for name in fetch
            if name not in prefixed
        ],
    )
    _check_fetchable("teacher", teacher, selected.teacher)
    _check_fetchable("student", student, selected.student)
    return selected


def _check_fetchable(role: str, graph: Graph, names: Iterable[str]) -> None:
    """Refuse what Paddle cannot fetch: Values of inner Blocks, and those that are not tensors."""
    found = [
        problems.not_fetchable(
            f"the {role}'s `{name}` cannot be fetched",
            (Where(role=role, value=name, shape=graph.values[name].shape),),
            "merged.verify()",
        )
        for name in names
        if _is_in_block(name, graph) or graph.values[name].shape is None
    ]
    if found:
        raise MergeError(*found)


def _is_in_block(name: str, graph: Graph) -> bool:
    path = name.rpartition("/")[0]
    return bool(path) and path in graph.blocks


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


def _teacher_in_test_mode(merged: Merged) -> LiveProgram:
    program = merged.originals[0]
    if merged.source.kind is ProgramKind.LEGACY:
        return LiveProgram.of(clone_without_schedule(program, for_test=True))
    clone = _without_fetches(program)
    for op in clone.global_block().ops:
        freeze(op)
    return LiveProgram.of(clone)


def _student_before(merged: Merged) -> LiveProgram:
    program = merged.originals[1]
    legacy = merged.source.kind is ProgramKind.LEGACY
    return LiveProgram.of(clone_without_schedule(program) if legacy else _without_fetches(program))


def _without_fetches(program: Paddle) -> Paddle:
    """Clone a PIR Program without its fetches, which would share columns with those of a run."""
    clone = clone_without_schedule(program)
    block = clone.global_block()
    remove_unused(block, [op for op in block.ops if op.name() in PIR_FETCHES])
    return clone


def _forward_only(merged: Merged) -> LiveProgram:
    """Clone the merged Program without later additions: losses, gradients, optimizers."""
    program, extent = merged.program, merged.joined.extent
    clone = clone_without_schedule(program)
    block = clone.global_block()
    if merged.source.kind is ProgramKind.LEGACY:
        pairs = zip(program.global_block().ops, block.ops, strict=True)
        remove_operators(block, [copied for op, copied in pairs if not extent.contains(op)])
        remove_variables(block, block.vars.keys() - extent.variables)
        return LiveProgram.of(clone)
    pairs = zip(program.global_block().ops, block.ops, strict=True)
    remove_unused(
        block,
        [copied for op, copied in pairs if not extent.contains(op) or op.name() in PIR_FETCHES],
    )
    return LiveProgram.of(clone)


def _weights(graph: Graph, student_scope: Paddle, scope: Paddle) -> dict[str, Paddle]:
    """Return the merged Program's persistable tensors; generate uninitialised ones in `scope`."""
    names = persistable_names(graph)
    tensors = initialised_tensors(student_scope, names)
    for name in names:
        if name not in tensors:
            tensors[name] = scope.var(name).get_tensor()
            tensors[name].set(generate_weight(graph.values[name]), load_paddle().CPUPlace())
    return tensors


def _with_feeds(live: LiveProgram, merged: Merged) -> LiveProgram:
    """Mark the feeds in the Graph: a legacy Program made by `to_static` has no feed operators."""
    fed = {new for earlier in merged.teachers for new in earlier.feed_map.values()}
    fed.update(feed_names(merged.before.graph))
    values = {
        name: replace(value, origin=Origin.FEED) if name in fed else value
        for name, value in live.graph.values.items()
    }
    return replace(live, graph=replace(live.graph, values=values))


def _feed_arrays(feed: object, call: str) -> dict[str, _Array]:
    """Return the given feed as arrays; `call` is an example of a valid call.

    Raises UsageError: GT248 for what is not an array of numbers.
    """
    if not isinstance(feed, Mapping):
        raise UsageError(bad_argument("feed", feed, "a mapping from feed names to arrays", call))
    arrays: dict[str, _Array] = {}
    for name, given in cast("Mapping[str, Paddle]", feed).items():
        array = _number_array(given)
        if array is None:
            raise UsageError(bad_argument(f"feed[{name!r}]", given, "an array of numbers", call))
        arrays[name] = array
    return arrays


def _number_array(given: Paddle) -> _Array | None:
    """Return an array, None if it is ragged or does not hold numbers."""
    try:
        array = array_of(given)
    except ValueError:
        return None
    return array if array.dtype.kind in _NUMBERS else None


def _inputs(
    merged: Merged, graph: Graph, feed: Mapping[str, Paddle], arrays: Mapping[str, _Array]
) -> dict[str, Paddle]:
    """Return each feed's input: the array or LoD tensor that was given, or a generated array."""
    known = feed_names(graph)
    unknown = [name for name in arrays if name not in known]
    if unknown:
        raise MergeError(
            unknown_feed(
                f"the merged Program has no feed {', '.join(f'`{name}`' for name in unknown)}",
                notes=(f"its feeds: {', '.join(f'`{name}`' for name in known)}",),
                help=problems.verify_call(known),
            )
        )
    sequences = [name for name in known if graph.values[name].lod_level and name not in arrays]
    if sequences:
        raise MergeError(_missing_sequences(sequences))
    teacher = merged.source.graph
    teacher_feeds = {new: teacher.values[old] for old, new in merged.feed_map.items()}
    shapes = [tuple(array.shape) for array in arrays.values()]
    for network in (graph, teacher):
        shapes += [network.values[name].shape or () for name in feed_names(network)]
    batch = next((shape[0] for shape in shapes if shape and shape[0] != UNKNOWN_DIM), None)
    generated = generate_feeds(graph, teacher_feeds, batch)
    lod_tensors = {name: given for name, given in feed.items() if hasattr(given, "lod")}
    return {**generated, **arrays, **lod_tensors}


def _missing_sequences(names: Sequence[str]) -> Diagnostic:
    tensors = ", ".join(
        f"{name!r}: paddle.base.create_lod_tensor(array, [lengths], place)" for name in names
    )
    return problems.feeds_not_given(
        f"{listed(names)} takes sequences (LoD), which are not generated",
        [Where(role="merged", value=name) for name in names[:_LISTED]],
        help=f"merged.verify({{{tensors}}})",
    )


def _run_failure(
    report: Report, feeds: Sequence[str], what: str, reason: str, *, given: bool
) -> Diagnostic:
    """Report that Paddle could not run one of the three programs."""
    warned = [found for found in report if found.severity is Severity.WARNING]
    again = "merged.verify()  # on generated input" if given else problems.verify_call(feeds)
    return paddle_failed(
        f"{what} does not run: {reason}",
        notes=[f"the merge warned, {found.code}: {found.message}" for found in warned],
        help="print(merged.report)" if warned else again,
    )


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
