"""Build the Board of one network, or of two with their pairs, at a readable level."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import TypeAlias

from graphtool.both import Both
from graphtool.diagnostics import Diagnostic, Report, Severity, Where, counted
from graphtool.graph import Graph, Operator
from graphtool.matching import Kind, Pair, Relation
from graphtool.matching.candidates import align
from graphtool.matching.relations import AnalysedPair, relation_of
from graphtool.rendering._labels import dims
from graphtool.rendering._panels import panel_of
from graphtool.rendering.board import (
    Band,
    Board,
    CardPart,
    Level,
    Line,
    Panel,
    Pill,
    RowIndex,
    Tag,
)
from graphtool.rendering.scenes import Scene, Subject
from graphtool.structure import Structure, analyse

__all__ = ["board_of", "compared", "diagnostics_by_operator", "outermost", "worst_first"]

_MAX_ROWS = 150
# Heights in points: two screens, a line, and a band without its lines.
_MAX_HEIGHT, _LINE, _BAND = 2000, 20, 45
# More tags between the same two rows would make the pair column wider than a card.
_MAX_TAGS = 2
# Symbols between two sizes.
_SIGNS = {Relation.EQUAL: "=", Relation.UNKNOWN: "?"}
_ADAPTER_NAMES = {"conv1x1": "conv 1×1"}
# Gains of aligning two cards: for each pair they share, for the same title, or the same part of
# those that a network has one of.
_PAIR_GAIN, _TITLE_GAIN, _PART_GAIN = 10, 3, 1
_PARTS_BY_RESOLUTION = frozenset({CardPart.STAGE, CardPart.NECK})
# A teacher index and a student index of cards or rows side by side; None is a blank.
_Match: TypeAlias = "tuple[int, int]"
_Aligned: TypeAlias = "tuple[int | None, int | None]"
_SEVERITIES = (Severity.ERROR, Severity.WARNING, Severity.NOTE)


def board_of(subject: Subject, level: Level | None = None) -> Board:
    """Build the Board of a network, or of two with their pairs, diagnostics or merge.

    Card levels only: STAGE, BLOCK and MODULE. The default is BLOCK, or STAGE if that is too tall.
    """
    if isinstance(subject, Scene):
        draw = partial(_board_of_scene, subject)
    else:
        draw = partial(_board_of_network, analyse(subject))
    board = draw(level or Level.BLOCK)
    height = sum(_BAND + _LINE * len(band.lines) for band in board.bands)
    is_readable = board.rows <= _MAX_ROWS and height <= _MAX_HEIGHT
    return board if level is not None or is_readable else draw(Level.STAGE)


def _board_of_network(structure: Structure, level: Level) -> Board:
    panel = panel_of(structure, role=None, level=level)
    bands = tuple(
        Band((index,), tuple(Line((row,)) for row in range(len(card.rows))))
        for index, card in enumerate(panel.cards)
    )
    notes = () if panel.cards else ("no operator depends on what the program is fed",)
    return Board(level=level, panels=(panel,), bands=bands, notes=notes)


def _board_of_scene(scene: Scene, level: Level) -> Board:
    pairs, report = scene.pairs.pairs, scene.report
    findings = None if report is None else worst_first(report)
    ends = Both([pair.teacher.name for pair in pairs], [pair.student.name for pair in pairs])
    states = Both("", "") if scene.merge is None else Both("frozen", "trained")
    panels: list[Panel] = []
    pair_spots: list[list[RowIndex | None]] = []
    finding_spots: list[list[RowIndex | None]] = []
    for role, structure, names, state in zip(
        ("teacher", "student"), scene.structures, ends, states, strict=True
    ):
        makers = [_outermost_producer(structure.graph, name) for name in names]
        ranks: defaultdict[str, list[int]] = defaultdict(list)
        for pair, maker in zip(pairs, makers, strict=True):
            ranks[maker].append(pair.rank)
        panel = panel_of(structure, role=role, level=level, ranks=ranks, state=state)
        panels.append(panel)
        spots = panel.spots
        pair_spots.append([spots.get(maker) for maker in makers])
        places = [_spot(found, structure.graph, role, spots) for found in findings or ()]
        finding_spots.append(places)
    groups: dict[tuple[RowIndex, RowIndex], list[Pair]] = {}
    for pair, teacher, student in zip(pairs, *pair_spots, strict=True):
        if teacher is not None and student is not None:
            groups.setdefault((teacher, student), []).append(pair)
    by_rank = sorted(groups.items(), key=lambda group: min(pair.rank for pair in group[1]))
    pills = [
        Pill(
            name=f"pair-{index}",
            tags=_tags(group, scene),
            spots=spots,
            ranks=tuple(sorted(pair.rank for pair in group)),
        )
        for index, (spots, group) in enumerate(by_rank)
    ]
    for index, (found, *spots) in enumerate(zip(findings or (), *finding_spots, strict=True)):
        tag = Tag(found.code, found.slug, f"× {found.count}" if found.count > 1 else "")
        name, severity = f"mark-{index}", found.severity
        pills.append(Pill(name=name, tags=(tag,), spots=tuple(spots), severity=severity))
    return Board(
        level=level,
        panels=tuple(panels),
        bands=_bands_of(panels[0], panels[1], pills),
        pills=tuple(pills),
        findings=findings,
        headline=_headline(scene),
        notes=tuple(_notes(scene, pills)),
    )


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


def _notes(scene: Scene, pills: Sequence[Pill]) -> Iterator[str]:
    """Yield what the picture leaves out."""
    drawn = {rank for pill in pills for rank in pill.ranks}
    missing = [str(pair.rank) for pair in scene.pairs if pair.rank not in drawn]
    if missing:
        listed = f"pair{'' if len(missing) == 1 else 's'} {', '.join(missing)}"
        yield f"{listed} not drawn: the picture has no row for a Value that the input doesn't reach"
    for prefix in scene.merge.others if scene.merge is not None else ():
        yield f"the teacher merged as `{prefix}*` not drawn: a picture has room for one"


def _outermost_producer(graph: Graph, value: str) -> str:
    """Return the Operator of the top-level Block that a Value comes from; empty for a feed."""
    producer = graph.producer(value)
    return "" if producer is None else outermost(graph, producer).name


def outermost(graph: Graph, operator: Operator) -> Operator:
    """Return the Operator of the top-level Block that an Operator is or lies in."""
    while operator.block:
        operator = graph.operators[graph.blocks[operator.block].owner or ""]
    return operator


def _tags(pairs: Sequence[Pair], scene: Scene) -> tuple[Tag, ...]:
    """Return a tag for each distinct text; if they don't fit on a line, one that counts pairs."""
    groups: dict[tuple[str, str], list[int]] = {}
    for pair in pairs:
        loss = pair.loss if pair.weight == 1 else f"{pair.weight:g} × {pair.loss}"
        parts = [part.partition("(")[0] for part in (pair.adapter or "").split("+")]
        adapter = " + ".join(_ADAPTER_NAMES.get(part, part) for part in parts)
        extra = ", ".join(filter(None, (loss if scene.merge else "", adapter)))
        sides = compared(pair.kind, scene.structures, pair.teacher.name, pair.student.name)
        groups.setdefault((_sizes(sides), extra), []).append(pair.rank)
    if len(groups) > _MAX_TAGS:
        groups = {(f"{len(pairs)} pairs", ""): [pair.rank for pair in pairs]}
    ranked = sorted((sorted(ranks), texts) for texts, ranks in groups.items())
    return tuple(Tag(_listed(ranks), *texts) for ranks, texts in ranked)


