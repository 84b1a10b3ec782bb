"""`render`: draw a network, or two with their pairs, to a file or a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import PurePath

from graphtool.arguments import bad_argument
from graphtool.diagnostics import (
    Diagnostic,
    GraphtoolError,
    ReadError,
    Report,
    Severity,
    UsageError,
    rule,
)
from graphtool.files import atomic_write, write_text
from graphtool.graph import Graph
from graphtool.rendering._cards import board_dot
from graphtool.rendering._operators import box_key, diagram_of, diagrams_dot, neighbourhood
from graphtool.rendering.board import Board, CardPart, Level
from graphtool.rendering.boards import board_of, diagnostics_by_operator, worst_first
from graphtool.rendering.engine import (
    FOCUS,
    Engine,
    LayoutTimeoutError,
    engine_failed,
    find_engine,
    no_engine,
    simplified,
)
from graphtool.rendering.page import page_of, with_links
from graphtool.rendering.scenes import Drawable, Scene, Subject, subject_of
from graphtool.selectors import find

__all__ = ["Picture", "extension_of", "render"]

_EXTENSIONS = (".dot", ".svg", ".png", ".pdf", ".html")
_DEFAULT_SECONDS = 10.0
_MAX_SECONDS = 86_400
_CALL = 'gt.render(pairs, "pairs.svg")'
# In characters: a notebook stores every output in its file.
_MAX_NOTEBOOK_SVG = 2_000_000
_FINE_TO_COARSE = (Level.OP, Level.MODULE, Level.BLOCK, Level.STAGE)
# A network without stages or an encoder is drawn at level OP up to this many boxes.
_FEW_BOXES = 28


@dataclass(frozen=True, slots=True)
class _Focus:
    """A selector of a Value, and the radius in edges of the neighbourhood to draw."""

    name: str
    radius: int


@dataclass(frozen=True, slots=True)
class _Drawing:
    """DOT with its level, notes on what it leaves out, and its Board unless it is at level OP."""

    dot: str
    level: Level
    notes: tuple[str, ...] = ()
    board: Board | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture as DOT, which a notebook shows.

    `level` is what it was drawn at, `report` says what it leaves out and where a level was raised.
    """

    subject: Subject = field(repr=False)
    dot: str = field(repr=False)
    level: Level
    report: Report = field(default_factory=Report)

    def _repr_svg_(self) -> str | None:
        """Return the SVG at the first level within the limits of time and size, or None."""
        engine = find_engine()
        if engine is None:
            return None
        drawing: _Drawing | None = _Drawing(self.dot, self.level)
        while drawing is not None:
            try:
                svg = engine.draw(drawing.dot, "svg", _DEFAULT_SECONDS).decode()
            except LayoutTimeoutError:
                svg = None
            if svg is not None and len(svg) <= _MAX_NOTEBOOK_SVG:
                return svg[svg.index("<svg") :]
            level = _coarser(drawing.level)
            drawing = None if level is None else _draw(self.subject, level)
        return None

    def _repr_html_(self) -> str:
        """Return the picture in a scrolling frame, or the reason why there is none."""
        from html import escape

        svg = self._repr_svg_()
        if svg is None:
            no_svg = no_engine(".svg")
            reason = no_svg if find_engine() is None else "too large to show here"
            return f"<pre>{escape(str(reason))}</pre>"
        return f'<div style="max-height:80vh;overflow:auto">{svg}</div>'


