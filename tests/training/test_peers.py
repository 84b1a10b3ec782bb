"""Lines between ranks, in one process: what a launch meets seldom, at real sockets and stores."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from time import monotonic, sleep
from typing import Any

import paddle
import pytest

from graphtool.training import _meeting, _ranks
from graphtool.training._meeting import Meeting, UnreachableError, connected
from graphtool.training._peers import ENDED, LostRanksError, Peer, Peers

HERE = "127.0.0.1"
Pair = tuple[Peers, Peers]
Client = Callable[[], Any]


def line() -> tuple[Connection, Connection]:
    first, second = socket.socketpair()
    return Connection(first.detach()), Connection(second.detach())


def nothing(peer: Peer) -> None:
    del peer


@pytest.fixture
def pair() -> Pair:
    first, second = line()
    return Peers({1: first}, nothing), Peers({0: second}, nothing)


@pytest.fixture
def store() -> Iterator[Client]:
    """Make one client after another: each thread needs its own."""
    with socket.create_server((HERE, 0)) as server:
        port = server.getsockname()[1]
    held = client(port, is_master=True)
    yield lambda: client(port)
    del held


def client(port: int, *, is_master: bool = False) -> Any:
    return paddle.base.core.TCPStore(HERE, port, is_master, 1, 30)


def both(pair: Pair, *payloads: bytes) -> list[dict[int, bytes]]:
    with ThreadPoolExecutor() as pool:
        done = [
            pool.submit(one.exchange, given, 5.0) for one, given in zip(pair, payloads, strict=True)
        ]
        return [one.result() for one in done]


def test_a_call_that_one_rank_gave_up_is_given_up_by_all_and_the_next_one_is_in_step(
    pair: Pair,
) -> None:
    first, second = pair
    with pytest.raises(LostRanksError) as late:
        first.exchange(b"first", 0.05)
    assert (late.value.ranks, late.value.gave_up) == ((1,), False)
    while not second.all[0].gave_up:
        sleep(0.01)
    with pytest.raises(LostRanksError) as told:
        second.exchange(b"first", 5.0)
    assert (told.value.ranks, told.value.gave_up) == ((0,), True)
    assert both(pair, b"a", b"b") == [{1: b"b"}, {0: b"a"}]
    assert both(pair, b"c", b"d") == [{1: b"d"}, {0: b"c"}]


def test_a_rank_that_leaves_is_told_from_one_that_is_cut_off(pair: Pair) -> None:
    first, second = pair
    second.leave(ENDED)
    assert [(peer.reason, peer.failed) for peer in first.lost(5.0)] == [(ENDED, False)]


def test_a_loss_is_said_unless_another_rank_has_ended_well(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (first, one), (second, other) = line(), line()
    launch = _ranks._Launch(Peers({1: first, 2: second}, nothing))
    assert launch.peers is not None
    other.close()
    [lost] = launch.peers.lost(5.0)
    launch.hear(lost)
    assert capsys.readouterr().err.startswith(
        "error[GT538] lost-rank: rank 0 of 1 has lost rank 2, which ended without a message\n"
        "  = note: rank 2 last reported in `gt.minimize`\n"
        "  = note: no further step is possible: it takes the gradients of all ranks\n"
    )
    launch.silent = False
    Peers({0: one}, nothing).leave(ENDED)
    while not launch.peers.all[1].gone:
        sleep(0.01)
    launch.hear(lost)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_strangers_neither_come_in_nor_hold_up_the_ranks(
    store: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_meeting, "_POLITE", 0.3)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(come, store(), 0)
        host, port, _ = address(store(), 0).split()
        # One says too little and stays, one says what is not the token, one is gone at once.
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"GET ")
            with socket.create_connection((host, int(port))) as wrong:
                wrong.sendall(b"0" * 40)
            socket.create_connection((host, int(port))).close()
            begun = monotonic()
            second = pool.submit(come, store(), 1)
            lines = first.result(), second.result()
    assert [list(one) for one in lines] == [[1], [0]]
    assert monotonic() - begun < 2


@pytest.mark.slow
def test_a_stranger_makes_nobody_wait_longer_than_the_limit(store: Client) -> None:
    with ThreadPoolExecutor() as pool:
        put(store(), 1, "127.0.0.1 1 token")
        first = pool.submit(come, store(), 0, limit=0.5)
        host, port, _ = address(store(), 0).split()
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"GET ")
            with pytest.raises(LostRanksError):
                first.result(5.0)


@pytest.mark.slow
def test_a_rank_that_is_known_by_an_address_not_its_own_takes_calls_all_the_same(
    store: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_meeting, "_REACH", 0.1)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(come, store(), 0, host="240.0.0.1")
        second = pool.submit(come, store(), 1)
        for one in (first, second):
            with pytest.raises(UnreachableError, match="rank 0 cannot be reached at 240"):
                one.result()


@pytest.mark.slow
def test_a_meeting_that_one_rank_gave_up_is_given_up_by_all_and_the_next_one_is_in_step(
    store: Client,
) -> None:
    with pytest.raises(LostRanksError) as late:
        come(store(), 0, limit=0.1)
    assert (late.value.ranks, late.value.gave_up) == ((1,), False)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(come, store(), 0, number=2)
        with pytest.raises(LostRanksError) as told:
            come(store(), 1)
        assert (told.value.ranks, told.value.gave_up) == ((0,), True)
        second = pool.submit(come, store(), 1, number=2)
        assert (list(first.result()), list(second.result())) == ([1], [0])


@pytest.mark.slow
def test_the_end_of_the_rank_that_holds_the_store_ends_the_waiting() -> None:
    with socket.create_server((HERE, 0)) as server:
        port = server.getsockname()[1]
    held, other = client(port, is_master=True), client(port)
    with ThreadPoolExecutor() as pool:
        second = pool.submit(come, other, 1)
        address(held, 1)
        del held
        with pytest.raises(LostRanksError) as lost:
            second.result()
    assert (lost.value.ranks, lost.value.gone) == ((0,), True)


@pytest.mark.slow
def test_a_rank_that_gives_up_as_the_last_one_comes_goes_on_with_all(store: Client) -> None:
    one, other = meeting(store(), 0, limit=0.0), meeting(store(), 1)
    assert other.settle("all have lines") == "all have lines"
    one.heed([1])
    one.agree()


@pytest.mark.parametrize("then", [sys.exit, lambda: sleep(4)])
@pytest.mark.slow
def test_a_forked_child_has_no_line(then: Callable[[], None]) -> None:
    here, there = line()
    child = os.fork()
    if child == 0:
        here.close()
        rank_with_a_child(there, then)
    there.close()
    peers = Peers({1: here}, nothing)
    assert peers.lost(0.5) == ()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert [peer.reason for peer in peers.lost(2.0)] == [None]


def rank_with_a_child(line: Connection, then: Callable[[], None]) -> None:
    peers = Peers({0: line}, nothing)
    if os.fork() == 0:
        try:
            then()
        finally:
            peers.leave(ENDED)
            os._exit(0)
    sleep(20)
    os._exit(0)


def meeting(store: Any, rank: int, *, number: int = 1, limit: float = 20.0) -> Meeting:
    return Meeting(store=store, number=number, rank=rank, ranks=2, end=monotonic() + limit)


def come(store: Any, rank: int, *, host: str = HERE, **options: Any) -> dict[int, Connection]:
    return connected(meeting(store, rank, **options), host)


def put(store: Any, rank: int, text: str) -> None:
    store.set(f"graphtool/ranks/1/{rank}", text)
    store.add(f"graphtool/ranks/1/{rank}/there", 1)


def address(store: Any, rank: int) -> str:
    while not store.add(f"graphtool/ranks/1/{rank}/there", 0):
        sleep(0.01)
    return store.get(f"graphtool/ranks/1/{rank}").decode()
