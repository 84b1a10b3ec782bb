"""The state of Paddle's random generators as plain data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias, cast

from graphtool.readers._paddle import load_paddle
from graphtool.training._checkpoint_file import Random

__all__ = ["is_random_state", "random_state", "set_random_state"]

# Generators and their states are of Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any

_SEEDS, _WORDS = 2**31, 2**64
# Paddle sets no seed beyond, although it takes one.
_SIGNED = 2**63


def random_state() -> tuple[Random, ...]:
    """Return the state of the CPU's generator, and of each GPU's where Paddle runs on those.

    Paddle 2.6 hands out no CPU generator's engine, so there it is seeded anew, from itself.
    """
    return tuple([_spelt(generator) for generator in _generators()])


def is_random_state(saved: Sequence[Random]) -> bool:
    """Tell whether a state can be set here: for as many generators, of the same kind."""
    now = [_taken(generator) for generator in _generators()]
    return len(now) == len(saved) and all(map(_alike, now, saved))


def set_random_state(saved: Sequence[Random]) -> None:
    """Set a state for which `is_random_state` holds."""
    for generator, one in zip(_generators(), saved, strict=True):
        generator.set_state(_made(generator.get_state(), one))


def _generators() -> Iterator[_Paddle]:
    paddle = load_paddle()
    core = paddle.base.core
    yield core.default_cpu_generator()
    if paddle.device.get_device().startswith("gpu"):
        yield from map(core.default_cuda_generator, range(core.get_cuda_device_count()))


def _spelt(generator: _Paddle) -> Random:
    taken = _taken(generator)
    if taken.device >= 0 or taken.engine:
        return taken
    generator.manual_seed(generator.random() % _SEEDS)
    return _taken(generator)


def _taken(generator: _Paddle) -> Random:
    device, seed, offset, *engine = generator.get_state().__getstate__()
    return Random(device, seed, offset, bytes(engine[0]).decode("ascii") if engine else "")


def _alike(now: Random, saved: Random) -> bool:
    numbers = saved.engine.split()
    return (
        (now.device < 0) == (saved.device < 0)
        and len(now.engine.split()) == len(numbers)
        and all(_is_word(number) for number in numbers)
        and 0 <= saved.seed < _SIGNED
        and 0 <= saved.offset < _WORDS
    )


def _is_word(text: str) -> bool:
    """Tell a number of 64 bits."""
    small = len(text) <= len(str(_WORDS))
    return small and text.isascii() and text.isdecimal() and int(text) < _WORDS


def _made(now: _Paddle, saved: Random) -> _Paddle:
    parts = [now.__getstate__()[0], saved.seed, saved.offset]
    if saved.engine:
        parts.append(list(saved.engine.encode("ascii")))
    kind = cast("_Paddle", type(now))
    made: _Paddle = kind.__new__(kind)
    made.__setstate__(tuple(parts))
    return made
