"""Hostile names in every output of every command: harmless, told apart, and found again."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from time import process_time
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from graphtool.cli import main
from graphtool.diagnostics import Diagnostic, Report, Where
from graphtool.graph import Graph
from graphtool.matching import PairSet, suggest_pairs
from graphtool.matching.recipe import read_recipe
from graphtool.rendering import render
from graphtool.selectors import find
from graphtool.sources import read
from graphtool.text import escaped_code, printable, printed_forms, printed_name, shell_option
from graphtool.toolkits import export
from tests.hostile.names import FIXTURES, NAMES, legacy, pir, read_back, variables
from tests.terminals import terminal

pytestmark = pytest.mark.nightly

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Run = Callable[..., tuple[int, str, str]]

# Of protobuf, all names but those that are no UTF-8; a network has fewer Variables than names.
_SAID = [name for name in NAMES.values() if not set("\ud800\udcff") & set(name)]
_HALF = len(_SAID) // 2
SGR = re.compile("\x1b\\[[0-9;]*m")
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*argv: str | Path) -> tuple[int, str, str]:
        status = main(list(map(str, argv)))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def renamed(shift: int) -> Mapping[str, str]:
    return dict(zip(variables(), _SAID[shift:] + _SAID[:shift], strict=False))


@pytest.fixture(scope="module", params=[0, _HALF])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model whose feature maps, feed, fetch and parameters have hostile names."""
    return legacy(tmp_path_factory.mktemp("hostile") / "cnn.pdmodel", renamed(request.param))


