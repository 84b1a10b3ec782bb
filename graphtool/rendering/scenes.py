"""What can be drawn, whatever it comes from: one network, or a teacher and a student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.diagnostics import Report, UsageError
from graphtool.graph import Graph
from graphtool.matching import PairSet
from graphtool.rendering import problems
from graphtool.structure import Structure, analyse

# What merging needs is imported where something is merged: it takes half as long as a picture.
if TYPE_CHECKING:
    from graphtool.checks import MergePlan

__all__ = [
    "Drawable",
    "Merge",
    "Scene",
    "Subject",
    "is_merged_folder",
    "scene_of_plan",
    "subject_of",
]

_MANIFEST = "manifest.json"
# What there is a picture of: live Programs, Networks and what merging gives hold what is Paddle's.
Drawable: TypeAlias = "Graph | PairSet | Report | Scene | str | PathLike[str] | Any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """What merging makes of two networks; `losses` says that pairs are built into the Program.

    `others` are the prefixes of teachers that are in it as well and are not drawn.
    """

    prefix: str
    feed_map: Mapping[str, str]
    losses: bool = False
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Two networks side by side: their pairs, what a Report found, or how they are merged."""

    pairs: PairSet
    report: Report | None = None
    merge: Merge | None = None

    @property
    def graphs(self) -> tuple[Graph, Graph]:
        """The teacher's and the student's."""
        return self.pairs.teacher, self.pairs.student

    @cached_property
    def structures(self) -> tuple[Structure, Structure]:
        """What was found out about the teacher and the student."""
        teacher, student = map(analyse, self.graphs)
        return teacher, student


# A network, or two with what lies between them.
Subject: TypeAlias = "Graph | Scene"


def scene_of_plan(plan: MergePlan, pairs: PairSet | None = None) -> Scene:
    """Return the networks of a merge with the pairs that are to be distilled."""
    return Scene(
        pairs=pairs or PairSet(teacher=plan.teacher, student=plan.student, pairs=()),
        merge=Merge(prefix=plan.prefix, feed_map=dict((*plan.feed_map, *plan.own_feeds))),
    )


def subject_of(x: Drawable) -> tuple[Subject, Report]:
    """Return what is to be drawn of a Graph, a PairSet, a Report, a Merged, or what `read` takes.

    Of the folder of a merge, the report warns of what has changed since it was saved: GT618, GT637.

    Raises UsageError: GT411 for a Report that speaks of no two networks; ReadError as `read` does.
    """
    if isinstance(x, (str, PathLike)):
        return _of_path(fspath(x))
    return _of_other(x), Report()


def _of_path(path: str) -> tuple[Subject, Report]:
    from graphtool.readers import read

    return _of_folder(Path(path)) if is_merged_folder(path) else (read(path), Report())


def _of_other(x: Drawable) -> Subject:
    if isinstance(x, (Graph, Scene)):
        return x
    if isinstance(x, PairSet):
        return Scene(pairs=x)
    return _of_report(x) if isinstance(x, Report) else _of_live(x)


def _of_report(report: Report) -> Scene:
    graphs = [graph for graph in report.about if isinstance(graph, Graph)]
    if len(graphs) != 2:
        raise UsageError(problems.report_of_nothing())
    return Scene(pairs=PairSet(teacher=graphs[0], student=graphs[1], pairs=()), report=report)


def is_merged_folder(path: str) -> bool:
    """Tell a folder that `graphtool merge` wrote from one that holds a model."""
    return Path(path, _MANIFEST).is_file()


def _of_folder(folder: Path) -> tuple[Scene, Report]:
    from graphtool.rendering._built import built_pairs
    from graphtool.rendering._folder import opened

    found = opened(folder)
    built = built_pairs(found.teacher, found.student, found.merged, found.values)
    merge = Merge(
        prefix=found.prefix, feed_map=found.feed_map, losses=bool(built), others=found.others
    )
    return Scene(pairs=built if built else found.pairs, merge=merge), found.report


def _of_live(x: Drawable) -> Subject:
    from graphtool.merging import Merged
    from graphtool.readers import read
    from graphtool.readers.live import LiveProgram
    from graphtool.rendering._built import built_pairs

    if not isinstance(x, Merged):
        return read(x)
    # Before the first of several merges, the student was alone.
    teacher, student = x.source.graph, x.teachers[0].before.graph
    # The Program as it is now, with the losses that were added since.
    built = built_pairs(teacher, student, LiveProgram.of(x.program).graph, x.values)
    others = tuple(one.prefix for one in x.teachers if one is not x)
    merge = Merge(prefix=x.prefix, feed_map=x.feed_map, losses=bool(built), others=others)
    return Scene(pairs=built, merge=merge)
