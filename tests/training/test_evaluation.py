"""`for_test`: what the fetches need, in test mode everywhere, and nothing that trains."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import _C_ops, nn
from paddle.nn import functional as F  # noqa: N812

import graphtool as gt
from tests.merging.networks import array_in, run
from tests.training import legacy
from tests.training.networks import FEED as IMAGES
from tests.training.networks import IMAGE, Distilled, Net

ROOT = Path(__file__).parents[2]
FEED = {"image": IMAGES["image"], "label": np.array([[0], [1], [2], [3]])}


def network(*, train: bool) -> Any:
    return gt.from_layer(Net, [IMAGE], train=train)


class Training:
    """A network with a loss, an accuracy and, unless it is left away, everything that minimizes."""

    def __init__(self, net: Any, *, minimized: bool = True) -> None:
        paddle.enable_static()
        self.net, self.scope = net, paddle.static.Scope()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        with paddle.static.program_guard(net.program, net.startup):
            label = paddle.static.data("label", [-1, 1], "int64")
            self.logits = net.live.value(net.fetches[0])
            self.loss = F.cross_entropy(self.logits, label).mean()
            if minimized:
                rate = paddle.optimizer.lr.StepDecay(0.1, 1)
                paddle.optimizer.Adam(
                    rate, weight_decay=1e-3, grad_clip=nn.ClipGradByGlobalNorm(1.0)
                ).minimize(self.loss)
            self.accuracy = paddle.static.accuracy(F.softmax(self.logits), label)
        with paddle.static.scope_guard(self.scope):
            self.executor.run(net.startup)

    def run(self, program: Any, *fetch: Any) -> list[Any]:
        feed = {name: FEED[name] for name in _feeds(program)}
        # Paddle 3.3 looks for the learning rate in the global Scope, whatever `scope` it is given.
        with paddle.static.scope_guard(self.scope):
            return self.executor.run(program, feed=feed, fetch_list=list(fetch))

    def state(self) -> dict[str, bytes]:
        """Return what the Program keeps between runs: parameters, statistics, Adam's moments."""
        values = gt.read(self.net.program).values.values()
        return {
            value.name: array_in(self.scope, value.name).tobytes()
            for value in values
            if value.persistable
        }


def _feeds(program: Any) -> tuple[str, ...]:
    return gt.read(program).feeds


def types(program: Any) -> list[str]:
    return [operator.type for operator in gt.read(program).operators.values()]


@pytest.fixture(scope="module")
def trained() -> Training:
    """A network that has made a step of Adam."""
    training = Training(network(train=True))
    training.run(training.net.program, training.loss)
    return training


@pytest.mark.slow
def test_a_trained_network_evaluates_bit_for_bit_as_one_built_for_evaluation(
    trained: Training,
) -> None:
    alone = network(train=False)
    paddle.enable_static()
    (want,) = trained.run(alone.program, alone.live.value(alone.fetches[0]))

    test, (logits, accuracy) = gt.for_test(
        trained.net.program, fetch=[trained.logits, trained.accuracy]
    )
    got, share = trained.run(test, logits, accuracy)

    assert want.tobytes() == got.tobytes()
    assert np.isfinite(want).all()
    assert want.std() > 0
    assert float(share) == np.mean(want.argmax(1) == FEED["label"].ravel()).astype("float32")


@pytest.mark.pir
@pytest.mark.slow
def test_it_has_the_operators_of_a_network_built_for_evaluation_and_no_others(
    trained: Training,
) -> None:
    paddle.enable_static()
    before = str(trained.net.program)
    test, _ = made = gt.for_test(trained.net.program, fetch=[trained.logits])
    alone, _ = gt.for_test(network(train=False))

    assert str(trained.net.program) == before
    assert made.feeds == ("image",)
    bare = [[kind.rstrip("_") for kind in types(program)] for program in (test, alone)]
    assert bare[0] == bare[1]
    operators = gt.read(test).operators.values()
    modes = [op.attributes["is_test"] for op in operators if "is_test" in op.attributes]
    assert modes == [True] * 7