def _listed(ranks: Sequence[int]) -> str:
    """Write sorted ranks, with three or more consecutive ones as `2–7`."""
    runs: dict[int, list[int]] = {}
    for index, rank in enumerate(ranks):
        runs.setdefault(rank - index, []).append(rank)
    texts = (
        f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs.values()
    )
    return ", ".join(texts)


def compared(kind: Kind, structures: Both[Structure], teacher: str, student: str) -> AnalysedPair:
    """Return two Values of two networks, to compare their shapes."""
    return AnalysedPair(
        kind=kind,
        teacher=structures.teacher,
        teacher_name=teacher,
        student=structures.student,
        student_name=student,
    )


def _sizes(pair: AnalysedPair) -> str:
    """Compare the sizes that differ: channels, H × W, lengths or heads."""
    relation, texts = relation_of(pair), list[str]()
    for shape, channels, sides, scale in zip(
        pair.shapes, pair.channels, pair.sizes, pair.scales, strict=True
    ):
        size = dims((channels,))
        resolution = dims(sides) if sides is not None else str(scale or "?")
        if relation in (Relation.SEQUENCE, Relation.TOKENS) and pair.kind is not Kind.ATTENTION:
            size = dims(shape[1:])
        elif relation is Relation.SPATIAL:
            size = resolution
        elif relation is Relation.CHANNELS_SPATIAL:
            size = f"{size}, {resolution}"
        texts.append(size)
    unit = " heads" if pair.kind is Kind.ATTENTION else ""
    return f"{texts[0]} {_SIGNS.get(relation, '←')} {texts[1]}{unit}"


def worst_first(report: Report) -> tuple[Diagnostic, ...]:
    """Return the diagnostics of a report by severity."""
    return tuple(sorted(report, key=lambda diagnostic: _SEVERITIES.index(diagnostic.severity)))


