"""Recipes: pairs, losses and weights in a TOML file that people edit and that finds its Values again."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import msgspec

import graphtool
from graphtool.diagnostics import Diagnostic, PairError, ReadError, Report, Severity
from graphtool.files import write_text
from graphtool.graph import Graph, ProgramKind, Shape, Value, shapes_agree
from graphtool.matching import problems
from graphtool.matching.fingerprint import Fingerprint, fingerprints, program_fingerprint
from graphtool.matching.pairs import End, Kind, Pair, PairSet, Relation, end_of
from graphtool.selectors import find

__all__ = ["LOSSES", "Recipe", "read_recipe", "recipe_text", "write_recipe"]

LOSSES = (
    "attention",
    "attention_scores",
    "dkd",
    "fsp",
    "hidden_state",
    "l2",
    "skd",
    "soft_label",
)

_SCHEMA = 1
_HEADER = """\
# A recipe of graphtool: which Values of a teacher and a student are paired, with which loss and weight.
# You may edit it: change weights and losses, take pairs out, add your own. Of an end only `name` is needed;
# the other keys say what the Value was, and find it again where a program's names have moved.
# To pair another Value, change its `name` and delete its `fingerprint`.

"""
_PLACE = re.compile(r" - at `\$(?P<path>.*)`$", re.DOTALL)

# What TOML text holds is checked where it is taken out.
_Toml: TypeAlias = Any
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Pairs of two Graphs and the weight of each pair's loss; `version` is that of the graphtool that wrote it."""

    pairs: PairSet
    weights: tuple[float, ...]
    version: str


class _Feed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    shape: Shape


class _Program(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str = ""
    kind: ProgramKind | None = None
    fingerprint: str = ""
    feeds: tuple[_Feed, ...] = ()


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: int
    graphtool: str = ""
    teacher: _Program = _Program()
    student: _Program = _Program()


class _End(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    op: str | None = None
    op_index: int | None = None
    output: int = 0
    module: str | None = None
    layer: str | None = None
    shape: Shape | None = None
    dtype: str | None = None
    fingerprint: str | None = None


class _Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rank: int | None = None
    score: float = 1.0
    kind: Kind
    loss: str
    weight: float = 1.0
    adapter: str | None = None
    relation: Relation = Relation.UNKNOWN
    why: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    teacher: _End
    student: _End


def write_recipe(
    pairs: PairSet, path: str | PathLike[str], *, weights: Sequence[float] | None = None
) -> None:
    """Write a recipe file, whole or not at all.

    Raises GraphtoolError: GT601 where the file can't be written.
    """
    write_text(path, recipe_text(pairs, weights=weights))


def recipe_text(pairs: PairSet, *, weights: Sequence[float] | None = None) -> str:
    """Return pairs as TOML, the same text for the same pairs; `weights` of the losses are 1 unless given."""
    import tomli_w

    teacher, student = fingerprints(pairs.teacher), fingerprints(pairs.student)
    document = {
        "schema": _SCHEMA,
        "graphtool": str(graphtool.__version__),
        "teacher": _program_table(pairs.teacher, teacher),
        "student": _program_table(pairs.student, student),
        "pairs": [
            _pair_table(pair, weight, teacher, student)
            for pair, weight in zip(pairs, weights or [1.0] * len(pairs), strict=True)
        ],
    }
    return _HEADER + tomli_w.dumps(document)


def _program_table(graph: Graph, marks: Mapping[str, Fingerprint]) -> dict[str, _Toml]:
    feeds = [graph.values[name] for name in graph.feeds]
    return {
        # A path says where a file lay on one machine, which is nobody else's business.
        "source": re.split(r"[/\\]", graph.source)[-1],
        "kind": graph.kind.value,
        "fingerprint": program_fingerprint(graph, marks),
        "feeds": [{"name": feed.name, "shape": feed.shape} for feed in feeds if feed.shape],
    }


def _pair_table(
    pair: Pair,
    weight: float,
    teacher: Mapping[str, Fingerprint],
    student: Mapping[str, Fingerprint],
) -> dict[str, _Toml]:
    return _present(
        {
            "rank": pair.rank,
            "kind": pair.kind.value,
            "loss": pair.loss,
            "weight": float(weight),
            "adapter": pair.adapter,
            "relation": pair.relation.value,
            "score": pair.score,
            "why": pair.why,
            "warnings": pair.warnings,
            "teacher": _end_table(pair.teacher, teacher),
            "student": _end_table(pair.student, student),
        }
    )


def _end_table(end: End, marks: Mapping[str, Fingerprint]) -> dict[str, _Toml]:
    return _present(
        {
            "name": end.name,
            "op": end.op,
            "op_index": end.op_index,
            "output": end.output,
            "module": end.module,
            "layer": end.layer,
            "shape": end.shape,
            "dtype": end.dtype,
            "fingerprint": str(marks[end.name]),
        }
    )


def _present(table: Mapping[str, _Toml]) -> dict[str, _Toml]:
    """Leave out what is None: TOML has no null."""
    return {key: value for key, value in table.items() if value is not None}


def read_recipe(path_or_text: str | PathLike[str], *, teacher: Graph, student: Graph) -> Recipe:
    """Read a recipe and find its Values in two Graphs; a string of several lines is the recipe's own text.

    A Value is found by its fingerprint, and among equal ones by module path and name, so that a recipe made
    from an inference model holds for the training program. What moved is told in `pairs.report`.

    Raises PairError with all problems at once: GT310 to GT316.
    """
    document = _parsed(_text_of(path_or_text))
    header = _header(document)
    listed = _pair_records(document)
    sides = (
        _Side.of("teacher", teacher, header.teacher),
        _Side.of("student", student, header.student),
    )
    notes = [side.other_program() for side in sides if side.is_other]
    found = [_resolved(pair, f"pairs[{index}]", sides) for index, pair in enumerate(listed)]
    diagnostics = [*notes, *(said for _, more in found for said in more)]
    diagnostics += _duplicates([pair for pair, _ in found])
    if any(said.severity is Severity.ERROR for said in diagnostics):
        raise PairError(*(said for said in diagnostics if said.severity is Severity.ERROR))
    pairs = tuple(pair for pair, _ in found if pair is not None)
    return Recipe(
        pairs=PairSet(
            teacher=teacher, student=student, pairs=_ranked(pairs), report=Report.of(diagnostics)
        ),
        weights=tuple(pair.weight for pair in listed),
        version=header.graphtool,
    )
