"""DOT: the same for the same input, whatever the names, and laid out by real engines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from graphtool import Report, check_pairs, render, suggest_pairs
from graphtool.graph import Graph
from graphtool.rendering.engine import Engine, engine_for
from graphtool.sources import read
from tests.rendering.graphs import chain, flat, nested, two_chains

FIXTURES = Path(__file__).parent.parent / "fixtures" / "3.3.1"
SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"]; evil [label=<<B>&{}|\\N>\n\x1b[31m\u202eابجد</TABLE>' + "x" * 10_000
PURE = Path(sysconfig.get_path("scripts")) / "graphviz-pure"


def texts(svg: bytes) -> list[str]:
    root = ElementTree.fromstring(svg)
    found = ("".join(node.itertext()).strip("\u200a \xa0") for node in root.iter(f"{SVG}text"))
    return [text for text in found if text]


def harmless_texts(svg: bytes) -> list[str]:
    """Return the texts of a picture, none of which has become markup."""
    shown = texts(svg)
    assert b"evil [label" not in svg.replace(b"&quot;]; evil [label", b"")
    assert not any(letter in text for text in shown for letter in "\x1b\n\u202e")
    return shown


def laid_out(x: Graph | Report, level: str) -> bytes:
    return engine_for(".svg").draw(render(x, level=level).dot, "svg", 30)


def hostile(folder: Path) -> Graph:
    """Read the network with its feed, a parameter and its file under a hostile name."""
    document = json.loads((FIXTURES / "cnn.json").read_text("utf-8"))
    for op in document["program"]["regions"][0]["blocks"][0]["ops"]:
        if op["#"] == "p" and op["A"][3] == "conv2d_0.w_0":
            op["A"][3] = HOSTILE
        for attribute in op["A"] if op["#"] == "1.data" else ():
            if attribute["N"] == "name":
                attribute["AT"]["D"] = f"feed{HOSTILE}"
    path = folder / '<B>&"{}|.json'
    path.write_text(json.dumps(document), "utf-8")
    return read(path)


@pytest.mark.slow
def test_dot_is_the_same_byte_for_byte_in_another_process() -> None:
    script = (
        "import sys, graphtool as gt; from graphtool.sources import read; g = read(sys.argv[1]);"
        "x = gt.suggest_pairs(g, g), gt.check_merge(g, g, {}, name_prefix='');"
        "[sys.stdout.buffer.write(gt.render(y, level=l).dot.encode())"
        " for l in ('stage', 'block', 'module', 'op') for y in x]"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", script, FIXTURES / "cnn.json"],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]

    assert runs[0] == runs[1]
    assert runs[0].startswith(b"digraph graphtool {")


@pytest.mark.parametrize("level", ["stage", "block", "module", "op"])
def test_names_from_files_are_never_markup(tmp_path: Path, level: str) -> None:
    shown = harmless_texts(laid_out(hostile(tmp_path), level))

    assert any("<B>&" in text for text in shown)
    assert not any("evil [" in text and '"];' not in text for text in shown)
    assert max(map(len, shown)) < 120


def test_a_picture_of_one_operator_says_its_dtype() -> None:
    graph = flat("single", ["x"], [("y", "relu", ["x"]), ("z", "tanh", ["y"])], ["z"])
    double = replace(graph.values["y"], dtype="float64")
    graph = replace(graph, values={**graph.values, "y": double})

    shown = texts(laid_out(graph, "op"))
    assert shown == ["single", "x", "? × 4", "relu", "y", "? × 4", "tanh", "z", "? × 4 float64"]


@pytest.mark.parametrize("level", ["block", "op"])
def test_a_program_without_operators_is_drawn_as_its_header_alone(level: str) -> None:
    assert "empty" in texts(laid_out(flat("empty", [], [], []), level))


@pytest.mark.slow
def test_the_box_of_a_recurrent_operator_counts_its_parameters() -> None:
    import paddle

    from tests.networks import built

    dot = render(built(lambda: paddle.nn.LSTM(16, 8), [10, 16]), level="op").dot

    assert ">rnn<" in dot
    # Two matrices, of 16 and of 8 columns, and two biases.
    assert f">{32 * 16 + 32 * 8 + 2 * 32} parameters<" in dot


def test_conditions_and_loops_are_frames_at_level_op() -> None:
    root = ElementTree.fromstring(laid_out(read(FIXTURES / "control.json"), "op"))
    clusters = [node for node in root.iter(f"{SVG}g") if node.get("class") == "cluster"]
    titles = [next(node.itertext() for node in c.iter(f"{SVG}text")) for c in clusters]

    assert ["".join(title) for title in titles] == [
        "control",
        "if_0 · true",
        "if_0 · false",
        "while_0 · body",
    ]


@pytest.mark.slow
def test_a_chain_deeper_than_the_recursion_limit_is_drawn() -> None:
    graph = chain(3000)

    assert render(graph).dot.count("\n") < 30
    assert render(graph, level="op").dot.count("->") == 3998
    assert render(graph, focus="v1500", radius=2).dot.count("->") < 12


@pytest.mark.parametrize(
    "level",
    [None, "module", *(pytest.param(x, marks=pytest.mark.slow) for x in ("stage", "block"))],
)
def test_conditions_nested_deeper_than_the_recursion_limit_are_one_row(level: str | None) -> None:
    assert render(nested(2000), level=level).dot.count(">Condition<") == 1


@pytest.mark.slow
def test_frames_are_drawn_twelve_deep_and_no_box_is_left_out() -> None:
    dot = render(nested(1200), level="op").dot

    assert dot.count("subgraph") == 13
    assert dot.count(">relu<") == 1201
    assert dot.count(">if<") == 1200
    assert render(nested(1200), focus="relu_900", radius=1).dot.count(">relu<") == 3


def test_parts_that_are_not_connected_are_all_drawn() -> None:
    graph = two_chains()
    op, block = render(graph, level="op").dot, render(graph, level="block").dot

    assert op.count("->") == 6
    assert all(f">{name}<" in op for name in ("x", "y"))
    assert block.count(">Layers<") == 2
    root = ElementTree.fromstring(laid_out(graph, "block"))
    assert len([node for node in root.iter(f"{SVG}g") if node.get("class") == "node"]) == 3


@pytest.mark.slow
def test_a_finding_on_a_hostile_name_is_never_markup(tmp_path: Path) -> None:
    graph = hostile(tmp_path)
    report = check_pairs([(HOSTILE, "relu_0"), ("relu_0", "relu_2")], graph, graph)

    for level in ("stage", "block", "op"):
        shown = harmless_texts(laid_out(report, level))
        assert sum(text.startswith(r'`"]; evil [label=<<B>&{}|\N>') for text in shown) == 1


@pytest.mark.slow
@pytest.mark.skipif(not PURE.exists(), reason="the extra `dot` is not installed")
@pytest.mark.parametrize("level", ["stage", "block", "module", "op"])
def test_the_engine_from_pypi_shows_the_same_text(level: str) -> None:
    graph = read(FIXTURES / "cnn.json")
    dot = render(suggest_pairs(graph, graph), level=level).dot

    svg = Engine(str(PURE)).draw(dot, "svg", 30)
    assert sorted(texts(svg)) == sorted(texts(engine_for(".svg").draw(dot, "svg", 30)))
    assert b"Helvetica,Arial,sans-serif" in svg
