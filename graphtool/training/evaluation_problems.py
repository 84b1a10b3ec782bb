"""What can be wrong with a Program for evaluation: GT540 to GT544."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import Graph

__all__ = [
    "fetches_gradient",
    "foreign_fetch",
    "not_fetchable",
    "nothing_to_fetch",
    "random_in_test",
]


@rule("GT540")
def nothing_to_fetch(graph: Graph) -> Diagnostic:
    """A Program for test is what its fetches need, and none were named.

    What a network answers is known of a Network, of what was merged as one, and of saved models; of
    other Programs one has to say it.
    """
    return Diagnostic(
        message="nothing is to be fetched",
        where=(Where(program=graph.source),),
        help="test, (accuracy,) = gt.for_test(program, fetch=[accuracy])",
    )


@rule("GT541")
def foreign_fetch(graph: Graph, place: int, type: str) -> Diagnostic:
    """What is to be fetched is no Value of this very Program.

    It is one of another Program, or of a clone, or its operator was removed since. Paddle fetches
    nothing then, without a word, or crashes.
    """
    return Diagnostic(
        message=f"`fetch[{place}]`, a `{type}`, is no Value of the Program",
        where=(Where(program=graph.source),),
        help="give Values that were built in this Program, or names: fetch=['relu_4']",
    )


@rule("GT542")
def fetches_gradient(graph: Graph, name: str) -> Diagnostic:
    """What is to be fetched is a gradient, an update or made of one; a test Program has none.

    Fetch it from the Program that trains.
    """
    return Diagnostic(
        message=f"`{name}` is a gradient or an update, which a Program for test has not",
        where=(Where(program=graph.source, value=name, shape=graph.values[name].shape),),
        help="executor.run(program, fetch_list=[...])",
    )


@rule("GT543")
def not_fetchable(graph: Graph, name: str) -> Diagnostic:
    """Paddle fetches tensors of the top-level Block: none from inside a branch or a loop.

    Fetch what the branch or the loop hands out.
    """
    return Diagnostic(
        message=f"`{name}` cannot be fetched: it is inside a branch or a loop, or no tensor",
        where=(Where(program=graph.source, value=name),),
        help=f"gt.for_test(program, fetch=[{name.partition('/')[0]!r}])",
    )


@rule("GT544")
def random_in_test(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """Operators draw random numbers and have no test mode: evaluation is random to that extent.

    Dropout of whole axes (`axis=...`, `Dropout2D`), alpha dropout and stochastic depth are built of
    them while the network is in training mode. Build the network in eval mode to be without.
    """
    return Diagnostic(
        message=f"random in test mode too: {counted(len(names), 'operator')}: {listed(names)}",
        severity=Severity.WARNING,
        where=(Where(program=graph.source),),
        help="gt.from_layer(layer, input_spec, train=False)",
    )
