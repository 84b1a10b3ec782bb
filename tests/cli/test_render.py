"""`graphtool render`, and the pictures that other commands draw."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def text_of(picture: str | Path) -> str:
    """Return an SVG's text as one line; Graphviz writes blanks and hyphens as numbers."""
    return " ".join(unescape(Path(picture).read_text("utf-8")).split())


def test_a_picture_is_named_after_the_networks_and_said_to_be_written_or_replaced(
    run: Run, cnn: Path, folder: Path
) -> None:
    outcomes = [run("render", cnn, *student) for student in ((), (), (cnn,))]

    assert {(result.status, result.out) for result in outcomes} == {(0, "")}
    assert [result.err for result in outcomes] == [
        "wrote cnn.svg: level block\n",
        "replaced cnn.svg: level block\n",
        "wrote cnn-cnn.svg: level block\n",
    ]
    assert sorted(file.name for file in folder.iterdir()) == ["cnn-cnn.svg", "cnn.svg"]
    assert Path("cnn-cnn.svg").read_text("utf-8").count("TEACHER") == 1


def test_dot_goes_to_stdout_for_a_dash_and_pairs_come_from_a_recipe(
    run: Run, cnn: Path, folder: Path
) -> None:
    alone = run("render", cnn, "--level", "block", "-o", "-")
    run("suggest-pairs", cnn, cnn, "--limit", "1", "-o", "pairs.toml")

    assert alone.out.startswith("digraph graphtool {")
    assert alone.err == ""
    assert ">1 pair<" in run("render", cnn, cnn, "--pairs", "pairs.toml", "-o", "-").out
    assert [file.name for file in folder.iterdir()] == ["pairs.toml"]


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


@pytest.mark.pir
@pytest.mark.slow
def test_the_folder_of_a_merge_is_drawn_without_paddle(
    run: Run, fixtures: Path, folder: Path
) -> None:
    model = fixtures / "3.3.1" / "control.json"
    assert run("suggest-pairs", model, model, "-o", "pairs.toml").status == 0
    assert run("merge", model, model, "-o", "merged", "--pairs", "pairs.toml").status == 0

    (folder / "merged" / "pairs.toml").unlink()
    gone = run("render", "merged", "-o", "gone.dot")
    assert gone.err.startswith(
        "warning[GT613] incomplete-folder: the merged program was saved with pairs"
    )
    assert run(*shlex.split(gone.err.splitlines()[-2].removeprefix("  = help: "))[1:]).status == 0

    result = run("render", "merged", "-o", "merged.svg")
    assert (result.status, result.out) == (0, "")
    assert result.err == "wrote merged.svg: level block\n"
    drawn = text_of("merged.svg")
    for said in ("TEACHER · frozen", "STUDENT · trained", "teacher_*, x"):
        assert said in drawn

    with (folder / "merged" / "originals" / "student-0.json").open("a") as file:
        file.write(" ")
    changed = run("render", "merged", "-o", "merged.svg")
    assert changed.status == 0
    assert changed.err.startswith("warning[GT618] changed-folder: ")
    assert "`originals/student-0.json`\n" in changed.err
    assert text_of("merged.svg") == drawn


def test_check_draws_what_it_found(run: Run, cnn: Path, tmp_path: Path) -> None:
    path = tmp_path / "found.svg"
    result = run("check", cnn, cnn, "--prefix", "", "--render", path)

    assert result.status == 1
    assert result.err.endswith(f"wrote {path}: level block\n")
    for code in ("GT201", "GT204", "GT250"):
        assert f"[{code}]" in result.err
        assert f">{code}<" in text_of(path)


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
    ("engine", "ending"), [(None, ".svg"), (None, ".pdf"), ("graphviz-pure", ".pdf")]
)
def test_a_picture_that_nothing_here_draws_is_refused_before_any_work(
    run: Run,
    cnn: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    engine: str | None,
    ending: str,
) -> None:
    leave_only(engine, folder, monkeypatch)

    merging = run("merge", cnn, cnn, "-o", "merged", "--render", f"merged{ending}")
    merging.assert_refused(1, "error[GT401]")
    run("render", "none.json", "-o", f"merged{ending}").assert_refused(1, "error[GT401]")
    assert not (folder / "merged").exists()


def leave_only(engine: str | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no engine on the path, nor beside the interpreter, but one of this name."""
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(folder / "none"))
    if engine is not None:
        (folder / engine).write_text("#!/bin/sh\n")
        (folder / engine).chmod(0o755)


def test_results_stand_where_their_picture_cannot_be_drawn(
    run: Run, cnn: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_only("dot", folder, monkeypatch)
    result = run("check", cnn, cnn, "--parameters", "later", "--json", "--render", "found.svg")

    assert result.status == 1
    assert result.json["mergeable"] is True
    assert "error[GT403]" in result.err


@pytest.mark.parametrize(
    ("place", "reason", "help"),
    [
        ("nowhere/a.svg", "No such file or directory", "mkdir -p nowhere"),
        ("folder.svg", "Is a directory", "ls -ld folder.svg ."),
        ("file/a.svg", "Not a directory", "ls -ld file"),
    ],
)
@pytest.mark.parametrize(
    "command", ["merge CNN CNN -o out", "check CNN CNN", "suggest-pairs CNN CNN -o p.toml", ""]
)
def test_a_picture_that_cannot_be_written_is_refused_before_any_work(
    run: Run, cnn: Path, folder: Path, command: str, place: str, reason: str, help: str
) -> None:
    (folder / "folder.svg").mkdir()
    (folder / "file").touch()
    argv = f"{command} --render {place}" if command else f"render CNN -o {place}"

    run(*argv.replace("CNN", str(cnn)).split()).assert_refused(
        1,
        f"error[GT601] unwritable-output: `{place}` cannot be written: {reason}\n"
        f"  = help: {help}\n",
    )
    assert sorted(entry.name for entry in folder.iterdir()) == ["file", "folder.svg"]


@pytest.mark.pir
def test_a_picture_may_go_into_the_folder_that_a_merge_makes(
    run: Run, fixtures: Path, tmp_path: Path
) -> None:
    model, out = fixtures / "3.3.1" / "control.json", tmp_path / "out"
    result = run("merge", model, model, "-o", out, "--render", out / "merge.dot")

    assert result.status == 0
    assert result.err.splitlines()[-1] == f"wrote {out}/merge.dot: level block"
