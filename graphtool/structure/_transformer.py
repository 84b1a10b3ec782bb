"""Encoder layers of a transformer: attention scores, hidden states, embeddings."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphtool.structure._chain import between, cuts
from graphtool.structure._flow import Flow, Step
from graphtool.structure._resolution import Scale
from graphtool.structure._stages import Stage
from graphtool.structure._vocabulary import IDENTITIES, NORMS, PRODUCTS, RESHAPES

__all__ = ["Encoder", "encoder_of", "inside_attention", "mixer_of"]

_FUSED_ATTENTION = frozenset(
    {"flash_attn", "memory_efficient_attention", "fused_attention", "scaled_dot_product_attention"}
)
_SEQUENCE, _HEADS = 3, 4
_BETWEEN_PRODUCT_AND_SOFTMAX = IDENTITIES | RESHAPES | {"add", "multiply", "where", "divide"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Projections:
    """What one attention multiplies, each [N, heads, L, D]: queries by keys, and values."""

    queries: str
    keys: str
    values: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """The layers of a transformer, in order.

    `embeddings` goes into the first layer, `hidden_states[i]` comes out of layer i, `scores[i]` are
    its attention scores before the softmax (None where a fused operator keeps them to itself).
    `projections` are those of the last layer, where relations inside attention are compared.
    """

    embeddings: str | None
    hidden_states: tuple[str, ...]
    scores: tuple[str | None, ...]
    projections: Projections | None = None

    @property
    def states(self) -> tuple[str | None, ...]:
        """All hidden states, 0 the embeddings."""
        return (self.embeddings, *self.hidden_states)


def encoder_of(flow: Flow, target: str) -> Encoder | None:
    """Find the encoder layers on the way to `target`; None where there are fewer than two."""
    steps = between(flow, flow.graph.feeds, target)
    anchors = [step for step in steps if _is_attention(flow, step)]
    if len(anchors) < 2:
        return None
    anchors.sort(key=lambda step: flow.depth[step.result])
    line = cuts(flow, steps, {step.result for step in anchors})
    segments = _segments(flow, line, anchors)
    states = _hidden_states(flow, segments[1:])
    if len(states) != len(anchors):
        return None
    return Encoder(
        embeddings=segments[0][-1] if segments[0] else None,
        hidden_states=states,
        scores=tuple(_scores(step) for step in anchors),
        projections=_projections(flow, anchors[-1]),
    )


def mixer_of(flow: Flow, stages: Sequence[Stage]) -> Encoder | None:
    """Find layers without attention, as those of an MLP-Mixer: sequences that repeat a pattern.

    A layer is several joins in a row; it ends where the pattern does.
    """
    tokens = [stage for stage in stages if _rank(flow, stage.end) == _SEQUENCE]
    if not tokens:
        return None
    stage = max(tokens, key=lambda stage: len(stage.blocks))
    joins = [name for name in stage.blocks if _rank(flow, name) == _SEQUENCE]
    start = stage.values.index(joins[0]) - 1
    line = [stage.values[start], *joins] if start >= 0 else joins
    period = _period(_patterns(flow, line)[-len(joins) :])
    states = tuple(joins[period - 1 :: period])
    if len(states) < 2 or len(joins) % period:
        return None
    return Encoder(
        embeddings=stage.values[start] if start >= 0 else None,
        hidden_states=states,
        scores=(None,) * len(states),
    )


def _patterns(flow: Flow, ends: Sequence[str]) -> list[tuple[str, ...]]:
    """Return for each of these Values the kinds of the steps between it and the one before."""
    depths = [flow.depth[name] for name in ends]
    kinds: list[list[str]] = [[] for _ in range(len(ends) + 1)]
    for step in flow.steps.values():
        kinds[bisect_left(depths, flow.depth[step.result])].append(step.kind)
    return [tuple(sorted(several)) for several in kinds[: len(ends)]]


def _period(patterns: Sequence[tuple[str, ...]]) -> int:
    """Return the length of the shortest pattern that repeats to the end."""
    lengths = range(1, len(patterns) + 1)
    repeats = (n for n in lengths if all(map(operator.eq, patterns, patterns[n:])))
    return next(repeats)


def _rank(flow: Flow, name: str) -> int | None:
    return flow.graph.values[name].rank


def _is_attention(flow: Flow, step: Step) -> bool:
    if step.kind in _FUSED_ATTENTION:
        return True
    return step.kind == "softmax" and _product_before(flow, step) is not None


def _product_before(flow: Flow, softmax: Step) -> Step | None:
    """Return the product of two features that a softmax normalises, past scaling and a mask."""
    step = _before(flow, softmax)
    while step is not None and step.kind in _BETWEEN_PRODUCT_AND_SOFTMAX:
        step = _before(flow, step)
    is_product = step is not None and step.kind in PRODUCTS and len(step.features) > 1
    return step if is_product else None


def _before(flow: Flow, step: Step) -> Step | None:
    return flow.maker.get(step.features[0]) if step.features else None


def inside_attention(flow: Flow, scales: Mapping[str, Scale]) -> frozenset[str]:
    """Return what keys and values are made from at a resolution below that of the queries.

    PVT and SegFormer reduce maps inside of attention; the network itself stays where it was.
    """
    found: set[str] = set()
    for step in flow.steps.values():
        product = _product_before(flow, step) if step.kind == "softmax" else None
        values = None if product is None else _values(flow, step)
        if product is None or values is None:
            continue
        queries, keys = (scales.get(name) for name in product.features[:2])
        if queries is not None and keys is not None and keys.area < queries.area:
            for name in (product.features[1], values):
                found.update(_at_scale(flow, scales, name))
    return frozenset(found)


def _at_scale(flow: Flow, scales: Mapping[str, Scale], name: str) -> Iterator[str]:
    """Yield what a Value is made from, as long as the resolution stays."""
    scale, pending, seen = scales.get(name), [name], {name}
    while pending:
        step = flow.maker.get(pending.pop())
        if step is None:
            continue
        yield from step.operator.results
        before = [one for one in step.features if one not in seen and scales.get(one) == scale]
        seen.update(before)
        pending.extend(before)


def _scores(step: Step) -> str | None:
    return step.features[0] if step.kind == "softmax" else None


def _projections(flow: Flow, softmax: Step) -> Projections | None:
    """Find what is multiplied before and after a softmax, laid out alike."""
    before, values = _product_before(flow, softmax), _values(flow, softmax)
    if before is None or values is None:
        return None
    queries, keys = (_unscaled(flow, name) for name in before.features[:2])
    turned = flow.maker.get(keys)
    if turned is not None and turned.kind == "transpose" and _turns_last_two(flow, turned):
        keys = _unscaled(flow, turned.features[0])
    shapes = {flow.graph.values[name].shape for name in (queries, keys, values)}
    alike = len(shapes) == 1 and all(shape and len(shape) == _HEADS for shape in shapes)
    return Projections(queries=queries, keys=keys, values=values) if alike else None


def _unscaled(flow: Flow, name: str) -> str:
    """Go back over the factor 1/√D, which a relation has itself."""
    step = flow.maker.get(name)
    while step is not None and step.kind in IDENTITIES and step.features:
        name = step.features[0]
        step = flow.maker.get(name)
    return name


def _turns_last_two(flow: Flow, step: Step) -> bool:
    before, after = (flow.graph.values[name].shape for name in (step.features[0], step.result))
    if not before or not after:
        return False
    return before[:-2] == after[:-2] and before[:-3:-1] == after[-2:]


def _values(flow: Flow, softmax: Step) -> str | None:
    """Return what the attention probabilities are multiplied with, past dropout."""
    name = softmax.result
    while True:
        readers = flow.consumers.get(name, ())
        product = next((x for x in readers if x.kind in PRODUCTS and len(x.features) > 1), None)
        if product is not None:
            return next((x for x in product.features if x != name), None)
        behind = next((x for x in readers if x.kind in IDENTITIES), None)
        if behind is None:
            return None
        name = behind.result


def _segments(flow: Flow, line: Sequence[str], anchors: Sequence[Step]) -> list[list[str]]:
    """Split the main line at the anchors: what comes before the first, then after each."""
    segments: list[list[str]] = [[] for _ in range(len(anchors) + 1)]
    depths = [flow.depth[step.result] for step in anchors]
    for name in line:
        segments[bisect_left(depths, flow.depth[name])].append(name)
    return segments


def _hidden_states(flow: Flow, segments: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Take from each layer the last residual join or, if those come first, the norm behind it.

    Whether they do is what most layers say: behind the last layer a norm may follow in any case.
    """
    joins = [_last_join(flow, segment) for segment in segments]
    if not joins or None in joins:
        return ()
    behind = [
        _norm_behind(flow, segment, join) for segment, join in zip(segments, joins, strict=True)
    ]
    are_post = 2 * sum(norm is not None for norm in behind[:-1]) > len(behind) - 1
    ends = [norm if are_post and norm else join for norm, join in zip(behind, joins, strict=True)]
    return tuple(end for end in ends if end is not None)


def _last_join(flow: Flow, segment: Sequence[str]) -> str | None:
    steps = (flow.steps[name] for name in reversed(segment))
    return next((x.result for x in steps if x.kind == "add" and len(x.features) > 1), None)


def _norm_behind(flow: Flow, segment: Sequence[str], join: str | None) -> str | None:
    """Return the normalisation right behind a join, or the factors and biases put in its place."""
    after = [flow.steps[name] for name in segment[segment.index(join) + 1 :]] if join else []
    while after and after[0].kind in IDENTITIES:
        after = after[1:]
    if after and after[0].kind in NORMS:
        return after[0].result
    affine = [step.kind for step in after[:2] if step.weights and len(step.features) == 1]
    return after[1].result if affine == ["multiply", "add"] else None
