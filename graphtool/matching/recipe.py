"""Recipes: pairs, losses and weights in a TOML file that can be edited and read back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from numbers import Real
from os import PathLike, fspath
from pathlib import Path, PurePath
from typing import Any, TypeAlias, cast

from graphtool.arguments import bad_argument
from graphtool.diagnostics import Diagnostic, PairError, Report, Severity, UsageError, counted
from graphtool.files import write_text
from graphtool.graph import Graph
from graphtool.matching import problems
from graphtool.matching._config_entries import entries_of
from graphtool.matching._ends import Side
from graphtool.matching._schema import SCHEMA, Document, PairRecord, marked, parse
from graphtool.matching.candidate import Candidate
from graphtool.matching.config_files import paired
from graphtool.matching.config_problems import no_entries, not_yaml
from graphtool.matching.fingerprint import Fingerprint, fingerprints, program_fingerprint
from graphtool.matching.forms import adapter_for
from graphtool.matching.pairs import End, Pair, PairSet
from graphtool.matching.rank import pair_of
from graphtool.matching.score import Comparison
from graphtool.readers import Source, read_own
from graphtool.readers._kinds import check_kind
from graphtool.structure import analyse
from graphtool.text import as_typed
from graphtool.version import version

__all__ = [
    "Recipe",
    "is_configuration",
    "read_recipe",
    "recipe_in",
    "recipe_text",
    "write_recipe",
]

_HEADER = """\
# A recipe of graphtool: Values of a teacher and a student that are paired, with losses and weights.
# You may edit it: change losses and weights, take pairs out, add your own. An end needs its `name`
# alone; the other keys say what the Value was, and find it again where names have moved.
# To pair another Value, change the `name` of an end: it alone counts then.

"""

# An array of whole numbers, one to a line. No string matches: those have their line breaks escaped.
_NUMBERS = re.compile(r"\[\n(?P<items>(?:    -?\d+,\n)+)\]")

# What `as_typed` writes as Python does; a doubled backslash starts no other.
_ESCAPE = re.compile(r"\\(?:\\|x(?P<byte>[0-9a-f]{2})|u(?P<lone>d[89a-f][0-9a-f]{2}))")

_WRITE = 'gt.write_recipe(gt.suggest_pairs(teacher, student), "pairs.toml")'
_READ = 'gt.read_recipe("pairs.toml", teacher=teacher, student=student)'

_OTHER_PROGRAM = "GT318"
_EDITED_NAME = "GT319"
_CONFIGURATIONS = (".yml", ".yaml")
# A recipe of 1,000 pairs has a million.
_LARGEST = 2**24
# Some editors put it before what they write.
_BOM = "\ufeff"

# TOML is made of plain dicts, lists and scalars, nested at will.
_Toml: TypeAlias = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Pairs, each with its loss and weight; `version` is the graphtool that wrote the file.

    It is empty where another toolkit did.
    """

    pairs: PairSet
    version: str

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each pair in order."""
        return tuple(pair.weight for pair in self.pairs)


def write_recipe(
    pairs: PairSet, path: str | PathLike[str], *, weights: Sequence[float] | None = None
) -> None:
    """Write pairs to a recipe file, whole or not at all, each with its own weight or a given one.

    Raises GraphtoolError: GT601 where the file can't be written. Raises UsageError: GT248.
    """
    found = tuple(_misgiven(pairs, path, weights))
    if found:
        raise UsageError(*found)
    write_text(path, recipe_text(pairs, weights=weights))


def _misgiven(pairs: object, path: object, weights: object) -> Iterator[Diagnostic]:
    if not isinstance(pairs, PairSet):
        yield bad_argument("pairs", pairs, "a PairSet, as `suggest_pairs` gives", _WRITE)
    elif weights is not None and not _are_weights(weights, len(pairs)):
        wanted = f"a list of {counted(len(pairs), 'weight')}, each a number of 0 or more"
        yield bad_argument("weights", weights, wanted, f"weights=[1.0] * {len(pairs)}")
    elif weights is None:
        for place, pair in enumerate(pairs):
            if not _is_weight(pair.weight):
                name, wanted = f"pairs[{place}].weight", "a number of 0 or more"
                yield bad_argument(name, pair.weight, wanted, "dataclasses.replace(pair, weight=1)")
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

    marks = fingerprints(pairs.teacher), fingerprints(pairs.student)
    document = {
        "schema": SCHEMA,
        "graphtool": version(),
        "teacher": _program_table(pairs.teacher, marks[0]),
        "student": _program_table(pairs.student, marks[1]),
        "pairs": [_pair_table(pair, *marks) for pair in _weighing(pairs, weights)],
    }
    lines = _NUMBERS.sub(_on_one_line, tomli_w.dumps(document)).split("\n")
    return _HEADER + "\n".join(_ESCAPE.sub(_in_toml, as_typed(line)) for line in lines)


def _weighing(pairs: PairSet, weights: Sequence[float] | None) -> Iterator[Pair]:
    if weights is None:
        yield from pairs
        return
    for pair, weight in zip(pairs, weights, strict=True):
        yield replace(pair, weight=weight)


def _in_toml(escape: re.Match[str]) -> str:
    """Spell what is written out as TOML does; a lone surrogate it can't spell stays as it is."""
    if escape["lone"]:
        return chr(int(escape["lone"], 16))
    return f"\\u00{escape['byte']}" if escape["byte"] else escape[0]


