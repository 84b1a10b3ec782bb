"""Write a page: the SVG of a picture, drawings of its blocks, what is known of both, a script."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from html import escape
from importlib.resources import files
from itertools import accumulate
from typing import Any, TypeAlias, cast

from graphtool.diagnostics import Diagnostic, GraphtoolError, ReadError
from graphtool.graph import Attribute, Graph, Origin
from graphtool.matching import End
from graphtool.matching.candidates import common_pair_kind, pair_kind
from graphtool.matching.fingerprint import Fingerprint, fingerprint_text, fingerprints
from graphtool.matching.recipe import recipe_text
from graphtool.matching.relations import AnalysedPair, adapter_of, loss_of, relation_of, warnings
from graphtool.rendering import problems
from graphtool.rendering._cards import board_dot
from graphtool.rendering._labels import FONT
from graphtool.rendering._operators import Box, BoxKind, Edge, block_dot, diagram_of
from graphtool.rendering.board import BlockRow, Board, Card, Level, Mark, Panel
from graphtool.rendering.boards import board_of, board_of_scene
from graphtool.rendering.engine import Engine, LayoutTimeoutError
from graphtool.rendering.scenes import Scene, Subject, network_name
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


def with_links(dot: str) -> str:
    """Make the cells that have an id links to it: Graphviz draws their id for links alone."""
    return re.sub(r' ID="([\w-]+)"', r' ID="\1" HREF="#\1"', dot)


def page_of(
    subject: Subject,
    drawn: Board | None,
    svg: bytes,
    engine: Engine,
    *,
    seconds: float,
    focus: str | None = None,
) -> tuple[str, tuple[Diagnostic, ...]]:
    """Build the page of a drawing, and the diagnostics of what it leaves out.

    `svg` is that of `drawn`, or of Operators if that is None. The page has a drawing of the stages
    as well, or of the blocks if `drawn` is at level STAGE. A focus opens the block of its Value.
    """
    is_scene = isinstance(subject, Scene)
    graphs, roles = (subject.graphs, ("teacher", "student")) if is_scene else ((subject,), (None,))
    boards = [] if drawn is None else [drawn, _other_board(subject, drawn)]
    detailed = next((board for board in boards if board.level is not Level.STAGE), None)
    boards = [board for board in boards if board is drawn or board.rows <= _MAX_ROWS]
    networks = [
        _Network(graph, role, None if detailed is None else detailed.panels[index])
        for index, (graph, role) in enumerate(zip(graphs, roles, strict=True))
    ]
    sources = [with_links(board_dot(board)) for board in boards[1:]]
    dots = list(dict.fromkeys(dot for network in networks for dot in network.drawings if dot))
    sizes = accumulate(dot.count(" id=") for dot in dots)
    dots = [dot for dot, size in zip(dots, sizes, strict=True) if size <= _MAX_DRAWN]
    diagnostics: list[Diagnostic] = []
    svgs = [_inline(svg.decode())]
    try:
        if sources or dots:
            laid_out = engine.draw("\n".join((*sources, *dots)), "svg", seconds).decode()
            svgs += map(_inline, re.findall("<svg.*?</svg>", laid_out, re.DOTALL))
    except LayoutTimeoutError:
        diagnostics.append(_listed_blocks(f"the layout took over {seconds:g} s"))
    except GraphtoolError as error:
        diagnostics.append(_listed_blocks(error.report.diagnostics[0].message))
    first = 1 + len(sources)
    levels, drawings = svgs[:first], svgs[first:]
    indices = {dot: index for index, dot in enumerate(dots[: len(drawings)])}
    raw: dict[str, str] = {}
    data = {
        "levels": [_level_data(board, networks) for board, _ in zip(boards, levels, strict=False)],
        "notes": () if drawn is None else drawn.notes,
        "marks": () if drawn is None else [_mark_data(mark) for mark in drawn.marks],
        **(_pairs_data(subject, networks) if is_scene else {}),
        "networks": [network.data(indices) for network in networks],
        "focus": None if focus is None else _focus_data(networks, focus),
    }
    data = {**_with_printable_texts(data, raw), "raw": raw}
    if is_scene:
        # The script appends a table for each pair.
        recipe = recipe_text(replace(subject.pairs, pairs=()))
        data["recipe"] = recipe.replace("\npairs = []\n", "\n", 1)
    title = " → ".join(map(network_name, graphs))
    return _html(title, data, levels, drawings), tuple(diagnostics)


def _other_board(subject: Subject, drawn: Board) -> Board:
    level = Level.BLOCK if drawn.level is Level.STAGE else Level.STAGE
    return (
        board_of_scene(subject, level) if isinstance(subject, Scene) else board_of(subject, level)
    )


def _listed_blocks(reason: str) -> Diagnostic:
    return problems.simplified(
        f"blocks open as lists of operators, not as drawings: {reason}", help=problems.FOCUS
    )


def _inline(svg: str) -> str:
    """Return the SVG element of a file, without what a page has no use for."""
    svg = svg[svg.index("<svg") :]
    svg = _UNUSED.sub("", svg).replace("xlink:href", "href")
    return re.sub(r">\s+<", "><", svg).replace("\n", " ").replace('.00"', '"')


class _Network:
    """What a page knows of one network; boxes, Values and blocks go by their indices."""

    def __init__(self, graph: Graph, role: str | None, panel: Panel | None) -> None:
        self.graph, self.role = graph, role or "network"
        self.diagram = diagram_of(graph, role)
        self.classes: Mapping[str, int] = {}
        self.ends: set[str] = set()
        self.indices: dict[str, int] = {}
        rows = [] if panel is None else [row for card in panel.cards for row in card.rows]
        blocks = [block for row in rows for block in _blocks_of(graph, row)]
        self.results = [name for row in rows for name in row.values]
        self.block_of = {name: index for index, block in enumerate(blocks) for name in block}
        self.boxes: list[list[Box]] = [[] for _ in blocks]
        self.inputs: list[dict[str, Box]] = [{} for _ in blocks]
        edges: list[list[Edge]] = [[] for _ in blocks]
        homes: dict[str, int] = {}
        boxes = {box.key: box for box in self.diagram.boxes}
        for box in boxes.values():
            home = self.block_of.get(_outermost(graph, box))
            if home is not None:
                homes[box.key] = home
                self.boxes[home].append(box)
        for edge in self.diagram.edges:
            home = homes.get(edge.target)
            if home is not None:
                edges[home].append(edge)
                if homes.get(edge.source) != home:
                    self.inputs[home][edge.source] = boxes[edge.source]
        self.drawings = [
            block_dot(held, [*inputs.values()], read, self.diagram.frames)
            if len(held) <= _MAX_BLOCK and len(read) <= _MAX_EDGES
            else ""
            for held, inputs, read in zip(self.boxes, self.inputs, edges, strict=True)
        ]

    def index(self, name: str) -> int:
        """Return the index of a Value."""
        return self.indices.setdefault(name, len(self.indices))

    def data(self, drawings: Mapping[str, int]) -> dict[str, object]:
        """Return the boxes, blocks and Values; `drawings` are the indices of those of blocks."""
        places = {box.key: index for index, box in enumerate(self.diagram.boxes)}
        attributes: dict[tuple[str, ...], int] = {}
        boxes = [self._box_data(box, attributes) for box in self.diagram.boxes]
        blocks = [
            {
                "b": [places[box.key] for box in held],
                "i": [places[key] for key in inputs],
                "v": self.index(result),
                "d": drawings.get(dot),
            }
            for held, inputs, result, dot in zip(
                self.boxes, self.inputs, self.results, self.drawings, strict=True
            )
        ]
        by_name: Mapping[str, Fingerprint] = fingerprints(self.graph) if self.classes else {}
        values: list[object] = []
        for name in self.indices:
            value = self.graph.values[name]
            if value.origin is Origin.PARAMETER:
                values.append({"n": name, "s": value.shape, "p": 1})
                continue
            is_choosable = name in self.classes or name in self.ends
            optional = {
                "d": None if value.dtype == "float32" else value.dtype or "",
                "o": value.output or None,
                "c": self.classes.get(name),
                "l": None if value.output and not is_choosable else value.layer,
                "f": fingerprint_text(by_name[name], name) if by_name and is_choosable else None,
            }
            known = {key: each for key, each in optional.items() if each is not None}
            values.append({"n": name, "s": value.shape, **known})
        return {
            "role": self.role,
            "name": network_name(self.graph),
            "boxes": boxes,
            "attributes": list(attributes),
            "blocks": blocks,
            "values": values,
        }

    def _box_data(self, box: Box, attributes: dict[tuple[str, ...], int]) -> object:
        data: dict[str, object] = {"t": box.title, "o": [*map(self.index, box.values)]}
        if box.kind is BoxKind.INPUT:
            return data
        operator = self.graph.operators[box.key]
        # The text of its box, then the attributes, which many Operators have alike.
        texts = (f"{name}: {_attribute_text(x)}" for name, x in operator.attributes.items())
        cut = (text.replace("\n", " ")[:_MAX_ATTRIBUTE_LENGTH] for text in texts)
        lines = (", ".join(box.lines), *cut)
        is_named_alike = operator.results[:1] == (operator.name,)
        optional = {
            "n": None if is_named_alike else operator.name,
            "k": None if operator.type == f"pd_op.{printable(box.title)}" else operator.type,
            "i": [self.index(name) for name in operator.operands if name is not None],
            "m": operator.module,
            "s": operator.source,
        }
        return {
            **data,
            "x": operator.index,
            "a": attributes.setdefault(lines, len(attributes)),
            **{key: value for key, value in optional.items() if value},
        }


def _blocks_of(graph: Graph, row: BlockRow) -> Iterator[list[str]]:
    """Yield the Operators of each block of a row."""
    last_operators = {graph.values[name].producer for name in row.values[:-1]}
    block: list[str] = []
    for name in row.operators:
        block.append(name)
        if name in last_operators:
            yield block
            block = []
    yield block


def _outermost(graph: Graph, box: Box) -> str:
    """Return the Operator of the top-level Block that a box is or lies in."""
    name, path = box.key, box.block
    while path:
        name = graph.blocks[path].owner or ""
        path = graph.operators[name].block
    return name


def _attribute_text(value: Attribute) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_attribute_text, value[:_MAX_ATTRIBUTE_LENGTH]))}]"
    return f"{len(value)} bytes" if isinstance(value, bytes) else str(value)


def _level_data(board: Board, networks: Sequence[_Network]) -> dict[str, object]:
    """Return the rows of each card of each network with their blocks, and the pairs of pills."""
    return {
        "level": board.level.value,
        "rows": [
            [[_row_data(card, row, network) for row in card.rows] for card in panel.cards]
            for panel, network in zip(board.panels, networks, strict=True)
        ],
        "links": [link.ranks for link in board.links],
        "spots": [[spot and (spot.card, spot.row) for spot in mark.spots] for mark in board.marks],
    }


def _row_data(card: Card, row: BlockRow, network: _Network) -> object:
    blocks = (network.block_of[name] for name in row.operators if name in network.block_of)
    return {"t": card.title, "n": row.name, "b": list(dict.fromkeys(blocks))}


def _mark_data(mark: Mark) -> dict[str, object]:
    return {
        "code": mark.code,
        "slug": mark.slug,
        "severity": mark.severity.value,
        "message": mark.message,
        "count": mark.count,
    }


def _pairs_data(scene: Scene, networks: Sequence[_Network]) -> dict[str, object]:
    """Return the pairs with the fields of a recipe, and what pairs of other maps would be.

    Ends are indices of Values. `table[t][s]` is the index in `forms` for the class `t` of the
    teacher's map and the class `s` of the student's.
    """
    teacher, student = scene.structures
    classes = [dict(_classes(structure)) for structure in (teacher, student)]
    forms: dict[_PairForm, int] = {}
    table = [
        [forms.setdefault(_form(teacher, t, student, s), len(forms)) for s in _firsts(classes[1])]
        for t in _firsts(classes[0])
    ]

    def ends(teacher: End, student: End) -> list[int]:
        places: list[int] = []
        for network, end in zip(networks, (teacher, student), strict=True):
            network.ends.add(end.name)
            places.append(network.index(end.name))
        return places

    for network, held in zip(networks, classes, strict=True):
        network.classes = held
    pairs = [
        {
            "rank": pair.rank,
            "kind": pair.kind.value,
            "loss": pair.loss,
            "weight": float(pair.weight),
            "adapter": pair.adapter,
            "relation": pair.relation.value,
            "score": float(pair.score),
            "why": pair.why,
            "warnings": pair.warnings,
            "ends": ends(pair.teacher, pair.student),
            "taps": [
                {"tap": tap.tap.value, "ends": ends(tap.teacher, tap.student)}
                for tap in pair.alternatives
            ],
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


def _firsts(classes: Mapping[str, int]) -> list[str]:
    """Return the first feature map of each class, in order of class."""
    first = {index: name for name, index in reversed([*classes.items()])}
    return [first[index] for index in range(len(first))]


def _form(
    teacher: Structure, teacher_name: str, student: Structure, student_name: str
) -> _PairForm:
    sides = AnalysedPair(
        kind=common_pair_kind(teacher, teacher_name, student, student_name),
        teacher=teacher,
        teacher_name=teacher_name,
        student=student,
        student_name=student_name,
    )
    relation = relation_of(sides)
    return (
        sides.kind.value,
        relation.value,
        adapter_of(sides, relation),
        loss_of(sides, relation),
        tuple(warnings(sides, relation)),
    )


def _focus_data(networks: Sequence[_Network], focus: str) -> tuple[int, int] | None:
    """Return the index of the network that has the selected Value, and of the Value."""
    for index, network in enumerate(networks):
        with suppress(ReadError):
            return index, network.index(find(network.graph, focus).name)
    return None


def _with_printable_texts(data: Any, raw: dict[str, str]) -> Any:
    """Return data with all its texts printable, and note in `raw` what the changed ones were."""
    if isinstance(data, str):
        text = printable(data)
        if text != data:
            raw[text] = data
        return text
    if isinstance(data, dict):
        held = cast("dict[str, Any]", data)
        return {key: _with_printable_texts(value, raw) for key, value in held.items()}
    if isinstance(data, list | tuple):
        return [_with_printable_texts(value, raw) for value in cast("list[Any]", data)]
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
