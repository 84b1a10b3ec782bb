"""Recipes: pairs, losses and weights in a TOML file that can be edited and read again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from numbers import Real
from os import PathLike, fspath
from pathlib import Path, PurePath
from typing import Any, TypeAlias, cast

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
from graphtool.graph import Graph, shapes_agree
from graphtool.matching import problems
from graphtool.matching._config_entries import entries_of
from graphtool.matching._schema import (
    SCHEMA,
    Document,
    EndRecord,
    FeedRecord,
    PairRecord,
    ProgramRecord,
    fingerprint_text,
    parse,
)
from graphtool.matching.candidate import Candidate
from graphtool.matching.config_files import pairs_of_entries
from graphtool.matching.fingerprint import Fingerprint, fingerprints, program_fingerprint
from graphtool.matching.pairs import End, Pair, PairSet, end_of
from graphtool.matching.presets import adapter_for
from graphtool.matching.score import Scorer
from graphtool.matching.suggest import pair_of
from graphtool.ops import kind_of, kind_of_type
from graphtool.paths import ls_command
from graphtool.readers.files import check_not_special
from graphtool.selectors import find
from graphtool.sources import Source, read_without_teachers
from graphtool.structure import analyse
from graphtool.text import escaped_code
from graphtool.version import version

__all__ = [
    "Recipe",
    "is_configuration",
    "is_of_other_program",
    "load_text",
    "read_recipe",
    "recipe_text",
    "write_recipe",
]

_HEADER = """\
# A recipe of graphtool: Values of a teacher and a student that are paired, with losses and weights.
# You may edit it: change losses and weights, take pairs out, add your own. An end needs its `name`
# alone; the other keys say what the Value was, and find it again where names have moved.
# To pair another Value, change the `name` of an end: it alone counts then.

