"""DOT of small networks, byte for byte; `python -m tests.rendering.test_golden` writes it anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import graphtool as gt
from graphtool.sources import read

FIXTURES = Path(__file__).parent.parent / "fixtures" / "3.3.1"
GOLDEN = Path(__file__).parent / "golden"


def network() -> str:
    return gt.render(read(FIXTURES / "cnn.json")).dot


def pairs() -> str:
    graph = read(FIXTURES / "cnn.json")
    named = ["relu_0", "relu_2"]
    found = {pair.teacher.name: pair for pair in gt.suggest_pairs(graph, graph)}
    chosen = tuple(replace(found[name], rank=rank) for rank, name in enumerate(named, 1))
    return gt.render(gt.PairSet(teacher=graph, student=graph, pairs=chosen)).dot


def report() -> str:
    graph = read(FIXTURES / "cnn.json")
    return gt.render(gt.check_pairs([("relu_0", "relu_2"), ("no", "relu_0")], graph, graph)).dot


def operators() -> str:
    return gt.render(read(FIXTURES / "control.json"), level="op").dot


DRAWN: dict[str, Callable[[], str]] = {
    function.__name__: function for function in (network, pairs, report, operators)
}


@pytest.mark.parametrize("name", DRAWN)
def test_dot_is_what_it_was(name: str) -> None:
    assert DRAWN[name]() == (GOLDEN / f"{name}.dot").read_text("utf-8")


if __name__ == "__main__":
    for name, draw in DRAWN.items():
        (GOLDEN / f"{name}.dot").write_text(draw(), "utf-8")
