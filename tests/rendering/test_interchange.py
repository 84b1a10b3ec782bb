"""Graphs in files for other tools, read back by networkx and csv."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import networkx
import pytest

import graphtool as gt
from graphtool.graph import Graph
from graphtool.rendering.interchange import row_data
from graphtool.structure import analyse, value_row
from graphtool.text import printable

FIXTURES = Path(__file__).parents[1] / "fixtures"
CNN = FIXTURES / "3.3.1" / "cnn.json"
FIXED = [
    FIXTURES / "2.6.2" / "cnn.pdmodel",
    FIXTURES / "3.3.1" / "cnn.json",
]
HOSTILE = (
    "=cmd|'/C calc'!A0",
    "+1",
    "-1",
    "@SUM(A1)",
    "\uff1d1",
    "'=1",
    "a\x07\x00b",
    "a\ud800",
    "\ufffe",
    'one\r\ntwo\tthree, "four"; five',
    "&<]]>\"'",
    "\\x07",
)


def renamed(graph: Graph, old: str, new: str) -> Graph:
    """Give one Value of a Graph another name, wherever it stands."""

    def named(names: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(new if name == old else name for name in names)

    return replace(
        graph,
        values={
            new if name == old else name: replace(value, name=new) if name == old else value
            for name, value in graph.values.items()
        },
        operators={
            name: replace(one, operands=named(one.operands), results=named(one.results))
            for name, one in graph.operators.items()
        },
        blocks={
            path: replace(block, arguments=named(block.arguments), results=named(block.results))
            for path, block in graph.blocks.items()
        },
        feeds=named(graph.feeds),
        fetches=named(graph.fetches),
    )


def all_hostile() -> Graph:
    graph = gt.read(CNN)
    names = [name for name, value in graph.values.items() if value.producer is not None]
    for old, new in zip(names[-len(HOSTILE) :], HOSTILE, strict=True):
        graph = renamed(graph, old, new)
    return graph


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("model", FIXED, ids=["legacy", "pir"])
def test_networkx_reads_the_graph_that_was_written(model: Path, tmp_path: Path) -> None:
    graph = gt.read(model)
    gt.write_graph(model, tmp_path / "net.graphml")
    found = networkx.read_graphml(tmp_path / "net.graphml")

    assert list(found.nodes) == list(graph.nx.nodes)
    assert set(found.edges) == set(graph.nx.edges)
    for name, value in graph.values.items():
        node = found.nodes[name]
        assert (node["node"], node["name"]) == ("value", name)
        if value.shape is not None:
            shape = [-1 if dim == "?" else int(dim) for dim in node["shape"].split()]
            assert tuple(shape) == value.shape
        assert node.get("dtype") == value.dtype
    for operator in graph.operators.values():
        key = graph.operator_keys[operator.name]
        assert found.nodes[key]["op"] == operator.type
        places = {
            place: tail
            for tail, _, places in found.in_edges(key, data="place")
            if places is not None
            for place in map(int, places.split())
        }
        operands = enumerate(operator.operands)
        assert places == {place: name for place, name in operands if name is not None}


def test_a_number_is_a_number_in_graphml(tmp_path: Path) -> None:
    gt.write_graph(CNN, tmp_path / "net.graphml")
    node = networkx.read_graphml(tmp_path / "net.graphml").nodes["relu_0"]

    assert (node["stage"], node["main_line"]) == (1, True)
    assert node["depth"] == pytest.approx(value_row(analyse(gt.read(CNN)), _value("relu_0")).depth)
    keys = (
        ElementTree.parse(tmp_path / "net.graphml")
        .getroot()
        .iter("{http://graphml.graphdrawing.org/xmlns}key")
    )
    types = {key.get("attr.name"): key.get("attr.type") for key in keys}
    assert types == {
        "node": "string",
        "origin": "string",
        "name": "string",
        "op": "string",
        "op_index": "long",
        "output": "long",
        "shape": "string",
        "dtype": "string",
        "aliases": "string",
        "role": "string",
        "main_line": "boolean",
        "module": "string",
        "stage": "long",
        "resolution": "string",
        "depth": "double",
        "multiply_adds_before": "double",
        "block": "string",
        "place": "string",
    }


def _value(name: str) -> gt.Value:
    return gt.read(CNN).values[name]


def test_csv_has_every_value_with_what_inspect_says_of_it(tmp_path: Path) -> None:
    graph = gt.read(CNN)
    gt.write_graph(graph, tmp_path / "values.csv")
    lines = lines_of(tmp_path / "values.csv")

    assert [line["name"] for line in lines] == list(graph.values)
    (relu,) = [line for line in lines if line["name"] == "relu_0"]
    assert (relu["op"], relu["shape"], relu["stage"]) == ("pd_op.relu", "? 4 8 8", "1")
    assert list(relu) == list(row_data(graph, value_row(analyse(graph), graph.values["relu_0"])))


def test_hostile_names_are_written_out_in_xml(tmp_path: Path) -> None:
    graph = all_hostile()
    gt.write_graph(graph, tmp_path / "net.graphml")
    found = networkx.read_graphml(tmp_path / "net.graphml")

    assert set(map(printable, HOSTILE)) <= set(found.nodes)
    assert list(found.nodes) == list(map(printable, graph.nx.nodes))
    assert set(found.edges) == {(printable(tail), printable(head)) for tail, head in graph.nx.edges}
    assert [gt.find(graph, printable(name)).name for name in HOSTILE] == list(HOSTILE)


def test_no_spreadsheet_computes_a_name(tmp_path: Path) -> None:
    gt.write_graph(all_hostile(), tmp_path / "values.csv")
    names = [line["name"] for line in lines_of(tmp_path / "values.csv")][-len(HOSTILE) :]

    assert names[:6] == [f"'{name}" for name in HOSTILE[:6]]
    assert [name.removeprefix("'") for name in names] == [printable(name) for name in HOSTILE]
    assert not [name for name in names if name.startswith(("=", "+", "-", "@"))]


def test_a_file_that_cannot_be_written_is_refused_before_work(tmp_path: Path) -> None:
    with pytest.raises(gt.UsageError) as error:
        gt.write_graph("no such model", tmp_path / "net.gexf")
    (found,) = error.value.report
    assert (found.code, found.help) == ("GT402", f"{tmp_path / 'net'}.csv")
    with pytest.raises(gt.GraphtoolError) as raised:
        gt.write_graph("no such model", tmp_path / "missing" / "values.csv")
    assert raised.value.report.errors[0].code == "GT601"
    refused: Callable[[], None] = lambda: gt.write_graph(CNN, 3)  # noqa: E731
    with pytest.raises(gt.UsageError, match="GT248"):
        refused()
    assert list(tmp_path.iterdir()) == []
