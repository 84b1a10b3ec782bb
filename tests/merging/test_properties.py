"""Whatever small networks are drawn, a merge adds up, and no number changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paddle import nn

from graphtool.backend.live import LiveProgram
from graphtool.graph import Graph
from graphtool.merging import Merged, merge
from tests.merging import cases, networks
from tests.merging.networks import merge_built

CHANNELS, SIDE = 3, 4
Step = tuple[str, int, int]

_ONE: dict[str, Callable[[Any], Any]] = {
    "linear": lambda x: nn.Linear(SIDE, SIDE)(x),
    "conv": lambda x: nn.Conv2D(CHANNELS, CHANNELS, 3, padding=1)(x),
    "relu": nn.functional.relu,
    "dropout": lambda x: nn.functional.dropout(x, 0.5),
    "batch_norm": lambda x: nn.BatchNorm2D(CHANNELS)(x),
}


def _cond(x: Any, y: Any) -> Any:
    inner = nn.Conv2D(CHANNELS, CHANNELS, 1)
    return paddle.static.nn.cond(
        x.mean() > y.mean(),
        lambda: nn.functional.dropout(inner(x), 0.5) + y,
        lambda: nn.functional.relu(y) * 2,
    )


_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "concat": lambda x, y: nn.Conv2D(2 * CHANNELS, CHANNELS, 1)(paddle.concat([x, y], axis=1)),
    "cond": _cond,
}


def _steps(*, without: frozenset[str] = frozenset()) -> st.SearchStrategy[list[Step]]:
    """Draw what is computed one after the other, each from earlier results counted from the end."""
    kinds = sorted({*_ONE, *_TWO} - without)
    step = st.tuples(st.sampled_from(kinds), st.integers(1, 4), st.integers(1, 4))
    return st.lists(step, min_size=1, max_size=7)


def _apply(x: Any, steps: list[Step]) -> Any:
    made = [x]
    for kind, first, second in steps:
        left = made[-min(first, len(made))]
        right = made[-min(second, len(made))]
        made.append(_ONE[kind](left) if kind in _ONE else _TWO[kind](left, right))
    return made[-1]


def _image() -> Any:
    return np.random.default_rng(0).normal(size=(2, CHANNELS, SIDE, SIDE)).astype("float32")


def _names_are_unique(merged: Merged) -> None:
    given = [new for _, new in merged.plan.renames]
    assert len({*given, *merged.plan.student_names}) == len(given) + len(merged.plan.student_names)
    assert len(set(merged.values.values())) == len(merged.values)
    assert set(merged.values.values()) <= set(merged.graph.values)


def _the_student_is_unchanged(before: Graph, after: Graph) -> None:
    """Compare with `index` left out: nothing comes before the student's operators anyway."""
    assert list(after.operators.values())[: len(before.operators)] == list(
        before.operators.values()
    )
    assert {name: after.values[name] for name in before.values} == dict(before.values)


def _drawn(steps: list[Step], feed: str, **options: Any) -> networks.Built:
    shape = [-1, CHANNELS, SIDE, SIDE]
    return networks.build(lambda x: _apply(x, steps), (feed, shape, "float32"), **options)


def _examples(few: int, many: int) -> Any:
    """Draw some networks everywhere, and more where there is time for it."""
    counts = (
        pytest.param(few, marks=pytest.mark.slow),
        pytest.param(many, marks=pytest.mark.nightly),
    )
    return pytest.mark.parametrize("examples", counts)


@pytest.mark.pir
@_examples(4, 60)
def test_any_two_networks_merge_to_what_both_were(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(theirs=_steps(), ours=_steps())
    def check(theirs: list[Step], ours: list[Step]) -> None:
        teacher, student = _drawn(theirs, "image"), _drawn(ours, "data")
        graphs = [LiveProgram.of(built.program).graph for built in (teacher, student)]
        merged = merge_built(teacher, student)
        _names_are_unique(merged)
        _the_student_is_unchanged(graphs[1], merged.graph)
        # One feed stands for two.
        assert len(merged.graph.operators) == sum(len(graph.operators) for graph in graphs) - 1
        verification = merged.verify({"data": _image()})
        assert verification.equal, str(verification)
        assert len(verification.comparisons) >= len(theirs) + len(ours) - 2

    check()


@_examples(4, 60)
def test_any_two_legacy_networks_merge_to_what_both_were(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(
        theirs=_steps(without=frozenset({"cond"})),
        # Dropout draws anew in each run, which here are two.
        ours=_steps(without=frozenset({"cond", "dropout"})),
    )
    def check(theirs: list[Step], ours: list[Step]) -> None:
        teacher, student = (
            _drawn(steps, feed, kind="legacy", seed=seed)
            for steps, feed, seed in ((theirs, "image", 3), (ours, "data", 5))
        )
        counts = [cases.operators(built.program) for built in (teacher, student)]
        before = LiveProgram.of(student.program).graph
        test = cases.in_test_mode(teacher.program)
        wanted = (
            *teacher.run({"image": _image()}, teacher.output, program=test),
            *student.run({"data": _image()}, student.output),
        )
        merged = merge_built(teacher, student)
        _names_are_unique(merged)
        _the_student_is_unchanged(before, merged.graph)
        assert cases.operators(student.program) == sum(counts)
        got = student.run({"data": _image()}, merged.teacher(teacher.output.name), student.output)
        assert [array.tobytes() for array in got] == [array.tobytes() for array in wanted]

    check()


@pytest.mark.pir
@_examples(2, 30)
def test_two_teachers_add_up_as_one_does(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(first=_steps(), second=_steps(), ours=_steps())
    def check(first: list[Step], second: list[Step], ours: list[Step]) -> None:
        student = _drawn(ours, "data")
        total = len(LiveProgram.of(student.program).graph.operators)
        for prefix, steps in (("one_", first), ("two_", second)):
            teacher = _drawn(steps, "image")
            total += len(LiveProgram.of(teacher.program).graph.operators) - 1
            merged = merge_built(teacher, student, name_prefix=prefix)
            assert merged.verify({"data": _image()}).equal
        assert len(merged.graph.operators) == total
        assert len(merged.teachers) == 2

    check()


@pytest.mark.parametrize("kind", sorted({*_ONE, *_TWO}))
def test_a_network_of_each_kind_teaches_itself(kind: str) -> None:
    student = _drawn([(kind, 1, 1)], "data")
    merged = merge(student.program, student.program, {"data": "data"}, scope=student.scope)
    assert merged.verify({"data": _image()}).equal
    _names_are_unique(merged)
