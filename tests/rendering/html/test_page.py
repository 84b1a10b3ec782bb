"""The page as a file: its policy, its data, and what is said where no engine lays blocks out."""

from __future__ import annotations

import json
import re
import sysconfig
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from graphtool import render, suggest_pairs
from graphtool.graph import Graph
from graphtool.sources import read

FIXTURES = Path(__file__).parent.parent.parent / "fixtures" / "3.3.1"


@pytest.fixture(scope="module")
def cnn() -> Graph:
    return read(FIXTURES / "cnn.json")


def written(x: Any, folder: Path, **options: Any) -> str:
    path = folder / "page.html"
    render(x, path, **options)
    return path.read_text("utf-8")


def data_of(page: str) -> Any:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def test_a_page_may_run_its_own_script_and_use_its_own_style_and_nothing_else(
    cnn: Graph, tmp_path: Path
) -> None:
    page = written(suggest_pairs(cnn, cnn), tmp_path)
    held = {
        tag: re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL) for tag in ("script", "style")
    }
    hashes = {
        tag: b64encode(sha256(found[0].encode()).digest()).decode() for tag, found in held.items()
    }
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)

    allowed = f"script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'"
    trusted = "require-trusted-types-for 'script'; trusted-types 'none'"
    assert policy == [
        f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'; {trusted}"
    ]
    assert [len(found) for found in held.values()] == [1, 1]
    assert re.findall(r"\s(?:src|href|on\w+|style)=", page.replace(held["script"][0], "")) == []
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", page)


def test_the_same_pairs_give_the_same_page(cnn: Graph, tmp_path: Path) -> None:
    assert written(suggest_pairs(cnn, cnn), tmp_path) == written(suggest_pairs(cnn, cnn), tmp_path)


def test_no_name_ends_the_data_or_becomes_markup(cnn: Graph, tmp_path: Path) -> None:
    name = '</script><img src=x onerror="document.title=1">\u2028\ud800'
    feed = replace(cnn.values["image"], layer=name)
    page = written(replace(cnn, values={**cnn.values, "image": feed}), tmp_path)

    assert page.count("<script") == 2
    assert "<img" not in page
    assert [value.get("l") for value in data_of(page)["networks"][0]["values"]][:1] == [name]


def test_blocks_that_are_alike_are_laid_out_once(cnn: Graph, tmp_path: Path) -> None:
    data = data_of(written(suggest_pairs(cnn, cnn), tmp_path))
    flows = [flow for network in data["networks"] for flow in network["flows"]]
    used = {flow["l"] for flow in flows}

    assert used == set(range(len(data["layouts"])))
    assert (len(data["layouts"]), len(flows)) == (5, 10)
    for flow in flows:
        assert len(data["layouts"][flow["l"]]["at"]) == len(flow["b"]) + len(flow.get("i", ()))


@pytest.mark.parametrize(
    ("does", "why"),
    [
        (None, "no Graphviz was found"),
        ("exit 3", "`dot` failed: exit status 3"),
        ("sleep 60", "the layout took over 0.3 s"),
    ],
)
@pytest.mark.slow
def test_where_no_engine_lays_blocks_out_the_page_is_written_and_says_why(
    cnn: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str | None, why: str
) -> None:
    engine = tmp_path / "dot"
    if does is not None:
        engine.write_text(f"#!/bin/sh\n{does}\n")
        engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}" if does is None else f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    picture = render(cnn, tmp_path / "page.html", seconds=0.3)
    page = (tmp_path / "page.html").read_text("utf-8")

    assert [found.code for found in picture.report] == ["GT404"]
    assert picture.report.diagnostics[0].message.endswith(why)
    assert picture.report.diagnostics[0].help == "pip install graphviz-pure"
    assert data_of(page)["layouts"] == []


@pytest.mark.slow
def test_levels_and_a_focus_say_how_a_page_starts(cnn: Graph, tmp_path: Path) -> None:
    starts = {
        level: data_of(written(cnn, tmp_path, level=level))["start"]
        for level in ("stage", "block", "module", "op")
    }
    focus = data_of(written(suggest_pairs(cnn, cnn), tmp_path, focus="relu_0"))["focus"]

    assert starts == {"stage": "stage", "block": "block", "module": "module", "op": "open"}
    assert focus == [0, "relu_0"]
