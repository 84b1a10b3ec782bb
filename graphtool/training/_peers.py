"""Lines between the ranks of a launch: who has come, what each one does, and who is gone.

A line is a TCP connection, so that the death of a process is seen at once, whatever it died of.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from struct import Struct
from threading import Condition, Thread

__all__ = ["ENDED", "LostRanksError", "Peer", "Peers"]

ENDED = "finished"
_ACTIVITY, _REASON, _PAYLOAD, _GAVE_UP = b"a", b"r", b"p", b"g"
_NUMBER = Struct("!Q")


class LostRanksError(Exception):
    """Other ranks did not come in time, gave up waiting, or are gone; `ranks` says which."""

    def __init__(self, ranks: Iterable[int], *, gave_up: bool = False, gone: bool = False) -> None:
        super().__init__()
        self.ranks = tuple(sorted(ranks))
        self.gave_up = gave_up
        self.gone = gone


@dataclass
class Peer:
    """Another rank: what it said last, why it left, and whether it is gone."""

    rank: int
    activity: str = "in `gt.minimize`"
    reason: str | None = None
    gone: bool = False
    # By the number of the call of `exchange` that they belong to.
    payloads: dict[int, bytes] = field(default_factory=dict[int, bytes])
    gave_up: int = 0

    @property
    def failed(self) -> bool:
        """Whether it left before it came to its end."""
        return self.gone and self.reason != ENDED


class Peers:
    """The other ranks at the far ends of lines, heard by a thread of its own."""

    def __init__(self, lines: Mapping[int, Connection], on_loss: Callable[[Peer], None]) -> None:
        self.all = {rank: Peer(rank) for rank in sorted(lines)}
        self._lines = {line: self.all[rank] for rank, line in lines.items()}
        self._on_loss = on_loss
        self._changed = Condition()
        self._calls = 0
        # A child that holds a line would hide the death of this rank.
        os.register_at_fork(after_in_child=self._drop)
        Thread(target=self._listen, name="graphtool-peers", daemon=True).start()

    def tell(self, activity: str) -> None:
        """Let the others know what this rank does from now on."""
        self._send(_ACTIVITY + activity.encode())

    def leave(self, reason: str) -> None:
        """Let the others know why this rank ends."""
        self._send(_REASON + reason.encode())

    def exchange(self, payload: bytes, limit: float) -> dict[int, bytes]:
        """Give every rank a payload and get theirs, by rank.

        Calls are numbered: what belongs to an earlier one, which failed, is dropped. Raises
        LostRanksError where one has not come within `limit` seconds, is gone, or gave up this call.
        """
        self._calls += 1
        number = self._calls
        self._send(_PAYLOAD + _NUMBER.pack(number) + payload)
        peers = self.all.values()
        with self._changed:
            for peer in peers:
                peer.payloads = {n: held for n, held in peer.payloads.items() if n >= number}
            self._changed.wait_for(lambda: self._is_settled(number), limit)
            gave_up = [peer.rank for peer in peers if peer.gave_up >= number]
            missing = [peer for peer in peers if number not in peer.payloads]
            if not missing and not gave_up:
                return {peer.rank: peer.payloads.pop(number) for peer in peers}
        if gave_up:
            raise LostRanksError(gave_up, gave_up=True)
        if not any(peer.gone for peer in missing):
            self._send(_GAVE_UP + _NUMBER.pack(number))
        raise LostRanksError(peer.rank for peer in missing)

    def lost(self, patience: float) -> tuple[Peer, ...]:
        """Return those that are gone, after waiting for the news if it has not come yet."""
        with self._changed:
            self._changed.wait_for(lambda: any(peer.gone for peer in self.all.values()), patience)
            return tuple(peer for peer in self.all.values() if peer.gone)

    def _is_settled(self, number: int) -> bool:
        peers = self.all.values()
        absent = [peer for peer in peers if number not in peer.payloads]
        return not absent or any(p.gone for p in absent) or any(p.gave_up >= number for p in peers)

    def _drop(self) -> None:
        for line in self._lines:
            line.close()
        self._lines.clear()

    def _send(self, message: bytes) -> None:
        for line in tuple(self._lines):
            # Where a line is broken, the thread learns of it by itself.
            with suppress(OSError):
                line.send_bytes(message)

    def _listen(self) -> None:
        while self._lines:
            for line in wait(list(self._lines)):
                assert isinstance(line, Connection)
                try:
                    self._take(self._lines[line], line.recv_bytes())
                except (EOFError, OSError):
                    self._lose(self._lines.pop(line))

    def _take(self, peer: Peer, message: bytes) -> None:
        kind, content = message[:1], message[1:]
        if kind == _REASON:
            peer.reason = peer.reason or content.decode()
            self._lose(peer)
        elif kind == _ACTIVITY:
            peer.activity = content.decode()
        else:
            (number,), rest = _NUMBER.unpack(content[: _NUMBER.size]), content[_NUMBER.size :]
            with self._changed:
                if kind == _PAYLOAD:
                    peer.payloads[number] = rest
                else:
                    peer.gave_up = number
                self._changed.notify_all()

    def _lose(self, peer: Peer) -> None:
        if peer.gone:
            return
        with self._changed:
            peer.gone = True
            self._changed.notify_all()
        self._on_loss(peer)
