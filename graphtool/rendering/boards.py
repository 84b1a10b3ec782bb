"""Build the Board of one network, or of two with their pairs, at a readable level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, islice, pairwise, zip_longest
from typing import TypeAlias

from graphtool.both import Both
from graphtool.diagnostics import Diagnostic, Report, Severity, Where, counted
from graphtool.graph import UNKNOWN_DIM, Graph, Operator
from graphtool.matching import End, Kind, Pair, PairSet, Relation
from graphtool.rendering._labels import dims
from graphtool.rendering._panels import panel_of
from graphtool.rendering.board import (
    Band,
    Board,
    Card,
    Level,
    Line,
    Link,
    Mark,
    Panel,
    RowIndex,
    Tag,
)
from graphtool.rendering.scenes import Merge, Scene
from graphtool.structure import Structure, analyse

__all__ = ["board_of", "board_of_scene", "diagnostics_by_operator", "marks_of"]

_MAX_ROWS = 150
# Heights in points: two screens, a line, and a band without its lines.
_MAX_HEIGHT, _LINE, _BAND = 2000, 20, 45
# More tags between the same two rows would make the pair column wider than a card.
_MAX_TAGS = 2
# Symbols between two sizes.
_SIGNS = {Relation.EQUAL: "=", Relation.UNKNOWN: "?"}
# Relations whose text has height and width, or the sequence length.
_SPATIAL = frozenset({Relation.SPATIAL, Relation.CHANNELS_SPATIAL})
_SEQUENTIAL = frozenset({Relation.SEQUENCE, Relation.TOKENS})
_ADAPTER_NAMES = {"conv1x1": "conv 1×1"}
# Scores of aligning two cards: for each pair they share, else for the same title, or same part.
_LINK_SCORE, _TITLE_SCORE, _PART_SCORE = 10, 3, 1
# A teacher index and a student index of cards or rows side by side; None is a blank.
_Aligned: TypeAlias = "tuple[int | None, int | None]"
# The indices of a Band and of a Line in it.
_LinePosition: TypeAlias = "tuple[int, int]"
_SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


def board_of(graph: Graph, level: Level | None = None) -> Board:
    """Build the Board of one network; the default level is BLOCK, or STAGE if that is too tall.

    Card levels only: STAGE, BLOCK and MODULE.
    """
    structure = analyse(graph)

    def draw(level: Level) -> Board:
        panel = panel_of(structure, role=None, level=level, ranks={})
        bands = tuple(
            Band((index,), tuple(Line((row,)) for row in range(len(card.rows))))
            for index, card in enumerate(panel.cards)
        )
        notes = () if panel.cards else ("no operator depends on what the program is fed",)
        return Board(level=level, panels=(panel,), bands=bands, notes=notes)

    return _readable(draw, level)


def board_of_scene(scene: Scene, level: Level | None = None) -> Board:
    """Build the Board of two networks with their pairs, diagnostics or merge."""
    pairs, structures, merge = scene.pairs, scene.structures, scene.merge
    ranks = Both(
        _ranks_of(pairs.teacher, [(pair.rank, pair.teacher) for pair in pairs]),
        _ranks_of(pairs.student, [(pair.rank, pair.student) for pair in pairs]),
    )

    def draw(level: Level) -> Board:
        panels = Both(
            panel_of(structures.teacher, role="teacher", level=level, ranks=ranks.teacher),
            panel_of(structures.student, role="student", level=level, ranks=ranks.student),
        )
        rows = panels.map(_rows_by_operator)
        links = _links_of(pairs, structures, rows, show_losses=merge is not None)
        marks = marks_of(scene.report or Report(), scene.graphs, tuple(rows))
        states = ("", "") if merge is None else ("frozen", "trained")
        panels = Both(
            replace(_with_severities(panels.teacher, 0, marks), state=states[0]),
            replace(_with_severities(panels.student, 1, marks), state=states[1]),
        )
        return Board(
            level=level,
            panels=tuple(panels),
            bands=_bands_of(panels.teacher, panels.student, links, marks),
            links=links,
            marks=marks,
            headline=_headline(scene),
            worst=_worst_severity(scene.report),
            notes=(*_undrawn_pairs(pairs, links), *_undrawn_teachers(merge)),
        )

    return _readable(draw, level)


def _readable(draw: Callable[[Level], Board], level: Level | None) -> Board:
    board = draw(level or Level.BLOCK)
    height = sum(_BAND + _LINE * len(band.lines) for band in board.bands)
    is_readable = board.rows <= _MAX_ROWS and height <= _MAX_HEIGHT
    return board if level is not None or is_readable else draw(Level.STAGE)


def _headline(scene: Scene) -> tuple[str, str]:
    """Summarise in two lines what is drawn between two networks."""
    count = len(scene.pairs)
    if scene.report is not None:
        report = scene.report
        return counted(len(report.errors), "error"), f"of {counted(len(report), 'finding')}"
    if scene.merge is None:
        return counted(count, "pair"), "teacher ← student"
    if scene.merge.losses:
        headline = f"{counted(count, 'pair')} in the loss"
    else:
        headline = f"merged, {counted(count, 'pair')}" if count else "merged"
    feeds = (old if old == new else f"{old} → {new}" for old, new in scene.merge.feed_map.items())
    return headline, ", ".join((f"{scene.merge.prefix}*", *feeds))


def _worst_severity(report: Report | None) -> Severity | None:
    if report is None:
        return None
    severities = {diagnostic.severity for diagnostic in report}
    return next((severity for severity in Severity if severity in severities), Severity.NOTE)


def _undrawn_pairs(pairs: PairSet, links: tuple[Link, ...]) -> Iterator[str]:
    drawn = {rank for link in links for rank in link.ranks}
    missing = [str(pair.rank) for pair in pairs if pair.rank not in drawn]
    if missing:
        listed = f"pair{'' if len(missing) == 1 else 's'} {', '.join(missing)}"
        yield f"{listed} not drawn: the picture has no row for a Value that the input doesn't reach"


def _undrawn_teachers(merge: Merge | None) -> Iterator[str]:
    for prefix in merge.others if merge is not None else ():
        yield f"the teacher merged as `{prefix}*` not drawn: a picture has room for one"


def _ranks_of(graph: Graph, ends: Sequence[tuple[int, End]]) -> Mapping[str, tuple[int, ...]]:
    """Return the ranks of the pairs that end at each Operator of the top-level Block."""
    ranks: dict[str, tuple[int, ...]] = {}
    for rank, end in ends:
        operator = _top_level_producer(graph, end.name)
        if operator is not None:
            ranks[operator] = (*ranks.get(operator, ()), rank)
    return ranks


def _top_level_producer(graph: Graph, value: str) -> str | None:
    """Return the Operator of the top-level Block that produces a Value or contains its producer."""
    producer = graph.producer(value)
    return None if producer is None else _outermost(graph, producer).name


def _outermost(graph: Graph, operator: Operator) -> Operator:
    """Return the Operator of the top-level Block that an Operator is or lies in."""
    while operator.block:
        owner = graph.blocks[operator.block].owner
        assert owner is not None
        operator = graph.operators[owner]
    return operator


def _rows_by_operator(panel: Panel) -> Mapping[str, RowIndex]:
    """Return the Row of each Operator of a Panel."""
    return {
        name: RowIndex(c, r)
        for c, card in enumerate(panel.cards)
        for r, row in enumerate(card.rows)
        for name in row.operators
    }


def _links_of(
    pairs: PairSet,
    structures: Both[Structure],
    rows: Both[Mapping[str, RowIndex]],
    *,
    show_losses: bool,
) -> tuple[Link, ...]:
    """Return the Links in order of rank; pairs without a row at both ends have none."""
    pairs_by_spots: dict[tuple[RowIndex, RowIndex], list[Pair]] = {}
    for pair in pairs:
        teacher = rows.teacher.get(_top_level_producer(pairs.teacher, pair.teacher.name) or "")
        student = rows.student.get(_top_level_producer(pairs.student, pair.student.name) or "")
        if teacher is not None and student is not None:
            pairs_by_spots.setdefault((teacher, student), []).append(pair)
    links = [
        Link(
            tags=_tags(group, structures, show_losses=show_losses), teacher=teacher, student=student
        )
        for (teacher, student), group in pairs_by_spots.items()
    ]
    return tuple(sorted(links, key=lambda link: link.ranks))


def _tags(
    pairs: Sequence[Pair], structures: Both[Structure], *, show_losses: bool
) -> tuple[Tag, ...]:
    """Return a tag for each distinct text; if they don't fit on a line, one that counts pairs."""
    groups: dict[tuple[str, str], list[Pair]] = {}
    for pair in pairs:
        loss = pair.loss if pair.weight == 1 else f"{pair.weight:g} × {pair.loss}"
        parts = [part.partition("(")[0] for part in (pair.adapter or "").split("+")]
        adapter = " + ".join(_ADAPTER_NAMES.get(part, part) for part in parts)
        extra = ", ".join(filter(None, (loss if show_losses else "", adapter)))
        groups.setdefault((_text(pair, structures), extra), []).append(pair)
    if len(groups) > _MAX_TAGS:
        groups = {(f"{len(pairs)} pairs", ""): list(pairs)}
    tags = [
        Tag(ranks=tuple(sorted(pair.rank for pair in group)), text=text, adapter=extra)
        for (text, extra), group in groups.items()
    ]
    return tuple(sorted(tags, key=lambda tag: tag.ranks))


