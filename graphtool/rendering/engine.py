"""Find Graphviz and run a layout within a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from graphtool.diagnostics import Call, Diagnostic, GraphtoolError, Severity, rule
from graphtool.rendering._labels import FONT

__all__ = [
    "FOCUS",
    "GET_ENGINE",
    "Engine",
    "LayoutTimeoutError",
    "check_engine",
    "engine_failed",
    "find_engine",
    "no_engine",
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


class LayoutTimeoutError(Exception):
    """The engine was killed because it took too long."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An executable that lays out DOT."""

    path: str

    @property
    def name(self) -> str:
        """Return the file name of the executable."""
        return Path(self.path).name

    def draw(self, dot: str, format: str, seconds: float) -> bytes:
        """Return the picture of DOT as `svg`, `png` or `pdf`; several graphs give several.

        Raises LayoutTimeoutError, and GraphtoolError: GT403 if the engine fails, GT401 for a format
        that it doesn't support.
        """
        self.check(format)
        command = [self.path, f"-T{format}"]
        if format == "png":
            command.append(f"-Gdpi={_PNG_DPI}")
        if self.name == _PURE:
            dot = dot.replace(f'"{FONT}"', _PURE_FONT)
        picture = self._run(command, dot.encode("utf-8", "replace"), seconds)
        return picture.replace(_PURE_FONT_FAMILY, FONT.encode()) if self.name == _PURE else picture

    def check(self, format: str) -> None:
        """Check that the engine supports a format.

        Raises GraphtoolError: GT401.
        """
        if format == "pdf" and self.name == _PURE:
            raise GraphtoolError(no_engine(f".{format}", self.name))

    def _run(self, command: list[str], dot: bytes, seconds: float) -> bytes:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            status = error.strerror or str(error)
            raise GraphtoolError(engine_failed(self.name, status)) from None
        try:
            output, stderr = process.communicate(dot, timeout=seconds)
        except BaseException as error:
            _kill_group(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise LayoutTimeoutError from None
            raise
        if process.returncode or not output:
            status = _status_text(process.returncode)
            text = stderr.decode("utf-8", "replace").strip()[:_MAX_STDERR]
            raise GraphtoolError(engine_failed(self.name, status, text))
        return output


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill an engine and its children: the child of a wrapper script would keep the pipes open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _status_text(code: int) -> str:
    if code < 0:
        return f"killed by signal {-code}"
    return f"exit status {code}" if code else "it drew nothing"


def check_engine(extension: str) -> None:
    """Check that an engine supports a file extension; `.dot` needs none.

    Raises GraphtoolError: GT401.
    """
    if extension == ".dot":
        return
    engine = find_engine()
    if engine is None:
        raise GraphtoolError(no_engine(extension))
    engine.check("svg" if extension == ".html" else extension[1:])


def find_engine() -> Engine | None:
    """Return the system's `dot`, else `graphviz-pure`, else None."""
    # The scripts of an environment that isn't activated are not on PATH.
    in_environment = str(Path(sysconfig.get_path("scripts")) / _PURE)
    path = which("dot") or which(_PURE) or which(in_environment)
    return None if path is None else Engine(path)
