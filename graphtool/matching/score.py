"""Score how well two Values fit: a weighted mean of parts that a person can check."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from math import log2, nan
from typing import TYPE_CHECKING, TypeAlias

from graphtool.both import Both
from graphtool.graph import UNKNOWN_DIM
from graphtool.structure import GLOBAL, Role, Structure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["WEIGHTS", "ScorePart", "Scorer"]

_Array: TypeAlias = "npt.NDArray[np.float64]"

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
    """The numbers that a Value is compared by.

    `octaves` says how often H and W were halved, None for a Value that is no map. `place`, `depth`
    and `cost` are fractions of the network.
    """

    octaves: float | None
    place: float
    depth: float
    cost: float
    role: float
    category: int
    channels: int
    rank: int


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
        return round(_weighted_mean(self._agreements(teacher, student)), _DIGITS)

    def better(self, least: float, teachers: Iterable[str], students: Iterable[str]) -> int:
        """Count the pairs of these Values that fit better than `least`."""
        import numpy as np

        descriptors = [self._describe_teacher(name) for name in teachers]
        student, count = _columns([self._describe_student(name) for name in students]), 0
        for start in range(0, len(descriptors), _ROWS):
            columns = _columns(descriptors[start : start + _ROWS])
            teacher = {name: column[:, None] for name, column in columns.items()}
            count += int((np.round(_fits(teacher, student), _DIGITS) > least).sum())
        return count

    def parts(self, teacher: str, student: str) -> tuple[ScorePart, ...]:
        """Return the parts that make up the fit of two Values."""
        agreements = self._agreements(teacher, student)
        texts = Both(_texts(self.teacher, teacher), _texts(self.student, student))
        whole = sum(WEIGHTS[name] for name in agreements)
        return tuple(
            ScorePart(
                name=name,
                teacher=texts.teacher[name],
                student=texts.student[name],
                agreement=agreement,
                weight=WEIGHTS[name] / whole,
            )
            for name, agreement in agreements.items()
        )

    def _agreements(self, teacher_name: str, student_name: str) -> dict[str, float]:
        """Return how well two Values agree in each part, from 0 to 1."""
        teacher = self._describe_teacher(teacher_name)
        student = self._describe_student(student_name)
        agreements = {
            "resolution": _resolution_agreement(teacher.octaves, student.octaves),
            "place": 1 - abs(teacher.place - student.place),
            "depth": 1 - abs(teacher.depth - student.depth),
            "cost": 1 - abs(teacher.cost - student.cost),
            "role": min(teacher.role, student.role)
            if teacher.category == student.category
            else 0.0,
            "channels": float(teacher.channels == student.channels != UNKNOWN_DIM),
        }
        if {teacher.rank, student.rank} == {3, 4}:
            # A sequence has no resolution that a map could agree with.
            del agreements["resolution"]
        return agreements


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
            octaves=None if octaves is None else octaves - offset,
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


def _resolution_agreement(teacher: float | None, student: float | None) -> float:
    """Return 1 for equal octaves, half of that for each octave between them."""
    if teacher is None or student is None:
        return float(teacher is student)
    return 0.5 ** abs(teacher - student)


def _weighted_mean(agreements: Mapping[str, float]) -> float:
    whole = sum(WEIGHTS[name] for name in agreements)
    return sum(WEIGHTS[name] * value for name, value in agreements.items()) / whole


def _columns(descriptors: Sequence[_Descriptor]) -> dict[str, _Array]:
    """Return one array per field of the Descriptors; octaves of None are NaN."""
    import numpy as np

    rows: list[list[float]] = [
        [nan if one.octaves is None else one.octaves for one in descriptors],
        *([getattr(one, field.name) for one in descriptors] for field in fields(_Descriptor)[1:]),
    ]
    columns = np.array(rows, dtype=float)
    names = (field.name for field in fields(_Descriptor))
    return dict(zip(names, columns, strict=True))


def _fits(teacher: Mapping[str, _Array], student: Mapping[str, _Array]) -> _Array:
    """Return the fit of all pairs at once, as `_agreements` and `_weighted_mean` compute it."""
    import numpy as np

    gap = np.abs(teacher["octaves"] - student["octaves"])
    neither = np.isnan(teacher["octaves"]) & np.isnan(student["octaves"])
    lower_rank = np.minimum(teacher["rank"], student["rank"])
    higher_rank = np.maximum(teacher["rank"], student["rank"])
    resolution = WEIGHTS["resolution"] * ~((lower_rank == 3) & (higher_rank == 4))
    same_channels = teacher["channels"] == student["channels"]
    same_category = teacher["category"] == student["category"]
    whole = resolution + sum(WEIGHTS[name] for name in WEIGHTS if name != "resolution")
    parts = (
        resolution * np.where(np.isnan(gap), neither, 0.5**gap),
        *(
            WEIGHTS[name] * (1 - np.abs(teacher[name] - student[name]))
            for name in ("place", "depth", "cost")
        ),
        WEIGHTS["role"] * np.minimum(teacher["role"], student["role"]) * same_category,
        WEIGHTS["channels"] * (same_channels & (student["channels"] != UNKNOWN_DIM)),
    )
    return np.sum(parts, axis=0) / whole


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
