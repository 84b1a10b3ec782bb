"""Share a network's Operators out to the parts and blocks that a picture names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphtool.rendering._layers import layers_of, starts_layer
from graphtool.rendering.board import Part
from graphtool.structure import (
    GLOBAL,
    NORMS,
    POOLS,
    RESIZES,
    Claims,
    Head,
    Scale,
    Stage,
    Step,
    Structure,
)

__all__ = ["Section", "Unit", "sections_of"]


@dataclass(frozen=True, slots=True)
class Unit:
    """Steps that make a block, in program order, and the Value that it hands on."""

    steps: tuple[Step, ...]
    result: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a network; `place` is a Value at its resolution, which gives it its title."""

    part: Part
    place: str | None
    units: tuple[Unit, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where the blocks of a part end, in order."""

    part: Part
    place: str | None
    ends: list[str]


def sections_of(structure: Structure) -> tuple[Section, ...]:
    """Share out the forward Operators that an output depends on, each to one block.

    The ends of blocks come from the Structure, in order; each takes the Operators it depends on
    that no earlier one took. What is left belongs to a neck where several outputs depend on it, or
    where it works on maps behind the deepest one, and to the heads.
    """
    claims = Claims.of(structure.flow)
    plans = (*_stem(structure, claims), *_stage_plans(structure), *_encoder(structure))
    planned = [_planned(claims, plan) for plan in plans]
    found = [section for section in planned if section.units]
    rest = _left_over(structure, claims, is_whole=not found)
    return _with_pools_moved(structure, [*found, *rest])


def _with_pools_moved(structure: Structure, sections: Sequence[Section]) -> tuple[Section, ...]:
    """Draw a pool that leads from one part to the next as the last row of the first."""
    moved: list[Section] = []
    for section in sections:
        units = section.units
        if moved and _leads_with_pool(structure, units[0], after=moved[-1].units[-1]):
            pool, rest = units[0].steps[:1], units[0].steps[1:]
            before = (*moved[-1].units, Unit(pool, pool[0].result))
            moved[-1] = replace(moved[-1], units=before)
            units = (*((Unit(rest, units[0].result),) if rest else ()), *units[1:])
        if units:
            moved.append(replace(section, units=units))
    return tuple(moved)


def _leads_with_pool(structure: Structure, unit: Unit, *, after: Unit) -> bool:
    """Tell whether a block starts with a pool that alone reads the block before."""
    pool, *others = unit.steps
    if pool.kind not in POOLS or structure.scales.get(pool.result, GLOBAL) == GLOBAL:
        return False
    outside = set(after.steps[-1].operator.results) | {after.result}
    return outside.issuperset(pool.data) and not any(
        outside.intersection(step.data) for step in others
    )


def _planned(claims: Claims, plan: _Plan) -> Section:
    units = (Unit(claims.take(end), end) for end in plan.ends)
    return Section(plan.part, plan.place, tuple(unit for unit in units if unit.steps))


def _stem(structure: Structure, claims: Claims) -> Iterator[_Plan]:
    """Plan layers in a straight line at a higher resolution, before the first stage."""
    if not structure.stages:
        return
    stage, flow = structure.stages[0], structure.flow
    line: list[Step] = []
    for step in claims.wanted(stage.blocks[0]):
        goes_on = not line or step.data == (line[-1].result,)
        if not goes_on or structure.scales.get(step.result) == stage.scale:
            break
        line.append(step)
        if len(flow.consumers.get(step.result, ())) > 1:
            break
    if any(step.weighted for step in line):
        yield _Plan(Part.STAGE, line[-1].result, [layer[-1].result for layer in layers_of(line)])


def _stage_plans(structure: Structure) -> Iterator[_Plan]:
    for stage in structure.stages:
        ends = [*stage.blocks, *_tail(structure, stage)]
        yield _Plan(Part.STAGE, stage.end, ends)


def _tail(structure: Structure, stage: Stage) -> Iterator[str]:
    """Yield the ends of layers with weights behind the last block of a stage."""
    behind = structure.behind_blocks(stage)
    for layer in layers_of(structure.flow.steps[name] for name in behind):
        if any(step.weighted or step.kind in NORMS for step in layer):
            yield layer[-1].result


def _encoder(structure: Structure) -> Iterator[_Plan]:
    """Plan embeddings and encoder layers; inside of stages, the stages' blocks are drawn."""
    encoder, depth = structure.encoder, structure.flow.depth
    if encoder is None:
        return
    first = encoder.hidden_states[0]
    if structure.stages and depth[first] <= depth[structure.stages[-1].end]:
        return
    if encoder.embeddings is not None:
        yield _Plan(Part.EMBEDDINGS, None, [encoder.embeddings])
    yield _Plan(Part.ENCODER, first, list(encoder.hidden_states))


def _left_over(structure: Structure, claims: Claims, *, is_whole: bool) -> Iterator[Section]:
    """Share out what comes behind the stages and the encoder; where there are none, everything."""
    heads = structure.heads
    wanted = claims.counts([head.output for head in heads])
    if not is_whole:
        alone = _heads_alone(structure)
        neck = {name for name in wanted if _is_neck(structure, name, wanted, alone)}
        yield from _necks(structure, claims, _with_sources(structure, claims, wanted, neck))
    for head in heads:
        yield from _head(claims, head, is_whole=is_whole)


def _with_sources(
    structure: Structure, claims: Claims, wanted: Collection[str], neck: set[str]
) -> list[Step]:
    """Return the steps of a neck in program order, with all that only they depend on."""
    flow = structure.flow
    found = set(neck)
    for name in sorted(wanted, key=claims.order.__getitem__, reverse=True):
        results = flow.steps[name].operator.results
        readers = (step.result for made in results for step in flow.consumers.get(made, ()))
        if not found.isdisjoint(readers):
            found.add(name)
    return [flow.steps[name] for name in sorted(found, key=claims.order.__getitem__)]


def _is_neck(
    structure: Structure, name: str, wanted: Mapping[str, int], heads: Collection[str]
) -> bool:
    """Tell a step that several heads read, or that works on maps before the head alone."""
    if wanted[name] > 1:
        return True
    scale = structure.scales.get(name, GLOBAL)
    if scale == GLOBAL or not structure.stages or name in heads:
        return False
    return len(structure.heads) > 1 or scale.area > structure.stages[-1].scale.area


def _heads_alone(structure: Structure) -> frozenset[str]:
    """Return what lies in a straight line before each logits, and all that comes after them.

    Where there is one head, it is the layer that makes the logits; of several, all up to where
    maps join or change their resolution.
    """
    several = len(structure.heads) > 1
    found: set[str] = set()
    for head in structure.heads:
        found.update(_from_logits(structure, head))
        step = structure.flow.maker.get(head.logits)
        while (
            step is not None
            and step.result not in found
            and len(step.features) <= 1
            and step.kind not in RESIZES
        ):
            found.add(step.result)
            if not step.features or (step.weighted and not several):
                break
            step = structure.flow.maker.get(step.features[0])
    return frozenset(found)


def _from_logits(structure: Structure, head: Head) -> Iterator[str]:
    """Yield what lies between the logits and the output."""
    step = structure.flow.maker.get(head.output)
    while step is not None and head.logits not in step.operator.results and step.features:
        yield step.result
        step = structure.flow.maker.get(step.features[0])


def _necks(structure: Structure, claims: Claims, steps: Sequence[Step]) -> Iterator[Section]:
    """Group the steps of a neck by resolution, the lowest first, as information flows up again."""
    levels: dict[Scale, list[Step]] = {}
    for step, scale in zip(steps, _levels(structure, steps), strict=True):
        levels.setdefault(scale, []).append(step)
    for scale in sorted(levels, key=lambda scale: scale.area):
        level = levels[scale]
        claims.taken.update(step.result for step in level)
        place = None if scale == GLOBAL else level[-1].result
        yield Section(Part.NECK, place, tuple(_neck_units(structure, level)))


def _levels(structure: Structure, steps: Sequence[Step]) -> list[Scale]:
    """Return the resolution of each step; what gates a map has that of the map."""
    found: dict[str, Scale] = {}
    for step in reversed(steps):
        scale = structure.scales.get(step.result, GLOBAL)
        readers = structure.flow.consumers.get(step.result, ())
        read = (found[reader.result] for reader in readers if reader.result in found)
        found[step.result] = next(read, GLOBAL) if scale == GLOBAL else scale
    return [found[step.result] for step in steps]


def _neck_units(structure: Structure, steps: Sequence[Step]) -> Iterator[Unit]:
    """Split a level of a neck into layers, each with what gates it and what it is added to."""
    held: list[Step] = []
    made: set[str] = set()
    for step in steps:
        is_gate = structure.scales.get(step.result, GLOBAL) == GLOBAL
        joins_own = len(step.features) > 1 and made.issuperset(step.features)
        if held and starts_layer(step) and not (is_gate or joins_own):
            yield Unit(tuple(held), held[-1].result)
            held, made = [], set()
        held.append(step)
        made.update(step.operator.results)
    yield Unit(tuple(held), held[-1].result)


def _units(steps: Iterable[Step]) -> tuple[Unit, ...]:
    return tuple(Unit(layer, layer[-1].result) for layer in layers_of(steps))


def _head(claims: Claims, head: Head, *, is_whole: bool) -> Iterator[Section]:
    steps = claims.take(head.output)
    units = _units(steps)
    if not units:
        return
    if not is_whole:
        yield Section(Part.HEAD, None, units)
        return
    last = max((i for i, unit in enumerate(units) if _is_weighted(unit)), default=len(units))
    start = last if head.classifies and last > 0 else len(units)
    parts = (Part.BODY, units[:start]), (Part.HEAD, units[start:])
    yield from (Section(part, None, held) for part, held in parts if held)


def _is_weighted(unit: Unit) -> bool:
    return any(step.weighted for step in unit.steps)
