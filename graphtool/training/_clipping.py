"""Make `ClipGradByValue` work under PIR, which Paddle 3.0 to 3.3 don't support."""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias, cast

from graphtool.readers._paddle import load_paddle

__all__ = ["complete_clip"]

# Paddle ships no types for optimizers, gradient clipping and Values.
_Paddle: TypeAlias = Any


def complete_clip(optimizer: _Paddle) -> None:
    """Give an optimizer's `ClipGradByValue` a PIR implementation: Paddle has none, and raises."""
    clips = load_paddle().nn.clip
    clip: _Paddle = getattr(optimizer, "_grad_clip", None)
    kind = cast("_Paddle", type(clip))
    if not issubclass(kind, clips.ClipGradByValue):
        return
    if kind._pir_clip is clips.ClipGradBase._pir_clip:  # noqa: SLF001
        clip._pir_clip = partial(_clipped, clip)  # noqa: SLF001  # Paddle looks it up there


def _clipped(
    clip: _Paddle, gradients: list[tuple[_Paddle, _Paddle]]
) -> list[tuple[_Paddle, _Paddle]]:
    paddle = load_paddle()
    return [
        (parameter, paddle.clip(gradient, clip.min, clip.max))
        if getattr(parameter, "need_clip", True)
        else (parameter, gradient)
        for parameter, gradient in gradients
        if gradient is not None
    ]
