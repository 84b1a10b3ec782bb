"""Diagnostics: code, severity, message, places, notes and one help each."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import wraps
from inspect import cleandoc, currentframe
from typing import ParamSpec, TypedDict, cast

from graphtool.text import elided, escaped_bounded, escaped_code, printed_name, string_literal

__all__ = [
    "Call",
    "Diagnostic",
    "GraphtoolError",
    "MergeError",
    "PairError",
    "Parts",
    "ReadError",
    "Report",
    "Rule",
    "Severity",
    "UsageError",
    "Where",
    "counted",
    "documented",
    "listed",
    "register_docs",
    "registered_docs",
    "replacements",
    "rule",
    "warn",
]

_P = ParamSpec("_P")

_LINE = "\n"
_BACKTICKED = re.compile("`([^`]*)`")
# Single names are shortened earlier; this bounds a text with very many of them.
_MAX_LENGTH = 20_000
# Files whose frames a warning skips to reach the user's line.
_SKIPPED_FILES = (__file__.removesuffix("diagnostics.py"), contextlib.__file__)


class Severity(Enum):
    """How much a Diagnostic matters: an error stops the work, a warning and a note do not."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """The place a Diagnostic refers to; missing parts are None."""

    role: str | None = None
    program: str | None = None
    value: str | None = None
    shape: tuple[int, ...] | None = None
    source: str | None = None

    def __str__(self) -> str:
        shape = None if self.shape is None else f"[{', '.join(map(str, self.shape))}]"
        value = None if self.value is None else printed_name(self.value)
        role, program, source = (
            escaped_bounded(part or "") for part in (self.role, self.program, self.source)
        )
        return "  ".join(part for part in (role, program, value, shape, source) if part)


class Call(str):
    """A help that is a call with arguments: text in Python; commands print it as their options.

    Arguments are bools, texts, tuples of texts, or mappings of texts.
    """

    __slots__ = ("arguments", "comment")

    def __new__(  # noqa: PYI034  # `typing.Self` is new in Python 3.11
        cls, function: str | None, comment: str = "", **arguments: object
    ) -> Call:
        """Write the call of a function, or the arguments alone if it is None."""
        shown = ", ".join(f"{name}={_literal(value)}" for name, value in arguments.items())
        call = super().__new__(cls, (f"{function}(..., {shown})" if function else shown) + comment)
        call.arguments, call.comment = arguments, comment
        return call


def _literal(value: object) -> str:
    if isinstance(value, str):
        return string_literal(value)
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, tuple):
        texts = [_literal(text) for text in cast("tuple[object, ...]", value)]
        return f"({', '.join(texts)}{',' * (len(texts) == 1)})"
    pairs = cast("Mapping[str, object]", value).items()
    return f"{{{', '.join(f'{_literal(name)}: {_literal(text)}' for name, text in pairs)}}}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One finding. `help` is what to type; `count` is how many equal findings were folded in."""

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
        """The printed parts: severity, code and message, then places, notes and the help.

        They are safe to print on a terminal, whatever the names in them contain.
        """
        times = f" (× {self.count})" if self.count > 1 else ""
        parts = [
            f"{self.severity.value}[{self.code}] {self.slug}: {_printable(self.message)}{times}"
        ]
        parts += [f"  --> {place}" for place in self.where]
        parts += [f"  = note: {_printable(note)}" for note in self.notes]
        if self.help is not None:
            lines = elided(self.help, _MAX_LENGTH).split(_LINE)
            parts.append(f"  = help: {_indented(map(escaped_code, lines))}")
        return tuple(parts)

    def __str__(self) -> str:
        return "\n".join(self.parts)


class Parts(TypedDict, total=False):
    """The parts of a Diagnostic that a rule passes on as they are given to it."""

    severity: Severity
    where: tuple[Where, ...]
    notes: tuple[str, ...]
    help: str | None


