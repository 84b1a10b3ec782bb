"""Encoder layers of a transformer: attention scores, hidden states, embeddings."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from graphtool.ops import IDENTITIES, NORMS, PRODUCTS, RESHAPES
from graphtool.structure._dominators import ancestors, cut_values, steps_between
from graphtool.structure._flow import Flow, Step
from graphtool.structure._layouts import Scale
from graphtool.structure._stages import Stage

__all__ = ["Encoder", "encoders_of", "mixer_of", "values_in_reduced_attention"]

_FUSED_ATTENTION = frozenset(
    {"flash_attn", "memory_efficient_attention", "fused_attention", "scaled_dot_product_attention"}
)
# Ranks of [N, L, D] and [N, heads, L, D].
_SEQUENCE, _HEADS = 3, 4
_BETWEEN_PRODUCT_AND_SOFTMAX = IDENTITIES | RESHAPES | {"add", "multiply", "where", "divide"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Projections:
    """The queries, keys and values of one attention, each [N, heads, L, D]."""

    queries: str
    keys: str
    values: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """The layers of a transformer, in order.

    `embeddings` goes into the first layer, `hidden_states[i]` comes out of layer i, `scores[i]` are
    its attention scores before the softmax (None where a fused operator doesn't return them).
    `projections` are those of the last layer, where attention relations are compared.
    `cross_scores` are those of a decoder's attention to an encoder. `what` they are, for the user.
    """

    embeddings: str | None
    hidden_states: tuple[str, ...]
    scores: tuple[str | None, ...]
    projections: Projections | None = None
    cross_scores: tuple[str, ...] = ()
    what: str = "layer"

    @property
    def states(self) -> tuple[str | None, ...]:
        """All hidden states; 0 are the embeddings."""
        return (self.embeddings, *self.hidden_states)


def encoders_of(flow: Flow, target: str) -> tuple[Encoder, ...]:
    """Find the transformer layers on the way to `target`; () if there are fewer than two.

    A decoder with cross-attention comes first, then the encoder that it attends to.
    """
    steps = steps_between(flow, flow.graph.feeds, target)
    attentions = [
        step
        for step in steps
        if step.kind in _FUSED_ATTENTION
        or (step.kind == "softmax" and _query_key_product(flow, step) is not None)
    ]
    memory = _memory(flow, attentions)
    if memory is None:
        encoder = _encoder(flow, steps, attentions)
        return () if encoder is None else (encoder,)
    within = ancestors(flow, memory)
    cross = {x.result: x for x in attentions if _sources(flow, x)[1] == memory}
    decoder = _encoder(
        flow,
        [step for step in steps if step.result not in within],
        [x for x in attentions if x.result not in within and x.result not in cross],
    )
    if decoder is not None:
        scores = tuple(step.features[0] for step in cross.values())
        decoder = replace(decoder, what="decoder layer", cross_scores=scores)
    found = (decoder, *encoders_of(flow, memory)[:1])
    return tuple(
        one if one is decoder else replace(one, what="encoder layer") for one in found if one
    )


def _sources(flow: Flow, attention: Step) -> tuple[str | None, str | None]:
    """Return what the queries and the keys of an attention are projected from."""
    product = _query_key_product(flow, attention) if attention.kind == "softmax" else None
    if product is None:
        return None, None
    projections = [flow.last_weighted(name) for name in product.features[:2]]
    queries, keys = (step.features[0] if step and step.features else None for step in projections)
    return queries, keys


def _memory(flow: Flow, attentions: Sequence[Step]) -> str | None:
    """Return what a decoder attends to: keys from other attentions than the queries, and apart."""
    bits = {attention.result: 1 << bit for bit, attention in enumerate(attentions)}
    before: dict[str, int] = {}
    for step in flow.steps.values() if len(attentions) > 1 else ():
        mask = bits.get(step.result, 0)
        for name in step.data:
            mask |= before.get(name, 0)
        before.update(dict.fromkeys(step.operator.results, mask))
    for attention in attentions:
        queries, keys = _sources(flow, attention)
        if queries is None or keys is None or before.get(queries) == before.get(keys):
            continue
        if queries not in ancestors(flow, keys) and keys not in ancestors(flow, queries):
            return keys
    return None


def _encoder(flow: Flow, steps: Sequence[Step], attentions: Sequence[Step]) -> Encoder | None:
    """Return the layers that these attentions are in, None if there are fewer than two."""
    if len(attentions) < 2:
        return None
    attentions = sorted(attentions, key=lambda step: flow.depth[step.result])
    line = cut_values(flow, steps, {step.result for step in attentions})
    # The main line before the first attention, and after each.
    segments: list[list[str]] = [[] for _ in range(len(attentions) + 1)]
    depths = [flow.depth[step.result] for step in attentions]
    for name in line:
        segments[bisect_left(depths, flow.depth[name])].append(name)
    states = _hidden_states(flow, segments[1:])
    if len(states) != len(attentions):
        return None
    return Encoder(
        embeddings=segments[0][-1] if segments[0] else None,
        hidden_states=states,
        scores=tuple(x.features[0] if x.kind == "softmax" else None for x in attentions),
        projections=_projections(flow, attentions[-1]),
    )


def _hidden_states(flow: Flow, segments: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Take each layer's last residual join or, after post-normalisation, the norm after it.

    The majority of the layers decides which, without the last one: a norm may follow that anyway.
    """
    joins: list[str] = []
    for segment in segments:
        steps = (flow.steps[name] for name in reversed(segment))
        join = next((x.result for x in steps if x.kind == "add" and len(x.features) > 1), None)
        if join is None:
            return ()
        joins.append(join)
    norms = [
        _norm_after(flow, segment, join) for segment, join in zip(segments, joins, strict=True)
    ]
    is_post_norm = 2 * sum(norm is not None for norm in norms[:-1]) > len(norms) - 1
    return tuple(
        norm if is_post_norm and norm else join for norm, join in zip(norms, joins, strict=True)
    )


def _norm_after(flow: Flow, segment: Sequence[str], join: str) -> str | None:
    """Return the normalisation right after a join, or the scale and bias that replace it."""
    after = [flow.steps[name] for name in segment[segment.index(join) + 1 :]]
    while after and after[0].kind in IDENTITIES:
        after = after[1:]
    if after and after[0].kind in NORMS:
        return after[0].result
    affine = [step.kind for step in after[:2] if step.weights and len(step.features) == 1]
    return after[1].result if affine == ["multiply", "add"] else None


def _query_key_product(flow: Flow, softmax: Step) -> Step | None:
    """Return the product of two features that a softmax normalises, before scaling and mask."""
    name = softmax.features[0] if softmax.features else None
    step = None if name is None else flow.producer(name, skip=_BETWEEN_PRODUCT_AND_SOFTMAX)
    is_product = step is not None and step.kind in PRODUCTS and len(step.features) > 1
    return step if is_product else None


def _projections(flow: Flow, softmax: Step) -> Projections | None:
    """Find what is multiplied before and after a softmax; None unless all shapes are equal."""
    product, values = _query_key_product(flow, softmax), _attention_values(flow, softmax)
    if product is None or values is None:
        return None
    queries, keys = (_unscaled(flow, name) for name in product.features[:2])
    transpose = flow.maker.get(keys)
    if transpose is not None and transpose.kind == "transpose":
        before, after = (
            flow.graph.values[name].shape for name in (transpose.features[0], transpose.result)
        )
        if before and after and before[:-2] == after[:-2] and before[:-3:-1] == after[-2:]:
            keys = _unscaled(flow, transpose.features[0])
    shapes = {flow.graph.values[name].shape for name in (queries, keys, values)}
    is_alike = len(shapes) == 1 and all(shape and len(shape) == _HEADS for shape in shapes)
    return Projections(queries=queries, keys=keys, values=values) if is_alike else None


def _unscaled(flow: Flow, name: str) -> str:
    """Skip back over the factor 1/√D, which losses on relations apply themselves."""
    step = flow.maker.get(name)
    while step is not None and step.kind in IDENTITIES and step.features:
        name = step.features[0]
        step = flow.maker.get(name)
    return name


def _attention_values(flow: Flow, softmax: Step) -> str | None:
    """Return what the attention probabilities are multiplied with, skipping dropout."""
    name = softmax.result
    while True:
        readers = flow.consumers.get(name, ())
        product = next((x for x in readers if x.kind in PRODUCTS and len(x.features) > 1), None)
        if product is not None:
            return next((x for x in product.features if x != name), None)
        identity = next((x for x in readers if x.kind in IDENTITIES), None)
        if identity is None:
            return None
        name = identity.result


def values_in_reduced_attention(flow: Flow, scales: Mapping[str, Scale]) -> frozenset[str]:
    """Return what keys and values are computed from at a resolution below that of the queries.

    PVT and SegFormer reduce maps inside attention; the network itself stays at its resolution.
    """
    found: set[str] = set()
    for step in flow.steps.values():
        product = _query_key_product(flow, step) if step.kind == "softmax" else None
        values = None if product is None else _attention_values(flow, step)
        if product is None or values is None:
            continue
        queries, keys = (scales.get(name) for name in product.features[:2])
        if queries is not None and keys is not None and keys.area < queries.area:
            for name in (product.features[1], values):
                found.update(_ancestors_at_scale(flow, scales, name))
    return frozenset(found)


def _ancestors_at_scale(flow: Flow, scales: Mapping[str, Scale], name: str) -> Iterator[str]:
    """Yield a Value and what it is computed from, back to a change of resolution."""
    scale, pending, seen = scales.get(name), [name], {name}
    while pending:
        step = flow.maker.get(pending.pop())
        if step is None:
            continue
        yield from step.operator.results
        unseen = [x for x in step.features if x not in seen and scales.get(x) == scale]
        seen.update(unseen)
        pending.extend(unseen)


def mixer_of(flow: Flow, stages: Sequence[Stage]) -> Encoder | None:
    """Find layers without attention, as those of an MLP-Mixer: sequences with a repeated pattern.

    A layer is several joins in a row, and ends where the pattern does.
    """
    token_stages = [stage for stage in stages if _rank(flow, stage.end) == _SEQUENCE]
    if not token_stages:
        return None
    stage = max(token_stages, key=lambda stage: len(stage.blocks))
    joins = [name for name in stage.blocks if _rank(flow, name) == _SEQUENCE]
    start = stage.values.index(joins[0]) - 1
    line = [stage.values[start], *joins] if start >= 0 else joins
    period = _period(_kinds_between(flow, line)[-len(joins) :])
    states = tuple(joins[period - 1 :: period])
    if len(states) < 2 or len(joins) % period:
        return None
    return Encoder(
        embeddings=stage.values[start] if start >= 0 else None,
        hidden_states=states,
        scores=(None,) * len(states),
    )


def _kinds_between(flow: Flow, ends: Sequence[str]) -> list[tuple[str, ...]]:
    """Return for each of these Values the kinds of the steps since the one before."""
    depths = [flow.depth[name] for name in ends]
    kinds: list[list[str]] = [[] for _ in range(len(ends) + 1)]
    for step in flow.steps.values():
        kinds[bisect_left(depths, flow.depth[step.result])].append(step.kind)
    return [tuple(sorted(group)) for group in kinds[: len(ends)]]


def _period(patterns: Sequence[tuple[str, ...]]) -> int:
    """Return the length of the shortest pattern that repeats to the end."""
    lengths = range(1, len(patterns) + 1)
    return next(n for n in lengths if all(map(operator.eq, patterns, patterns[n:])))


def _rank(flow: Flow, name: str) -> int | None:
    return flow.graph.values[name].rank