def _text(pair: Pair, structures: Both[Structure]) -> str:
    """Compare the sizes that differ: channels, H × W, lengths or heads."""
    teacher = _size(pair, structures.teacher, pair.teacher)
    student = _size(pair, structures.student, pair.student)
    unit = " heads" if pair.kind is Kind.ATTENTION else ""
    return f"{teacher} {_SIGNS.get(pair.relation, '←')} {student}{unit}"


def _size(pair: Pair, structure: Structure, end: End) -> str:
    if pair.kind is Kind.ATTENTION:
        return _dim(end.shape[1] if end.shape is not None and len(end.shape) > 1 else UNKNOWN_DIM)
    channels = _dim(structure.channels(end.name))
    if pair.relation in _SEQUENTIAL and end.shape is not None:
        return dims(end.shape[1:])
    if pair.relation not in _SPATIAL:
        return channels
    height_width = structure.sides(end.name)
    resolution = (
        str(structure.scales.get(end.name, "?")) if height_width is None else dims(height_width)
    )
    return resolution if pair.relation is Relation.SPATIAL else f"{channels}, {resolution}"


def _dim(dim: int) -> str:
    return "?" if dim == UNKNOWN_DIM else str(dim)


def marks_of(
    report: Report, graphs: Sequence[Graph], rows: Sequence[Mapping[str, RowIndex]] = ()
) -> tuple[Mark, ...]:
    """Return the diagnostics, the worst first, with the Row that each concerns in each Panel.

    `rows` are those of each network's Operators; without them, diagnostics have no Rows.
    """
    roles = ("teacher", "student")
    return tuple(
        Mark(
            code=diagnostic.code,
            slug=diagnostic.slug,
            severity=diagnostic.severity,
            message=diagnostic.message,
            count=diagnostic.count,
            spots=tuple(
                _spot(diagnostic, graph, role, found)
                for graph, role, found in zip(graphs, roles, rows, strict=False)
            ),
        )
        for diagnostic in _worst_first(report)
    )


