"""Recipes: pairs, losses and weights in a TOML file that can be edited and read again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite
from numbers import Real
from os import PathLike, fspath
from pathlib import Path, PurePath
from sys import float_info
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
    listed,
    rule,
)
from graphtool.files import write_text
from graphtool.graph import Graph, ProgramKind, Shape, Value, shape_text, shapes_agree
from graphtool.loss_specs import named_losses
from graphtool.matching import problems
from graphtool.matching.candidates import Candidate
from graphtool.matching.fingerprint import (
    fingerprint_text,
    fingerprints,
    name_digest,
    parse_fingerprint,
    program_fingerprint,
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
_LISTED = 8
_HEADER = """\
# A recipe of graphtool: Values of a teacher and a student that are paired, with losses and weights.
# You may edit it: change losses and weights, take pairs out, add your own. A pair needs `kind`,
# `loss`, and the `name` of each end; an end's other keys find its Value again under a new name.
# To pair another Value, change the `name` of an end: it alone counts then.

"""

# An array of whole numbers, one per line. No string matches: their line breaks are escaped.
_NUMBERS = re.compile(r"\[\n(?:    -?\d+,\n)+\]")
# The Python escapes that `escaped_code` writes; a doubled backslash starts no other.
_ESCAPE = re.compile(r"\\(?:\\|x(?P<byte>[0-9a-f]{2})|u(?P<lone>d[89a-f][0-9a-f]{2}))")
# Strings and comments, which may have any number of dots; an unclosed string ends with its line.
_STRINGS = re.compile(r'"(?:[^"\\\n]|\\.)*"?|\'[^\'\n]*\'?|#[^\n]*')
# The time to parse a key grows with the square of its parts: `a.b.c` has three.
_MOST_PARTS = 100
_PLACE = re.compile(r" - at `\$(?P<path>.*)`$", re.DOTALL)
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
_Weight: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=float_info.max)]
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
        if self.fingerprint is not None and parse_fingerprint(self.fingerprint)[0] is None:
            reason = "delete it, or restore what graphtool wrote"
            raise ValueError(f"`fingerprint` is not a fingerprint: {reason}")

    @property
    def is_edited(self) -> bool:
        """Return whether the name has changed since the fingerprint was written."""
        digest = parse_fingerprint(self.fingerprint or "")[1]
        return digest not in ("", name_digest(self.name))


class _Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A pair with its loss and weight: the fields of `Pair` that are written, in this order."""

    rank: _Whole | None = None
    kind: Kind
    loss: str
    weight: _Weight = 1.0
    adapter: str | None = None
    relation: Relation = Relation.UNKNOWN
    score: float = 1.0
    why: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    teacher: _End
    student: _End


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


@rule("GT316")
def stale_recipe(lookup: _Lookup, end: _End, place: str, same: Sequence[str]) -> Diagnostic:
    """A Value of the recipe is no longer in the program: nothing in it computes the same.

    Values are found by a fingerprint: their Operator, their shape without the batch, and everything
    that is computed before them. Names, train or eval mode, losses, batch and input size may
    change; layers, channels, strides and activations before the Value may not. Make the recipe
    again. To use the Value with that name anyway, delete the `fingerprint`. If several Values
    compute the same and none has the name, write the name of the right one.
    """
    role, graph = lookup.role, lookup.graph
    now = graph.values.get(end.name)
    old = _operator_text(end.op, end.shape)
    changed = f"was {old} and is not in the program now"
    if now is not None:
        maker = graph.producer(now.name)
        new = _operator_text(None if maker is None else maker.type, now.shape)
        changed = f"was {old} and is {new} now"
        if old == new:
            changed = f"is {old} as it was, and is computed from something else now"
    note = "no Value of the program computes what it did"
    if same:
        note = f"{len(same)} Values compute what it did: {listed(same, _LISTED)}"
    return Diagnostic(
        message=f"`{place}.{role}`: stale: `{end.name}` {changed}",
        where=(
            Where(
                role=f"recipe's {role}",
                program=lookup.record.source or None,
                value=end.name,
                shape=end.shape,
            ),
            Where(
                role=role,
                program=graph.source,
                value=None if now is None else now.name,
                shape=None if now is None else now.shape,
            ),
        ),
        notes=(note,),
        help="graphtool suggest-pairs TEACHER STUDENT -o new.toml",
    )


