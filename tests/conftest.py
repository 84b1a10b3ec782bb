"""What holds for all tests: none finds what another left in Paddle's global state."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[1]
# Before Paddle is imported, here or in what a test starts: threads of several processes that wait
# for one another on few cores take ten times as long as one thread in each.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A job that a shell runs in the background ignores Ctrl-C, and so would what its tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Start no other processes for named files and tests: each would import Paddle first."""
    named = all("::" in name or name.endswith(".py") for name in config.args)
    return 0 if named else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes minutes: all processes but one would wait for it in the end.

    What starts the oldest Paddle is `nightly`, as what is `longest` is, before marks choose tests.
    """
    for item in items:
        starts_paddle26 = "paddle26" in getattr(item, "fixturenames", ())
        if starts_paddle26 or item.get_closest_marker("longest") is not None:
            item.add_marker(pytest.mark.nightly)
    items.sort(key=lambda item: item.get_closest_marker("first") is None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Build networks in half the time: Paddle keeps the call stack with each operator.

    One frame of it says nothing. A test that looks at lines of code is marked `call_stacks`; of
    those, pytest's own frames, which are some 50, are left out.
    """
    sys.tracebacklimit = 20 if item.get_closest_marker("call_stacks") is not None else 1
    if item.get_closest_marker("pir") is not None:
        import paddle

        if paddle.__version__.startswith("2."):
            pytest.skip("needs Programs of PIR, which Paddle has since 3.0")


@pytest.fixture(scope="session", autouse=True)
def rare_collections() -> Iterator[None]:
    """Look for garbage less often: networks are many objects, and few of them are garbage."""
    before = gc.get_threshold()
    gc.set_threshold(50_000)
    yield
    gc.set_threshold(*before)


@pytest.fixture(autouse=True)
def untouched_paddle() -> Iterator[None]:
    """Give each test a global Scope, default Programs and counters of its own, in dynamic mode."""
    paddle = sys.modules.get("paddle")
    with ExitStack() as guards:
        if paddle is not None:
            static = paddle.static
            guards.enter_context(static.scope_guard(static.Scope()))
            guards.enter_context(static.program_guard(static.Program(), static.Program()))
            guards.enter_context(paddle.utils.unique_name.guard())
        yield
        paddle = sys.modules.get("paddle")
        if paddle is not None:
            paddle.disable_static()


@pytest.fixture
def paddle26() -> str:
    """Return the Python to run what the oldest supported Paddle is to do as well."""
    interpreter = os.environ.get("GRAPHTOOL_PADDLE26_PYTHON")
    if interpreter is None:
        pytest.skip("GRAPHTOOL_PADDLE26_PYTHON names no Python that has Paddle 2.6.2")
    return interpreter


@pytest.fixture
def on_paddle26(paddle26: str) -> Callable[..., str]:
    """Return what runs a module of the tests on the oldest supported Paddle: what it prints."""

    def run(module: str, *given: str) -> str:
        done = subprocess.run(
            [paddle26, "-m", module, *given],
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
