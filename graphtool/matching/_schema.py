"""Parse and validate recipe files; each problem has a place such as `pairs[2].teacher.name`."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec

from graphtool.diagnostics import Diagnostic, PairError
from graphtool.graph import ProgramKind
from graphtool.loss_specs import named_losses
from graphtool.matching import problems
from graphtool.matching.fingerprint import Fingerprint
from graphtool.matching.pairs import Kind, Relation
from graphtool.text import string_literal
from graphtool.version import UPGRADE

__all__ = [
    "SCHEMA",
    "Document",
    "EndRecord",
    "FeedRecord",
    "PairRecord",
    "ProgramRecord",
    "fingerprint_text",
    "parse",
]

SCHEMA = 1

_PLACE = re.compile(r" - at `\$(?P<path>.*)`$", re.DOTALL)
_FINGERPRINT = re.compile(r"(?P<value>.*)@(?P<name>[0-9a-f]{8})", re.DOTALL)
_LONGEST_REASON = 200
# The time to parse a key grows with the square of its parts: `a.b.c` has three.
_MOST_PARTS = 100
# Strings and comments, which may have any number of dots; an unclosed string ends with its line.
_STRINGS = re.compile(r'"(?:[^"\\\n]|\\.)*"?|\'[^\'\n]*\'?|#[^\n]*')
_LONG_QUOTES = '"""', "'''"

# Any TOML value: checked where it is converted.
_Toml: TypeAlias = Any
_T = TypeVar("_T")
# The range that TOML guarantees; much larger numbers can't even be printed.
_MOST_BITS = 63
_Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=-(1 << _MOST_BITS), le=(1 << _MOST_BITS) - 1)]
_Dims: TypeAlias = tuple[_Whole, ...]


class FeedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feed of a program; its shape shows whether inputs have another size now."""

    name: str
    shape: _Dims


class ProgramRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The program of the teacher or student that the pairs were made from."""

    source: str = ""
    kind: ProgramKind | None = None
    fingerprint: str | None = None
    feeds: tuple[FeedRecord, ...] = ()


class EndRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One end of a pair: a name, and a description of the Value that had it.

    `fingerprint` ends in `@` and a digest of the name that it was written with.
    """

    name: str
    op: str | None = None
    op_index: _Whole | None = None
    output: _Whole = 0
    module: str | None = None
    layer: str | None = None
    shape: _Dims | None = None
    dtype: str | None = None
    fingerprint: str | None = None

    @property
    def parsed_fingerprint(self) -> Fingerprint | None:
        """The fingerprint without the name, None where there is none or it is not valid."""
        return None if self.fingerprint is None else Fingerprint.parse(self._parts[0])

    @property
    def is_edited(self) -> bool:
        """Return whether the name has changed since the fingerprint was written."""
        return self._parts[1] not in ("", _digest(self.name))

    @property
    def _parts(self) -> tuple[str, str]:
        match = _FINGERPRINT.fullmatch(self.fingerprint or "")
        return (match["value"], match["name"]) if match else (self.fingerprint or "", "")


def fingerprint_text(fingerprint: Fingerprint, name: str) -> str:
    """Return a fingerprint as text, with a digest of the Value's name."""
    return f"{fingerprint}@{_digest(name)}"


def _digest(name: str) -> str:
    from hashlib import blake2b

    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()


class PairRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair with its loss and weight."""

    rank: _Whole | None = None
    score: float = 1.0
    kind: Kind
    loss: str
    weight: float = 1.0
    adapter: str | None = None
    relation: Relation = Relation.UNKNOWN
    why: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    teacher: EndRecord
    student: EndRecord


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: int
    graphtool: str = ""
    teacher: ProgramRecord = ProgramRecord()
    student: ProgramRecord = ProgramRecord()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A recipe whose keys all have the right type; no Value is looked up yet."""

    version: str
    teacher: ProgramRecord
    student: ProgramRecord
    pairs: tuple[PairRecord, ...]


