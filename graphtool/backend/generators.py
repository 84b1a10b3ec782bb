"""Paddle's counters of names and its random generators: state of the process."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack
from typing import cast

import msgspec

from graphtool.backend.paddle import Paddle, in_mode, load_paddle
from graphtool.graph import Graph, ProgramKind

__all__ = [
    "GeneratorState",
    "advance_counters",
    "can_restore",
    "counted_names",
    "generators",
    "random_state",
    "restore_counters_on",
    "set_random_state",
]

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


# `batch_norm2d_0.w_1` has two counters: that of `batch_norm2d` and that of `batch_norm2d_0.w`.
_NUMBERED = re.compile(r"_(?P<number>\d+)(?=\.|$)")


def advance_counters(program: Paddle, names: Iterable[str]) -> None:
    """Advance Paddle's counters past the names in a Program, so that new layers get unused ones.

    A network may have been built under other counters, or read from a file. A layer added later,
    such as an adapter, could get the name of an existing one: both would be the same tensor, which
    the startup program then overwrites.
    """
    shared, *per_program = _generators(program)
    for name in names:
        _advance(name.removeprefix(shared.prefix), shared.ids)
        for generator in per_program:
            _advance(name, generator.ids)


def restore_counters_on(program: Paddle, undo: ExitStack) -> None:
    """Make `undo` restore the current counters."""
    for generator in _generators(program):
        undo.callback(setattr, generator, "ids", generator.ids.copy())


def _generators(program: Paddle) -> list[Paddle]:
    """Return the name generator of all Programs, and that of a legacy Program in Paddle 3."""
    with in_mode(static=True):
        # Dynamic mode has another generator, which is not used for Programs.
        shared = load_paddle().base.unique_name.generator
    of_program = getattr(program, "_name_generator", None)
    return [shared] if of_program is None else [shared, of_program]


def counted_names(graph: Graph) -> Iterator[str]:
    """Yield the names in a Graph that one of Paddle's counters may have given."""
    if graph.kind is ProgramKind.LEGACY:
        yield from graph.values
    else:
        yield from (value.name for value in graph.parameters)


def _advance(name: str, counters: MutableMapping[str, int]) -> None:
    for match in _NUMBERED.finditer(name):
        stem = name[: match.start()]
        counters[stem] = max(counters.get(stem, 0), int(match["number"]) + 1)
