"""Values that hold probabilities where a loss takes logits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, rule
from graphtool.graph import Graph
from graphtool.ops import Probabilities, kind_of, logits_of

__all__ = ["ROLES_OF", "probabilities", "source_logits", "undeclared_probabilities"]


@rule("GT228", replaces=("GT349", "GT369", "GT513"))
def probabilities(
    message: str,
    *,
    severity: Severity = Severity.ERROR,
    where: Sequence[Where],
    notes: Sequence[str] = (),
    help: str | None = None,
) -> Diagnostic:
    """A Value went through softmax or sigmoid, and losses want the logits before it.

    `soft_label`, `dkd` and others apply softmax themselves. A second softmax flattens the
    distribution, and the loss teaches next to nothing. Name the logits, or pass
    `from_probs="teacher"` (or `"student"`, or `"both"`). After a sigmoid each score stands for
    itself: compare the logits before it with `l2`.

    `l2` of probabilities is a warning: the differences are small, and the gradient vanishes where a
    network is sure. Compare logits with `kl` or `soft_label` and a temperature. Probabilities that
    only an accuracy reads are not reported.
    """
    return Diagnostic(
        message=message, severity=severity, where=tuple(where), notes=tuple(notes), help=help
    )


def source_logits(graph: Graph, name: str) -> Probabilities[str] | None:
    """Return the logits that a Value holds the probabilities of, None if it holds none."""

    def producer(name: str) -> tuple[str, str] | None:
        operator = graph.producer(name)
        operand = operator.operands[0] if operator is not None and operator.operands else None
        return None if operator is None or operand is None else (kind_of(operator), operand)

    return logits_of(name, producer)


# The roles that each value of `from_probs` names.
ROLES_OF: Mapping[str | None, tuple[str, ...]] = {
    None: (),
    "teacher": ("teacher",),
    "student": ("student",),
    "both": ("teacher", "student"),
}


def undeclared_probabilities(
    loss: str,
    found: Mapping[Where, Probabilities[str]],
    from_probs: object,
    call: Callable[[str], str],
    l2_code: str,
) -> Iterator[Diagnostic]:
    """Yield the Values that hold probabilities and that `from_probs` doesn't name.

    `found` are all that hold probabilities; `call` returns the code with another `from_probs`.
    Scores after a sigmoid are never a distribution over classes: `l2_code` compares their logits.
    """
    declared = (
        ROLES_OF.get(from_probs) if from_probs is None or isinstance(from_probs, str) else None
    )
    if declared is None:
        return  # the loss refuses it
    undeclared = {
        where: source
        for where, source in found.items()
        if source.function == "sigmoid" or where.role not in declared
    }
    several = from_probs or len(undeclared) > 1
    roles = "both" if several else next((where.role for where in undeclared), None)
    any_sigmoid = any(source.function == "sigmoid" for source in undeclared.values())
    for where, source in undeclared.items():
        code = l2_code if any_sigmoid else call(roles or "both")
        yield probabilities(
            f"`{where.value}` holds probabilities, and `{loss}` takes the logits before "
            f"{source.function}",
            where=(where,),
            notes=(f"the input of {source.function} is `{source.logits}`",),
            help="help(gt.losses.attention_scores)" if loss == "attention_scores" else code,
        )
