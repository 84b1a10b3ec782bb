"""What holds for all tests: each starts in Paddle's dynamic mode."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def dynamic_mode() -> Iterator[None]:
    """Leave dynamic mode on after a test that switched it off."""
    yield
    paddle = sys.modules.get("paddle")
    if paddle is not None:
        paddle.disable_static()
