"""Encoder layers of a transformer: attention scores, hidden states, embeddings."""

from __future__ import annotations

from bisect import bisect_left
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
    step = _before(flow, softmax)
    while step is not None and step.kind in _BETWEEN_PRODUCT_AND_SOFTMAX:
        step = _before(flow, step)
    is_product = step is not None and step.kind in PRODUCTS and len(step.features) > 1
    return step if is_product else None


def _before(flow: Flow, step: Step) -> Step | None:
    return flow.maker.get(step.features[0]) if step.features else None


def _scores(step: Step) -> str | None:
    return step.features[0] if step.kind == "softmax" else None


def _segments(flow: Flow, line: Sequence[str], anchors: Sequence[Step]) -> list[list[str]]:
    """Split the main line at the anchors: what comes before the first, then after each."""
    segments: list[list[str]] = [[] for _ in range(len(anchors) + 1)]
    depths = [flow.depth[step.result] for step in anchors]
    for name in line:
        segments[bisect_left(depths, flow.depth[name])].append(name)
    return segments


def _hidden_states(segments: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Take from each layer the Value at which most layers end, counted from its attention."""
    places = Counter(len(segment) for segment in segments[:-1] if segment)
    if not places:
        return ()
    place = max(places, key=lambda count: (places[count], count))
    return tuple(segment[min(place, len(segment)) - 1] for segment in segments if segment)
