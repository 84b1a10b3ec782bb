"""Prove a merge: run both originals and the merged Program, and compare what comes out."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.checks import check_names, persistable_names
from graphtool.diagnostics import MergeError, ReadError, UsageError
from graphtool.graph import UNKNOWN, Graph, Origin, ProgramKind
from graphtool.merging import problems
from graphtool.merging._backend import handed_out
from graphtool.merging._comparison import Comparison, Verification, array_of, compared
from graphtool.merging._inputs import feed_names, generated_feed, generated_weight
from graphtool.merging._interrupts import heed_interrupt, interrupts_held
from graphtool.merging._pieces import generators, values_of
from graphtool.merging._pir import ENDS, freeze, remove_unused
from graphtool.merging._provenance import compared_weights
from graphtool.readers import problems as reading
from graphtool.readers._legacy import variable_of
from graphtool.readers._paddle import load_paddle, one_at_a_time, static_mode
from graphtool.readers.live import LiveProgram
from graphtool.readers.tensors import held_tensors, private_scope
from graphtool.selectors import find

if TYPE_CHECKING:
    import numpy as np

    from graphtool.merging.merged import Merged

__all__ = ["Comparison", "Verification", "verify"]

# Programs, Scopes and tensors are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any
_Array: TypeAlias = "np.ndarray[Any, Any]"
_Arrays: TypeAlias = "Mapping[str, _Array]"

_SERIAL = "FLAGS_new_executor_serial_run"
# By numpy's kinds of dtypes: bool, whole, floating and complex numbers.
_NUMBERS = "biufc"
_NO_TENSORS = frozenset({"feed", "fetch", "shadow_output", "create_array", "array_write"})


def verify(
    merged: Merged, feed: Mapping[str, _Paddle] | None, fetch: Sequence[str] | None
) -> Verification:
    """Compare as `Merged.verify` says."""
    with one_at_a_time(), interrupts_held():
        rows, generated = _compared_values(merged, {} if feed is None else feed, fetch)
        heed_interrupt()
        return Verification(rows, generated, *compared_weights(merged))


def _compared_values(
    merged: Merged, feed: Mapping[str, _Paddle], fetch: Sequence[str] | None
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """Compare what three runs give, and name the feeds that were generated for them."""
    with static_mode(merged.source.kind), _reproducibly(), private_scope() as own:
        whole = _fed(_forward_only(merged), merged)
        given = _arrays(feed, problems.verify_call(feed_names(whole.graph)))
        inputs = _inputs(merged, whole.graph, feed, given)
        weights = _weights(whole.graph, merged.scopes.student, own)
        theirs, ours = _picked(merged, fetch)
        new_names = {name: merged.merged_name(name) for name in theirs}
        wanted = [*new_names.values(), *ours]
        _check_there(whole.graph, [*dict(_kept(merged)).values(), *wanted])
        fail = partial(
            problems.run_failed,
            feeds=tuple(inputs),
            given=given.keys() >= inputs.keys(),
            said=merged.report,
        )
        teacher = values_of(
            _in_test_mode(merged),
            {old: inputs[new] for old, new in merged.feed_map.items()},
            {old: weights[new] for old, new in _kept(merged)},
            theirs,
            partial(fail, "the teacher alone"),
        )
        student = values_of(
            _student(merged),
            {name: inputs[name] for name in feed_names(merged.before.graph)},
            weights,
            ours,
            partial(fail, "the student alone"),
        )
        both = values_of(whole, inputs, weights, wanted, partial(fail, "the merged Program"))
        found = {(row.role, row.name): row for row in _rows(teacher, student, both, new_names)}
    order = [*(("teacher", name) for name in theirs), *(("student", name) for name in ours)]
    rows = tuple(found[key] for key in dict.fromkeys(order) if key in found)
    return rows, tuple(name for name in inputs if name not in given)


def _rows(
    teacher: Iterator[_Arrays],
    student: Iterator[_Arrays],
    both: Iterator[_Arrays],
    new_names: Mapping[str, str],
) -> Iterator[Comparison]:
    """Compare Values while the three runs go on, so that few of them are held at a time.

    The merged Program has the student's operators before the teacher's. Where Paddle refuses it, or
    the student, an original that it refuses as well is what is reported.
    """
    held: dict[str, _Array] = {}
    try:
        for role, alone in (("student", student), ("teacher", teacher)):
            for arrays in alone:
                names = {name: new_names[name] if role == "teacher" else name for name in arrays}
                while not held.keys() >= set(names.values()):
                    more = next(both, None)
                    if more is None:
                        break
                    held.update(more)
                yield from compared(role, arrays, held, names)
                for name in names.values():
                    held.pop(name, None)
        for _ in both:
            pass
    except MergeError:
        for alone in (teacher, student):
            for _ in alone:
                pass
        raise


def _check_there(graph: Graph, names: Iterable[str]) -> None:
    """Refuse a merged Program that has lost some of these since, to a pass or by pruning."""
    gone = [name for name in names if name not in graph.values]
    if gone:
        raise ReadError(reading.value_gone(graph.source, gone[0]))


def _kept(merged: Merged) -> Iterator[tuple[str, str]]:
    """Yield what the teacher keeps with its names in the merged Program, shared ones included."""
    yield from merged.plan.weights
    yield from ((name, name) for name in merged.plan.shared)


def _picked(merged: Merged, fetch: Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return names of the teacher's and of the student's Values to compare."""
    if fetch is None:
        theirs = [name for name in _comparable(merged.source.graph) if name in merged.values]
        return theirs, list(_comparable(merged.before.graph))
    names = (fetch,) if isinstance(fetch, str) else ()
    check_names("fetch", fetch, f"merged.verify(fetch={names})" if names else "merged.verify()")
    graph = merged.before.graph
    prefixed = [
        name for name in fetch if name.startswith(merged.prefix) and name not in graph.values
    ]
    theirs = [merged.teacher_name(name) for name in prefixed]
    ours = [handed_out(graph, find(graph, name).name) for name in fetch if name not in prefixed]
    _check_picked("teacher", merged.source.graph, theirs)
    _check_picked("student", graph, ours)
    return theirs, ours


