"""One shape for all that is wrong or worth knowing: code, message, places, notes, one help."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import wraps
from inspect import cleandoc, currentframe
from typing import ParamSpec

from graphtool.text import as_typed, bounded, named, shortened

__all__ = [
    "Diagnostic",
    "GraphtoolError",
    "MergeError",
    "PairError",
    "ReadError",
    "Report",
    "Severity",
    "UsageError",
    "Where",
    "counted",
    "docs_of",
    "document",
    "known_codes",
    "listed",
    "rule",
    "warn",
]

_P = ParamSpec("_P")

_LINE = "\n"
_NAMES = re.compile("`([^`]*)`")
# Names are cut before; this is for very many of them.
_ROOM = 20_000
# Whose frames stand between a warning and the line of the user's that it is about.
_OURS = (__file__.removesuffix("diagnostics.py"), contextlib.__file__)


class Severity(Enum):
    """How much a Diagnostic matters: an error stops the work, a warning and a note do not."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The place a Diagnostic speaks of; absent parts are None."""

    role: str | None = None
    program: str | None = None
    value: str | None = None
    shape: tuple[int, ...] | None = None
    source: str | None = None

    def __str__(self) -> str:
        shape = None if self.shape is None else f"[{', '.join(map(str, self.shape))}]"
        value = None if self.value is None else named(self.value)
        around = (bounded(part or "") for part in (self.role, self.program, self.source))
        role, program, source = around
        return "  ".join(part for part in (role, program, value, shape, source) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding; `help` is one thing to type, `count` says how many like it were folded in."""

    message: str
    severity: Severity = Severity.ERROR
    where: tuple[Where, ...] = ()
    notes: tuple[str, ...] = ()
    help: str | None = None
    code: str = ""
    slug: str = ""
    count: int = 1

    @property
    def parts(self) -> tuple[str, ...]:
        """What is shown of it: the message behind severity and code, places, notes, the help.

        All of it can be sent to a terminal, whatever the names in it hold.
        """
        times = f" (× {self.count})" if self.count > 1 else ""
        said = [f"{self.severity.value}[{self.code}] {self.slug}: {_shown(self.message)}{times}"]
        said += [f"  --> {place}" for place in self.where]
        said += [f"  = note: {_shown(note)}" for note in self.notes]
        if self.help is not None:
            lines = shortened(self.help, _ROOM).split(_LINE)
            said.append(f"  = help: {_indented(map(as_typed, lines))}")
        return tuple(said)

    def __str__(self) -> str:
        return "\n".join(self.parts)


@dataclass(frozen=True, slots=True)
class Report:
    """All Diagnostics of one piece of work, repeats folded into one with a count.

    `about` are the Graphs that were looked at, the teacher's first; a picture of it draws them.
    """

    diagnostics: tuple[Diagnostic, ...] = ()
    # Graphs lie in a layer above.
    about: tuple[object, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, diagnostics: Iterable[Diagnostic], *, about: tuple[object, ...] = ()) -> Report:
        """Collect Diagnostics in order, folding those that differ only in their place."""
        folded: dict[tuple[object, ...], Diagnostic] = {}
        for found in diagnostics:
            key = (found.code, found.severity, found.message, found.notes, found.help)
            first = folded.get(key)
            folded[key] = (
                found if first is None else replace(first, count=first.count + found.count)
            )
        return cls(tuple(folded.values()), about)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """Those that stop the work."""
        return tuple(found for found in self.diagnostics if found.severity is Severity.ERROR)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.diagnostics)

    def __len__(self) -> int:
        return len(self.diagnostics)

    def __str__(self) -> str:
        return "\n".join(map(str, self.diagnostics))

    def _repr_html_(self) -> str:
        """Return what is printed, for a notebook."""
        from html import escape

        return f"<pre>{escape(str(self) or 'nothing found')}</pre>"


class GraphtoolError(Exception):
    """The work could not be done; `report` says why."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__(*diagnostics)
        self.report = Report.of(diagnostics)

    def __str__(self) -> str:
        return str(self.report)


class ReadError(GraphtoolError):
    """A model could not be read, or a name in it was not found."""


class MergeError(GraphtoolError):
    """Two Programs could not be merged; neither they nor their Scopes have changed."""


class PairError(GraphtoolError):
    """Pairs could not be made, read or written."""


class UsageError(GraphtoolError):
    """A command line or a call that asks for something impossible (exit status 2)."""


_DOCS: dict[str, str] = {}
_HOMES: dict[str, str] = {}


def rule(code: str) -> Callable[[Callable[_P, Diagnostic]], Callable[_P, Diagnostic]]:
    """Register a function as the one maker of a code's Diagnostics.

    The slug is the function's name, and its docstring is what `graphtool explain CODE` prints.
    """

    def register(make: Callable[_P, Diagnostic]) -> Callable[_P, Diagnostic]:
        slug = document(code, make)

        @wraps(make)
        def stamped(*args: _P.args, **kwargs: _P.kwargs) -> Diagnostic:
            return replace(make(*args, **kwargs), code=code, slug=slug)

        return stamped

    return register


def document(code: str, finder: Callable[..., object]) -> str:
    """Keep a function's docstring as what `graphtool explain CODE` prints; return its slug."""
    home = f"{finder.__module__}.{finder.__qualname__}"
    # A module whose import was interrupted is imported again.
    assert _HOMES.setdefault(code, home) == home, f"{code} is taken"
    slug = finder.__name__.replace("_", "-")
    _DOCS[code] = f"{code} {slug}\n\n{cleandoc(finder.__doc__ or '')}"
    return slug


def docs_of(code: str) -> str | None:
    """Return the documentation of a code, None where no rule has it."""
    return _DOCS.get(code.upper())


def known_codes() -> tuple[str, ...]:
    """List the codes of all rules loaded so far, sorted."""
    return tuple(sorted(_DOCS))


def warn(found: Diagnostic) -> None:
    """Warn of it, as of the line that called graphtool."""
    frame, level = currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_OURS):
        frame, level = frame.f_back, level + 1
    warnings.warn(str(found), stacklevel=level - (frame is None))


def _shown(text: str) -> str:
    """Return text to be shown: a name is one line, what code of the user's raised may be more."""
    parts = _NAMES.split(text)
    return _indented(
        "".join(
            f"`{bounded(part)}`" if place % 2 else _LINE.join(map(bounded, part.split(_LINE)))
            for place, part in enumerate(parts)
        ).split(_LINE)
    )


def _indented(lines: Iterable[str]) -> str:
    """Indent all lines but the first, so that no text from a file can pass for a diagnostic."""
    return shortened("\n    ".join(lines), _ROOM)


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: `1 block`, `2,048 blocks`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(texts: Sequence[str], most: int = 6, *, quote: str = "`") -> str:
    """Write the first names of many, each in backticks, and how many more there are."""
    shown = ", ".join(f"{quote}{text}{quote}" for text in texts[:most])
    return f"{shown} and {len(texts) - most} more" if len(texts) > most else shown
