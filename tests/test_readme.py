"""README's commands and snippets, executed; its picture, compared with what is printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import paddle
import pytest

import graphtool as gt
from graphtool.cli import main
from tests import networks

_ROOT = Path(__file__).resolve().parents[1]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)
_PICTURE = _ROOT / "examples" / "pairs.svg"
_DRAWS = "graphtool render resnet50.json mobilenet_v1.json -o pairs.svg"
_SVG = "{http://www.w3.org/2000/svg}"


def blocks(language: str) -> list[str]:
    return [text for kind, text in _BLOCKS if kind == language]


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def marked(text: str) -> object:
    """Mark what builds Paddle's own networks, and commands with options: these are variants."""
    slow = "paddle.vision" in text or (text.startswith("graphtool") and " --" in text)
    return pytest.param(text, marks=[pytest.mark.slow] if slow else [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models that README's commands name."""
    where = tmp_path_factory.mktemp("readme")
    for name in ("resnet50", "mobilenet_v1"):
        layer = getattr(paddle.vision.models, name)
        program = gt.from_layer(layer, [("image", (3, 224, 224))], train=False).program
        networks.save(program, where / f"{name}.json")
    return where


def test_the_first_two_blocks_are_the_two_commands() -> None:
    assert [kind for kind, _ in _BLOCKS[:2]] == ["sh", "sh"]
    assert "graphtool suggest-pairs" in _BLOCKS[0][1]
    assert _BLOCKS[1][1].splitlines()[-1].startswith(".venv/bin/python -m pytest ")
    assert [kind for kind, _ in _BLOCKS].count("sh") == 2


@pytest.mark.slow
def test_the_first_command_runs_in_a_fresh_copy(tmp_path: Path) -> None:
    listed = run(["git", "ls-files", "-z"], _ROOT).stdout.split("\0")
    for name in filter(None, listed):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((_ROOT / name).read_bytes())
    done = run(["bash", "-euc", blocks("sh")[0]], tmp_path)

    assert done.returncode == 0, done.stderr
    assert re.search(r"3 +stage +relu_48 +\[\?, 2048, 7, 7\] +layer4\.2 +relu_26", done.stdout)


@pytest.mark.pir
@pytest.mark.parametrize(
    "line",
    [marked(line[2:]) for block in blocks("console") for line in block.splitlines()],
)
def test_every_command_runs(
    line: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    tool, *arguments = shlex.split(line)
    status = main(arguments)
    printed = capsys.readouterr()

    assert (tool, status) == ("graphtool", 0), printed.err
    assert printed.out or printed.err.startswith("wrote ")


@pytest.mark.pir
@pytest.mark.parametrize("snippet", map(marked, blocks("python")))
def test_every_snippet_runs(snippet: str, folder: Path) -> None:
    done = run([sys.executable, "-c", snippet], folder)

    assert done.returncode == 0, done.stderr
    assert "relu_" in done.stdout or "bit-equal" in done.stdout


def words(picture: Path) -> Counter[str]:
    """Return all that is written in an SVG; where it stands depends on the machine's fonts."""
    return Counter(
        "".join(text.itertext()) for text in ElementTree.parse(picture).iter(f"{_SVG}text")
    )


@pytest.mark.pir
def test_the_picture_is_what_a_command_of_readme_draws(folder: Path) -> None:
    assert f"$ {_DRAWS}\n" in "".join(blocks("console"))
    tool, *arguments = shlex.split(_DRAWS)
    done = run([sys.executable, "-m", tool, *arguments], folder)

    assert done.returncode == 0, done.stderr
    assert words(folder / "pairs.svg") == words(_PICTURE)
    assert words(_PICTURE)["Bottleneck block"] == 7
