"""Where Paddle fails while an optimizer is added, both it and the Program are refused for good."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import paddle
import pytest
from inline_snapshot import snapshot
from paddle import optimizer
from paddle.distributed import fleet

import graphtool as gt
from tests.training.networks import Regression, regression


@pytest.fixture
def built() -> Iterator[Regression]:
    made = regression()
    with made.guard():
        yield made


class Failing(optimizer.Adam):
    """Fails when it has appended its operator for one parameter of four."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__(0.1)
        self.error = error or RuntimeError("(ResourceExhausted) Out of memory")
        self.calls = 0

    def _append_optimize_op(self, *given: Any) -> Any:
        self.calls += 1
        if self.calls == 2:
            raise self.error
        return super()._append_optimize_op(*given)


def codes(given: Any, loss: Any, **options: Any) -> list[str]:
    with pytest.raises(gt.GraphtoolError) as caught:
        gt.minimize(given, loss, **options)
    return [found.code for found in caught.value.report.errors]


def test_paddle_is_quoted_and_told_from_what_is_checked(built: Regression) -> None:
    with pytest.raises(gt.GraphtoolError) as caught:
        gt.minimize(Failing(), built.loss)
    assert type(caught.value) is gt.GraphtoolError
    assert str(caught.value) == snapshot("""\
error[GT547] half-way: `gt.minimize` failed half-way: (ResourceExhausted) Out of memory
  = note: the Program and the optimizer cannot be used any more
  = help: build the Programs and the optimizer anew, and call gt.minimize(optimizer, loss)\
""")
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.pir
def test_neither_the_program_nor_its_clone_is_minimized_afterwards(
    built: Regression,
) -> None:
    assert codes(Failing(), built.loss) == ["GT547"]
    clone = built.program.clone()
    assert codes(optimizer.Adam(0.1), built.loss) == ["GT547"]
    with paddle.static.program_guard(clone, built.startup):
        copied = paddle.mean(clone.global_block().ops[3].result(0))
        assert codes(optimizer.Adam(0.1), copied) == ["GT547"]


def test_the_optimizer_is_not_used_again_and_a_new_one_on_a_new_program_works(
    built: Regression,
) -> None:
    broken = Failing(RuntimeError())
    assert codes(broken, built.loss) == ["GT547"]
    fresh = regression()
    with fresh.guard():
        assert codes(broken, fresh.loss) == ["GT547"]
        _, gradients = gt.minimize(optimizer.Adam(0.1), fresh.loss)
    assert len(gradients) == 4


@pytest.mark.pir
def test_fleet_of_which_a_process_has_one_is_not_marked() -> None:
    def out_of_memory(*_: Any) -> None:
        raise RuntimeError("(ResourceExhausted) Out of memory")

    paddle.enable_static()
    only = fleet.Fleet()
    only.minimize = out_of_memory
    with paddle.pir_utils.OldIrGuard():
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup):
            loss = paddle.mean(paddle.static.nn.fc(paddle.static.data("x", [-1, 8]), 3))
            with pytest.raises(gt.GraphtoolError, match=r"GT547.*\n.*the Program cannot be used"):
                gt.minimize(only, loss)
            assert codes(optimizer.SGD(0.1), loss) == ["GT547"]
    assert not hasattr(only, "_graphtool_half_way")


def test_an_interrupt_leaves_the_mark_as_well(built: Regression) -> None:
    with pytest.raises(KeyboardInterrupt):
        gt.minimize(Failing(KeyboardInterrupt()), built.loss)
    assert codes(optimizer.Adam(0.1), built.loss) == ["GT547"]


@pytest.mark.pir
def test_what_is_refused_beforehand_leaves_no_mark(built: Regression) -> None:
    other = regression()
    # It has the name of one of the Program's own.
    parameter = other.program.global_block().all_parameters()[0]
    assert codes(optimizer.Adam(0.1), built.hidden) == ["GT532"]
    assert codes(optimizer.SGD(0.1), built.loss, parameters=[parameter]) == ["GT534"]
    assert codes(optimizer.SGD(0.1), built.loss, no_grad_set=[other.hidden]) == ["GT248"]
    _, gradients = gt.minimize(optimizer.Adam(0.1), built.loss)
    assert len(gradients) == 4
