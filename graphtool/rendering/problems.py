"""What can be wrong with a picture: GT4xx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from graphtool.diagnostics import Diagnostic, Severity, rule

__all__ = [
    "blocks_as_lists",
    "engine_failed",
    "layout_took_too_long",
    "left_out",
    "level_raised",
    "level_without_focus",
    "no_engine",
    "no_pdf",
    "no_radius",
    "report_of_nothing",
    "unknown_ending",
    "unknown_graph_ending",
    "unknown_level",
]

# The one draws all that there is, the other needs no rights on the machine.
GET_GRAPHVIZ, GET_ENGINE = "apt-get install graphviz", "pip install graphviz-pure"
_FOCUS = 'gt.render(x, path, focus="NAME")'


@rule("GT401")
def no_engine(ending: str) -> Diagnostic:
    """Graphviz lays pictures out, and neither its `dot` nor `graphviz-pure` was found.

    `dot` comes with the package graphviz of the operating system and is looked for on the path;
    `graphviz-pure` comes with `pip install graphviz-pure` and draws `.svg` and `.png`. A
    `.dot` file is written without either, and so is an `.html` page.
    """
    return Diagnostic(
        message=f"no Graphviz was found to draw `{ending}` with: neither `dot` nor `graphviz-pure`",
        notes=("without it, `.dot` and `.html` can be written",),
        help=GET_GRAPHVIZ if ending == ".pdf" else GET_ENGINE,
    )


@rule("GT402")
def unknown_ending(path: str, known: Sequence[str]) -> Diagnostic:
    """The file's ending says which kind of picture to write, and this one is none.

    `.dot` is Graphviz' source, `.svg` and `.pdf` scale, `.png` has 144 points to the inch, `.html`
    is a page in which blocks open and pairs are chosen.
    """
    is_device = PurePath(path).is_relative_to("/dev")
    return Diagnostic(
        message=f"`{path}` has no ending of a picture: {', '.join(known)}",
        help=f"{(not is_device and (path.rpartition('.')[0] or path)) or 'picture'}.svg",
    )


@rule("GT403")
def engine_failed(engine: str, status: str, said: str) -> Diagnostic:
    """Graphviz ended with an error or was killed, and there is no picture.

    What it said is in a note. A `.dot` file has what it was given, to be tried by hand.
    """
    return Diagnostic(
        message=f"`{engine}` failed: {status}",
        notes=(f"it said: {said}",) if said else (),
        help=f"{engine} -V",
    )


@rule("GT404")
def level_raised(level: str, raised: str, seconds: float) -> Diagnostic:
    """Laying out a picture at this level took too long, so it was drawn at the next one.

    A box then stands for more. A focus draws the neighbourhood of one Value with all its operators.
    """
    return Diagnostic(
        message=f"the layout at level {level} took over {seconds:g} s: drawn at level {raised}",
        severity=Severity.WARNING,
        help=_FOCUS,
    )


@rule("GT405")
def layout_took_too_long(engine: str, seconds: float) -> Diagnostic:
    """Graphviz did not finish in time at the highest level; it was stopped.

    A focus draws a part alone.
    """
    return Diagnostic(
        message=f"`{engine}` did not lay the picture out within {seconds:g} s",
        help=_FOCUS,
    )


@rule("GT406")
def no_pdf(engine: str) -> Diagnostic:
    """The engine from PyPI writes no PDF: Graphviz itself does, or a browser prints an `.svg`."""
    return Diagnostic(
        message=f"`{engine}` draws svg and png, no pdf",
        help=GET_GRAPHVIZ,
    )


@rule("GT407")
def unknown_level(level: str, known: Sequence[str]) -> Diagnostic:
    """A level says what one box stands for: a stage, a block, a module (a layer) or an operator."""
    return Diagnostic(
        message=f"`{level}` is no level: {', '.join(known)}",
        help=f'level="{known[0]}"',
    )


@rule("GT408")
def level_without_focus(level: str) -> Diagnostic:
    """A neighbourhood is drawn with all its operators, so it has no other level."""
    return Diagnostic(
        message=f"a focus is drawn at level op, not at level {level}",
        help='level="op"',
    )


@rule("GT409")
def left_out(what: str) -> Diagnostic:
    """The picture does not show everything, and says what it leaves out.

    It has room for one teacher beside the student, and rows for what the input reaches.
    """
    return Diagnostic(message=what, severity=Severity.NOTE)


@rule("GT410")
def no_radius(radius: object) -> Diagnostic:
    """A radius counts edges from the Value in focus, from 1 on."""
    return Diagnostic(
        message=f"a radius of {radius} draws nothing: it is a whole number from 1",
        help="radius=2",
    )


@rule("GT411")
def report_of_nothing() -> Diagnostic:
    """A Report is drawn on the two networks that it is about, and this one is about none.

    `check_merge` and `check_pairs` return such Reports. Those of an error, or put together from
    others, hold findings alone.
    """
    return Diagnostic(
        message="the Report doesn't say which two networks it is about",
        help="gt.render(gt.check_merge(teacher, student, feed_map), path)",
    )


@rule("GT412")
def blocks_as_lists(why: str) -> Diagnostic:
    """The blocks of a page open as lists of their operators, as no engine laid them out.

    What joins them is then in the details of each. All else on the page is as it would be.
    """
    return Diagnostic(
        message=f"blocks open as lists of operators, not as drawings: {why}",
        severity=Severity.WARNING,
        help=GET_ENGINE,
    )


@rule("GT413")
def unknown_graph_ending(path: str, known: Sequence[str]) -> Diagnostic:
    """The file's ending says for which tools a graph is written, and this one is none.

    `.graphml` is for networkx, Gephi or yEd and has every operator and Value; `.csv` is a table of
    the Values. Pictures are what `graphtool render` draws.
    """
    return Diagnostic(
        message=f"`{path}` has no ending of a graph: {', '.join(known)}",
        help=f"{path.rpartition('.')[0] or 'values'}{known[0]}",
    )