def _on_one_line(array: re.Match[str]) -> str:
    return f"[{', '.join(array['items'].replace(',', ' ').split())}]"


def _program_table(graph: Graph, marks: Mapping[str, Fingerprint]) -> dict[str, _Toml]:
    feeds = [graph.values[name] for name in graph.feeds]
    return {
        # Where the file lay on the writer's machine is of no use to a reader on another.
        "source": re.split(r"[/\\]", graph.source)[-1],
        "kind": graph.kind.value,
        "fingerprint": program_fingerprint(graph, marks),
        "feeds": [
            {"name": feed.name, "shape": feed.shape} for feed in feeds if feed.shape is not None
        ],
    }


def _pair_table(
    pair: Pair,
    teacher: Mapping[str, Fingerprint],
    student: Mapping[str, Fingerprint],
) -> dict[str, _Toml]:
    return _present(
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


def _end_table(end: End, marks: Mapping[str, Fingerprint]) -> dict[str, _Toml]:
    return _present({**asdict(end), "fingerprint": marked(marks[end.name], end.name)})


def _present(table: Mapping[str, _Toml]) -> dict[str, _Toml]:
    """Leave out what is None, for which TOML has no word."""
    return {key: value for key, value in table.items() if value is not None}


def read_recipe(path_or_text: str | PathLike[str], *, teacher: Source, student: Source) -> Recipe:
    """Read a recipe and find its Values in two networks; a string of several lines is its text.

    The networks are Graphs, or whatever `gt.read` takes.

    A Value is found by its fingerprint, and among equal ones by module path and name, so a recipe
    made from an inference model holds for the training program. An end without a fingerprint, or
    whose name was edited, is found by its name, which may be any selector. `pairs.report` notes
    what has moved and what was edited.

    A path that ends in `.yml` or `.yaml` is a distillation configuration of PaddleClas, PaddleOCR
    or PaddleSlim, or what `suggest-pairs --as` writes. Its pairs say in `why` where they stand in
    the file; `pairs.report` says which of its losses were read as no pair, and which were replaced.

    Raises PairError with all problems: GT310 to GT316, GT323, GT324, GT327, GT303, GT101 and GT102.
    Raises UsageError: GT248. Raises what `gt.read` does.
    """
    text = recipe_in(path_or_text)
    written = entries_of(text) if is_configuration(path_or_text) else parse(text)
    graphs = read_own(teacher), read_own(student)
    if isinstance(written, Document):
        pairs, said = _documented(written, graphs)
    else:
        pairs, said = paired(written, *graphs)
    report = Report.of(said)
    if report.errors:
        # That the recipe is of another network explains the rest.
        others = [found for found in report if found.code == _OTHER_PROGRAM]
        warnings = [found for found in report if found.severity is Severity.WARNING]
        raise PairError(*others, *report.errors, *warnings)
    found = PairSet(
        teacher=graphs[0],
        student=graphs[1],
        pairs=tuple(pair for pair in pairs if pair is not None),
        report=report,
    )
    return Recipe(pairs=found, version=written.version if isinstance(written, Document) else "")


def is_configuration(path_or_text: str | PathLike[str]) -> bool:
    """Tell the path of a configuration of another toolkit from a recipe."""
    given = fspath(path_or_text)
    is_text = isinstance(path_or_text, str) and "\n" in given
    return not is_text and PurePath(given).suffix.lower() in _CONFIGURATIONS


def _documented(
    document: Document, graphs: tuple[Graph, Graph]
) -> tuple[list[Pair | None], list[Diagnostic]]:
    sides = (
        Side.of("teacher", graphs[0], document.teacher),
        Side.of("student", graphs[1], document.student),
    )
    said = [remark for side in sides for remark in side.remarks()]
    pairs = [_found(record, index, sides, said) for index, record in enumerate(document.pairs)]
    if not document.pairs:
        said.append(no_entries(*graphs, (), of_recipe=True))
    return pairs, [*said, *_duplicates(pairs)]


def recipe_in(path_or_text: object) -> str:
    """Return the text of a recipe or a configuration; a string of several lines is that itself.

    Raises PairError: GT310, GT312, GT323. Raises ReadError: GT017. Raises UsageError: GT248.
    """
    if not isinstance(path_or_text, str | PathLike):
        wanted = "the path of a recipe, or its text"
        raise UsageError(bad_argument("path_or_text", path_or_text, wanted, _READ))
    given = fspath(cast("str | PathLike[str]", path_or_text))
    if isinstance(path_or_text, str) and "\n" in given:
        return given.removeprefix(_BOM)
    unread = not_yaml if is_configuration(Path(given)) else problems.not_a_recipe
    try:
        check_kind(Path(given))
        with Path(given).open("rb") as file:
            data = file.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise PairError(unread(f"it has more than {_LARGEST:,} bytes"))
        # As `write_text` writes it: names may hold lone surrogates.
        return data.decode("utf-8", "surrogatepass").removeprefix(_BOM)
    except UnicodeDecodeError as error:
        raise PairError(unread(f"it is no UTF-8 text: {error.reason}")) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PairError(problems.unreadable_recipe(given, reason)) from None


def _found(
    record: PairRecord, index: int, sides: tuple[Side, Side], said: list[Diagnostic]
) -> Pair | None:
    place = f"pairs[{index}]"
    teacher = sides[0].find(record.teacher, place)
    student = sides[1].find(record.student, place)
    of_ends = (*teacher.said, *student.said)
    if teacher.end is None or student.end is None:
        said.extend(of_ends)
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
    found = _anew(pair, sides) if teacher.is_another or student.is_another else pair
    said.extend(_also(_readapted(pair, found), of_ends))
    return found


def _readapted(was: Pair, now: Pair) -> tuple[str, ...]:
    """Say so where the adapter in the file, which may be edited as well, is not the one taken."""
    if was.adapter == now.adapter:
        return ()
    given, taken = (f"`{one.adapter}`" if one.adapter else "no adapter" for one in (was, now))
    return (f"the file has {given}; {taken} is what the two need now",)


def _also(notes: tuple[str, ...], edits: Sequence[Diagnostic]) -> Iterator[Diagnostic]:
    """Note something beside each name that was edited."""
    for found in edits:
        is_edit = found.code == _EDITED_NAME
        yield replace(found, notes=(*found.notes, *notes)) if is_edit else found


def _anew(pair: Pair, sides: tuple[Side, Side]) -> Pair:
    """Compare the Values that a pair names now, and keep the kind, loss and weight it was given."""
    comparison = Comparison(*(analyse(side.graph) for side in sides))
    candidate = Candidate(pair.kind, pair.teacher.name, pair.student.name, why=())
    found = pair_of(pair.rank, candidate, comparison)
    adapter = adapter_for(found, pair.loss)
    return replace(found, loss=pair.loss, weight=pair.weight, adapter=adapter, alternatives=())


def _duplicates(pairs: Sequence[Pair | None]) -> Iterator[Diagnostic]:
    """Find pairs of the same two Values and the same loss; several losses on one pair are fine."""
    first: dict[tuple[str, str, str], int] = {}
    for index, pair in enumerate(pairs):
        if pair is not None:
            key = (pair.teacher.name, pair.student.name, pair.loss)
            if first.setdefault(key, index) != index:
                places = f"pairs[{first[key]}]", f"pairs[{index}]"
                yield problems.duplicate_pair(*places, pair.teacher.name, pair.student.name)
