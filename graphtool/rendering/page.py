"""Write a page: the SVG of a picture, drawings of its blocks, what is known of both, a script."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import accumulate
from typing import Any, TypeAlias, cast

from graphtool.both import Both
from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError
from graphtool.graph import Attribute, Graph, Origin
from graphtool.matching import Alternative, Pair
from graphtool.matching.candidates import common_pair_kind, pair_kind
from graphtool.matching.fingerprint import Fingerprint, fingerprint_text, fingerprints
from graphtool.matching.recipe import recipe_text
from graphtool.matching.relations import adapter_of, loss_of, relation_of, warnings
from graphtool.rendering._cards import board_dot
from graphtool.rendering._labels import FONT
from graphtool.rendering._operators import Box, Edge, block_dot, diagram_of
from graphtool.rendering.board import BlockRow, Board, Level, Panel
from graphtool.rendering.boards import board_of, compared, outermost
from graphtool.rendering.engine import FOCUS, engine_for, simplified
from graphtool.rendering.scenes import Scene, Subject, network_name, networks_of
from graphtool.selectors import find
from graphtool.structure import Structure
from graphtool.text import printable

__all__ = ["page_of", "with_links"]

# A larger block is listed, and so are all once so many boxes are drawn: 2,000 take dot 2 s.
_MAX_BLOCK, _MAX_EDGES, _MAX_DRAWN = 100, 250, 2000
# A second drawing of more rows is left out: the picture has its stages then.
_MAX_ROWS = 600
_MAX_ATTRIBUTE_LENGTH = 400
# Feature maps are one class if they agree in everything that a pair depends on. The page knows at
# most this many classes of each network; maps of further classes cannot be paired there.
_MAX_CLASSES = 120
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
<main id="view" tabindex="-1">{picture}</main>
{drawings}
<script id="data" type="application/json">{data}</script>
<script>{script}</script>
</body>
</html>
"""
# What an SVG of Graphviz holds that a page has no use for: comments, ids and tooltips of nodes that
# it numbered itself, what the style says once for all text, and the hair spaces beside bold text.
_UNUSED = re.compile(
    r"<!--.*?-->\s*|<title>.*?</title>\s*|<text [^>]*>(?:\u200a|&#8202;|&#160;|\s)*</text>\s*"
    r'| (?:xmlns(?::xlink)?|xml:space|xlink:title)="[^"]*"| text-anchor="start"'
    r'| stroke="transparent"| id="(?:a_|page|graph|node\d|edge\d|clust\d)[^"]*"'
    rf'| font-family="{FONT}"| font-size="10\.00"',
    re.DOTALL,
)
# What a pair would be: kind, relation, adapter, loss and warnings.
_PairForm: TypeAlias = "tuple[str, str, str | None, str, tuple[str, ...]]"
# What the page knows of Values and of Operators, the rarest last: None at the end is left out.
_VALUE_FIELDS = ("name", "shape", "class", "layer", "fingerprint", "dtype", "output", "parameter")
_BOX_FIELDS = ("results", "type", "index", "lines", "operands", "module", "source", "name")


def with_links(dot: str) -> str:
    """Make the cells that have an id links to it: Graphviz draws their id for links alone."""
    return re.sub(r' ID="([\w-]+)"', r' ID="\1" HREF="#\1"', dot)


