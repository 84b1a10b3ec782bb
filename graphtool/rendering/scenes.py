"""Convert the argument of `render` to a network, or to a Scene of teacher and student."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.arguments import bad_argument
from graphtool.both import Both
from graphtool.diagnostics import Report, Severity, UsageError
from graphtool.graph import Graph
from graphtool.matching import Pair, PairSet
from graphtool.structure import Structure, analyse

# Merging is imported only for a merge: its import takes half as long as a picture.
if TYPE_CHECKING:
    from graphtool.checks import MergePlan

__all__ = [
    "Drawable",
    "Merge",
    "Scene",
    "Subject",
    "is_merged_folder",
    "network_name",
    "networks_of",
    "scene_of_plan",
    "subject_of",
]

_MANIFEST = "manifest.json"
# `Any` is a live Program, a Network or a Merged, which hold objects of Paddle.
Drawable: TypeAlias = "Graph | PairSet | Report | Scene | str | PathLike[str] | Any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """How two networks were merged; `losses` is whether the Program computes losses of the pairs.

    `others` are the prefixes of further teachers, which are not drawn.
    """

    prefix: str
    feed_map: Mapping[str, str]
    losses: bool = False
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Two networks side by side with their pairs, the diagnostics of a Report, or their merge."""

    pairs: PairSet
    report: Report | None = None
    merge: Merge | None = None

    @cached_property
    def structures(self) -> Both[Structure]:
        """Return the analyses of both networks."""
        return Both(self.pairs.teacher, self.pairs.student).map(analyse)


Subject: TypeAlias = "Graph | Scene"


def network_name(graph: Graph) -> str:
    """Return a network's file name without extension; for a generic one, its folder's name."""
    parts = [part for part in re.split(r"[/\\:]", graph.source) if part]
    if not parts:
        return "network"
    stem = re.sub(r"\.(json|pdmodel)$", "", parts[-1])
    is_generic = stem in {"inference", "model", "__model__", "main", "program", "build"}
    return parts[-2] if is_generic and len(parts) > 1 else stem


def scene_of_plan(plan: MergePlan, pairs: PairSet | None = None) -> Scene:
    """Return the Scene of a planned merge, with the pairs of its recipe."""
    return Scene(
        pairs=pairs or PairSet(teacher=plan.teacher, student=plan.student, pairs=()),
        merge=Merge(prefix=plan.prefix, feed_map=dict((*plan.feed_map, *plan.unmapped_feeds))),
    )


def networks_of(subject: Subject) -> Sequence[tuple[str | None, Graph]]:
    """Return the networks with their roles; one that is drawn alone has none."""
    if isinstance(subject, Graph):
        return ((None, subject),)
    return (("teacher", subject.pairs.teacher), ("student", subject.pairs.student))


def subject_of(x: Drawable) -> tuple[Subject, Report]:
    """Return the network or Scene of a Graph, PairSet, Report, Merged, or argument of `read`.

    For the folder of a merge, the report warns of files changed since it was saved: GT613, GT618.

    Raises UsageError: GT248 for a Report that is not about two networks; ReadError as `read` does.
    """
    if isinstance(x, (str, PathLike)):
        path: str = fspath(x)
        if is_merged_folder(path):
            return _scene_of_folder(Path(path))
        from graphtool.sources import read

        return read(path), Report()
    if isinstance(x, (Graph, Scene)):
        return x, Report()
    if isinstance(x, PairSet):
        return Scene(pairs=x), Report()
    if not isinstance(x, Report):
        return _subject_of_live(x), Report()
    graphs = [graph for graph in x.about if isinstance(graph, Graph)]
    if len(graphs) != 2:
        expected = "a Report about two networks, from `check_merge` or `check_pairs`"
        example = "gt.render(gt.check_merge(teacher, student, feed_map), path)"
        raise UsageError(bad_argument("x", x, expected, example))
    return Scene(pairs=PairSet(teacher=graphs[0], student=graphs[1], pairs=()), report=x), Report()


def is_merged_folder(path: str) -> bool:
    """Return whether a path is a folder that `graphtool merge` wrote."""
    return Path(path, _MANIFEST).is_file()


def _subject_of_live(x: Drawable) -> Subject:
    from graphtool.merging import Merged
    from graphtool.sources import read

    if not isinstance(x, Merged):
        return read(x)
    # The student as it was before the first of several merges.
    pairs = _numbered(x.source.graph, x.teachers[0].before.graph, x.losses)
    others = tuple(merged.prefix for merged in x.teachers if merged is not x)
    merge = Merge(prefix=x.prefix, feed_map=x.feed_map, losses=bool(x.losses), others=others)
    return Scene(pairs=pairs, merge=merge)


def _numbered(teacher: Graph, student: Graph, losses: Iterable[Pair]) -> PairSet:
    """Return the pairs of losses, which may be of several calls, by ranks in their order."""
    pairs = tuple(replace(pair, rank=rank) for rank, pair in enumerate(losses, 1))
    return PairSet(teacher=teacher, student=student, pairs=pairs)


def _scene_of_folder(folder: Path) -> tuple[Scene, Report]:
    """Read the last merge in a folder, without Paddle.

    Raises ReadError: GT613 for a damaged folder, and as `read` does.
    """
    from graphtool.matching.recipe import read_recipe
    from graphtool.merging.manifest import (
        PAIRS_FILE,
        changed_files,
        changed_folder,
        file_in,
        missing_pairs_warnings,
        no_program,
        original_file,
        read_manifest,
        restored_graph,
    )
    from graphtool.sources import read

    manifest = read_manifest(folder)
    if not manifest.teachers:
        raise no_program(folder, "its manifest names no teacher")
    *others, record = manifest.teachers
    kind = manifest.kind
    teacher, student = (
        restored_graph(folder, read(file_in(folder, original_file(role, index, kind))), saved)
        for role, index, saved in (
            ("teacher", len(others), record.teacher),
            ("student", 0, manifest.teachers[0].student),
        )
    )
    # A string of several lines is the text of a recipe, not the path of one.
    recipe: str | Path = f"\n{record.losses}" if record.losses else ""
    if not recipe and (folder / PAIRS_FILE).is_file():
        recipe = file_in(folder, PAIRS_FILE)
    pairs = read_recipe(recipe, teacher=teacher, student=student).pairs if recipe else ()
    merge = Merge(
        prefix=record.prefix,
        feed_map=record.feed_map,
        losses=bool(record.losses),
        others=tuple(earlier.prefix for earlier in others),
    )
    files = changed_files(folder, manifest)
    changed = replace(changed_folder(str(folder), files), severity=Severity.WARNING)
    found = (*((changed,) if files else ()), *missing_pairs_warnings(folder, manifest))
    return Scene(pairs=_numbered(teacher, student, pairs), merge=merge), Report(found)
