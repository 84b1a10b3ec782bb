"""`graphtool render`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_a_picture_of_two_networks_is_written_and_said(run: Run, cnn: Path, tmp_path: Path) -> None:
    result = run("render", cnn, cnn, "-o", tmp_path / "pairs.svg")

    assert result.status == 0
    assert result.out == ""
    assert result.err == f"wrote {tmp_path}/pairs.svg: level block\n"
    assert (tmp_path / "pairs.svg").read_text("utf-8").count("TEACHER") == 1


def test_without_a_file_it_is_named_after_the_networks(
    run: Run, cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run("render", cnn)
    run("render", cnn, cnn)

    assert sorted(file.name for file in tmp_path.iterdir()) == ["cnn-cnn.svg", "cnn.svg"]


def test_dot_goes_to_stdout_for_a_dash(run: Run, cnn: Path) -> None:
    result = run("render", cnn, "--level", "block", "-o", "-")

    assert result.out.startswith("digraph graphtool {")
    assert result.err == ""


def test_json_says_where_the_picture_is_and_at_which_level(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    path = tmp_path / "cnn.dot"

    assert run("render", cnn, "--format", "json", "-o", path).json == {
        "schema": 1,
        "written": str(path),
        "level": "block",
        "diagnostics": [],
    }


def test_pairs_come_from_a_recipe(run: Run, cnn: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "pairs.toml"
    run("suggest-pairs", cnn, cnn, "--limit", "1", "-o", recipe)
    result = run("render", cnn, cnn, "--pairs", recipe, "-o", "-")

    assert ">1 pair<" in result.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pairs", "pairs.toml"), "argument --pairs: one network has no pairs"),
        (("--student-input", "3,4,4"), "argument --student-input: one network has no pairs"),
        (("--radius", "3"), "argument --radius: needs argument --focus"),
        (("--focus", "x", "--level", "block"), "argument --focus: not allowed with argument"),
        (("-o", "picture.gif"), "`picture.gif` has no ending of a picture"),
    ],
)
def test_wrong_usage_is_refused(
    run: Run, cnn: Path, options: tuple[str, ...], message: str
) -> None:
    result = run("render", cnn, *options)

    assert result.status == 2
    assert message in result.err
