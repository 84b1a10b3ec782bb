"""All or nothing: whatever fails, and whenever, everything is as it was before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import pytest

from graphtool import merging
from graphtool.backend import joining
from graphtool.diagnostics import MergeError, UsageError
from graphtool.merging import check_merge, merge, merged_of
from tests.merging import networks
from tests.merging.networks import Built, merge_built, run, samples, small


class Stop(BaseException):
    """What no handler of ours could catch by accident."""


# Between its steps, a merge looks for an interrupt.
_ALL = range(6)
# The first, one in the middle, and after all: the others are undone alike.
_FAST = {0, len(_ALL) // 2, _ALL[-1]}


@pytest.mark.pir
@pytest.mark.parametrize(
    "at", [at if at in _FAST else pytest.param(at, marks=pytest.mark.slow) for at in _ALL]
)
@pytest.mark.parametrize(
    "forward", [networks.looping, pytest.param(networks.cell, marks=pytest.mark.slow)]
)
def test_a_failure_at_any_step_changes_nothing(
    at: int, forward: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, student = small(forward, "image"), small(networks.branching)
    before = _state(teacher), _state(student)
    wanted = student.run({"data": samples()}, student.output)[0]
    state = _state(student)
    monkeypatch.setattr(joining, "raise_pending_interrupt", _at(at, _stop))

    with pytest.raises(Stop):
        merge_built(teacher, student)

    assert _state(teacher) == before[0]
    assert _state(student) == state
    assert merged_of(student.program) is None
    given = run(student.program, student.scope, {"data": samples()}, student.output)[0]
    assert given.shape == wanted.shape
    monkeypatch.undo()
    assert merge_built(teacher, student).verify().equal


@pytest.mark.pir
def test_a_failure_half_way_through_the_weights_takes_the_first_ones_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher, student = small(networks.perceptron, "image"), small(networks.branching)
    # A Variable without a tensor, which the check has no chance to see: it goes after the check.
    tensor = teacher.scope.find_var("linear_1.w_0").get_tensor()
    monkeypatch.setattr(joining, "raise_pending_interrupt", _at(0, tensor._clear))
    before = _state(student)
    with pytest.raises(MergeError, match=r"GT258.*Paddle failed in `gt.merge`: ") as caught:
        merge_built(teacher, student)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert _state(student) == before


@pytest.mark.pir
def test_errors_come_all_at_once_before_anything_changes() -> None:
    teacher, student = small(networks.plain, "image", start=False), small(networks.plain)
    before = _state(student)
    with pytest.raises(MergeError) as caught:
        merge_built(teacher, student, {"imag": "dat"}, name_prefix="")
    codes = {found.code for found in caught.value.report.errors}
    assert len(codes) >= 4
    assert _state(student) == before


def _at(step: int, work: Callable[[], object]) -> Callable[[], None]:
    """Return what does some work when it is called for this step, counted from 0."""
    steps = count()
    return lambda: work() if next(steps) == step else None


def _state(built: Built) -> tuple[Any, ...]:
    scope = built.scope
    names = sorted(scope.local_var_names())
    tensors = [scope.find_var(name).get_tensor() for name in names]
    held = [np.array(tensor).tobytes() for tensor in tensors if tensor._is_initialized()]
    return str(built.program), str(built.startup), names, held


@pytest.mark.pir
@pytest.mark.parametrize("name", ["register", "advance_counters"])
def test_a_failure_after_the_last_step_changes_nothing(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, student = small(networks.looping, "image"), small(networks.branching)
    before = _state(teacher), _state(student)
    monkeypatch.setattr(merging, name, _stop)
    with pytest.raises(Stop):
        merge_built(teacher, student)
    assert (_state(teacher), _state(student)) == before
    assert merged_of(student.program) is None
    monkeypatch.undo()
    assert merge_built(teacher, student).verify().equal


def test_a_failure_while_registering_keeps_the_merges_before() -> None:
    teacher, student = small(networks.plain, "image"), small(networks.plain)
    first = merge_built(teacher, student)
    with pytest.raises(MergeError):
        merge_built(teacher, student)
    assert merged_of(student.program) is first
    assert first.teachers == (first,)


@pytest.mark.pir
@pytest.mark.parametrize("at", _ALL)
def test_where_undoing_fails_the_rest_is_undone_all_the_same(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one callback raises is raised in the end; those before it have run."""
    teacher, student = small(networks.plain, "image"), small(networks.branching)
    before = _state(student)

    def spoiled(*arguments: Any) -> None:
        undo: ExitStack = arguments[-1]
        spoil = partial(undo.callback, _stop)
        monkeypatch.setattr(joining, "raise_pending_interrupt", _at(at, spoil))
        join(*arguments)
        raise Stop

    join = merging.join
    monkeypatch.setattr(merging, "join", spoiled)
    with pytest.raises(Stop):
        merge_built(teacher, student)
    assert _state(student) == before
    assert merged_of(student.program) is None


@pytest.mark.parametrize("given", [3, None, b"bytes", [1]])
def test_what_is_no_network_is_refused_by_its_name(given: Any) -> None:
    built = small(networks.plain)
    for call in (merge, check_merge):
        for networks_given in ((given, built.program), (built.program, given)):
            with pytest.raises(UsageError, match=r"GT248.*_program` is "):
                call(*networks_given, {"data": "data"})
    with pytest.raises(UsageError, match=r"GT248.*`student_program`.*for_training"):
        merge(built.program, "student.json", {"data": "data"})


def _stop(*_: Any) -> None:
    raise Stop
