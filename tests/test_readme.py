"""README's commands and snippets, executed; its picture, compared with what is printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[1]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", _README, re.MULTILINE | re.DOTALL)
_PICTURE = _ROOT / "examples" / "suggest-pairs.svg"
_SAVE = """
import sys, paddle
import graphtool as gt
for name in ("resnet50", "mobilenet_v1"):
    layer = getattr(paddle.vision.models, name)
    network = gt.from_layer(layer, [("image", (3, 224, 224))], train=False)
    paddle.base.core.serialize_pir_program(network.program, f"{name}.json", True, False, True)
"""


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


def builds_networks(text: str) -> object:
    """Mark what builds Paddle's own networks: each takes seconds."""
    return pytest.param(text, marks=[pytest.mark.slow] if "paddle.vision" in text else [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models that README's commands name."""
    where = tmp_path_factory.mktemp("readme")
    done = run([sys.executable, "-c", _SAVE], where)
    assert done.returncode == 0, done.stderr
    return where


def test_the_first_two_blocks_are_the_two_commands() -> None:
    assert [kind for kind, _ in _BLOCKS[:2]] == ["sh", "sh"]
    assert "graphtool suggest-pairs" in _BLOCKS[0][1]
    assert _BLOCKS[1][1].splitlines()[-1] == ".venv/bin/python -m pytest"
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


@pytest.mark.parametrize(
    "line",
    [builds_networks(line[2:]) for block in blocks("console") for line in block.splitlines()],
)
def test_every_command_runs(line: str, folder: Path) -> None:
    tool, *arguments = shlex.split(line)
    done = run([sys.executable, "-m", tool, *arguments], folder)

    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("snippet", map(builds_networks, blocks("python")))
def test_every_snippet_runs(snippet: str, folder: Path) -> None:
    done = run([sys.executable, "-c", snippet], folder)

    assert done.returncode == 0, done.stderr
    assert "relu_" in done.stdout or "bit-equal" in done.stdout


@pytest.mark.slow
def test_the_picture_shows_what_is_printed(tmp_path: Path) -> None:
    drawn = tmp_path / "new.svg"
    done = run([sys.executable, "examples/picture.py", str(drawn)], _ROOT)

    assert done.returncode == 0, done.stderr
    assert drawn.read_text() == _PICTURE.read_text()
