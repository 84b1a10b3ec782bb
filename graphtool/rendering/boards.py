"""Build the Board of one network, or of two with their pairs, at a readable level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from graphtool.both import Both
from graphtool.diagnostics import Report, Severity, counted
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.rendering._alignment import bands_of, bands_of_one
from graphtool.rendering._links import links_of, ranks_of
from graphtool.rendering._marks import marks_of, with_severities
from graphtool.rendering._panels import panel_of
from graphtool.rendering.board import Board, Level, Link, Mark, Panel
from graphtool.rendering.scenes import Merge, Scene
from graphtool.structure import analyse

__all__ = ["board_of", "board_of_scene"]

_MAX_ROWS = 150
# Heights in points: two screens, a line, and a band without its lines.
_MAX_HEIGHT, _LINE, _BAND = 2000, 20, 45


def board_of(graph: Graph, level: Level | None = None) -> Board:
    """Build the Board of one network; the default level is BLOCK, or STAGE if that is too tall.

    Card levels only: STAGE, BLOCK and MODULE.
    """
    structure = analyse(graph)

    def draw(level: Level) -> Board:
        panel = panel_of(structure, role=None, level=level, ranks={})
        notes = () if panel.cards else ("no operator depends on what the program is fed",)
        return Board(level=level, panels=(panel,), bands=bands_of_one(panel), notes=notes)

    return _readable(draw, level)


def board_of_scene(scene: Scene, level: Level | None = None) -> Board:
    """Build the Board of two networks with their pairs, diagnostics or merge."""
    pairs, structures = scene.pairs, scene.structures
    ranks = Both(
        ranks_of(pairs.teacher, ((pair.rank, pair.teacher) for pair in pairs)),
        ranks_of(pairs.student, ((pair.rank, pair.student) for pair in pairs)),
    )

    def draw(level: Level) -> Board:
        panels = Both(
            panel_of(structures.teacher, role="teacher", level=level, ranks=ranks.teacher),
            panel_of(structures.student, role="student", level=level, ranks=ranks.student),
        )
        links = links_of(pairs, structures, panels, show_losses=scene.merge is not None)
        marks = marks_of(scene.report or Report(), scene.graphs, tuple(panels))
        panels = _with_states(panels, marks, scene.merge)
        return Board(
            level=level,
            panels=tuple(panels),
            bands=bands_of(panels.teacher, panels.student, links, marks),
            links=links,
            marks=marks,
            headline=_headline(scene),
            worst=_worst_severity(scene.report),
            pairs=len(pairs),
            notes=(*_undrawn_pairs(pairs, links), *_undrawn_teachers(scene.merge)),
        )

    return _readable(draw, level)


def _with_states(panels: Both[Panel], marks: Sequence[Mark], merge: Merge | None) -> Both[Panel]:
    teacher = with_severities(panels.teacher, 0, marks)
    student = with_severities(panels.student, 1, marks)
    if merge is None:
        return Both(teacher, student)
    return Both(replace(teacher, state="frozen"), replace(student, state="trained"))


def _headline(scene: Scene) -> tuple[str, str]:
    """Summarise in two lines what is drawn between two networks."""
    count = len(scene.pairs)
    if scene.report is not None:
        report = scene.report
        return counted(len(report.errors), "error"), f"of {counted(len(report), 'finding')}"
    if scene.merge is None:
        return counted(count, "pair"), "teacher ← student"
    if scene.merge.losses:
        return (f"{counted(count, 'pair')} in the loss", _renames(scene.merge))
    return (f"merged, {counted(count, 'pair')}" if count else "merged", _renames(scene.merge))


def _renames(merge: Merge) -> str:
    """Write the teacher's prefix and the feed map, equal names once."""
    texts = (old if old == new else f"{old} → {new}" for old, new in merge.feed_map.items())
    return ", ".join((f"{merge.prefix}*", *texts))


def _worst_severity(report: Report | None) -> Severity | None:
    if report is None:
        return None
    severities = {diagnostic.severity for diagnostic in report}
    return next((severity for severity in Severity if severity in severities), Severity.NOTE)


def _readable(draw: Callable[[Level], Board], level: Level | None) -> Board:
    board = draw(level or Level.BLOCK)
    height = sum(_BAND + _LINE * len(band.lines) for band in board.bands)
    is_readable = board.rows <= _MAX_ROWS and height <= _MAX_HEIGHT
    return board if level is not None or is_readable else draw(Level.STAGE)


def _undrawn_pairs(pairs: PairSet, links: tuple[Link, ...]) -> Iterator[str]:
    drawn = {rank for link in links for rank in link.ranks}
    missing = [str(pair.rank) for pair in pairs if pair.rank not in drawn]
    if missing:
        listed = f"pair{'' if len(missing) == 1 else 's'} {', '.join(missing)}"
        yield f"{listed} not drawn: the picture has no row for a Value that the input doesn't reach"


def _undrawn_teachers(merge: Merge | None) -> Iterator[str]:
    for prefix in merge.others if merge is not None else ():
        yield f"the teacher merged as `{prefix}*` not drawn: a picture has room for one"