@pytest.fixture(scope="module")
def graph(model: Path) -> Graph:
    return read(model)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return one such model, and one of PIR with all in one name, a type's and a module's too."""
    folder = tmp_path_factory.mktemp("mixed")
    bits = " ".join(name for name in NAMES.values() if len(name) < 100)
    return legacy(folder / "cnn.pdmodel", renamed(0)), pir(folder / "cnn.json", bits)


def is_harmless(text: str) -> bool:
    """Tell text of which a terminal shows every letter, each on its line."""
    return all(escaped_code(line) == line for line in text.split("\n"))


ODD = "\x1b\u202e"
FORMS = (
    "inspect MODEL --all",
    "inspect MODEL --name ODD*",
    "inspect MODEL --op ODD",
    "suggest-pairs MODEL MODEL",
    "suggest-pairs MODEL MODEL --recipe fitnet",
    "suggest-pairs MODEL MODEL --for ODD",
    "suggest-pairs MODEL MODEL --match shape",
    "suggest-pairs MODEL MODEL --explain ODD=ODD",
    "suggest-pairs MODEL MODEL --as ODD",
    "check MODEL MODEL --prefix=",
    "check MODEL ODD:x",
    "merge MODEL MODELODD -o ODD",
    "render MODEL -o - --focus ODD",
    "render MODEL -o ODD.txt",
    "explain ODD",
    "inspect MODEL ODD",
)


@pytest.mark.parametrize("line", FORMS)
def test_no_command_sends_what_a_name_holds_to_the_terminal(
    run: Run, mixed: Sequence[Path], line: str
) -> None:
    for model in map(str, mixed):
        words = [part.replace("MODEL", model).replace("ODD", ODD) for part in line.split()]
        status, out, err = run(*words)
        marked = [text[:8] for text in err.splitlines() if text[:1] != " "]

        assert status in (0, 1, 2)
        assert out or err
        assert is_harmless(out.replace("\t", ""))
        assert is_harmless(err)
        assert set(marked) <= {"error[GT", "warning[", "note[GT2", "feed map"}


def test_every_name_is_listed_once_as_it_is_shown_and_reads_back(
    run: Run, model: Path, graph: Graph
) -> None:
    _, out, _ = run("inspect", model, "--all")
    rows = out.split("\nname ")[1].splitlines()[1 : len(graph.values) + 1]

    for row, name in zip(rows, graph.values, strict=True):
        assert row.startswith(f"{printed_name(name)}  ")
        assert len(name) > 1000 or read_back(printed_name(name)) == name


def test_a_value_is_found_by_its_name_and_by_what_is_shown_for_it(graph: Graph) -> None:
    for name in graph.values:
        assert find(graph, name).name == name
        assert all(find(graph, shown).name == name for shown in printed_forms(name))


def test_part_of_a_name_leads_to_the_names_that_hold_it(run: Run, tmp_path: Path) -> None:
    model = legacy(tmp_path / "cnn.pdmodel", {"relu_1.tmp_0": "[a-z]*?", "relu_0.tmp_0": "b"})
    _, _, err = run("suggest-pairs", model, model, "--for", "[a-z]*")
    advice = err.splitlines()[-1]

    assert advice == f"  = help: graphtool inspect {model} --name '*[[]a-z][*]*'"
    _, out, _ = run(*shlex.split(advice.removeprefix("  = help: graphtool ")))
    assert [line.split()[0] for line in out.splitlines()] == ["name", "[a-z]*?"]


def test_a_feed_without_letters_is_shown_and_found(run: Run, tmp_path: Path) -> None:
    model = pir(tmp_path / "cnn.json", "", feed="")
    _, out, _ = run("inspect", model)
    _, _, err = run("check", model, model, "--feed", '""=""', "--parameters", "later")

    assert 'feeds          ""  [?, 3, 16, 16] float32' in out.splitlines()
    assert find(read(model), '""').name == ""
    assert "GT210" not in err


def test_what_is_copied_from_a_table_is_taken_by_every_command(
    run: Run, model: Path, graph: Graph, tmp_path: Path
) -> None:
    pair = suggest_pairs(graph, graph).pairs[-1].teacher.name
    shown, feed = printed_name(pair), printed_name(graph.feeds[0])
    for argv in (
        ("inspect", model, f"--name={shown}"),
        ("suggest-pairs", model, model, f"--for={shown}"),
        ("suggest-pairs", model, model, f"--explain={shown}={shown}"),
        ("render", model, f"--focus={shown}", "-o", tmp_path / "focus.dot"),
    ):
        assert run(*argv)[0] == 0, argv
    _, out, _ = run("check", model, model, f"--feed={feed}={feed}", "--format", "json")

    assert json.loads(out)["feed_map"] == {graph.feeds[0]: graph.feeds[0]}


def test_json_is_ascii_and_keeps_every_name(run: Run, model: Path, graph: Graph) -> None:
    _, listed, _ = run("inspect", model, "--format", "json")
    _, pairs, _ = run("suggest-pairs", model, model, "--json")
    _, checked, _ = run("check", model, model, "--format", "json")
    notes = [found["where"] for found in json.loads(checked)["diagnostics"]]

    assert [value["name"] for value in json.loads(listed)["values"]] == list(graph.values)
    assert [pair["teacher"]["name"] for pair in json.loads(pairs)["pairs"]] == [
        pair.teacher.name for pair in suggest_pairs(graph, graph)
    ]
    assert {place["value"] for place in chain(*notes) if place["value"]} <= graph.values.keys()
    assert (listed + pairs + checked).isascii()


def test_recipes_keep_every_name(run: Run, model: Path, graph: Graph, tmp_path: Path) -> None:
    path = tmp_path / "pairs.toml"
    assert run("suggest-pairs", model, model, "-o", path)[0] == 0
    names = [pair.teacher.name for pair in suggest_pairs(graph, graph)]
    plain: Any = tomllib.loads(path.read_text("utf-8"))

    assert [pair["teacher"]["name"] for pair in plain["pairs"]] == names
    recipe = read_recipe(path, teacher=graph, student=graph).pairs
    assert [pair.student.name for pair in recipe] == names
    assert [found.code for found in recipe.report] == []


@pytest.mark.parametrize("level", ["block", "op"])
def test_dot_has_the_nodes_and_edges_that_it_has_under_harmless_names(
    graph: Graph, level: str
) -> None:
    dot = shutil.which("dot")
    if dot is None:
        pytest.skip("Graphviz is not installed")
    honest = read(FIXTURES / "2.6.2" / "cnn.pdmodel")
    counts: list[tuple[int, int]] = []
    for drawn in (graph, honest):
        source = render(drawn, level=level).dot
        assert is_harmless(source.replace("\t", ""))
        done = subprocess.run(
            [dot, "-Tjson"], input=source.encode(), capture_output=True, check=True
        )
        assert done.stderr == b""
        parsed = json.loads(done.stdout)
        counts.append((len(parsed["objects"]), len(parsed["edges"])))

    assert counts[0] == counts[1]


@pytest.mark.parametrize("networks", [1, 2])
def test_svg_is_text_alone_as_a_terminal_has_it(
    run: Run, model: Path, graph: Graph, tmp_path: Path, networks: int
) -> None:
    level = ("--level", "op") if networks == 1 else ()
    assert run("render", *[model] * networks, *level, "-o", tmp_path / "x.svg")[0] == 0
    root = ElementTree.parse(tmp_path / "x.svg").getroot()
    lines = ("".join(element.itertext()) for element in root.iter(f"{SVG}text"))
    # Words are set apart by blanks that are not broken, and lines begin with a narrow one.
    texts = [text.replace("\xa0", " ").strip("\u200a") for text in lines]
    tags = {element.tag.removeprefix(SVG) for element in root.iter()}
    attributes = {name for element in root.iter() for name in element.attrib}

    assert tags <= {"svg", "g", "title", "text", "polygon", "path", "ellipse", "polyline"}
    assert not any(name.startswith("on") or "href" in name for name in attributes)
    assert texts
    assert all(is_harmless(text) for text in texts)
    if networks == 1:
        short = {printable(name) for name in graph.values if len(printable(name)) < 20}
        hidden = {"fetch", *graph.feeds, *(name for name in short if "@" in name)}
        computed = {name for op in graph.operators.values() for name in op.results[:1]}
        assert (short & set(map(printable, computed))) - hidden <= set(texts)


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_pictures_that_are_no_text_are_drawn_without_complaints(
    run: Run, model: Path, tmp_path: Path, ending: str, magic: bytes
) -> None:
    path = tmp_path / f"x.{ending}"
    status, _, err = run("render", model, model, "--level", "op", "-o", path)

    assert (status, err) == (0, f"wrote {path}: level op\n")
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize("command", ["inspect", "suggest-pairs", "check"])
def test_a_terminal_is_sent_colours_and_nothing_else(model: Path, command: str) -> None:
    arguments = [model] if command == "inspect" else [model, model]
    extra = ["--parameters", "later"] if command == "check" else []
    text = terminal(120, command, *map(str, arguments), *extra)
    lines = text.replace("\r\n", "\n").split("\n")

    assert all(escaped_code(line) == line for line in (SGR.sub("", line) for line in lines))
    assert "\x1b[1m" in text or command == "check"


def test_configurations_in_yaml_are_seen_whole_and_keep_every_name() -> None:
    honest = read(FIXTURES / "2.6.2" / "cnn.pdmodel")
    pair = suggest_pairs(honest, honest).pairs[2]
    for name in _SAID:
        value = replace(honest.values[pair.teacher.name], layer=name, layer_outputs=(name,))
        graph = replace(honest, values={**honest.values, value.name: value})
        end = replace(pair.teacher, layer=name)
        both = replace(pair, teacher=end, student=end)
        text = export(PairSet(teacher=graph, student=graph, pairs=(both,)), "paddleclas")

        assert is_harmless(text)
        losses = yaml.safe_load(text)["Loss"]["Train"]
        written = re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", name)
        assert losses[1]["DistillationPairLoss"]["t_key"] == written


def test_diagnostics_are_harmless_wherever_they_are_printed() -> None:
    name = "".join(name for name in NAMES.values() if len(name) < 100 and "`" not in name)
    found = Diagnostic(
        message=f"no Value is called `{name}`",
        where=(Where(role="teacher", program=name, value=name, shape=(1,), source=name),),
        notes=(f"nearest: `{name}`, `{name}`", "Paddle said:\nout of memory"),
        help=f"graphtool inspect x {shell_option('--name', name)}",
        code="GT101",
        slug="unknown-name",
    )
    lines = str(Report.of((found,))).split("\n")
    starts = ["error[GT101]", "  --> teacher", "  = note", "  = note", "    out of m", "  = help"]

    assert all(line.startswith(one) for line, one in zip(lines, starts, strict=True))
    assert is_harmless("\n".join(lines))
    assert lines[0] == f"error[GT101] unknown-name: no Value is called `{printed_name(name)}`"


def test_names_of_100_kilobytes_cost_no_time(run: Run, tmp_path: Path) -> None:
    letters = random.Random(1).choices("abcdefghij_./\x1b\u202eé", k=200_000)
    teacher, student = (
        pir(tmp_path / f"{place}.json", "", feed="".join(letters[place : place + 100_000]))
        for place in (0, 100_000)
    )
    started = process_time()
    status, _, err = run("check", teacher, student, "--feed", "x=y")

    assert status == 1
    assert max(map(len, err.splitlines())) < 25_000
    assert process_time() - started < 4
