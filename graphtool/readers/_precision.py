"""Mixed precision that was asked for, and that Paddle leaves out."""

from __future__ import annotations

import sys

from graphtool.diagnostics import warn
from graphtool.readers import problems
from graphtool.readers._paddle import load_paddle

__all__ = ["warn_of_no_effect"]


def warn_of_no_effect() -> None:
    """Warn inside of a `paddle.amp.auto_cast` that casts nothing, as in dynamic mode on a CPU."""
    core = load_paddle().base.core
    if not hasattr(core, "_get_amp_attrs"):  # Paddle 2.6 takes no static Program in it at all.
        return
    # `paddle.amp.auto_cast` is the function; its module knows what was asked for.
    asked = sys.modules["paddle.amp.auto_cast"].amp_state()
    is_on = core._get_amp_attrs()._amp_level != core.AmpLevel.O0  # noqa: SLF001
    if asked and asked.get("enable") and asked.get("level") != "O0" and not is_on:
        warn(problems.auto_cast_without_effect(str(asked.get("dtype"))))
