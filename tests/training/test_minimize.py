"""`minimize` on one process: what trains, and what is refused with the Program as it was."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import paddle
import pytest
from inline_snapshot import snapshot
from paddle import nn, optimizer
from paddle.incubate import optimizer as incubated

import graphtool as gt
from tests.training.networks import SAMPLES as X
from tests.training.networks import Regression as Net
from tests.training.networks import regression as net


@pytest.fixture
def built() -> Iterator[Net]:
    made = net()
    with made.guard():
        yield made


def refusal(made: Net, *arguments: Any, **options: Any) -> str:
    """Return what a call is refused with; it must leave both Programs as they were."""
    before = made.types()
    with pytest.raises(gt.UsageError) as raised:
        gt.minimize(*arguments, **options)
    assert made.types() == before
    return str(raised.value)


def codes(said: str) -> list[str]:
    return [line[6:11] for line in said.splitlines() if line.startswith("error[")]


@pytest.mark.pir
@pytest.mark.parametrize(
    "make",
    [
        lambda: optimizer.SGD(0.1),
        lambda: optimizer.Momentum(0.1, grad_clip=nn.ClipGradByGlobalNorm(0.1)),
        lambda: optimizer.AdamW(optimizer.lr.CosineAnnealingDecay(0.1, 4), weight_decay=0.1),
        pytest.param(lambda: optimizer.Lamb(0.01), marks=pytest.mark.slow),
        lambda: incubated.LookAhead(optimizer.SGD(0.1)),
    ],
)
def test_one_process_trains_as_the_optimizer_s_own_minimize(make: Any) -> None:
    ours, theirs = net(), net()
    with ours.guard():
        _, gradients = gt.minimize(make(), ours.loss)
    with theirs.guard():
        make().minimize(theirs.loss)
    assert sorted(parameter.name for parameter, _ in gradients) == [
        "linear_0.b_0",
        "linear_0.w_0",
        "linear_1.b_0",
        "linear_1.w_0",
    ]
    losses = ours.losses()
    assert losses == theirs.losses()
    assert len(set(losses)) == 4


def test_gradients_are_clipped_by_value(built: Net) -> None:
    clip = nn.ClipGradByValue(0.01, -0.02)
    _, gradients = gt.minimize(optimizer.SGD(1.0, grad_clip=clip), built.loss)
    built.initialise()
    before = parameters(built, gradients)
    found = built.run({"x": X}, *(gradient for _, gradient in gradients))
    after = parameters(built, gradients)
    assert max(np.abs(gradient).max() for gradient in found) > 0.02
    for old, new, gradient in zip(before, after, found, strict=True):
        np.testing.assert_allclose(old - new, np.clip(gradient, -0.02, 0.01), atol=1e-6)


def parameters(made: Net, gradients: Any) -> list[Any]:
    return [made.held(parameter.name) for parameter, _ in gradients]


@pytest.mark.pir
@pytest.mark.parametrize("by", ["name", "Value"])
def test_only_the_parameters_that_are_named_learn(built: Net, by: str) -> None:
    weight = next(one for one in built.program.global_block().all_parameters() if "1.w" in one.name)
    chosen = weight.name if by == "name" else weight
    _, gradients = gt.minimize(optimizer.SGD(0.1), built.loss, parameters=[chosen])
    assert [parameter.name for parameter, _ in gradients] == ["linear_1.w_0"]


@pytest.mark.pir
def test_two_optimizers_may_move_parameters_of_their_own(built: Net) -> None:
    gt.minimize(optimizer.SGD(0.1), built.loss, parameters=["linear_0.w_0", "linear_0.b_0"])
    gt.minimize(optimizer.SGD(0.1), built.loss, parameters=["linear_1.w_0"])
    updates = [name for name in built.types() if name == "pd_op.sgd_"]
    assert len(updates) == 3


@pytest.mark.pir
@pytest.mark.parametrize(
    ("arguments", "options", "code", "words"),
    [
        (lambda made: [made.hidden], {}, "GT532", "`relu_0`, is not one number of floating point"),
        (lambda made: [made.loss.astype("int64")], {}, "GT532", "is not one number"),
        (lambda made: [made.loss, made.program], {}, "GT248", "`startup_program` is"),
        (lambda made: [made.loss], {"parameters": ["linear_7.w_0"]}, "GT534", "`linear_7.w_0` is"),
    ],
)
def test_what_is_no_loss_no_startup_program_or_no_parameter_is_refused(
    built: Net, arguments: Any, options: dict[str, Any], code: str, words: str
) -> None:
    said = refusal(built, optimizer.SGD(0.1), *arguments(built), **options)
    assert code in codes(said)
    assert words in said


@pytest.mark.pir
def test_a_second_minimize_is_refused(built: Net) -> None:
    gt.minimize(optimizer.Adam(0.1), built.loss, parameters=["linear_1.w_0"])
    said = refusal(built, optimizer.SGD(0.1), built.loss)
    assert codes(said) == ["GT231"]
    assert "already updates 1 parameter: `linear_1.w_0`\n  --> optimizer  adam_0" in said


@pytest.mark.pir
def test_a_loss_that_reaches_no_parameter_is_refused(built: Net) -> None:
    detached = built.hidden.detach().mean()
    assert refusal(built, optimizer.SGD(0.1), detached) == snapshot("""\
