"""From Graphs and pairs to a Board, at a level that keeps it readable."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.rendering._alignment import bands_of, bands_of_one
from graphtool.rendering._links import Sides, links_of, ranks_of
from graphtool.rendering._panels import panel_of
from graphtool.rendering.board import Board, Level, Link
from graphtool.structure import analyse

__all__ = ["MOST_ROWS", "board_of", "board_of_pairs"]

MOST_ROWS = 150


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


def board_of_pairs(pairs: PairSet, level: Level | None = None) -> Board:
    """Make the Board of two networks and their pairs."""
    sides = Sides(analyse(pairs.teacher), analyse(pairs.student))
    ranks = (
        ranks_of(pairs.teacher, ((pair.rank, pair.teacher) for pair in pairs)),
        ranks_of(pairs.student, ((pair.rank, pair.student) for pair in pairs)),
    )

    def draw(level: Level) -> Board:
        panels = (
            panel_of(sides.teacher, role="teacher", level=level, ranks=ranks[0]),
            panel_of(sides.student, role="student", level=level, ranks=ranks[1]),
        )
        links = links_of(pairs, sides, panels)
        return Board(
            level=level,
            panels=panels,
            bands=bands_of(*panels, links),
            links=links,
            pairs=len(pairs),
            notes=tuple(_left_out(pairs, links)),
        )

    return _readable(draw, level)


def _readable(draw: Callable[[Level], Board], level: Level | None) -> Board:
    board = draw(level or Level.BLOCK)
    return board if level is not None or board.rows <= MOST_ROWS else draw(Level.STAGE)


def _left_out(pairs: PairSet, links: tuple[Link, ...]) -> Iterator[str]:
    drawn = {rank for link in links for rank in link.ranks}
    missing = [str(pair.rank) for pair in pairs if pair.rank not in drawn]
    if missing:
        whose = f"pair{'' if len(missing) == 1 else 's'} {', '.join(missing)}"
        yield f"{whose} not drawn: the picture has no row for a Value that the input doesn't reach"
