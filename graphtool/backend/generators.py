"""Paddle's random generators, and their state as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import msgspec

from graphtool.backend.paddle import Paddle, load_paddle

__all__ = ["GeneratorState", "can_restore", "generators", "random_state", "set_random_state"]


_MAX_SEED, _UINT64 = 2**31, 2**64
# Paddle accepts larger seeds, but does not set them.
_INT64 = 2**63


class GeneratorState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The state of a random generator. `device` is -1 for the CPU."""

    device: int
    seed: int
    offset: int
    engine: str


def generators() -> list[Paddle]:
    """Return Paddle's random generators: the CPU's, and each GPU's if Paddle runs on GPUs."""
    paddle = load_paddle()
    core = paddle.base.core
    is_gpu = paddle.device.get_device().startswith("gpu")
    devices = core.get_cuda_device_count() if is_gpu else 0
    return [core.default_cpu_generator(), *map(core.default_cuda_generator, range(devices))]


def random_state() -> tuple[GeneratorState, ...]:
    """Return the state of all generators.

    Paddle 2.6 exposes no engine of the CPU generator, so it is first reseeded from itself there.
    """
    states: list[GeneratorState] = []
    for generator in generators():
        state = _state(generator)
        if state.device < 0 and not state.engine:
            generator.manual_seed(generator.random() % _MAX_SEED)
            state = _state(generator)
        states.append(state)
    return tuple(states)


def can_restore(saved: Sequence[GeneratorState]) -> bool:
    """Return whether a state can be set here: same number of generators, of the same kinds."""
    current = [_state(generator) for generator in generators()]
    return len(current) == len(saved) and all(map(_is_compatible, current, saved))


def set_random_state(saved: Sequence[GeneratorState]) -> None:
    """Set a state for which `can_restore` holds."""
    for generator, state in zip(generators(), saved, strict=True):
        generator.set_state(_paddle_state(generator.get_state(), state))


def _state(generator: Paddle) -> GeneratorState:
    device, seed, offset, *engine = generator.get_state().__getstate__()
    return GeneratorState(device, seed, offset, bytes(engine[0]).decode("ascii") if engine else "")


def _is_compatible(current: GeneratorState, saved: GeneratorState) -> bool:
    words = saved.engine.split()
    return (
        (current.device < 0) == (saved.device < 0)
        and len(current.engine.split()) == len(words)
        and all(_is_uint64(word) for word in words)
        and 0 <= saved.seed < _INT64
        and 0 <= saved.offset < _UINT64
    )


def _is_uint64(text: str) -> bool:
    """Return whether a text is a decimal integer of 64 bits."""
    small = len(text) <= len(str(_UINT64))
    return small and text.isascii() and text.isdecimal() and int(text) < _UINT64


def _paddle_state(current: Paddle, saved: GeneratorState) -> Paddle:
    parts = [current.__getstate__()[0], saved.seed, saved.offset]
    if saved.engine:
        parts.append(list(saved.engine.encode("ascii")))
    kind = cast("Paddle", type(current))
    state: Paddle = kind.__new__(kind)
    state.__setstate__(tuple(parts))
    return state
