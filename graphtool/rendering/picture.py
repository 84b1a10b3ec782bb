"""`render`: draw a network, or two with their pairs, to a file or a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from math import inf
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
from graphtool.rendering._operators import (
    Diagram,
    box_key,
    diagram_of,
    diagrams_dot,
    neighbourhood,
)
from graphtool.rendering.board import Board, CardPart, Level
from graphtool.rendering.boards import board_of, diagnostics_by_operator, worst_first
from graphtool.rendering.engine import FOCUS, LayoutLimitError, engine_for, simplified
from graphtool.rendering.page import page_of, with_links
from graphtool.rendering.scenes import Drawable, Scene, Subject, networks_of, subject_of
from graphtool.selectors import find

__all__ = ["Picture", "extension_of", "render"]

_EXTENSIONS = (".dot", ".svg", ".png", ".pdf", ".html")
_DEFAULT_SECONDS = 10.0
_MAX_SECONDS = 86_400
_CALL = 'gt.render(pairs, "pairs.svg")'
# In bytes: a notebook stores every output in its file.
_MAX_NOTEBOOK_SVG = 2_000_000
_FINE_TO_COARSE = (Level.OP, Level.MODULE, Level.BLOCK, Level.STAGE)
# A network without stages or an encoder is drawn at level OP up to this many boxes.
_FEW_BOXES = 28


@dataclass(frozen=True, slots=True)
class _Drawing:
    """DOT with its level, and its Board unless it is at level OP."""

    dot: str
    level: Level
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

    def _svg(self) -> str:
        """Return the SVG at the first level within the limits of time and size."""
        drawing = _Drawing(self.dot, self.level)
        data, *_ = _lay_out(self.subject, drawing, ".svg", max_size=_MAX_NOTEBOOK_SVG)
        svg = data.decode()
        return svg[svg.index("<svg") :]

    def _repr_svg_(self) -> str | None:
        with suppress(GraphtoolError):
            return self._svg()
        return None

    def _repr_html_(self) -> str:
        """Return the picture in a scrolling frame, or the reason why there is none."""
        try:
            return f'<div style="max-height:80vh;overflow:auto">{self._svg()}</div>'
        except GraphtoolError as error:
            return f"<pre>{escape(str(error))}</pre>"


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
    errors = tuple(_argument_errors(path, level, focus, radius, seconds))
    if errors:
        raise UsageError(*errors)
    extension = None if path is None else extension_of(path)
    subject, report = subject_of(x)
    drawing = _draw(subject, None if level is None else Level(level), focus, radius)
    diagnostics = list(report)
    if path is not None and extension == ".dot":
        write_text(path, drawing.dot)
    elif path is not None and extension == ".html":
        # The focus is checked by now; the page shows the whole network, and goes there.
        drawing = drawing if focus is None else _draw(subject)
        svg, drawing, raised = _lay_out(subject, drawing, extension, seconds)
        text, found = page_of(subject, drawing.board, svg, seconds=seconds, focus=focus)
        write_text(path, text)
        diagnostics += (*raised, *found)
    elif path is not None and extension is not None:
        data, drawing, raised = _lay_out(subject, drawing, extension, seconds)
        with atomic_write(path) as file:
            file.write_bytes(data)
        diagnostics += raised
    notes = drawing.board.notes if drawing.board is not None else ()
    diagnostics += (simplified(note, Severity.NOTE) for note in notes)
    report = Report.of(diagnostics)
    return Picture(subject=subject, dot=drawing.dot, level=drawing.level, report=report)


def _argument_errors(
    path: object, level: object, focus: object, radius: object, seconds: object
) -> Iterator[Diagnostic]:
    if not (path is None or isinstance(path, str | PathLike)):
        yield bad_argument("path", path, "the path of a file", _CALL)
    known = [each.value for each in Level]
    if level is not None and level not in known:
        expected = f"one of {', '.join(f'`{name}`' for name in known)}"
        yield bad_argument("level", level, expected, f'level="{known[0]}"')
    elif focus is not None and level not in (None, Level.OP):
        yield bad_argument("level", level, "`op` around a focus", 'level="op"')
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


def _lay_out(
    subject: Subject,
    drawing: _Drawing,
    extension: str,
    seconds: float = _DEFAULT_SECONDS,
    *,
    max_size: float = inf,
) -> tuple[bytes, _Drawing, Sequence[Diagnostic]]:
    """Lay a picture out, raising its level as long as it takes too long or is too large.

    Raises GraphtoolError: GT401, GT403.
    """
    engine, raised = engine_for(extension), list[Diagnostic]()
    while True:
        dot = with_links(drawing.dot) if extension == ".html" else drawing.dot
        try:
            return engine.draw(dot, extension[1:], seconds, max_size), drawing, raised
        except LayoutLimitError as error:
            coarser = _FINE_TO_COARSE[_FINE_TO_COARSE.index(drawing.level) + 1 :]
            if not coarser:
                raise
            reason = f"the layout at level {drawing.level.value} {error.reason}"
        message = f"{reason}: drawn at level {coarser[0].value}"
        raised.append(simplified(message, help=FOCUS))
        drawing = _draw(subject, coarser[0])


def _draw(
    subject: Subject, level: Level | None = None, focus: str | None = None, radius: int = 0
) -> _Drawing:
    """Draw one network or two; the default level is one that keeps the picture readable.

    Raises ReadError: GT101 or GT102 if the focus selects no Value, or several.
    """
    if focus is not None or level is Level.OP:
        return _draw_operators(subject, focus, radius)
    board = board_of(subject, level)
    parts = {card.part for panel in board.panels for card in panel.cards}
    is_simple = level is None and parts <= {CardPart.BODY, CardPart.HEAD}
    if is_simple and isinstance(subject, Graph) and len(diagram_of(subject).boxes) <= _FEW_BOXES:
        return _draw_operators(subject)
    return _Drawing(board_dot(board), board.level, board)


def _draw_operators(subject: Subject, focus: str | None = None, radius: int = 0) -> _Drawing:
    networks, pairs, report = networks_of(subject), (), Report()
    if isinstance(subject, Scene):
        pairs, report = subject.pairs.pairs, subject.report or report
    ends = [(pair.teacher.name, pair.student.name) for pair in pairs]
    # Values, each with the index of its network: those selected, and those paired with them.
    focused: set[tuple[int, str]] = set()
    if focus is not None:
        for side, (_, graph) in enumerate(networks):
            with suppress(ReadError):
                focused.add((side, find(graph, focus).name))
        if not focused:
            find(networks[0][1], focus)
        paired = [set(enumerate(names)) for names in ends]
        focused.update(*(pair for pair in paired if not focused.isdisjoint(pair)))
    diagrams: list[Diagram] = []
    for side, (role, graph) in enumerate(networks):
        ranks: dict[str, list[int]] = {}
        for pair, names in zip(pairs, ends, strict=True):
            ranks.setdefault(names[side], []).append(pair.rank)
        found = diagnostics_by_operator(report, graph, role)
        diagram = diagram_of(graph, role, ranks=ranks, diagnostics=found)
        if focus is not None:
            values = {name for place, name in focused if place == side}
            diagram = neighbourhood(diagram, values, radius)
        diagrams.append(diagram)
    if not any(diagram.boxes for diagram in diagrams):
        return _draw(subject, Level.BLOCK)
    graphs = [graph for _, graph in networks]
    keys = dict.fromkeys(tuple(map(box_key, graphs, names)) for names in ends)
    return _Drawing(diagrams_dot(diagrams, keys, worst_first(report)), Level.OP)
