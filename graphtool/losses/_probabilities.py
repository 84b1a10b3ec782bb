"""Probabilities in the place of logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from graphtool.checks.probabilities import SAID
from graphtool.losses import _ops as ops

__all__ = ["LEAST", "as_logits"]

# Values and Variables are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# Probabilities below this, which float32 still has logarithms of, count as this.
LEAST = 1e-30


def as_logits(values: Sequence[_Paddle], from_probs: str | None) -> tuple[_Paddle, _Paddle]:
    """Turn the probabilities of a teacher, a student or both into logits.

    Softmax of their logarithms gives them back.
    """
    (teacher, student), said = values, SAID[from_probs]
    return (
        _log(teacher) if "teacher" in said else teacher,
        _log(student) if "student" in said else student,
    )


def _log(probabilities: _Paddle) -> _Paddle:
    return ops.log(ops.floored(probabilities, LEAST))
