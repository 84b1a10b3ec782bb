"""`render`: files, engines that are missing, crash or hang, levels, focus, notebooks."""

from __future__ import annotations

import sysconfig
from pathlib import Path
from typing import Any

import pytest

import graphtool as gt
from graphtool import render, suggest_pairs
from graphtool.graph import Graph
from graphtool.rendering.board import Level
from graphtool.rendering.engine import find_engine
from graphtool.sources import read

FIXTURES = Path(__file__).parent.parent / "fixtures" / "3.3.1"


@pytest.fixture(scope="module")
def cnn() -> Graph:
    return read(FIXTURES / "cnn.json")


def engine_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a `dot` that does something else first on the path."""
    path = folder / "dot"
    path.write_text(f"#!/bin/sh\n{does}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def no_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(folder))


def codes(error: pytest.ExceptionInfo[Any]) -> list[str]:
    return [found.code for found in error.value.report]


@pytest.mark.parametrize(
    ("ending", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF"), ("DOT", b"dig")]
)
def test_the_ending_says_what_is_written(
    cnn: Graph, tmp_path: Path, ending: str, start: bytes
) -> None:
    path = tmp_path / f"picture.{ending}"
    picture = render(cnn, path)

    assert path.read_bytes().startswith(start)
    assert picture.level is Level.BLOCK
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_another_ending_is_refused(cnn: Graph, tmp_path: Path) -> None:
    with pytest.raises(gt.UsageError) as refused:
        render(cnn, tmp_path / "picture.jpeg")

    assert codes(refused) == ["GT402"]
    assert not list(tmp_path.iterdir())
    with pytest.raises(gt.UsageError) as refused:
        render(cnn, "/dev/full")
    assert [found.help for found in refused.value.report] == ["picture.svg"]


def test_a_folder_that_is_not_there_is_refused(cnn: Graph, tmp_path: Path) -> None:
    with pytest.raises(gt.GraphtoolError) as refused:
        render(cnn, tmp_path / "nowhere" / "picture.svg")

    assert codes(refused) == ["GT601"]


def test_without_an_engine_dot_is_written_and_the_rest_says_what_to_install(
    cnn: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_engine(tmp_path, monkeypatch)
    render(cnn, tmp_path / "picture.dot")

    with pytest.raises(gt.GraphtoolError) as refused:
        render(cnn, tmp_path / "picture.svg")

    assert codes(refused) == ["GT401"]
    assert refused.value.report.diagnostics[0].help == "pip install graphviz-pure"
    assert [file.name for file in tmp_path.iterdir()] == ["picture.dot"]
    assert render(cnn)._repr_svg_() is None
    assert "GT401" in render(cnn)._repr_html_()


@pytest.mark.parametrize(
    ("does", "message"),
    [
        ("echo 'no fonts' >&2; exit 3", "`dot` failed: exit status 3"),
        ("kill -SEGV $$", "`dot` failed: killed by signal 11"),
        ("exit 0", "`dot` failed: it drew nothing"),
    ],
)
def test_an_engine_that_fails_is_told_and_an_earlier_picture_stays(
    cnn: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, message: str
) -> None:
    engine_that(does, tmp_path, monkeypatch)
    path = tmp_path / "picture.svg"
    path.write_text("earlier")

    with pytest.raises(gt.GraphtoolError) as failed:
        render(cnn, path)

    assert codes(failed) == ["GT403"]
    assert failed.value.report.diagnostics[0].message == message
    assert path.read_text() == "earlier"


@pytest.mark.slow
def test_a_layout_that_takes_too_long_is_tried_at_the_next_level(
    cnn: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = find_engine()
    assert real is not None
    # At level op boxes are named n0, n1; at others, left_0.
    slow = f"cat > $0.in; grep -q 'left_head' $0.in || sleep 60; exec {real.path} $1 $0.in"
    engine_that(slow, tmp_path, monkeypatch)

    picture = render(cnn, tmp_path / "picture.svg", level="op", seconds=1)

    assert picture.level is Level.MODULE
    assert [found.code for found in picture.report] == ["GT404"]
    assert b"4 \xc3\x97 4" in (tmp_path / "picture.svg").read_bytes()


@pytest.mark.slow
def test_an_engine_that_hangs_is_stopped_with_what_it_started(
    cnn: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_that("sleep 60 | sleep 60", tmp_path, monkeypatch)

    with pytest.raises(gt.GraphtoolError) as failed:
        render(cnn, tmp_path / "picture.svg", level="stage", seconds=0.2)

    assert codes(failed) == ["GT403"]


def test_a_focus_draws_a_neighbourhood_and_says_what_it_leaves_out(cnn: Graph) -> None:
    pair = suggest_pairs(cnn, cnn).pairs[-1]
    alone = render(cnn, focus=pair.teacher.name, radius=1)
    both = render(suggest_pairs(cnn, cnn), focus=pair.teacher.name, radius=1)

    assert alone.level is both.level is Level.OP
    assert "not shown" in alone.dot
    assert both.dot.count("t0 ") >= 1
    assert both.dot.count("#C85200") > alone.dot.count("#C85200") == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"level": "blocks"}, "GT248"),
        ({"level": "block", "focus": "relu_0"}, "GT248"),
        ({"focus": "relu_0", "radius": 0}, "GT248"),
        ({"focus": "relu_0", "radius": "far"}, "GT248"),
        ({"focus": "relu_0", "radius": True}, "GT248"),
        ({"focus": 5}, "GT248"),
        ({"path": 5}, "GT248"),
        ({"path": ""}, "GT402"),
        ({"seconds": 0}, "GT248"),
        ({"seconds": "long"}, "GT248"),
        ({"seconds": float("nan")}, "GT248"),
        ({"seconds": float("inf")}, "GT248"),
    ],
)
def test_options_that_cannot_be_met_are_refused(
    cnn: Graph, options: dict[str, Any], code: str
) -> None:
    with pytest.raises(gt.UsageError) as refused:
        render(cnn, **options)

    assert codes(refused) == [code]


def test_a_focus_on_nothing_names_the_nearest(cnn: Graph) -> None:
    with pytest.raises(gt.ReadError) as refused:
        render(suggest_pairs(cnn, cnn), focus="relu_99")

    assert codes(refused) == ["GT101"]


def test_a_notebook_shows_the_picture_in_a_frame(cnn: Graph) -> None:
    picture = render(suggest_pairs(cnn, cnn))

    svg = picture._repr_svg_()
    assert svg is not None
    assert svg.startswith("<svg")
    assert picture._repr_html_().startswith('<div style="max-height:80vh;overflow:auto"><svg')
