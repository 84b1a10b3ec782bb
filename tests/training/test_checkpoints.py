"""Checkpoints: a resumed run is the uninterrupted one bit for bit; a bad file changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import msgspec
import numpy as np
import paddle
import pytest
from paddle import nn, optimizer
from paddle.optimizer import lr

import graphtool as gt
from graphtool.readers.tensor_files import Tensor, read_tensors, write_tensors
from graphtool.training.checkpoints import read_checkpoint, write_checkpoint
from tests.merging.networks import bytes_of
from tests.training.resuming import AFTER, BEFORE, CASES, Training, training

ROOT = Path(__file__).parent.parent.parent
MODULE = "tests.training.resuming"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, bytes]:
    path = tmp_path_factory.mktemp("original") / "checkpoint"
    made = training(CASES["adam, steps"])
    made.train(range(BEFORE))
    made.save_checkpoint(path, BEFORE)
    return made, path.read_bytes()


@pytest.fixture
def saved(original: tuple[Training, bytes], tmp_path: Path) -> tuple[Training, Path]:
    """Give a training that is somewhere else by now, or is not, and its checkpoint."""
    paddle.enable_static()
    made, data = original
    (tmp_path / "checkpoint").write_bytes(data)
    return made, tmp_path / "checkpoint"


def held(made: Training) -> tuple[Any, ...]:
    """Return all that loading may change: tensors, the schedule, the random state."""
    random = [str(state.__getstate__()) for state in paddle.get_rng_state()]
    rate = made.optimizer._learning_rate
    return (
        bytes_of(made.scope, made.names()),
        rate.state_dict() if isinstance(rate, lr.LRScheduler) else rate,
        random,
    )


def refusal(made: Training, path: Path) -> str:
    before = held(made)
    with pytest.raises(gt.GraphtoolError) as raised:
        made.load(path)
    assert held(made) == before
    return str(raised.value)


@pytest.mark.pir
@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("momentum", "legacy"),
        ("adamw, cosine", "pir"),
        pytest.param("sgd, warmup", "pir", marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_goes_on_bit_for_bit(case: str, kind: str, tmp_path: Path) -> None:
    whole = training(CASES[case], kind)
    whole.train(range(BEFORE))
    whole.save_checkpoint(tmp_path / "checkpoint", BEFORE)
    wanted = whole.train(range(BEFORE, BEFORE + AFTER))
    resumed = training(CASES[case], kind, seed=2)
    loaded = resumed.load(tmp_path / "checkpoint")
    assert (loaded.step, tuple(loaded.report)) == (BEFORE, ())
    assert resumed.train(range(BEFORE, BEFORE + AFTER)) == wanted
    assert len(set(wanted)) == AFTER


Runs = Callable[[str, str], dict[str, tuple[list[str], list[str]]]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Train all cases in one process and go on in another, once for each Python and kind."""

    @cache
    def run(interpreter: str, kind: str) -> dict[str, tuple[list[str], list[str]]]:
        folder = tmp_path_factory.mktemp("checkpoints")
        whole, resumed = (losses(interpreter, kind, folder, what) for what in ("save", "load"))
        return {case: (whole[case], resumed[case]) for case in CASES}

    return run


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pir", "legacy"])
@pytest.mark.parametrize("case", CASES)
def test_a_fresh_process_goes_on_bit_for_bit(case: str, kind: str, runs: Runs) -> None:
    assert_resumed(*runs(sys.executable, kind)[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_paddle_2_6_goes_on_bit_for_bit(case: str, runs: Runs, paddle26: str) -> None:
    assert_resumed(*runs(paddle26, "legacy")[case])


def assert_resumed(whole: list[str], resumed: list[str]) -> None:
    assert resumed == whole[BEFORE:]
    assert len(set(whole)) == BEFORE + AFTER


def losses(interpreter: str, kind: str, folder: Path, what: str) -> dict[str, list[str]]:
    done = subprocess.run(
        [interpreter, "-m", MODULE, kind, str(folder), what],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_saving_does_not_change_the_run(tmp_path: Path) -> None:
    wanted = training(CASES["momentum"]).train(range(BEFORE + AFTER))
    saving = training(CASES["momentum"])
    found = saving.train(range(BEFORE))
    saving.save_checkpoint(tmp_path / "checkpoint", BEFORE)
    assert found + saving.train(range(BEFORE, BEFORE + AFTER)) == wanted


@pytest.mark.pir
def test_the_file_holds_the_student_and_its_optimizer_and_no_teacher(
    saved: tuple[Training, Path],
) -> None:
    _, path = saved
    manifest, *tensors = read_tensors(path)
    keys = json.loads(manifest.array.tobytes())["keys"]
    parameters = ["linear_0.w_0", "linear_0.b_0", "linear_1.w_0", "linear_1.b_0"]
    parameters += ["batch_norm1d_0.w_0", "batch_norm1d_0.b_0"]
    kinds = ["moment1", "moment2", "beta1_pow_acc", "beta2_pow_acc"]
    moments = [f"{name}:{kind}" for name in parameters for kind in kinds]
    statistics = ["batch_norm1d_0.w_1", "batch_norm1d_0.w_2"]
    assert sorted(keys) == sorted([":learning_rate", *parameters, *moments, *statistics])
    by_key = dict(zip(keys, tensors, strict=True))
    assert by_key["linear_0.w_0"].shape == (8, 6)
    power = by_key["linear_0.w_0:beta1_pow_acc"].array
    np.testing.assert_allclose(power, [0.9 ** (BEFORE + 1)], rtol=1e-6)


@pytest.mark.pir
def test_a_later_checkpoint_takes_the_place_of_an_earlier_one(
    saved: tuple[Training, Path],
) -> None:
    made, path = saved
    made.train(range(BEFORE, BEFORE + 1))
    made.save_checkpoint(path, BEFORE + 1)
    assert made.load(path).step == BEFORE + 1
    assert [entry.name for entry in path.parent.iterdir()] == ["checkpoint"]


def test_master_weights_come_back_byte_for_byte(tmp_path: Path) -> None:
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        x = paddle.static.data("x", [-1, 8], "bfloat16")
        start = nn.initializer.Constant(0.3)
        weight = paddle.create_parameter([8], "bfloat16", "weight", default_initializer=start)
        made = optimizer.SGD(0.01, multi_precision=True)
        gt.minimize(made, (x * weight).astype("float32").mean())
    scope, executor = paddle.static.Scope(), paddle.static.Executor(paddle.CPUPlace())
    executor.run(startup, scope=scope)
    (name,) = (value.name for value in made._master_weights.values())
    master = scope.find_var(name).get_tensor()
    master.set(np.arange(8, dtype="float32") / 7, paddle.CPUPlace())
    gt.save_checkpoint(tmp_path / "c", main, made, step=1, scope=scope)
    executor.run(startup, scope=scope)
    loaded = gt.load_checkpoint(tmp_path / "c", main, made, scope=scope)
    assert {"weight", name} < set(loaded.loaded)
    np.testing.assert_array_equal(master, np.arange(8, dtype="float32") / 7)
    manifest, *tensors = read_tensors(tmp_path / "c")
    keys = json.loads(manifest.array.tobytes())["keys"]
    kinds = {key: tensor.dtype for key, tensor in zip(keys, tensors, strict=True)}
    assert (kinds["weight"], kinds["weight:master_weight"]) == ("bfloat16", "float32")


@pytest.mark.pir
def test_a_file_that_is_no_whole_checkpoint_is_refused(
    saved: tuple[Training, Path], tmp_path: Path
) -> None:
    made, path = saved
    data = path.read_bytes()
    for length in (0, 5, 100, 4000):
        path.write_bytes(data[:length])
        assert refusal(made, path).startswith(("error[GT240]", "error[GT621]"))
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "it has changed since it was written" in refusal(made, path)
    write_tensors(path, [Tensor(np.zeros(3, "float32"), "float32")])
    assert "does not start with a manifest" in refusal(made, path)
    paddle.save({"w": np.zeros(3, "float32")}, str(tmp_path / "net.pdparams"))
    pickled = refusal(made, tmp_path / "net.pdparams")
    assert pickled.startswith("error[GT621]")
    assert "help: gt.load_parameters(program, " in pickled
    assert refusal(made, tmp_path / "nothing").startswith("error[GT001]")


@pytest.mark.pir
@pytest.mark.parametrize("name", [".", "x" * 300, "/proc/self/mem", "mine"])
def test_a_file_that_the_system_does_not_read_is_a_diagnostic(
    saved: tuple[Training, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, path = saved
    path.with_name("mine").touch()
    if name == "mine":
        # Root reads what no one else may.
        error = PermissionError(13, "Permission denied", name)
        monkeypatch.setattr(Path, "open", Mock(side_effect=error))
    assert refusal(made, path.parent / name).startswith("error[GT010]")


def edited(path: Path, **changes: Any) -> None:
    manifest, *tensors = read_tensors(path)
    held = {**json.loads(manifest.array.tobytes()), **changes}
    spelt = np.frombuffer(json.dumps(held).encode(), "uint8")
    write_tensors(path, [Tensor(spelt, "uint8"), *tensors])


@pytest.mark.pir
@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"step": "three"},
        {"keys": ["linear_0.w_0"]},
        {"rates": {"last_epoch": 3}},
        {"digest": "0"},
        {"more": 1},
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    saved: tuple[Training, Path], changes: dict[str, Any]
) -> None:
    made, path = saved
    edited(path, **changes)
    assert refusal(made, path).startswith("error[GT621]")


@pytest.mark.pir
def test_another_release_and_other_generators_are_warned_of(saved: tuple[Training, Path]) -> None:
    made, path = saved
    manifest, tensors = read_checkpoint(path)
    was = msgspec.structs.replace(manifest, paddle="2.6.2", random=())
    write_checkpoint(path, was, tensors.values)
    random = held(made)[2]
    loaded = made.load(path)
    assert [found.code for found in loaded.report] == ["GT615", "GT615"]
    assert "random state: `of other generators` then, `cpu` now" in str(loaded.report)
    assert (loaded.step, held(made)[2]) == (BEFORE, random)


NOAM = lr.NoamDecay(64, 9)


@pytest.mark.pir
@pytest.mark.parametrize(
    ("was", "make", "network", "said"),
    [
        (
            CASES["adam, steps"],
            lambda: optimizer.Momentum(NOAM),
            {},
            ["GT623", "`Adam` and is `Momentum`", "GT623", "`StepDecay` and is `NoamDecay`"],
        ),
        (
            CASES["momentum"],
            lambda: optimizer.Momentum(NOAM, use_nesterov=True),
            {},
            ["GT623", "none and is `NoamDecay`", "help: paddle.optimizer.Momentum(0.05)"],
        ),
        (
            CASES["adam, steps"],
            CASES["adam, steps"],
            {"width": 5},
            ["GT624", "of another shape or dtype: `batch_norm1d_0.b_0`"],
        ),
        (
            CASES["adam, steps"],
            lambda: optimizer.SGD(lr.StepDecay(0.05, 2)),
            {"norm": False},
            ["GT623", "`Adam` and is `SGD` now", "help: paddle.optimizer.Adam(...)"],
        ),
        (
            CASES["momentum"],
            CASES["momentum"],
            {"norm": False},
            ["GT624", "does not fit the Program: 6 not in the Program"],
        ),
    ],
)
def test_another_optimizer_schedule_or_network_is_refused(
    was: Any, make: Any, network: dict[str, Any], said: list[str], tmp_path: Path
) -> None:
    training(was).save_checkpoint(tmp_path / "checkpoint", 0)
    found = refusal(training(make, **network), tmp_path / "checkpoint")
    assert found.count("error[") == sum(one.startswith("GT") for one in said)
    assert all(one in found for one in said)


@pytest.mark.pir
def test_another_teacher_is_noticed(saved: tuple[Training, Path]) -> None:
    made, path = saved
    weight = made.scope.find_var("teacher_linear_0.w_0").get_tensor()
    before = np.array(weight)
    weight.set(before + 1, paddle.CPUPlace())
    said = refusal(made, path)
    weight.set(before, paddle.CPUPlace())
    assert made.load(path).step == BEFORE
    assert said.startswith(
        "error[GT624] other-program-state: teacher 1 was `<Program>` with weights "
    )


@pytest.mark.pir
def test_a_network_without_dropout_is_loaded_with_a_warning(saved: tuple[Training, Path]) -> None:
    _, path = saved
    report = training(CASES["adam, steps"], drop=False).load(path).report
    assert [found.code for found in report] == ["GT624"]
    assert "`-1 pd_op.dropout`" in str(report)


@pytest.mark.pir
@pytest.mark.parametrize("kind", ["pir", pytest.param("legacy", marks=pytest.mark.slow)])
def test_another_learning_rate_is_used_and_said(kind: str, tmp_path: Path) -> None:
    whole = training(lambda: optimizer.SGD(0.05), kind)
    whole.train(range(BEFORE))
    whole.save_checkpoint(tmp_path / "checkpoint", BEFORE)
    before = held(whole)[0]
    resumed = training(lambda: optimizer.SGD(0.1), kind, seed=2)
    # What Paddle's own `set_lr` does: the Program goes on with 0.1, and is to know.
    resumed.optimizer._learning_rate = 0.0
    (said,) = resumed.load(tmp_path / "checkpoint").report
    assert (said.code, said.help) == ("GT623", "paddle.optimizer.SGD(0.05)")
    assert said.message == "the learning rate was `0.05` and is `0` now: `0` is used"
    resumed.train(range(BEFORE, BEFORE + 1))
    assert resumed.optimizer.get_lr() == np.array(rate_of(resumed)) == 0.0
    after = bytes_of(resumed.scope, resumed.names())
    names = {"linear_0.w_0", "linear_1.w_0"}
    assert {name for name in names if after[name] == before[name]} == names


@pytest.mark.pir
def test_a_rate_that_was_set_in_the_scope_comes_back_with_the_rest(tmp_path: Path) -> None:
    """The script is the same: what the run had come to is what goes on."""
    whole = training(CASES["momentum"])
    rate_of(whole).set(np.float32(0.01), paddle.CPUPlace())
    whole.save_checkpoint(tmp_path / "checkpoint", 0)
    resumed = training(CASES["momentum"], seed=2)
    assert tuple(resumed.load(tmp_path / "checkpoint").report) == ()
    assert np.array(rate_of(resumed)) == np.float32(0.01)


def rate_of(made: Training) -> Any:
    (name,) = (name for name in made.names() if name.startswith("learning_rate"))
    return made.scope.find_var(name).get_tensor()


@pytest.mark.pir
def test_an_optimizer_that_has_not_minimized_is_refused(saved: tuple[Training, Path]) -> None:
    made, path = saved
    for call, options in ((gt.save_checkpoint, {"step": 1}), (gt.load_checkpoint, {})):
        with pytest.raises(gt.GraphtoolError, match=r"GT248.*<Adam>.*that minimized"):
            call(path, made.merged, optimizer.Adam(0.1), scope=made.scope, **options)
        with pytest.raises(gt.UsageError, match=r"GT248.*`optimizer` is `None`"):
            call(path, made.merged, None, scope=made.scope, **options)


def test_what_holds_nothing_is_not_saved(tmp_path: Path) -> None:
    paddle.enable_static()
    main, startup = paddle.static.Program(), paddle.static.Program()
    made = optimizer.SGD(0.1)
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        gt.minimize(made, nn.Linear(8, 5)(paddle.static.data("x", [-1, 8])).mean())
    with pytest.raises(gt.GraphtoolError, match="GT235"):
        gt.save_checkpoint(tmp_path / "c", main, made, step=0, scope=paddle.static.Scope())
    assert not (tmp_path / "c").exists()


@pytest.mark.pir
def test_a_place_that_cannot_be_written_is_refused(saved: tuple[Training, Path]) -> None:
    made, path = saved
    with pytest.raises(gt.GraphtoolError, match="GT601"):
        made.save_checkpoint(path / "below", BEFORE)
