"""The main line of a network: what every path from the input passes, and where it ends."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import accumulate

from graphtool.structure._flow import Flow, Step
from graphtool.structure._resolution import GLOBAL, Scale
from graphtool.structure._vocabulary import CONVOLUTIONS, JOINS

__all__ = ["between", "cuts", "deepest_map", "resolution_changes"]


def deepest_map(flow: Flow, scales: Mapping[str, Scale], towards: str | None) -> str | None:
    """Return the last Value of the first run at the lowest resolution that maps reach.

    Only convolutions and joins count as reaching it. A neck that comes back to that resolution
    after up-sampling changes resolution more often, so it isn't chosen; where the run is itself
    up-sampled, it ends there, and what follows beside that is a head. Only maps on the way to
    `towards` are looked at, all where that is None.
    """
    changes = resolution_changes(flow, scales)
    within = flow.steps.keys() if towards is None else _ancestors(flow, towards)
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
    turning = [name for name in run if _is_enlarged(flow, scales, name)]
    return max(turning or run, key=lambda name: (flow.depth[name], name))


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
    needed = _ancestors(flow, target)
    reached = set(sources)
    found: list[Step] = []
    for step in flow.steps.values():
        if step.result in needed and any(name in reached for name in step.data):
            reached.update(step.operator.results)
            found.append(step)
    return tuple(found)


def _ancestors(flow: Flow, target: str) -> set[str]:
    pending, seen = [target], {target}
    while pending:
        step = flow.maker.get(pending.pop())
        for name in step.data if step else ():
            if name not in seen:
                seen.add(name)
                pending.append(name)
    return {flow.maker[name].result for name in seen if name in flow.maker}


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