def page_of(
    subject: Subject,
    drawn: Board | None,
    svg: bytes,
    *,
    seconds: float,
    focus: str | None = None,
) -> tuple[str, tuple[Diagnostic, ...]]:
    """Build the page of a drawing, and the diagnostics of what it leaves out.

    `svg` is that of `drawn`, or of Operators if that is None. The page has a drawing of the stages
    as well, or of the blocks if `drawn` is at level STAGE. A focus opens the block of its Value.
    """
    boards: list[Board] = []
    if drawn is not None:
        other = Level.BLOCK if drawn.level is Level.STAGE else Level.STAGE
        boards = [drawn, board_of(subject, other)]
    detailed = next((board for board in boards if board.level is not Level.STAGE), None)
    boards = [board for board in boards if board is drawn or board.rows <= _MAX_ROWS]
    networks = [
        _Network(graph, role, None if detailed is None else detailed.panels[index])
        for index, (role, graph) in enumerate(networks_of(subject))
    ]
    sources = [with_links(board_dot(board)) for board in boards[1:]]
    dots = list(dict.fromkeys(dot for network in networks for dot in network.drawings if dot))
    sizes = accumulate(dot.count(" id=") for dot in dots)
    dots = [dot for dot, size in zip(dots, sizes, strict=True) if size <= _MAX_DRAWN]
    diagnostics: list[Diagnostic] = []
    svgs = [_inline(svg.decode())]
    try:
        if sources or dots:
            source = "\n".join((*sources, *dots))
            laid_out = engine_for(".html").draw(source, "svg", seconds).decode()
            svgs += map(_inline, re.findall("<svg.*?</svg>", laid_out, re.DOTALL))
    except GraphtoolError as error:
        reason = error.report.diagnostics[0].message
        message = f"blocks open as lists of operators, not as drawings: {reason}"
        diagnostics.append(simplified(message, help=FOCUS))
    first = 1 + len(sources)
    levels, drawings = svgs[:first], svgs[first:]
    indices = {dot: index for index, dot in enumerate(dots[: len(drawings)])}
    data = {
        "levels": [_level_data(board, networks) for board, _ in zip(boards, levels, strict=False)],
        "notes": () if drawn is None else drawn.notes,
        "findings": (drawn.findings or ()) if drawn is not None else (),
        **(_pairs_data(subject, networks) if isinstance(subject, Scene) else {}),
        "networks": [network.data(indices) for network in networks],
        "focus": None if focus is None else _focus_data(networks, focus),
    }
    raw: dict[str, str] = {}
    data = {**_plain(data, raw), "raw": raw}
    if isinstance(subject, Scene):
        # The script appends a table for each pair.
        recipe = recipe_text(replace(subject.pairs, pairs=()))
        data["recipe"] = recipe.replace("\npairs = []\n", "\n", 1)
    title = " → ".join(network_name(graph) for _, graph in networks_of(subject))
    return _html(title, data, levels, drawings), tuple(diagnostics)


def _inline(svg: str) -> str:
    """Return the SVG element of a file, without what a page has no use for."""
    svg = svg[svg.index("<svg") :]
    svg = _UNUSED.sub("", svg).replace("xlink:href", "href")
    return re.sub(r">\s+<", "><", svg).replace("\n", " ").replace('.00"', '"')