@dataclass(frozen=True, slots=True)
class Report:
    """The Diagnostics of one operation, repeats folded into one with a count.

    `about` are the Graphs that were examined, the teacher's first; rendering a Report draws them.
    """

    diagnostics: tuple[Diagnostic, ...] = ()
    # Graph is defined in a higher layer.
    about: tuple[object, ...] = field(default=(), compare=False, repr=False)

    @classmethod
    def of(cls, diagnostics: Iterable[Diagnostic], *, about: tuple[object, ...] = ()) -> Report:
        """Collect Diagnostics in order, folding those that differ only in their place."""
        folded: dict[tuple[object, ...], Diagnostic] = {}
        for one in diagnostics:
            key = (one.code, one.severity, one.message, one.notes, one.help)
            first = folded.get(key)
            folded[key] = one if first is None else replace(first, count=first.count + one.count)
        return cls(tuple(folded.values()), about)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The Diagnostics of severity error."""
        return tuple(one for one in self.diagnostics if one.severity is Severity.ERROR)

    def __iter__(self) -> Iterator[Diagnostic]:
        return iter(self.diagnostics)

    def __len__(self) -> int:
        return len(self.diagnostics)

    def __str__(self) -> str:
        return "\n".join(map(str, self.diagnostics))

    def _repr_html_(self) -> str:
        """Return the printed text for a notebook."""
        from html import escape

        return f"<pre>{escape(str(self) or 'nothing found')}</pre>"


class GraphtoolError(Exception):
    """The operation failed; `report` says why."""

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
_FINDERS: dict[str, str] = {}
_REPLACED: dict[str, str] = {}


def rule(
    code: str, *, replaces: Sequence[str] = ()
) -> Callable[[Callable[_P, Diagnostic]], Callable[_P, Diagnostic]]:
    """Register the function that makes the Diagnostics of a code.

    The slug is the function's name, and its docstring is what `graphtool explain CODE` prints.
    `replaces` are codes of earlier releases that this one covers now.
    """

    def register(make: Callable[_P, Diagnostic]) -> Callable[_P, Diagnostic]:
        slug = register_docs(code, make, replaces)

        @wraps(make)
        def stamped(*args: _P.args, **kwargs: _P.kwargs) -> Diagnostic:
            return replace(make(*args, **kwargs), code=code, slug=slug)

        return stamped

    return register


@dataclass(frozen=True, slots=True)
class Rule:
    """What makes the Diagnostics of one code, by default of one severity."""

    code: str
    slug: str
    severity: Severity

    def __call__(
        self,
        message: str,
        where: Where | Iterable[Where] = (),
        *,
        severity: Severity | None = None,
        notes: Iterable[str] = (),
        help: str | None = None,
    ) -> Diagnostic:
        """Make a Diagnostic."""
        return Diagnostic(
            message=message,
            severity=severity or self.severity,
            where=(where,) if isinstance(where, Where) else tuple(where),
            notes=tuple(notes),
            help=help,
            code=self.code,
            slug=self.slug,
        )


def documented(
    code: str, severity: Severity = Severity.ERROR, *, replaces: Sequence[str] = ()
) -> Callable[[Callable[..., object]], Rule]:
    """Make the Rule of a code whose slug and documentation are those of a function: see `rule`."""
    return lambda function: Rule(code, register_docs(code, function, replaces), severity)


def register_docs(code: str, finder: Callable[..., object], replaces: Sequence[str] = ()) -> str:
    """Register a function's docstring for `graphtool explain CODE`, and return its slug."""
    path = f"{finder.__module__}.{finder.__qualname__}"
    # A module whose import was interrupted is imported again.
    assert _FINDERS.setdefault(code, path) == path, f"{code} is taken"
    slug = finder.__name__.replace("_", "-")
    _DOCS[code] = f"{code} {slug}\n\n{cleandoc(finder.__doc__ or '')}"
    _REPLACED.update(dict.fromkeys(replaces, code))
    return slug


def registered_docs() -> Mapping[str, str]:
    """Map the codes of all rules loaded so far to their documentation."""
    return _DOCS


def replacements() -> dict[str, str]:
    """Map codes of earlier releases to those that cover them now, for all rules loaded so far."""
    return dict(sorted(_REPLACED.items()))


def warn(diagnostic: Diagnostic) -> None:
    """Issue a warning that points to the user's line that called graphtool."""
    frame, level = currentframe(), 1
    while frame is not None and frame.f_code.co_filename.startswith(_SKIPPED_FILES):
        frame, level = frame.f_back, level + 1
    warnings.warn(str(diagnostic), stacklevel=level - (frame is None))


def _printable(text: str) -> str:
    """Escape text. Line breaks are kept, except in names in backticks."""
    parts = _BACKTICKED.split(text)
    return _indented(
        "".join(
            f"`{escaped_bounded(part)}`"
            if index % 2
            else _LINE.join(map(escaped_bounded, part.split(_LINE)))
            for index, part in enumerate(parts)
        ).split(_LINE)
    )


def _indented(lines: Iterable[str]) -> str:
    """Indent all lines but the first, so that text from a file cannot look like a diagnostic."""
    return elided("\n    ".join(lines), _MAX_LENGTH)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 block`, `2,048 blocks`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(texts: Sequence[str], most: int = 6, *, quote: str = "`") -> str:
    """Return the first names in backticks, and how many more there are."""
    shown = ", ".join(f"{quote}{text}{quote}" for text in texts[:most])
    return f"{shown} and {len(texts) - most} more" if len(texts) > most else shown
