"""What stands beside what: cards of two networks in bands, their rows in lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise, zip_longest
from typing import TypeAlias

from graphtool.rendering.board import Band, Card, Line, Link, Mark, Panel, Spot

__all__ = ["bands_of", "bands_of_one"]

# Two cards that share pairs belong side by side; else those of one title, or of one part.
_PER_LINK, _PER_TITLE, _PER_PART = 10, 3, 1
# What stands side by side, by its index in either network.
_Pair: TypeAlias = "tuple[int | None, int | None]"


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
    matched = _best_chain(_gains(teacher.cards, student.cards, links))
    ends = _ends(links)
    bands = [
        _band(teacher, student, cards, ends.get(cards, ()))
        for cards in _in_order(matched, len(teacher.cards), len(student.cards))
    ]
    return tuple(
        _with(
            bands,
            _placed(bands, [(link.teacher, link.student) for link in links]),
            _placed(bands, [mark.spots for mark in marks]),
        )
    )


def _gains(
    teacher: Sequence[Card], student: Sequence[Card], links: Sequence[Link]
) -> list[list[int]]:
    """Return what it gains to put each card of the teacher beside each of the student."""
    titled: dict[str, list[int]] = {}
    for s, card in enumerate(student):
        titled.setdefault(card.title, []).append(s)
    alike = {
        part: [0 if part.has_resolution or part is not card.part else _PER_PART for card in student]
        for part in {card.part for card in teacher}
    }
    gains = [alike[card.part].copy() for card in teacher]
    for card, row in zip(teacher, gains, strict=True):
        for s in titled.get(card.title, ()):
            row[s] = _PER_TITLE
    for link in links:
        gains[link.teacher.card][link.student.card] += _PER_LINK * len(link.ranks)
    return gains


def _best_chain(gains: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return the pairs of indices, rising on both sides, that gain most together."""
    rows, columns = len(gains), len(gains[0]) if gains else 0
    # What can be gained from a row and a column on: the last row first, then turned.
    best = [[0] * (columns + 1)]
    for row in reversed(gains):
        taken = [
            max(below, gain and gain + behind)
            for gain, below, behind in zip(row, best[-1], best[-1][1:], strict=False)
        ]
        best.append([*accumulate(reversed(taken), max, initial=0)][::-1])
    best.reverse()
    chain: list[tuple[int, int]] = []
    t = s = 0
    while t < rows and s < columns and best[t][s]:
        gain = gains[t][s]
        if gain and best[t][s] == gain + best[t + 1][s + 1]:
            chain.append((t, s))
            t, s = t + 1, s + 1
        elif best[t][s] == best[t + 1][s]:
            t += 1
        else:
            s += 1
    return chain


def _in_order(matched: Sequence[tuple[int, int]], teachers: int, students: int) -> Iterator[_Pair]:
    """Yield matched cards, those without a partner between them."""
    t = s = 0
    for teacher, student in (*matched, (teachers, students)):
        yield from zip_longest(range(t, teacher), range(s, student))
        if teacher < teachers:
            yield teacher, student
        t, s = teacher + 1, student + 1


def _ends(links: Sequence[Link]) -> Mapping[_Pair, Sequence[tuple[int, int]]]:
    """Return the rows that links join, by the cards that hold them."""
    found: dict[_Pair, list[tuple[int, int]]] = {}
    for link in links:
        cards = link.teacher.card, link.student.card
        found.setdefault(cards, []).append((link.teacher.row, link.student.row))
    return found


def _band(teacher: Panel, student: Panel, cards: _Pair, ends: Sequence[tuple[int, int]]) -> Band:
    t, s = cards
    heights = (
        0 if t is None else len(teacher.cards[t].rows),
        0 if s is None else len(student.cards[s].rows),
    )
    return Band(cards, tuple(map(Line, _lines(ends, *heights))))


def _lines(ends: Sequence[tuple[int, int]], teachers: int, students: int) -> Iterator[_Pair]:
    """Split rows at common pairs; blanks come first before the first pair, else last."""
    gains = [[0] * students for _ in range(teachers)]
    for t, s in ends:
        gains[t][s] += 1
    chain = _best_chain(gains)
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
