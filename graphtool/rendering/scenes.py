"""Convert the argument of `render` to a network, or to a Scene of teacher and student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.arguments import bad_argument
from graphtool.both import Both
from graphtool.diagnostics import Report, UsageError
from graphtool.graph import Graph
from graphtool.matching import PairSet
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

    @property
    def graphs(self) -> tuple[Graph, Graph]:
        """Return the teacher's Graph and the student's."""
        return self.pairs.teacher, self.pairs.student

    @cached_property
    def structures(self) -> Both[Structure]:
        """Return the analyses of both networks."""
        return Both(*self.graphs).map(analyse)


Subject: TypeAlias = "Graph | Scene"


def scene_of_plan(plan: MergePlan, pairs: PairSet | None = None) -> Scene:
    """Return the Scene of a planned merge, with the pairs of its recipe."""
    return Scene(
        pairs=pairs or PairSet(teacher=plan.teacher, student=plan.student, pairs=()),
        merge=Merge(prefix=plan.prefix, feed_map=dict((*plan.feed_map, *plan.unmapped_feeds))),
    )


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
    return _scene_of_report(x) if isinstance(x, Report) else _subject_of_live(x), Report()


def _scene_of_report(report: Report) -> Scene:
    graphs = [graph for graph in report.about if isinstance(graph, Graph)]
    if len(graphs) != 2:
        expected = "a Report about two networks, from `check_merge` or `check_pairs`"
        example = "gt.render(gt.check_merge(teacher, student, feed_map), path)"
        raise UsageError(bad_argument("x", report, expected, example))
    return Scene(pairs=PairSet(teacher=graphs[0], student=graphs[1], pairs=()), report=report)


def is_merged_folder(path: str) -> bool:
    """Return whether a path is a folder that `graphtool merge` wrote."""
    return Path(path, _MANIFEST).is_file()


def _scene_of_folder(folder: Path) -> tuple[Scene, Report]:
    from graphtool.rendering._merged_folder import read_merged_folder
    from graphtool.rendering._pairs_in_losses import pairs_in_losses

    saved = read_merged_folder(folder)
    pairs = pairs_in_losses(saved.teacher, saved.student, saved.merged, saved.values)
    merge = Merge(
        prefix=saved.prefix, feed_map=saved.feed_map, losses=bool(pairs), others=saved.others
    )
    return Scene(pairs=pairs if pairs else saved.pairs, merge=merge), saved.report


def _subject_of_live(x: Drawable) -> Subject:
    from graphtool.backend.live import LiveProgram
    from graphtool.merging import Merged
    from graphtool.rendering._pairs_in_losses import pairs_in_losses
    from graphtool.sources import read

    if not isinstance(x, Merged):
        return read(x)
    # The student as it was before the first of several merges.
    teacher, student = x.source.graph, x.teachers[0].before.graph
    # The current Program, with the losses added since the merge.
    pairs = pairs_in_losses(teacher, student, LiveProgram.of(x.program).graph, x.values)
    others = tuple(merged.prefix for merged in x.teachers if merged is not x)
    merge = Merge(prefix=x.prefix, feed_map=x.feed_map, losses=bool(pairs), others=others)
    return Scene(pairs=pairs, merge=merge)
