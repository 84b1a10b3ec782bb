"""Which Values every path from the input to a Value passes: its dominators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from graphtool.structure._flow import Flow

__all__ = ["Dominators", "dominators_of"]


@dataclass(frozen=True, slots=True)
class Dominators:
    """The dominator tree of the feature maps: `parent` is the nearest dominator, None at the top.

    Found in one pass in program order, since a Graph has no cycles (Cooper, Harvey, Kennedy 2001,
    "A simple, fast dominance algorithm").
    """

    parent: Mapping[str, str | None]
    level: Mapping[str, int]

    def above(self, name: str) -> Iterable[str]:
        """Yield the dominators of a Value, the nearest first."""
        parent = self.parent.get(name)
        while parent is not None:
            yield parent
            parent = self.parent[parent]

    def common(self, names: Iterable[str]) -> str | None:
        """Return the nearest Value that dominates all of these, None where only the input does."""
        return _common(self.parent, self.level, names)


def dominators_of(flow: Flow) -> Dominators:
    """Find for each feature map the nearest Value that every path to it passes."""
    parent: dict[str, str | None] = {}
    level: dict[str, int] = {}
    for step in flow.steps.values():
        if step.result not in flow.features:
            continue
        above = _common(parent, level, (name for name in step.features if name in parent))
        for name in step.operator.results:
            parent[name] = above
            level[name] = 0 if above is None else level[above] + 1
    return Dominators(parent, level)


def _common(
    parent: Mapping[str, str | None], level: Mapping[str, int], names: Iterable[str]
) -> str | None:
    found: str | None = None
    for index, name in enumerate(names):
        found = name if index == 0 else _meet(parent, level, found, name)
    return found


def _meet(
    parent: Mapping[str, str | None], level: Mapping[str, int], a: str | None, b: str | None
) -> str | None:
    """Climb from both until they meet."""
    while a != b:
        if a is None or b is None:
            return None
        if level[a] >= level[b]:
            a = parent[a]
        else:
            b = parent[b]
    return a
