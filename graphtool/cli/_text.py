"""How shapes, numbers and foreign text are written, the same in every command."""

from __future__ import annotations

from graphtool.graph import UNKNOWN, Shape, Value
from graphtool.text import bounded, visible

__all__ = ["STEM", "feed_text", "magnitude", "percent", "shape_text", "stage_text", "value_type"]

# As much of a name as is shown whole.
_LONG = 1000
# Of which the number is 0.
STEM = "stem"
_SCALES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def feed_text(teacher: str, student: str) -> str:
    """Write what `--feed` takes for two feeds; a very long name as it is shown."""
    return "=".join(bounded(name) if len(name) > _LONG else name for name in (teacher, student))


def shape_text(shape: Shape | None) -> str:
    """Write a shape as `[?, 512, 7, 7]`; what is not known is `?`."""
    if shape is None:
        return "?"
    return f"[{', '.join('?' if dim == UNKNOWN else str(dim) for dim in shape)}]"


def stage_text(number: int) -> str:
    """Write the number of a stage as `--stage` takes it."""
    return str(number) if number else STEM


def value_type(value: Value) -> str:
    """Write shape and dtype: `[?, 512, 7, 7] float32`."""
    return f"{shape_text(value.shape)} {visible(value.dtype or '?')}"


def magnitude(number: int) -> str:
    """Write a number to three digits: `4.09 G`, `25.6 M`, `812`."""
    for scale, letter in _SCALES:
        # What rounds up to a thousand belongs to the next letter: 999,999 is 1 M.
        if number >= scale * 0.9995:
            return f"{float(f'{number / scale:.3g}'):g} {letter}"
    return str(number)


def percent(fraction: float) -> str:
    """Write a fraction as a whole percentage; what is not zero is not written as zero."""
    return "<1%" if 0 < fraction < 0.005 else f"{fraction:.0%}"