class _Network:
    """What a page knows of one network; boxes, Values and blocks go by their indices.

    `classes` are those of feature maps that a pair may have, `ends` those of the pairs.
    """

    def __init__(self, graph: Graph, role: str | None, panel: Panel | None) -> None:
        self.graph, self.role = graph, role or "network"
        self.diagram = diagram_of(graph, role)
        self.classes: dict[str, int] = {}
        self.ends: set[str] = set()
        self.indices: dict[str, int] = {}
        rows = [] if panel is None else [row for card in panel.cards for row in card.rows]
        blocks = [block for row in rows for block in row.blocks]
        self.results = [name for row in rows for name in row.values]
        self.block_of = {name: index for index, block in enumerate(blocks) for name in block}
        self.boxes: list[list[Box]] = [[] for _ in blocks]
        self.inputs: list[dict[str, Box]] = [{} for _ in blocks]
        edges: list[list[Edge]] = [[] for _ in blocks]
        boxes = {box.key: box for box in self.diagram.boxes}
        homes = {key: self.block_of.get(self._outermost(box)) for key, box in boxes.items()}
        for key, home in homes.items():
            if home is not None:
                self.boxes[home].append(boxes[key])
        for edge in self.diagram.edges:
            home = homes[edge.target]
            if home is not None:
                edges[home].append(edge)
                if homes[edge.source] != home:
                    self.inputs[home][edge.source] = boxes[edge.source]
        self.drawings = [
            block_dot(held, [*inputs.values()], read, self.diagram.frames)
            if len(held) <= _MAX_BLOCK and len(read) <= _MAX_EDGES
            else ""
            for held, inputs, read in zip(self.boxes, self.inputs, edges, strict=True)
        ]

    def _outermost(self, box: Box) -> str:
        """Return the Operator of the top-level Block that a box is or lies in."""
        name = self.graph.blocks[box.block].owner or box.key
        operator = self.graph.operators.get(name)
        return name if operator is None else outermost(self.graph, operator).name

    def blocks_of(self, row: BlockRow) -> Sequence[int]:
        """Return the indices of the blocks of a row."""
        known = (self.block_of.get(name) for name in row.operators)
        return [block for block in dict.fromkeys(known) if block is not None]

    def index(self, name: str) -> int:
        """Return the index of a Value."""
        return self.indices.setdefault(name, len(self.indices))

    def data(self, drawings: Mapping[str, int]) -> dict[str, object]:
        """Return the boxes, blocks and Values; `drawings` are the indices of those of blocks."""
        places = {box.key: index for index, box in enumerate(self.diagram.boxes)}
        lines: dict[tuple[str, ...], int] = {}
        boxes = [self._box_data(box, lines) for box in self.diagram.boxes]
        blocks = [
            {
                "boxes": [places[box.key] for box in held],
                "inputs": [places[key] for key in inputs],
                "value": self.index(result),
                "drawing": drawings.get(dot),
            }
            for held, inputs, result, dot in zip(
                self.boxes, self.inputs, self.results, self.drawings, strict=True
            )
        ]
        by_name: Mapping[str, Fingerprint] = fingerprints(self.graph) if self.classes else {}
        values = [self._value_data(name, by_name) for name in self.indices]
        return {
            "role": self.role,
            "name": network_name(self.graph),
            "boxes": {"fields": _BOX_FIELDS, "rows": boxes},
            "lines": list(lines),
            "blocks": blocks,
            "values": {"fields": _VALUE_FIELDS, "rows": values},
        }

    def _box_data(self, box: Box, lines: dict[tuple[str, ...], int]) -> Sequence[object]:
        results = [*map(self.index, box.values)]
        if box.is_input:
            return [results]
        operator = self.graph.operators[box.key]
        # The text of its box, then the attributes, which many Operators have alike.
        texts = (f"{name}: {_attribute_text(x)}" for name, x in operator.attributes.items())
        cut = (text.replace("\n", " ")[:_MAX_ATTRIBUTE_LENGTH] for text in texts)
        return _trimmed(
            results,
            operator.type,
            operator.index,
            lines.setdefault((", ".join(box.lines), *cut), len(lines)),
            [self.index(name) for name in operator.operands if name is not None],
            operator.module,
            operator.source,
            None if operator.results[:1] == (operator.name,) else operator.name,
        )

    def _value_data(self, name: str, known: Mapping[str, Fingerprint]) -> Sequence[object]:
        value = self.graph.values[name]
        is_choosable = name in self.classes or name in self.ends
        return _trimmed(
            name,
            value.shape,
            self.classes.get(name),
            value.layer if is_choosable or not value.output else None,
            fingerprint_text(known[name], name) if known and is_choosable else None,
            None if value.dtype == "float32" else value.dtype or "",
            value.output or None,
            value.origin is Origin.PARAMETER or None,
        )


def _trimmed(*row: object) -> Sequence[object]:
    """Return a row without None at its end."""
    length = max((index for index, item in enumerate(row, 1) if item is not None), default=0)
    return row[:length]


def _attribute_text(value: Attribute) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_attribute_text, value[:_MAX_ATTRIBUTE_LENGTH]))}]"
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def _level_data(board: Board, networks: Sequence[_Network]) -> dict[str, object]:
    """Return the rows of each card of each network with their blocks, and what pills are of."""
    rows = [
        [
            [
                {"title": card.title, "name": row.name, "blocks": network.blocks_of(row)}
                for row in card.rows
            ]
            for card in panel.cards
        ]
        for panel, network in zip(board.panels, networks, strict=True)
    ]
    return {
        "level": board.level,
        "rows": rows,
        "ranks": [pill.ranks for pill in board.pills if pill.severity is None],
        "spots": [pill.spots for pill in board.pills if pill.severity is not None],
    }