"""

# An array of whole numbers, one per line. No string matches: their line breaks are escaped.
_NUMBERS = re.compile(r"\[\n(?P<items>(?:    -?\d+,\n)+)\]")

# The Python escapes that `escaped_code` writes; a doubled backslash starts no other.
_ESCAPE = re.compile(r"\\(?:\\|x(?P<byte>[0-9a-f]{2})|u(?P<lone>d[89a-f][0-9a-f]{2}))")

_WRITE = 'gt.write_recipe(gt.suggest_pairs(teacher, student), "pairs.toml")'
_READ = 'gt.read_recipe("pairs.toml", teacher=teacher, student=student)'

_CONFIGURATIONS = (".yml", ".yaml")
# A recipe of 1,000 pairs takes about a million bytes.
_MOST_BYTES = 2**24
# Some editors write it at the start of a file.
_BOM = "\ufeff"

# TOML is made of plain dicts, lists and scalars, nested at will.
_Toml: TypeAlias = Any


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
    elif weights is not None and not _are_weights(weights, len(pairs)):
        expected = f"a list of {counted(len(pairs), 'weight')}, each a number of 0 or more"
        yield bad_argument("weights", weights, expected, f"weights=[1.0] * {len(pairs)}")
    elif weights is None:
        expected, call = "a number of 0 or more", "dataclasses.replace(pair, weight=1)"
        for index, pair in enumerate(pairs):
            if not _is_weight(pair.weight):
                yield bad_argument(f"pairs[{index}].weight", pair.weight, expected, call)
    if not isinstance(path, str | PathLike):
        yield bad_argument("path", path, "the path of a file", _WRITE)


def _are_weights(given: object, count: int) -> bool:
    if isinstance(given, str) or not isinstance(given, Sequence):
        return False
    weights = cast("Sequence[object]", given)
    return len(weights) == count and all(map(_is_weight, weights))


def _is_weight(given: object) -> bool:
    return isinstance(given, Real) and isfinite(given) and float(given) >= 0


def recipe_text(pairs: PairSet, *, weights: Sequence[float] | None = None) -> str:
    """Return pairs as TOML, the same text for the same pairs and weights."""
    import tomli_w

    teacher, student = fingerprints(pairs.teacher), fingerprints(pairs.student)
    weighted: Iterable[Pair] = pairs
    if weights is not None:
        weighted = (
            replace(pair, weight=weight) for pair, weight in zip(pairs, weights, strict=True)
        )
    document = {
        "schema": SCHEMA,
        "graphtool": version(),
        "teacher": _program_table(pairs.teacher, teacher),
        "student": _program_table(pairs.student, student),
        "pairs": [_pair_table(pair, teacher, student) for pair in weighted],
    }
    lines = _NUMBERS.sub(_on_one_line, tomli_w.dumps(document)).split("\n")
    return _HEADER + "\n".join(_ESCAPE.sub(_toml_escape, escaped_code(line)) for line in lines)


def _toml_escape(escape: re.Match[str]) -> str:
    """Spell a Python escape as TOML does; lone surrogates, which it cannot escape, stay."""
    if escape["lone"]:
        return chr(int(escape["lone"], 16))
    return f"\\u00{escape['byte']}" if escape["byte"] else escape[0]


def _on_one_line(array: re.Match[str]) -> str:
    return f"[{', '.join(array['items'].replace(',', ' ').split())}]"


def _program_table(graph: Graph, by_name: Mapping[str, Fingerprint]) -> dict[str, _Toml]:
    feeds = [graph.values[name] for name in graph.feeds]
    return {
        # The folder is of no use on another machine.
        "source": re.split(r"[/\\]", graph.source)[-1],
        "kind": graph.kind.value,
        "fingerprint": program_fingerprint(graph, by_name),
        "feeds": [
            {"name": feed.name, "shape": feed.shape} for feed in feeds if feed.shape is not None
        ],
    }


def _pair_table(
    pair: Pair,
    teacher: Mapping[str, Fingerprint],
    student: Mapping[str, Fingerprint],
) -> dict[str, _Toml]:
    return _without_none(
        {
            "rank": pair.rank,
            "kind": pair.kind.value,
            "loss": pair.loss,
            "weight": float(pair.weight),
            "adapter": pair.adapter,
            "relation": pair.relation.value,
            "score": float(pair.score),
            "why": pair.why,
            "warnings": pair.warnings,
            "teacher": _end_table(pair.teacher, teacher),
            "student": _end_table(pair.student, student),
        }
    )


def _end_table(end: End, by_name: Mapping[str, Fingerprint]) -> dict[str, _Toml]:
    return _without_none(
        {**asdict(end), "fingerprint": fingerprint_text(by_name[end.name], end.name)}
    )


def _without_none(table: Mapping[str, _Toml]) -> dict[str, _Toml]:
    """Leave out None, which TOML cannot write."""
    return {key: value for key, value in table.items() if value is not None}


def read_recipe(path_or_text: str | PathLike[str], *, teacher: Source, student: Source) -> Recipe:
    """Read a recipe and find its Values in two networks.

    A string of several lines is the text of a recipe, any other the path of one. The networks are
    Graphs, or anything that `gt.read` takes.

    A Value is found by its fingerprint, and among equal ones by module path and name, so a recipe
    made from an inference model holds for the training program. An end without a fingerprint, or
    whose name was edited, is found by its name, which may be any selector. `pairs.report` notes
    which Values moved and which names were edited.

    A path that ends in `.yml` or `.yaml` is a distillation configuration of PaddleClas, PaddleOCR
    or PaddleSlim, or what `suggest-pairs --as` writes. The `why` of its pairs gives their place in
    the file; `pairs.report` lists the losses that were ignored or replaced.

    Raises PairError with all problems: GT310, GT314, GT316, GT324, GT367, GT303, GT101 and GT102.
    Raises UsageError: GT248. Raises what `gt.read` does.
    """
    text = load_text(path_or_text)
    content = entries_of(text) if is_configuration(path_or_text) else parse(text)
    graphs = Both(teacher, student).map(read_without_teachers)
    if isinstance(content, Document):
        pairs, diagnostics = _read_document(content, graphs)
    else:
        pairs, diagnostics = pairs_of_entries(content, *graphs)
    report = Report.of(diagnostics)
    if report.errors:
        # First that the recipe is of another network, which explains the rest.
        other_program = filter(is_of_other_program, report)
        warnings = [found for found in report if found.severity is Severity.WARNING]
        raise PairError(*other_program, *report.errors, *warnings)
    pair_set = PairSet(
        teacher=graphs.teacher,
        student=graphs.student,
        pairs=tuple(pair for pair in pairs if pair is not None),
        report=report,
    )
    return Recipe(pairs=pair_set, version=content.version if isinstance(content, Document) else "")


def is_of_other_program(found: Diagnostic) -> bool:
    """Return whether a Diagnostic notes that a recipe was made from another program."""
    return found.code == "GT317" and found.where[0].role == "recipe"


def is_configuration(path_or_text: str | PathLike[str]) -> bool:
    """Return whether this is the path of another toolkit's configuration, not a recipe."""
    given = fspath(path_or_text)
    is_text = isinstance(path_or_text, str) and "\n" in given
    return not is_text and PurePath(given).suffix.lower() in _CONFIGURATIONS


