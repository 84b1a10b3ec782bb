"""Small Programs of both kinds for the rules to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import paddle
from paddle import nn

import graphtool as gt
from graphtool.diagnostics import Diagnostic, Report, Severity


@contextmanager
def _legacy() -> Iterator[None]:
    with paddle.pir_utils.OldIrGuard():
        yield


@contextmanager
def _pir() -> Iterator[None]:
    paddle.enable_static()
    yield


MODES = {"pir": _pir, "legacy": _legacy}


def program(build: Callable[[], object], mode: str = "pir") -> tuple[Any, Any]:
    """Build a main and a startup Program; names count from 0 in each."""
    with MODES[mode]():
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.utils.unique_name.guard(), paddle.static.program_guard(main, startup):
            build()
    return main, startup


def data(name: str, *shape: int, dtype: str = "float32", **options: Any) -> Any:
    """Make a feed."""
    return paddle.static.data(name, list(shape), dtype, **options)


def classifier(
    feed: str = "image",
    *,
    width: int = 4,
    shape: tuple[int, ...] = (-1, 3, 8, 8),
    dtype: str = "float32",
    train: bool = True,
) -> Callable[[], Any]:
    """Return what builds a convolution, a batch norm, dropout and a linear layer."""

    def build() -> Any:
        x = data(feed, *shape, dtype=dtype)
        layers = [nn.Conv2D(3, width, 3), nn.BatchNorm2D(width), nn.ReLU(), nn.Dropout(0.5)]
        body, head = nn.Sequential(*layers), nn.Linear(width, 5)
        for layer in (body, head):
            (layer.train if train else layer.eval)()
        return head(body(x.astype("float32")).mean([2, 3]))

    return build


def scope_of(startup: Any, mode: str = "pir") -> Any:
    """Run a startup Program in a Scope of its own."""
    scope = paddle.static.Scope()
    with MODES[mode](), paddle.static.scope_guard(scope):
        paddle.static.Executor(paddle.CPUPlace()).run(startup)
    return scope


def checked(teacher: Any, student: Any, feed_map: dict[str, str], **options: Any) -> Report:
    """Check a merge of built `(main, startup)` pairs, each with the weights in its own Scope."""
    return gt.check_merge(teacher[0], student[0], feed_map, **options)


def only(report: Report, code: str, severity: Severity | None = None) -> Diagnostic:
    """Return the one Diagnostic of a code, of this severity."""
    (found,) = [found for found in report if found.code == code]
    assert severity in (None, found.severity)
    return found


def codes(report: Report, severity: Severity | None = None) -> list[str]:
    """List the codes that a Report has, those of one severity if asked."""
    return [found.code for found in report if severity in (None, found.severity)]
