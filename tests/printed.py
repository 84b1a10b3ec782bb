"""Whether a run prints what is stored: text exactly, numbers as far as float32 fixes them.

Another processor adds in another order, which moves the last of the 24 bits of a float32. Training
hands that on from step to step, and each multiplies it: of the losses that guides and the notebook
print, after 60 steps of two trainings, the orders of SSE2, AVX2 and AVX-512 leave seven to eight
bits in common (they differ by 0.55 % at most). A number that is printed is rounded as well, and two
that lie on either side of an edge differ by one in the last digit.
"""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["as_stored"]

# The share of a number that its first seven bits leave open.
_UNSURE = Decimal(2) ** -7
# A last digit that is more of its number than this is no rounding: `weight: 0.5`, `0.000`.
_ROUNDED = Decimal("0.05")
# Numbers with a point or an exponent; versions (3.3.1) and names (conv_1.5x) are text.
_NUMBER = r"(?<![\w.])[-+]?\d+(?:\.\d+(?:e[-+]?\d+)?|e[-+]?\d+)(?!\w|\.\d)"
_SPLIT = re.compile(f"({_NUMBER}|…)")


def as_stored(stored: str, printed: str) -> bool:
    """Return whether what was printed is what is stored.

    `…` in what is stored stands for anything within its line.
    """
    parts = _SPLIT.split(stored)
    numbers = [part for part in parts[1::2] if part != "…"]
    pattern = "".join(
        re.escape(part) if place % 2 == 0 else "[^\n]*" if part == "…" else f"({_NUMBER})"
        for place, part in enumerate(parts)
    )
    found = re.fullmatch(pattern, printed)
    return found is not None and all(
        map(_near, map(Decimal, numbers), map(Decimal, found.groups()))
    )


def _near(stored: Decimal, printed: Decimal) -> bool:
    digit = min(one.as_tuple().exponent for one in (stored, printed))
    unit = Decimal(1).scaleb(digit)
    rounding = unit if unit <= _ROUNDED * abs(stored) else 0
    return abs(stored - printed) <= rounding + _UNSURE * abs(stored)
