"""What can go wrong between the ranks of a launch: GT538, GT545, GT546."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphtool.diagnostics import Diagnostic, Where, counted, rule
from graphtool.text import bounded
from graphtool.training._alike import Description

__all__ = ["late_rank", "lost_rank", "unequal_ranks"]


@rule("GT538")
def lost_rank(
    rank: int, ranks: int, fates: Mapping[int, str], heard: Mapping[int, str]
) -> Diagnostic:
    """Another rank is lost, and this one cannot go on: a step takes the gradients of all of them.

    It was killed or crashed ("gone without a word"), raised an error, or came to its end while
    this one has steps left: feed all ranks the same number of batches. The cause is in the log of
    the other (`log/workerlog.N`, unless `--log_dir` says otherwise). The death of a process is seen
    at once. With gloo (CPU), a rank that runs but is busy counts as lost after 30 seconds, which
    Paddle fixes: whatever takes longer on one rank alone, such as an evaluation, has to be done by
    all. What a rank was last heard of is as new as its last checkpoint.
    """
    told = ", and ".join(f"rank {other} {fate}" for other, fate in fates.items())
    return Diagnostic(
        message=f"rank {rank} of {ranks} cannot go on: {told}",
        notes=tuple(f"rank {other} was last heard of {what}" for other, what in heard.items()),
        help=_read(list(fates)),
    )


@rule("GT545")
def late_rank(rank: int, ranks: int, late: Sequence[int], waited: str) -> Diagnostic:
    """Another rank has not come to `gt.minimize`, where each waits for all of them.

    It has failed before, or builds its Program for longer than this one waits: 300 seconds, unless
    `gt.minimize(..., rank_timeout=...)` says otherwise. Where a rank fails, the launcher stops the
    others within seconds; one that is stopped while it waits says so.
    """
    others = ", ".join(f"rank {one}" for one in late)
    return Diagnostic(
        message=f"rank {rank} of {ranks} {waited} for {others} to come to `gt.minimize`",
        help=_read(late),
    )


def _read(ranks: Sequence[int]) -> str:
    return f"tail {' '.join(f'log/workerlog.{rank}' for rank in ranks)}"


@rule("GT546")
def unequal_ranks(ranks: Mapping[int, Description]) -> Diagnostic:
    """The ranks are about to train different things, so their gradients have no mean.

    What is compared is the Program before `gt.minimize` adds to it (operators with their operands
    and attributes, parameters with their shapes), the loss, what learns, and the optimizer with its
    numbers. Initial values, seeds and data may differ. Nothing was added to any Program.
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
        message=f"rank {sides[0]} and rank {sides[1]} are about to train different things",
        where=tuple(
            Where(role=f"rank {rank}", value="nothing more" if line is None else bounded(line))
            for rank, line in zip(sides, lines, strict=True)
        ),
        notes=tuple(notes),
        help="build the same on every rank: paddle.distributed.get_rank() is for its share of data",
    )