def _check_picked(role: str, graph: Graph, names: Iterable[str]) -> None:
    """Refuse what Paddle cannot fetch: Values of inner Blocks, and what is no tensor."""
    found = [
        problems.not_fetched(role, graph.values[name])
        for name in names
        if _is_inner(name, graph) or graph.values[name].shape is None
    ]
    if found:
        raise MergeError(*found)


def _is_inner(name: str, graph: Graph) -> bool:
    path = name.rpartition("/")[0]
    return bool(path) and path in graph.blocks


def _comparable(graph: Graph) -> Iterator[str]:
    """Yield tensors of the forward pass that something reads, or that are an operator's first.

    What else an operator gives (a dropout's mask, a batch norm's reserve) may be left unwritten.
    """
    last = {variable_of(name, graph): name for name in graph.values}
    read = {*graph.consumers, *graph.fetches}
    overwritten = frozenset(_overwritten(graph))
    for name, value in graph.values.items():
        operator = graph.producer(name)
        if operator is None or operator.block or operator.role or operator.kind in _NO_TENSORS:
            continue
        if value.origin is Origin.OPERATOR and value.shape is not None and value.dtype is not None:
            rewritten = graph.kind is ProgramKind.LEGACY and last[variable_of(name, graph)] != name
            wanted = value.output == 0 or operator.blocks or name in read
            if wanted and not rewritten and name not in overwritten:
                yield name


def _overwritten(graph: Graph) -> Iterator[str]:
    """Yield what a loop may write in place: when it is fetched decides what number is seen."""
    for operator in graph.operators.values():
        if operator.kind == "while" or (operator.block and operator.type.endswith("_")):
            yield from (name for name in operator.operands if name is not None)


def _in_test_mode(merged: Merged) -> LiveProgram:
    program = merged.originals[0]
    if merged.source.kind is ProgramKind.LEGACY:
        return LiveProgram.of(program.clone(for_test=True))
    clone = _without_fetches(program)
    for op in clone.global_block().ops:
        freeze(op)
    return LiveProgram.of(clone)


def _student(merged: Merged) -> LiveProgram:
    program = merged.originals[1]
    legacy = merged.source.kind is ProgramKind.LEGACY
    return LiveProgram.of(program.clone() if legacy else _without_fetches(program))


def _without_fetches(program: _Paddle) -> _Paddle:
    """Clone a PIR Program without fetch operations: ours would write into their columns."""
    clone = program.clone()
    block = clone.global_block()
    remove_unused(block, [op for op in block.ops if op.name() in ENDS])
    return clone


