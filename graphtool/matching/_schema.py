"""What a recipe file holds, checked: each problem has a place such as `pairs[2].teacher.name`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec

from graphtool.diagnostics import Diagnostic, PairError
from graphtool.graph import ProgramKind
from graphtool.loss_names import named_losses
from graphtool.matching import problems
from graphtool.matching.fingerprint import Fingerprint
from graphtool.matching.pairs import Kind, Relation
from graphtool.text import literal

__all__ = [
    "SCHEMA",
    "Document",
    "EndRecord",
    "FeedRecord",
    "PairRecord",
    "ProgramRecord",
    "marked",
    "parse",
]

SCHEMA = 1

_PLACE = re.compile(r" - at `\$(?P<path>.*)`$", re.DOTALL)
_MARKED = re.compile(r"(?P<mark>.*)@(?P<name>[0-9a-f]{8})", re.DOTALL)
_LONGEST_REASON = 200
# The time to read a key grows with the square of its parts: `a.b.c` has three.
_MOST_PARTS = 100
# Texts and comments, which may have any number of dots; a text that is not closed ends its line.
_TEXTS = re.compile(r'"(?:[^"\\\n]|\\.)*"?|\'[^\'\n]*\'?|#[^\n]*')
_LONG_TEXTS = '"""', "'''"

# TOML text holds anything: what it is is checked where it is taken out.
_Toml: TypeAlias = Any
_T = TypeVar("_T")
# As TOML promises; much larger numbers can't even be printed.
_MOST_BITS = 63
_Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=-(1 << _MOST_BITS), le=(1 << _MOST_BITS) - 1)]
_Dims: TypeAlias = tuple[_Whole, ...]


class FeedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feed of a program; its shape tells whether inputs are of another size now."""

    name: str
    shape: _Dims


class ProgramRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The program that one side of the pairs was taken from."""

    source: str = ""
    kind: ProgramKind | None = None
    fingerprint: str | None = None
    feeds: tuple[FeedRecord, ...] = ()


class EndRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One side of a pair: a name, and what the Value was that had it.

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
    def mark(self) -> Fingerprint | None:
        """The fingerprint, None where there is none."""
        return None if self.fingerprint is None else Fingerprint.parse(self._parts[0])

    @property
    def is_edited(self) -> bool:
        """Tell whether the name is another than the one that the fingerprint was written with."""
        return self._parts[1] not in ("", _digest(self.name))

    @property
    def _parts(self) -> tuple[str, str]:
        found = _MARKED.fullmatch(self.fingerprint or "")
        return (found["mark"], found["name"]) if found else (self.fingerprint or "", "")


def marked(mark: Fingerprint, name: str) -> str:
    """Spell the fingerprint of a Value with the name that it goes by."""
    return f"{mark}@{_digest(name)}"


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
    """A recipe whose every key is of the right type, with nothing looked up yet."""

    version: str
    teacher: ProgramRecord
    student: ProgramRecord
    pairs: tuple[PairRecord, ...]


def parse(text: str) -> Document:
    """Read the text of a recipe.

    Raises PairError: GT310 where it isn't TOML, GT311 where its schema is not known, else GT313,
    GT314.
    """
    table = _toml(text)
    schema = table.get("schema")
    if isinstance(schema, int) and schema.bit_length() > _MOST_BITS:
        raise PairError(problems.not_a_recipe(f"its `schema` has {schema.bit_length()} bits"))
    if type(schema) is not int or schema != SCHEMA:
        raise PairError(problems.unknown_schema(schema, SCHEMA, empty=not table))
    found: list[Diagnostic] = []
    header = _converted(
        {key: value for key, value in table.items() if key != "pairs"}, _Header, "", found
    )
    pairs = [
        record
        for index, pair in enumerate(_pairs(table, found))
        if (record := _pair(pair, f"pairs[{index}]", found)) is not None
    ]
    if found or header is None:
        raise PairError(*found)
    return Document(
        version=header.graphtool,
        teacher=header.teacher,
        student=header.student,
        pairs=tuple(pairs),
    )


def _toml(text: str) -> Mapping[str, _Toml]:
    long = any(quotes in text for quotes in _LONG_TEXTS)
    bare = text if long else _TEXTS.sub("", text)
    for number, line in enumerate(bare.split("\n"), 1):
        if line.count(".") > _MOST_PARTS:
            reason = f"a key in line {number} has more than {_MOST_PARTS} parts"
            raise PairError(problems.not_a_recipe(reason))
    try:
        return msgspec.toml.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PairError(problems.not_a_recipe(_shortened(str(error)))) from None


def _pairs(table: Mapping[str, _Toml], found: list[Diagnostic]) -> list[_Toml]:
    pairs: _Toml = table.get("pairs", [])
    if not isinstance(pairs, list):
        reason = "it must be a list: write [[pairs]] above each pair"
        found.append(problems.bad_recipe_key("pairs", reason))
        return []
    return cast("list[_Toml]", pairs)


def _pair(table: _Toml, place: str, found: list[Diagnostic]) -> PairRecord | None:
    record = _converted(_with_tables(table, place, found), PairRecord, place, found)
    if record is not None:
        found.extend(_wrong_values(record, place))
    return record


def _with_tables(table: _Toml, place: str, found: list[Diagnostic]) -> _Toml:
    """Take ends that are texts for names, as they are meant, and say how those are written."""
    if not isinstance(table, dict):
        return table
    pair = dict(cast("dict[str, _Toml]", table))
    for role in ("teacher", "student"):
        name: _Toml = pair.get(role)
        if isinstance(name, str):
            reason = f"it must be a table: write `{role}.name = {literal(_shortened(name))}`"
            found.append(problems.bad_recipe_key(f"{place}.{role}", reason))
            pair[role] = {"name": name}
    return pair


def _wrong_values(pair: PairRecord, place: str) -> Iterator[Diagnostic]:
    """Find what has the right type and yet can't be meant."""
    losses = tuple(named_losses())
    if pair.loss not in losses:
        yield problems.unknown_loss(f"{place}.loss", _shortened(pair.loss), losses)
    if not isfinite(pair.weight) or pair.weight < 0:
        reason = f"{pair.weight} is no weight: it must be 0 or more, and finite"
        yield problems.bad_recipe_key(f"{place}.weight", reason)
    for role, end in (("teacher", pair.teacher), ("student", pair.student)):
        if end.fingerprint is not None and end.mark is None:
            reason = "it's no fingerprint: delete it, or put back what graphtool wrote"
            yield problems.bad_recipe_key(f"{place}.{role}.fingerprint", reason)


def _converted(table: _Toml, type: type[_T], place: str, found: list[Diagnostic]) -> _T | None:
    try:
        return msgspec.convert(table, type)
    except (msgspec.ValidationError, OverflowError) as error:
        reason = str(error)
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])[1:-1]
        reason = f"it has {half}, which is half of a character"
    match = _PLACE.search(reason)
    path = match["path"] if match else ""
    where = f"{place}{path}".lstrip(".") or "the recipe"
    found.append(problems.bad_recipe_key(where, _shortened(_PLACE.sub("", reason))))
    return None


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}…"
