"""Graphviz at work: which engine there is, and one layout within a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from graphtool.diagnostics import GraphtoolError
from graphtool.rendering import problems
from graphtool.rendering._palette import FONT

__all__ = ["Engine", "LayoutTimeoutError", "check_engine", "find_engine"]

_PURE = "graphviz-pure"
_PNG_DPI = 144
_SAID = 300
# The font whose widths graphviz-pure knows; for a list of fonts it takes those of Times.
_KNOWN_FONT, _FAMILY_OF_KNOWN = "Helvetica", b"Helvetica,sans-Serif"


class LayoutTimeoutError(Exception):
    """The engine was stopped because it took too long."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An executable that lays out DOT."""

    path: str

    @property
    def name(self) -> str:
        """What the executable is called."""
        return Path(self.path).name

    def draw(self, dot: str, format: str, seconds: float) -> bytes:
        """Return the picture of DOT as `svg`, `png` or `pdf`.

        Raises LayoutTimeoutError, and GraphtoolError: GT403 where the engine fails, GT406 where it
        doesn't know the format.
        """
        self.check(format)
        command = [self.path, f"-T{format}"]
        if format == "png":
            command.append(f"-Gdpi={_PNG_DPI}")
        if self.name == _PURE:
            dot = dot.replace(f'"{FONT}"', _KNOWN_FONT)
        drawn = self._run(command, dot.encode("utf-8", "replace"), seconds)
        return drawn.replace(_FAMILY_OF_KNOWN, FONT.encode()) if self.name == _PURE else drawn

    def check(self, format: str) -> None:
        """Refuse what the engine does not draw.

        Raises GraphtoolError: GT406.
        """
        if format == "pdf" and self.name == _PURE:
            raise GraphtoolError(problems.no_pdf(self.name))

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
            raise GraphtoolError(problems.engine_failed(self.name, status, "")) from None
        try:
            drawn, said = process.communicate(dot, timeout=seconds)
        except BaseException as error:
            _kill(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise LayoutTimeoutError from None
            raise
        if process.returncode or not drawn:
            status = _status(process.returncode)
            text = said.decode("utf-8", "replace").strip()[:_SAID]
            raise GraphtoolError(problems.engine_failed(self.name, status, text))
        return drawn


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End an engine and what it started: a wrapper script's child would hold the pipes open."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _status(code: int) -> str:
    if code < 0:
        return f"killed by signal {-code}"
    return f"exit status {code}" if code else "it drew nothing"


def check_engine(ending: str) -> None:
    """Refuse a picture's ending that nothing here draws; `.dot` and `.html` need no engine.

    Raises GraphtoolError: GT401, GT406.
    """
    if ending in (".dot", ".html"):
        return
    engine = find_engine()
    if engine is None:
        raise GraphtoolError(problems.no_engine(ending))
    engine.check(ending[1:])


def find_engine() -> Engine | None:
    """Return the system's `dot`, else `graphviz-pure`, else None."""
    # Scripts of an environment that isn't activated are not on the path.
    beside = str(Path(sysconfig.get_path("scripts")) / _PURE)
    found = which("dot") or which(_PURE) or which(beside)
    return None if found is None else Engine(found)
