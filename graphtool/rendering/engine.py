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

from graphtool.diagnostics import GraphtoolError
from graphtool.rendering import problems
from graphtool.rendering._labels import FONT

__all__ = ["Engine", "LayoutTimeoutError", "check_engine", "find_engine"]

_PURE = "graphviz-pure"
_PNG_DPI = 144
_MAX_STDERR = 300
# graphviz-pure knows the widths of this font; for a list of fonts, it uses those of Times.
_PURE_FONT, _PURE_FONT_FAMILY = "Helvetica", b"Helvetica,sans-Serif"


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
            raise GraphtoolError(problems.no_engine(f".{format}", self.name))

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
            raise GraphtoolError(problems.engine_failed(self.name, status)) from None
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
            raise GraphtoolError(problems.engine_failed(self.name, status, text))
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
        raise GraphtoolError(problems.no_engine(extension))
    engine.check("svg" if extension == ".html" else extension[1:])


def find_engine() -> Engine | None:
    """Return the system's `dot`, else `graphviz-pure`, else None."""
    # The scripts of an environment that isn't activated are not on PATH.
    in_environment = str(Path(sysconfig.get_path("scripts")) / _PURE)
    path = which("dot") or which(_PURE) or which(in_environment)
    return None if path is None else Engine(path)
