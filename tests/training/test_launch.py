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
CASES = (
    *("sgd", "global norm", "norm", "value", "decay", "schedule", "embedding", "merged"),
    "accumulated",
)
# Half batches are averaged in another order than whole ones: a few units in the last place.
LOSS_TOLERANCE, PARAMETER_TOLERANCE = 1e-6, 1e-6

pytestmark = pytest.mark.nightly


def launch(folder: Path, *cases: str, ranks: int = 2, limit: int = 240) -> tuple[int, str]:
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
        timeout=limit,
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


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("refused")
    status, said = launch(folder, "refusals")
    assert status == 0, said
    return results(folder, 2)


def test_ranks_that_were_not_joined_are_refused(refused: list[dict[str, str]]) -> None:
    for rank in refused:
        assert "error[GT537] ranks-not-joined: 2 ranks were launched" in rank["unjoined"]


def test_an_optimizer_that_would_train_each_rank_by_itself_is_refused(
    refused: list[dict[str, str]],
) -> None:
    for rank in refused:
        assert "GT531] optimizer-unfit: `LookAhead` overrides `minimize`" in rank["wrapped"]
        assert "`SGD` would train each of 2 ranks by itself" in rank["legacy"]
        assert "gt.minimize(fleet.distributed_optimizer(optimizer), loss)" in rank["legacy"]


@pytest.mark.parametrize(
    ("case", "first", "second"),
    [
        ("width", "parameter `linear_0.b_0` [12] float32, learns", "[13] float32, learns"),
        ("order", "operator `tanh_0` (add_0)", "operator `full_0` () dtype='float32' shape=(1,)"),
        ("weight", "`full_2` () dtype='float32' shape=(1,) value=0.5", "value=0.25"),
        ("optimizer", "optimizer SGD", "optimizer Adam"),
        ("rate", "optimizer.learning_rate = 0.1", "optimizer.learning_rate = 0.2"),
        ("clip", "optimizer.learning_rate = 0.1", "optimizer.grad_clip ClipGradByNorm"),
        ("frozen", "parameter `linear_1.w_0` [12, 3] float32, learns", "float32, frozen"),
    ],
)
def test_ranks_about_to_train_different_things_all_say_what_differs(
    refused: list[dict[str, str]], case: str, first: str, second: str
) -> None:
    assert refused[0][case] == refused[1][case]
    title, one, other, *_ = refused[0][case].splitlines()
    assert title.startswith("error[GT546] unequal-ranks: rank 0 and rank 1 would train")
    assert one.startswith("  --> rank 0  ")
    assert first in one
    assert other.startswith("  --> rank 1  ")
    assert second in other


def test_what_was_refused_left_the_program_as_it_was(refused: list[dict[str, str]]) -> None:
    for rank in refused:
        assert rank["operators before"] == rank["operators after"] == "14"


@pytest.mark.parametrize("case", ["metric", "name", "batch"])
def test_ranks_that_train_the_same_loss_are_not_refused(
    refused: list[dict[str, str]], case: str
) -> None:
    assert [rank[case] for rank in refused] == ["", ""]


def test_parameters_that_differ_in_name_alone_are_told_how_to_be_named_alike(
    refused: list[dict[str, str]],
) -> None:
    assert "rank 1  parameter `linear_1.b_0` [12] float32, learns" in refused[0]["counted"]
    wanted = "help: with paddle.utils.unique_name.guard(): build the same on every rank"
    assert wanted in refused[0]["counted"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raised before", "FileNotFoundError: no data on rank 1"),
        ("first ended", ""),
        ("killed in minimize", ""),
        ("killed", ""),
        ("ended", "std::exception"),
    ],
)
def test_the_launcher_stops_the_others_where_a_rank_is_lost(
    tmp_path: Path, how: str, said: str
) -> None:
    status, found = launch(tmp_path, how, limit=50)
    assert status != 0
    assert said in found
