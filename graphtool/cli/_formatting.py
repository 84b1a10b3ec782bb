"""Format shapes, numbers and names, the same in every command."""

from __future__ import annotations

from graphtool.graph import UNKNOWN_DIM, Shape, Value
from graphtool.text import escaped_bounded, printable

__all__ = ["STEM", "feed_text", "magnitude", "percent", "shape_text", "stage_text", "value_type"]

# Longer names are shortened.
_MAX_WHOLE_NAME = 1000
# The name of stage 0.
STEM = "stem"
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def feed_text(teacher: str, student: str) -> str:
    """Write the value of `--feed` for two feeds; very long names are shortened."""
    return "=".join(
        escaped_bounded(name) if len(name) > _MAX_WHOLE_NAME else name
        for name in (teacher, student)
    )


def shape_text(shape: Shape | None) -> str:
    """Write a shape as `[?, 512, 7, 7]`; unknown dims are `?`."""
    if shape is None:
        return "?"
    return f"[{', '.join('?' if dim == UNKNOWN_DIM else str(dim) for dim in shape)}]"


def stage_text(number: int) -> str:
    """Write the number of a stage as `--stage` takes it."""
    return str(number) if number else STEM


def value_type(value: Value) -> str:
    """Write shape and dtype: `[?, 512, 7, 7] float32`."""
    return f"{shape_text(value.shape)} {printable(value.dtype or '?')}"


def magnitude(number: int) -> str:
    """Write a number to three digits: `4.09 G`, `25.6 M`, `812`."""
    for scale, letter in _SCALES:
        # A number that rounds to a thousand gets the next letter: 999,999 is 1 M.
        if number >= scale * 0.9995:
            return f"{float(f'{number / scale:.3g}'):g} {letter}"
    return str(number)


def percent(fraction: float) -> str:
    """Write a fraction as a whole percentage; small ones are `<1%`."""
    return "<1%" if 0 < fraction < 0.005 else f"{fraction:.0%}"
