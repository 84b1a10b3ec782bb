"""How the ranks of a launch find one another: by what each leaves in Paddle's store.

Meetings are numbered, and each ends in one way for all ranks: one that came late to a meeting that
others gave up does not come into their next one.
"""

from __future__ import annotations

import hmac
import secrets
import socket
from collections.abc import Collection, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import monotonic, sleep

from graphtool.backend.paddle import Paddle
from graphtool.training._peers import LostRanksError

__all__ = ["Meeting", "UnreachableError", "connected"]


_KEYS = "graphtool/ranks"
_END, _AGREED, _GAVE_UP = "end", "all have lines", "gave up: "
# A token of 32 letters and a rank of 8 digits.
_TOKEN, _GREETING = 32, 40
# Seconds between two looks, for a greeting, and for trying an address that answers nobody.
_PAUSE, _POLITE, _REACH = 0.05, 5.0, 20.0
# How Paddle's store says that the rank that holds it, the first, is gone.
_STORE_GONE = (RuntimeError, ValueError)


class UnreachableError(Exception):
    """A rank has come, and another one has no way to it; the text says which, and where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """The n-th time that this rank comes to the others, and when it gives up waiting for them."""

    store: Paddle
    number: int
    rank: int
    ranks: int
    end: float

    @property
    def others(self) -> frozenset[int]:
        """All ranks but this one."""
        return frozenset(range(self.ranks)) - {self.rank}

    def put(self, name: str, text: str) -> None:
        """Leave a text for the others."""
        with _holder_there():
            self.store.set(self._key(name), text)
            self.count(f"{name}/there", 1)

    def found(self, name: str) -> str | None:
        """Return what was put; a store's own `get` would wait for it for ever."""
        with _holder_there():
            there = self.count(f"{name}/there", 0)
            return self.store.get(self._key(name)).decode() if there else None

    def count(self, name: str, more: int) -> int:
        """Add to a number that all ranks see, and return it."""
        with _holder_there():
            return self.store.add(self._key(name), more)

    def _key(self, name: str) -> str:
        return f"{_KEYS}/{self.number}/{name}"

    def settle(self, how: str) -> str:
        """End the meeting, unless another rank has done so; return how it ends for all."""
        if self.count("settled", 1) == 1:
            self.put(_END, how)
        last = monotonic() + _POLITE
        while (said := self.found(_END)) is None:
            # Who was to say so is gone.
            if monotonic() > last:
                raise LostRanksError(self.others)
            sleep(_PAUSE)
        return said

    def heed(self, missing: Collection[int]) -> None:
        """Raise what ended the meeting; give it up where those that are missing are too late."""
        said, mine = self.found(_END), f"{_GAVE_UP}{self.rank}"
        if said is None and monotonic() > self.end:
            said = self.settle(mine)
        if said in (None, _AGREED):
            return
        if said == mine:
            raise LostRanksError(missing)
        if said.startswith(_GAVE_UP):
            raise LostRanksError([int(said.removeprefix(_GAVE_UP))], gave_up=True)
        raise UnreachableError(said)

    def agree(self) -> None:
        """Wait until every rank has its lines, so that all of them have theirs or none."""
        if self.count("connected", 1) == self.ranks:
            self.settle(_AGREED)
        while self.found(_END) != _AGREED:
            self.heed(self.others)
            sleep(_PAUSE)


@contextmanager
def _holder_there() -> Generator[None]:
    try:
        yield
    except _STORE_GONE:
        raise LostRanksError([0], gone=True) from None


def connected(meeting: Meeting, host: str) -> dict[int, Connection]:
    """Connect this rank to every other one, by addresses that they leave in Paddle's store.

    Raises LostRanksError for those that have not come in time, and on every rank the same: where
    one gave up waiting, or UnreachableError where one has no way to another.
    """
    with ExitStack() as opened, _server(host, meeting.ranks) as server:
        token = secrets.token_hex(_TOKEN // 2)
        meeting.put(str(meeting.rank), f"{host} {server.getsockname()[1]} {token}")
        _wait_for_all(meeting)
        lines = {
            lower: opened.enter_context(_called(meeting, lower)) for lower in range(meeting.rank)
        }
        while missing := meeting.others - lines.keys():
            meeting.heed(missing)
            with suppress(TimeoutError):
                caller = _greeted(server.accept()[0], token, meeting.end)
                if caller is not None:
                    lines[caller[0]] = opened.enter_context(caller[1])
        meeting.agree()
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


def _wait_for_all(meeting: Meeting) -> None:
    while missing := [one for one in meeting.others if meeting.found(str(one)) is None]:
        meeting.heed(missing)
        sleep(_PAUSE)


def _called(meeting: Meeting, peer: int) -> Connection:
    # Half of the time is left, for all of them to hear that there is no way.
    last = monotonic() + min(_REACH, (meeting.end - monotonic()) / 2)
    host, port, token = (meeting.found(str(peer)) or "").split()
    while True:
        meeting.heed([peer])
        try:
            return _greet(host, int(port), f"{token}{meeting.rank:08}".encode())
        except OSError as error:
            if monotonic() > last:
                reason = error.strerror or str(error)
                by = f"by rank {meeting.rank}: {reason}"
                meeting.settle(f"rank {peer} cannot be reached at {host}:{port} {by}")
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
