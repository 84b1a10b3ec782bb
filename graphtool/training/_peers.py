"""Lines between the ranks of a launch: who has come, what each one does, and who is gone.

A line is a TCP connection, so that the death of a process is seen at once, whatever it died of.
"""

from __future__ import annotations

import hmac
import os
import secrets
import socket
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from struct import Struct
from threading import Condition, Thread
from time import monotonic, sleep
from typing import Any, TypeAlias

__all__ = ["ENDED", "LostRanksError", "Peer", "Peers", "UnreachableError", "connected"]

# A store is of Paddle's compiled part.
_Paddle: TypeAlias = Any

ENDED = "came to its end"
_ACTIVITY, _REASON, _PAYLOAD, _GAVE_UP = b"a", b"r", b"p", b"g"
_NUMBER = Struct("!Q")
_KEYS = "graphtool/ranks/"
# A token of 32 letters and a rank of 8 digits.
_TOKEN, _GREETING = 32, 40
# Seconds between two looks, for a greeting, and for trying an address that answers nobody.
_PAUSE, _POLITE, _REACH = 0.05, 5.0, 20.0
# How Paddle's store says that the rank that holds it, the first, is gone.
_STORE_GONE = (RuntimeError, ValueError)


class LostRanksError(Exception):
    """Other ranks did not come in time, are gone, or gave up waiting; `ranks` says which."""

    def __init__(self, ranks: Iterable[int], *, gave_up: bool = False) -> None:
        super().__init__()
        self.ranks = tuple(sorted(ranks))
        self.gave_up = gave_up


class UnreachableError(Exception):
    """A rank has come, and another one has no way to it; the text says which, and where."""


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


def connected(
    store: _Paddle, host: str, rank: int, ranks: int, limit: float
) -> dict[int, Connection]:
    """Connect this rank to every other one, by addresses that they leave in Paddle's store.

    Raises LostRanksError for those that have not come within `limit` seconds, and on every rank
    UnreachableError where one has no way to another.
    """
    end = monotonic() + limit
    token = secrets.token_hex(_TOKEN // 2)
    with ExitStack() as opened, _server(host, ranks) as server:
        _put(store, str(rank), f"{host} {server.getsockname()[1]} {token}")
        _wait_for(store, set(range(ranks)) - {rank}, end)
        lines = {
            lower: opened.enter_context(_called(store, lower, rank, end)) for lower in range(rank)
        }
        while len(lines) < ranks - 1:
            _see_to_ways(store)
            if monotonic() > end:
                raise LostRanksError(set(range(ranks)) - {rank} - set(lines))
            with suppress(TimeoutError):
                caller = _greeted(server.accept()[0], token, end)
                if caller is not None:
                    lines[caller[0]] = opened.enter_context(caller[1])
        _agree(store, set(lines), end)
        opened.pop_all()
    return lines


def _server(host: str, ranks: int) -> socket.socket:
    try:
        server = socket.create_server((host, 0), backlog=ranks)
    except OSError:
        # An address that others know this machine by need not be one of its own.
        server = socket.create_server(("", 0), backlog=ranks)
    server.settimeout(_PAUSE)
    return server


@contextmanager
def _holder_there() -> Generator[None]:
    try:
        yield
    except _STORE_GONE:
        raise LostRanksError([0]) from None


def _put(store: _Paddle, name: str, text: str) -> None:
    with _holder_there():
        store.set(f"{_KEYS}{name}", text)
        store.add(f"{_KEYS}{name}/there", 1)


def _found(store: _Paddle, name: str) -> str | None:
    """Return what was put; a store's own `get` would wait for it for ever."""
    with _holder_there():
        there = store.add(f"{_KEYS}{name}/there", 0)
        return store.get(f"{_KEYS}{name}").decode() if there else None


def _wait_for(store: _Paddle, ranks: set[int], end: float) -> None:
    while missing := [rank for rank in ranks if _found(store, str(rank)) is None]:
        if monotonic() > end:
            raise LostRanksError(missing)
        sleep(_PAUSE)


def _see_to_ways(store: _Paddle) -> None:
    said = _found(store, "unreachable")
    if said is not None:
        raise UnreachableError(said)


def _agree(store: _Paddle, others: set[int], end: float) -> None:
    """Wait until every rank has its lines, so that all of them have theirs or none."""
    key = f"{_KEYS}connected"
    with _holder_there():
        store.add(key, 1)
        while store.add(key, 0) <= len(others):
            _see_to_ways(store)
            if monotonic() > end:
                store.add(key, -1)
                raise LostRanksError(others)
            sleep(_PAUSE)


def _called(store: _Paddle, peer: int, rank: int, end: float) -> Connection:
    last = min(end, monotonic() + _REACH)
    while True:
        _see_to_ways(store)
        # A rank that gave up waiting and came again has another address.
        host, port, token = (_found(store, str(peer)) or "").split()
        try:
            return _greet(host, int(port), f"{token}{rank:08}".encode())
        except OSError as error:
            if monotonic() > last:
                reason = error.strerror or str(error)
                said = f"rank {peer} cannot be reached at {host}:{port} by rank {rank}: {reason}"
                _put(store, "unreachable", said)
                raise UnreachableError(said) from None
        sleep(_PAUSE)


def _greet(host: str, port: int, greeting: bytes) -> Connection:
    with socket.create_connection((host, port), timeout=_POLITE) as line:
        line.sendall(greeting)
        line.settimeout(None)
        return Connection(line.detach())


def _greeted(line: socket.socket, token: str, end: float) -> tuple[int, Connection] | None:
    """Return the rank that calls, with its line; None for a stranger, who has not the token."""
    said, last = b"", min(end, monotonic() + _POLITE)
    with line:
        while len(said) < _GREETING:
            line.settimeout(max(last - monotonic(), _PAUSE))
            try:
                part = line.recv(_GREETING - len(said))
            except OSError:
                return None
            if not part:
                return None
            said += part
        if not hmac.compare_digest(said[:_TOKEN], token.encode()):
            return None
        line.settimeout(None)
        return int(said[_TOKEN:]), Connection(line.detach())