def render(
    x: Drawable,
    path: str | PathLike[str] | None = None,
    *,
    level: Level | str | None = None,
    focus: str | None = None,
    radius: int = 2,
    seconds: float = _DEFAULT_SECONDS,
) -> Picture:
    """Draw a network; or two with their pairs, with what was found, or as they are merged.

    `x` is a Graph or what `gt.read` takes; a PairSet; a Report of `check_merge` or `check_pairs`; a
    Merged, with the pairs that `distill_loss` has built losses from, or the folder of one. With a
    `path`, the picture is written there, as its ending says: `.dot`, `.svg`, `.png`, `.pdf`, or
    `.html`, a page in which to open blocks, to search and to choose pairs. All but `.dot` need
    Graphviz. Without a path, the Picture shows itself in a notebook.

    `level` says what one box stands for: `stage`, `block`, `module` (a layer) or `op`; without it,
    one at which the picture stays readable. `focus` is a selector of a Value: what lies within
    `radius` edges of it is drawn with all its operators; a page opens its block. A layout that
    takes more than `seconds` is tried at the next level, and the report of the Picture says so.

    Raises UsageError: GT402 for another ending, GT248 for another level or radius, a Report that is
    not about two networks, or what is not a path. Raises ReadError: GT101 or GT102 for a focus, and
    as `gt.read` does. Raises GraphtoolError: GT401 and GT403 where no engine draws it, GT601 where
    the file can't be written.
    """
    errors = tuple(_argument_errors(path, radius, seconds))
    if errors:
        raise UsageError(*errors)
    extension = None if path is None else extension_of(path)
    checked_level = _check_level(level, focus)
    subject, report = subject_of(x)
    drawing = _draw(subject, checked_level, None if focus is None else _Focus(focus, radius))
    if path is None or extension is None:
        return _picture(subject, drawing, report)
    if extension == ".dot":
        write_text(path, drawing.dot)
        return _picture(subject, drawing, report)
    engine = find_engine()
    if engine is None:
        raise GraphtoolError(no_engine(extension))
    if extension == ".html":
        # The focus is checked by now; the page shows the whole network, and goes there.
        drawing = drawing if focus is None else _draw(subject)
        data, drawing, raised = _lay_out(subject, drawing, engine, "svg", seconds, links=True)
        text, found = page_of(subject, drawing.board, data, engine, seconds=seconds, focus=focus)
        write_text(path, text)
        return _picture(subject, drawing, (*report, *raised, *found))
    data, drawing, raised = _lay_out(subject, drawing, engine, extension[1:], seconds)
    with atomic_write(path) as file:
        file.write_bytes(data)
    return _picture(subject, drawing, (*report, *raised))


def _argument_errors(path: object, radius: object, seconds: object) -> Iterator[Diagnostic]:
    if not (path is None or isinstance(path, str | PathLike)):
        yield bad_argument("path", path, "the path of a file", _CALL)
    if not isinstance(radius, int) or isinstance(radius, bool) or radius < 1:
        yield bad_argument("radius", radius, "a whole number of 1 or more", "radius=2")
    if not isinstance(seconds, int | float) or not 0 < seconds <= _MAX_SECONDS:
        expected = f"a number above 0, {_MAX_SECONDS} at most"
        yield bad_argument("seconds", seconds, expected, f"{_CALL[:-1]}, seconds=60)")


def extension_of(path: str | PathLike[str]) -> str:
    """Return the file extension of a picture, in lower case.

    Raises UsageError: GT402.
    """
    extension = PurePath(fspath(path)).suffix.lower()
    if extension not in _EXTENSIONS:
        raise UsageError(unknown_ending(fspath(path)))
    return extension


@rule("GT402", replaces=("GT413",))
def unknown_ending(path: str) -> Diagnostic:
    """The file's ending does not name a kind of picture that graphtool writes.

    `.dot` is Graphviz' source, `.svg` and `.pdf` scale, `.png` has 144 points to the inch, `.html`
    is a page in which blocks open and pairs are chosen.
    """
    is_device = PurePath(path).is_relative_to("/dev")
    stem = "" if is_device else path.rpartition(".")[0] or path
    return Diagnostic(
        message=f"`{path}` does not end as a picture does: {', '.join(_EXTENSIONS)}",
        help=f"{stem or 'picture'}.svg",
    )


def _check_level(level: Level | str | None, focus: str | None) -> Level | None:
    """Convert a level, and check that it can be drawn with the focus.

    Raises UsageError: GT248.
    """
    known = [known.value for known in Level]
    if level is not None and level not in known:
        expected = f"one of {', '.join(f'`{name}`' for name in known)}"
        raise UsageError(bad_argument("level", level, expected, f'level="{known[0]}"'))
    converted = None if level is None else Level(level)
    if focus is not None and converted not in (None, Level.OP):
        raise UsageError(bad_argument("level", level, "`op` around a focus", 'level="op"'))
    return converted


def _picture(subject: Subject, drawing: _Drawing, diagnostics: Iterable[Diagnostic]) -> Picture:
    notes = (simplified(note, Severity.NOTE) for note in drawing.notes)
    report = Report.of((*diagnostics, *notes))
    return Picture(subject=subject, dot=drawing.dot, level=drawing.level, report=report)


