"""Ways to spoil any bytes, and the numbers and texts that are likely to break a reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeVar

from tests.fuzzing.cases import Mutator

T = TypeVar("T")
NUMBERS = (
    *(-1, 0, 1, 2, 3, -2, 7, 255, -(2**31), 2**31 - 1, 2**31, 2**32),
    *(2**62, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**400),
)
TEXTS = (
    *("", " ", "\0", "..", "../../etc/passwd", "/", "//", "a/b/c", "@2", "x@2", "%", "%%x"),
    *("a:b", "x:1", "\n", "\x1b[2J\x1b]0;t\x07", "\u202egnp.exe", "<script>alert(1)</script>"),
    *('"];a->b;"', "\ud800", "é" * 40, "x" * 100_000, "conv2d_0", "_", "\\"),
)


def number(random: Random) -> int:
    """Return a number that is likely to break something."""
    return random.choice(NUMBERS) if random.random() < 0.8 else random.randrange(-70000, 70000)


def text(random: Random) -> str:
    """Return a text that is likely to break something."""
    return random.choice(TEXTS)


def rearranged(random: Random, items: Sequence[T], most: int = 2) -> list[T]:
    """Take an item out, put it elsewhere as well, repeat it, or exchange two."""
    a, b = random.randrange(len(items)), random.randrange(len(items))
    before, item, after = [*items[:a]], [items[a]], [*items[a + 1 :]]
    exchanged = [items[{a: b, b: a}.get(place, place)] for place in range(len(items))]
    elsewhere = [*items[:b], *item, *items[b:]]
    repeated = before + item * random.choice((2, most)) + after
    return random.choice((before + after, elsewhere, repeated, exchanged))


def dims(random: Random, held: Sequence[int]) -> list[int]:
    """Replace, add or take out a dim, or all: none, thousands, negative and huge ones."""
    at, odd = random.randrange(len(held)), [number(random) for _ in range(3)]
    before, after = [*held[:at]], [*held[at + 1 :]]
    new = [], [-1] * 5000, [2**62] * 500, [0] * 4, [-7] * len(held), odd
    one_more = [*before, odd[0], *held[at:]]
    changed = [*before, odd[0], *after], one_more, before + after, random.choice(new)
    return random.choice(changed)


def _truncated(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _flipped(random: Random, data: bytes) -> bytes:
    spoilt = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        spoilt[random.randrange(len(spoilt))] ^= 1 << random.randrange(8)
    return bytes(spoilt)


def _overwritten(random: Random, data: bytes) -> bytes:
    at, length = random.randrange(len(data)), random.choice((1, 2, 4, 8, 64))
    fill = random.choice((b"\0", b"\xff", b"\x80", b"9", b"[", b'"'))
    return data[:at] + fill * length + data[at + length :]


def _inserted(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    pieces = b"\xff\xfe", b"\xed\xa0\x80", b"\0", random.randbytes(8), b"\xef\xbb\xbf", b"{", b"]"
    return data[:at] + random.choice(pieces) + data[at:]


def _moved(random: Random, data: bytes) -> bytes:
    """Cut, repeat or exchange a piece."""
    start = random.randrange(len(data))
    piece = data[start : start + random.choice((1, 3, 16, 200))]
    rest = data[:start] + data[start + len(piece) :]
    at = random.randrange(len(rest) + 1)
    return random.choice((rest, rest[:at] + piece + rest[at:], data[:at] + piece + data[at:]))


BYTES: Mapping[str, Mutator] = {
    "truncation": _truncated,
    "flips": _flipped,
    "overwriting": _overwritten,
    "insertion": _inserted,
    "moves": _moved,
}
