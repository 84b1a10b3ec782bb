"""`graphtool render`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def text_of(picture: Path) -> str:
    """Return an SVG's text as one line; Graphviz writes blanks and hyphens as numbers."""
    return " ".join(unescape(picture.read_text("utf-8")).split())


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


@pytest.mark.pir
@pytest.mark.slow
def test_the_folder_of_a_merge_is_drawn_without_paddle(
    run: Run, fixtures: Path, tmp_path: Path
) -> None:
    model, folder = fixtures / "3.3.1" / "control.json", tmp_path / "merged"
    pairs = tmp_path / "pairs.toml"
    assert run("suggest-pairs", model, model, "-o", pairs).status == 0
    assert run("merge", model, model, "-o", folder, "--pairs", pairs).status == 0

    (folder / "pairs.toml").unlink()
    gone = run("render", folder, "-o", tmp_path / "gone.dot")
    assert gone.err.startswith(
        "warning[GT613] incomplete-folder: the merged program was saved with pairs"
    )
    assert run(*shlex.split(gone.err.splitlines()[-2].removeprefix("  = help: "))[1:]).status == 0

    result = run("render", folder, "-o", tmp_path / "merged.svg")
    assert (result.status, result.out) == (0, "")
    assert result.err == f"wrote {tmp_path}/merged.svg: level block\n"
    drawn = text_of(tmp_path / "merged.svg")
    for said in ("TEACHER · frozen", "STUDENT · trained", "teacher_*, x"):
        assert said in drawn

    with (folder / "originals" / "student-0.json").open("a") as file:
        file.write(" ")
    changed = run("render", folder, "-o", tmp_path / "merged.svg")
    assert changed.status == 0
    assert changed.err.startswith(
        "warning[GT618] changed-folder: changed since the merged program was saved: "
        "`originals/student-0.json`\n"
    )
    assert text_of(tmp_path / "merged.svg") == drawn


def test_check_draws_what_it_found(run: Run, cnn: Path, tmp_path: Path) -> None:
    path = tmp_path / "found.svg"
    result = run("check", cnn, cnn, "--prefix", "", "--render", path)

    assert result.status == 1
    assert result.err.endswith(f"wrote {path}: level block\n")
    drawn = text_of(path)
    for code in ("GT201", "GT204", "GT250"):
        assert f"[{code}]" in result.err
        assert f">{code}<" in drawn


@pytest.mark.pir
@pytest.mark.parametrize(
    ("prefix", "status", "says"), [("teacher_", 0, "teacher_*, x"), ("", 1, "name-collision")]
)
@pytest.mark.slow
def test_merge_draws_what_it_makes_or_what_stands_against_it(
    run: Run, fixtures: Path, tmp_path: Path, prefix: str, status: int, says: str
) -> None:
    model, path = fixtures / "3.3.1" / "control.json", tmp_path / "merge.svg"
    options = ("--dry-run", "--prefix", prefix, "--render", path, "--format", "json")
    result = run("merge", model, model, "-o", tmp_path / "merged", *options)

    assert result.status == status
    assert result.json["dry_run"] is True
    assert says in text_of(path)


@pytest.mark.parametrize(
    ("engine", "ending", "code"),
    [(None, ".svg", "GT401"), (None, ".pdf", "GT401"), ("graphviz-pure", ".pdf", "GT401")],
)
def test_a_picture_that_nothing_here_draws_is_refused_before_any_work(
    run: Run,
    cnn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str | None,
    ending: str,
    code: str,
) -> None:
    leave_only(engine, tmp_path, monkeypatch)
    target, picture = tmp_path / "merged", f"{tmp_path}/merged{ending}"
    for argv in (
        ("merge", cnn, cnn, "-o", target, "--render", picture),
        ("render", tmp_path / "none.json", "-o", picture),
    ):
        result = run(*argv)

        assert (result.status, result.out) == (1, "")
        assert result.err.startswith(f"error[{code}]")
    assert not target.exists()


def leave_only(engine: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no engine on the path, nor beside the interpreter, but one of this name."""
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(folder / "none"))
    if engine is not None:
        (folder / engine).write_text("#!/bin/sh\n")
        (folder / engine).chmod(0o755)


def test_results_stand_where_their_picture_cannot_be_drawn(
    run: Run, cnn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_only("dot", tmp_path, monkeypatch)
    path = tmp_path / "found.svg"
    result = run("check", cnn, cnn, "--parameters", "later", "--format", "json", "--render", path)

    assert result.status == 1
    assert result.json["mergeable"] is True
    assert "error[GT403]" in result.err


def test_a_picture_that_is_there_may_be_drawn_again_and_that_is_said(
    run: Run, cnn: Path, tmp_path: Path
) -> None:
    path = tmp_path / "net.dot"
    said = [run("render", cnn, "-o", path).err for _ in range(2)]

    assert said == [f"wrote {path}: level block\n", f"replaced {path}: level block\n"]


@pytest.mark.parametrize(
    ("place", "reason", "help"),
    [
        ("nowhere/a.svg", "No such file or directory", "mkdir -p nowhere"),
        ("folder.svg", "Is a directory", "ls -ld folder.svg ."),
        ("file/a.svg", "Not a directory", "ls -ld file"),
    ],
)
def test_a_picture_that_cannot_be_written_is_refused_before_any_work(
    run: Run,
    cnn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    reason: str,
    help: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "file").touch()
    for argv in (
        ("merge", cnn, cnn, "-o", "out", "--render", place),
        ("check", cnn, cnn, "--render", place),
        ("suggest-pairs", cnn, cnn, "-o", "p.toml", "--render", place),
        ("render", cnn, "-o", place),
    ):
        result = run(*argv)

        assert (result.status, result.out) == (1, "")
        assert result.err == (
            f"error[GT601] unwritable-output: `{place}` cannot be written: {reason}\n"
            f"  = help: {help}\n"
        )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.svg"]


@pytest.mark.pir
def test_a_picture_may_go_into_the_folder_that_a_merge_makes(
    run: Run, fixtures: Path, tmp_path: Path
) -> None:
    model, out = fixtures / "3.3.1" / "control.json", tmp_path / "out"
    result = run("merge", model, model, "-o", out, "--render", out / "merge.dot")

    assert (result.status, result.err.splitlines()[-1]) == (
        0,
        f"wrote {out}/merge.dot: level block",
    )