error[GT535] nothing-learns: the gradient of the loss, `mean_1`, reaches no parameter to train
  = note: trainable: `linear_0.b_0`, `linear_0.w_0`, `linear_1.b_0`, `linear_1.w_0`
  = help: add a loss on a Value of the student: merged.student(name)\
""")


@pytest.mark.pir
def test_a_loss_on_the_teacher_alone_is_refused() -> None:
    teacher, student = net(), net()
    merged = gt.merge(teacher.program, student.program, {"x": "x"}, parameters="later")
    with student.guard():
        said = refusal(student, optimizer.SGD(0.1), merged.teacher("relu_0").mean())
        frozen = ["teacher_linear_0.w_0"]
        alone = refusal(student, optimizer.SGD(0.1), student.loss, parameters=frozen)
        _, gradients = gt.minimize(optimizer.SGD(0.1), student.loss)
    assert codes(said) == ["GT535"]
    assert "= note: frozen: `teacher_linear_0.w_0`\n" in alone
    assert not [one for one, _ in gradients if one.name.startswith("teacher_")]


@pytest.mark.pir
@pytest.mark.usefixtures("built")
def test_a_loss_of_another_program_is_refused_with_its_startup_program_too() -> None:
    other = net()
    for startup in ([], [other.startup]):
        said = refusal(other, optimizer.SGD(0.1), other.loss, *startup)
        assert codes(said) == ["GT340"]
        assert "program_guard(merged.program, startup): gt.minimize(optimizer, loss)" in said


@pytest.mark.pir
def test_a_number_and_a_string_are_refused_together(built: Net) -> None:
    said = refusal(built, 3, "loss")
    assert codes(said) == ["GT248", "GT532"]
    assert "`optimizer` is `3`" in said
    assert "`str`, is not a Value of a static Program" in said


@pytest.mark.pir
@pytest.mark.slow
def test_of_what_distill_loss_returns_the_total_is_asked_for() -> None:
    teacher, student = net(), net()
    merged = gt.merge(teacher.program, student.program, {"x": "x"}, parameters="later")
    with student.guard():
        pairs = gt.suggest_pairs(merged.plan.teacher, merged.plan.student)
        made = gt.distill_loss(merged, pairs)
        said = refusal(student, optimizer.SGD(0.1), made)
        gt.minimize(optimizer.SGD(0.1), made.total)
    assert codes(said) == ["GT532"]
    assert said.endswith("help: gt.minimize(optimizer, loss.total)")


@pytest.mark.pir
def test_what_gets_no_gradient_may_be_named(built: Net) -> None:
    before = built.types()
    with pytest.raises(gt.ReadError, match=r"linear_7\.w_0"):
        gt.minimize(optimizer.SGD(0.1), built.loss, no_grad_set={"linear_7.w_0"})
    assert built.types() == before
    names = {"linear_0.w_0", "linear_0.b_0"}
    _, gradients = gt.minimize(optimizer.SGD(0.1), built.loss, no_grad_set=names)
    assert sorted(one.name for one, _ in gradients) == ["linear_1.b_0", "linear_1.w_0"]


@pytest.mark.pir
def test_in_dynamic_mode_the_static_one_is_asked_for(built: Net) -> None:
    paddle.disable_static()
    layer = nn.Linear(8, 5)
    made = optimizer.SGD(0.1, parameters=layer.parameters())
    for loss in (layer(paddle.ones([4, 8])).mean(), built.loss):
        assert codes(refusal(built, made, loss)) == ["GT352"]
    paddle.enable_static()


@pytest.mark.pir
def test_parameters_that_the_program_has_not_are_refused(built: Net) -> None:
    paddle.disable_static()
    made = optimizer.SGD(0.1, parameters=nn.Linear(8, 5).parameters())
    paddle.enable_static()
    with built.guard():
        said = refusal(built, made, built.loss)
        assert codes(said) == ["GT534", "GT534"]
        assert "is a parameter of the dynamic graph" in said


@pytest.mark.pir
@pytest.mark.slow
def test_an_optimizer_with_state_in_another_program_is_refused() -> None:
    """Paddle would let this Program read that one's moments, and end the process later."""
    first, second = net(), net()
    adam = optimizer.Adam(0.1)
    with first.guard():
        gt.minimize(adam, first.loss)
    with second.guard():
        said = refusal(second, adam, second.loss)
        assert codes(said) == ["GT531"]
        assert "`Adam` has its state in another Program" in said
        gt.minimize(optimizer.Adam(0.1), second.loss)
    assert len(set(second.losses())) == 4


@pytest.mark.pir
@pytest.mark.slow
def test_an_optimizer_that_keeps_nothing_trains_two_programs() -> None:
    first, second, plain = net(), net(), optimizer.SGD(0.1)
    for made in (first, second):
        with made.guard():
            gt.minimize(plain, made.loss)
    assert len(set(first.losses())) == 4
    assert first.losses() == second.losses()


