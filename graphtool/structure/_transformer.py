"""Encoder layers of a transformer: attention scores, hidden states, embeddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from graphtool.structure._chain import between, cuts
from graphtool.structure._flow import Flow, Step
from graphtool.structure._vocabulary import IDENTITIES, PRODUCTS, RESHAPES

__all__ = ["Encoder", "encoder_of"]

_FUSED_ATTENTION = frozenset(
    {"flash_attn", "memory_efficient_attention", "fused_attention", "scaled_dot_product_attention"}
)
_BETWEEN_PRODUCT_AND_SOFTMAX = IDENTITIES | RESHAPES | {"add", "multiply", "where", "divide"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """The layers of a transformer, in order.

    `embeddings` goes into the first layer, `hidden_states[i]` comes out of layer i, `scores[i]` are
    its attention scores before the softmax (None where a fused operator keeps them to itself).
    """

    embeddings: str | None
    hidden_states: tuple[str, ...]
    scores: tuple[str | None, ...]


def encoder_of(flow: Flow, target: str) -> Encoder | None:
    """Find the encoder layers on the way to `target`; None where there are fewer than two."""
    steps = between(flow, flow.graph.feeds, target)
    anchors = [step for step in steps if _is_attention(flow, step)]
    if len(anchors) < 2:
        return None
    line = cuts(flow, steps)
    anchors.sort(key=lambda step: flow.depth[step.result])
    segments = _segments(flow, line, anchors)
    states = _hidden_states(segments[1:])
    if len(states) != len(anchors):
        return None
    return Encoder(
        embeddings=segments[0][-1] if segments[0] else None,
        hidden_states=states,
        scores=tuple(_scores(step) for step in anchors),
    )


def _is_attention(flow: Flow, step: Step) -> bool:
    if step.kind in _FUSED_ATTENTION:
        return True
    return step.kind == "softmax" and _product_before(flow, step) is not None


def _product_before(flow: Flow, softmax: Step) -> Step | None:
    """Return the product of two features that a softmax normalises, past scaling and a mask."""
    step: Step | None = softmax
    while step is not None and step.features:
        step = flow.maker.get(step.features[0])
        if step is None:
            return None
        if step.kind in PRODUCTS:
            return step if len(step.features) > 1 else None
        if step.kind not in _BETWEEN_PRODUCT_AND_SOFTMAX:
            return None
    return None


def _scores(step: Step) -> str | None:
    return step.features[0] if step.kind == "softmax" else None


def _segments(flow: Flow, line: Sequence[str], anchors: Sequence[Step]) -> list[list[str]]:
    """Split the main line at the anchors: what comes before the first, then after each."""
    segments: list[list[str]] = [[] for _ in range(len(anchors) + 1)]
    depths = [flow.depth[step.result] for step in anchors]
    for name in line:
        segments[sum(depth < flow.depth[name] for depth in depths)].append(name)
    return segments


def _hidden_states(segments: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Take from each layer the Value at which most layers end, counted from its attention."""
    places = Counter(len(segment) for segment in segments[:-1] if segment)
    if not places:
        return ()
    place = max(places, key=lambda count: (places[count], count))
    return tuple(segment[min(place, len(segment)) - 1] for segment in segments if segment)
