"""Recipes: pairs, losses and weights in a TOML file that can be edited and read again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from math import isfinite
from numbers import Real
from os import PathLike, fspath
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeAlias, TypeVar, cast

import msgspec

from graphtool.arguments import bad_argument
from graphtool.both import Both
from graphtool.diagnostics import (
    Diagnostic,
    PairError,
    ReadError,
    Report,
    Severity,
    UsageError,
    Where,
    counted,
)
from graphtool.files import write_text
from graphtool.graph import Graph, ProgramKind, shapes_agree
from graphtool.loss_specs import named_losses
from graphtool.matching import problems
from graphtool.matching.candidates import Candidate
from graphtool.matching.fingerprint import (
    Fingerprint,
    fingerprint_text,
    fingerprints,
    name_digest,
    program_fingerprint,
    split_fingerprint,
)
from graphtool.matching.pairs import End, Kind, Pair, PairSet, Relation, end_of
from graphtool.matching.relations import adapter_for
from graphtool.matching.score import Scorer
from graphtool.matching.suggest import pair_of
from graphtool.ops import kind_of, kind_of_type
from graphtool.paths import ls_command
from graphtool.readers.files import check_not_special
from graphtool.selectors import find
from graphtool.sources import Source, read_without_teachers
from graphtool.structure import analyse
from graphtool.text import escaped_code
from graphtool.version import UPGRADE, version

__all__ = [
    "Recipe",
    "checked_recipe",
    "is_of_other_program",
    "load_text",
    "read_recipe",
    "recipe_text",
    "write_recipe",
]

_SCHEMA = 1
_HEADER = """\
# A recipe of graphtool: Values of a teacher and a student that are paired, with losses and weights.
# You may edit it: change losses and weights, take pairs out, add your own. A pair needs `kind`,
# `loss`, and the `name` of each end; an end's other keys find its Value again under a new name.
# To pair another Value, change the `name` of an end: it alone counts then.

"""

# An array of whole numbers, one per line. No string matches: their line breaks are escaped.
_NUMBERS = re.compile(r"\[\n(?P<items>(?:    -?\d+,\n)+)\]")
# The Python escapes that `escaped_code` writes; a doubled backslash starts no other.
_ESCAPE = re.compile(r"\\(?:\\|x(?P<byte>[0-9a-f]{2})|u(?P<lone>d[89a-f][0-9a-f]{2}))")
# Strings and comments, which may have any number of dots; an unclosed string ends with its line.
_STRINGS = re.compile(r'"(?:[^"\\\n]|\\.)*"?|\'[^\'\n]*\'?|#[^\n]*')
_LONG_QUOTES = '"""', "'''"
# The time to parse a key grows with the square of its parts: `a.b.c` has three.
_MOST_PARTS = 100
_PLACE = re.compile(r" - at `\$(?P<path>.*)`$", re.DOTALL)
_LONGEST_REASON = 200
# A recipe of 1,000 pairs takes about a million bytes.
_MOST_BYTES = 2**24
# Some editors write it at the start of a file.
_BOM = "\ufeff"

_WRITE = 'gt.write_recipe(gt.suggest_pairs(teacher, student), "pairs.toml")'
_READ = 'gt.read_recipe("pairs.toml", teacher=teacher, student=student)'

# TOML is made of plain dicts, lists and scalars, nested at will.
_Toml: TypeAlias = Any
_T = TypeVar("_T")
# The range that TOML guarantees; much larger numbers can't even be printed.
_Whole: TypeAlias = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Dims: TypeAlias = tuple[_Whole, ...]


class _Feed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A feed of a program; its shape shows whether inputs have another size now."""

    name: str
    shape: _Dims


class _Program(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The program of the teacher or student that the pairs were made from."""

    source: str = ""
    kind: ProgramKind | None = None
    fingerprint: str | None = None
    feeds: tuple[_Feed, ...] = ()


