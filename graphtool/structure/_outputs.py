"""What a network answers: its logits, other heads, and the embedding that a classifier reads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from graphtool.structure._answers import Answer, answers_of, relates_samples
from graphtool.structure._flow import Flow, Step
from graphtool.structure._labels import is_number, is_total
from graphtool.structure._resolution import GLOBAL, Scale
from graphtool.structure._vocabulary import (
    ACTIVATIONS,
    AROUND_ANSWERS,
    IDENTITIES,
    METRICS,
    NORMS,
    POOLS,
    PROBABILITIES,
    PRODUCTS,
    RECURRENT,
    REDUCTIONS,
)

__all__ = ["Head", "heads_of"]

_VECTORS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """One output: the Value fetched, its logits, and what the last weighted Operator reads.

    `answer` is what a loss reads, where the output is one, else the output: logits that were
    resized or turned into probabilities. `joined` tells several answers that are one output,
    concatenated as probabilities; its logits are that then.
    `embedding` is None where that is a map or a sequence; `normalised` names the Operator that
    turned the logits into probabilities. `index` is the output's place among all. `classifies` is
    False where the network ends in a feature map or a hidden state, as a backbone does. It
    `is_clear` unless the output is a loss, or a number, that does not say what the answer is.
    """

    index: int
    output: str
    answer: str
    logits: str
    embedding: str | None
    normalised: str | None
    classifies: bool
    joined: bool
    is_clear: bool


def heads_of(flow: Flow, scales: Mapping[str, Scale]) -> tuple[Head, ...]:
    """Return the heads, the deepest first, then in program order."""
    answers = answers_of(flow, scales, _outputs(flow))
    answers = [told for answer in answers for told in _told(flow, scales, answer)]
    heads = [_head(flow, scales, index, answer) for index, answer in enumerate(answers)]
    vectors = [head for head in heads if not is_number(flow, head.logits)] or heads
    beside = _on_the_way(flow, vectors)
    vectors = [head for head in vectors if head not in beside]
    ordered = list({head.logits: head for head in vectors}.values())
    if not ordered:
        return ()
    main = max(ordered, key=lambda head: flow.depth[head.logits])
    return (main, *(head for head in ordered if head is not main))


def _told(flow: Flow, scales: Mapping[str, Scale], answer: Answer) -> Sequence[Answer]:
    """Return the parts of an answer that is none in itself: the ends of two towers, all alike."""
    is_relation = relates_samples(flow, answer.name)
    if answer.parts and not is_relation and _classifies(flow, scales, answer.name):
        return [Answer(answer.output, answer.name)]
    shapes = {flow.graph.values[part].shape for part in answer.parts}
    if len(shapes) != 1:
        return [answer]
    return [Answer(answer.output, part, answer.parts) for part in answer.parts]


def _on_the_way(flow: Flow, heads: Sequence[Head]) -> list[Head]:
    """Return what losses read of features that logits are computed from, as center loss does."""
    features = [head for head in heads if _is_feature(flow, head) and head.answer != head.output]
    answers = [head.logits for head in heads if head not in features]
    passed = _passed(flow, answers) if features else ()
    weighed = [(head, flow.weighed(head.logits)) for head in features]
    return [head for head, step in weighed if step is not None and step.result in passed]


def _is_feature(flow: Flow, head: Head) -> bool:
    """Tell what was activated or normalised since the last weights."""
    step = flow.maker.get(head.logits)
    while step is not None and step.features and not step.weighted:
        if step.kind in ACTIVATIONS or step.kind in NORMS:
            return True
        step = flow.maker.get(step.features[0])
    return False


def _passed(flow: Flow, names: Sequence[str]) -> Collection[str]:
    """Return all Values that these are computed from, without themselves."""
    pending, seen = list(names), set[str]()
    while pending:
        step = flow.maker.get(pending.pop())
        fresh = [name for name in step.features if name not in seen] if step is not None else ()
        seen.update(fresh)
        pending += fresh
    return seen


def _outputs(flow: Flow) -> tuple[str, ...]:
    """Return what is fetched, else what no forward Operator reads; the terms where it is a sum."""
    fetched = [name for name in flow.graph.fetches if name in flow.maker]
    found = fetched or [
        name
        for name, step in flow.steps.items()
        if not flow.consumers.get(name)
        and (name in flow.features or step.kind in AROUND_ANSWERS)
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
        if step is None or not is_sum or not is_total(flow, name):
            yield name
        else:
            pending.extend(reversed(flow.branches(step)))


def _head(flow: Flow, scales: Mapping[str, Scale], index: int, answer: Answer) -> Head:
    name, normalised = answer.name, None
    step = flow.maker.get(name)
    while step is not None and step.features and step.kind in AROUND_ANSWERS:
        if step.kind in PROBABILITIES:
            normalised = step.operator.name
        name = step.features[0]
        step = flow.maker.get(name)
    return Head(
        index=index,
        output=answer.output,
        answer=answer.name,
        logits=name,
        classifies=_classifies(flow, scales, name),
        is_clear=not (answer.parts or _is_told_of_numbers(flow, answer)),
        joined=_joins_probabilities(flow, step),
        embedding=_embedding(flow, scales, name),
        normalised=normalised,
    )


def _is_told_of_numbers(flow: Flow, answer: Answer) -> bool:
    """Tell a loss behind which nothing but numbers was found, or that is all there is."""
    is_scalar = flow.graph.values[answer.name].rank == 0
    return is_scalar or (answer.name != answer.output and is_number(flow, answer.name))


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
