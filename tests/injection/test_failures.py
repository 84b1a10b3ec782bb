"""What is said to be a failure of Paddle's is one."""

from __future__ import annotations

from collections.abc import Callable

import paddle
import pytest

from graphtool.backend.errors import raise_paddle_errors_as
from graphtool.diagnostics import MergeError
from graphtool.text import escaped_bounded

pytestmark = pytest.mark.nightly

NO_TEXT: str = None  # pyright: ignore[reportAssignmentType]  # so that a line of graphtool's fails


def deep(depth: int = 0) -> int:
    return deep(depth + 1) + 1


def of_the_caller(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (lambda: escaped_bounded(NO_TEXT), TypeError),
        (lambda: of_the_caller(ValueError("tau (Temperature) must be positive")), ValueError),
        (lambda: of_the_caller(NotImplementedError("no such file yet")), NotImplementedError),
        (lambda: [1][3], IndexError),
        (lambda: {}["tau"], KeyError),
        (deep, RecursionError),
    ],
)
def test_errors_of_graphtools_and_of_the_callers_own_lines_come_through(
    act: Callable[[], object], kind: type[Exception]
) -> None:
    with pytest.raises(kind), raise_paddle_errors_as(MergeError, "gt.merge"):
        act()


@pytest.mark.parametrize(
    ("act", "said"),
    [
        # In its Python, then in its compiled part, which is called from here.
        (lambda: paddle.static.InputSpec(7), "Type of `shape` in InputSpec should be one of"),
        (lambda: paddle.base.core.Scope().var(3), "incompatible function arguments"),
        (lambda: paddle.base.core.ProgramDesc(b"abc"), "(InvalidArgument) Failed to parse"),
    ],
)
def test_errors_that_paddle_raises_are_said_to_be_its_own(
    act: Callable[[], object], said: str
) -> None:
    with (
        pytest.raises(MergeError, match="GT258") as raised,
        raise_paddle_errors_as(MergeError, "gt.merge"),
    ):
        act()

    assert said in raised.value.report.errors[0].message
