"""Find Graphviz and run a layout within a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from shutil import which

from graphtool.diagnostics import Call, Diagnostic, GraphtoolError, Severity, rule
from graphtool.rendering._labels import FONT

__all__ = [
    "FOCUS",
    "GET_ENGINE",
    "Engine",
    "LayoutLimitError",
    "engine_for",
    "find_engine",
    "simplified",
]

# The one draws all that there is, the other needs no rights on the machine.
_GET_GRAPHVIZ, GET_ENGINE = "apt-get install graphviz", "pip install graphviz-pure"
FOCUS = Call("gt.render", focus="NAME")

_PURE = "graphviz-pure"
_PNG_DPI = 144
_MAX_STDERR = 300
# graphviz-pure knows the widths of this font; for a list of fonts, it uses those of Times.
_PURE_FONT, _PURE_FONT_FAMILY = "Helvetica", b"Helvetica,sans-Serif"


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
        help=_GET_GRAPHVIZ if ending == ".pdf" else GET_ENGINE,
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


class LayoutLimitError(GraphtoolError):
    """The layout took too long, or the picture is too large."""

    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(engine_failed(engine, f"the layout {reason}", help=FOCUS))
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Engine:
    """An executable that lays out DOT."""

    path: str

    @property
    def name(self) -> str:
        """Return the file name of the executable."""
        return Path(self.path).name

    def draw(self, dot: str, format: str, seconds: float, max_size: float = inf) -> bytes:
        """Return the picture of DOT as `html` (an SVG), `svg`, `png` or `pdf`, of each graph in it.

        Raises LayoutLimitError, and GraphtoolError: GT403 if the engine fails.
        """
        is_pure = self.name == _PURE
        dot = dot.replace(f'"{FONT}"', _PURE_FONT) if is_pure else dot
        dpi = [f"-Gdpi={_PNG_DPI}"] if format == "png" else []
        try:
            process = subprocess.Popen(
                [self.path, f"-T{'svg' if format == 'html' else format}", *dpi],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            status = error.strerror or str(error)
            raise GraphtoolError(engine_failed(self.name, status)) from None
        try:
            output, stderr = process.communicate(dot.encode("utf-8", "replace"), timeout=seconds)
        except BaseException as error:
            # The child of a wrapper script would keep the pipes open.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                raise LayoutLimitError(self.name, f"took over {seconds:g} s") from None
            raise
        code = process.returncode
        if code or not output:
            status = f"exit status {code}" if code else "it drew nothing"
            status = f"killed by signal {-code}" if code < 0 else status
            text = stderr.decode("utf-8", "replace").strip()[:_MAX_STDERR]
            raise GraphtoolError(engine_failed(self.name, status, text))
        if len(output) > max_size:
            raise LayoutLimitError(self.name, "is too large to show here")
        return output.replace(_PURE_FONT_FAMILY, FONT.encode()) if is_pure else output


def engine_for(extension: str) -> Engine:
    """Return an engine that draws files of this extension.

    Raises GraphtoolError: GT401.
    """
    engine = find_engine()
    if engine is None or (extension == ".pdf" and engine.name == _PURE):
        raise GraphtoolError(no_engine(extension, None if engine is None else engine.name))
    return engine


def find_engine() -> Engine | None:
    """Return the system's `dot`, else `graphviz-pure`, else None."""
    # The scripts of an environment that isn't activated are not on PATH.
    in_environment = str(Path(sysconfig.get_path("scripts")) / _PURE)
    path = which("dot") or which(_PURE) or which(in_environment)
    return None if path is None else Engine(path)
