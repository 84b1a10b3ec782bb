"""What a call is refused with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from graphtool.diagnostics import Diagnostic, GraphtoolError


def refused(
    error: type[GraphtoolError], call: Callable[..., object], *arguments: Any, **options: Any
) -> Diagnostic:
    """Return the one Diagnostic of the error that a call raises."""
    with pytest.raises(error) as raised:
        call(*arguments, **options)
    (found,) = raised.value.report
    return found