@pytest.mark.pir
@pytest.mark.parametrize(
    "make",
    [
        lambda: incubated.GradientMergeOptimizer(optimizer.SGD(0.1), 2),
        lambda: incubated.RecomputeOptimizer(optimizer.SGD(0.1)),
        lambda: incubated.PipelineOptimizer(optimizer.SGD(0.1)),
        lambda: paddle.distributed.fleet.distributed_optimizer(optimizer.SGD(0.1)),
        lambda: paddle.static.amp.decorate(optimizer.SGD(0.1)),
    ],
)
def test_what_paddle_cannot_do_under_pir_is_refused_with_what_works(built: Net, make: Any) -> None:
    said = refusal(built, make(), built.loss)
    assert codes(said) == ["GT531"]
    assert "help: gt.minimize(optimizer, loss" in said or "help: with paddle.amp.auto_cast" in said


@pytest.mark.pir
def test_networks_built_under_auto_cast_compute_in_low_precision() -> None:
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        with paddle.amp.auto_cast(dtype="bfloat16"):
            loss = nn.Linear(8, 5)(paddle.static.data("x", [-1, 8])).astype("float32").mean()
        gt.minimize(optimizer.SGD(0.1), loss)
    casts = [op for op in main.global_block().ops if op.name() == "pd_op.cast"]
    low = [op for op in casts if op.result(0).dtype == paddle.bfloat16]
    assert len(low) >= 2


@pytest.fixture
def legacy() -> Iterator[Net]:
    made = net("legacy")
    with made.guard():
        yield made


@pytest.mark.pir
@pytest.mark.slow
def test_a_legacy_program_trains_as_by_the_optimizer_s_own_minimize(legacy: Net) -> None:
    theirs = net("legacy")
    _, gradients = gt.minimize(optimizer.Adam(0.1), legacy.loss)
    with theirs.guard():
        optimizer.Adam(0.1).minimize(theirs.loss)
    names = [parameter.name for parameter, _ in gradients]
    assert names == ["fc_0.w_0", "fc_0.b_0", "fc_1.w_0", "fc_1.b_0"]
    losses = legacy.losses()
    assert losses == theirs.losses()
    assert len(set(losses)) == 4


@pytest.mark.pir
def test_a_legacy_program_is_looked_at_as_well(legacy: Net) -> None:
    gt.minimize(optimizer.SGD(0.1), legacy.loss)
    before = [op.type for op in legacy.program.global_block().ops]
    with pytest.raises(gt.UsageError) as again:
        gt.minimize(optimizer.SGD(0.1), legacy.loss)
    with pytest.raises(gt.UsageError) as unreached:
        gt.minimize(optimizer.SGD(0.1), legacy.program.global_block().var("x"))
    assert codes(str(again.value)) == ["GT231"]
    assert codes(str(unreached.value)) == ["GT532", "GT535"]
    assert [op.type for op in legacy.program.global_block().ops] == before


@pytest.mark.pir
def test_mixed_precision_that_does_not_act_is_warned_of(legacy: Net) -> None:
    """On CPU no operator computes in float16, so the decorated optimizer casts nothing."""
    decorated = paddle.static.amp.decorate(optimizer.SGD(0.1))
    with pytest.warns(UserWarning, match="GT539.*has inserted no cast to float16 or bfloat16"):
        gt.minimize(decorated, legacy.loss)


@pytest.mark.pir
def test_mixed_precision_that_acts_is_not_warned_of(legacy: Net) -> None:
    decorated = paddle.static.amp.bf16.decorate_bf16(optimizer.SGD(0.1))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*GT539")
        gt.minimize(decorated, legacy.loss)
    assert "cast" in [op.type for op in legacy.program.global_block().ops]


_FLEET = """
import numpy as np, paddle
import graphtool as gt
from paddle.distributed import fleet

def trained(wrap):
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup):
        x = paddle.static.data("x", [-1, 4])
        half = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(0.5))
        loss = paddle.mean(paddle.square(paddle.nn.Linear(4, 1, weight_attr=half)(x)))
        gt.minimize(wrap(paddle.optimizer.SGD(0.01)), loss)
    executor = paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup)
    feed = {"x": np.ones([8, 4], "float32")}
    return [float(np.ravel(executor.run(main, feed, [loss])[0])[0]) for _ in range(3)]

paddle.enable_static()
with paddle.pir_utils.OldIrGuard():
    fleet.init(is_collective=True)
    print(trained(lambda plain: fleet.distributed_optimizer(plain, fleet.DistributedStrategy())))
    print(trained(lambda plain: plain))
"""


@pytest.mark.slow
def test_fleet_trains_a_legacy_program_as_the_plain_optimizer_does() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FLEET], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    fleets, plain = map(json.loads, done.stdout.splitlines()[-2:])
    assert fleets == plain
    assert plain[0] == 4.0
    assert plain[1] == pytest.approx((2 - 0.01 * 4 * 4 - 0.01 * 4) ** 2)