def _operator_text(type: str | None, shape: Shape | None) -> str:
    kind = "no operator's result" if type is None else f"`{type.rpartition('.')[2].rstrip('_')}`"
    return kind if shape is None else f"{kind} {shape_text(shape)}"


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
    else:
        given: object = [pair.weight for pair in pairs] if weights is None else weights
        numbers = cast("Sequence[object]", given) if isinstance(given, Sequence) else ()
        if len(numbers) != len(pairs) or not all(map(_is_weight, numbers)):
            expected = f"a list of {counted(len(pairs), 'weight')}, each a number of 0 or more"
            yield bad_argument(
                "weights", cast("object", given), expected, f"weights=[1.0] * {len(pairs)}"
            )
    if not isinstance(path, str | PathLike):
        yield bad_argument("path", path, "the path of a file", _WRITE)


def _is_weight(given: object) -> bool:
    return isinstance(given, Real) and isfinite(given) and float(given) >= 0


def recipe_text(pairs: PairSet, *, weights: Sequence[float] | None = None) -> str:
    """Return pairs as TOML, the same text for the same pairs and weights."""
    import tomli_w

    graphs = Both(pairs.teacher, pairs.student)
    weights = [pair.weight for pair in pairs] if weights is None else weights
    document = {
        "schema": _SCHEMA,
        "graphtool": version(),
        "teacher": _program_table(graphs.teacher),
        "student": _program_table(graphs.student),
        "pairs": [
            _pair_table(pair, weight, graphs) for pair, weight in zip(pairs, weights, strict=True)
        ],
    }
    text = _NUMBERS.sub(
        lambda array: str([*map(int, re.findall(r"-?\d+", array[0]))]), tomli_w.dumps(document)
    )
    lines = (_ESCAPE.sub(_toml_escape, escaped_code(line)) for line in text.split("\n"))
    return _HEADER + "\n".join(lines)


def _program_table(graph: Graph) -> _Toml:
    feeds = [graph.values[name] for name in graph.feeds]
    return {
        # The folder is of no use on another machine.
        "source": re.split(r"[/\\]", graph.source)[-1],
        "kind": graph.kind.value,
        "fingerprint": program_fingerprint(graph),
        "feeds": [
            {"name": feed.name, "shape": feed.shape} for feed in feeds if feed.shape is not None
        ],
    }


def _pair_table(pair: Pair, weight: float, graphs: Both[Graph]) -> _Toml:
    fields = msgspec.to_builtins(replace(pair, weight=float(weight), score=float(pair.score)))
    for role, graph in (("teacher", graphs.teacher), ("student", graphs.student)):
        name = fields[role]["name"]
        mark = fingerprint_text(fingerprints(graph)[name], name)
        fields[role] = _without_none({**fields[role], "fingerprint": mark})
    return _without_none({key: fields[key] for key in _Pair.__struct_fields__})


def _without_none(table: _Toml) -> _Toml:
    """Leave out None, which TOML cannot write."""
    return {key: value for key, value in table.items() if value is not None}


def _toml_escape(escape: re.Match[str]) -> str:
    """Spell a Python escape as TOML does; lone surrogates, which it cannot escape, stay."""
    if escape["lone"]:
        return chr(int(escape["lone"], 16))
    return f"\\u00{escape['byte']}" if escape["byte"] else escape[0]


def read_recipe(path_or_text: str | PathLike[str], *, teacher: Source, student: Source) -> Recipe:
    """Read a recipe, not the configuration of a toolkit: else as `graphtool.read_recipe`.

    Raises PairError with all problems: GT310, GT314, GT316, GT367, GT303, GT101 and GT102. Raises
    UsageError: GT248. Raises what `gt.read` does.
    """
    document = _parse(load_text(path_or_text))
    graphs = Both(teacher, student).map(read_without_teachers)
    diagnostics: list[Diagnostic] = []
    lookups = Both(
        _Lookup("teacher", graphs.teacher, document.teacher, diagnostics),
        _Lookup("student", graphs.student, document.student, diagnostics),
    )
    pairs: list[Pair] = []
    first: dict[tuple[str, str, str], str] = {}
    for index, record in enumerate(document.pairs):
        place = f"pairs[{index}]"
        pair = _find_pair(record, index, lookups, diagnostics)
        if pair is not None:
            pairs.append(pair)
            # Several losses on one pair are fine.
            key = (pair.teacher.name, pair.student.name, pair.loss)
            if first.setdefault(key, place) != place:
                diagnostics.append(problems.duplicate_pair(first[key], place, *key[:2]))
    if not document.pairs:
        where = problems.both_places(*graphs)
        diagnostics.append(problems.no_pairs("the recipe has no pairs", where=where))
    return checked_recipe(pairs, graphs, diagnostics, document.graphtool)


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


