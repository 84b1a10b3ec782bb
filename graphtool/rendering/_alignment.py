"""What stands beside what: cards of two networks in bands, their rows in lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import TypeAlias

from graphtool.rendering.board import Band, Card, Line, Link, Mark, Panel, Spot

__all__ = ["bands_of", "bands_of_one"]

# Two cards that share pairs belong side by side; else those of one title, or of one part.
_PER_LINK, _PER_TITLE, _PER_PART = 10, 3, 1


def bands_of_one(panel: Panel) -> tuple[Band, ...]:
    """Put the cards of one network under each other."""
    return tuple(
        Band((index,), tuple(Line((row,)) for row in range(len(card.rows))))
        for index, card in enumerate(panel.cards)
    )


def bands_of(
    teacher: Panel, student: Panel, links: Sequence[Link], marks: Sequence[Mark] = ()
) -> tuple[Band, ...]:
    """Put two networks beside each other: as many links as can be run straight across."""
    matched = _matched(teacher.cards, student.cards, links)
    bands = [
        _band(teacher, student, cards, links)
        for cards in _in_order(matched, len(teacher.cards), len(student.cards))
    ]
    return tuple(
        _with(
            bands,
            _placed(bands, [(link.teacher, link.student) for link in links]),
            _placed(bands, [mark.spots for mark in marks]),
        )
    )


def _matched(
    teacher: Sequence[Card], student: Sequence[Card], links: Sequence[Link]
) -> list[tuple[int, int]]:
    """Return the cards that stand side by side: the best matching that keeps both orders."""
    shared: dict[tuple[int, int], int] = {}
    for link in links:
        key = link.teacher.card, link.student.card
        shared[key] = shared.get(key, 0) + _PER_LINK * len(link.ranks)
    gains = {
        (t, s): shared.get((t, s), 0) + _likeness(a, b)
        for t, a in enumerate(teacher)
        for s, b in enumerate(student)
    }
    return _best_chain(gains, len(teacher), len(student))


def _likeness(card: Card, other: Card) -> int:
    if card.title == other.title:
        return _PER_TITLE
    return 0 if card.part is not other.part or card.part.has_resolution else _PER_PART


def _best_chain(
    gains: Mapping[tuple[int, int], int], rows: int, columns: int
) -> list[tuple[int, int]]:
    """Return the pairs of indices, rising on both sides, that gain most together."""
    best = [[0] * (columns + 1) for _ in range(rows + 1)]
    for t in reversed(range(rows)):
        for s in reversed(range(columns)):
            gain = gains.get((t, s), 0)
            taken = gain + best[t + 1][s + 1] if gain else 0
            best[t][s] = max(taken, best[t + 1][s], best[t][s + 1])
    chain: list[tuple[int, int]] = []
    t = s = 0
    while t < rows and s < columns and best[t][s]:
        gain = gains.get((t, s), 0)
        if gain and best[t][s] == gain + best[t + 1][s + 1]:
            chain.append((t, s))
            t, s = t + 1, s + 1
        elif best[t][s] == best[t + 1][s]:
            t += 1
        else:
            s += 1
    return chain


def _in_order(
    matched: Sequence[tuple[int, int]], teachers: int, students: int
) -> Iterator[tuple[int | None, int | None]]:
    """Yield matched cards, those without a partner between them."""
    t = s = 0
    for teacher, student in (*matched, (teachers, students)):
        yield from zip_longest(range(t, teacher), range(s, student))
        if teacher < teachers:
            yield teacher, student
        t, s = teacher + 1, student + 1


def _band(
    teacher: Panel,
    student: Panel,
    cards: tuple[int | None, int | None],
    links: Sequence[Link],
) -> Band:
    t, s = cards
    heights = (
        0 if t is None else len(teacher.cards[t].rows),
        0 if s is None else len(student.cards[s].rows),
    )
    ends = [
        (link.teacher.row, link.student.row)
        for link in links
        if (link.teacher.card, link.student.card) == cards
    ]
    return Band(cards, tuple(map(Line, _lines(ends, *heights))))


def _lines(
    ends: Sequence[tuple[int, int]], teachers: int, students: int
) -> Iterator[tuple[int | None, int | None]]:
    """Split rows at common pairs; blanks come first before the first pair, else last."""
    gains = {end: ends.count(end) for end in ends}
    chain = _best_chain(gains, teachers, students)
    stops = [(-1, -1), *chain, (teachers, students)]
    for place, (start, stop) in enumerate(pairwise(stops)):
        left = list[int | None](range(start[0] + 1, stop[0]))
        right = list[int | None](range(start[1] + 1, stop[1]))
        is_first = place == 0 and bool(chain)
        yield from zip(*_padded(left, right, is_first=is_first), strict=True)
        if stop[0] < teachers:
            yield stop


def _padded(
    left: list[int | None], right: list[int | None], *, is_first: bool
) -> tuple[list[int | None], list[int | None]]:
    height = max(len(left), len(right))
    blanks = ([None] * (height - len(rows)) for rows in (left, right))
    if is_first:
        return next(blanks) + left, next(blanks) + right
    return left + next(blanks), right + next(blanks)


# A Line, by the index of its Band and its own.
_Place: TypeAlias = "tuple[int, int]"


def _with(
    bands: Sequence[Band],
    links: Mapping[_Place, Sequence[int]],
    marks: Mapping[_Place, Sequence[int]],
) -> Iterator[Band]:
    for b, band in enumerate(bands):
        lines = (
            Line(line.rows, tuple(links.get((b, place), ())), tuple(marks.get((b, place), ())))
            for place, line in enumerate(band.lines)
        )
        yield Band(band.cards, tuple(lines))


def _placed(
    bands: Sequence[Band], spots: Sequence[tuple[Spot | None, ...]]
) -> Mapping[_Place, Sequence[int]]:
    """Put each link or mark into a line: its own where it runs straight, else that of an end."""
    teacher, student = _places(bands, 0), _places(bands, 1)
    ends = [
        [places[spot] for places, spot in zip((teacher, student), held, strict=True) if spot]
        for held in spots
    ]
    found: dict[_Place, list[int]] = {}
    # Straight ones first; of the two lines of a slanted one, the emptier.
    for index in sorted(range(len(ends)), key=lambda i: (len(set(ends[i])) > 1, i)):
        if ends[index]:
            place = min(ends[index], key=lambda end: len(found.get(end, ())))
            found.setdefault(place, []).append(index)
    return found


def _places(bands: Sequence[Band], side: int) -> Mapping[Spot, _Place]:
    found: dict[Spot, _Place] = {}
    for b, band in enumerate(bands):
        card = band.cards[side]
        for place, line in enumerate(band.lines):
            row = line.rows[side]
            if card is not None and row is not None:
                found[Spot(card, row)] = (b, place)
    return found
