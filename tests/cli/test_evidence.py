"""`graphtool suggest-pairs --evidence`."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from tests.evidence.networks import IMAGES, Small
from tests.terminals import terminal

Run = Callable[..., Any]

ALLOWED = "  = note: --allow-random (in Python allow_random=True) measures all the same"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, its parameters, and forty samples for it."""
    folder = tmp_path_factory.mktemp("models")
    paddle.disable_static()
    paddle.seed(1)
    network = Small()
    network.eval()
    spec = [paddle.static.InputSpec([-1, 3, 16, 16], "float32", "x")]
    paddle.jit.save(network, str(folder / "net"), input_spec=spec)
    np.savez(folder / "x.npz", x=IMAGES)
    return folder


@pytest.fixture
def suggest(run: Run, models: Path) -> Run:
    def call(*options: str | Path) -> Any:
        return run("suggest-pairs", models / "net.json", models / "net.json", *options)

    return call


@pytest.mark.pir
def test_each_pair_has_its_cka_in_a_column_and_among_the_reasons(
    suggest: Run, models: Path
) -> None:
    result = suggest("--evidence", models / "x.npz")
    titles, *rows = result.cells[4:]

    assert (result.status, result.err) == (0, "")
    assert titles[-2:] == ["CKA", "why"]
    assert [row[-2] for row in rows] == ["1.00"] * 5
    assert all(row[-1].endswith("; CKA 1.00 on 32 samples") for row in rows)


@pytest.mark.pir
@pytest.mark.slow
def test_json_has_it_as_a_number_and_random_samples_have_a_note(suggest: Run) -> None:
    result = suggest("--evidence", "random", "--batches", "1", "--json")

    assert [pair["cka"] for pair in result.json["pairs"]] == [1.0] * 5
    assert result.err.startswith("note[GT383] random-samples: random samples: ")
    assert result.err.splitlines()[1:] == ["  = help: --evidence samples.npz"]


@pytest.mark.pir
@pytest.mark.slow
def test_an_explained_pair_is_measured_too(suggest: Run, models: Path) -> None:
    asked = ("--explain", "relu_1=relu_1", "--evidence", models / "x.npz")
    text, data = suggest(*asked), suggest(*asked, "--json").json["explanation"]

    assert "for: CKA 1.00 on 32 samples" in text.lines
    assert (data["pair"]["cka"], data["nearest"]["cka"]) == (1.0, 1.0)
    assert data["suggested"]


@pytest.mark.pir
@pytest.mark.parametrize(
    ("source", "done", "cka"), [("interrupted", 2, 1.0), ("interrupted_at_once", 0, None)]
)
def test_an_interrupt_prints_what_is_known_writes_nothing_and_exits_with_130(
    suggest: Run, tmp_path: Path, source: str, done: int, cka: float | None
) -> None:
    recipe = tmp_path / "pairs.toml"
    result = suggest("--evidence", f"tests.evidence.networks:{source}", "--json", "-o", recipe)

    assert result.status == 130
    assert {pair["cka"] for pair in result.json["pairs"]} == {cka}
    assert result.err == f"interrupted after {done} of at most 4 batches\n"
    assert not recipe.exists()


@pytest.mark.pir
def test_a_model_without_parameters_is_refused_and_the_help_mends_it(
    run: Run, models: Path, tmp_path: Path
) -> None:
    model = tmp_path / "a model.json"
    shutil.copy(models / "net.json", model)
    asked = ("suggest-pairs", model, models / "net.json", "--evidence", models / "x.npz")
    refused = run(*asked)
    command = shlex.split(refused.err.splitlines()[-1].removeprefix("  = help: "))

    refused.assert_refused(
        1,
        "error[GT376] random-weights: 10 parameters of the teacher were never loaded: "
        "no file of parameters beside the model has them\n",
    )
    assert command[:2] == ["cp", "WEIGHTS.pdiparams"]
    shutil.copy(models / "net.pdiparams", command[2])
    assert run(*asked).status == 0


@pytest.mark.pir
@pytest.mark.slow
def test_networks_that_were_never_trained_are_measured_where_that_is_allowed(
    run: Run, fixtures: Path
) -> None:
    # No Paddle runs what a newer one saved.
    cnn = fixtures / paddle.__version__ / "cnn.json"
    asked = ("suggest-pairs", cnn, cnn, "--evidence", "random", "--batches", "1", "--json")
    allowed = run(*asked, "--allow-random")

    run(*asked).assert_refused(1, "error[GT376]", f"{ALLOWED}\n")
    assert allowed.status == 0
    assert allowed.err.count("warning[GT376]") == 2
    assert [pair["cka"] for pair in allowed.json["pairs"]] == [1.0] * 5


@pytest.mark.pir
def test_pairs_are_drawn_as_well(suggest: Run, tmp_path: Path) -> None:
    result = suggest("--render", tmp_path / "pairs.dot")

    assert (result.status, result.err) == (0, f"wrote {tmp_path}/pairs.dot: level block\n")
    assert (tmp_path / "pairs.dot").read_text("utf-8").startswith("digraph graphtool {")
    assert [line.split()[0] for line in result.lines[5:]] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize(("source", "status"), [("none.npy", 1), ("samples.csv", 2)])
def test_a_source_that_is_none_is_refused_before_the_networks_are_read(
    run: Run, cnn: Path, tmp_path: Path, source: str, status: int
) -> None:
    (tmp_path / "broken.json").write_text("{")
    result = run("suggest-pairs", tmp_path / "broken.json", cnn, "--evidence", source)

    result.assert_refused(status, "error[GT370]")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_bar_on_a_terminal_says_what_is_being_done(models: Path) -> None:
    command = "suggest-pairs net.json net.json --json --evidence random --batches 3"
    text = terminal(80, *command.split(), folder=models, stream="stderr")

    assert "running both networks" in text
    assert "note[GT383]" in text