def load_text(path_or_text: object) -> str:
    """Return the text of a recipe or configuration; a string of several lines is the text itself.

    Raises PairError: GT310, GT324. Raises ReadError: GT010. Raises UsageError: GT248.
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
            raise PairError(_unreadable(given, f"it has more than {_MOST_BYTES:,} bytes"))
        # As `write_text` encodes it: names may hold lone surrogates.
        return data.decode("utf-8", "surrogatepass").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        raise PairError(_unreadable(given, f"it is not UTF-8: {error.reason}")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"`{given}` cannot be read: {reason}"
        raise PairError(problems.bad_recipe(message, help=ls_command(given))) from None


def _unreadable(path: str, reason: str) -> Diagnostic:
    if is_configuration(Path(path)):
        return problems.bad_configuration(f"the configuration cannot be read: {reason}")
    return problems.bad_recipe(f"the recipe cannot be read: {reason}")


def _read_document(
    document: Document, graphs: Both[Graph]
) -> tuple[list[Pair | None], list[Diagnostic]]:
    """Return the pairs of a recipe in order, None for those with a missing end, and diagnostics."""
    lookups = Both(
        _Lookup.of("teacher", graphs.teacher, document.teacher),
        _Lookup.of("student", graphs.student, document.student),
    )
    diagnostics = [found for lookup in lookups for found in lookup.program_diagnostics()]
    pairs = [
        _find_pair(record, index, lookups, diagnostics)
        for index, record in enumerate(document.pairs)
    ]
    if not document.pairs:
        where = problems.both_places(*graphs)
        diagnostics.append(problems.no_pairs("the recipe has no pairs", where=where))
    return pairs, [*diagnostics, *_duplicates(pairs)]


def _find_pair(
    record: PairRecord, index: int, lookups: Both[_Lookup], diagnostics: list[Diagnostic]
) -> Pair | None:
    place = f"pairs[{index}]"
    teacher = lookups.teacher.locate(record.teacher, place)
    student = lookups.student.locate(record.student, place)
    if teacher.end is None or student.end is None:
        diagnostics.extend((*teacher.diagnostics, *student.diagnostics))
        return None
    recorded = Pair(
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
    pair, notes = recorded, ()
    if teacher.is_edited or student.is_edited:
        pair = _compared_anew(recorded, lookups)
        notes = _adapter_notes(recorded, pair)
    for located in (teacher, student):
        added = notes if located.is_edited else ()
        diagnostics.extend(
            replace(found, notes=(*found.notes, *added)) for found in located.diagnostics
        )
    return pair


def _compared_anew(pair: Pair, lookups: Both[_Lookup]) -> Pair:
    """Compare the Values that a pair names now; keep its kind, loss and weight."""
    comparison = Scorer(*(analyse(lookup.graph) for lookup in lookups))
    candidate = Candidate(pair.kind, pair.teacher.name, pair.student.name, why=())
    compared = pair_of(pair.rank, candidate, comparison)
    adapter = adapter_for(compared, pair.loss)
    return replace(compared, loss=pair.loss, weight=pair.weight, adapter=adapter, alternatives=())


def _adapter_notes(recorded: Pair, compared: Pair) -> tuple[str, ...]:
    """Return a note where the adapter in the file, which may also be edited, is not used."""
    if recorded.adapter == compared.adapter:
        return ()
    before, now = (
        f"`{pair.adapter}`" if pair.adapter else "no adapter" for pair in (recorded, compared)
    )
    return (f"the file has {before}; the two need {now} now",)


def _duplicates(pairs: Sequence[Pair | None]) -> Iterator[Diagnostic]:
    """Find pairs of the same two Values and the same loss; several losses on one pair are fine."""
    first: dict[tuple[str, str, str], int] = {}
    for index, pair in enumerate(pairs):
        if pair is not None:
            key = (pair.teacher.name, pair.student.name, pair.loss)
            if first.setdefault(key, index) != index:
                places = f"pairs[{first[key]}]", f"pairs[{index}]"
                yield problems.duplicate_pair(*places, pair.teacher.name, pair.student.name)


@dataclass(frozen=True, slots=True)
class _Located:
    """The Value that the end of a pair means now, None where it is missing, and diagnostics.

    `is_edited` is True where the name was edited: the pair was written for another Value.
    """

    end: End | None
    diagnostics: tuple[Diagnostic, ...] = ()
    is_edited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lookup:
    """Finds the Values of a recipe in a Graph, which may be of another program by now.

    `by_name` has the fingerprints of the Graph, `names` the Values by kind and ancestors.
    """

    role: str
    graph: Graph
    record: ProgramRecord
    by_name: Mapping[str, Fingerprint]
    names: Mapping[tuple[str, str], list[str]]
    same_sizes: bool

    @classmethod
    def of(cls, role: str, graph: Graph, record: ProgramRecord) -> _Lookup:
        """Index the fingerprints of a Graph."""
        by_name = fingerprints(graph)
        names: dict[tuple[str, str], list[str]] = {}
        for name, fingerprint in by_name.items():
            names.setdefault((fingerprint.kind, fingerprint.ancestors), []).append(name)
        return cls(
            role=role,
            graph=graph,
            record=record,
            by_name=by_name,
            names=names,
            same_sizes=_same_sizes(record.feeds, graph),
        )

    def program_diagnostics(self) -> Iterator[Diagnostic]:
        """Report a program other than that of the recipe."""
        recorded = self.record.fingerprint
        # Translating a legacy program to PIR changes the fingerprint of the whole.
        has_aliases = any(value.aliases for value in self.graph.values.values())
        is_translated = has_aliases and self.record.source == PurePath(self.graph.source).name
        if recorded is None or is_translated:
            return
        if recorded != program_fingerprint(self.graph, self.by_name):
            yield problems.moved_value(
                f"the {self.role} is not the program that the recipe was made from",
                (
                    Where(role="recipe", program=self.record.source or None),
                    Where(role=self.role, program=self.graph.source),
                ),
            )

    def locate(self, end: EndRecord, place: str) -> _Located:
        """Find an end by its fingerprint, or by its name, which may be any selector.

        The name alone decides where there is no fingerprint, or where the name was edited since.
        """
        fingerprint = end.parsed_fingerprint
        if fingerprint is None:
            return self._locate_name(end)
        if end.is_edited:
            # The other keys describe the Value that was named before.
            located = self._locate_name(EndRecord(name=end.name))
            if located.end is None:
                return located
            edited = problems.moved_value(
                f"`{place}.{self.role}`: the name was edited to `{end.name}`, which is used",
                [Where(role=self.role, program=self.graph.source, value=end.name)],
            )
            return replace(located, diagnostics=(edited,), is_edited=True)
        names = self.names.get((fingerprint.kind, fingerprint.ancestors), [])
        if self.same_sizes:
            names = [name for name in names if self.by_name[name].has_shape_of(fingerprint)]
        names = self._narrow_down(end, names)
        if len(names) != 1:
            return _Located(None, (self._stale(end, place, names),))
        name = names[0]
        if name == end.name or end.name in self.graph.values[name].aliases:
            return _Located(self._end(name, end))
        shape = self.graph.values[name].shape
        moved = problems.moved_value(
            f"`{place}.{self.role}`: `{end.name}` is `{name}` in this program",
            [Where(role=self.role, program=self.graph.source, value=name, shape=shape)],
        )
        return _Located(self._end(name, end), (moved,))

    def _locate_name(self, end: EndRecord) -> _Located:
        try:
            return _Located(self._end(find(self.graph, end.name).name, end))
        except ReadError as error:
            return _Located(None, error.report.diagnostics)

    def _end(self, name: str, recorded: EndRecord) -> End:
        """Describe the Value as it is now, with the recorded attribute path if it has none."""
        end = end_of(self.graph, self.graph.values[name])
        return end if end.layer is not None else replace(end, layer=recorded.layer)

    def _narrow_down(self, end: EndRecord, names: list[str]) -> list[str]:
        """Narrow down Values that compute the same: by module, name, attribute path, Operator."""
        makers = {name: self.graph.producer(name) for name in names}
        modules = {name: maker.module if maker else None for name, maker in makers.items()}
        kinds = {name: kind_of(maker) if maker else None for name, maker in makers.items()}
        if end.module is not None:
            names = [name for name in names if modules[name] == end.module] or names
        names = [name for name in names if name == end.name] or names
        if end.layer is not None:
            names = [x for x in names if self.graph.values[x].layer == end.layer] or names
        kind = None if end.op is None else kind_of_type(end.op)
        return [name for name in names if kinds[name] == kind] or names

    def _stale(self, end: EndRecord, place: str, same: list[str]) -> Diagnostic:
        now = self.graph.values.get(end.name)
        maker = None if now is None else self.graph.producer(end.name)
        return problems.stale_recipe(
            f"{place}.{self.role}",
            before=Where(
                role=f"recipe's {self.role}",
                program=self.record.source or None,
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


def _same_sizes(feeds: tuple[FeedRecord, ...], graph: Graph) -> bool:
    """Return whether feeds may have the recorded sizes; they are matched by name, then position."""
    for index, feed in enumerate(feeds):
        now = graph.values.get(feed.name)
        if now is None and index < len(graph.feeds):
            now = graph.values[graph.feeds[index]]
        if now is not None and not shapes_agree(feed.shape, now.shape):
            return False
    return True
