"""What is read, matched, merged and drawn: files of chains and networks, and live Programs."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import graphtool as gt

# Paddle has no types that hold for 2.6 and 3.3 alike.
Paddle: TypeAlias = Any

DEEP = 100_000
# How many operators the chain has that is drawn; 30 % of them skip back.
SKIPPING = 10_000
_NETWORKS = ("resnet152", "resnet50", "mobilenet_v1")
_SAVE = """
import random, sys, paddle
paddle.enable_static()
save = paddle.base.core.serialize_pir_program
def built(name):
    main = paddle.static.Program()
    guard = paddle.static.program_guard(main, paddle.static.Program())
    with guard, paddle.utils.unique_name.guard():
        net = getattr(paddle.vision.models, name)()
        net.eval()
        net(paddle.static.data("image", [-1, 3, 224, 224], "float32"))
    return main
for name in sys.argv[2:]:
    save(built(name), f"{name}.json", True, False, True)
    with paddle.pir_utils.OldIrGuard():
        open(f"{name}.pdmodel", "wb").write(built(name).desc.serialize_to_string())
draw = random.Random(0)
main = paddle.static.Program()
with paddle.static.program_guard(main, paddle.static.Program()):
    x = paddle.nn.Linear(64, 64)(paddle.static.data("x", [-1, 64], "float32"))
    made = [x]
    for _ in range(int(sys.argv[1])):
        x = x + made[-min(len(made), draw.randint(2, 20))] if draw.random() < 0.3 else draw.choice(
            (paddle.nn.functional.relu, paddle.tanh, paddle.nn.functional.sigmoid))(x)
        made.append(x)
save(main, "skipping.json", True, False, True)
"""


def saved(name: str) -> str:
    """Return the name of a file in the working directory, with all others made if it is not there.

    Vision networks are `.json` and `.pdmodel`; `skipping.json` is a chain, `deep.json` a long one.
    """
    if name == "deep.json" and not Path(name).exists():
        from tests.benchmarks.reading import json_program

        Path(name).write_bytes(json_program(DEEP))
    if not Path(name).exists():
        command = [sys.executable, "-c", _SAVE, str(SKIPPING), *_NETWORKS]
        subprocess.run(command, check=True, capture_output=True)
    return name


@functools.cache
def static_paddle() -> Paddle:
    """Import Paddle, in static mode."""
    import zlib

    import paddle

    # Paddle 2.6 crashes where it is imported before this.
    assert zlib
    paddle.enable_static()
    return paddle


@contextmanager
def of_kind(kind: str) -> Iterator[None]:
    """Make Programs of a kind, `pir` or `legacy`, for as long as the context lasts."""
    guard = getattr(static_paddle().pir_utils, "OldIrGuard", nullcontext)
    with guard() if kind == "legacy" else nullcontext():
        yield


@functools.cache
def network(name: str, feed: str, kind: str) -> tuple[Paddle, Paddle]:
    """Return the Program of a vision network and a Scope in which it was initialised."""
    paddle = static_paddle()
    main, startup = paddle.static.Program(), paddle.static.Program()
    scope = paddle.static.Scope()
    with of_kind(kind):
        with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
            getattr(paddle.vision.models, name)()(paddle.static.data(feed, [-1, 3, 224, 224]))
        with paddle.static.scope_guard(scope):
            paddle.static.Executor(paddle.CPUPlace()).run(startup)
    return main, scope


@functools.cache
def chain(count: int, feed: str, kind: str) -> Paddle:
    """Return a live Program of `count` activations and additions."""
    paddle = static_paddle()
    with of_kind(kind):
        main = paddle.static.Program()
        with paddle.static.program_guard(main, paddle.static.Program()):
            x = last = paddle.static.data(feed, [-1, 8])
            for index in range(count - 1):
                last = last + x if index % 2 else paddle.nn.functional.relu(last)
    return main


def initialised(name: str, side: int, *, train: bool) -> tuple[gt.Network, Paddle]:
    """Return a vision network for images of side × side, and a Scope where it was initialised."""
    import graphtool as gt

    paddle = static_paddle()
    image = [("image", (3, side, side))]
    built = gt.from_layer(getattr(paddle.vision.models, name), image, train=train)
    scope = paddle.static.Scope()
    with paddle.static.scope_guard(scope):
        paddle.static.Executor(paddle.CPUPlace()).run(built.startup)
    return built, scope
