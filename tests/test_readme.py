"""README in both languages: its commands and snippets run, its table and picture are real."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from graphtool.cli import main
from tests.guides.markdown import Guide
from tests.guides.running import picture_words
from tests.printed import as_stored
from tests.terminals import plain, terminal

_ROOT = Path(__file__).resolve().parents[1]
_README = Guide(_ROOT / "README.md")
_PICTURE = _ROOT / "examples" / "pairs.svg"


def blocks(language: str) -> list[str]:
    return [block.text for block in _README.blocks if block.language == language]


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_first_two_blocks_are_the_two_commands() -> None:
    first, second, *rest = _README.blocks

    assert (first.language, second.language) == ("sh", "sh")
    assert "graphtool suggest-pairs" in first.text
    assert second.text.splitlines()[-1].startswith(".venv/bin/python -m pytest ")
    assert [block.language for block in rest].count("sh") == 0


def test_both_languages_have_the_same_blocks_figures_and_links() -> None:
    chinese = Guide(_README.translation)

    assert chinese.shared == _README.shared
    assert {*chinese.links, "README.zh-CN.md"} == {*_README.links, "README.md"}


@pytest.mark.parametrize("path", [_README.path, _README.translation])
def test_it_is_short_and_points_to_what_is_there(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 170
    assert Guide(path).broken_links == []


@pytest.mark.pir
@pytest.mark.nightly
def test_the_table_is_what_the_first_command_prints_in_a_terminal() -> None:
    *_, command = blocks("sh")[0].splitlines()
    printed = iter([line.rstrip() for line in plain(terminal(100, *shlex.split(command)[1:]))])

    shown = [line for line in blocks("text")[0].splitlines() if line != "…"]
    assert [line for line in shown if not any(as_stored(line, one) for one in printed)] == []


@pytest.mark.first
@pytest.mark.nightly
def test_the_first_command_runs_in_a_fresh_copy(tmp_path: Path) -> None:
    listed = run(["git", "ls-files", "-z"], _ROOT).stdout.split("\0")
    for name in filter(None, listed):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((_ROOT / name).read_bytes())
    done = run(["bash", "-euc", blocks("sh")[0]], tmp_path)

    assert done.returncode == 0, done.stderr
    assert re.search(r"3 +stage +relu_48 +\[\?, 2048, 7, 7\] +layer4\.2 +relu_26", done.stdout)


@pytest.mark.pir
@pytest.mark.nightly
def test_the_snippet_and_then_the_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (snippet,) = blocks("python")
    for _ in range(2):
        done = run([sys.executable, "-c", snippet], tmp_path)

        assert done.returncode == 0, done.stderr
        assert "bit-equal" in done.stdout
        assert "GT604" not in done.stderr
    assert sorted(file.suffix for file in tmp_path.glob("student.*")) == [
        ".graphtool",
        ".json",
        ".pdiparams",
        ".pdparams",
    ]
    monkeypatch.chdir(tmp_path)
    for line in "".join(blocks("console")).splitlines():
        dollar, tool, *arguments = shlex.split(line)
        status = main(arguments)
        printed = capsys.readouterr()

        assert (dollar, tool, status) == ("$", "graphtool", 0), printed.err
        assert printed.out or printed.err.startswith(("wrote ", "feed map, guessed: "))
    assert picture_words(tmp_path / "pairs.svg") == picture_words(_PICTURE)
    assert picture_words(_PICTURE)["Bottleneck block"] == 7
