"""From networks and what joins them to a Board, at a level that keeps it readable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from graphtool.diagnostics import Report, Severity, counted
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.rendering._alignment import bands_of, bands_of_one
from graphtool.rendering._links import Sides, links_of, ranks_of
from graphtool.rendering._marks import marked, marks_of
from graphtool.rendering._panels import panel_of
from graphtool.rendering.board import Board, Level, Link, Mark, Panel
from graphtool.rendering.scenes import Merge, Scene
from graphtool.structure import analyse

__all__ = ["MOST_ROWS", "board_of", "board_of_scene"]

MOST_ROWS = 150
# In points: two screens. A line, and what a band takes beside its lines.
_TALLEST, _LINE, _BAND = 2000, 20, 45


def board_of(graph: Graph, level: Level | None = None) -> Board:
    """Make the Board of one network; without a level, blocks, or stages where those are too many.

    Card levels only: STAGE, BLOCK and MODULE.
    """
    structure = analyse(graph)

    def draw(level: Level) -> Board:
        panel = panel_of(structure, role=None, level=level, ranks={})
        notes = () if panel.cards else ("no operator depends on what the program is fed",)
        return Board(level=level, panels=(panel,), bands=bands_of_one(panel), notes=notes)

    return _readable(draw, level)


def board_of_scene(scene: Scene, level: Level | None = None) -> Board:
    """Make the Board of two networks: with their pairs, findings, or what merging makes of them."""
    pairs = scene.pairs
    sides = Sides(*scene.structures)
    ranks = (
        ranks_of(pairs.teacher, ((pair.rank, pair.teacher) for pair in pairs)),
        ranks_of(pairs.student, ((pair.rank, pair.student) for pair in pairs)),
    )

    def draw(level: Level) -> Board:
        panels = (
            panel_of(sides.teacher, role="teacher", level=level, ranks=ranks[0]),
            panel_of(sides.student, role="student", level=level, ranks=ranks[1]),
        )
        links = links_of(pairs, sides, panels, losses=scene.merge is not None)
        marks = marks_of(scene.report or Report(), scene.graphs, panels)
        shown = _shown(panels, marks, scene.merge)
        return Board(
            level=level,
            panels=shown,
            bands=bands_of(*shown, links, marks),
            links=links,
            marks=marks,
            headline=_headline(scene),
            worst=_worst(scene.report),
            pairs=len(pairs),
            notes=(*_left_out(pairs, links), *_not_drawn(scene.merge)),
        )

    return _readable(draw, level)


def _shown(
    panels: tuple[Panel, Panel], marks: Sequence[Mark], merge: Merge | None
) -> tuple[Panel, Panel]:
    teacher, student = marked(panels[0], 0, marks), marked(panels[1], 1, marks)
    if merge is None:
        return teacher, student
    return replace(teacher, state="frozen"), replace(student, state="trained")


def _headline(scene: Scene) -> tuple[str, str]:
    """Say in two lines what the picture shows between two networks."""
    count = len(scene.pairs)
    if scene.report is not None:
        found = scene.report
        errors = len(found.errors)
        return counted(errors, "error"), f"of {counted(len(found), 'finding')}"
    if scene.merge is None:
        return counted(count, "pair"), "teacher ← student"
    if scene.merge.losses:
        return (f"{counted(count, 'pair')} in the loss", _fed(scene.merge))
    return (f"merged, {counted(count, 'pair')}" if count else "merged", _fed(scene.merge))


def _fed(merge: Merge) -> str:
    """Say what the teacher's names and feeds have become; equal names are said once."""
    texts = (old if old == new else f"{old} → {new}" for old, new in merge.feed_map.items())
    return ", ".join((f"{merge.prefix}*", *texts))


def _worst(report: Report | None) -> Severity | None:
    if report is None:
        return None
    found = {one.severity for one in report}
    return next((severity for severity in Severity if severity in found), Severity.NOTE)


def _readable(draw: Callable[[Level], Board], level: Level | None) -> Board:
    board = draw(level or Level.BLOCK)
    height = sum(_BAND + _LINE * len(band.lines) for band in board.bands)
    is_readable = board.rows <= MOST_ROWS and height <= _TALLEST
    return board if level is not None or is_readable else draw(Level.STAGE)


def _left_out(pairs: PairSet, links: tuple[Link, ...]) -> Iterator[str]:
    drawn = {rank for link in links for rank in link.ranks}
    missing = [str(pair.rank) for pair in pairs if pair.rank not in drawn]
    if missing:
        whose = f"pair{'' if len(missing) == 1 else 's'} {', '.join(missing)}"
        yield f"{whose} not drawn: the picture has no row for a Value that the input doesn't reach"


def _not_drawn(merge: Merge | None) -> Iterator[str]:
    for prefix in merge.others if merge is not None else ():
        yield f"the teacher merged as `{prefix}*` not drawn: a picture has room for one"
