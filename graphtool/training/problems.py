"""What can be wrong with parameters and with programs to train: GT5xx."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import Graph

__all__ = [
    "contradicting_keys",
    "cut_off",
    "lost_in_export",
    "names_taken",
    "nothing_to_restore",
    "outputs_only",
    "statistics_learn_again",
    "still_frozen",
    "structured_names",
    "unexpected_parameters",
    "without_results",
]

_LISTED = 6


@rule("GT506")
def unexpected_parameters(path: str, names: Sequence[str]) -> Diagnostic:
    """The file holds parameters that the program does not have; they are ignored."""
    return Diagnostic(
        message=f"ignored, as the program has no such parameters: {listed(names)}",
        severity=Severity.WARNING,
        where=(Where(program=path),),
    )


@rule("GT508")
def structured_names(path: str, names: Sequence[str]) -> Diagnostic:
    """The file names parameters as a Layer does (`conv1.weight`), the program by Variables.

    Pass the Layer that the program was built from, or the Network that `gt.from_layer` returned: it
    maps one to the other.
    """
    return Diagnostic(
        message=f"the file names parameters as a Layer does: {listed(names)}",
        where=(Where(program=path),),
        help="gt.load_parameters(program, path, layer=network)",
    )


@rule("GT510")
def outputs_only(graph: Graph) -> Diagnostic:
    """An inference model has no label and no loss: saving it pruned them.

    Add a label (`paddle.static.data`) and a loss to the program before `minimize`.
    """
    outputs = graph.fetches
    return Diagnostic(
        message=f"label and loss are not in the file; its outputs are {listed(outputs)}",
        severity=Severity.NOTE,
        where=tuple(
            Where(program=graph.source, value=name, shape=graph.values[name].shape)
            for name in outputs[:_LISTED]
        ),
    )


@rule("GT511", replaces=("GT512",))
def lost_in_export(graph: Graph, message: str) -> Diagnostic:
    """The program has no normalisation or no dropout, and the export may have removed it.

    The file cannot tell. Exports may fold batch norms into convolutions, which cannot be undone,
    and leave out dropout, which does nothing in test mode. Some networks (VGG) never had them.
    Training without normalisation takes a smaller learning rate. If that matters, build the network
    from its code.
    """
    return Diagnostic(message=message, severity=Severity.NOTE, where=(Where(program=graph.source),))


@rule("GT514")
def without_results(graph: Graph, type: str, count: int) -> Diagnostic:
    """Operators lack a result that their gradient needs: the export removed it.

    Batch norms and dropout are rebuilt with theirs, a `sync_batch_norm` of GPUs is not. Minimizing
    a loss that depends on one may fail, or end the process. Build the network from its code, and
    load the parameters of the file into it.
    """
    return Diagnostic(
        message=f"{counted(count, 'operator')} `{type}` without a result that its gradient needs",
        severity=Severity.WARNING,
        where=(Where(program=graph.source),),
    )


@rule("GT515")
def still_frozen(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """These parameters were saved as not trainable, and stay so.

    Set `trainable` on those that you want to train.
    """
    return Diagnostic(
        message=f"{counted(len(names), 'parameter')} frozen in the file: {listed(names)}",
        severity=Severity.NOTE,
        where=(Where(program=graph.source),),
    )


@rule("GT516")
def nothing_to_restore(graph: Graph) -> Diagnostic:
    """The program is not an inference model: nothing is in test mode or fetched."""
    return Diagnostic(
        message="no operator is in test mode: the program is unchanged",
        severity=Severity.NOTE,
        where=(Where(program=graph.source),),
    )


@rule("GT518")
def statistics_learn_again(graph: Graph, count: int) -> Diagnostic:
    """Batch norms use the statistics of the batch again, and update their running statistics.

    The network may have been trained with frozen statistics (`use_global_stats=True`): in an
    inference model that looks like test mode.
    """
    return Diagnostic(
        message=f"{counted(count, 'batch norm')} in training mode, even if trained frozen",
        severity=Severity.NOTE,
        where=(Where(program=graph.source),),
    )


@rule("GT519")
def cut_off(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """No gradient from the outputs reaches these parameters, so they are not trained.

    A Value on the way stops gradients (`stop_gradient`, `detach`), or an operator has no gradient.
    The network may be meant so. A loss on a Value before that place reaches them.
    """
    return Diagnostic(
        message=f"no gradient from the outputs reaches {counted(len(names), 'parameter')}: "
        f"{listed(names)}",
        severity=Severity.WARNING,
        where=(Where(program=graph.source),),
    )


@rule("GT521")
def names_taken(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """The legacy program uses names that Paddle will give to new operators too.

    Paddle counts names (`tmp_0`) from 0 in every process, and an operator silently overwrites a
    Variable that exists: a loss `tmp_0` and the network's `tmp_0` would be one. Use a prefix for
    what you add.
    """
    return Diagnostic(
        message=f"Paddle would use these names again: {listed(names)}",
        severity=Severity.WARNING,
        where=(Where(program=graph.source),),
        help='with paddle.utils.unique_name.guard("loss_"): ...',
    )


@rule("GT551")
def contradicting_keys(path: str, name: str, keys: tuple[str, str]) -> Diagnostic:
    """Two entries of the file are for one parameter, and hold different numbers.

    An RNN and its cell have two names for one parameter, with equal numbers in every file that
    Paddle writes. Otherwise the table of names in the file is wrong: pass `layer`.
    """
    return Diagnostic(
        message=f"`{keys[0]}` and `{keys[1]}` are both for `{name}` and differ",
        where=(Where(program=path, value=keys[0]), Where(program=path, value=keys[1])),
        help="gt.load_parameters(program, path, layer=network)",
    )
