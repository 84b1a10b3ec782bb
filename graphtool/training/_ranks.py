"""Ranks of `python -m paddle.distributed.launch`: one start, one mean of gradients, one end."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import zlib
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic
from types import FrameType, TracebackType

from graphtool.backend.layer_weights import map_set_parameters
from graphtool.backend.optimizers import average_over_ranks, broadcast_from_first, rank_store
from graphtool.backend.paddle import Paddle, load_paddle
from graphtool.diagnostics import Diagnostic, GraphtoolError, Severity, warn
from graphtool.text import elided, printable
from graphtool.training import rank_problems as problems
from graphtool.training._alike import Description
from graphtool.training._meeting import Meeting, UnreachableError, connected
from graphtool.training._peers import ENDED, LostRanksError, Peer, Peers

__all__ = [
    "averaged",
    "joined",
    "meet",
    "rank_count",
    "require_alike",
    "start_alike",
    "telling",
]


_ALL_RANKS, _FIRST = 0, 0
# Gloo's exceptions lose what they say on the way to Python.
_WITHOUT_WORDS = "std::exception"
# Seconds until the news of a death has come to a rank that gloo told of it.
_NEWS = 2.0
_ROOM = 200


def rank_count() -> int:
    """Return how many ranks were launched, 1 where none were."""
    return load_paddle().distributed.get_world_size()


def joined() -> bool:
    """Tell whether the ranks have been made a group that PIR's collectives find."""
    return load_paddle().distributed.is_initialized()


def averaged(gradients: Paddle) -> list[tuple[Paddle, Paddle]]:
    """Put the mean over all ranks in the place of each gradient.

    The order is that of the parameters' names: PIR lists parameters in an order that differs from
    process to process, and ranks that exchange them in different orders wait for each other.
    """
    ordered = sorted(gradients, key=_name)
    return [(parameter, average_over_ranks(gradient)) for parameter, gradient in ordered]


def _name(gradient: tuple[Paddle, Paddle]) -> str:
    return gradient[0].name


def start_alike(startup: Paddle, names: Collection[str]) -> None:
    """Let a startup program give every rank what it gives the first one, for Variables named.

    A second call for the same Variables changes nothing.
    """
    setters = list(_initialisers(startup, names))
    map_set_parameters(startup, setters, broadcast_from_first)


def _initialisers(startup: Paddle, names: Collection[str]) -> Iterator[Paddle]:
    for op in startup.global_block().ops:
        if op.name() != "builtin.set_parameter" or op.str_attr("parameter_name") not in names:
            continue
        if op.operand_source(0).get_defining_op().name() != "pd_op.broadcast":
            yield op


@dataclass
class _Launch:
    """What this rank has to do with the others."""

    peers: Peers | None = None
    # How often this rank has come to meet the others.
    meetings: int = 0
    # Whether a loss needs no more words: it was told, is about to be, or this rank itself ends.
    silent: bool = False

    def hear(self, lost: Peer) -> None:
        """Say, in whatever this rank is at, that another one is lost."""
        if lost.failed and not self.silent and not self._others_ended():
            self.say((lost,))

    def _others_ended(self) -> bool:
        """Tell whether the work is done: a rank that ends well has taken all of its steps."""
        return self.peers is not None and any(p.reason == ENDED for p in self.peers.all.values())

    def say(self, lost: tuple[Peer, ...]) -> None:
        self.silent = True
        sys.stderr.write(f"{self.loss(lost)}\n")

    def loss(self, lost: tuple[Peer, ...]) -> Diagnostic:
        fates = {one.rank: _fate(one) for one in lost}
        heard = {one.rank: one.activity for one in lost}
        which = ", and ".join(f"rank {rank}, which {fate}" for rank, fate in fates.items())
        last = [f"rank {rank} last reported {what}" for rank, what in heard.items()]
        rank, ranks = _which()
        return problems.lost_rank(
            f"rank {rank} of {ranks} has lost {which}",
            notes=[*last, "no further step is possible: it takes the gradients of all ranks"],
            help=_tail(fates),
        )


_launch = _Launch()


def _which() -> tuple[int, int]:
    return load_paddle().distributed.get_rank(), rank_count()


def _fate(peer: Peer) -> str:
    if not peer.gone:
        return "has not answered in time, though it runs"
    return peer.reason or "ended without a message"


def _tail(ranks: Iterable[int]) -> str:
    return f"tail {' '.join(f'log/workerlog.{rank}' for rank in ranks)}"