@pytest.mark.pir
@pytest.mark.slow
def test_running_it_changes_no_variable_and_evaluates_what_has_been_learnt_since(
    trained: Training,
) -> None:
    paddle.enable_static()
    test, fetches = gt.for_test(
        trained.net.program, fetch=[trained.loss, trained.logits, trained.accuracy]
    )
    before = trained.state()

    first, second = (trained.run(test, *fetches) for _ in range(2))

    assert trained.state() == before
    assert {"batch_norm2d_1.w_1", "conv2d_0.w_0_moment1_0"} <= before.keys()
    assert [array.tobytes() for array in first] == [array.tobytes() for array in second]
    trained.run(trained.net.program, trained.loss)
    assert not np.array_equal(trained.run(test, *fetches)[1], second[1])


@pytest.mark.slow
def test_before_and_after_minimize_it_is_the_same_program(trained: Training) -> None:
    plain = Training(network(train=True), minimized=False)
    first, second = (
        gt.for_test(training.net.program, fetch=[training.loss, training.accuracy]).program
        for training in (plain, trained)
    )

    assert types(first) == types(second)
    assert set(_feeds(first)) == {"image", "label"}


@pytest.mark.pir
def test_a_network_is_evaluated_for_what_it_answers_unless_told(trained: Training) -> None:
    paddle.enable_static()
    _, (one,) = made = gt.for_test(trained.net)
    test, (other,) = gt.for_test(trained.net.program, fetch=["linear_0.tmp_1", trained.loss][1:])

    assert one.shape == [-1, 5]
    assert trained.run(made.program, one)[0].shape == (4, 5)
    assert trained.run(test, other)[0].shape == ()


def test_a_write_in_place_is_kept_with_what_it_writes() -> None:
    paddle.enable_static()
    main = paddle.static.Program()
    with paddle.static.program_guard(main, paddle.static.Program()):
        x = paddle.static.data("x", [2, 3])
        y = x * 2
        paddle.assign(x + 40, output=y)
        z = y + 1
    test, fetches = gt.for_test(main, fetch=[z, y])

    got = paddle.static.Executor().run(
        test, feed={"x": np.ones([2, 3], "float32")}, fetch_list=list(fetches)
    )

    assert [array.ravel()[0] for array in got] == [42.0, 41.0]


@pytest.fixture(scope="module")
def distilled() -> Distilled:
    return Distilled(network(train=True))


@pytest.mark.slow
def test_names_of_a_merged_program_and_its_clone_go_to_the_teacher_or_the_student(
    distilled: Distilled,
) -> None:
    paddle.enable_static()
    merged, clone = distilled.merged, distilled.merged.program.clone()
    names = ["teacher_relu_0", "relu_0", "teacher_mean_0"]

    def fetched(program: Any, fetches: Any) -> list[Any]:
        return run(program, distilled.scope, IMAGES, *fetches)

    every = [*names, distilled.adapted, distilled.loss]
    theirs, ours, wanted, adapted, loss = fetched(*gt.for_test(merged.program, fetch=every))
    assert (theirs.shape, ours.shape) == ((4, 16, 6, 6), (4, 6, 6, 6))
    assert np.isclose(np.square(adapted - wanted).mean(), loss, rtol=1e-5)
    again = fetched(*gt.for_test(clone, fetch=names))
    assert all(map(np.array_equal, again, [theirs, ours, wanted]))


@pytest.mark.pir
def test_under_an_empty_prefix_names_go_to_the_student() -> None:
    paddle.enable_static()
    (teacher, _), (student, answer) = (answering(feed) for feed in ("there", "here"))
    merged = gt.merge(teacher, student, {"there": "here"}, name_prefix="", parameters="later")

    made = gt.for_test(merged, fetch=["tanh_0"])

    assert gt.for_test(merged, fetch=[answer]).names == made.names
    assert [value.name for value in gt.read(made.program).parameters] == ["here_here_linear_0.w_0"]


def answering(feed: str) -> tuple[Any, Any]:
    program = paddle.static.Program()
    names = paddle.utils.unique_name.guard(f"{feed}_")
    with paddle.static.program_guard(program, paddle.static.Program()), names:
        linear = nn.Linear(4, 3, bias_attr=False)
        return program, paddle.tanh(linear(paddle.static.data(feed, [-1, 4])))


