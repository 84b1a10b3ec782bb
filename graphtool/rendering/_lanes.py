"""Lanes beside the cards of a network, in which branches pass some of them by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from graphtool.rendering._document import Document
from graphtool.rendering.board import Board, Spot

__all__ = ["Lane", "draw_lane", "lanes_of", "lanes_on"]

_STRAIGHT = "40"
_UP = {"dir": "back", "arrowtail": "normal"}
_DOWN = {"dir": "forward", "arrowhead": "normal"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """The way of one branch: past the bands in between, from the upper Row to the lower.

    `place` is the index of its Panel, `outer` the side on which it lies: `w` or `e`. `is_up` says
    that the branch comes back up.
    """

    name: str
    place: int
    outer: str
    upper: Spot
    lower: Spot
    between: range
    is_up: bool


def lanes_of(board: Board) -> tuple[Lane, ...]:
    """Return the lanes of all branches, the longest first."""
    found = [
        _lane(board, place, f"lane{place}_{index}", *jump)
        for place, panel in enumerate(board.panels)
        for index, jump in enumerate(panel.jumps)
    ]
    return tuple(sorted(found, key=lambda lane: -len(lane.between)))


def _lane(board: Board, place: int, name: str, source: Spot, target: Spot) -> Lane:
    bands = {band.cards[place]: index for index, band in enumerate(board.bands)}
    upper, lower = sorted((source, target))
    return Lane(
        name=name,
        place=place,
        outer="w" if place == 0 and len(board.panels) > 1 else "e",
        upper=upper,
        lower=lower,
        between=range(bands[upper.card] + 1, bands[lower.card]),
        is_up=target < source,
    )


def lanes_on(lanes: Sequence[Lane], band: int, outer: str) -> Iterator[str]:
    """Yield the points of lanes that pass a band on one side, from left to right."""
    held = [lane for lane in lanes if lane.outer == outer and band in lane.between]
    for lane in held if outer == "w" else reversed(held):
        yield _point(lane, band)


def _point(lane: Lane, band: int) -> str:
    return f"{lane.name}_{band}"


def draw_lane(dot: Document, lane: Lane, upper: str, lower: str) -> None:
    """Draw a branch between two rows, given by node and port."""
    points = [_point(lane, band) for band in lane.between]
    ways = [f"{upper}:{lane.outer}", *points, f"{lower}:{lane.outer}"]
    for tail, head in pairwise(ways):
        is_reader = tail is ways[0] if lane.is_up else head is ways[-1]
        unclipped = {
            **({} if tail is ways[0] else {"tailclip": "false"}),
            **({} if head is ways[-1] else {"headclip": "false"}),
        }
        weight = _STRAIGHT if len(unclipped) > 1 else "1"
        arrow = (_UP if lane.is_up else _DOWN) if is_reader else {}
        dot.edge(tail, head, penwidth="1.2", weight=weight, **unclipped, **arrow)
