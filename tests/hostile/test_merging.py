"""Networks whose parameters and feeds have hostile names are merged, saved and loaded again."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import paddle
import pytest
from paddle import nn
from rich.console import Console

import graphtool as gt
from graphtool.cli import main
from graphtool.text import escaped_code
from tests.hostile.names import NAMES
from tests.hostile.test_paths import PATHS

pytestmark = pytest.mark.nightly

_SAID = [name for name in NAMES.values() if not set("\ud800\udcff") & set(name)]
_FEED = '\x1b]8;;https://evil.test\x1b\\\u202e"<b>[red]=\0'


def saved(folder: Path, names: Sequence[str]) -> Path:
    """Save a chain of linear layers, each of whose weights has a hostile name."""
    program, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(program, startup), paddle.utils.unique_name.guard():
        x: Any = paddle.static.data(_FEED, [-1, 4])
        y = x
        for name in names:
            weight = paddle.ParamAttr(name=name)
            y = nn.functional.relu(nn.Linear(4, 4, weight_attr=weight, bias_attr=False)(y))
        executor = paddle.static.Executor()
        executor.run(startup)
        paddle.static.save_inference_model(str(folder / "model"), [x], [y], executor)
    return folder


def test_every_name_lives_through_a_merge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paddle.enable_static()
    model, folder = str(saved(tmp_path, _SAID)), tmp_path / "merged"
    capsys.readouterr()
    status = main(["merge", model, model, "-o", str(folder), "--shared", escaped_code(_SAID[0])])
    said = capsys.readouterr()
    merged = gt.load_merged(folder)
    names = {parameter.name for parameter in merged.program.global_block().all_parameters()}
    shown = StringIO()
    Console(file=shown, width=200).print(merged)
    verified = merged.verify()

    assert status == 0
    assert all(escaped_code(line) == line for line in (said.out + said.err).split("\n"))
    assert names == {*_SAID, *(f"teacher_{name}" for name in _SAID[1:])}
    assert merged.feed_map == {_FEED: _FEED}
    assert verified.equal
    for text in (shown.getvalue(), repr(merged), str(verified)):
        assert all(escaped_code(line.strip()) == line.strip() for line in text.split("\n"))


@pytest.mark.parametrize("key", ["quotes", "new line", "dash", "escape", "bytes"])
def test_folders_at_any_path_are_merged_and_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    paddle.enable_static()
    monkeypatch.chdir(tmp_path)
    home = Path(f"./{PATHS[key]}")
    shutil.move(saved(tmp_path / "plain", ["w"]), home)
    model, folder = f"./{home}", f"./{home}/merged"

    assert main(["merge", model, model, "-o", folder]) == 0
    assert gt.load_merged(folder).verify().equal
    assert [path.name for path in tmp_path.iterdir()] == [PATHS[key]]
