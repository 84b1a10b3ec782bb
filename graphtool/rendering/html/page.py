"""Assemble a page: its data as JSON, its style and its scripts in one file."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from html import escape
from importlib.resources import files

from graphtool.both import Both
from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError
from graphtool.graph import Graph
from graphtool.matching.fingerprint import fingerprint_text, fingerprints
from graphtool.matching.recipe import recipe_text
from graphtool.rendering import problems
from graphtool.rendering.board import Board, Level, Panel
from graphtool.rendering.boards import board_of, board_of_scene
from graphtool.rendering.engine import Engine, LayoutTimeoutError
from graphtool.rendering.html._board import board_data, pairs_data
from graphtool.rendering.html._flows import Layout, Outline, lay_out, outline_of
from graphtool.rendering.html._networks import Network, network_data
from graphtool.rendering.html._pair_table import PairTable
from graphtool.rendering.scenes import Scene, Subject
from graphtool.selectors import find
from graphtool.text import printable

__all__ = ["Page", "page_of"]

_ASSET_PACKAGE = "graphtool.rendering.html"
_SCRIPTS = ("model.js", "board.js", "lines.js", "panes.js", "page.js")
# A block keeps the scripts' names out of the global scope.
_SCRIPT_SCOPE = '"use strict";\n{{\n{}\n}}\n'
# The page may run its own script and use its own style, and nothing else.
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
    """A page as text, and its diagnostics."""

    text: str
    diagnostics: tuple[Diagnostic, ...]


def page_of(
    subject: Subject,
    drawn: Board | None,
    engine: Engine | None,
    *,
    seconds: float,
    focus: str | None = None,
) -> Page:
    """Build the page of one network or two; it opens in the state of the drawing.

    At level STAGE, blocks are folded. The block of a Value in focus is open. If Operators were
    drawn (`drawn` is None), all blocks are open. Without an engine, blocks open as lists.
    """
    graphs = subject.graphs if isinstance(subject, Scene) else (subject,)
    board = _board(subject, drawn)
    networks = [Network.of(graph, panel) for graph, panel in zip(graphs, board.panels, strict=True)]
    all_outlines = (outline_of(flow) for network in networks for flow in network.flows)
    outlines = [outline for outline in dict.fromkeys(all_outlines) if outline is not None]
    diagnostics: list[Diagnostic] = []
    layouts: tuple[Layout, ...] = ()
    try:
        if engine is None:
            diagnostics.append(_blocks_as_lists("no Graphviz was found"))
        else:
            layouts = lay_out(outlines, engine, seconds)
    except LayoutTimeoutError:
        diagnostics.append(_blocks_as_lists(f"the layout took over {seconds:g} s"))
    except GraphtoolError as error:
        diagnostics.append(_blocks_as_lists(error.report.diagnostics[0].message))
    indices = dict(zip(outlines, range(len(layouts)), strict=False))
    data = {
        **_page_data(subject, board, networks, indices),
        "start": "open" if drawn is None else drawn.level.value,
        "focus": None if focus is None else _focus_data(graphs, focus),
        "layouts": [
            {"size": layout.size, "at": layout.corners, "paths": layout.paths} for layout in layouts
        ],
    }
    title = " → ".join(panel.name for panel in board.panels)
    return Page(_html(title, data), tuple(diagnostics))


def _board(subject: Subject, drawn: Board | None) -> Board:
    if drawn is not None and drawn.level is not Level.STAGE:
        return drawn
    if isinstance(subject, Scene):
        return board_of_scene(subject, Level.BLOCK)
    return board_of(subject, Level.BLOCK)


def _focus_data(graphs: Sequence[Graph], focus: str) -> tuple[int, str] | None:
    """Return the index of the network that has the selected Value, and its name."""
    for index, graph in enumerate(graphs):
        with suppress(ReadError):
            return index, find(graph, focus).name
    return None


def _page_data(
    subject: Subject,
    board: Board,
    networks: Sequence[Network],
    layouts: Mapping[Outline, int],
) -> dict[str, object]:
    if isinstance(subject, Scene):
        return _data_of_both(subject, board, networks, layouts)
    data, indices = network_data(
        networks[0],
        layouts,
        classes={},
        fingerprint=None,
        extra_values=_row_outputs(board.panels[0]),
    )
    return {**board_data(board, networks, [indices]), "networks": [data]}


def _data_of_both(
    scene: Scene, board: Board, networks: Sequence[Network], layouts: Mapping[Outline, int]
) -> dict[str, object]:
    pairs, table = scene.pairs, PairTable.of(scene.structures.teacher, scene.structures.student)
    taps = [tap for pair in pairs for tap in (pair, *pair.alternatives)]
    teacher_data, teacher_indices = network_data(
        networks[0],
        layouts,
        classes=table.teacher_classes,
        fingerprint=_fingerprint_function(pairs.teacher),
        extra_values=(*_row_outputs(board.panels[0]), *(tap.teacher.name for tap in taps)),
    )
    student_data, student_indices = network_data(
        networks[1],
        layouts,
        classes=table.student_classes,
        fingerprint=_fingerprint_function(pairs.student),
        extra_values=(*_row_outputs(board.panels[1]), *(tap.student.name for tap in taps)),
    )
    indices = Both(teacher_indices, student_indices)
    return {
        **board_data(board, networks, tuple(indices)),
        "networks": [teacher_data, student_data],
        "pairs": pairs_data(pairs, indices),
        "forms": table.forms,
        "table": table.rows,
        # The script appends a table for each pair.
        "recipe": recipe_text(replace(pairs, pairs=())).replace("\npairs = []\n", "\n", 1),
    }


def _row_outputs(panel: Panel) -> Iterator[str]:
    return (name for card in panel.cards for row in card.rows for name in row.values)


def _fingerprint_function(graph: Graph) -> Callable[[str], str]:
    by_name = fingerprints(graph)
    return lambda name: fingerprint_text(by_name[name], name)


def _html(title: str, data: Mapping[str, object]) -> str:
    style = _asset("page.css")
    script = _SCRIPT_SCOPE.format("\n".join(map(_asset, _SCRIPTS)))
    policy = _POLICY.format(script=_digest(script), style=_digest(style))
    # ASCII with `<` escaped: no name can end the script element, and lone surrogates survive.
    json_data = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    return _PAGE.format(
        policy=policy,
        title=escape(printable(title)),
        style=style,
        script=script,
        data=json_data,
    )


def _asset(name: str) -> str:
    return files(_ASSET_PACKAGE).joinpath(name).read_text("utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _blocks_as_lists(reason: str) -> Diagnostic:
    message = f"blocks open as lists of operators, not as drawings: {reason}"
    return problems.simplified(message, help=problems.GET_ENGINE)
