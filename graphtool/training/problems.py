"""What can be wrong with parameters and with programs that are to be trained: GT5xx."""

from __future__ import annotations

from collections.abc import Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, counted, listed, rule
from graphtool.graph import Graph, Shape
from graphtool.paths import ls_command

__all__ = [
    "contradicting_keys",
    "cut_off",
    "dropout_not_found",
    "misshapen_parameter",
    "missing_parameters",
    "names_taken",
    "norms_not_found",
    "nothing_to_restore",
    "outputs_only",
    "probabilities",
    "random_parameters",
    "statistics_learn_again",
    "still_frozen",
    "structured_names",
    "training_program",
    "unexpected_parameters",
    "weights_come_later",
    "without_results",
]

_LISTED = 6


@rule("GT505")
def missing_parameters(
    path: str,
    names: Sequence[str],
    *,
    allowed: bool,
    keys: Sequence[str] = (),
    others: Sequence[str] = (),
) -> Diagnostic:
    """Parameters of the program are not in the file, so they would keep what they have now.

    Most often the file is of another network, or names were counted on: `conv2d_0.w_0` and
    `conv2d_53.w_0` are the same layer of networks that were built first and second.
    `allow_missing=True` loads what is there, for instance a backbone without its head. A file that
    has none of them, but other ones, is another network's for sure.
    """
    in_layer = (f"in the Layer: {listed(keys)}",) if keys else ()
    if others:
        return Diagnostic(
            message=f"the file has none of the program's {counted(len(names), 'parameter')}",
            where=(Where(program=path),),
            notes=(*in_layer, f"in the file, as of another network: {listed(others)}"),
            help=ls_command(path),
        )
    return Diagnostic(
        message=f"{counted(len(names), 'parameter')} not in the file: {listed(names)}",
        severity=Severity.WARNING if allowed else Severity.ERROR,
        where=(Where(program=path),),
        notes=in_layer,
        help=None if allowed else "gt.load_parameters(program, path, allow_missing=True)",
    )


@rule("GT506")
def unexpected_parameters(path: str, names: Sequence[str]) -> Diagnostic:
    """The file holds parameters that the program has not; they are left out."""
    return Diagnostic(
        message=f"left out, as the program has none of these: {listed(names)}",
        severity=Severity.WARNING,
        where=(Where(program=path),),
    )


@rule("GT507")
def misshapen_parameter(
    path: str,
    name: str,
    *,
    wanted: tuple[Shape | None, str | None],
    found: tuple[Shape, str],
    key: str,
    also: Sequence[str] = (),
    alien: bool = False,
) -> Diagnostic:
    """Parameters of the file have another shape or dtype than those of the program.

    A few are most often a head for another number of classes. Where many do not fit, or others are
    not there, the file is most likely another network's.
    """
    others = (f"also {listed(also)}",) if also else ()
    return Diagnostic(
        message=f"`{name}` is {_typed(*wanted)} in the program and {_typed(*found)} in the file",
        where=(
            Where(role="program", value=name, shape=wanted[0]),
            Where(role="file", program=path, value=key, shape=found[0]),
        ),
        notes=(*others, "the file looks like another network's") if alien else others,
        count=1 + len(also),
    )


@rule("GT508")
def structured_names(path: str, names: Sequence[str]) -> Diagnostic:
    """The file names its parameters by attribute paths (`conv1.weight`), the program by Variables.

    The Layer knows which is which. Give the Layer that the program was built from, or the Network
    that `gt.from_layer` returned.
    """
    return Diagnostic(
        message=f"the file names parameters as a Layer does: {listed(names)}",
        where=(Where(program=path),),
        help="gt.load_parameters(program, path, layer=network)",
    )


