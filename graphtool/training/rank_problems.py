"""What can go wrong between the ranks of a launch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, counted, rule
from graphtool.text import escaped_bounded
from graphtool.training._alike import Description

__all__ = ["lost_rank", "unequal_ranks"]


@rule("GT538", replaces=("GT545", "GT548"))
def lost_rank(
    message: str,
    *,
    severity: Severity = Severity.ERROR,
    notes: Sequence[str] = (),
    help: str,
) -> Diagnostic:
    """Another rank ended, did not come to `gt.minimize` in time, or cannot be reached.

    A step takes the gradients of all ranks. Another rank was killed or crashed ("ended without a
    message"), raised an error, or ended while this one has steps left: give all ranks the same
    number of batches. The cause is in its log (`log/workerlog.N`, or in `--log_dir`). The end of a
    process is noticed at once. With gloo (CPU), a rank that is busy for 30 seconds counts as lost,
    a limit that Paddle sets: long work, such as an evaluation, has to be done on all ranks. What a
    rank last reported is as recent as its last checkpoint.

    In `gt.minimize` each rank waits for all others, 300 seconds unless `rank_timeout` says
    otherwise. If one rank gives up, all do; make the same call again on every rank.

    Each rank listens on a TCP port that the system chooses, at its host in
    `PADDLE_CURRENT_ENDPOINT`. If ranks can reach each other only through Paddle, training goes on
    with a warning: `gt.minimize` does not compare what the ranks train, and lost ranks are not
    named.
    """
    return Diagnostic(message=message, severity=severity, notes=tuple(notes), help=help)


_ONE_NAME = "build within `with paddle.utils.unique_name.guard():` on every rank"
_ONE_NETWORK = (
    "build the same on every rank: use paddle.distributed.get_rank() only for its share of the data"
)


@rule("GT546")
def unequal_ranks(ranks: Mapping[int, Description]) -> Diagnostic:
    """The ranks would train different Programs, so their gradients cannot be averaged.

    `gt.minimize` compares what computes the loss (operators with their operands and attributes),
    all parameters of the Program with their shapes, which of them are trained, and the optimizer
    with its settings. Operators are numbered without those that the loss does not need. Initial
    values, seeds, batch size and data may differ, and so may everything beside the loss. Parameters
    are compared by name; Paddle numbers names in the order of creation. Nothing was added to any
    Program.
    """
    first, *others = sorted(ranks)
    unlike = [rank for rank in others if ranks[rank] != ranks[first]]
    sides = (first, unlike[0])
    lines = ranks[first].first_difference(ranks[unlike[0]])
    notes = [
        f"rank {rank} has {counted(ranks[rank].count('operator'), 'operator')} "
        f"and {counted(ranks[rank].count('parameter'), 'parameter')}"
        for rank in sides
    ]
    if len(unlike) > 1:
        notes.append(f"{len(unlike)} of {len(ranks)} ranks differ from rank {first}")
    return Diagnostic(
        message=f"rank {sides[0]} and rank {sides[1]} would train different Programs",
        where=tuple(
            Where(
                role=f"rank {rank}", value="nothing more" if line is None else escaped_bounded(line)
            )
            for rank, line in zip(sides, lines, strict=True)
        ),
        notes=tuple(notes),
        help=_ONE_NAME if _differ_in_name(*lines) else _ONE_NETWORK,
    )


def _differ_in_name(one: str | None, other: str | None) -> bool:
    """Return whether two lines are of parameters and differ only in their names."""
    if one is None or other is None or not one.startswith("parameter `"):
        return False
    return one.split("`")[::2] == other.split("`")[::2]
