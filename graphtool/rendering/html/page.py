"""Put a page together: its data as JSON, its style and its scripts in one file."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from html import escape
from importlib.resources import files

from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.matching._schema import marked
from graphtool.matching.fingerprint import fingerprints
from graphtool.matching.recipe import recipe_text
from graphtool.rendering import problems
from graphtool.rendering.board import Board, Level
from graphtool.rendering.boards import board_of, board_of_scene
from graphtool.rendering.engine import Engine, LayoutTimeoutError
from graphtool.rendering.html._board import board_data, pairs_data
from graphtool.rendering.html._choices import Choices
from graphtool.rendering.html._flows import Layout, Outline, laid_out, outline_of
from graphtool.rendering.html._networks import Network, network_data
from graphtool.rendering.scenes import Scene, Subject
from graphtool.selectors import find
from graphtool.text import visible

__all__ = ["Page", "page_of"]

_PACKAGE = "graphtool.rendering.html"
_SCRIPTS = ("model.js", "board.js", "lines.js", "panes.js", "page.js")
# No name is the window's.
_SCOPE = '"use strict";\n{{\n{}\n}}\n'
# What a page may do: run its own scripts, use its own style, and nothing else; ever less than this.
_POLICY = (
    "default-src 'none'; script-src {script}; style-src {style}; base-uri 'none'; "
    "form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<noscript>This page is drawn by its script, which the browser does not run.</noscript>
<script id="data" type="application/json">{data}</script>
<script>{script}</script>
</body>
</html>
"""


@dataclass(frozen=True, slots=True)
class Page:
    """A page as text, and what is to be said about it."""

    text: str
    said: tuple[Diagnostic, ...]


def page_of(
    subject: Subject,
    drawn: Board | None,
    engine: Engine | None,
    *,
    seconds: float,
    focus: str | None = None,
) -> Page:
    """Make the page of a network, or of two; it starts as they were drawn.

    Stages are folded blocks; where a Value was in focus, its block is open; where all Operators
    were drawn, which is no Board, all blocks are. Without an engine, blocks open as lists.
    """
    graphs = subject.graphs if isinstance(subject, Scene) else (subject,)
    board = _board(subject, drawn)
    networks = [Network.of(graph, panel) for graph, panel in zip(graphs, board.panels, strict=True)]
    found = (outline_of(flow) for network in networks for flow in network.flows)
    outlines = [outline for outline in dict.fromkeys(found) if outline is not None]
    said: list[Diagnostic] = []
    layouts: tuple[Layout, ...] = ()
    try:
        if engine is None:
            said.append(problems.blocks_as_lists("no Graphviz was found"))
        else:
            layouts = laid_out(outlines, engine, seconds)
    except LayoutTimeoutError:
        said.append(problems.blocks_as_lists(f"the layout took over {seconds:g} s"))
    except GraphtoolError as error:
        said.append(problems.blocks_as_lists(error.report.diagnostics[0].message))
    indices = dict(zip(outlines, range(len(layouts)), strict=False))
    data = {
        **_contents(subject, board, networks, indices),
        "start": "open" if drawn is None else drawn.level.value,
        "focus": None if focus is None else _focus(graphs, focus),
        "layouts": [
            {"size": layout.size, "at": layout.places, "paths": layout.paths} for layout in layouts
        ],
    }
    title = " → ".join(panel.name for panel in board.panels)
    return Page(_text(title, data), tuple(said))


def _board(subject: Subject, drawn: Board | None) -> Board:
    if drawn is not None and drawn.level is not Level.STAGE:
        return drawn
    if isinstance(subject, Scene):
        return board_of_scene(subject, Level.BLOCK)
    return board_of(subject, Level.BLOCK)


def _focus(graphs: Sequence[Graph], focus: str) -> tuple[int, str] | None:
    """Return which network a selector means a Value of, and its name."""
    for side, graph in enumerate(graphs):
        with suppress(ReadError):
            return side, find(graph, focus).name
    return None


def _contents(
    subject: Subject,
    board: Board,
    networks: Sequence[Network],
    layouts: Mapping[Outline, int],
) -> dict[str, object]:
    if isinstance(subject, Scene):
        return _both(subject, board, networks, layouts)
    data, places = network_data(
        networks[0], layouts, classes={}, mark=None, also=_values_of(board, 0)
    )
    return {**board_data(board, networks, [places]), "networks": [data]}


def _both(
    scene: Scene, board: Board, networks: Sequence[Network], layouts: Mapping[Outline, int]
) -> dict[str, object]:
    pairs, choices = scene.pairs, Choices.of(*scene.structures)
    classes = choices.teacher, choices.student
    written = [
        network_data(
            network,
            layouts,
            classes=classes[side],
            mark=_marker(network.graph),
            also=(*_values_of(board, side), *_ends(pairs, side)),
        )
        for side, network in enumerate(networks)
    ]
    places = [place for _, place in written]
    return {
        **board_data(board, networks, places),
        "networks": [data for data, _ in written],
        "pairs": pairs_data(pairs, places),
        "forms": choices.forms,
        "table": choices.table,
        # Pairs follow as tables of their own.
        "recipe": recipe_text(replace(pairs, pairs=())).replace("\npairs = []\n", "\n", 1),
    }


def _values_of(board: Board, side: int) -> Iterator[str]:
    for card in board.panels[side].cards:
        for row in card.rows:
            yield from row.values


def _ends(pairs: PairSet, side: int) -> Iterator[str]:
    for pair in pairs:
        for held in (pair, *pair.alternatives):
            yield (held.teacher, held.student)[side].name


def _marker(graph: Graph) -> Callable[[str], str]:
    marks = fingerprints(graph)
    return lambda name: marked(marks[name], name)


def _text(title: str, data: Mapping[str, object]) -> str:
    style = _asset("page.css")
    script = _SCOPE.format("\n".join(map(_asset, _SCRIPTS)))
    policy = _POLICY.format(script=_digest(script), style=_digest(style))
    # ASCII, with `<` escaped: no name can end the block, and lone surrogates stay what they are.
    block = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return _PAGE.format(
        policy=policy,
        title=escape(visible(title)),
        style=style,
        script=script,
        data=block,
    )


def _asset(name: str) -> str:
    return files(_PACKAGE).joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
