"""Which Values every path from the input to a Value passes: its dominators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from graphtool.structure._flow import Flow

__all__ = ["Dominators", "dominators_of"]


@dataclass(slots=True)
class Dominators:
    """The dominator tree of the feature maps: `parent` is the nearest dominator, None at the top.

    Found in one pass in program order, since a Graph has no cycles (Cooper, Harvey, Kennedy 2001,
    "A simple, fast dominance algorithm"). What dominates several Values is found in logarithmic
    time by `jumps`, which go past many dominators at once (Myers 1983, "An applicative
    random-access stack").
    """

    parent: dict[str | None, str | None] = field(default_factory=lambda: {None: None})
    jumps: dict[str | None, str | None] = field(default_factory=lambda: {None: None})
    level: dict[str | None, int] = field(default_factory=lambda: {None: 0})

    def put(self, name: str, parent: str | None) -> None:
        """Hang a Value under its nearest dominator."""
        jump = self.jumps[parent]
        level, middle, end = (self.level[one] for one in (parent, jump, self.jumps[jump]))
        self.parent[name], self.level[name] = parent, level + 1
        self.jumps[name] = self.jumps[jump] if level - middle == middle - end else parent

    def above(self, name: str) -> Iterator[str]:
        """Yield the dominators of a Value, the nearest first."""
        parent = self.parent.get(name)
        while parent is not None:
            yield parent
            parent = self.parent[parent]

    def common(self, names: Iterable[str]) -> str | None:
        """Return the nearest Value that dominates all of these, None where only the input does."""
        found: str | None = None
        for index, name in enumerate(names):
            found = name if index == 0 else self._meet(found, name)
        return found

    def _meet(self, a: str | None, b: str | None) -> str | None:
        """Climb from both until they meet."""
        low = min(self.level[a], self.level[b])
        a, b = self._at(a, low), self._at(b, low)
        while a != b:
            ways = self.parent if self.jumps[a] == self.jumps[b] else self.jumps
            a, b = ways[a], ways[b]
        return a

    def _at(self, name: str | None, level: int) -> str | None:
        """Return which of a Value and its dominators lies at a level."""
        while self.level[name] > level:
            jump = self.jumps[name]
            name = self.parent[name] if self.level[jump] < level else jump
        return name


def dominators_of(flow: Flow) -> Dominators:
    """Find for each feature map the nearest Value that every path to it passes."""
    tree = Dominators()
    for step in flow.steps.values():
        if step.result in flow.features:
            above = tree.common(name for name in step.features if name in tree.parent)
            for name in step.operator.results:
                tree.put(name, above)
    return tree
