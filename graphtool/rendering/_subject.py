"""What is drawn, and how at each level: cards of parts and blocks, or boxes of Operators."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphtool.diagnostics import ReadError, Report
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.rendering._dot import board_dot
from graphtool.rendering._marks import findings_of, marks_of
from graphtool.rendering._operators import box_key, diagram_of, neighbourhood
from graphtool.rendering._operators_dot import Side, diagrams_dot
from graphtool.rendering.board import Board, Level, Part
from graphtool.rendering.boards import board_of, board_of_scene
from graphtool.rendering.names import network_name
from graphtool.rendering.scenes import Scene, Subject
from graphtool.selectors import find

__all__ = ["Drawing", "Focus", "draw", "higher"]

_ORDER = (Level.OP, Level.MODULE, Level.BLOCK, Level.STAGE)
_ROLES = ("teacher", "student")
# Up to so many boxes a network without parts of its own is drawn with all its operators.
_FEW = 28


@dataclass(frozen=True, slots=True)
class Focus:
    """A Value, by any selector, and how many edges around it are drawn."""

    name: str
    radius: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """DOT with the level it was drawn at, what it leaves out, and the Board if it shows one."""

    dot: str
    level: Level
    notes: tuple[str, ...] = ()
    board: Board | None = None


def higher(level: Level) -> Level | None:
    """Return the next level, at which a box stands for more; None behind the highest."""
    place = _ORDER.index(level) + 1
    return _ORDER[place] if place < len(_ORDER) else None


def draw(subject: Subject, level: Level | None = None, focus: Focus | None = None) -> Drawing:
    """Draw a network or two; without a level, at one that keeps the picture readable.

    Raises ReadError: GT101 or GT102 where a focus means no Value, or several.
    """
    if focus is not None or level is Level.OP:
        return _operators(subject, focus)
    if isinstance(subject, Scene):
        board = board_of_scene(subject, level)
    else:
        board = board_of(subject, level)
        if level is None and _is_small(subject, board):
            return _operators(subject, None)
    return Drawing(board_dot(board), board.level, board.notes, board)


def _is_small(graph: Graph, board: Board) -> bool:
    """Tell a network of few Operators that has no parts worth a card of their own."""
    parts = (card.part for panel in board.panels for card in panel.cards)
    if any(part not in (Part.BODY, Part.HEAD) for part in parts):
        return False
    return sum(1 for _ in diagram_of(graph, {}).boxes) <= _FEW


def _operators(subject: Subject, focus: Focus | None) -> Drawing:
    if isinstance(subject, Scene):
        return _both(subject, focus)
    diagram = diagram_of(subject, {})
    if next(diagram.boxes, None) is None:
        board = board_of(subject, Level.BLOCK)
        return Drawing(board_dot(board), board.level, board.notes, board)
    if focus is not None:
        diagram = neighbourhood(diagram, {find(subject, focus.name).name}, focus.radius)
    side = Side(None, network_name(subject), diagram)
    return Drawing(diagrams_dot([side], []), Level.OP)


def _both(scene: Scene, focus: Focus | None) -> Drawing:
    pairs, graphs = scene.pairs, scene.graphs
    ends = (
        {pair.rank: pair.teacher.name for pair in pairs},
        {pair.rank: pair.student.name for pair in pairs},
    )
    report = scene.report or Report()
    diagrams = [
        diagram_of(graph, _by_value(end), findings_of(report, graph, role))
        for graph, end, role in zip(graphs, ends, _ROLES, strict=True)
    ]
    if focus is not None:
        centres = _centres(pairs, focus)
        diagrams = [
            neighbourhood(diagram, centre, focus.radius)
            for diagram, centre in zip(diagrams, centres, strict=True)
        ]
    sides = [
        Side(role, network_name(graph), diagram)
        for role, graph, diagram in zip(_ROLES, graphs, diagrams, strict=True)
    ]
    joined = tuple(dict.fromkeys(_joined(pairs, sides)))
    return Drawing(diagrams_dot(sides, joined, marks_of(report, graphs, ())), Level.OP)


def _by_value(ends: Mapping[int, str]) -> Mapping[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for rank, name in ends.items():
        found[name] = (*found.get(name, ()), rank)
    return found


def _joined(pairs: PairSet, sides: Sequence[Side]) -> Iterator[tuple[str, str]]:
    """Yield the pairs whose two boxes are drawn."""
    for pair in pairs:
        teacher = box_key(pairs.teacher, pair.teacher.name)
        student = box_key(pairs.student, pair.student.name)
        if teacher in sides[0].nodes and student in sides[1].nodes:
            yield teacher, student


def _centres(pairs: PairSet, focus: Focus) -> tuple[set[str], set[str]]:
    """Return the Values that a focus means in each network, and their partners in pairs."""
    found = [_meant(graph, focus) for graph in (pairs.teacher, pairs.student)]
    if not any(found):
        find(pairs.teacher, focus.name)
    teacher, student = found
    partners = (
        {pair.teacher.name for pair in pairs if pair.student.name in student},
        {pair.student.name for pair in pairs if pair.teacher.name in teacher},
    )
    return teacher | partners[0], student | partners[1]


def _meant(graph: Graph, focus: Focus) -> set[str]:
    try:
        return {find(graph, focus.name).name}
    except ReadError:
        return set()