def load_text(path_or_text: object) -> str:
    """Return the text of a file; a string of several lines is the text itself.

    Raises PairError: GT310. Raises ReadError: GT010. Raises UsageError: GT248.
    """
    if not isinstance(path_or_text, str | PathLike):
        expected = "the path of a recipe, or its text"
        raise UsageError(bad_argument("path_or_text", path_or_text, expected, _READ))
    given = fspath(cast("str | PathLike[str]", path_or_text))
    if isinstance(path_or_text, str) and "\n" in given:
        return given.removeprefix(_BOM)
    fix = problems.WRITE
    try:
        check_not_special(Path(given))
        with Path(given).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) <= _MOST_BYTES:
            # As `write_text` encodes it: names may hold lone surrogates.
            return data.decode("utf-8", "surrogatepass").removeprefix(_BOM)
        reason = f"it has more than {_MOST_BYTES:,} bytes"
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8: {error.reason}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        fix = ls_command(given)
    raise PairError(problems.bad_recipe(f"`{given}` cannot be read: {reason}", help=fix))


def _parse(text: str) -> _Document:
    """Parse the text of a recipe.

    Raises PairError: GT310, GT314.
    """
    table = _toml(text)
    schema = table.get("schema")
    if type(schema) is not int or schema != _SCHEMA:
        is_newer = type(schema) is int and schema > _SCHEMA
        fix = UPGRADE if is_newer else f"schema = {_SCHEMA}" if table else problems.WRITE
        has = "no `schema`" if schema is None else "a `schema` of another kind"
        if type(schema) is int and schema.bit_length() < 64:
            has = f"the `schema` {schema}"
        message = f"the recipe has {has}; this graphtool reads {_SCHEMA}"
        raise PairError(problems.bad_recipe(message, help=fix))
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
            errors.append(problems.unknown_loss(f"pairs[{index}].loss", record.loss, losses))
    if errors or document is None:
        raise PairError(*errors)
    return msgspec.structs.replace(document, pairs=tuple(records))


def _toml(text: str) -> Mapping[str, _Toml]:
    has_long_strings = '"""' in text or "'''" in text
    bare = text if has_long_strings else _STRINGS.sub("", text)
    try:
        if any(line.count(".") > _MOST_PARTS for line in bare.split("\n")):
            raise ValueError(f"a key has more than {_MOST_PARTS} parts")
        return msgspec.toml.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise PairError(problems.bad_recipe(f"the recipe is not valid TOML: {error}")) from None


def _converted(table: _Toml, type: type[_T], place: str, errors: list[Diagnostic]) -> _T | None:
    """Convert a table to a Struct, or record the error and return None."""
    try:
        return msgspec.convert(table, type)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError) as error:
        reason = str(error)
    match = _PLACE.search(reason)
    where = f"{place}{match['path'] if match else ''}".lstrip(".") or "the recipe"
    reason = _PLACE.sub("", reason).replace("`object`", "a table")
    errors.append(problems.bad_recipe(f"`{where}`: {reason}", help="graphtool explain GT310"))
    return None