def _late(late: Sequence[int], waited: str | None) -> GraphtoolError:
    """Report ranks that did not come to `gt.minimize`, or that gave up waiting (None)."""
    rank, ranks = _which()
    others = ", ".join(f"rank {one}" for one in late)
    what = (
        f"{waited} for {others} to come to `gt.minimize`"
        if waited
        else f"came to `gt.minimize` after {others} had given up waiting for all ranks"
    )
    return GraphtoolError(problems.lost_rank(f"rank {rank} of {ranks} {what}", help=_tail(late)))


def meet(limit: float) -> None:
    """Wait until every rank has come here; from then on each knows when another is lost.

    Where one gives up waiting, all do. Where one has no way to another, all of them go on without
    lines: nothing is compared, and a loss is noticed by Paddle alone. Raises GraphtoolError: GT538.
    Warns with GT538 as well.
    """
    if _launch.peers is not None:
        return
    rank, ranks = _which()
    store = rank_store()
    host = os.environ["PADDLE_CURRENT_ENDPOINT"].rpartition(":")[0]
    _launch.meetings += 1
    meeting = Meeting(
        store=store, number=_launch.meetings, rank=rank, ranks=ranks, end=monotonic() + limit
    )
    try:
        with _stopped_while_waiting(rank, ranks):
            lines = connected(meeting, host)
    except LostRanksError as lost:
        waited = "waited, until that was gone," if lost.gone else f"waited {limit:g} seconds"
        raise _late(lost.ranks, None if lost.gave_up else waited) from None
    except UnreachableError as no_way:
        warn(
            problems.lost_rank(
                f"rank {rank} of {ranks} goes on without a connection to the others: {no_way}",
                severity=Severity.WARNING,
                help="open all TCP ports between the hosts of the launch",
            )
        )
        _launch.peers = Peers({}, _launch.hear)
        return
    _launch.peers = Peers(lines, _launch.hear)
    _say_how_it_ends(_launch.peers)


@contextmanager
def _stopped_while_waiting(rank: int, ranks: int) -> Generator[None, None, None]:
    """Say what was waited for where the launcher stops this rank, as it does once one has died."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        others = tuple(other for other in range(ranks) if other != rank)
        stopped = "was stopped while it waited"
        raise _late(others, stopped) from None

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def require_alike(mine: Description, limit: float) -> None:
    """See that all ranks that this one has a line to train the same.

    Raises GraphtoolError: GT538, GT546, on every rank.
    """
    peers = _launch.peers
    assert peers is not None
    text = "\n".join(mine.lines).encode()
    digest = sha256(text).digest()
    if set(_exchanged(peers, digest, limit).values()) <= {digest}:
        return
    packed = _exchanged(peers, zlib.compress(text), limit)
    texts = {rank: zlib.decompress(data).decode() for rank, data in packed.items()}
    all_ranks = {rank: Description(tuple(theirs.split("\n"))) for rank, theirs in texts.items()}
    all_ranks[_which()[0]] = mine
    _launch.silent = True
    raise GraphtoolError(problems.unequal_ranks(all_ranks))


def _exchanged(peers: Peers, payload: bytes, limit: float) -> dict[int, bytes]:
    _launch.silent = True
    try:
        found = peers.exchange(payload, limit)
    except LostRanksError as lost:
        if lost.gave_up:
            raise _late(lost.ranks, None) from None
        missing = tuple(peers.all[rank] for rank in lost.ranks)
        if any(peer.gone for peer in missing):
            gone = tuple(peer for peer in missing if peer.gone)
            raise GraphtoolError(_launch.loss(gone)) from None
        waited = f"waited {limit:g} seconds"
        raise _late(lost.ranks, waited) from None
    _launch.silent = False
    return found


@contextmanager
def telling(now: str, then: str) -> Generator[None, None, None]:
    """Let the other ranks know what this one is at, and what it is past afterwards."""
    if _launch.peers is not None:
        _launch.peers.tell(now)
    yield
    if _launch.peers is not None:
        _launch.peers.tell(then)


def _say_how_it_ends(peers: Peers) -> None:
    """Tell the others of this rank's end, and of theirs where an error came of it."""
    before, own = sys.excepthook, os.getpid()

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if os.getpid() != own:
            before(kind, error, trace)
            return
        told, _launch.silent = _launch.silent, True
        before(kind, error, trace)
        if kind is RuntimeError and str(error) == _WITHOUT_WORDS:
            lost = peers.lost(_NEWS)
            if not told:
                _launch.say(lost or tuple(peers.all.values()))
            peers.leave(f"stops, having lost rank {lost[0].rank}" if lost else "got no answer")
            return
        first = elided(printable(str(error).partition("\n")[0]), _ROOM)
        peers.leave(f"raised `{kind.__name__}`: {first}")

    def end() -> None:
        _launch.silent = True
        peers.leave(ENDED)

    sys.excepthook = hook
    atexit.register(end)
