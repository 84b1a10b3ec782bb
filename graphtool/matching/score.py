"""How well two Values go together: a weighted mean of parts that a person can check."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import log2, nan
from typing import TYPE_CHECKING, TypeAlias

from graphtool.graph import UNKNOWN
from graphtool.structure import GLOBAL, Role, Structure

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["WEIGHTS", "Comparison", "Part"]

_Array: TypeAlias = "npt.NDArray[np.float64]"

_DIGITS = 3
# So many teacher Values at once are compared with all of the student's.
_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a score: both sides in words, how well they agree (0 to 1), and its weight."""

    name: str
    teacher: str
    student: str
    agreement: float
    weight: float


# What each part weighs. They sum to 1; the benchmark `sensitivity` shows what halving and doubling
# each does to the suggestions.
WEIGHTS: Mapping[str, float] = {
    # H and W are equal in 143 of 165 published pairs of different networks.
    "resolution": 0.35,
    # Every published pair of stage ends is in stage order; small networks are paired by index.
    "place": 0.2,
    # Layer i of a transformer goes with layer i · k: equal fractions of the depth.
    "depth": 0.15,
    # Tells stages apart where depth is uneven: a stage of 23 blocks is one of four all the same.
    "cost": 0.1,
    # Block outputs are chosen, and hardly ever anything inside a block.
    "role": 0.1,
    # Channels are equal in 109 of 192 published pairs: a bonus, no condition.
    "channels": 0.1,
}
# What a Value is to its network: an answer or the end of a stage, the end of a block, or less.
_WHOLE, _BLOCK_END, _INSIDE_A_BLOCK = 1.0, 0.7, 0.3
_WHOLES = frozenset(
    {Role.LOGITS, Role.EMBEDDING, Role.HIDDEN_STATE, Role.ATTENTION, Role.STAGE_END}
)

_ANSWERS = {Role.LOGITS: 1, Role.EMBEDDING: 2, Role.ATTENTION: 3}


@dataclass(frozen=True, slots=True)
class _View:
    """The numbers by which a Value is compared: octaves below the input, fractions of the whole.

    `answer` tells logits, embeddings and attention scores from each other and from features, 0.
    """

    octaves: float | None
    place: float
    depth: float
    cost: float
    role: float
    answer: int
    channels: int
    rank: int


class Comparison:
    """Compares the Values of a teacher with those of a student; each is measured once.

    `is_small` tells that one of the two is for inputs of some 32 × 32.
    """

    def __init__(self, teacher: Structure, student: Structure) -> None:
        self.teacher, self.student = teacher, student
        sides = teacher, student
        self.is_small = any(side.is_for_small_inputs for side in sides)
        self._offsets = tuple(_deepest(side) if self.is_small else 0.0 for side in sides)
        self._views: tuple[dict[str, _View], dict[str, _View]] = ({}, {})

    def fit(self, teacher: str, student: str) -> float:
        """Tell how well two Values go together, from 0 to 1."""
        return round(_mean(_agreements(*self._sides(teacher, student))), _DIGITS)

    def better(self, least: float, teachers: Iterable[str], students: Iterable[str]) -> int:
        """Count the pairs of these Values that go together better than `least`."""
        import numpy as np

        ours = [self._view(0, name) for name in teachers]
        right, count = _columns([self._view(1, name) for name in students]), 0
        for start in range(0, len(ours), _ROWS):
            left = _columns(ours[start : start + _ROWS])
            fits = _fits({name: column[:, None] for name, column in left.items()}, right)
            count += int((np.round(fits, _DIGITS) > least).sum())
        return count

    def parts(self, teacher: str, student: str) -> tuple[Part, ...]:
        """Say what the fit of two Values is made of."""
        agreements = _agreements(*self._sides(teacher, student))
        texts = _texts(self.teacher, teacher), _texts(self.student, student)
        whole = sum(WEIGHTS[name] for name in agreements)
        return tuple(
            Part(
                name=name,
                teacher=texts[0][name],
                student=texts[1][name],
                agreement=agreement,
                weight=WEIGHTS[name] / whole,
            )
            for name, agreement in agreements.items()
        )

    def _sides(self, teacher: str, student: str) -> tuple[_View, _View]:
        return self._view(0, teacher), self._view(1, student)

    def _view(self, side: int, name: str) -> _View:
        views = self._views[side]
        if name not in views:
            structure = self.student if side else self.teacher
            views[name] = _view(structure, name, self._offsets[side])
        return views[name]