def _find_pair(
    record: _Pair, index: int, lookups: Both[_Lookup], diagnostics: list[Diagnostic]
) -> Pair | None:
    """Find both ends of a pair; None where one is missing."""
    place = f"pairs[{index}]"
    teacher = lookups.teacher.find(record.teacher, place)
    student = lookups.student.find(record.student, place)
    if teacher is None or student is None:
        return None
    rank = index + 1 if record.rank is None else record.rank
    fields = msgspec.structs.asdict(record)
    fields.update(rank=rank, teacher=teacher, student=student)
    pair = Pair(**fields)
    edited = [
        (lookup, end)
        for lookup, end in zip(lookups, (record.teacher, record.student), strict=True)
        if end.is_edited
    ]
    if not edited:
        return pair
    # Compare the Values that the pair names now; its kind, loss and weight stay.
    comparison = Scorer(*(analyse(lookup.graph) for lookup in lookups))
    candidate = Candidate(pair.kind, teacher.name, student.name, why=())
    compared = pair_of(pair.rank, candidate, comparison)
    adapter = adapter_for(compared, pair.loss)
    notes: tuple[str, ...] = ()
    if adapter != record.adapter:
        before, now = (f"`{one}`" if one else "no adapter" for one in (record.adapter, adapter))
        notes = (f"the file has {before}; the two need {now} now",)
    for lookup, end in edited:
        message = f"`{place}.{lookup.role}`: the name was edited to `{end.name}`, which is used"
        where = Where(role=lookup.role, program=lookup.graph.source, value=end.name)
        diagnostics.append(problems.moved_value(message, where=(where,), notes=notes))
    return replace(compared, loss=pair.loss, weight=pair.weight, adapter=adapter, alternatives=())


class _Lookup:
    """Finds the Values of a recipe in a Graph, which may be of another program by now."""

    def __init__(
        self, role: str, graph: Graph, record: _Program, diagnostics: list[Diagnostic]
    ) -> None:
        self.role, self.graph, self.record = role, graph, record
        self._diagnostics = diagnostics
        self._marks = fingerprints(graph)
        self._names: dict[tuple[str, str], list[str]] = {}
        for name, mark in self._marks.items():
            self._names.setdefault((mark.kind, mark.ancestors), []).append(name)
        # Translating a legacy program to PIR changes the fingerprint of the whole.
        has_aliases = any(value.aliases for value in graph.values.values())
        is_translated = has_aliases and record.source == PurePath(graph.source).name
        if not is_translated and record.fingerprint not in (None, program_fingerprint(graph)):
            places = (
                Where(role="recipe", program=record.source or None),
                Where(role=role, program=graph.source),
            )
            message = f"the {role} is not the program that the recipe was made from"
            diagnostics.append(problems.moved_value(message, where=places))

    @cached_property
    def _same_sizes(self) -> bool:
        """Whether feeds may have the recorded sizes; they are matched by name, then position."""
        values = self.graph.values
        feeds = zip(self.record.feeds, self.graph.feeds, strict=False)
        return all(
            shapes_agree(feed.shape, values.get(feed.name, values[name]).shape)
            for feed, name in feeds
        )

    def find(self, end: _End, place: str) -> End | None:
        """Find an end by its fingerprint, or by its name, which may be any selector.

        The name alone decides where there is no fingerprint, or where the name was edited since.
        """
        mark, _ = parse_fingerprint(end.fingerprint or "")
        if mark is None or end.is_edited:
            try:
                named = find(self.graph, end.name)
            except ReadError as error:
                self._diagnostics += error.report
                return None
            # The other keys of an edited end describe the Value that was named before.
            return self._end(named, end.layer if mark is None else None)
        names = self._names.get((mark.kind, mark.ancestors), [])
        if self._same_sizes:
            names = [name for name in names if shapes_agree(self._marks[name].shape, mark.shape)]
        # Of Values that compute the same: by module, name, attribute path and Operator.
        kind = None if end.op is None else kind_of_type(end.op)
        for fact, recorded in enumerate((end.module, end.name, end.layer, kind)):
            if recorded is not None:
                names = [name for name in names if self._facts(name)[fact] == recorded] or names
        if len(names) != 1:
            self._diagnostics.append(stale_recipe(self, end, place, names))
            return None
        value = self.graph.values[names[0]]
        if end.name not in (value.name, *value.aliases):
            message = f"`{place}.{self.role}`: `{end.name}` is `{value.name}` in this program"
            where = Where(
                role=self.role, program=self.graph.source, value=value.name, shape=value.shape
            )
            self._diagnostics.append(problems.moved_value(message, where=(where,)))
        return self._end(value, end.layer)

    def _facts(self, name: str) -> tuple[str | None, ...]:
        """Return a Value's module, name, attribute path, and the kind of its Operator."""
        maker, layer = self.graph.producer(name), self.graph.values[name].layer
        if maker is None:
            return None, name, layer, None
        return maker.module, name, layer, kind_of(maker)

    def _end(self, value: Value, layer: str | None) -> End:
        """Describe the Value as it is now, with the recorded attribute path if it has none."""
        end = end_of(self.graph, value)
        return end if end.layer is not None else replace(end, layer=layer)