def parse(text: str) -> Document:
    """Parse the text of a recipe.

    Raises PairError: GT310, GT314.
    """
    table = _toml(text)
    schema = table.get("schema")
    if isinstance(schema, int) and schema.bit_length() > _MOST_BITS:
        reason = f"its `schema` has {schema.bit_length()} bits"
        raise PairError(problems.bad_recipe(f"the recipe cannot be read: {reason}"))
    if type(schema) is not int or schema != SCHEMA:
        raise PairError(_unknown_schema(schema, empty=not table))
    errors: list[Diagnostic] = []
    header = _converted(
        {key: value for key, value in table.items() if key != "pairs"}, _Header, "", errors
    )
    pairs: _Toml = table.get("pairs", [])
    if not isinstance(pairs, list):
        reason = "it must be a list: write [[pairs]] above each pair"
        errors.append(_bad_key("pairs", reason))
        pairs = []
    records = [
        record
        for index, pair in enumerate(cast("list[_Toml]", pairs))
        if (record := _pair(pair, f"pairs[{index}]", errors)) is not None
    ]
    if errors or header is None:
        raise PairError(*errors)
    return Document(
        version=header.graphtool,
        teacher=header.teacher,
        student=header.student,
        pairs=tuple(records),
    )


def _unknown_schema(found: object, *, empty: bool) -> Diagnostic:
    has = "no `schema`" if found is None else f"the `schema` {reprlib.repr(found)}"
    message = f"the recipe has {has}; this graphtool reads {SCHEMA}"
    if empty:
        return problems.bad_recipe(message)
    is_newer = type(found) is int and found > SCHEMA
    return problems.bad_recipe(message, help=UPGRADE if is_newer else f"schema = {SCHEMA}")


def _bad_key(place: str, reason: str) -> Diagnostic:
    return problems.bad_recipe(f"`{place}`: {reason}", help="graphtool explain GT310")


def _toml(text: str) -> Mapping[str, _Toml]:
    has_long_strings = any(quotes in text for quotes in _LONG_QUOTES)
    bare = text if has_long_strings else _STRINGS.sub("", text)
    for number, line in enumerate(bare.split("\n"), 1):
        if line.count(".") > _MOST_PARTS:
            reason = f"a key in line {number} has more than {_MOST_PARTS} parts"
            raise PairError(problems.bad_recipe(f"the recipe is not valid TOML: {reason}"))
    try:
        return msgspec.toml.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        reason = _shortened(str(error))
        raise PairError(problems.bad_recipe(f"the recipe is not valid TOML: {reason}")) from None


def _pair(table: _Toml, place: str, errors: list[Diagnostic]) -> PairRecord | None:
    record = _converted(_with_end_tables(table, place, errors), PairRecord, place, errors)
    if record is not None:
        errors.extend(_value_errors(record, place))
    return record


def _with_end_tables(table: _Toml, place: str, errors: list[Diagnostic]) -> _Toml:
    """Treat ends that are strings as names, and report how to write them."""
    if not isinstance(table, dict):
        return table
    pair = dict(cast("dict[str, _Toml]", table))
    for role in ("teacher", "student"):
        name: _Toml = pair.get(role)
        if isinstance(name, str):
            reason = f"it must be a table: write `{role}.name = {string_literal(_shortened(name))}`"
            errors.append(_bad_key(f"{place}.{role}", reason))
            pair[role] = {"name": name}
    return pair


def _value_errors(pair: PairRecord, place: str) -> Iterator[Diagnostic]:
    """Yield errors for values of the right type that are not valid."""
    losses = tuple(named_losses())
    if pair.loss not in losses:
        yield problems.unknown_loss(f"{place}.loss", _shortened(pair.loss), losses)
    if not isfinite(pair.weight) or pair.weight < 0:
        reason = f"{pair.weight} is not a weight: wanted a finite number of 0 or more"
        yield _bad_key(f"{place}.weight", reason)
    for role, end in (("teacher", pair.teacher), ("student", pair.student)):
        if end.fingerprint is not None and end.parsed_fingerprint is None:
            reason = "not a fingerprint: delete it, or restore what graphtool wrote"
            yield _bad_key(f"{place}.{role}.fingerprint", reason)


def _converted(table: _Toml, type: type[_T], place: str, errors: list[Diagnostic]) -> _T | None:
    """Convert a table to a Struct, or record the error and return None."""
    try:
        return msgspec.convert(table, type)
    except (msgspec.ValidationError, OverflowError) as error:
        reason = str(error)
    except UnicodeEncodeError as error:
        surrogate = ascii(error.object[error.start])[1:-1]
        reason = f"it has {surrogate}, which is half of a character"
    match = _PLACE.search(reason)
    path = match["path"] if match else ""
    where = f"{place}{path}".lstrip(".") or "the recipe"
    errors.append(_bad_key(where, _shortened(_PLACE.sub("", reason))))
    return None


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
