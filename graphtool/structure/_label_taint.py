"""Which feeds are labels, and which Values of a network they taint."""

from __future__ import annotations

from dataclasses import dataclass

from graphtool.graph import Graph, Origin
from graphtool.ops import NORMS, RECURRENT, is_loss, is_loss_or_metric
from graphtool.structure._flow import SHAPE_ONLY, Flow, Step, flow_of

__all__ = ["Taint", "has_loss_shape", "is_scalar", "label_feeds", "taint_of"]

_VECTORS = 2


@dataclass(frozen=True, slots=True)
class Taint:
    """What feeds reach: `feed_only` is computed from them alone, `tainted` from features as well.

    The result of a loss is always tainted. A parametric step and one with Blocks end the taint:
    their results belong to the network.
    """

    feed_only: frozenset[str]
    tainted: frozenset[str]


def taint_of(flow: Flow, *, labels: bool) -> Taint:
    """Propagate taint from the feeds that no weight is multiplied with, or from all feeds.

    The weights that a label looks up, such as the center of its class, are `feed_only` as well.
    """
    feed_only = set(_unweighted_feeds(flow) if labels else _feeds(flow))
    tainted = set[str]()
    for step in flow.steps.values():
        if not step.features:
            if step.kind not in SHAPE_ONLY and feed_only.issuperset(step.data):
                feed_only.update(step.operator.results if labels or not step.weights else ())
        elif is_loss(step.kind) or (
            not (_is_parametric(step) or step.operator.blocks)
            and not (feed_only.isdisjoint(step.data) and tainted.isdisjoint(step.data))
        ):
            tainted.update(step.operator.results)
    return Taint(frozenset(feed_only), frozenset(tainted))


def label_feeds(graph: Graph) -> frozenset[str]:
    """Return the feeds that are labels: no weight is multiplied with what is computed from them.

    And all that is computed from them are losses, metrics and other scalars. The image size by
    which a detector scales its boxes is not a label.
    """
    return graph.once(_label_feeds)


def _label_feeds(graph: Graph) -> frozenset[str]:
    flow = flow_of(graph)
    return frozenset(name for name in _unweighted_feeds(flow) if _ends_in_scalars(flow, name))


def _feeds(flow: Flow) -> frozenset[str]:
    values = flow.graph.values.values()
    return frozenset(value.name for value in values if value.origin is Origin.FEED)


def _unweighted_feeds(flow: Flow) -> frozenset[str]:
    """Return the feeds that no parametric step depends on."""
    weighted = set[str]()
    for step in reversed(tuple(flow.steps.values())):
        if _is_parametric(step) or not weighted.isdisjoint(step.operator.results):
            weighted.update(step.data)
    return _feeds(flow) - weighted


def _is_parametric(step: Step) -> bool:
    """Return whether a step is weighted, or a normalisation or recurrent layer with weights."""
    return step.is_weighted or (bool(step.weights) and step.kind in RECURRENT | NORMS)


def _ends_in_scalars(flow: Flow, feed: str) -> bool:
    """Return whether a feed is read, and all paths from it end in losses, metrics or scalars."""
    pending, seen = [feed], {feed}
    for name in pending:
        for step in flow.consumers.get(name, ()):
            if is_loss_or_metric(step.kind):
                continue
            results = [x for x in step.operator.results if x == step.result or _is_read(flow, x)]
            pending += [result for result in results if result not in seen]
            seen.update(results)
    return _is_read(flow, feed) and all(
        _is_read(flow, name) or has_loss_shape(flow, name) for name in pending
    )


def _is_read(flow: Flow, name: str) -> bool:
    return bool(flow.consumers.get(name))


def has_loss_shape(flow: Flow, name: str) -> bool:
    """Return whether a Value is a scalar, per batch or per sample, as losses are."""
    rank = flow.graph.values[name].rank
    return rank is not None and rank < _VECTORS


def is_scalar(flow: Flow, name: str) -> bool:
    """Return whether a Value is a scalar for the whole batch, as a reduced loss is."""
    return flow.graph.values[name].shape in ((), (1,))
