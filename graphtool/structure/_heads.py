"""The heads of a network: logits, and the embedding that a classifier reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphtool.ops import (
    ACTIVATIONS,
    AFTER_LOGITS,
    IDENTITIES,
    METRICS,
    NORMS,
    POOLS,
    PROBABILITIES,
    PRODUCTS,
    RECURRENT,
    REDUCTIONS,
)
from graphtool.structure._flow import Flow, Step
from graphtool.structure._layouts import GLOBAL, Scale, is_vector
from graphtool.structure._predictions import (
    Prediction,
    has_loss_shape,
    is_scalar,
    is_similarity_matrix,
    predictions_of,
)

__all__ = ["Head", "heads_of"]

_VECTORS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An output with its prediction, its logits, and what the last weighted Operator reads.

    `prediction` is what a loss reads where the output is a loss, else the output, which may be
    logits that were resized or turned into probabilities. `softmax` names the Operator that turned
    the logits into probabilities. `joins_probabilities`: the output concatenates probabilities, and
    counts as the logits then. `embedding` is None where it would be a map or a sequence. `index` is
    the output's position among all. `classifies` is False where the network ends in a feature map
    or a hidden state, as a backbone does. `is_clear` is False where a loss or a scalar leaves open
    what the prediction is.
    """

    index: int
    output: str
    prediction: str
    logits: str
    embedding: str | None
    softmax: str | None
    classifies: bool
    joins_probabilities: bool
    is_clear: bool


def heads_of(flow: Flow, scales: Mapping[str, Scale]) -> tuple[Head, ...]:
    """Return the heads: the deepest first, the others in program order."""
    predictions = [
        part
        for prediction in predictions_of(flow, scales, _outputs(flow))
        for part in _tower_outputs(flow, scales, prediction)
    ]
    heads = [_head(flow, scales, index, one) for index, one in enumerate(predictions)]
    heads = [head for head in heads if not has_loss_shape(flow, head.logits)] or heads
    intermediate = _intermediate_heads(flow, heads)
    heads = [head for head in heads if head not in intermediate]
    distinct = list({head.logits: head for head in heads}.values())
    if not distinct:
        return ()
    main = max(distinct, key=lambda head: flow.depth[head.logits])
    return (main, *(head for head in distinct if head is not main))


def _outputs(flow: Flow) -> tuple[str, ...]:
    """Return the fetches, else the unread results; a total loss is split into its terms."""
    fetched = [name for name in flow.graph.fetches if name in flow.maker]
    found = fetched or [
        name
        for name, step in flow.steps.items()
        if not flow.consumers.get(name)
        and (name in flow.features or step.kind in AFTER_LOGITS)
        and not _is_final_state(flow, step)
    ]
    found = [name for name in found if flow.maker[name].kind not in METRICS] or found
    return tuple(dict.fromkeys(term for name in found for term in _loss_terms(flow, name)))


def _is_final_state(flow: Flow, step: Step) -> bool:
    """Return whether a step reads final states of recurrent layers, and not their sequences."""
    producers = [(name, flow.maker.get(name)) for name in step.data]
    return bool(producers) and all(
        producer is not None and producer.kind in RECURRENT and name != producer.result
        for name, producer in producers
    )


def _loss_terms(flow: Flow, name: str) -> Iterator[str]:
    """Yield the losses that a total adds up, or a Value itself where it is no such sum."""
    pending, seen = [name], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        step = flow.maker.get(name)
        is_sum = step is not None and step.kind in {"add", "scale"} and bool(step.features)
        if step is None or not is_sum or not is_scalar(flow, name):
            yield name
        else:
            pending.extend(reversed(flow.branches(step)))


def _tower_outputs(
    flow: Flow, scales: Mapping[str, Scale], prediction: Prediction
) -> Sequence[Prediction]:
    """Split a similarity matrix into the embeddings that it compares, if they have one shape."""
    is_similarity = is_similarity_matrix(flow, prediction.value)
    if prediction.origins and not is_similarity and _classifies(flow, scales, prediction.value):
        return [Prediction(prediction.output, prediction.value)]
    shapes = {flow.graph.values[origin].shape for origin in prediction.origins}
    if len(shapes) != 1:
        return [prediction]
    return [
        Prediction(prediction.output, origin, prediction.origins) for origin in prediction.origins
    ]