def _lay_out(
    subject: Subject,
    drawing: _Drawing,
    engine: Engine,
    format: str,
    seconds: float,
    *,
    links: bool = False,
) -> tuple[bytes, _Drawing, list[Diagnostic]]:
    """Lay a picture out, raising its level as long as that takes too long."""
    raised: list[Diagnostic] = []
    while True:
        try:
            dot = with_links(drawing.dot) if links else drawing.dot
            return engine.draw(dot, format, seconds), drawing, raised
        except LayoutTimeoutError:
            level = _coarser(drawing.level)
            if level is None:
                raise GraphtoolError(
                    engine_failed(engine.name, f"the layout took over {seconds:g} s", help=FOCUS)
                ) from None
        slow = f"the layout at level {drawing.level.value} took over {seconds:g} s"
        message = f"{slow}: drawn at level {level.value}"
        raised.append(simplified(message, help=FOCUS))
        drawing = _draw(subject, level)


def _coarser(level: Level) -> Level | None:
    """Return the next coarser level, or None."""
    index = _FINE_TO_COARSE.index(level) + 1
    return _FINE_TO_COARSE[index] if index < len(_FINE_TO_COARSE) else None


def _draw(subject: Subject, level: Level | None = None, focus: _Focus | None = None) -> _Drawing:
    """Draw one network or two; the default level is one that keeps the picture readable.

    Raises ReadError: GT101 or GT102 if the focus selects no Value, or several.
    """
    if focus is not None or level is Level.OP:
        return _draw_operators(subject, focus)
    board = board_of(subject, level)
    if not isinstance(subject, Scene):
        parts = {card.part for panel in board.panels for card in panel.cards}
        has_few_parts = parts <= {CardPart.BODY, CardPart.HEAD}
        if level is None and has_few_parts and len(diagram_of(subject).boxes) <= _FEW_BOXES:
            return _draw_operators(subject, None)
    return _Drawing(board_dot(board), board.level, board.notes, board)


def _draw_operators(subject: Subject, focus: _Focus | None) -> _Drawing:
    if isinstance(subject, Scene):
        return _draw_operators_of_both(subject, focus)
    diagram = diagram_of(subject)
    if not diagram.boxes:
        return _draw(subject, Level.BLOCK)
    if focus is not None:
        diagram = neighbourhood(diagram, {find(subject, focus.name).name}, focus.radius)
    return _Drawing(diagrams_dot([diagram]), Level.OP)


def _draw_operators_of_both(scene: Scene, focus: _Focus | None) -> _Drawing:
    pairs, report = scene.pairs, scene.report or Report()
    teacher, student = (
        diagram_of(
            graph,
            role,
            ranks=ranks,
            diagnostics=diagnostics_by_operator(report, graph, role),
        )
        for graph, role, ranks in (
            (pairs.teacher, "teacher", _ranks({pair.rank: pair.teacher.name for pair in pairs})),
            (pairs.student, "student", _ranks({pair.rank: pair.student.name for pair in pairs})),
        )
    )
    if focus is not None:
        # The Values that it selects in each network, and those paired with them.
        in_teacher, in_student = _selected(pairs.teacher, focus), _selected(pairs.student, focus)
        if not (in_teacher or in_student):
            find(pairs.teacher, focus.name)
        partners = {pair.teacher.name for pair in pairs if pair.student.name in in_student}
        teacher = neighbourhood(teacher, in_teacher | partners, focus.radius)
        partners = {pair.student.name for pair in pairs if pair.teacher.name in in_teacher}
        student = neighbourhood(student, in_student | partners, focus.radius)
    keys = (
        (box_key(pairs.teacher, pair.teacher.name), box_key(pairs.student, pair.student.name))
        for pair in pairs
    )
    dot = diagrams_dot([teacher, student], dict.fromkeys(keys), worst_first(report))
    return _Drawing(dot, Level.OP)


def _ranks(names: Mapping[int, str]) -> Mapping[str, tuple[int, ...]]:
    """Return the ranks of pairs by the name of their Value."""
    ranks: dict[str, tuple[int, ...]] = {}
    for rank, name in names.items():
        ranks[name] = (*ranks.get(name, ()), rank)
    return ranks


def _selected(graph: Graph, focus: _Focus) -> set[str]:
    try:
        return {find(graph, focus.name).name}
    except ReadError:
        return set()