def _deepest(structure: Structure) -> float:
    """Networks for small inputs are compared from their deepest map, as their authors do."""
    return _octaves(structure, structure.stages[-1].end) or 0.0 if structure.stages else 0.0


def _octaves(structure: Structure, name: str) -> float | None:
    """Tell how often the sides of a map were halved; None for what is no map."""
    scale = structure.scales.get(name, GLOBAL)
    return None if scale == GLOBAL else -log2(scale.area) / 2


def _view(structure: Structure, name: str, offset: float) -> _View:
    octaves = _octaves(structure, name)
    return _View(
        octaves=None if octaves is None else octaves - offset,
        place=structure.place(name),
        depth=structure.depth(name),
        cost=structure.cost_before(name),
        role=_role(structure, name),
        answer=_ANSWERS.get(structure.role(name), 0),
        channels=structure.channels(name),
        rank=structure.graph.values[name].rank or 0,
    )


def _role(structure: Structure, name: str) -> float:
    if structure.role(name) in _WHOLES:
        return _WHOLE
    return _BLOCK_END if structure.is_on_main_line(name) else _INSIDE_A_BLOCK


def _agreements(a: _View, b: _View) -> dict[str, float]:
    """Compare two Values; a sequence has no resolution that a map could agree with."""
    found = {
        "resolution": _resolution(a.octaves, b.octaves),
        "place": 1 - abs(a.place - b.place),
        "depth": 1 - abs(a.depth - b.depth),
        "cost": 1 - abs(a.cost - b.cost),
        "role": min(a.role, b.role) if a.answer == b.answer else 0.0,
        "channels": float(a.channels == b.channels != UNKNOWN),
    }
    if {a.rank, b.rank} == {3, 4}:
        del found["resolution"]
    return found


def _resolution(a: float | None, b: float | None) -> float:
    """Halve for each octave by which the sides differ."""
    if a is None or b is None:
        return float(a is b)
    return 0.5 ** abs(a - b)


def _mean(agreements: Mapping[str, float]) -> float:
    whole = sum(WEIGHTS[name] for name in agreements)
    return sum(WEIGHTS[name] * value for name, value in agreements.items()) / whole


def _columns(views: Sequence[_View]) -> dict[str, _Array]:
    """Lay Views out as one array for each of their numbers; no octaves are NaN."""
    import numpy as np

    rows: list[list[float]] = [
        [nan if view.octaves is None else view.octaves for view in views],
        *([getattr(view, one.name) for view in views] for one in fields(_View)[1:]),
    ]
    columns = np.array(rows, dtype=float)
    return {one.name: column for one, column in zip(fields(_View), columns, strict=True)}


def _fits(a: Mapping[str, _Array], b: Mapping[str, _Array]) -> _Array:
    """Compute what `_agreements` and `_mean` do, for all pairs of two sides at once."""
    import numpy as np

    gap = np.abs(a["octaves"] - b["octaves"])
    neither = np.isnan(a["octaves"]) & np.isnan(b["octaves"])
    ranks = np.minimum(a["rank"], b["rank"]), np.maximum(a["rank"], b["rank"])
    seen = WEIGHTS["resolution"] * ~((ranks[0] == 3) & (ranks[1] == 4))
    same = (a["channels"] == b["channels"]) & (b["channels"] != UNKNOWN)
    whole = seen + sum(WEIGHTS[name] for name in WEIGHTS if name != "resolution")
    parts = (
        seen * np.where(np.isnan(gap), neither, 0.5**gap),
        *(WEIGHTS[name] * (1 - np.abs(a[name] - b[name])) for name in ("place", "depth", "cost")),
        WEIGHTS["role"] * np.minimum(a["role"], b["role"]) * (a["answer"] == b["answer"]),
        WEIGHTS["channels"] * same,
    )
    return np.sum(parts, axis=0) / whole


def _texts(structure: Structure, name: str) -> Mapping[str, str]:
    sides, scale = structure.sides(name), structure.scales.get(name)
    channels = structure.channels(name)
    return {
        "resolution": f"{sides[0]}×{sides[1]}" if sides else "-" if scale is None else str(scale),
        "place": f"{structure.place(name):.0%}",
        "depth": f"{structure.depth(name):.0%}",
        "cost": f"{structure.cost_before(name):.0%}",
        "role": structure.role(name).value,
        "channels": "?" if channels == UNKNOWN else str(channels),
    }
