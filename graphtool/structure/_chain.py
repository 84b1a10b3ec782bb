"""The main line of a network: what every path from the input passes, and where it ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate

from graphtool.structure._dominators import Dominators
from graphtool.structure._flow import Flow, Step
from graphtool.structure._resolution import GLOBAL, Scale
from graphtool.structure._vocabulary import (
    ACTIVATIONS,
    CONVOLUTIONS,
    IDENTITIES,
    JOINS,
    NORMS,
    RESIZES,
)

__all__ = [
    "ancestors",
    "between",
    "cuts",
    "deepest_map",
    "dependants",
    "is_grouped",
    "kernel_size",
    "resolution_changes",
]


def deepest_map(
    flow: Flow,
    scales: Mapping[str, Scale],
    changes: Mapping[str, int],
    tree: Dominators,
    within: Collection[str],
) -> str | None:
    """Return the last Value of the first run at the lowest resolution that maps reach.

    Only convolutions and joins count as reaching it. A neck that comes back to that resolution
    after up-sampling changes resolution more often, so it isn't chosen; where the run is itself
    up-sampled, it ends there, before a lateral convolution; where it is joined with something that
    was up-sampled (the pooled branch of an ASPP), before the branches. `changes` are those of
    `resolution_changes`; only the maps `within` are looked at.
    """
    maps = [
        step for name, step in flow.steps.items() if name in within and _is_map(flow, step, scales)
    ]
    if not maps:
        return None
    lowest = min(scales[step.result].area for step in maps)
    least = min(changes[step.result] for step in maps if scales[step.result].area == lowest)
    run = [
        name
        for name, count in changes.items()
        if count == least
        and name in within
        and scales[name].area == lowest
        and name in flow.features
    ]
    rejoined = [name for name in run if _joins_enlarged(flow, name)]
    if rejoined:
        first = min(rejoined, key=lambda name: (flow.depth[name], name))
        return tree.parent[first] or first
    turning = [name for name in run if _is_enlarged(flow, scales, name)]
    if turning:
        return _before_lateral(flow, min(turning, key=lambda name: (flow.depth[name], name)))
    return max(run, key=lambda name: (flow.depth[name], name))


def _joins_enlarged(flow: Flow, name: str) -> bool:
    """Tell a join one of whose branches was up-sampled right before it."""
    step = flow.maker[name]
    makers = (flow.maker.get(branch) for branch in flow.branches(step))
    return step.kind in JOINS and any(x is not None and x.kind in RESIZES for x in makers)


def _before_lateral(flow: Flow, turn: str) -> str:
    """Return what a neck's first convolution reads, if one leads to where the neck turns up.

    That is a dense 1×1 convolution behind which nothing sees neighbours (the 1×1 half of a
    separable convolution, which a grouped one comes before, belongs to the backbone), or any
    convolution behind a residual block.
    """
    line = cuts(flow, between(flow, flow.graph.feeds, turn))
    steps = [flow.steps[name] for name in reversed(line)]
    last = next((step for step in steps if step.kind in CONVOLUTIONS and step.weighted), None)
    if last is None or not last.features:
        return turn
    before = last.features[0]
    source = _past(flow, flow.maker.get(before))
    if kernel_size(flow, last) > 1:
        is_residual = source is not None and source.kind == "add" and len(source.features) > 1
        return before if is_residual else turn
    return turn if source is not None and is_grouped(source) else before


def _past(flow: Flow, step: Step | None) -> Step | None:
    """Go back over normalisations, activations and biases."""
    while step is not None and step.kind in _BETWEEN_HALVES and len(step.features) == 1:
        step = flow.maker.get(step.features[0])
    return step


_BETWEEN_HALVES = NORMS | ACTIVATIONS | IDENTITIES | {"add", "multiply"}


def is_grouped(step: Step) -> bool:
    """Tell a convolution of several groups, as the depthwise half of a separable one is."""
    groups = step.operator.attributes.get("groups")
    return isinstance(groups, int) and groups > 1


def kernel_size(flow: Flow, step: Step) -> int:
    """Return the longest side of a convolution's kernel."""
    shapes = (flow.graph.values[name].shape for name in step.weights)
    return max(next((shape for shape in shapes if shape and len(shape) > 2), (1, 1, 1))[2:])


