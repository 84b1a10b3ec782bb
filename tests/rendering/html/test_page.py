"""The page as a file: its policy, its data, its drawings, and engines that fail."""

from __future__ import annotations

import json
import re
import sysconfig
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from shutil import which
from typing import Any

import pytest

import graphtool as gt
from graphtool import render, suggest_pairs
from graphtool.graph import Graph
from graphtool.sources import read
from graphtool.text import printable

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
    markup = page.replace(held["script"][0], "")
    assert re.findall(r"\s(?:src|on\w+|style)=", markup) == []
    links = re.findall(r'href="([^"]*)"', markup)
    assert links
    assert all(re.fullmatch(r"#(?:teacher|student|pair)-[\d-]+", link) for link in links)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval", page)


def test_the_same_pairs_give_the_same_page(cnn: Graph, tmp_path: Path) -> None:
    assert written(suggest_pairs(cnn, cnn), tmp_path) == written(suggest_pairs(cnn, cnn), tmp_path)


def test_no_name_ends_the_data_or_becomes_markup(cnn: Graph, tmp_path: Path) -> None:
    name = '</script><img src=x onerror="document.title=1">\u2028\ud800'
    feed = replace(cnn.values["image"], layer=name)
    page = written(replace(cnn, values={**cnn.values, "image": feed}), tmp_path)

    assert page.count("<script") == 2
    assert "<img" not in page
    data = data_of(page)
    shown = data["networks"][0]["values"]["rows"][0][3]
    assert shown == printable(name)
    assert data["raw"][shown] == name


def test_blocks_that_are_alike_share_a_drawing(cnn: Graph, tmp_path: Path) -> None:
    page = written(suggest_pairs(cnn, cnn), tmp_path)
    drawings = re.findall(r'<template class="drawing">(.*?)</template>', page)
    blocks = [block for network in data_of(page)["networks"] for block in network["blocks"]]

    assert (len(drawings), len(blocks)) == (5, 10)
    for block in blocks:
        ids = re.findall(r' id="(\w+)"', drawings[block["drawing"]])
        boxes = [f"b{index}" for index in range(len(block["boxes"]))]
        assert sorted(ids) == sorted(boxes + [f"i{index}" for index in range(len(block["inputs"]))])


def test_without_an_engine_there_is_no_page(
    cnn: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    with pytest.raises(gt.GraphtoolError) as refused:
        render(cnn, tmp_path / "page.html")

    (found,) = refused.value.report
    assert (found.code, found.help) == ("GT401", "pip install graphviz-pure")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "why"),
    [("exit 3", "`dot` failed: exit status 3"), ("sleep 60", "the layout took over 1 s")],
)
def test_blocks_are_listed_where_their_layout_fails(
    cnn: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, why: str
) -> None:
    real, engine = which("dot"), tmp_path / "dot"
    # Blocks have an input; the picture has none.
    engine.write_text(f"#!/bin/sh\ncat > $0.in; ! grep -q id=i0 $0.in || {does}\n{real} $1 $0.in\n")
    engine.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    picture = render(cnn, tmp_path / "page.html", level="block", seconds=1)
    data = data_of((tmp_path / "page.html").read_text("utf-8"))

    (found,) = picture.report
    assert found.code == "GT404"
    assert found.message.endswith(why)
    assert [level["level"] for level in data["levels"]] == ["block"]
    assert {block["drawing"] for block in data["networks"][0]["blocks"]} == {None}


@pytest.mark.slow
def test_a_page_starts_at_its_level(cnn: Graph, tmp_path: Path) -> None:
    levels = {
        level: [each["level"] for each in data_of(written(cnn, tmp_path, level=level))["levels"]]
        for level in ("stage", "block", "module", "op")
    }

    assert levels == {
        "stage": ["stage", "block"],
        "block": ["block", "stage"],
        "module": ["module", "stage"],
        "op": [],
    }