class _End(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
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

    def __post_init__(self) -> None:
        if self.fingerprint is not None and split_fingerprint(self.fingerprint)[0] is None:
            reason = "delete it, or restore what graphtool wrote"
            raise ValueError(f"`fingerprint` is not a fingerprint: {reason}")

    @property
    def is_edited(self) -> bool:
        """Return whether the name has changed since the fingerprint was written."""
        digest = split_fingerprint(self.fingerprint or "")[1]
        return digest not in ("", name_digest(self.name))


class _Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair with its loss and weight."""

    rank: _Whole | None = None
    kind: Kind
    loss: str
    weight: float = 1.0
    adapter: str | None = None
    relation: Relation = Relation.UNKNOWN
    score: float = 1.0
    why: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    teacher: _End
    student: _End

    def __post_init__(self) -> None:
        if not _is_weight(self.weight):
            message = f"`weight` is {self.weight}; wanted a finite number of 0 or more"
            raise ValueError(message)


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A recipe; no Value is looked up yet."""

    schema: int
    graphtool: str = ""
    teacher: _Program = _Program()
    student: _Program = _Program()
    pairs: tuple[_Pair, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Pairs, each with its loss and weight, and the `version` of the graphtool that wrote the file.

    `version` is empty for the configuration of another toolkit.
    """

    pairs: PairSet
    version: str

    @property
    def weights(self) -> tuple[float, ...]:
        """The weights of the pairs, in order."""
        return tuple(pair.weight for pair in self.pairs)


def write_recipe(
    pairs: PairSet, path: str | PathLike[str], *, weights: Sequence[float] | None = None
) -> None:
    """Write pairs to a recipe file, atomically; `weights` replaces the weights of the pairs.

    Raises GraphtoolError: GT601 where the file can't be written. Raises UsageError: GT248.
    """
    errors = tuple(_argument_errors(pairs, path, weights))
    if errors:
        raise UsageError(*errors)
    write_text(path, recipe_text(pairs, weights=weights))


def _argument_errors(pairs: object, path: object, weights: object) -> Iterator[Diagnostic]:
    if not isinstance(pairs, PairSet):
        yield bad_argument("pairs", pairs, "a PairSet, as `suggest_pairs` gives", _WRITE)
    elif weights is None:
        expected, call = "a number of 0 or more", "dataclasses.replace(pair, weight=1)"
        for index, pair in enumerate(pairs):
            if not _is_weight(pair.weight):
                yield bad_argument(f"pairs[{index}].weight", pair.weight, expected, call)
    else:
        is_list = isinstance(weights, Sequence)
        given = tuple(cast("Sequence[object]", weights)) if is_list else ()
        if len(given) != len(pairs) or not all(map(_is_weight, given)):
            expected = f"a list of {counted(len(pairs), 'weight')}, each a number of 0 or more"
            yield bad_argument("weights", weights, expected, f"weights=[1.0] * {len(pairs)}")
    if not isinstance(path, str | PathLike):
        yield bad_argument("path", path, "the path of a file", _WRITE)


def _is_weight(given: object) -> bool:
    return isinstance(given, Real) and isfinite(given) and float(given) >= 0


def recipe_text(pairs: PairSet, *, weights: Sequence[float] | None = None) -> str:
    """Return pairs as TOML, the same text for the same pairs and weights."""
    import tomli_w

    marks = Both(fingerprints(pairs.teacher), fingerprints(pairs.student))
    weighted: Iterable[Pair] = pairs
    if weights is not None:
        weighted = (
            replace(pair, weight=weight) for pair, weight in zip(pairs, weights, strict=True)
        )
    document = _Document(
        schema=_SCHEMA,
        graphtool=version(),
        teacher=_program_record(pairs.teacher, marks.teacher),
        student=_program_record(pairs.student, marks.student),
        pairs=tuple(
            _Pair(
                rank=pair.rank,
                kind=pair.kind,
                loss=pair.loss,
                weight=float(pair.weight),
                adapter=pair.adapter,
                relation=pair.relation,
                score=float(pair.score),
                why=pair.why,
                warnings=pair.warnings,
                teacher=_end_record(pair.teacher, marks.teacher),
                student=_end_record(pair.student, marks.student),
            )
            for pair in weighted
        ),
    )
    text = tomli_w.dumps(_without_none(msgspec.to_builtins(document)))
    lines = _NUMBERS.sub(_on_one_line, text).split("\n")
    return _HEADER + "\n".join(_ESCAPE.sub(_toml_escape, escaped_code(line)) for line in lines)


def _program_record(graph: Graph, marks: Mapping[str, Fingerprint]) -> _Program:
    feeds = [graph.values[name] for name in graph.feeds]
    return _Program(
        # The folder is of no use on another machine.
        source=re.split(r"[/\\]", graph.source)[-1],
        kind=graph.kind,
        fingerprint=program_fingerprint(graph, marks),
        feeds=tuple(_Feed(feed.name, feed.shape) for feed in feeds if feed.shape is not None),
    )


def _end_record(end: End, marks: Mapping[str, Fingerprint]) -> _End:
    return _End(**asdict(end), fingerprint=fingerprint_text(marks[end.name], end.name))


def _without_none(data: _Toml) -> _Toml:
    """Leave out None, which TOML cannot write."""
    if isinstance(data, dict):
        table = cast("dict[str, _Toml]", data)
        return {key: _without_none(value) for key, value in table.items() if value is not None}
    if isinstance(data, list | tuple):
        return [_without_none(item) for item in cast("Sequence[_Toml]", data)]
    return data


def _toml_escape(escape: re.Match[str]) -> str:
    """Spell a Python escape as TOML does; lone surrogates, which it cannot escape, stay."""
    if escape["lone"]:
        return chr(int(escape["lone"], 16))
    return f"\\u00{escape['byte']}" if escape["byte"] else escape[0]


def _on_one_line(array: re.Match[str]) -> str:
    return f"[{', '.join(array['items'].replace(',', ' ').split())}]"


def read_recipe(path_or_text: str | PathLike[str], *, teacher: Source, student: Source) -> Recipe:
    """Read a recipe, not the configuration of a toolkit: else as `graphtool.read_recipe`.

    Raises PairError with all problems: GT310, GT314, GT316, GT367, GT303, GT101 and GT102. Raises
    UsageError: GT248. Raises what `gt.read` does.
    """
    document = _parse(load_text(path_or_text))
    graphs = Both(teacher, student).map(read_without_teachers)
    teacher_lookup = _Lookup("teacher", graphs.teacher, document.teacher)
    lookups = Both(teacher_lookup, _Lookup("student", graphs.student, document.student))
    diagnostics = [found for lookup in lookups for found in lookup.program_diagnostics()]
    pairs: list[Pair] = []
    first: dict[tuple[str, str, str], int] = {}
    duplicates: list[Diagnostic] = []
    for index, record in enumerate(document.pairs):
        pair = _find_pair(record, index, lookups, diagnostics)
        if pair is not None:
            pairs.append(pair)
            # Several losses on one pair are fine.
            key = (pair.teacher.name, pair.student.name, pair.loss)
            if first.setdefault(key, index) != index:
                places = f"pairs[{first[key]}]", f"pairs[{index}]"
                duplicates.append(problems.duplicate_pair(*places, *key[:2]))
    if not document.pairs:
        where = problems.both_places(*graphs)
        diagnostics.append(problems.no_pairs("the recipe has no pairs", where=where))
    return checked_recipe(pairs, graphs, (*diagnostics, *duplicates), document.graphtool)


def checked_recipe(
    pairs: Iterable[Pair], graphs: Both[Graph], diagnostics: Iterable[Diagnostic], version: str = ""
) -> Recipe:
    """Return what was read from a file.

    Raises PairError with all problems.
    """
    report = Report.of(diagnostics)
    if report.errors:
        # First that the recipe is of another network, which explains the rest.
        other_program = filter(is_of_other_program, report)
        warnings = [found for found in report if found.severity is Severity.WARNING]
        raise PairError(*other_program, *report.errors, *warnings)
    pair_set = PairSet(
        teacher=graphs.teacher, student=graphs.student, pairs=tuple(pairs), report=report
    )
    return Recipe(pairs=pair_set, version=version)


def is_of_other_program(found: Diagnostic) -> bool:
    """Return whether a Diagnostic notes that a recipe was made from another program."""
    return found.code == "GT317" and found.where[0].role == "recipe"


def _unreadable(reason: str) -> Diagnostic:
    return problems.bad_recipe(f"the recipe cannot be read: {reason}")


def load_text(
    path_or_text: object, *, unreadable: Callable[[str], Diagnostic] = _unreadable
) -> str:
    """Return the text of a file; a string of several lines is the text itself.

    `unreadable` makes the Diagnostic of a file that is not text, or too large.

    Raises PairError: GT310. Raises ReadError: GT010. Raises UsageError: GT248.
    """
    if not isinstance(path_or_text, str | PathLike):
        expected = "the path of a recipe, or its text"
        raise UsageError(bad_argument("path_or_text", path_or_text, expected, _READ))
    given = fspath(cast("str | PathLike[str]", path_or_text))
    if isinstance(path_or_text, str) and "\n" in given:
        return given.removeprefix(_BOM)
    try:
        check_not_special(Path(given))
        with Path(given).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise PairError(unreadable(f"it has more than {_MOST_BYTES:,} bytes"))
        # As `write_text` encodes it: names may hold lone surrogates.
        return data.decode("utf-8", "surrogatepass").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        raise PairError(unreadable(f"it is not UTF-8: {error.reason}")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"`{given}` cannot be read: {reason}"
        raise PairError(problems.bad_recipe(message, help=ls_command(given))) from None


def _parse(text: str) -> _Document:
    """Parse the text of a recipe.

    Raises PairError: GT310, GT314.
    """
    table = _toml(text)
    schema = table.get("schema")
    if type(schema) is not int or schema != _SCHEMA:
        is_number = type(schema) is int and schema.bit_length() < 64
        kind = f"the `schema` {schema}" if is_number else "a `schema` of another kind"
        has = "no `schema`" if schema is None else kind
        fix = UPGRADE if is_number and cast("int", schema) > _SCHEMA else f"schema = {_SCHEMA}"
        message = f"the recipe has {has}; this graphtool reads {_SCHEMA}"
        raise PairError(
            problems.bad_recipe(message, help=fix) if table else problems.bad_recipe(message)
        )
    errors: list[Diagnostic] = []
    pairs: _Toml = table.get("pairs", [])
    # Each pair on its own, to report what is wrong with any.
    is_list = isinstance(pairs, list)
    header: _Toml = {**table, "pairs": [] if is_list else pairs}
    document = _converted(header, _Document, "", errors)
    records: list[_Pair] = []
    losses = tuple(named_losses())
    for index, pair in enumerate(cast("list[_Toml]", pairs if is_list else [])):
        record = _converted(pair, _Pair, f"pairs[{index}]", errors)
        if record is None:
            continue
        records.append(record)
        if record.loss not in losses:
            place, loss = f"pairs[{index}].loss", record.loss[:_LONGEST_REASON]
            errors.append(problems.unknown_loss(place, loss, losses))
    if errors or document is None:
        raise PairError(*errors)
    return msgspec.structs.replace(document, pairs=tuple(records))


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
        reason = str(error)[:_LONGEST_REASON]
        raise PairError(problems.bad_recipe(f"the recipe is not valid TOML: {reason}")) from None


def _converted(table: _Toml, type: type[_T], place: str, errors: list[Diagnostic]) -> _T | None:
    """Convert a table to a Struct, or record the error and return None."""
    try:
        return msgspec.convert(table, type)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError) as error:
        reason = str(error)
    match = _PLACE.search(reason)
    where = f"{place}{match['path'] if match else ''}".lstrip(".") or "the recipe"
    reason = _PLACE.sub("", reason)[:_LONGEST_REASON].replace("`object`", "a table")
    errors.append(problems.bad_recipe(f"`{where}`: {reason}", help="graphtool explain GT310"))
    return None


def _find_pair(
    record: _Pair, index: int, lookups: Both[_Lookup], diagnostics: list[Diagnostic]
) -> Pair | None:
    """Find both ends of a pair; None where one is missing."""
    place = f"pairs[{index}]"
    teacher = lookups.teacher.locate(record.teacher, place)
    student = lookups.student.locate(record.student, place)
    if teacher.end is None or student.end is None:
        diagnostics.extend((*teacher.diagnostics, *student.diagnostics))
        return None
    pair = Pair(
        rank=index + 1 if record.rank is None else record.rank,
        score=record.score,
        kind=record.kind,
        teacher=teacher.end,
        student=student.end,
        relation=record.relation,
        adapter=record.adapter,
        loss=record.loss,
        weight=record.weight,
        why=record.why,
        warnings=record.warnings,
    )
    notes: tuple[str, ...] = ()
    if teacher.is_edited or student.is_edited:
        # Compare the Values that the pair names now; its kind, loss and weight stay.
        comparison = Scorer(*(analyse(lookup.graph) for lookup in lookups))
        candidate = Candidate(pair.kind, pair.teacher.name, pair.student.name, why=())
        compared = pair_of(pair.rank, candidate, comparison)
        adapter = adapter_for(compared, pair.loss)
        pair = replace(
            compared, loss=pair.loss, weight=pair.weight, adapter=adapter, alternatives=()
        )
        if adapter != record.adapter:
            before, now = (f"`{one}`" if one else "no adapter" for one in (record.adapter, adapter))
            notes = (f"the file has {before}; the two need {now} now",)
    for located in (teacher, student):
        added = notes if located.is_edited else ()
        diagnostics += [replace(x, notes=(*x.notes, *added)) for x in located.diagnostics]
    return pair


@dataclass(frozen=True, slots=True)
class _Located:
    """The Value that the end of a pair means now, None where it is missing, and diagnostics.

    `is_edited` is True where the name was edited: the pair was written for another Value.
    """

    end: End | None
    diagnostics: tuple[Diagnostic, ...] = ()
    is_edited: bool = False


class _Lookup:
    """Finds the Values of a recipe in a Graph, which may be of another program by now."""

    def __init__(self, role: str, graph: Graph, record: _Program) -> None:
        self.role, self.graph, self._record = role, graph, record
        self._marks = fingerprints(graph)
        self._names: dict[tuple[str, str], list[str]] = {}
        for name, mark in self._marks.items():
            self._names.setdefault((mark.kind, mark.ancestors), []).append(name)

    @cached_property
    def _same_sizes(self) -> bool:
        """Whether feeds may have the recorded sizes; they are matched by name, then position."""
        feeds = self.graph.feeds
        for index, feed in enumerate(self._record.feeds):
            now = self.graph.values.get(feed.name)
            if now is None and index < len(feeds):
                now = self.graph.values[feeds[index]]
            if now is not None and not shapes_agree(feed.shape, now.shape):
                return False
        return True

    def program_diagnostics(self) -> Iterator[Diagnostic]:
        """Report a program other than that of the recipe."""
        recorded = self._record.fingerprint
        # Translating a legacy program to PIR changes the fingerprint of the whole.
        has_aliases = any(value.aliases for value in self.graph.values.values())
        is_translated = has_aliases and self._record.source == PurePath(self.graph.source).name
        if recorded is None or is_translated:
            return
        if recorded != program_fingerprint(self.graph, self._marks):
            yield problems.moved_value(
                f"the {self.role} is not the program that the recipe was made from",
                (
                    Where(role="recipe", program=self._record.source or None),
                    Where(role=self.role, program=self.graph.source),
                ),
            )

    def locate(self, end: _End, place: str) -> _Located:
        """Find an end by its fingerprint, or by its name, which may be any selector.

        The name alone decides where there is no fingerprint, or where the name was edited since.
        """
        mark = split_fingerprint(end.fingerprint or "")[0]
        if mark is None or end.is_edited:
            try:
                name = find(self.graph, end.name).name
            except ReadError as error:
                return _Located(None, error.report.diagnostics)
            if mark is None:
                return _Located(self._end(name, end.layer))
            edited = problems.moved_value(
                f"`{place}.{self.role}`: the name was edited to `{end.name}`, which is used",
                [Where(role=self.role, program=self.graph.source, value=end.name)],
            )
            # The other keys describe the Value that was named before.
            return _Located(self._end(name, None), (edited,), is_edited=True)
        names = self._names.get((mark.kind, mark.ancestors), [])
        if self._same_sizes:
            names = [name for name in names if self._marks[name].has_shape_of(mark)]
        names = self._narrow_down(end, names)
        if len(names) != 1:
            return _Located(None, (self._stale(end, place, names),))
        value = self.graph.values[names[0]]
        found = self._end(value.name, end.layer)
        if end.name in (value.name, *value.aliases):
            return _Located(found)
        moved = problems.moved_value(
            f"`{place}.{self.role}`: `{end.name}` is `{value.name}` in this program",
            [Where(role=self.role, program=self.graph.source, value=value.name, shape=value.shape)],
        )
        return _Located(found, (moved,))

    def _end(self, name: str, layer: str | None) -> End:
        """Describe the Value as it is now, with the recorded attribute path if it has none."""
        end = end_of(self.graph, self.graph.values[name])
        return end if end.layer is not None else replace(end, layer=layer)

    def _narrow_down(self, end: _End, names: list[str]) -> list[str]:
        """Narrow down Values that compute the same: by module, name, attribute path, Operator."""
        makers = {name: self.graph.producer(name) for name in names}
        if end.module is not None:
            modules = {name: maker.module if maker else None for name, maker in makers.items()}
            names = [name for name in names if modules[name] == end.module] or names
        names = [name for name in names if name == end.name] or names
        if end.layer is not None:
            names = [x for x in names if self.graph.values[x].layer == end.layer] or names
        kinds = {name: kind_of(maker) if maker else None for name, maker in makers.items()}
        kind = None if end.op is None else kind_of_type(end.op)
        return [name for name in names if kinds[name] == kind] or names

    def _stale(self, end: _End, place: str, same: list[str]) -> Diagnostic:
        now = self.graph.values.get(end.name)
        maker = None if now is None else self.graph.producer(end.name)
        return problems.stale_recipe(
            f"{place}.{self.role}",
            before=Where(
                role=f"recipe's {self.role}",
                program=self._record.source or None,
                value=end.name,
                shape=end.shape,
            ),
            type_before=end.op,
            now=Where(
                role=self.role,
                program=self.graph.source,
                value=None if now is None else now.name,
                shape=None if now is None else now.shape,
            ),
            type_now=None if maker is None else maker.type,
            same=same,
        )
