"""Private names of Paddle are used in one package, and their loss in a new release is reported."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import paddle
import pytest

import graphtool
from graphtool.backend.paddle import is_unseen, missing_names

_PACKAGE = Path(graphtool.__file__).parent
# Helps may name functions in `paddle.base` that users call.
_PRIVATE = re.compile(
    r"\b(?:paddle|\))\.base\.(?!create_lod_tensor|set_flags)|\._C_ops|libpaddle|# noqa: .*SLF001"
)
# The privates of argparse and networkx.
_OTHERS = {"cli/_setup.py", "graph.py"}


@pytest.mark.pir
def test_the_installed_paddle_has_all_names() -> None:
    assert not missing_names(paddle)


def test_a_name_that_is_gone_is_listed_with_what_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(paddle.static.Program, "_prune")

    assert missing_names(paddle)["gt.for_test"] == ("paddle.static.Program._prune",)


def test_only_releases_that_nobody_has_tested_are_new() -> None:
    releases = ["2.6.2", "3.3.1", "3.4.0", "3.10.0rc1", "0.0.0"]

    assert list(filter(is_unseen, releases)) == ["3.4.0", "3.10.0rc1"]


def test_no_other_package_uses_private_names() -> None:
    files = {
        path.relative_to(_PACKAGE).as_posix()
        for path in _PACKAGE.rglob("*.py")
        if _PRIVATE.search(path.read_text("utf-8"))
    }

    assert {file for file in files if not file.startswith("backend/")} == _OTHERS


_SCRIPT = """
import paddle
paddle.__version__ = "3.4.0"
del paddle.base.framework.Block._remove_op
del paddle.pir.IrMapping
import graphtool as gt
networks = [gt.from_layer(lambda: paddle.nn.Linear(4, 2), [("x", (4,))]) for _ in range(2)]
try:
    gt.merge(*networks, {"x": "x"})
except gt.MergeError as error:
    print(error)
"""


@pytest.mark.pir
def test_a_new_release_without_a_name_is_reported_once_and_fails_with_a_diagnostic() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True
    )

    assert done.stderr.count("warning[GT056] unseen-paddle: Paddle 3.4.0") == 1
    assert "merging needs `paddle.pir.IrMapping`" in done.stderr
    assert "gt.for_training needs `paddle.base.framework.Block._remove_op`" in done.stderr
    assert "error[GT258] paddle-failed: Paddle failed in `gt.merge`" in done.stdout
    assert "IrMapping" in done.stdout


def test_an_error_before_paddle_is_imported_stays_what_it_is() -> None:
    script = (
        "from graphtool.backend.errors import convert_paddle_errors\n"
        "try:\n"
        "    with convert_paddle_errors(RuntimeError): raise AttributeError('no such thing')\n"
        "except AttributeError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout == "no such thing\n"