@pytest.mark.pir
def test_a_program_for_test_knows_nothing_of_merges_whose_names_have_moved(
    distilled: Distilled,
) -> None:
    test, _ = gt.for_test(distilled.merged, fetch=["relu_0", "teacher_relu_0"])
    assert code(lambda: gt.for_test(test, fetch=["teacher_relu_3"])) == "GT101"


@pytest.mark.pir
def test_the_student_alone_is_evaluated_without_the_teacher(distilled: Distilled) -> None:
    made = gt.for_test(distilled.merged)
    names = [value.name for value in gt.read(made.program).parameters]
    assert names
    assert not [name for name in names if name.startswith("teacher_")]
    assert types(made.program) == types(gt.for_test(distilled.student).program)


def code(call: Any) -> str:
    with pytest.raises(gt.GraphtoolError) as raised:
        call()
    return raised.value.report.errors[0].code


@pytest.mark.pir
@pytest.mark.slow
def test_what_cannot_be_fetched_is_said(trained: Training) -> None:
    paddle.enable_static()
    program, graph = trained.net.program, gt.read(trained.net.program)
    gradient = next(op.results[0] for op in graph.operators.values() if op.kind == "conv2d_grad")
    inside = next(op.results[0] for op in graph.operators.values() if op.block.startswith("if_"))
    other = network(train=False)

    def refused(**fetch: Any) -> str:
        return code(lambda: gt.for_test(program, **fetch))

    not_fetchable = [other.live.value(other.fetches[0]), 3, gradient, inside]
    assert refused() == "GT253"
    assert [refused(fetch=[one]) for one in not_fetchable] == ["GT253"] * 4
    assert refused(fetch=["relu_100"]) == "GT101"


@pytest.mark.slow
def test_a_value_whose_program_died_is_refused_without_a_crash() -> None:
    script = """
import gc, paddle, graphtool as gt
paddle.enable_static()
def built():
    main = paddle.static.Program()
    with paddle.static.program_guard(main, paddle.static.Program()):
        return main, paddle.static.data("x", [2, 3]) * 2
main, y = built()
_, dead = built()
gc.collect()
try:
    gt.for_test(main, fetch=[y, dead])
except gt.GraphtoolError as error:
    print(*[found.code for found in error.report])
"""
    done = subprocess.run(
        [os.sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.stdout.split() == ["GT253"], done.stderr


@pytest.mark.pir
def test_random_operators_without_a_test_mode_are_reported() -> None:
    net = gt.from_layer(
        lambda: nn.Sequential(nn.Conv2D(3, 4, 3), nn.Dropout2D(0.5)), [(3, 8, 8)], train=True
    )
    paddle.enable_static()
    program = paddle.static.Program()
    with paddle.static.program_guard(program, paddle.static.Program()):
        image = paddle.static.data("image", [2, 3])
        drawn: Any = _C_ops.uniform_inplace_(image * 2, -1.0, 1.0, 0, 0, 0, 1.0)
    for source, fetch, name in ((net, None, "uniform_0"), (program, [drawn], "uniform_inplace_0")):
        with pytest.warns(UserWarning, match="GT226"):
            (found,) = gt.for_test(source, fetch=fetch).report
        assert found.message == f"1 operator random in test mode: `{name}`"


@pytest.mark.slow
def test_legacy_programs_are_evaluated_alike() -> None:
    assert legacy.evaluated() == legacy.EVALUATED


@pytest.mark.slow
def test_paddle_2_6_evaluates_alike_with_branch_and_loop(on_paddle26: Callable[..., str]) -> None:
    assert json.loads(on_paddle26("tests.training.legacy", "evaluated")) == legacy.EVALUATED


def test_an_evaluation_is_shown_in_one_line() -> None:
    made = gt.for_test(gt.from_layer(lambda: nn.Linear(4, 2), [("x", (4,))]))
    assert repr(made) == f"Evaluation({made.live.graph!r}; 0 diagnostics)"
    assert len(repr(made).splitlines()) == 1
