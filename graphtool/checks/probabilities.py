"""Ends of losses over logits that went through softmax or sigmoid already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from graphtool.checks.pair_problems import holds_probabilities
from graphtool.diagnostics import Diagnostic, Where
from graphtool.graph import Graph
from graphtool.structure import Normalised, kind_of, normalised

__all__ = ["SAID", "normalised_before", "unsaid_probabilities"]


def normalised_before(graph: Graph, name: str) -> Normalised[str] | None:
    """Return the logits that a Value holds the probabilities of, None where it holds none."""

    def made_from(name: str) -> tuple[str, str] | None:
        operator = graph.producer(name)
        read = operator.operands[0] if operator is not None and operator.operands else None
        return None if operator is None or read is None else (kind_of(operator), read)

    return normalised(name, made_from)


# What `from_probs` says of which ends.
SAID: Mapping[str | None, tuple[str, ...]] = {
    None: (),
    "teacher": ("teacher",),
    "student": ("student",),
    "both": ("teacher", "student"),
}


def unsaid_probabilities(
    loss: str,
    found: Mapping[Where, Normalised[str]],
    said: object,
    call: Callable[[str], str],
    instead: str,
) -> Iterator[Diagnostic]:
    """Yield the ends that hold probabilities where `from_probs` doesn't say so.

    `found` are these ends, `said` is `from_probs`; `call` writes what to type for another one.
    Scores behind a sigmoid are no distribution over classes, whatever is said: `instead` compares
    what is before it.
    """
    told = SAID.get(said) if said is None or isinstance(said, str) else None
    if told is None:
        return  # the loss has its own word for that
    left = {
        place: before
        for place, before in found.items()
        if before.by == "sigmoid" or place.role not in told
    }
    side = "both" if said or len(left) > 1 else next((place.role for place in left), None)
    independent = any(before.by == "sigmoid" for before in left.values())
    for place, before in left.items():
        typed = instead if independent else call(side or "both")
        yield holds_probabilities(loss, place, before, typed)
