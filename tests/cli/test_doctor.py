"""`graphtool doctor`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx
import paddle
import pytest

import graphtool
from graphtool.cli import _setup

Run = Callable[..., Any]


def facts(result: Any) -> dict[str, tuple[str, str | None]]:
    return {fact["name"]: (fact["found"], fact["help"]) for fact in result.json["facts"]}


def test_it_lists_what_is_installed(run: Run) -> None:
    result = run("doctor", "--json")
    found = facts(result)

    assert (result.status, result.err) == (0, "")
    home = Path(graphtool.__file__).parent
    assert found["graphtool"] == (f"{graphtool.__version__} in {home}", None)
    assert found["networkx"] == (networkx.__version__, None)
    assert found["Paddle"] == (f"paddlepaddle {paddle.__version__}", None)
    assert run("doctor").row("networkx").split() == ["networkx", networkx.__version__]


def test_what_is_missing_has_something_to_type(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_setup, "find_engine", lambda: None)
    monkeypatch.setattr(_setup, "_version_of", lambda name: None if "paddle" in name else "1.0")
    result = run("doctor", "--json")
    found = facts(result)

    # Files are read, paired, checked and drawn without both.
    assert result.status == 0
    assert found["Paddle"][1] is not None
    assert found["Paddle"][1].startswith("pip install paddlepaddle")
    assert found["Graphviz"][0] == "not installed"
    assert "graphviz" in str(found["Graphviz"][1])


def test_a_required_library_that_is_missing_is_an_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["graphviz>=0.20", "no-such-library>=1", "tomli>=2; python_version < '3.11'"]
    monkeypatch.setattr(_setup, "requires", lambda _: wanted)
    result = run("doctor")

    assert result.status == 1
    assert ["no-such-library", "not installed"] in result.cells
    assert "  = help: pip install no-such-library\n" in result.out


def test_two_builds_of_paddle_are_one_too_many(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_setup, "_version_of", lambda _: "3.3.1")
    found, fix = facts(run("doctor", "--json"))["Paddle"]

    assert found == "paddlepaddle 3.3.1 and paddlepaddle-gpu 3.3.1, one over the other"
    assert str(fix).startswith("pip uninstall paddlepaddle paddlepaddle-gpu, then ")
