"""Numbers and texts that no one means: each is a Diagnostic, in files and where they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import graphtool as gt
from graphtool.backend.generators import can_restore, random_state
from graphtool.cli import main
from graphtool.diagnostics import ReadError, UsageError
from graphtool.readers.tensor_files import Tensor, write_tensors
from graphtool.sources.inputs import parse_input
from graphtool.training import checkpoints as files
from graphtool.training.checkpoints import _have_same_fields
from tests.fuzzing.saved import MANIFEST
from tests.refused import refused

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.mark.parametrize("dim", ["9" * 19, "9" * 5000])
def test_a_dim_that_fits_no_number_of_paddles_is_refused(
    dim: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(UsageError, parse_input, f"3,{dim}").code == "GT037"
    assert main(["inspect", "paddle.vision.models:resnet18", "--input", f"3,{dim}"]) == 2
    assert "GT037" in capsys.readouterr().err
    assert parse_input(f"3,{'9' * 18}").shape == (-1, 3, 10**18 - 1)


def test_a_layer_of_such_a_dim_is_refused() -> None:
    from paddle import nn

    assert refused(UsageError, gt.from_layer, nn.Linear(3, 2), [(3, 2**63)]).code == "GT037"


def checkpoint(path: Path, **changes: Any) -> None:
    """Write a checkpoint of nothing but its manifest, with a seal that fits."""
    changed = msgspec.structs.replace(MANIFEST, **{"keys": (), "teachers": (), **changes})
    sealed = msgspec.structs.replace(changed, digest=files._manifest_digest(changed, []))
    spelt = json.dumps(msgspec.to_builtins(sealed)).encode()
    write_tensors(path, [Tensor(np.frombuffer(spelt, "uint8"), "uint8")])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": -1}, "Expected `int` >= 0 - at `$.step`"),
        ({"step": 2**63}, "Expected `int` <= 9223372036854775807 - at `$.step`"),
        ({"operators": {"pd_op.relu": -1}}, "Expected `int` >= 0 - at `$.operators[...]`"),
    ],
)
def test_a_checkpoint_of_such_a_step_is_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    checkpoint(tmp_path / "honest")
    assert files.read_checkpoint(tmp_path / "honest")[0].step == 3
    checkpoint(tmp_path / "spoilt", **change)

    found = refused(ReadError, files.read_checkpoint, tmp_path / "spoilt")
    assert found.code == "GT621"
    assert said in found.message


@pytest.mark.parametrize(
    "change",
    [
        *({"seed": 2**63}, {"seed": -1}, {"offset": 2**64}),
        *({"engine": f"{2**64}"}, {"engine": "9" * 5000}),
    ],
)
def test_a_random_state_of_such_numbers_is_not_set(change: dict[str, Any]) -> None:
    (now,) = random_state()
    assert can_restore([now])
    words = now.engine.split()
    if "engine" in change:
        change = {"engine": " ".join([change["engine"], *words[1:]])}
    assert not can_restore([msgspec.structs.replace(now, **change)])


@pytest.mark.parametrize(
    ("then", "now", "alike"),
    [
        ({"last_lr": 0}, {"last_lr": 0.5}, True),
        ({"best": None}, {"best": 0.5}, True),
        ({"inner": {"last_epoch": 3}}, {"inner": {"last_epoch": 4}}, True),
        ({"last_epoch": "x"}, {"last_epoch": 3}, False),
        ({"last_epoch": None}, {"last_epoch": 3}, False),
        ({"last_epoch": {}}, {"last_epoch": 3}, False),
        ({"inner": None}, {"inner": {"last_epoch": 3}}, False),
        ({"inner": {"last_epoch": "x"}}, {"inner": {"last_epoch": 3}}, False),
        ({"last_epoch": 3}, {"last_epoch": 3, "last_lr": 0.5}, False),
    ],
)
def test_a_schedule_takes_back_only_what_it_keeps(then: Any, now: Any, *, alike: bool) -> None:
    assert _have_same_fields(then, now) is alike
