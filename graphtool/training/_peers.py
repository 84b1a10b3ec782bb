"""Lines between the ranks of a launch: who has come, what each one does, and who is gone.

A line is a TCP connection, so that the death of a process is seen at once, whatever it died of.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from threading import Condition, Thread
from time import monotonic, sleep
from typing import Any, TypeAlias

__all__ = ["ENDED", "LostRanksError", "Peer", "Peers", "connected"]

# A store is of Paddle's compiled part.
_Paddle: TypeAlias = Any

ENDED = "came to its end"
_ACTIVITY, _REASON, _PAYLOAD = b"a", b"r", b"p"
_KEYS = "graphtool/ranks/"
_PAUSE, _GREETING = 0.05, 5.0
# How Paddle's store says that the rank that holds it, the first, is gone.
_STORE_GONE = (RuntimeError, ValueError)


class LostRanksError(Exception):
    """Other ranks did not come in time, or are gone; `ranks` says which."""

    def __init__(self, ranks: Iterable[int]) -> None:
        super().__init__()
        self.ranks = tuple(sorted(ranks))


@dataclass
class Peer:
    """Another rank: what it said last, why it left, and whether it is gone."""

    rank: int
    activity: str = "in `gt.minimize`"
    reason: str | None = None
    gone: bool = False
    payloads: deque[bytes] = field(default_factory=deque[bytes])

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
        Thread(target=self._listen, name="graphtool-peers", daemon=True).start()

    def tell(self, activity: str) -> None:
        """Let the others know what this rank does from now on."""
        self._send(_ACTIVITY + activity.encode())

    def leave(self, reason: str) -> None:
        """Let the others know why this rank ends."""
        self._send(_REASON + reason.encode())

    def exchange(self, payload: bytes, limit: float) -> dict[int, bytes]:
        """Give every rank a payload and get theirs, by rank.

        Raises LostRanksError where one has not come within `limit` seconds, or is gone.
        """
        self._send(_PAYLOAD + payload)
        with self._changed:
            self._changed.wait_for(self._all_paid_or_lost, limit)
            missing = [peer.rank for peer in self.all.values() if not peer.payloads]
            if missing:
                raise LostRanksError(missing)
            return {peer.rank: peer.payloads.popleft() for peer in self.all.values()}

    def lost(self, patience: float) -> tuple[Peer, ...]:
        """Return those that are gone, after waiting for the news if it has not come yet."""
        with self._changed:
            self._changed.wait_for(lambda: any(peer.gone for peer in self.all.values()), patience)
            return tuple(peer for peer in self.all.values() if peer.gone)

    def _all_paid_or_lost(self) -> bool:
        peers = self.all.values()
        return all(p.payloads for p in peers) or any(p.gone and not p.payloads for p in peers)

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
            with self._changed:
                peer.payloads.append(content)
                self._changed.notify_all()

    def _lose(self, peer: Peer) -> None:
        if peer.gone:
            return
        with self._changed:
            peer.gone = True
            self._changed.notify_all()
        self._on_loss(peer)


def connected(
    store: _Paddle, host: str, rank: int, ranks: int, limit: float
) -> dict[int, Connection]:
    """Connect this rank to every other one, by addresses that they leave in Paddle's store.

    Raises LostRanksError for those that have not come within `limit` seconds.
    """
    end = monotonic() + limit
    token = secrets.token_hex(16)
    with socket.create_server((host, 0), backlog=ranks) as server:
        _put(store, rank, f"{host} {server.getsockname()[1]} {token}")
        there = _addresses(store, set(range(ranks)) - {rank}, end)
        lines = {lower: _called(lower, there[lower], rank) for lower in range(rank)}
        while len(lines) < ranks - 1:
            server.settimeout(max(end - monotonic(), _PAUSE))
            try:
                line = Connection(server.accept()[0].detach())
            except TimeoutError:
                raise LostRanksError(set(there) - set(lines)) from None
            caller = _greeted(line, token)
            if caller is not None:
                lines[caller] = line
    return lines


def _put(store: _Paddle, rank: int, address: str) -> None:
    try:
        store.set(f"{_KEYS}{rank}", address)
        store.add(f"{_KEYS}{rank}/there", 1)
    except _STORE_GONE:
        raise LostRanksError([0]) from None


def _addresses(store: _Paddle, ranks: set[int], end: float) -> dict[int, str]:
    """Wait for what the others put; a store's own `get` would wait for ever."""
    found: dict[int, str] = {}
    while missing := ranks - set(found):
        try:
            there = [rank for rank in missing if store.add(f"{_KEYS}{rank}/there", 0)]
            found.update({rank: store.get(f"{_KEYS}{rank}").decode() for rank in there})
        except _STORE_GONE:
            raise LostRanksError([0]) from None
        if not there and monotonic() > end:
            raise LostRanksError(missing)
        sleep(_PAUSE)
    return found


def _called(peer: int, address: str, rank: int) -> Connection:
    host, port, token = address.split()
    try:
        line = socket.create_connection((host, int(port)), timeout=_GREETING)
    except OSError:
        raise LostRanksError([peer]) from None
    line.settimeout(None)
    connection = Connection(line.detach())
    connection.send_bytes(f"{token} {rank}".encode())
    return connection


def _greeted(line: Connection, token: str) -> int | None:
    """Return the rank that calls, None for a stranger, who does not know the token."""
    try:
        said, _, rank = (
            line.recv_bytes().partition(b" ") if line.poll(_GREETING) else (b"", b"", b"")
        )
    except (EOFError, OSError):
        return None
    return int(rank) if hmac.compare_digest(said, token.encode()) else None