def _intermediate_heads(flow: Flow, heads: Sequence[Head]) -> list[Head]:
    """Return the heads that are features on the way to other logits, as center loss reads them."""
    features = [
        head for head in heads if head.prediction != head.output and _is_feature(flow, head)
    ]
    pending = [head.logits for head in heads if head not in features] if features else []
    ancestors = set[str]()
    while pending:
        step = flow.maker.get(pending.pop())
        unseen = [x for x in step.features if x not in ancestors] if step is not None else ()
        ancestors.update(unseen)
        pending += unseen
    weighted = [(head, flow.last_weighted(head.logits)) for head in features]
    return [head for head, step in weighted if step is not None and step.result in ancestors]


def _is_feature(flow: Flow, head: Head) -> bool:
    """Return whether an activation or a normalisation follows the last weights of a head."""
    step = flow.maker.get(head.logits)
    while step is not None and step.features and not step.is_weighted:
        if step.kind in ACTIVATIONS or step.kind in NORMS:
            return True
        step = flow.maker.get(step.features[0])
    return False


def _head(flow: Flow, scales: Mapping[str, Scale], index: int, prediction: Prediction) -> Head:
    """Go back from a prediction to its logits and its embedding."""
    logits, normalised = prediction.value, None
    step = flow.maker.get(logits)
    while step is not None and step.features and step.kind in AFTER_LOGITS:
        if step.kind in PROBABILITIES:
            normalised = step.operator.name
        logits = step.features[0]
        step = flow.maker.get(logits)
    # The loss leads back to scalars only, or is all there is.
    is_scalar_only = flow.graph.values[prediction.value].rank == 0 or (
        prediction.value != prediction.output and has_loss_shape(flow, prediction.value)
    )
    is_concat = step is not None and step.kind == "concat"
    joined = [flow.maker.get(name) for name in flow.branches(step)] if step and is_concat else []
    return Head(
        index=index,
        output=prediction.output,
        prediction=prediction.value,
        logits=logits,
        classifies=_classifies(flow, scales, logits),
        is_clear=not (prediction.origins or is_scalar_only),
        joins_probabilities=any(one and one.kind in PROBABILITIES for one in joined),
        embedding=_embedding(flow, scales, logits),
        softmax=normalised,
    )


def _classifies(flow: Flow, scales: Mapping[str, Scale], logits: str) -> bool:
    """Return whether a Value is logits, not a feature: weighted, with at most a bias after that.

    A product that compares two embeddings (CLIP) and a sum of logits (LeViT) are logits too. Where
    a map of class scores is pooled to one place, an activation may come first (SqueezeNet).
    """
    pending, seen = [logits], {logits}
    while pending:
        step = _producer_of_logits(flow, scales, pending.pop())
        if step is None or step.kind == "embedding":
            return False
        is_vector = flow.graph.values[step.result].rank == _VECTORS
        if step.kind == "add" and len(step.features) > 1 and is_vector:
            pending.extend(name for name in step.features if name not in seen)
            seen.update(step.features)
        elif not (step.is_weighted or (step.kind in PRODUCTS and len(step.features) > 1)):
            return False
    return True


def _producer_of_logits(flow: Flow, scales: Mapping[str, Scale], name: str) -> Step | None:
    """Return the weighted step or join before a Value; None if what follows makes it a feature."""
    step, is_pooled = flow.maker.get(name), False
    while step is not None and not step.is_weighted and len(step.features) == 1:
        is_pool = step.kind in POOLS | REDUCTIONS and scales.get(step.result) == GLOBAL
        is_pooled = is_pooled or is_pool
        if step.kind in NORMS or (step.kind in ACTIVATIONS and not is_pooled):
            return None
        step = flow.maker.get(step.features[0])
    return step


def _embedding(flow: Flow, scales: Mapping[str, Scale], logits: str) -> str | None:
    """Return what the last weighted Operator reads, if that is one vector per sample.

    Dropout before it is skipped: in training it is noise.
    """
    step = flow.last_weighted(logits)
    if step is None or not step.features:
        return None
    name = step.features[0]
    before = flow.maker.get(name)
    while before is not None and before.kind in IDENTITIES and before.features:
        name = before.features[0]
        before = flow.maker.get(name)
    return name if is_vector(flow, scales, name) else None
