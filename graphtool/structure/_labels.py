"""Which feeds are labels, and what of a network they touch."""

from __future__ import annotations

from dataclasses import dataclass

from graphtool.graph import Graph, Origin
from graphtool.structure._flow import OF_SHAPES, Flow, Step, flow_of
from graphtool.structure._vocabulary import NORMS, RECURRENT, is_loss, is_told

__all__ = ["Marks", "is_number", "is_total", "label_feeds", "marks_of"]

_VECTORS = 2


@dataclass(frozen=True, slots=True)
class Marks:
    """What comes of feeds: `alone` of them and of no weight, `touched` what was compared with it.

    What a loss makes is touched, whatever it reads. Weights end that, and branches and loops: what
    they make is the network's own.
    """

    alone: frozenset[str]
    touched: frozenset[str]


def label_feeds(graph: Graph) -> frozenset[str]:
    """Return the feeds that are labels: no weight is multiplied with what comes of them.

    And nothing comes of them but losses, measures and other numbers: the size of an image, by which
    a detector divides its boxes, is no label.
    """
    return graph.once(_label_feeds)


def _label_feeds(graph: Graph) -> frozenset[str]:
    flow = flow_of(graph)
    return frozenset(name for name in _unweighed(flow) if _becomes_numbers(flow, name))


def marks_of(flow: Flow, *, labels: bool) -> Marks:
    """Follow the feeds that no weight is multiplied with, or all feeds, up to the next weights.

    What such a feed chooses of the weights, as the center of a class, is the label's as well.
    """
    alone = set(_unweighed(flow) if labels else _feeds(flow))
    touched = set[str]()
    for step in flow.steps.values():
        if not step.features:
            if step.kind not in OF_SHAPES and alone.issuperset(step.data):
                alone.update(step.operator.results if labels or not step.weights else ())
        elif is_loss(step.kind) or (
            not (_weighs(step) or step.operator.blocks)
            and not (alone.isdisjoint(step.data) and touched.isdisjoint(step.data))
        ):
            touched.update(step.operator.results)
    return Marks(frozenset(alone), frozenset(touched))


def _feeds(flow: Flow) -> frozenset[str]:
    values = flow.graph.values.values()
    return frozenset(value.name for value in values if value.origin is Origin.FEED)


def _unweighed(flow: Flow) -> frozenset[str]:
    """Return the feeds that no weight is multiplied with, whatever was made of them before."""
    weighed = set[str]()
    for step in reversed(tuple(flow.steps.values())):
        if _weighs(step) or not weighed.isdisjoint(step.operator.results):
            weighed.update(step.data)
    return _feeds(flow) - weighed


def _weighs(step: Step) -> bool:
    """Tell what learns of its input, also where that is the whole network: an LSTM."""
    return step.weighted or (bool(step.weights) and step.kind in RECURRENT | NORMS)


def _becomes_numbers(flow: Flow, feed: str) -> bool:
    """Tell a feed that is read, and of which nothing comes in the end but numbers and losses."""
    pending, seen = [feed], {feed}
    for name in pending:
        for step in flow.consumers.get(name, ()):
            if is_told(step.kind):
                continue
            made = [
                one for one in step.operator.results if one == step.result or _is_read(flow, one)
            ]
            pending += [one for one in made if one not in seen]
            seen.update(made)
    return _is_read(flow, feed) and all(_is_read(flow, x) or is_number(flow, x) for x in pending)


def _is_read(flow: Flow, name: str) -> bool:
    return bool(flow.consumers.get(name))


def is_number(flow: Flow, name: str) -> bool:
    """Tell one number, or one for each sample, as losses are."""
    rank = flow.graph.values[name].rank
    return rank is not None and rank < _VECTORS


def is_total(flow: Flow, name: str) -> bool:
    """Tell one number, as a loss is that was summed up."""
    return flow.graph.values[name].shape in ((), (1,))
