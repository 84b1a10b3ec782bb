"""The folder of a merged program as plain data: both networks, the Program, its pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from graphtool.diagnostics import ReadError, Report, Severity
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.merging import _layout
from graphtool.merging._manifest import (
    Manifest,
    SavedNetwork,
    annotated,
    inside,
    not_a_merged_folder,
    read_manifest,
)
from graphtool.merging._seal import changed, missing_pairs
from graphtool.merging.problems import changed_folder
from graphtool.readers import read

__all__ = ["MergedFolder", "opened"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedFolder:
    """The last teacher's merge; `values` goes from its Values to those of `merged`.

    `others` are the prefixes of earlier teachers; `report` warns of files that have changed since
    they were saved (GT618), and of pairs that are gone (GT637).
    """

    teacher: Graph
    student: Graph
    merged: Graph
    prefix: str
    feed_map: Mapping[str, str]
    values: Mapping[str, str]
    pairs: PairSet
    others: tuple[str, ...]
    report: Report


def opened(folder: Path) -> MergedFolder:
    """Read what a folder's files say, without Paddle.

    Raises ReadError: GT613 and GT614 for a damaged folder, and as `read` does.
    """
    manifest = read_manifest(folder)
    if not manifest.teachers:
        raise ReadError(not_a_merged_folder(str(folder), "its manifest names no teacher"))
    last = len(manifest.teachers) - 1
    record = manifest.teachers[last]
    kind = manifest.kind
    teacher, student = (
        _network(folder, _layout.original(role, number, kind), network)
        for role, number, network in (
            ("teacher", last, record.teacher),
            ("student", 0, manifest.teachers[0].student),
        )
    )
    return MergedFolder(
        teacher=teacher,
        student=student,
        merged=read(inside(folder, _layout.program(kind))),
        prefix=record.prefix,
        feed_map=record.feed_map,
        values=record.values,
        pairs=_pairs(folder, teacher, student),
        others=tuple(one.prefix for one in manifest.teachers[:last]),
        report=_seal_report(folder, manifest),
    )


def _seal_report(folder: Path, manifest: Manifest) -> Report:
    files = changed(folder, manifest)
    found = (replace(changed_folder(str(folder), files), severity=Severity.WARNING),)
    return Report((*(found if files else ()), *missing_pairs(folder, manifest)))


def _network(folder: Path, file: Path, saved: SavedNetwork) -> Graph:
    graph = read(inside(folder, file))
    values = dict(graph.values)
    strangers = {*saved.feeds, *saved.fetches} - values.keys()
    if strangers:
        reason = f"its manifest and programs differ in `{min(strangers)}`"
        raise ReadError(not_a_merged_folder(str(folder), reason))
    for name in saved.annotations.keys() & values.keys():
        values[name] = annotated(values[name], saved.annotations[name])
    return replace(
        graph, source=saved.source, values=values, feeds=saved.feeds, fetches=saved.fetches
    )


def _pairs(folder: Path, teacher: Graph, student: Graph) -> PairSet:
    if not (folder / _layout.PAIRS).is_file():
        return PairSet(teacher=teacher, student=student, pairs=())
    from graphtool.matching.recipe import read_recipe

    recipe = inside(folder, Path(_layout.PAIRS))
    return read_recipe(recipe, teacher=teacher, student=student).pairs