def _worst_first(report: Report) -> list[Diagnostic]:
    return sorted(report, key=lambda diagnostic: _SEVERITIES.index(diagnostic.severity))


def diagnostics_by_operator(
    report: Report, graph: Graph, role: str
) -> Mapping[str, Sequence[Diagnostic]]:
    """Return the diagnostics at each Operator of a network, by its name, the worst first."""
    result: dict[str, list[Diagnostic]] = {}
    for diagnostic in _worst_first(report):
        for where in diagnostic.where:
            for operator in islice(_operators_at(graph, role, where), 1):
                result.setdefault(operator.name, []).append(diagnostic)
    return result


def _spot(
    diagnostic: Diagnostic, graph: Graph, role: str, spots: Mapping[str, RowIndex]
) -> RowIndex | None:
    for where in diagnostic.where:
        for operator in _operators_at(graph, role, where):
            spot = spots.get(_outermost(graph, operator).name)
            if spot is not None:
                return spot
    return None


def _operators_at(graph: Graph, role: str, where: Where) -> Iterator[Operator]:
    """Yield the Operators at a location: the one named, or a Value's producer and its readers."""
    if where.value is None or where.role != role:
        return
    if where.value in graph.operators:
        yield graph.operators[where.value]
    if where.value in graph.values:
        producer = graph.producer(where.value)
        if producer is not None and any(name is not None for name in producer.operands):
            yield producer
        yield from graph.consumers.get(where.value, ())


def _with_severities(panel: Panel, index: int, marks: Sequence[Mark]) -> Panel:
    """Set the severity of each Row to that of its worst diagnostic."""
    worst: dict[RowIndex, Severity] = {}
    for mark in marks:
        spot = mark.spots[index]
        if spot is not None:
            worst.setdefault(spot, mark.severity)
    cards = (
        replace(
            card,
            rows=tuple(
                replace(row, severity=worst.get(RowIndex(c, r))) for r, row in enumerate(card.rows)
            ),
        )
        for c, card in enumerate(panel.cards)
    )
    return replace(panel, cards=tuple(cards))


def _bands_of(
    teacher: Panel, student: Panel, links: Sequence[Link], marks: Sequence[Mark] = ()
) -> tuple[Band, ...]:
    """Put two networks side by side, with as many links as possible running straight across."""
    matched = _best_alignment(_card_scores(teacher.cards, student.cards, links))
    row_pairs: dict[_Aligned, list[tuple[int, int]]] = {}
    for link in links:
        cards = link.teacher.card, link.student.card
        row_pairs.setdefault(cards, []).append((link.teacher.row, link.student.row))
    bands: list[Band] = []
    for cards in _with_unmatched(matched, len(teacher.cards), len(student.cards)):
        t, s = cards
        teacher_rows = 0 if t is None else len(teacher.cards[t].rows)
        student_rows = 0 if s is None else len(student.cards[s].rows)
        aligned = _align_rows(row_pairs.get(cards, ()), teacher_rows, student_rows)
        bands.append(Band(cards, tuple(map(Line, aligned))))
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
        teacher = range(start[0] + 1, stop[0])
        student = range(start[1] + 1, stop[1])
        if index == 0 and chain:
            yield from reversed([*zip_longest(reversed(teacher), reversed(student))])
        else:
            yield from zip_longest(teacher, student)
        if stop[0] < teacher_count:
            yield stop


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
