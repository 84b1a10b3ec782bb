"""Score how well two Values fit: a weighted mean of parts that a person can check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from functools import cache
from math import log2
from typing import Any, TypeAlias

from graphtool.both import Both
from graphtool.graph import UNKNOWN_DIM
from graphtool.structure import GLOBAL, Role, Structure

__all__ = ["WEIGHTS", "ScorePart", "Scorer"]

# A number of one Value, or an array of those of many.
_Number: TypeAlias = Any

_DIGITS = 3
# How many teacher Values are compared with all student Values at once.
_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePart:
    """One part of a score: both sides as text, their agreement from 0 to 1, and the weight."""

    name: str
    teacher: str
    student: str
    agreement: float
    weight: float


# The weights sum to 1; the benchmark `sensitivity` shows what halving and doubling each does to the
# suggestions.
WEIGHTS: Mapping[str, float] = {
    # H and W are equal in 143 of 165 published pairs of different networks.
    "resolution": 0.35,
    # Every published pair of stage ends is in stage order; small networks are paired by index.
    "place": 0.2,
    # Layer i of a transformer goes with layer i · k: equal fractions of the depth.
    "depth": 0.15,
    # Separates stages where depth is uneven: a stage of 23 blocks is still one of four.
    "cost": 0.1,
    # Published pairs take block outputs, and hardly ever a Value inside a block.
    "role": 0.1,
    # Channels are equal in 109 of 192 published pairs: a bonus, no condition.
    "channels": 0.1,
}
# By the role of a Value: an output or the end of a stage, the end of a block, or any other.
_WHOLE, _BLOCK_END, _INSIDE_A_BLOCK = 1.0, 0.7, 0.3
_WHOLES = frozenset(
    {Role.LOGITS, Role.EMBEDDING, Role.HIDDEN_STATE, Role.ATTENTION, Role.STAGE_END}
)
# Values of different categories have no role in common; features are 0.
_CATEGORIES = {Role.LOGITS: 1, Role.EMBEDDING: 2, Role.ATTENTION: 3}


@dataclass(frozen=True, slots=True)
class _Descriptor:
    """The numbers that a Value is compared by, or arrays with those of many Values.

    `octaves` says how often H and W were halved, 0 for a Value that is no map. `place`, `depth` and
    `cost` are fractions of the network.
    """

    is_map: _Number
    octaves: _Number
    place: _Number
    depth: _Number
    cost: _Number
    role: _Number
    category: _Number
    channels: _Number
    rank: _Number


class Scorer:
    """Compares the Values of a teacher with those of a student; each is described once.

    `is_small` is True where either network is for inputs of about 32 × 32.
    """

    def __init__(self, teacher: Structure, student: Structure) -> None:
        self.teacher, self.student = teacher, student
        self.is_small = teacher.is_for_small_inputs or student.is_for_small_inputs
        self._describe_teacher = _describer(teacher, from_deepest=self.is_small)
        self._describe_student = _describer(student, from_deepest=self.is_small)

    def fit(self, teacher: str, student: str) -> float:
        """Return how well two Values fit, from 0 to 1."""
        fit = _fit(_agreements(self._describe_teacher(teacher), self._describe_student(student)))
        return round(fit, _DIGITS)

    def better(self, least: float, teachers: Iterable[str], students: Iterable[str]) -> int:
        """Count the pairs of these Values that fit better than `least`."""
        import numpy as np

        rows: _Number = np.array(
            [astuple(self._describe_teacher(name)) for name in teachers], float
        )
        columns: _Number = np.array([astuple(self._describe_student(x)) for x in students], float)
        student, count = _Descriptor(*columns.T), 0
        for start in range(0, len(rows), _ROWS):
            teacher = _Descriptor(*rows[start : start + _ROWS, :, None].swapaxes(0, 1))
            fits: np.ndarray[Any, Any] = _fit(_agreements(teacher, student))
            count += int((np.round(fits, _DIGITS) > least).sum())
        return count

    def parts(self, teacher: str, student: str) -> tuple[ScorePart, ...]:
        """Return the parts that make up the fit of two Values."""
        agreements = _agreements(self._describe_teacher(teacher), self._describe_student(student))
        texts = Both(_texts(self.teacher, teacher), _texts(self.student, student))
        whole = sum(weight for _, weight in agreements.values())
        return tuple(
            ScorePart(
                name=name,
                teacher=texts.teacher[name],
                student=texts.student[name],
                agreement=agreement,
                weight=weight / whole,
            )
            for name, (agreement, weight) in agreements.items()
            if weight
        )


def _describer(structure: Structure, *, from_deepest: bool) -> Callable[[str], _Descriptor]:
    """Return a function from the name of a Value to its Descriptor, computed once.

    Networks for small inputs are compared from their deepest map up, as their authors do.
    """
    offset = 0.0
    if from_deepest and structure.stages:
        offset = _octaves(structure, structure.stages[-1].end) or 0.0

    @cache
    def describe(name: str) -> _Descriptor:
        octaves, role = _octaves(structure, name), structure.role(name)
        if role in _WHOLES:
            role_score = _WHOLE
        else:
            role_score = _BLOCK_END if structure.is_on_main_line(name) else _INSIDE_A_BLOCK
        return _Descriptor(
            is_map=octaves is not None,
            octaves=0.0 if octaves is None else octaves - offset,
            place=structure.relative_position(name),
            depth=structure.depth(name),
            cost=structure.cost_fraction(name),
            role=role_score,
            category=_CATEGORIES.get(role, 0),
            channels=structure.channels(name),
            rank=structure.graph.values[name].rank or 0,
        )

    return describe


def _octaves(structure: Structure, name: str) -> float | None:
    """Return how often H and W were halved, None for Values that are not maps."""
    scale = structure.scales.get(name, GLOBAL)
    return None if scale == GLOBAL else -log2(scale.area) / 2


def _agreements(teacher: _Descriptor, student: _Descriptor) -> dict[str, tuple[_Number, _Number]]:
    """Return how well two Values agree in each part, from 0 to 1, and the weight of the part.

    Each operation means the same for numbers and for arrays.
    """
    # Equal octaves are 1; each octave between them halves it.
    resolution = 0.5 ** abs(teacher.octaves - student.octaves) * (teacher.is_map == student.is_map)
    # A sequence has no resolution that a map could agree with.
    is_tokens = (abs(teacher.rank - student.rank) == 1) * (teacher.rank + student.rank == 7)
    lower_role = teacher.role * (teacher.role <= student.role)
    lower_role += student.role * (teacher.role > student.role)
    same_channels = 1.0 * (teacher.channels == student.channels)
    return {
        "resolution": (resolution, WEIGHTS["resolution"] * (1 - is_tokens)),
        "place": (1 - abs(teacher.place - student.place), WEIGHTS["place"]),
        "depth": (1 - abs(teacher.depth - student.depth), WEIGHTS["depth"]),
        "cost": (1 - abs(teacher.cost - student.cost), WEIGHTS["cost"]),
        "role": (lower_role * (teacher.category == student.category), WEIGHTS["role"]),
        "channels": (same_channels * (student.channels != UNKNOWN_DIM), WEIGHTS["channels"]),
    }


def _fit(agreements: Mapping[str, tuple[_Number, _Number]]) -> _Number:
    """Return the weighted mean."""
    whole = sum(weight for _, weight in agreements.values())
    return sum(weight * agreement for agreement, weight in agreements.values()) / whole


def _texts(structure: Structure, name: str) -> Mapping[str, str]:
    size, scale = structure.sides(name), structure.scales.get(name)
    channels = structure.channels(name)
    return {
        "resolution": f"{size[0]}×{size[1]}" if size else "-" if scale is None else str(scale),
        "place": f"{structure.relative_position(name):.0%}",
        "depth": f"{structure.depth(name):.0%}",
        "cost": f"{structure.cost_fraction(name):.0%}",
        "role": structure.role(name).value,
        "channels": "?" if channels == UNKNOWN_DIM else str(channels),
    }
