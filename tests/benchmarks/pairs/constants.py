"""The constants that suggestions rest on, each halved and doubled."""

from __future__ import annotations

import importlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from unittest import mock

from graphtool.matching import score

__all__ = ["CONSTANTS", "FACTORS", "Constant", "changed"]

FACTORS = (Fraction(1, 2), Fraction(2))


@dataclass(frozen=True, slots=True)
class Constant:
    """A number in a module, or one item of a mapping there.

    `analysed` says that it decides how networks are analysed, not only how they are compared.
    """

    module: str
    name: str
    key: str | None = None
    analysed: bool = False

    def __str__(self) -> str:
        stem = self.module.rpartition(".")[2].removeprefix("_")
        return f"{stem}.{self.name}" if self.key is None else f"weight of {self.key}"


_MATCHING, _STRUCTURE = "graphtool.matching", "graphtool.structure"

CONSTANTS: Sequence[Constant] = (
    *(Constant(score.__name__, "WEIGHTS", part) for part in score.WEIGHTS),
    Constant(score.__name__, "_BLOCK_END"),
    Constant(score.__name__, "_INSIDE_A_BLOCK"),
    Constant(f"{_MATCHING}.candidates", "_LEAST_FIT"),
    Constant(f"{_MATCHING}.suggest", "_MOST"),
    Constant(f"{_STRUCTURE}._structure", "_MAX_STAGES", analysed=True),
    Constant(f"{_STRUCTURE}._structure", "_EIGHTH", analysed=True),
)


@contextmanager
def changed(constant: Constant, factor: Fraction) -> Generator[None]:
    """Multiply a constant by a factor for as long as the context lasts."""
    module = importlib.import_module(constant.module)
    value = getattr(module, constant.name)
    if constant.key is None:
        with mock.patch.object(module, constant.name, _times(value, factor)):
            yield
    else:
        with mock.patch.dict(value, {constant.key: _times(value[constant.key], factor)}):
            yield


def _times(value: float | Fraction, factor: Fraction) -> float | Fraction:
    """Multiply, and keep the type: counts stay whole."""
    return type(value)(value * factor)