def _is_enlarged(flow: Flow, scales: Mapping[str, Scale], name: str) -> bool:
    """Tell whether a step makes this map larger."""
    area = scales[name].area
    after = (scales.get(step.result, GLOBAL) for step in flow.consumers.get(name, ()))
    return any(scale.area > area for scale in after)


def _is_map(flow: Flow, step: Step, scales: Mapping[str, Scale]) -> bool:
    scale = scales.get(step.result)
    if scale is None or scale == GLOBAL or step.result not in flow.features:
        return False
    return (step.kind in CONVOLUTIONS and step.weighted) or (
        step.kind in JOINS and len(step.features) > 1
    )


def resolution_changes(flow: Flow, scales: Mapping[str, Scale]) -> Mapping[str, int]:
    """Count for each Value how often the resolution changes on the way to it, along maps."""
    changes: dict[str, int] = {}
    for step in flow.steps.values():
        scale = scales.get(step.result)
        if scale is None or scale == GLOBAL:
            continue
        before = [
            changes.get(name, 0) + (scales[name] != scale)
            for name in step.data
            if name in scales and scales[name] != GLOBAL
        ]
        changes[step.result] = max(before, default=0)
        changes.update(dict.fromkeys(step.operator.results, changes[step.result]))
    return changes


def between(flow: Flow, sources: Iterable[str], target: str) -> tuple[Step, ...]:
    """Return the steps on feature paths from any source to the target, in program order."""
    needed = ancestors(flow, target)
    reached = set(sources)
    found: list[Step] = []
    for step in flow.steps.values():
        if step.result in needed and any(name in reached for name in step.data):
            reached.update(step.operator.results)
            found.append(step)
    return tuple(found)


def ancestors(flow: Flow, target: str, selecting: Collection[str] = ()) -> set[str]:
    """Return what a Value depends on, itself included: the main results of steps.

    Of steps of the kinds `selecting`, which read elements at places, only the elements count.
    """
    pending, seen = [target], {target}
    while pending:
        step = flow.maker.get(pending.pop())
        data = step.data if step else ()
        for name in data[:1] if step and step.kind in selecting else data:
            if name not in seen:
                seen.add(name)
                pending.append(name)
    return {flow.maker[name].result for name in seen if name in flow.maker}


def dependants(
    flow: Flow, targets: Sequence[str], taken: Collection[str] = ()
) -> Mapping[str, int]:
    """Count how many of these Values depend on each step, or are its results; 0 is left out.

    One pass backwards for all of them; the steps `taken` are not gone past.
    """
    found: dict[str, int] = {}

    def mark(name: str, marks: int) -> None:
        step = flow.maker.get(name)
        if step is not None and step.result not in taken:
            found[step.result] = found.get(step.result, 0) | marks

    for place, name in enumerate(targets):
        mark(name, 1 << place)
    for step in reversed(tuple(flow.steps.values())):
        marks = found.get(step.result)
        for name in step.data if marks else ():
            mark(name, marks or 0)
    return {name: marks.bit_count() for name, marks in found.items()}


def cuts(flow: Flow, steps: Sequence[Step], anchors: Collection[str] = ()) -> tuple[str, ...]:
    """Return the Values that every path through these steps passes: no edge jumps over them.

    In any topological order of steps that all lie on a path from source to target, a Value is on
    every path exactly when no edge starts before and ends after it; so the order in which
    independent steps stand doesn't matter. An edge that jumps over more than one of the `anchors`
    is left out: it's no residual of one layer but a connection from far away.
    """
    passed = list(accumulate((step.result in anchors for step in steps), initial=0))
    position = {name: i for i, step in enumerate(steps) for name in step.operator.results}
    reach, found = -1, list[str]()
    last_use: dict[int, int] = {}
    for index, step in enumerate(steps):
        for name in step.features:
            if name in position and passed[index] - passed[position[name] + 1] <= 1:
                last_use[position[name]] = index
    for index, step in enumerate(steps):
        if reach <= index and step.result in flow.features:
            found.append(step.result)
        reach = max(reach, last_use.get(index, index))
    return tuple(found)
