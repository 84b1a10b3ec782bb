"""Align two networks: their cards in bands, and the rows of these in lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise, zip_longest
from typing import TypeAlias

from graphtool.rendering.board import Band, Card, Line, Link, Mark, Panel, RowIndex

__all__ = ["bands_of", "bands_of_one"]

# Scores of aligning two cards: for each pair they share, else for the same title, or same part.
_LINK_SCORE, _TITLE_SCORE, _PART_SCORE = 10, 3, 1
# A teacher index and a student index of cards or rows side by side; None is a blank.
_Aligned: TypeAlias = "tuple[int | None, int | None]"
# The indices of a Band and of a Line in it.
_LinePosition: TypeAlias = "tuple[int, int]"


def bands_of_one(panel: Panel) -> tuple[Band, ...]:
    """Stack the cards of one network."""
    return tuple(
        Band((index,), tuple(Line((row,)) for row in range(len(card.rows))))
        for index, card in enumerate(panel.cards)
    )


def bands_of(
    teacher: Panel, student: Panel, links: Sequence[Link], marks: Sequence[Mark] = ()
) -> tuple[Band, ...]:
    """Put two networks side by side, with as many links as possible running straight across."""
    matched = _best_alignment(_card_scores(teacher.cards, student.cards, links))
    row_pairs: dict[_Aligned, list[tuple[int, int]]] = {}
    for link in links:
        cards = link.teacher.card, link.student.card
        row_pairs.setdefault(cards, []).append((link.teacher.row, link.student.row))
    bands = [
        _band(teacher, student, cards, row_pairs.get(cards, ()))
        for cards in _with_unmatched(matched, len(teacher.cards), len(student.cards))
    ]
    link_lines = _assign_lines(bands, [(link.teacher, link.student) for link in links])
    mark_lines = _assign_lines(bands, [mark.spots for mark in marks])
    return tuple(
        Band(
            band.cards,
            tuple(
                Line(
                    line.rows,
                    tuple(link_lines.get((b, index), ())),
                    tuple(mark_lines.get((b, index), ())),
                )
                for index, line in enumerate(band.lines)
            ),
        )
        for b, band in enumerate(bands)
    )


def _card_scores(
    teacher: Sequence[Card], student: Sequence[Card], links: Sequence[Link]
) -> list[list[int]]:
    """Return the score of aligning each card of the teacher with each card of the student."""
    by_title: dict[str, list[int]] = {}
    for s, card in enumerate(student):
        by_title.setdefault(card.title, []).append(s)
    part_scores = {
        part: [
            0 if part.has_resolution or part is not card.part else _PART_SCORE for card in student
        ]
        for part in {card.part for card in teacher}
    }
    scores = [part_scores[card.part].copy() for card in teacher]
    for card, row in zip(teacher, scores, strict=True):
        for s in by_title.get(card.title, ()):
            row[s] = _TITLE_SCORE
    for link in links:
        scores[link.teacher.card][link.student.card] += _LINK_SCORE * len(link.ranks)
    return scores


def _best_alignment(scores: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Return the order-preserving pairs of indices with the highest total score."""
    rows, columns = len(scores), len(scores[0]) if scores else 0
    # best[t][s] is the highest total from row t and column s on. It is built from the last row.
    best = [[0] * (columns + 1)]
    for row in reversed(scores):
        taken = [
            max(below, score and score + diagonal)
            for score, below, diagonal in zip(row, best[-1], best[-1][1:], strict=False)
        ]
        best.append([*accumulate(reversed(taken), max, initial=0)][::-1])
    best.reverse()
    chain: list[tuple[int, int]] = []
    t = s = 0
    while t < rows and s < columns and best[t][s]:
        score = scores[t][s]
        if score and best[t][s] == score + best[t + 1][s + 1]:
            chain.append((t, s))
            t, s = t + 1, s + 1
        elif best[t][s] == best[t + 1][s]:
            t += 1
        else:
            s += 1
    return chain


def _with_unmatched(
    matched: Sequence[tuple[int, int]], teacher_count: int, student_count: int
) -> Iterator[_Aligned]:
    """Yield the matched cards, with the unmatched ones in order between them."""
    t = s = 0
    for teacher, student in (*matched, (teacher_count, student_count)):
        yield from zip_longest(range(t, teacher), range(s, student))
        if teacher < teacher_count:
            yield teacher, student
        t, s = teacher + 1, student + 1


def _band(
    teacher: Panel, student: Panel, cards: _Aligned, row_pairs: Sequence[tuple[int, int]]
) -> Band:
    t, s = cards
    teacher_rows = 0 if t is None else len(teacher.cards[t].rows)
    student_rows = 0 if s is None else len(student.cards[s].rows)
    return Band(cards, tuple(map(Line, _align_rows(row_pairs, teacher_rows, student_rows))))


def _align_rows(
    row_pairs: Sequence[tuple[int, int]], teacher_count: int, student_count: int
) -> Iterator[_Aligned]:
    """Align rows at their pairs; blanks come first before the first pair, else last."""
    scores = [[0] * student_count for _ in range(teacher_count)]
    for t, s in row_pairs:
        scores[t][s] += 1
    chain = _best_alignment(scores)
    stops = [(-1, -1), *chain, (teacher_count, student_count)]
    for index, (start, stop) in enumerate(pairwise(stops)):
        teacher = list[int | None](range(start[0] + 1, stop[0]))
        student = list[int | None](range(start[1] + 1, stop[1]))
        blanks_first = index == 0 and bool(chain)
        height = max(len(teacher), len(student))
        yield from zip(
            _padded(teacher, height, blanks_first=blanks_first),
            _padded(student, height, blanks_first=blanks_first),
            strict=True,
        )
        if stop[0] < teacher_count:
            yield stop


def _padded(rows: list[int | None], height: int, *, blanks_first: bool) -> list[int | None]:
    blanks: list[int | None] = [None] * (height - len(rows))
    return blanks + rows if blanks_first else rows + blanks


def _assign_lines(
    bands: Sequence[Band], spots: Sequence[tuple[RowIndex | None, ...]]
) -> Mapping[_LinePosition, Sequence[int]]:
    """Assign each link or mark to the line of its ends, or to one of their two lines."""
    positions = _line_positions(bands, 0), _line_positions(bands, 1)
    ends = [
        [lines[spot] for lines, spot in zip(positions, item, strict=True) if spot] for item in spots
    ]
    assigned: dict[_LinePosition, list[int]] = {}
    # Those with both ends on one line first; the others go to the emptier of their lines.
    for index in sorted(range(len(ends)), key=lambda i: (len(set(ends[i])) > 1, i)):
        if ends[index]:
            position = min(ends[index], key=lambda end: len(assigned.get(end, ())))
            assigned.setdefault(position, []).append(index)
    return assigned


def _line_positions(bands: Sequence[Band], panel: int) -> Mapping[RowIndex, _LinePosition]:
    positions: dict[RowIndex, _LinePosition] = {}
    for b, band in enumerate(bands):
        card = band.cards[panel]
        for index, line in enumerate(band.lines):
            row = line.rows[panel]
            if card is not None and row is not None:
                positions[RowIndex(card, row)] = (b, index)
    return positions
