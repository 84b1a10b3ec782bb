"""What can be wrong with the answer that a loss, or another number, is told of: GT309."""

from __future__ import annotations

from graphtool.diagnostics import Diagnostic, Severity, Where, listed, rule
from graphtool.selectors import listing
from graphtool.structure import Structure
from graphtool.text import literal

__all__ = ["unclear_answer"]

_LISTED = 6


@rule("GT309")
def unclear_answer(role: str, teacher: Structure, student: Structure) -> Diagnostic:
    """A network ends in a loss, or a number, that does not say what it answers: that was guessed.

    A loss is followed back to the last Values that no label touches. Here these are several, or
    there is none but the number itself: the loss compares two towers, say, or needs no label. What
    was taken is what the last weights make. Where that is not what you mean, name the pair
    yourself, or give the network without its loss.
    """
    side = teacher if role == "teacher" else student
    graph, taken = side.graph, _taken(side)
    ends = dict.fromkeys(head.output for head in side.heads if not head.is_clear)
    said = "which does not say" if len(ends) == 1 else "which do not say"
    found = f"taken was {listed(taken, _LISTED)}" if taken else "no logits are paired"
    places = [
        Where(role=role, program=graph.source, value=name, shape=graph.values[name].shape)
        for name in taken[:_LISTED]
    ]
    pair = [literal(name) for one in (teacher, student) for name in _taken(one)[:1]]
    return Diagnostic(
        message=f"the {role} ends in {listed([*ends], _LISTED)}, {said} what it answers: {found}",
        severity=Severity.WARNING,
        where=tuple(places) or (Where(role=role, program=graph.source),),
        help=f"gt.distill_loss(merged, [({', '.join(pair)})])"
        if len(pair) == 2
        else listing(graph.source),
    )


def _taken(side: Structure) -> list[str]:
    """Return the logits, without what is but one number."""
    values = side.graph.values
    return [head.logits for head in side.heads if (values[head.logits].rank or 0) > 1]
