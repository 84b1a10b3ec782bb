"""Ends of losses over logits that went through softmax already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from graphtool.checks.pair_problems import holds_probabilities
from graphtool.diagnostics import Diagnostic, Where
from graphtool.graph import Graph
from graphtool.structure import kind_of, softmax_input

__all__ = ["SAID", "logits_before", "unsaid_probabilities"]


def logits_before(graph: Graph, name: str) -> str | None:
    """Return what went into the softmax that a Value comes from, None where it comes from none."""

    def made_from(name: str) -> tuple[str, str] | None:
        operator = graph.producer(name)
        read = operator.operands[0] if operator is not None and operator.operands else None
        return None if operator is None or read is None else (kind_of(operator), read)

    return softmax_input(name, made_from)


# What `from_probs` says of which ends.
SAID: Mapping[str | None, tuple[str, ...]] = {
    None: (),
    "teacher": ("teacher",),
    "student": ("student",),
    "both": ("teacher", "student"),
}


def unsaid_probabilities(
    loss: str, found: Mapping[Where, str], said: object, call: Callable[[str], str]
) -> Iterator[Diagnostic]:
    """Yield the ends that went through softmax where `from_probs` doesn't say so.

    `found` are these ends with what went into the softmax, `said` is `from_probs`; `call` writes
    what to type for another one.
    """
    told = SAID.get(said) if said is None or isinstance(said, str) else None
    if told is None:
        return  # the loss has its own word for that
    left = {place: logits for place, logits in found.items() if place.role not in told}
    side = "both" if said or len(left) > 1 else next((place.role for place in left), None)
    for place, logits in left.items():
        yield holds_probabilities(loss, place, logits, call(side or "both"))