@rule("GT510")
def outputs_only(graph: Graph) -> Diagnostic:
    """An inference model is what leads from its feeds to its outputs: label and loss were pruned.

    Add a label (`paddle.static.data`) and a loss to the program before you minimize.
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


@rule("GT511")
def norms_not_found(graph: Graph, convolutions: int) -> Diagnostic:
    """The program has convolutions and no normalisation.

    Either the network has none (VGG), or they were folded into the convolutions at export, and a
    fold can't be undone: training then goes on without normalisation, which takes a smaller
    learning rate. Build the network from its code where that matters.
    """
    return Diagnostic(
        message=f"{counted(convolutions, 'convolution')}, no batch norm: folded ones are lost",
        severity=Severity.NOTE,
        where=(Where(program=graph.source),),
    )


@rule("GT512")
def dropout_not_found(graph: Graph) -> Diagnostic:
    """The program has no dropout: a network that had it lost it at export.

    Some exports leave out what does nothing in test mode. It can't be told from the file.
    """
    return Diagnostic(
        message="no dropout is in the file: if the network had it, it can't be restored",
        severity=Severity.NOTE,
        where=(Where(program=graph.source),),
    )


@rule("GT513")
def probabilities(graph: Graph, output: str, logits: str) -> Diagnostic:
    """An output went through softmax or sigmoid already, as exports for inference often do.

    Losses that take logits (`cross_entropy`, `soft_label`) want what goes into it.
    """
    return Diagnostic(
        message=f"output `{output}` holds probabilities; the logits are `{logits}`",
        severity=Severity.NOTE,
        where=(Where(program=graph.source, value=logits, shape=graph.values[logits].shape),),
    )


@rule("GT514")
def without_results(graph: Graph, type: str, count: int) -> Diagnostic:
    """Operators lack a result that their gradient reads: the export left it out.

    Batch norms and dropout are built anew with theirs; a `sync_batch_norm` of GPUs is not.
    Minimizing a loss behind one may fail, or end the process.
    Build the network from its code, and load the parameters of the file into it.
    """
    return Diagnostic(
        message=f"{counted(count, 'operator')} `{type}` without a result that its gradient reads",
        severity=Severity.WARNING,
        where=(Where(program=graph.source),),
    )


@rule("GT515")
def still_frozen(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """The file says of these parameters that they do not learn; that was left as it is.

    Set `trainable` on those that shall learn.
    """
    return Diagnostic(
        message=f"frozen, as the file says: {counted(len(names), 'parameter')}: {listed(names)}",
        severity=Severity.NOTE,
        where=(Where(program=graph.source),),
    )


@rule("GT516")
def nothing_to_restore(graph: Graph) -> Diagnostic:
    """The program is no inference model: nothing in it was in test mode, and it fetches nothing."""
    return Diagnostic(
        message="nothing was in test mode: the program is as it was",
        severity=Severity.NOTE,
        where=(Where(program=graph.source),),
    )


@rule("GT517")
def training_program(graph: Graph, operator: str) -> Diagnostic:
    """The program has gradient or optimizer operators: it is trained as it stands.

    `for_training` takes inference models. A loss that is added now would never train.
    """
    return Diagnostic(
        message=f"the program already has gradients: `{operator}`",
        where=(Where(program=graph.source, value=operator),),
        help="give the program from before `minimize`, or the inference model",
    )


@rule("GT518")
def statistics_learn_again(graph: Graph, count: int) -> Diagnostic:
    """Batch norms take the statistics of the batch again and their running statistics move.

    An inference model can't say whether the network was trained with frozen statistics
    (`use_global_stats=True`): test mode looks the same.
    """
    return Diagnostic(
        message=f"learning again, trained frozen or not: {counted(count, 'batch norm')}",
        severity=Severity.NOTE,
        where=(Where(program=graph.source),),
    )


@rule("GT519")
def cut_off(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """No gradient from the outputs reaches these parameters, so they never learn.

    A Value between them and the outputs stops gradients (`stop_gradient`, `detach`), or an operator
    that has none stands there. It is so where a network wants it so; a loss on a Value before that
    place reaches them.
    """
    return Diagnostic(
        message=f"no gradient from the outputs reaches {counted(len(names), 'parameter')}: "
        f"{listed(names)}",
        severity=Severity.WARNING,
        where=(Where(program=graph.source),),
    )


@rule("GT521")
def names_taken(graph: Graph, names: Sequence[str]) -> Diagnostic:
    """The legacy program has names that Paddle will give again to what you add to it.

    Paddle counts names (`tmp_0`) from 0 in every process, and an operator that writes a Variable
    that is there already writes over it without a word: a loss of `tmp_0` and the network's
    own `tmp_0` become one. Add to the program under names of your own.
    """
    return Diagnostic(
        message=f"names that Paddle counts are taken: {listed(names)}",
        severity=Severity.WARNING,
        where=(Where(program=graph.source),),
        help='with paddle.utils.unique_name.guard("loss_"): ...',
    )


@rule("GT520")
def random_parameters(role: str, source: str, *, known: bool) -> Diagnostic:
    """The network was built from code that does not load its parameters.

    They are what its initialisers make of them, and a teacher that knows nothing teaches nothing:
    load its weights. It is not known of a Layer without biases and norms, which nothing tells from
    a new one.
    """
    if known:
        message = f"the {role}'s parameters are those of a network that was just built"
    else:
        message = f"it is not known whether `{source}` loads the weights of the {role}"
    return Diagnostic(
        message=message,
        severity=Severity.WARNING if role == "teacher" else Severity.NOTE,
        where=(Where(role=role, program=source),),
        help=f"--{role}-weights FILE",
    )


@rule("GT550")
def weights_come_later(program: str, count: int) -> Diagnostic:
    """The teacher's Scope holds none of its weights, so the merge could not take them along.

    They are taken to be loaded after the merge, as scripts for PaddleSlim may do. The program does
    not run before that. Else load the teacher's weights first: its startup program, then
    `gt.load_parameters`.
    """
    return Diagnostic(
        message=f"{count} parameters of the teacher hold nothing yet: their weights come later",
        severity=Severity.WARNING,
        where=(Where(role="teacher", program=program),),
        help="graphtool.merging.merged_of(student_program).load_teacher(file_or_scope)",
    )


@rule("GT551")
def contradicting_keys(path: str, name: str, keys: tuple[str, str]) -> Diagnostic:
    """Two entries of the file mean one parameter and hold different numbers.

    An RNN and its cell have two names for one parameter, which are equal in every file that Paddle
    writes. Else the file's own table of names is wrong: say what is what with `layer`.
    """
    return Diagnostic(
        message=f"`{keys[0]}` and `{keys[1]}` both mean `{name}` and differ",
        where=(Where(program=path, value=keys[0]), Where(program=path, value=keys[1])),
        help="gt.load_parameters(program, path, layer=network)",
    )


def _typed(shape: Shape | None, dtype: str | None) -> str:
    dims = "?" if shape is None else ", ".join(map(str, shape))
    return f"[{dims}] {dtype or '?'}"
