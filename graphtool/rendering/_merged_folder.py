"""Read the folder of a merged program without Paddle: both networks, the Program, its pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from graphtool.diagnostics import Report, Severity
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.merging.manifest import (
    PAIRS_FILE,
    PROGRAM_FILES,
    Manifest,
    SavedNetwork,
    changed_files,
    file_in,
    missing_pairs_warnings,
    no_program,
    original_file,
    read_manifest,
    with_annotation,
)
from graphtool.merging.problems import changed_folder
from graphtool.sources import read

__all__ = ["MergedFolder", "read_merged_folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedFolder:
    """The merge of the last teacher; `values` maps its Values to those of `merged`.

    `others` are the prefixes of earlier teachers. `report` warns of files changed since they were
    saved (GT618) and of missing pairs (GT613).
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


def read_merged_folder(folder: Path) -> MergedFolder:
    """Read the folder of a merged program.

    Raises ReadError: GT613 for a damaged folder, and as `read` does.
    """
    manifest = read_manifest(folder)
    if not manifest.teachers:
        raise no_program(folder, "its manifest names no teacher")
    last = len(manifest.teachers) - 1
    record = manifest.teachers[last]
    kind = manifest.kind
    teacher = _read_network(folder, original_file("teacher", last, kind), record.teacher)
    student = _read_network(folder, original_file("student", 0, kind), manifest.teachers[0].student)
    return MergedFolder(
        teacher=teacher,
        student=student,
        merged=read(file_in(folder, PROGRAM_FILES[kind])),
        prefix=record.prefix,
        feed_map=record.feed_map,
        values=record.values,
        pairs=_read_pairs(folder, teacher, student),
        others=tuple(earlier.prefix for earlier in manifest.teachers[:last]),
        report=_change_report(folder, manifest),
    )


def _change_report(folder: Path, manifest: Manifest) -> Report:
    files = changed_files(folder, manifest)
    warning = replace(changed_folder(str(folder), files), severity=Severity.WARNING)
    return Report((*((warning,) if files else ()), *missing_pairs_warnings(folder, manifest)))


def _read_network(folder: Path, file: str, saved: SavedNetwork) -> Graph:
    """Read a network's program, with the source, feeds, fetches and annotations of the manifest."""
    graph = read(file_in(folder, file))
    values = dict(graph.values)
    unknown = {*saved.feeds, *saved.fetches} - values.keys()
    if unknown:
        reason = f"its manifest and programs differ in `{min(unknown)}`"
        raise no_program(folder, reason)
    for name in saved.annotations.keys() & values.keys():
        values[name] = with_annotation(values[name], saved.annotations[name])
    return replace(
        graph, source=saved.source, values=values, feeds=saved.feeds, fetches=saved.fetches
    )


def _read_pairs(folder: Path, teacher: Graph, student: Graph) -> PairSet:
    if not (folder / PAIRS_FILE).is_file():
        return PairSet(teacher=teacher, student=student, pairs=())
    from graphtool.matching.recipe import read_recipe

    recipe = file_in(folder, PAIRS_FILE)
    return read_recipe(recipe, teacher=teacher, student=student).pairs
