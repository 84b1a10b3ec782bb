"""What a network answers: its logits, other heads, and the embedding that a classifier reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from graphtool.graph import Origin
from graphtool.structure._flow import Flow, Step
from graphtool.structure._resolution import GLOBAL, Scale
from graphtool.structure._vocabulary import (
    ACTIVATIONS,
    IDENTITIES,
    METRICS,
    NORMS,
    POOLS,
    PROBABILITIES,
    PRODUCTS,
    RECURRENT,
    REDUCTIONS,
    RESIZES,
    is_loss,
)

__all__ = ["Head", "heads_of"]

# What stands between logits and an output; dropout is no part of a head.
_AFTER_LOGITS = (
    RESIZES | (IDENTITIES - {"dropout"}) | PROBABILITIES | {"argmax", "arg_max", "topk", "top_k"}
)
# What may stand between a loss and the one number that it becomes.
_AROUND_NUMBERS = _AFTER_LOGITS | REDUCTIONS | {"square", "squeeze"}
_VECTORS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One output: the Value fetched, its logits, and what the last weighted Operator reads.

    `answer` is what a loss reads, where the output is one, else the output: logits that were
    resized or turned into probabilities. `joined` tells several answers that are one output,
    concatenated as probabilities; its logits are that then.
    `embedding` is None where that is a map or a sequence; `normalised` names the Operator that
    turned the logits into probabilities. `index` is the output's place among all. `classifies` is
    False where the network ends in a feature map or a hidden state, as a backbone does.
    """

    index: int
    output: str
    answer: str
    logits: str
    embedding: str | None
    normalised: str | None
    classifies: bool
    joined: bool


def heads_of(flow: Flow, scales: Mapping[str, Scale]) -> tuple[Head, ...]:
    """Return the heads, the deepest first, then in program order."""
    labels = _labels(flow)
    heads = [
        _head(flow, scales, index, _answer(flow, labels, output), output)
        for index, output in enumerate(_outputs(flow))
    ]
    vectors = [head for head in heads if not _is_number(flow, head.logits)] or heads
    ordered = list({head.logits: head for head in vectors}.values())
    if not ordered:
        return ()
    main = max(ordered, key=lambda head: flow.depth[head.logits])
    return (main, *(head for head in ordered if head is not main))


def _outputs(flow: Flow) -> tuple[str, ...]:
    """Return what is fetched, else what no forward Operator reads; the terms where it is a sum."""
    fetched = [name for name in flow.graph.fetches if name in flow.maker]
    found = fetched or [
        name
        for name, step in flow.steps.items()
        if not flow.consumers.get(name)
        and (name in flow.features or step.kind in _AFTER_LOGITS)
        and not _is_final_state(flow, step)
    ]
    answers = [name for name in found if flow.maker[name].kind not in METRICS] or found
    return tuple(dict.fromkeys(term for name in answers for term in _terms(flow, name)))


def _is_final_state(flow: Flow, step: Step) -> bool:
    """Tell what comes from the states that a recurrent layer ends in, beside its sequence."""
    makers = [(name, flow.maker.get(name)) for name in step.data]
    return bool(makers) and all(
        maker is not None and maker.kind in RECURRENT and name != maker.result
        for name, maker in makers
    )


def _terms(flow: Flow, name: str) -> Iterator[str]:
    """Yield the losses that are added up in a total, each with its weight, or a Value itself."""
    pending, seen = [name], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        step = flow.maker.get(name)
        is_sum = step is not None and step.kind in {"add", "scale"} and bool(step.features)
        if step is None or not is_sum or flow.graph.values[name].shape not in ((), (1,)):
            yield name
        else:
            pending.extend(reversed(flow.branches(step)))


def _labels(flow: Flow) -> frozenset[str]:
    """Return the feeds that no weight is multiplied with, and what is made of them alone."""
    weighed = set[str]()
    for step in reversed(tuple(flow.steps.values())):
        if step.weighted or not weighed.isdisjoint(step.operator.results):
            weighed.update(step.data)
    values = flow.graph.values.values()
    labels = {x.name for x in values if x.origin is Origin.FEED and x.name not in weighed}
    for step in flow.steps.values():
        if labels.issuperset(step.data):
            labels.update(step.operator.results)
    return frozenset(labels)


