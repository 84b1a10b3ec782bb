"""Draw a network or a Scene as DOT: cards of blocks, or boxes of Operators, by level."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphtool.both import Both
from graphtool.diagnostics import ReadError, Report
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.rendering._dot import board_dot
from graphtool.rendering._marks import diagnostics_by_operator, marks_of
from graphtool.rendering._operators import box_key, diagram_of, neighbourhood
from graphtool.rendering._operators_dot import NamedDiagram, diagrams_dot
from graphtool.rendering.board import Board, CardPart, Level
from graphtool.rendering.boards import board_of, board_of_scene
from graphtool.rendering.names import network_name
from graphtool.rendering.scenes import Scene, Subject
from graphtool.selectors import find

__all__ = ["Drawing", "Focus", "draw", "higher"]

_FINE_TO_COARSE = (Level.OP, Level.MODULE, Level.BLOCK, Level.STAGE)
# A network without stages or an encoder is drawn at level OP up to this many boxes.
_FEW_BOXES = 28


@dataclass(frozen=True, slots=True)
class Focus:
    """A selector of a Value, and the radius in edges of the neighbourhood to draw."""

    name: str
    radius: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """DOT with its level, notes on what it leaves out, and its Board unless it is at level OP."""

    dot: str
    level: Level
    notes: tuple[str, ...] = ()
    board: Board | None = None


def higher(level: Level) -> Level | None:
    """Return the next coarser level, or None."""
    index = _FINE_TO_COARSE.index(level) + 1
    return _FINE_TO_COARSE[index] if index < len(_FINE_TO_COARSE) else None


def draw(subject: Subject, level: Level | None = None, focus: Focus | None = None) -> Drawing:
    """Draw one network or two; the default level is one that keeps the picture readable.

    Raises ReadError: GT101 or GT102 if the focus selects no Value, or several.
    """
    if focus is not None or level is Level.OP:
        return _draw_operators(subject, focus)
    if isinstance(subject, Scene):
        board = board_of_scene(subject, level)
    else:
        board = board_of(subject, level)
        if level is None and _is_small(subject, board):
            return _draw_operators(subject, None)
    return Drawing(board_dot(board), board.level, board.notes, board)


def _is_small(graph: Graph, board: Board) -> bool:
    """Return whether a network has few Operators, and neither stages nor an encoder."""
    parts = (card.part for panel in board.panels for card in panel.cards)
    if any(part not in (CardPart.BODY, CardPart.HEAD) for part in parts):
        return False
    return sum(1 for _ in diagram_of(graph, {}).boxes) <= _FEW_BOXES


def _draw_operators(subject: Subject, focus: Focus | None) -> Drawing:
    if isinstance(subject, Scene):
        return _draw_operators_of_both(subject, focus)
    diagram = diagram_of(subject, {})
    if next(diagram.boxes, None) is None:
        board = board_of(subject, Level.BLOCK)
        return Drawing(board_dot(board), board.level, board.notes, board)
    if focus is not None:
        diagram = neighbourhood(diagram, {find(subject, focus.name).name}, focus.radius)
    return Drawing(diagrams_dot([NamedDiagram(None, network_name(subject), diagram)], []), Level.OP)


def _draw_operators_of_both(scene: Scene, focus: Focus | None) -> Drawing:
    pairs, report = scene.pairs, scene.report or Report()
    teacher_ranks = _ranks_by_value({pair.rank: pair.teacher.name for pair in pairs})
    student_ranks = _ranks_by_value({pair.rank: pair.student.name for pair in pairs})
    teacher_diagnostics = diagnostics_by_operator(report, pairs.teacher, "teacher")
    student_diagnostics = diagnostics_by_operator(report, pairs.student, "student")
    teacher = diagram_of(pairs.teacher, teacher_ranks, teacher_diagnostics)
    student = diagram_of(pairs.student, student_ranks, student_diagnostics)
    if focus is not None:
        centres = _centres(pairs, focus)
        teacher = neighbourhood(teacher, centres.teacher, focus.radius)
        student = neighbourhood(student, centres.student, focus.radius)
    diagrams = Both(
        NamedDiagram("teacher", network_name(pairs.teacher), teacher),
        NamedDiagram("student", network_name(pairs.student), student),
    )
    edges = tuple(dict.fromkeys(_pair_edges(pairs, diagrams)))
    dot = diagrams_dot(tuple(diagrams), edges, marks_of(report, scene.graphs, ()))
    return Drawing(dot, Level.OP)


def _ranks_by_value(names: Mapping[int, str]) -> Mapping[str, tuple[int, ...]]:
    ranks: dict[str, tuple[int, ...]] = {}
    for rank, name in names.items():
        ranks[name] = (*ranks.get(name, ()), rank)
    return ranks


def _pair_edges(pairs: PairSet, diagrams: Both[NamedDiagram]) -> Iterator[tuple[str, str]]:
    """Yield the box keys of the pairs whose two boxes are drawn."""
    for pair in pairs:
        teacher = box_key(pairs.teacher, pair.teacher.name)
        student = box_key(pairs.student, pair.student.name)
        if teacher in diagrams.teacher.nodes and student in diagrams.student.nodes:
            yield teacher, student


def _centres(pairs: PairSet, focus: Focus) -> Both[set[str]]:
    """Return the Values that a focus selects in each network, and the Values paired with them."""
    teacher, student = _selected(pairs.teacher, focus), _selected(pairs.student, focus)
    if not (teacher or student):
        find(pairs.teacher, focus.name)
    return Both(
        teacher | {pair.teacher.name for pair in pairs if pair.student.name in student},
        student | {pair.student.name for pair in pairs if pair.teacher.name in teacher},
    )


def _selected(graph: Graph, focus: Focus) -> set[str]:
    try:
        return {find(graph, focus.name).name}
    except ReadError:
        return set()
