"""Which feeds are labels, and what each loss predicts from, also a decomposed one.

Labels taint what is computed from them together with features. Going back from a loss, the network
ends where a tainted step reads an untainted Value. What follows the network's last weights there
may still belong to the loss, such as logits minus their maximum, or a logarithm. A network doesn't
end in such parameter-free arithmetic, so it is stripped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from graphtool.graph import UNKNOWN_DIM, Graph, Origin, Shape
from graphtool.ops import (
    ACTIVATIONS,
    AFTER_LOGITS,
    NORMS,
    POOLS,
    PROBABILITIES,
    PRODUCTS,
    RECURRENT,
    REDUCTIONS,
    RESHAPES,
    RESIZES,
    integers,
    integers_of,
    is_loss,
    is_loss_or_metric,
)
from graphtool.structure._flow import SHAPE_ONLY, Flow, Step, flow_of
from graphtool.structure._layouts import GLOBAL, Scale

__all__ = [
    "Prediction",
    "has_loss_shape",
    "is_scalar",
    "is_similarity_matrix",
    "label_feeds",
    "predictions_of",
]

# What may follow a loss on the way to the scalar that it is reduced to.
_AFTER_LOSS = AFTER_LOGITS | REDUCTIONS | {"square", "squeeze"}
# Parameter-free operators that networks do end in. Losses clip what they take the logarithm of.
_NETWORK_ENDS = (
    (ACTIVATIONS - {"clip"})
    | NORMS
    | POOLS
    | PROBABILITIES
    | RECURRENT
    | RESHAPES
    | RESIZES
    | {"dropout"}
)
# Ranks of [N, C, H, W], [N, L, D] and [rows, D].
_MAP, _SEQUENCE, _ROWS = 4, 3, 2


@dataclass(frozen=True, slots=True)
class _Taint:
    """What feeds reach: `feed_only` is computed from them alone, `tainted` from features as well.

    The result of a loss is always tainted. A parametric step and one with Blocks end the taint:
    their results belong to the network.
    """

    feed_only: frozenset[str]
    tainted: frozenset[str]


def _taint_of(flow: Flow, *, labels: bool) -> _Taint:
    """Propagate taint from the feeds that no weight is multiplied with, or from all feeds.

    The weights that a label looks up, such as the center of its class, are `feed_only` as well.
    """
    feed_only = set(_feeds(flow, labels=labels))
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
    return _Taint(frozenset(feed_only), frozenset(tainted))


def label_feeds(graph: Graph) -> frozenset[str]:
    """Return the feeds that are labels: no weight is multiplied with what is computed from them.

    And all that is computed from them are losses, metrics and other scalars. The image size by
    which a detector scales its boxes is not a label.
    """
    return graph.once(_label_feeds)


def _label_feeds(graph: Graph) -> frozenset[str]:
    flow = flow_of(graph)
    unweighted = _feeds(flow, labels=True)
    return frozenset(name for name in unweighted if _ends_in_scalars(flow, name))


def _feeds(flow: Flow, *, labels: bool) -> frozenset[str]:
    """Return all feeds, or those that no parametric step depends on."""
    values = flow.graph.values.values()
    feeds = frozenset(value.name for value in values if value.origin is Origin.FEED)
    if not labels:
        return feeds
    weighted = set[str]()
    for step in reversed(tuple(flow.steps.values())):
        if _is_parametric(step) or not weighted.isdisjoint(step.operator.results):
            weighted.update(step.data)
    return feeds - weighted


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
    return rank is not None and rank < _ROWS


def is_scalar(flow: Flow, name: str) -> bool:
    """Return whether a Value is a scalar for the whole batch, as a reduced loss is."""
    return flow.graph.values[name].shape in ((), (1,))


@dataclass(frozen=True, slots=True)
class Prediction:
    """What an output predicts: the output itself, or the Value that it is a loss of.

    `origins` are the Values that `value` is a parameter-free function of, where a decomposed loss
    may compare those instead: the embeddings of two towers or of a batch, of which `value` is the
    product.
    """

    output: str
    value: str
    origins: tuple[str, ...] = ()


def predictions_of(
    flow: Flow, scales: Mapping[str, Scale], outputs: Sequence[str]
) -> tuple[Prediction, ...]:
    """Return what the outputs predict, each Value once."""
    label_taint, feed_taint = (_taint_of(flow, labels=labels) for labels in (True, False))
    has_loss = any(has_loss_shape(flow, x) and x in label_taint.tainted for x in outputs)
    positions = {name: position for position, name in enumerate(flow.maker)}
    arithmetic = _Arithmetic(flow, scales, feed_taint.feed_only, positions)
    found: list[Prediction] = []
    for output in outputs:
        if has_loss and _is_auxiliary(flow, label_taint, output):
            continue
        # The only label of an autoencoder is its input.
        taint = label_taint if has_loss or not is_scalar(flow, output) else feed_taint
        for name, is_decomposed in _loss_inputs(flow, taint, output).items():
            value = name if name == output else arithmetic.stripped(name)
            is_similarity = name != output and is_similarity_matrix(flow, value)
            origins = arithmetic.origins(value) if is_decomposed or is_similarity else ()
            has_origins = len(origins) > 1 or is_similarity
            found.append(Prediction(output, value, origins if has_origins else ()))
    sources = arithmetic.common_sources([one.value for one in found if one.value != one.output])
    by_value: dict[str, Prediction] = {}
    for one in found:
        value = sources.get(one.value, one.value)
        # The last output wins: it is the total, or closer to it than an operator's other results.
        by_value[value] = Prediction(one.output, value, one.origins)
    if flow.graph.fetches or all(one.value == one.output for one in found):
        return tuple(by_value.values())
    # The terms of a loss are added up in any order.
    return tuple(sorted(by_value.values(), key=lambda one: arithmetic.position(one.value)))


def is_similarity_matrix(flow: Flow, name: str) -> bool:
    """Return whether a Value is a product that compares the samples of a batch: no dim is known."""
    step, shape = flow.maker.get(name), flow.graph.values[name].shape
    is_product = step is not None and step.kind in PRODUCTS and not step.is_weighted
    return is_product and bool(shape) and all(dim == UNKNOWN_DIM for dim in shape)


def _is_auxiliary(flow: Flow, taint: _Taint, output: str) -> bool:
    """Return whether an output beside a loss is a regularisation term, or errors to monitor."""
    step = flow.maker.get(output)
    if step is not None and is_loss_or_metric(step.kind):
        return False
    if output in taint.tainted:
        return not has_loss_shape(flow, output)
    return is_scalar(flow, output)


def _loss_inputs(flow: Flow, taint: _Taint, output: str) -> Mapping[str, bool]:
    """Return the Values that a loss is computed from, each with whether the loss is decomposed.

    The output itself where it is no loss. Scalars count only where nothing else is found.
    """
    loss = flow.maker.get(output)
    if not has_loss_shape(flow, output) and not (loss and is_loss_or_metric(loss.kind)):
        return {output: False}
    found, scalars = dict[str, bool](), dict[str, bool]()
    loss_operands, seen = {output}, {output}
    pending = [(output, is_scalar(flow, output) and not flow.graph.fetches)]
    while pending:
        name, is_inside = pending.pop()
        step = flow.maker.get(name)
        operands = () if step is None else _operands(flow, taint, name, step, is_inside=is_inside)
        if step is None or not operands:
            ends = scalars if is_inside and has_loss_shape(flow, name) else found
            ends[name] = name not in loss_operands
            continue
        if is_loss_or_metric(step.kind):
            loss_operands.update(operands)
        is_inside = not is_loss_or_metric(step.kind) and (is_inside or name in taint.tainted)
        unseen = [operand for operand in reversed(operands) if operand not in seen]
        seen.update(unseen)
        pending += [(operand, is_inside) for operand in unseen]
    return found or scalars


def _operands(
    flow: Flow, taint: _Taint, name: str, step: Step, *, is_inside: bool
) -> tuple[str, ...]:
    """Return the operands that lead from a loss back to its prediction; () where the network ends.

    `is_inside`: the Value lies inside a decomposed loss.
    """
    if is_loss_or_metric(step.kind):
        prediction = step.features[:1]
        before = flow.maker.get(prediction[0]) if prediction else None
        # CTC reads time-major logits.
        if step.kind == "warpctc" and before is not None and before.kind == "transpose":
            return before.features[:1]
        return prediction
    if name in taint.tainted:
        return tuple(branch for branch in flow.branches(step) if branch not in taint.feed_only)
    if not has_loss_shape(flow, name) or step.is_weighted:
        return ()
    if is_inside:
        return step.features
    return step.features[:1] if step.kind in _AFTER_LOSS else ()


@dataclass(frozen=True, slots=True)
class _Arithmetic:
    """Use-def chains through parameter-free steps, which read no weight and nothing `feed_only`.

    The Values that the chains end at are origins. `positions` numbers the results of steps in
    program order. The other fields are caches, since the terms of a loss share arithmetic.
    """

    flow: Flow
    scales: Mapping[str, Scale]
    feed_only: Collection[str]
    positions: Mapping[str, int]
    stripped_values: dict[str, str] = field(default_factory=dict[str, str])
    all_origins: list[str] = field(default_factory=list[str])
    origin_masks: dict[str, int] = field(default_factory=dict[str, int])

    def stripped(self, name: str) -> str:
        """Return a Value without shape-preserving arithmetic, such as a logarithm.

        Rows go back to the map or the sequence that they were flattened from, also across the slice
        that drops the last token, which has no next one to predict.
        """
        chain: list[str] = []
        while name not in self.stripped_values:
            chain.append(name)
            source = self._shape_preserving_source(name)
            if source is None:
                self.stripped_values[name] = self._before_flattening(name)
            else:
                name = source
        self.stripped_values.update(dict.fromkeys(chain, self.stripped_values[name]))
        return self.stripped_values[name]

    def _shape_preserving_source(self, name: str) -> str | None:
        """Return what a Value is an arithmetic function of, where both have the same shape."""
        step = self._parameter_free_step(name)
        if step is None or step.kind in _NETWORK_ENDS:
            return None
        source = self._common_dominator(step.features)
        keeps_shape = source is not None and self._shape(source) == self._shape(name)
        return source if keeps_shape or self._drops_last_token(step) else None

    def _before_flattening(self, name: str) -> str:
        """Return the map or sequence [N, L, D] that rows [?, D] were flattened from, if any."""
        step, rows = self.flow.producer(name, skip=RESHAPES), self._shape(name)
        if step is not None and self._drops_last_token(step):
            step = self.flow.producer(step.features[0], skip=RESHAPES)
        shape = self._shape(step.result) if step is not None else None
        if step is None or not shape or not rows or len(rows) != _ROWS or not step.weights:
            return name
        is_sequence = len(shape) == _SEQUENCE and shape[1] != 1 and shape[-1] == rows[-1]
        is_map = self._is_map(step.result) and shape[1] == rows[-1]
        return step.result if is_sequence or is_map else name

    def _drops_last_token(self, step: Step) -> bool:
        """Return whether a step is the slice `[:, :-1]` of a sequence."""
        is_sequence = len(self._shape(step.result) or ()) == _SEQUENCE
        if step.kind != "slice" or not step.features or not is_sequence:
            return False
        graph, operator = self.flow.graph, step.operator
        axes = integers(operator.attributes.get("axes"))
        starts = integers_of(graph, operator, "starts", operand=1)
        ends = integers_of(graph, operator, "ends", operand=2)
        return (axes, starts, ends) == ((1,), (0,), (-1,))

    def common_sources(self, names: Iterable[str]) -> Mapping[str, str]:
        """Map Values with the same origins to one source: of their shape, or a detector's map."""
        by_origins: dict[int, list[str]] = {}
        for name in dict.fromkeys(names):
            by_origins.setdefault(self._origin_mask(name), []).append(name)
        found: dict[str, str] = {}
        for group in by_origins.values():
            if len(group) == 1:
                continue
            source, origins = self._common_dominator(group), self.origins(group[0])
            if source is not None and all(self._shape(x) == self._shape(source) for x in group):
                found.update(dict.fromkeys(group, self.stripped(source)))
            elif len(origins) == 1 and self._is_map(origins[0]):
                found.update(dict.fromkeys(group, origins[0]))
        return found

    def origins(self, name: str) -> tuple[str, ...]:
        """Return the origins that a Value is a parameter-free function of, in program order."""
        mask = self._origin_mask(name)
        found = (self.all_origins[bit] for bit in range(mask.bit_length()) if mask >> bit & 1)
        return tuple(sorted(found, key=self.position))

    def _origin_mask(self, name: str) -> int:
        """Return the origins of a Value as a bit set over `all_origins`."""
        pending, masks = [name], self.origin_masks
        while pending:
            step = self._parameter_free_step(pending[-1])
            operands = () if step is None else step.features
            unvisited = [operand for operand in operands if operand not in masks]
            if unvisited:
                pending += unvisited
                continue
            value = pending.pop()
            if value in masks:
                continue
            if step is None:
                masks[value] = 1 << len(self.all_origins)
                self.all_origins.append(value)
            else:
                masks[value] = 0
                for operand in operands:
                    masks[value] |= masks[operand]
        return masks[name]

    def _common_dominator(self, names: Iterable[str]) -> str | None:
        """Return the nearest Value that dominates these by parameter-free steps alone, or None."""
        seen = set(names)
        pending = [(-self.position(name), name) for name in seen]
        heapify(pending)
        while len(pending) > 1:
            step = self._parameter_free_step(heappop(pending)[1])
            if step is None:
                return None
            for name in step.features:
                if name not in seen:
                    seen.add(name)
                    heappush(pending, (-self.position(name), name))
        return pending[0][1]

    def _parameter_free_step(self, name: str) -> Step | None:
        """Return the step that produces a Value if it reads features alone: no weight, no feed."""
        step = self.flow.maker.get(name)
        if step is None or step.weights or step.operator.blocks or not step.features:
            return None
        return None if any(one in self.feed_only for one in step.data) else step

    def position(self, name: str) -> int:
        """Return where in the program a Value is computed; -1 where no step does."""
        return self.positions.get(name, -1)

    def _is_map(self, name: str) -> bool:
        is_local = self.scales.get(name, GLOBAL) != GLOBAL
        return is_local and self.flow.graph.values[name].rank == _MAP

    def _shape(self, name: str) -> Shape | None:
        return self.flow.graph.values[name].shape