def _pairs_data(scene: Scene, networks: Sequence[_Network]) -> dict[str, object]:
    """Return the pairs with the fields of a recipe, and what pairs of other maps would be.

    Ends are indices of Values. `table[t][s]` is the index in `forms` for the class `t` of the
    teacher's map and the class `s` of the student's.
    """
    for network, structure in zip(networks, scene.structures, strict=True):
        network.classes = dict(_classes(structure))
    # The first feature map of each class.
    firsts = [
        {index: name for name, index in reversed(network.classes.items())} for network in networks
    ]
    forms: dict[_PairForm, int] = {}
    table = [
        [
            forms.setdefault(_form(scene.structures, firsts[0][t], firsts[1][s]), len(forms))
            for s in range(len(firsts[1]))
        ]
        for t in range(len(firsts[0]))
    ]

    def ends(of: Pair | Alternative) -> list[int]:
        names = of.teacher.name, of.student.name
        for network, name in zip(networks, names, strict=True):
            network.ends.add(name)
        return [network.index(name) for network, name in zip(networks, names, strict=True)]

    pairs = [
        {
            "rank": pair.rank,
            "kind": pair.kind,
            "loss": pair.loss,
            "weight": float(pair.weight),
            "adapter": pair.adapter,
            "relation": relation_of(
                compared(pair.kind, scene.structures, pair.teacher.name, pair.student.name)
            ),
            "score": float(pair.score),
            "why": pair.why,
            "warnings": pair.warnings,
            "ends": ends(pair),
            "taps": [{"tap": tap.tap, "ends": ends(tap)} for tap in pair.alternatives],
        }
        for pair in scene.pairs
    ]
    return {"pairs": pairs, "forms": list(forms), "table": table}


def _classes(structure: Structure) -> Iterator[tuple[str, int]]:
    """Yield feature maps with their classes, the outputs of blocks first."""
    known: dict[object, int] = {}
    features = structure.flow.features
    for name in dict.fromkeys((*structure.main_line, *structure.flow.steps)):
        key = (
            structure.graph.values[name].shape,
            structure.channels(name),
            structure.sides(name),
            structure.scales.get(name),
            structure.role(name),
            pair_kind(structure, name),
        )
        if name in features and (key in known or len(known) < _MAX_CLASSES):
            yield name, known.setdefault(key, len(known))


def _form(structures: Both[Structure], teacher: str, student: str) -> _PairForm:
    kind = common_pair_kind(structures.teacher, teacher, structures.student, student)
    pair = compared(kind, structures, teacher, student)
    relation = relation_of(pair)
    return (
        kind,
        relation,
        adapter_of(pair, relation),
        loss_of(pair, relation),
        tuple(warnings(pair, relation)),
    )


def _focus_data(networks: Sequence[_Network], focus: str) -> tuple[int, int] | None:
    """Return the index of the network that has the selected Value, and of the Value."""
    for index, network in enumerate(networks):
        with suppress(ReadError):
            return index, network.index(find(network.graph, focus).name)
    return None


def _plain(data: Any, raw: dict[str, str]) -> Any:
    """Return data for JSON with all its texts printable; note in `raw` what the changed ones were.

    Records become objects.
    """
    if isinstance(data, Enum):
        return data.value
    if isinstance(data, str):
        text = printable(data)
        if text != data:
            raw[text] = data
        return text
    if is_dataclass(data):
        data = {field.name: getattr(data, field.name) for field in fields(data)}
    if isinstance(data, dict):
        held = cast("dict[str, Any]", data)
        return {key: _plain(value, raw) for key, value in held.items()}
    if isinstance(data, list | tuple):
        return [_plain(value, raw) for value in cast("list[Any]", data)]
    return data


def _html(
    title: str, data: Mapping[str, object], levels: Sequence[str], drawings: Sequence[str]
) -> str:
    assets = files("graphtool.rendering")
    style = assets.joinpath("page.css").read_text("utf-8")
    # A block keeps the script's names out of the global scope.
    script = f'"use strict";\n{{\n{assets.joinpath("page.js").read_text("utf-8")}\n}}\n'
    hashes = (
        f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'" for text in (script, style)
    )
    templates = (
        *(f'<template class="level">{svg}</template>' for svg in levels[1:]),
        *(f'<template class="drawing">{svg}</template>' for svg in drawings),
    )
    return _PAGE.format(
        policy=_POLICY.format(script=next(hashes), style=next(hashes)),
        title=escape(printable(title)),
        style=style,
        picture=levels[0],
        drawings="\n".join(templates),
        # ASCII with `<` escaped: no name can end the script element, and lone surrogates survive.
        data=json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
        script=script,
    )