def diagnostics_by_operator(
    report: Report, graph: Graph, role: str | None
) -> Mapping[str, Sequence[Diagnostic]]:
    """Return the diagnostics at each Operator of a network, by its name, the worst first."""
    result: dict[str, list[Diagnostic]] = {}
    for diagnostic in worst_first(report):
        for where in diagnostic.where:
            operator = next(_operators_at(graph, role, where), None)
            if operator is not None:
                result.setdefault(operator.name, []).append(diagnostic)
    return result


def _spot(
    diagnostic: Diagnostic, graph: Graph, role: str, spots: Mapping[str, RowIndex]
) -> RowIndex | None:
    """Return the first Row that a diagnostic concerns."""
    operators = (each for where in diagnostic.where for each in _operators_at(graph, role, where))
    names = (outermost(graph, operator).name for operator in operators)
    return next((spots[name] for name in names if name in spots), None)


def _operators_at(graph: Graph, role: str | None, where: Where) -> Iterator[Operator]:
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


def _bands_of(teacher: Panel, student: Panel, pills: Sequence[Pill]) -> tuple[Band, ...]:
    """Put two networks side by side, with as many pairs as possible running straight across."""
    row_pairs: defaultdict[_Aligned, Counter[_Match]] = defaultdict(Counter)
    for pill in pills:
        t, s = pill.spots
        if t is not None and s is not None:
            row_pairs[t.card, s.card][t.row, s.row] += len(pill.ranks)

    def gain(match: _Match) -> int:
        one, other = teacher.cards[match[0]], student.cards[match[1]]
        is_alike = one.part is other.part and one.part not in _PARTS_BY_RESOLUTION
        same = _TITLE_GAIN if one.title == other.title else _PART_GAIN if is_alike else 0
        return same + _PAIR_GAIN * row_pairs[match].total()

    bands: list[tuple[_Aligned, Sequence[_Aligned]]] = []
    for cards in _side_by_side((len(teacher.cards), len(student.cards)), gain):
        t, s = cards
        teacher_rows = 0 if t is None else len(teacher.cards[t].rows)
        student_rows = 0 if s is None else len(student.cards[s].rows)
        pairs = row_pairs[cards]
        lines = _side_by_side((teacher_rows, student_rows), pairs.__getitem__, is_hanging=True)
        bands.append((cards, [*lines]))
    assigned = _assign_lines(bands, pills)
    return tuple(
        Band(
            cards,
            tuple(Line(rows, tuple(assigned.get((b, i), ()))) for i, rows in enumerate(lines)),
        )
        for b, (cards, lines) in enumerate(bands)
    )


def _side_by_side(
    counts: _Match, gain: Callable[[_Match], int], *, is_hanging: bool = False
) -> Iterator[_Aligned]:
    """Align items by their gains, and yield the others in order between them.

    Blanks come behind those of the shorter side, but with `is_hanging` before those above the
    first match.
    """
    matched = align(range(counts[0]), range(counts[1]), lambda t, s: gain((t, s)))
    t = s = 0
    for teacher, student in (*matched, counts):
        if is_hanging and t == s == 0 and matched:
            hanging = zip_longest(reversed(range(teacher)), reversed(range(student)))
            yield from reversed([*hanging])
        else:
            yield from zip_longest(range(t, teacher), range(s, student))
        if (teacher, student) != counts:
            yield teacher, student
        t, s = teacher + 1, student + 1


def _assign_lines(
    bands: Sequence[tuple[_Aligned, Sequence[_Aligned]]], pills: Sequence[Pill]
) -> Mapping[tuple[int, int], Sequence[int]]:
    """Assign each Pill to the line of its Rows, or to one of their two lines."""
    lines: list[dict[RowIndex, tuple[int, int]]] = [{}, {}]
    for b, (cards, aligned) in enumerate(bands):
        for index, rows in enumerate(aligned):
            for known, card, row in zip(lines, cards, rows, strict=True):
                if card is not None and row is not None:
                    known[RowIndex(card, row)] = (b, index)
    ends = [
        [known[spot] for known, spot in zip(lines, pill.spots, strict=True) if spot is not None]
        for pill in pills
    ]
    assigned: dict[tuple[int, int], list[int]] = {}
    # Those with both ends on one line first; the others go to the emptier of their lines.
    for index in sorted(range(len(ends)), key=lambda i: (len(set(ends[i])) > 1, i)):
        if ends[index]:
            place = min(ends[index], key=lambda end: len(assigned.get(end, ())))
            assigned.setdefault(place, []).append(index)

    def position(index: int) -> int:
        """Return the place on a line: pills of the teacher, of both networks, of the student."""
        teacher, student = pills[index].spots
        return 0 if student is None else 2 if teacher is None else 1

    return {place: sorted(indices, key=position) for place, indices in assigned.items()}
