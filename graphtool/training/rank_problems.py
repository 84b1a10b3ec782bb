"""What can go wrong between the ranks of a launch: GT538, GT545, GT546, GT548."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphtool.diagnostics import Diagnostic, Severity, Where, counted, rule
from graphtool.text import escaped_bounded
from graphtool.training._alike import Description

__all__ = ["late_rank", "lost_rank", "unequal_ranks", "unreachable_rank"]


@rule("GT538")
def lost_rank(
    rank: int, ranks: int, fates: Mapping[int, str], heard: Mapping[int, str]
) -> Diagnostic:
    """Another rank is lost, and a step takes the gradients of all of them.

    It was killed or crashed ("gone without a word"), raised an error, or came to its end while
    this one has steps left: feed all ranks the same number of batches. The cause is in the log of
    the other (`log/workerlog.N`, unless `--log_dir` says otherwise). The death of a process is seen
    at once. With gloo (CPU), a rank that runs but is busy counts as lost after 30 seconds, which
    Paddle fixes: whatever takes longer on one rank alone, such as an evaluation, has to be done by
    all. What a rank was last heard of is as new as its last checkpoint. Once one rank has come to
    its end, the work counts as done, and this is said only where a step fails for it.
    """
    told = ", and ".join(f"rank {other}, which {fate}" for other, fate in fates.items())
    last = tuple(f"rank {other} was last heard of {what}" for other, what in heard.items())
    return Diagnostic(
        message=f"rank {rank} of {ranks} has lost {told}",
        notes=(*last, "no further step can be taken: it takes the gradients of all ranks"),
        help=_read(list(fates)),
    )


@rule("GT545")
def late_rank(rank: int, ranks: int, late: Sequence[int], waited: str | None) -> Diagnostic:
    """Another rank has not come to `gt.minimize`, where each waits for all of them.

    It has failed before, or builds its Program for longer than this one waits: 300 seconds, unless
    `gt.minimize(..., rank_timeout=...)` says otherwise. Where a rank fails, the launcher stops the
    others within seconds; one that is stopped while it waits says so. Where one gives up, all do:
    the same call may be made again, on every rank.
    """
    others = ", ".join(f"rank {one}" for one in late)
    what = (
        f"{waited} for {others} to come to `gt.minimize`"
        if waited
        else f"came to `gt.minimize`, where {others} gave up waiting for all ranks"
    )
    return Diagnostic(
        message=f"rank {rank} of {ranks} {what}",
        help=_read(late),
    )


def _read(ranks: Sequence[int]) -> str:
    return f"tail {' '.join(f'log/workerlog.{rank}' for rank in ranks)}"


_ONE_NAME = "build within `with paddle.utils.unique_name.guard():` on every rank"
_ONE_NETWORK = (
    "build the same on every rank: paddle.distributed.get_rank() is for its share of data"
)


@rule("GT546")
def unequal_ranks(ranks: Mapping[int, Description]) -> Diagnostic:
    """The ranks are about to train different things, so their gradients have no mean.

    What is compared is what computes the loss, before `gt.minimize` adds to it (operators with
    their operands and attributes), all parameters of the Program with their shapes, what learns,
    and the optimizer with its numbers. Operators are numbered as they would be if nothing else was
    in the Program. Initial values, seeds, the size of the batch and data may differ, and so may
    what is computed besides. Parameters go by their names, which Paddle numbers in the order in
    which they are made. Nothing was added to any Program.
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
            Where(
                role=f"rank {rank}", value="nothing more" if line is None else escaped_bounded(line)
            )
            for rank, line in zip(sides, lines, strict=True)
        ),
        notes=tuple(notes),
        help=_ONE_NAME if _differ_in_name(*lines) else _ONE_NETWORK,
    )


def _differ_in_name(one: str | None, other: str | None) -> bool:
    """Tell two lines of parameters that differ in nothing but what stands in backticks."""
    if one is None or other is None or not one.startswith("parameter `"):
        return False
    return one.split("`")[::2] == other.split("`")[::2]


@rule("GT548")
def unreachable_rank(rank: int, ranks: int, reason: str) -> Diagnostic:
    """Two ranks have no way to each other but Paddle's own, so none listens for the others.

    Each rank takes calls on a TCP port that the system chooses, at the host under which the
    launcher knows it (`PADDLE_CURRENT_ENDPOINT`). Training goes on as Paddle alone would have it:
    `gt.minimize` doesn't compare what the ranks are about to train, and names no rank that is lost.
    """
    return Diagnostic(
        message=f"rank {rank} of {ranks} goes on without hearing the others: {reason}",
        severity=Severity.WARNING,
        help="open all TCP ports between the hosts of the launch",
    )
