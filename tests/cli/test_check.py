"""`graphtool check`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inline_snapshot import snapshot

from graphtool.checks import persistable_names
from graphtool.readers.tensor_files import Tensor, write_tensors
from graphtool.sources import read

Run = Callable[..., Any]
Module = Callable[[str, str], None]


def with_weights(model: Path, folder: Path) -> Path:
    """Copy a model, and put a file with zeros for its parameters beside it."""
    copied = folder / model.name
    shutil.copy(model, copied)
    graph = read(model)
    values = [graph.values[name] for name in sorted(persistable_names(graph))]
    tensors = [Tensor.of(np.zeros(value.shape or (), value.dtype)) for value in values]
    write_tensors(copied.with_suffix(".pdiparams"), tensors)
    return copied


def test_two_files_are_checked_and_the_guess_of_the_feed_map_is_said(run: Run, cnn: Path) -> None:
    result = run("check", cnn, cnn, "--parameters", "later")

    assert result.status == 0
    assert result.err.startswith("feed map, guessed: ")
    assert result.lines[-1].startswith(f"{cnn} can be merged into {cnn}: ")


@pytest.mark.slow
def test_files_are_checked_without_paddle_and_what_is_not_checked_says_what_to_type(
    cnn: Path,
) -> None:
    options = "--feed image=image --prefix big_"
    argv = ["check", str(cnn), str(cnn), "--parameters=later", *options.split()]
    code = (
        f"import sys; from graphtool.cli import main; print(main({argv}), 'paddle' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "0 False"
    assert "note[GT244] unknown-operators: not checked: " in done.stderr
    assert f"= help: graphtool merge {cnn} {cnn} -o DIR --dry-run {options}\n" in done.stderr


def test_the_json_is_alone_on_stdout_and_holds_every_diagnostic(run: Run, cnn: Path) -> None:
    result = run("check", cnn, cnn, "--prefix", "", "--format", "json")
    data = result.json

    assert list(data) == snapshot(
        ["schema", "teacher", "student", "feed_map", "prefix", "mergeable", "diagnostics"]
    )
    assert data["mergeable"] is False
    (collision, *_) = [found for found in data["diagnostics"] if found["code"] == "GT201"]
    assert list(collision) == snapshot(
        ["severity", "code", "slug", "message", "where", "notes", "help", "count"]
    )
    assert list(collision["where"][0]) == snapshot(["role", "program", "value", "shape", "source"])
    assert result.out.isascii()


@pytest.mark.slow
def test_code_is_built_for_training_as_a_student_and_the_teacher_brings_its_weights(
    run: Run, module: Module
) -> None:
    module(
        "dropping",
        "from paddle import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 2))\n",
    )
    data = run("check", "dropping:net", "dropping:net", "--input", "4", "--json").json

    found = {diagnostic["code"] for diagnostic in data["diagnostics"]}
    assert found & {"GT202", "GT223", "GT230", "GT235"} == set()


def test_a_file_that_is_not_there_is_an_error(run: Run, cnn: Path, tmp_path: Path) -> None:
    missing = tmp_path / "nothing.json"

    run("check", cnn, missing).assert_refused(1, "error[GT001] no-such-path: ")
    run("inspect", missing, "--input", "3,16,16").assert_refused(1, "error[GT001]")


def test_a_teacher_with_nothing_beside_it_is_an_error_unless_its_weights_come_later(
    run: Run, cnn: Path
) -> None:
    result = run("check", cnn, cnn)

    assert result.status == 1
    assert "error[GT235]" in result.err
    assert "= help: --parameters later\n" in result.err
    assert run("check", cnn, cnn, "--parameters", "later").status == 0


def test_where_no_feed_fits_the_help_gives_the_teachers_a_name_of_its_own(
    run: Run, cnn: Path, fixtures: Path
) -> None:
    argv = ("check", cnn, fixtures / "3.3.1" / "encoder.json", "--parameters", "later")
    refused = run(*argv)

    assert "error[GT213]" in refused.err
    assert "  = help: --feed image=teacher_image\n" in refused.err
    assert "GT217" not in run(*argv, "--feed", "image=teacher_image").err


def test_errors_give_status_1_with_codes_and_helps_that_can_be_typed(run: Run, cnn: Path) -> None:
    feeds = run("check", cnn, cnn, "--feed", "image=imag")
    names = run("check", cnn, cnn, "--prefix", "")

    assert (feeds.status, names.status) == (1, 1)
    assert "cannot be merged" in feeds.out
    assert "error[GT210]" in feeds.err
    assert "= help: --feed image=image\n" in feeds.err
    assert "error[GT201]" in names.err
    assert "warning[GT204]" in names.err
    assert names.err.count("= help: --prefix teacher_\n") == 2
    assert not any(word in feeds.err + names.err for word in ("name_prefix", "feed_map"))


@pytest.mark.pir
def test_a_saved_student_is_checked_as_merge_takes_it(
    run: Run, module: Module, fixtures: Path, tmp_path: Path
) -> None:
    module(
        "teaching",
        "from paddle import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Conv2D(3, 4, 3), nn.AdaptiveAvgPool2D(1), nn.Flatten())\n",
    )
    student = with_weights(fixtures / "3.3.1-legacy" / "cnn.pdmodel", tmp_path)
    code = ("teaching:net", student, "--teacher-input", "3,16,16")
    result = run("check", *code, "--feed", "input=image")

    assert result.status == 0
    assert "note[GT243]" in result.err
    assert "GT230" not in result.err


@pytest.mark.slow
def test_parameters_to_share_are_named_and_helps_can_be_typed(run: Run, module: Module) -> None:
    module(
        "sharing",
        "import paddle\n"
        "def net():\n"
        "    return paddle.nn.Linear(4, 3, weight_attr=paddle.ParamAttr(name='table'))\n",
    )
    both = ("check", "sharing:net", "sharing:net", "--input", "4")
    apart, shared = run(*both), run(*both, "--shared", "table")
    wrong = run(*both, "--shared", "table", "--shared", "nothing")

    assert "note[GT207]" in apart.err
    assert "= help: --shared table  # if one is meant\n" in apart.err
    assert (shared.status, wrong.status) == (0, 1)
    assert "warning[GT209]" in shared.err
    assert "error[GT208]" in wrong.err
    assert "= help: --shared table\n" in wrong.err


@pytest.mark.pir
@pytest.mark.parametrize("prefix", ["teacher_", ""])
@pytest.mark.parametrize("teacher", ["2.6.2/cnn", "3.3.1-legacy/cnn", "3.3.1-legacy/control"])
def test_the_verdict_on_legacy_files_is_that_of_merge(
    run: Run, fixtures: Path, tmp_path: Path, teacher: str, prefix: str
) -> None:
    file = with_weights(fixtures / f"{teacher}.pdmodel", tmp_path)
    argv = (file, file, "--prefix", prefix, "--json")
    commands = ("check", *argv), ("merge", *argv, "-o", tmp_path / "out", "--dry-run")
    checked, merged = (
        {one["code"] for one in run(*command).json["diagnostics"] if one["severity"] == "error"}
        for command in commands
    )

    assert checked == merged


def test_a_verdict_that_nobody_reads_is_none(cnn: Path) -> None:
    """Of a table the first lines may be all that is wanted; `head` leaves then."""
    assert status_into_closed_pipe("check", cnn, cnn) == 141


def status_into_closed_pipe(*argv: str | Path) -> int:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "graphtool", *argv], stdout=pipe, stderr=pipe, check=False
        )
    return done.returncode


def configured(students: str, teachers: str) -> str:
    """Return a configuration of PaddleClas that compares these."""
    keys = f"s_keys: [{students}], t_keys: [{teachers}]"
    networks = "model_name_pairs: [[Student, Teacher]]"
    return f"Loss: {{Train: [DistanceLoss: {{{networks}, {keys}}}]}}\n"


def test_pairs_of_a_configuration_are_checked_as_well(
    run: Run, cnn: Path, old_cnn: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yml"
    config.write_text(configured("relu_0.tmp_0, relu_2.tmp_0", "relu_0, relu_0"))
    checked = ("check", cnn, old_cnn, "--parameters", "later", "--pairs", config)
    result = run(*checked)

    assert result.status == 1
    assert [[cells[place] for place in (0, 2, 5, -1)] for cells in result.cells[5:7]] == [
        ["1", "relu_0", "relu_0.tmp_0", "read from `Loss.Train[0].DistanceLoss`"],
        ["2", "relu_0", "relu_2.tmp_0", "read from `Loss.Train[0].DistanceLoss`"],
    ]
    assert result.lines[-2].startswith(f"{cnn} can be merged into {old_cnn}")
    assert result.lines[-1] == f"the pairs of {config} do not all fit: 1 error"
    assert "error[GT333] pair-shape: `relu_0` and `relu_2.tmp_0` are [" in result.err

    data = run(*checked, "--format", "json").json
    assert data["mergeable"] is True
    assert [pair["student"]["name"] for pair in data["pairs"]] == ["relu_0.tmp_0", "relu_2.tmp_0"]


def test_pairs_that_cannot_be_read_stand_beside_what_the_merge_has(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(configured("relu_9", "relu_9"))
    result = run("check", cnn, cnn, "--parameters", "later", "--prefix", "", "--pairs", config)

    assert (result.status, len(result.lines)) == (1, 2)
    assert "error[GT201]" in result.err
    assert "error[GT101] unknown-name: no Value is called `relu_9`" in result.err
    assert "note: named by `Loss.Train[0].DistanceLoss` for the student" in result.err


@pytest.mark.pir
@pytest.mark.slow
def test_the_help_of_a_pair_reads_networks_from_code_again(
    run: Run, module: Module, tmp_path: Path
) -> None:
    module(
        "layered",
        "from paddle import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Linear(4, 3), nn.Unflatten(1, [3, 1]))\n",
    )
    (tmp_path / "config.yml").write_text(configured("'1'", "'0'"))
    shapes = ("--input", "4", "--student-input", "4")
    result = run("check", "layered:net", "layered:net", *shapes, "--pairs", "config.yml")

    assert "error[GT333] pair-shape: `add_0` and `reshape_0` have ranks 2 and 3" in result.err
    (words,) = helps(result, "suggest-pairs")
    assert words[3:] == ["--for", "add_0", "--input", "4", "--student-input", "4"]
    assert run(*words).status == 0


@pytest.mark.pir
@pytest.mark.parametrize("option", ["--input", "--student-input"])
@pytest.mark.slow
def test_the_help_of_a_pair_gives_inputs_to_networks_from_code_alone(
    run: Run, module: Module, cnn: Path, tmp_path: Path, option: str
) -> None:
    module("plain", "from paddle import nn\ndef net():\n    return nn.Linear(4, 3)\n")
    file = str(shutil.copy(cnn, tmp_path / "with a blank.json"))
    (tmp_path / "config.yml").write_text(configured("add_0, add_0", "relu_0, relu_9"))
    both = ("check", file, "plain:net", option, "4", "--feed", "image=teacher_image")
    (unknown,) = helps(run(*both, "--pairs", "config.yml"), "inspect")
    (tmp_path / "config.yml").write_text(configured("add_0", "relu_0"))
    (misfit,) = helps(run(*both, "--pairs", "config.yml"), "suggest-pairs")

    assert unknown == ["inspect", file, "--all"]
    assert misfit == ["suggest-pairs", file, "plain:net", "--for", "relu_0", option, "4"]
    assert [run(*words).status for words in (unknown, misfit)] == [0, 0]


def helps(result: Any, command: str) -> list[list[str]]:
    """Return the words of each command that is typed for help."""
    start = f"  = help: graphtool {command} "
    lines = [line for line in result.err.splitlines() if line.startswith(start)]
    return [shlex.split(line.removeprefix("  = help: graphtool ")) for line in lines]
