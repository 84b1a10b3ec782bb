"""What can be wrong with a picture: GT4xx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from graphtool.diagnostics import Call, Diagnostic, Severity, rule

__all__ = [
    "FOCUS",
    "GET_ENGINE",
    "engine_failed",
    "layout_timeout",
    "no_engine",
    "simplified",
    "unknown_ending",
]

# The one draws all that there is, the other needs no rights on the machine.
GET_GRAPHVIZ, GET_ENGINE = "apt-get install graphviz", "pip install graphviz-pure"
FOCUS = Call("gt.render", focus="NAME")


@rule("GT401", replaces=("GT406",))
def no_engine(ending: str, found: str | None = None) -> Diagnostic:
    """No Graphviz was found that draws this kind of picture.

    `dot` comes with the operating system's package graphviz and is looked for on the path. `pip
    install graphviz-pure` draws `.svg`, `.png` and `.html`, no `.pdf`; a browser prints an `.svg`
    as one. A `.dot` file is written without either.
    """
    lacking = "no Graphviz was found to draw `{}` with: neither `dot` nor `graphviz-pure`"
    return Diagnostic(
        message=f"`{found}` draws no `{ending}`" if found else lacking.format(ending),
        notes=("without it, a `.dot` can be written",),
        help=GET_GRAPHVIZ if ending == ".pdf" else GET_ENGINE,
    )


@rule("GT402", replaces=("GT413",))
def unknown_ending(path: str, known: Sequence[str]) -> Diagnostic:
    """The file's ending does not name a kind of picture that graphtool writes.

    `.dot` is Graphviz' source, `.svg` and `.pdf` scale, `.png` has 144 points to the inch, `.html`
    is a page in which blocks open and pairs are chosen.
    """
    is_device = PurePath(path).is_relative_to("/dev")
    stem = "" if is_device else path.rpartition(".")[0] or path
    return Diagnostic(
        message=f"`{path}` does not end as a picture does: {', '.join(known)}",
        help=f"{stem or 'picture'}.svg",
    )


@rule("GT403", replaces=("GT405",))
def engine_failed(
    engine: str, status: str, output: str = "", help: str | None = None
) -> Diagnostic:
    """Graphviz failed, was killed, or did not finish in time; there is no picture.

    A note quotes it. A `.dot` file holds what it was given, to be tried by hand. A focus draws the
    neighbourhood of one Value and takes less time.
    """
    return Diagnostic(
        message=f"`{engine}` failed: {status}",
        notes=(f"its output: {output}",) if output else (),
        help=help or f"{engine} -V",
    )


def layout_timeout(engine: str, seconds: float) -> Diagnostic:
    """Report as GT403 that Graphviz did not finish at the highest level."""
    return engine_failed(engine, f"the layout took over {seconds:g} s", help=FOCUS)


@rule("GT404", replaces=("GT409", "GT412"))
def simplified(
    message: str, severity: Severity = Severity.WARNING, help: str | None = None
) -> Diagnostic:
    """The picture shows less than was asked for, or less than there is.

    If the layout takes too long, the picture is drawn at the next level, where a box stands for
    more. A focus draws the neighbourhood of one Value with all its operators. Blocks of a page open
    as lists of operators where their layout fails. A picture has room for one teacher beside the
    student, and for what the input reaches.
    """
    return Diagnostic(message=message, severity=severity, help=help)
