"""Make `ClipGradByValue` work under PIR, which Paddle 3.0 to 3.3 don't support."""

from __future__ import annotations

from functools import partial
from typing import cast

from graphtool.backend.paddle import Paddle, load_paddle

__all__ = ["complete_clip"]


def complete_clip(optimizer: Paddle) -> None:
    """Give an optimizer's `ClipGradByValue` a PIR implementation: Paddle has none, and raises."""
    clips = load_paddle().nn.clip
    clip: Paddle = getattr(optimizer, "_grad_clip", None)
    kind = cast("Paddle", type(clip))
    if not issubclass(kind, clips.ClipGradByValue):
        return
    if kind._pir_clip is clips.ClipGradBase._pir_clip:  # noqa: SLF001
        clip._pir_clip = partial(_clipped, clip)  # noqa: SLF001  # Paddle looks it up there


def _clipped(clip: Paddle, gradients: list[tuple[Paddle, Paddle]]) -> list[tuple[Paddle, Paddle]]:
    paddle = load_paddle()
    return [
        (parameter, paddle.clip(gradient, clip.min, clip.max))
        if getattr(parameter, "need_clip", True)
        else (parameter, gradient)
        for parameter, gradient in gradients
        if gradient is not None
    ]
