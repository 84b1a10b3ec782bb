"""Several ranks of `paddle.distributed.launch` on CPU: each test reads what real ones left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent
CASES = ("sgd", "global norm", "norm", "value", "decay", "schedule", "embedding", "merged")
# Half batches are averaged in another order than whole ones: a few units in the last place.
LOSS_TOLERANCE, PARAMETER_TOLERANCE = 1e-6, 1e-6

pytestmark = pytest.mark.slow


def launch(folder: Path, *cases: str, ranks: int = 2) -> tuple[int, str]:
    """Run the cases on some ranks; return the launcher's status and all that the ranks wrote."""
    logs = folder / "logs"
    script = str(Path(__file__).with_name("launched.py"))
    launcher = [sys.executable, "-m", "paddle.distributed.launch", f"--nproc_per_node={ranks}"]
    done = subprocess.run(
        [*launcher, "--log_dir", str(logs), script, str(folder / "result"), *cases],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    return done.returncode, "".join(log.read_text() for log in sorted(logs.glob("workerlog.*")))


def results(folder: Path, ranks: int) -> list[dict[str, Any]]:
    return [json.loads((folder / f"result.{rank}").read_text()) for rank in range(ranks)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("two")
    status, said = launch(folder, *CASES, "batch norm")
    assert status == 0, said
    return results(folder, 2)


@pytest.mark.parametrize("case", [*CASES, "batch norm"])
def test_every_rank_starts_from_the_first_rank_s_parameters(
    two: list[dict[str, Any]], case: str
) -> None:
    first, second = (rank[case] for rank in two)
    assert first["ranks"]["start"] == second["ranks"]["start"] == first["joint"]["start"]
    assert len(first["ranks"]["start"]) >= 4


@pytest.mark.parametrize("case", CASES)
def test_parameters_end_byte_equal_on_all_ranks(two: list[dict[str, Any]], case: str) -> None:
    first, second = (rank[case]["ranks"] for rank in two)
    assert first["end"] == second["end"]
    moved = [name for name, start in first["start"].items() if first["end"][name] != start]
    assert len(moved) >= 4


@pytest.mark.parametrize("case", CASES)
def test_ranks_follow_the_loss_curve_of_the_joint_batch(
    two: list[dict[str, Any]], case: str
) -> None:
    shares = np.array([rank[case]["ranks"]["losses"] for rank in two])
    joint = np.array(two[0][case]["joint"]["losses"])
    np.testing.assert_allclose(shares.mean(0), joint, rtol=LOSS_TOLERANCE)
    assert np.abs(shares[0] - shares[1]).min() > 1e-4
    parameters = two[0][case]["ranks"]["parameters"]
    for name, wanted in two[0][case]["joint"]["parameters"].items():
        np.testing.assert_allclose(parameters[name], wanted, rtol=0, atol=PARAMETER_TOLERANCE)


def test_a_merged_teacher_stays_as_it_was_on_every_rank(two: list[dict[str, Any]]) -> None:
    for rank in two:
        start, end = rank["merged"]["ranks"]["start"], rank["merged"]["ranks"]["end"]
        teachers = [name for name in start if name.startswith("teacher_")]
        assert len(teachers) == 2
        assert [start[name] for name in teachers] == [end[name] for name in teachers]


def test_a_program_for_test_waits_for_no_other_rank(two: list[dict[str, Any]]) -> None:
    # Two layers of the student and one adapter, each with weight and bias.
    assert two[0]["merged"]["ranks"]["collectives"] == [6, 0]
    assert two[0]["merged"]["joint"]["collectives"] == [0, 0]


def test_running_statistics_are_each_rank_s_own(two: list[dict[str, Any]]) -> None:
    first, second = (rank["batch norm"]["ranks"]["end"] for rank in two)
    differing = [name for name in first if first[name] != second[name]]
    assert differing == ["batch_norm1d_0.w_1", "batch_norm1d_0.w_2"]


def test_three_ranks_end_byte_equal(tmp_path: Path) -> None:
    status, said = launch(tmp_path, "global norm", "schedule", ranks=3)
    assert status == 0, said
    first, *others = results(tmp_path, 3)
    for case in ("global norm", "schedule"):
        assert all(other[case]["ranks"]["end"] == first[case]["ranks"]["end"] for other in others)


def test_ranks_that_were_not_joined_are_refused(tmp_path: Path) -> None:
    status, said = launch(tmp_path, "unjoined")
    assert status != 0
    assert "error[GT537] ranks-not-joined: 2 ranks were launched" in said


def test_an_optimizer_that_would_train_each_rank_by_itself_is_refused(tmp_path: Path) -> None:
    wrapped, said = launch(tmp_path, "wrapped")
    assert wrapped != 0
    assert "GT531] optimizer-unfit: `LookAhead` has a `minimize` of its own" in said
    legacy, said = launch(tmp_path, "legacy")
    assert legacy != 0
    assert "GT531] optimizer-unfit: `SGD` would train each of 2 ranks by itself" in said
    assert "gt.minimize(fleet.distributed_optimizer(optimizer), loss)" in said


@pytest.mark.parametrize("how", ["killed", "busy"])
def test_a_rank_that_loses_another_stops_and_says_so(tmp_path: Path, how: str) -> None:
    status, said = launch(tmp_path, how)
    assert status != 0
    assert "error[GT538] lost-rank: rank 0 of 2 got no answer from another rank" in said


def test_a_rank_that_raises_ends_the_launch_with_its_error(tmp_path: Path) -> None:
    status, said = launch(tmp_path, "raised")
    assert status != 0
    assert "ValueError: the data have run out" in said
