"""Paths through a network: dominators, cut vertices, ancestors and dependants."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from graphtool.structure._flow import Flow, Step

__all__ = [
    "Dominators",
    "ancestors",
    "cut_values",
    "dependant_counts",
    "dominators_of",
    "steps_between",
]


@dataclass(slots=True)
class Dominators:
    """The dominator tree of the feature maps: `parent` is the immediate dominator, None at the top.

    Built in one pass in program order, since a Graph has no cycles (Cooper, Harvey, Kennedy 2001,
    "A simple, fast dominance algorithm"). The nearest common dominator is found in logarithmic time
    by `jumps`, which skip many dominators at once (Myers 1983, "An applicative random-access
    stack"). `level` is the depth in the tree, `joins` the number of joins from the top to a Value.
    """

    parent: dict[str | None, str | None] = field(default_factory=lambda: {None: None})
    jumps: dict[str | None, str | None] = field(default_factory=lambda: {None: None})
    level: dict[str | None, int] = field(default_factory=lambda: {None: 0})
    joins: dict[str | None, int] = field(default_factory=lambda: {None: 0})

    def add(self, name: str, parent: str | None, *, joins: bool) -> None:
        """Add a Value below its immediate dominator; `joins` says whether a join makes it."""
        self.joins[name] = self.joins[parent] + joins
        jump = self.jumps[parent]
        level, middle, end = (self.level[one] for one in (parent, jump, self.jumps[jump]))
        self.parent[name], self.level[name] = parent, level + 1
        self.jumps[name] = self.jumps[jump] if level - middle == middle - end else parent

    def strict_dominators(self, name: str) -> Iterator[str]:
        """Yield the strict dominators of a Value, the nearest first."""
        parent = self.parent.get(name)
        while parent is not None:
            yield parent
            parent = self.parent[parent]

    def nearest_common(self, names: Iterable[str]) -> str | None:
        """Return the nearest Value that dominates all of these, None where only the input does."""
        found: str | None = None
        for index, name in enumerate(names):
            found = name if index == 0 else self._intersect(found, name)
        return found

    def _intersect(self, a: str | None, b: str | None) -> str | None:
        """Return the nearest common dominator of two Values."""
        low = min(self.level[a], self.level[b])
        a, b = self._at_level(a, low), self._at_level(b, low)
        while a != b:
            edges = self.parent if self.jumps[a] == self.jumps[b] else self.jumps
            a, b = edges[a], edges[b]
        return a

    def _at_level(self, name: str | None, level: int) -> str | None:
        """Return the dominator of a Value at a level, which may be the Value itself."""
        while self.level[name] > level:
            jump = self.jumps[name]
            name = self.parent[name] if self.level[jump] < level else jump
        return name


def dominators_of(flow: Flow, sources: Iterable[str]) -> Dominators:
    """Build the dominator tree of the feature maps that depend on any of the sources."""
    tree, reached = Dominators(), set(sources)
    for step in flow.steps.values():
        if reached.isdisjoint(step.data):
            continue
        reached.update(step.operator.results)
        if step.result in flow.features:
            parent = tree.nearest_common(name for name in step.features if name in tree.parent)
            for name in step.operator.results:
                tree.add(name, parent, joins=flow.joins(step))
    return tree


def ancestors(flow: Flow, target: str, indexing: Collection[str] = ()) -> set[str]:
    """Return the main results that a Value depends on, itself included.

    `indexing` are kinds of operators whose other operands are indices into the first: those are
    not followed.
    """
    pending, seen = [target], {target}
    while pending:
        step = flow.maker.get(pending.pop())
        data = step.data if step else ()
        for name in data[:1] if step and step.kind in indexing else data:
            if name not in seen:
                seen.add(name)
                pending.append(name)
    return {flow.maker[name].result for name in seen if name in flow.maker}


def dependant_counts(
    flow: Flow, targets: Sequence[str], stop: Collection[str] = ()
) -> Mapping[str, int]:
    """Count how many of these Values depend on each step, or are its results; 0 is left out.

    One backward pass for all of them. The search ends at the steps `stop`.
    """
    masks: dict[str, int] = {}

    def mark(name: str, mask: int) -> None:
        step = flow.maker.get(name)
        if step is not None and step.result not in stop:
            masks[step.result] = masks.get(step.result, 0) | mask

    for bit, name in enumerate(targets):
        mark(name, 1 << bit)
    for step in reversed(tuple(flow.steps.values())):
        mask = masks.get(step.result, 0)
        for name in step.data if mask else ():
            mark(name, mask)
    return {name: mask.bit_count() for name, mask in masks.items()}


def steps_between(flow: Flow, sources: Iterable[str], target: str) -> tuple[Step, ...]:
    """Return the steps on paths from any source to the target, in program order."""
    needed = ancestors(flow, target)
    reached = set(sources)
    found: list[Step] = []
    for step in flow.steps.values():
        if step.result in needed and any(name in reached for name in step.data):
            reached.update(step.operator.results)
            found.append(step)
    return tuple(found)


def cut_values(
    flow: Flow,
    steps: Sequence[Step],
    anchors: Collection[str] = (),
    skips: Collection[tuple[str, str]] = (),
) -> tuple[str, ...]:
    """Return the cut vertices of these steps: the Values that every path through them passes.

    The steps are in topological order, and each lies on a path from source to target. A Value is
    then on every path exactly when no edge starts before it and ends after it, whatever the order
    of independent steps. An edge across more than one of the `anchors` is ignored: it is a
    long-range connection, not the residual of one layer. So is the use of a Value in the join that
    it is named with in `skips`.
    """
    anchors_before = list(accumulate((step.result in anchors for step in steps), initial=0))
    position = {name: i for i, step in enumerate(steps) for name in step.operator.results}
    last_use: dict[int, int] = {}
    for index, step in enumerate(steps):
        for name in step.features:
            if name not in position or (name, step.result) in skips:
                continue
            start = position[name]
            if anchors_before[index] - anchors_before[start + 1] <= 1:
                last_use[start] = index
    reach, found = -1, list[str]()
    for index, step in enumerate(steps):
        if reach <= index and step.result in flow.features:
            found.append(step.result)
        reach = max(reach, last_use.get(index, index))
    return tuple(found)