def _forward_only(merged: Merged) -> LiveProgram:
    """Clone the merged Program without what was added since: losses, gradients, optimizers."""
    program, extent = merged.program, merged.joined.extent
    clone = program.clone()
    block = clone.global_block()
    if merged.source.kind is ProgramKind.LEGACY:
        for index in reversed(range(len(block.ops))):
            if not extent.has(program.global_block().ops[index]):
                block._remove_op(index)  # noqa: SLF001
        for name in block.vars.keys() - extent.variables:
            block._remove_var(name)  # noqa: SLF001
        return LiveProgram.of(clone)
    pairs = zip(program.global_block().ops, block.ops, strict=True)
    remove_unused(
        block,
        [copied for op, copied in pairs if not extent.has(op) or op.name() in ENDS],
    )
    return LiveProgram.of(clone)


def _weights(graph: Graph, scope: _Paddle, own: _Paddle) -> dict[str, _Paddle]:
    """Find each tensor that the merged Program keeps; put those not there yet into `own`."""
    names = persistable_names(graph)
    found = held_tensors(scope, names)
    for name in names:
        if name not in found:
            found[name] = own.var(name).get_tensor()
            found[name].set(generated_weight(graph.values[name]), load_paddle().CPUPlace())
    return found


def _fed(live: LiveProgram, merged: Merged) -> LiveProgram:
    """Tell what is fed: a legacy Program that `to_static` made does not say so itself."""
    fed = {new for one in merged.teachers for new in one.feed_map.values()}
    fed.update(feed_names(merged.before.graph))
    values = {
        name: replace(value, origin=Origin.FEED) if name in fed else value
        for name, value in live.graph.values.items()
    }
    return replace(live, graph=replace(live.graph, values=values))


def _arrays(feed: object, call: str) -> dict[str, _Array]:
    """Return what is fed as arrays; `call` is what a right one looks like."""
    if not isinstance(feed, Mapping):
        raise UsageError(bad_argument("feed", feed, "a mapping from feed names to arrays", call))
    given = cast("Mapping[str, _Paddle]", feed)
    arrays: dict[str, _Array] = {}
    for name, held in given.items():
        array = _numbers(held)
        if array is None:
            raise UsageError(bad_argument(f"feed[{name!r}]", held, "an array of numbers", call))
        arrays[name] = array
    return arrays


def _numbers(given: _Paddle) -> _Array | None:
    """Return an array, None for what is none of numbers, or has rows of unequal lengths."""
    try:
        array = array_of(given)
    except ValueError:
        return None
    return array if array.dtype.kind in _NUMBERS else None


def _inputs(
    merged: Merged, graph: Graph, feed: Mapping[str, _Paddle], given: Mapping[str, _Array]
) -> dict[str, _Paddle]:
    """Return what each feed gets: what was given, sequences with their lengths, or numbers."""
    known = feed_names(graph)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise MergeError(problems.unknown_feeds(unknown, known))
    sequences = [name for name in known if graph.values[name].lod_level and name not in given]
    if sequences:
        raise MergeError(problems.sequences_not_given(sequences))
    theirs = merged.source.graph.values
    others = {new: theirs[old] for old, new in merged.feed_map.items()}
    batch = _batch((graph, merged.source.graph), given)
    generated = generated_feed(graph, others, batch)
    levelled = {name: held for name, held in feed.items() if hasattr(held, "lod")}
    return {**generated, **given, **levelled}


def _batch(graphs: Iterable[Graph], given: Mapping[str, _Array]) -> int | None:
    """Return the number of samples that the given input has, or that a feed is fixed to."""
    shapes = [tuple(array.shape) for array in given.values()]
    for graph in graphs:
        shapes += [graph.values[name].shape or () for name in feed_names(graph)]
    return next((shape[0] for shape in shapes if shape and shape[0] != UNKNOWN), None)


@contextmanager
def _reproducibly() -> Generator[None]:
    """Run one operator after the other; put the state of all generators back.

    Paddle orders operators that draw random numbers, but not two that hold such ones in their
    Blocks: run at once, two branches with a dropout each draw in any order.
    """
    paddle = load_paddle()
    kept = [(generator, generator.get_state()) for generator in generators()]
    flags = paddle.get_flags([_SERIAL])
    paddle.set_flags({_SERIAL: True})
    try:
        yield
    finally:
        paddle.set_flags(flags)
        for generator, state in kept:
            generator.set_state(state)
