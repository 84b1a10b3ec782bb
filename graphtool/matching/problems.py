"""What can be wrong with pairs: GT3xx."""

from __future__ import annotations

from graphtool.diagnostics import Diagnostic, Severity, Where, rule
from graphtool.graph import Graph

__all__ = ["nothing_in_common"]


@rule("GT301")
def nothing_in_common(teacher: Graph, student: Graph, count: int) -> Diagnostic:
    """The two networks have no kind of feature map in common: at most their outputs pair.

    Maps pair with maps, layers of a transformer with layers of a transformer.
    `graphtool inspect MODEL` shows what a network has.
    """
    suggested = "nothing can be suggested" if not count else "only the logits are suggested"
    return Diagnostic(
        message=f"no kind of feature map is found in both networks: {suggested}",
        severity=Severity.WARNING,
        where=(
            Where(role="teacher", program=teacher.source),
            Where(role="student", program=student.source),
        ),
        help=f"graphtool inspect {student.source}",
    )
