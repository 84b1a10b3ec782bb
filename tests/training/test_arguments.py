"""What no argument may be is a diagnostic of its own, whatever was given: nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn, optimizer

import graphtool as gt

CALLS: dict[str, Callable[..., Any]] = {
    "export": gt.export_student,
    "load": gt.load_parameters,
    "load checkpoint": gt.load_checkpoint,
    "minimize": gt.minimize,
    "save checkpoint": gt.save_checkpoint,
    "test": gt.for_test,
    "training": gt.for_training,
}
# Of no argument a value, whatever it may stand for.
NOTHING = [object(), object, -1.5, b"x", {3}, [None], [3], np.zeros(3), lambda: 1, nn.Linear]
# What else an argument may not be.
WRONG: dict[tuple[str, str], list[Any]] = {
    ("export", "student"): [None, "student"],
    ("export", "path"): [None, "", "a\0b", "\ud800"],
    ("export", "fetch"): [[], "relu_0", ()],
    ("export", "layer"): ["net"],
    ("export", "scope"): ["scope"],
    ("load", "program"): [None, "net"],
    ("load", "folder_or_file"): [None, "", "a\0b"],
    ("load", "layer"): ["net"],
    ("load", "scope"): ["scope"],
    ("load checkpoint", "path"): [None, "", "a\0b"],
    ("load checkpoint", "program"): [None, "net"],
    ("load checkpoint", "optimizer"): [None, optimizer.SGD],
    ("load checkpoint", "scope"): ["scope"],
    ("minimize", "optimizer"): [None, optimizer.SGD, paddle.amp.GradScaler],
    ("minimize", "loss"): [None, "loss"],
    ("minimize", "startup_program"): ["startup"],
    ("minimize", "parameters"): [[], "linear_0.w_0", (name for name in ["linear_0.w_0"])],
    ("minimize", "no_grad_set"): ["linear_0.w_0"],
    ("minimize", "accumulate"): [None, 0, -1, 2.0, True, "4"],
    ("save checkpoint", "path"): [None, "", "a\0b"],
    ("save checkpoint", "program"): [None, "net"],
    ("save checkpoint", "optimizer"): [None, optimizer.SGD],
    ("save checkpoint", "step"): [None, -1, True, "3"],
    ("save checkpoint", "scope"): ["scope"],
    ("test", "program"): [None, "net"],
    ("test", "fetch"): [[], "linear_0"],
    ("training", "inference_program"): [None, ""],
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Return what each call takes, for a Program that has made a step."""
    folder = tmp_path_factory.mktemp("arguments")
    main, loss, made = trained()
    gt.save_checkpoint(folder / "step", main, made, step=1)
    gt.export_student(main, folder / "net", fetch=[loss])
    training = {"path": folder / "step", "program": main, "optimizer": made}
    return {
        "export": {"student": main, "path": folder / "net", "fetch": [loss]},
        "load": {"program": main, "folder_or_file": folder / "net.pdparams"},
        "load checkpoint": training,
        "save checkpoint": {**training, "step": 1},
        "test": {"program": main, "fetch": [loss]},
        "training": {"inference_program": folder / "net.json"},
    }


def network() -> tuple[Any, Any, Any]:
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        return main, startup, nn.Linear(4, 3)(paddle.static.data("x", [-1, 4])).mean()


def trained() -> tuple[Any, Any, Any]:
    paddle.enable_static()
    (main, startup, loss), made = network(), optimizer.SGD(0.1)
    with paddle.static.program_guard(main, startup):
        gt.minimize(made, loss)
    paddle.static.Executor().run(startup)
    return main, loss, made


@pytest.fixture(params=["pir", "legacy"])
def minimizing(request: pytest.FixtureRequest) -> Iterator[tuple[Any, dict[str, Any]]]:
    paddle.enable_static()
    with paddle.pir_utils.OldIrGuard() if request.param == "legacy" else nullcontext():
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
            x = paddle.static.data("x", [-1, 4])
            y = paddle.static.nn.fc(x, 3) if request.param == "legacy" else nn.Linear(4, 3)(x)
            loss = paddle.mean(y)
            yield main, {"optimizer": optimizer.SGD(0.1), "loss": loss}


def refused(call: str, arguments: dict[str, Any], argument: str, value: Any) -> None:
    with pytest.raises(gt.GraphtoolError) as raised:
        CALLS[call](**{**arguments, argument: value})
    codes = {found.code for found in raised.value.report.errors}
    # Neither a failure of Paddle's nor one half-way.
    assert codes, value
    assert codes.isdisjoint({"GT258", "GT547"}), value


@pytest.mark.pir
@pytest.mark.parametrize(
    ("call", "argument"), [one for one in WRONG if one[0] != "minimize"], ids="-".join
)
def test_what_no_argument_may_be_is_refused(
    given: dict[str, dict[str, Any]], call: str, argument: str
) -> None:
    paddle.enable_static()
    files = {
        one: one.read_bytes() for one in Path(given["load"]["folder_or_file"]).parent.iterdir()
    }
    for value in NOTHING + WRONG[call, argument]:
        refused(call, given[call], argument, value)
    assert files == {one: one.read_bytes() for one in files}


@pytest.mark.pir
def test_what_minimize_does_not_take_leaves_the_program_as_it_was(
    minimizing: tuple[Any, dict[str, Any]],
) -> None:
    main, arguments = minimizing
    before = len(main.global_block().ops)
    for call, argument in WRONG:
        for value in NOTHING + WRONG[call, argument] if call == "minimize" else ():
            refused(call, arguments, argument, value)
    assert len(main.global_block().ops) == before
