"""Which Operators make which block: each block takes what it depends on and nobody has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphtool.structure._chain import dependants
from graphtool.structure._flow import Flow, Step
from graphtool.structure._structure import Structure

__all__ = ["Claims", "blocks_of"]


@dataclass(slots=True)
class Claims:
    """Shares steps out; `taken` are the results of those that are taken already."""

    flow: Flow
    order: Mapping[str, int]
    taken: set[str] = field(default_factory=set[str])

    @classmethod
    def of(cls, flow: Flow) -> Claims:
        """Start with nothing taken."""
        return cls(flow, {name: i for i, name in enumerate(flow.steps)})

    def take(self, end: str) -> tuple[Step, ...]:
        """Take what a Value depends on and nobody has."""
        found = self.wanted(end)
        self.taken.update(step.result for step in found)
        return found

    def counts(self, ends: Sequence[str]) -> Mapping[str, int]:
        """Count how many of these Values depend on each step that nobody has."""
        return dependants(self.flow, ends, self.taken)

    def wanted(self, end: str) -> tuple[Step, ...]:
        """Return what a Value depends on and nobody has, in program order."""
        maker = self.flow.maker
        pending, found = [end], dict[str, Step]()
        while pending:
            step = maker.get(pending.pop())
            if step is None or step.result in self.taken or step.result in found:
                continue
            found[step.result] = step
            pending.extend(step.data)
        return tuple(found[name] for name in sorted(found, key=self.order.__getitem__))


def blocks_of(structure: Structure) -> Mapping[str, tuple[Step, ...]]:
    """Return the steps of each block of the stages and each layer of the encoder, by its output."""
    layers = () if structure.encoder is None else structure.encoder.hidden_states
    ends = {name for stage in structure.stages for name in stage.blocks} | set(layers)
    claims = Claims.of(structure.flow)
    in_order = sorted(ends, key=lambda name: (structure.flow.depth[name], name))
    shared = {end: claims.take(end) for end in in_order}
    return {end: steps for end, steps in shared.items() if steps}