def _answer(flow: Flow, labels: Collection[str], output: str) -> str:
    """Return what a loss, or another number, was told of; an output itself where it is neither."""
    name, told = output, _told_of(flow, labels, output)
    while told is not None:
        name, told = told, _told_of(flow, labels, told)
    return name


def _told_of(flow: Flow, labels: Collection[str], name: str) -> str | None:
    step = flow.maker.get(name)
    if step is None or not step.features:
        return None
    if is_loss(step.kind) or step.kind in METRICS:
        return step.features[0]
    if not _is_number(flow, name):
        return None
    passed = step.features[0] if step.kind in _AROUND_NUMBERS else None
    return _compared(flow, labels, name) or passed


def _compared(flow: Flow, labels: Collection[str], name: str) -> str | None:
    """Return what a loss that is written out compares with a label, before the next weights."""
    step = flow.maker.get(name) if name in flow.features else None
    while step is not None and step.features and not step.weighted:
        if is_loss(step.kind) or not set(step.data).isdisjoint(labels):
            return step.features[0]
        step = flow.maker.get(step.features[0])
    return None


def _head(flow: Flow, scales: Mapping[str, Scale], index: int, answer: str, output: str) -> Head:
    name, normalised = answer, None
    step = flow.maker.get(name)
    while step is not None and step.features and step.kind in _AFTER_LOGITS:
        if step.kind in PROBABILITIES:
            normalised = step.operator.name
        name = step.features[0]
        step = flow.maker.get(name)
    return Head(
        index=index,
        output=output,
        answer=answer,
        logits=name,
        classifies=_classifies(flow, scales, name),
        joined=_joins_probabilities(flow, step),
        embedding=_embedding(flow, scales, name),
        normalised=normalised,
    )


def _joins_probabilities(flow: Flow, step: Step | None) -> bool:
    if step is None or step.kind != "concat":
        return False
    makers = (flow.maker.get(name) for name in flow.branches(step))
    return any(maker is not None and maker.kind in PROBABILITIES for maker in makers)


def _classifies(flow: Flow, scales: Mapping[str, Scale], logits: str) -> bool:
    """Tell logits from a feature: a weighted Operator makes them, with a bias at most behind it.

    So does a product that compares two embeddings (CLIP), or a sum of several logits (LeViT).
    Where a map of class scores is pooled to one place, an activation may come first (SqueezeNet).
    """
    pending, seen = [logits], {logits}
    while pending:
        step = _maker_of_logits(flow, scales, pending.pop())
        if step is None or step.kind == "embedding":
            return False
        is_vector = flow.graph.values[step.result].rank == _VECTORS
        if step.kind == "add" and len(step.features) > 1 and is_vector:
            pending.extend(name for name in step.features if name not in seen)
            seen.update(step.features)
        elif not (step.weighted or (step.kind in PRODUCTS and len(step.features) > 1)):
            return False
    return True


def _maker_of_logits(flow: Flow, scales: Mapping[str, Scale], name: str) -> Step | None:
    """Return what a Value comes from, past steps that leave logits logits; None behind others."""
    step, pooled = flow.maker.get(name), False
    while step is not None and not step.weighted and len(step.features) == 1:
        pooled = pooled or (step.kind in POOLS | REDUCTIONS and scales.get(step.result) == GLOBAL)
        if step.kind in NORMS or (step.kind in ACTIVATIONS and not pooled):
            return None
        step = flow.maker.get(step.features[0])
    return step


def _embedding(flow: Flow, scales: Mapping[str, Scale], logits: str) -> str | None:
    """Return what the last weighted Operator reads, if that is one vector per sample.

    Dropout before it is passed over: in training it is noise.
    """
    step = flow.weighed(logits)
    if step is None or not step.features:
        return None
    name = step.features[0]
    before = flow.maker.get(name)
    while before is not None and before.kind in IDENTITIES and before.features:
        name = before.features[0]
        before = flow.maker.get(name)
    is_vector = flow.graph.values[name].rank == _VECTORS or scales.get(name) == GLOBAL
    return name if is_vector else None


def _is_number(flow: Flow, name: str) -> bool:
    """Tell one number, or one for each sample, as losses are."""
    rank = flow.graph.values[name].rank
    return rank is not None and rank < _VECTORS
