"""`minimize(…, accumulate=N)`: N runs move the parameters as one batch of all samples does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn, optimizer
from paddle.incubate import optimizer as incubated

import graphtool as gt
from tests.merging.cases import legacy
from tests.training.networks import Regression as Net
from tests.training.networks import regression as net

RUNS, MOVES, SHARE = 4, 3, 4
X = np.random.default_rng(0).normal(size=(MOVES, RUNS, SHARE, 8)).astype("float32")


def trained(make: Callable[[], Any], runs: int) -> Net:
    """Train for a few moves on the same samples, fed in one run for each move or in several."""
    made, moving = net(), make()
    with made.guard():
        gt.minimize(moving, made.loss, accumulate=runs)
    made.initialise()
    for x in X:
        before = made.parameters()
        for share in np.split(x.reshape(-1, 8), runs):
            now = made.parameters()
            assert all(now[name].tobytes() == before[name].tobytes() for name in now)
            made.step(share)
        if hasattr(moving._learning_rate, "step"):
            moving._learning_rate.step()
    return made


def assert_alike(one: Net, other: Net) -> None:
    found, wanted = one.parameters(), other.parameters()
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.pir
@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizer.SGD(0.1),
        lambda: optimizer.Momentum(0.1, grad_clip=nn.ClipGradByGlobalNorm(0.1)),
        lambda: optimizer.AdamW(optimizer.lr.StepDecay(0.1, 1, 0.5), weight_decay=0.1),
    ],
)
@pytest.mark.slow
def test_several_runs_move_the_parameters_as_one_batch_of_all(make: Callable[[], Any]) -> None:
    one, several = trained(make, 1), trained(make, RUNS)

    assert_alike(several, one)
    untouched = net()
    untouched.initialise()
    assert all(
        (several.parameters()[name] != held).any() for name, held in untouched.parameters().items()
    )


@pytest.mark.slow
def test_a_legacy_program_adds_gradients_up_as_well() -> None:
    with legacy():
        one, several = (trained(lambda: optimizer.Momentum(0.1), runs) for runs in (1, RUNS))
        assert_alike(several, one)


@pytest.mark.pir
def test_only_what_is_named_learns_and_a_second_optimizer_is_refused() -> None:
    made = net()
    with made.guard():
        _, gradients = gt.minimize(
            optimizer.Adam(0.1), made.loss, parameters=["linear_1.w_0"], accumulate=2
        )
        with pytest.raises(gt.UsageError, match="GT231"):
            gt.minimize(optimizer.SGD(0.1), made.loss)
    assert [one.name for one, _ in gradients] == ["linear_1.w_0"]
    made.initialise()
    before = made.parameters()
    for _ in range(2):
        made.step(X[0, 0])
    moved = {name for name, held in made.parameters().items() if (held != before[name]).any()}
    assert moved == {"linear_1.w_0"}


class Image(nn.Layer):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, width), nn.BatchNorm1D(width), nn.ReLU())
        self.head = nn.Linear(width, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.body(x))


@pytest.mark.pir
@pytest.mark.slow
def test_what_comes_after_minimize_holds_for_a_program_that_adds_gradients_up(
    tmp_path: Path,
) -> None:
    paddle.disable_static()
    teacher = gt.from_layer(Image(8), [("x", (8,))], train=False)
    student = gt.from_layer(Image(4), [("x", (8,))])
    paddle.enable_static()
    scope, startup = paddle.static.Scope(), paddle.static.Program()
    merged, executor = gt.merge(teacher, student, {"x": "x"}, scope=scope), paddle.static.Executor()
    with paddle.static.program_guard(merged.program, startup), paddle.utils.unique_name.guard("a_"):
        loss = gt.distill_loss(merged, [(teacher.fetches[0], student.fetches[0])]).total
        gt.minimize(optimizer.Adam(0.01), loss, accumulate=3)
    executor.run(startup, scope=scope)
    for _ in range(4):
        executor.run(merged.program, {"x": X[0, 0]}, fetch_list=[loss], scope=scope)

    assert merged.verify({"x": X[0, 0]}).equal
    test, (answer,) = gt.for_test(merged)
    (wanted,) = executor.run(test, {"x": X[0, 0]}, fetch_list=[answer], scope=scope)
    gt.export_student(merged, tmp_path / "student")
    kinds = {one.kind for one in gt.read(tmp_path / "student.json").operators.values()}
    assert not kinds & {"if", "adam", "assign_out", "remainder"}
    with paddle.static.scope_guard(paddle.static.Scope()):
        program, feeds, fetches = paddle.static.load_inference_model(
            str(tmp_path / "student"), executor
        )
        (found,) = executor.run(program, {feeds[0]: X[0, 0]}, fetch_list=fetches)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.pir
@pytest.mark.slow
def test_a_program_built_again_in_the_same_process_takes_the_checkpoint(tmp_path: Path) -> None:
    made, moving = [net(), net()], [optimizer.Adam(0.1), optimizer.Adam(0.1)]
    for one, adam in zip(made, moving, strict=True):
        with one.guard():
            gt.minimize(adam, one.loss, accumulate=3)
        one.initialise()
    first, second = made
    for _ in range(4):
        first.step(X[0, 0])
    gt.save_checkpoint(tmp_path / "last", first.program, moving[0], step=4, scope=first.scope)
    gt.load_checkpoint(tmp_path / "last", second.program, moving[1], scope=second.scope)
    for one in made:
        before = one.parameters()
        moves = list[bool]()
        for _ in range(2):
            one.step(X[0, 1])
            moves.append(any((one.parameters()[name] != before[name]).any() for name in before))
        assert moves == [False, True]
    for name, held in first.parameters().items():
        assert held.tobytes() == second.parameters()[name].tobytes()


@pytest.mark.pir
def test_gradients_that_cannot_be_added_up_are_refused_before_anything_is_added() -> None:
    made = net()
    with made.guard():
        with pytest.raises(gt.UsageError, match=r"GT531.*`LookAhead` overrides `minimize`"):
            gt.minimize(incubated.LookAhead(optimizer.SGD(0.1)), made.loss, accumulate=2)
        ids = paddle.static.data("ids", [-1], "int64")
        sparse = nn.Embedding(5, 3, sparse=True)(ids).mean()
        operators = len(made.program.global_block().ops)
        with pytest.raises(gt.UsageError, match=r"GT531.*sparse gradients of `embedding_0`"):
            gt.minimize(optimizer.SGD(0.1), made.loss + sparse, accumulate=2)
        assert len(made.program.global_block().ops) == operators + 1
    with (
        pytest.raises(gt.UsageError, match=r"accumulate=4"),
        paddle.static.program_guard(made.program),
    ):
        gt.minimize(incubated.GradientMergeOptimizer(optimizer.SGD(0.1), 4), made.loss)
