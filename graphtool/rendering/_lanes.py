"""Lanes beside the cards of a network, in which branches pass some of them by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from graphtool.rendering._document import Document
from graphtool.rendering.board import Board, RowIndex

__all__ = ["Lane", "draw_lane", "lanes_of", "lanes_on"]

# Lanes are to be straight, but never to pull cards out of their column.
_STRAIGHT = "3"
_WIDTH = "1.2"
_UP = {"dir": "back", "arrowtail": "normal"}
_DOWN = {"dir": "forward", "arrowhead": "normal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The way of branches from one Row past the bands in between, to one Row or several.

    `place` is the index of its Panel, `outer` the side on which it lies: `w` or `e`. `ends` are
    Rows below `start` with their bands, except that a branch which comes back up has a lane of its
    own from the Row that it ends at, `is_up`.
    """

    name: str
    place: int
    outer: str
    start: RowIndex
    ends: tuple[tuple[int, RowIndex], ...]
    between: range
    is_up: bool


def lanes_of(board: Board) -> tuple[Lane, ...]:
    """Return the lanes of all branches, the longest first."""
    found = [lane for place in range(len(board.panels)) for lane in _lanes(board, place)]
    return tuple(sorted(found, key=lambda lane: -len(lane.between)))


def _lanes(board: Board, place: int) -> Iterator[Lane]:
    bands = {band.cards[place]: index for index, band in enumerate(board.bands)}
    ways: dict[tuple[RowIndex, RowIndex | None], list[RowIndex]] = {}
    for source, target in board.panels[place].jumps:
        is_up = target < source
        upper, lower = (target, source) if is_up else (source, target)
        ways.setdefault((upper, lower if is_up else None), []).append(lower)
    for number, ((start, up), ends) in enumerate(ways.items()):
        placed = tuple((bands[end.card], end) for end in ends)
        yield Lane(
            name=f"lane{place}_{number}",
            place=place,
            outer="w" if place == 0 and len(board.panels) > 1 else "e",
            start=start,
            ends=placed,
            between=range(bands[start.card] + 1, max(placed)[0]),
            is_up=up is not None,
        )


def lanes_on(lanes: Sequence[Lane], band: int, outer: str) -> Iterator[str]:
    """Yield the points of lanes that pass a band on one side, from left to right."""
    held = [lane for lane in lanes if lane.outer == outer and band in lane.between]
    for lane in held if outer == "w" else reversed(held):
        yield _point(lane, band)


def _point(lane: Lane, band: int) -> str:
    return f"{lane.name}_{band}"


def draw_lane(dot: Document, lane: Lane, node: Callable[[RowIndex], str]) -> None:
    """Draw a lane through its points, and from them to the rows; `node` says where a row is."""
    start = f"{node(lane.start)}:{lane.outer}"
    points = [_point(lane, band) for band in lane.between]
    for index, (tail, head) in enumerate(pairwise([start, *points])):
        shown = {"tailclip": "false", "weight": _STRAIGHT} if index else _UP if lane.is_up else {}
        dot.edge(tail, head, headclip="false", penwidth=_WIDTH, **shown)
    for band, end in lane.ends:
        passed = band - 1 in lane.between
        tail, clip = (_point(lane, band - 1), {"tailclip": "false"}) if passed else (start, {})
        shown = _DOWN if not lane.is_up else {} if passed else _UP
        dot.edge(tail, f"{node(end)}:{lane.outer}", penwidth=_WIDTH, **clip, **shown)
