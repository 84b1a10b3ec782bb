"""What the comparison of two runs found: Value by Value, and weight by weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.diagnostics import counted
from graphtool.graph import Shape
from graphtool.text import bounded, named

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

__all__ = ["Comparison", "Unchecked", "Verification", "array_of", "compared"]

# Tensors are of Paddle's compiled part, which ships no types.
_Paddle: TypeAlias = Any
_Array: TypeAlias = "np.ndarray[Any, Any]"
_Arrays: TypeAlias = "Mapping[str, _Array]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One Value or weight of an original beside the same one of the merged Program.

    `difference` is the largest absolute one, 0.0 where all bytes are equal, infinite where the
    shapes differ or a number stands against none.
    """

    role: str
    name: str
    merged: str
    shape: Shape
    equal: bool
    difference: float


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A weight of the teacher, by its old name, that could not be compared, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found; it is true where all was compared and is bit-equal.

    `comparisons` are Values; `weights` are the teacher's, beside what they came from, as both are
    now; what a recurrence keeps of its dropout is none. Those that could not be compared are
    `unchecked`, and printed as such: they are no pass, so that it is false, and `equal` tells of
    the others.
    """

    comparisons: tuple[Comparison, ...]
    generated: tuple[str, ...] = ()
    weights: tuple[Comparison, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()

    @property
    def equal(self) -> bool:
        """Tell whether all that was compared is bit-equal."""
        return not self.different

    @property
    def different(self) -> tuple[Comparison, ...]:
        """Those that are not bit-equal: Values in program order, then weights."""
        return tuple(row for row in (*self.comparisons, *self.weights) if not row.equal)

    def __bool__(self) -> bool:
        return self.equal and bool(self.comparisons) and not self.unchecked

    def __str__(self) -> str:
        lines = [self._summary()]
        lines += [
            f"  {row.role}  {named(row.name)}  {list(row.shape)}  "
            f"differs by up to {row.difference:.6g}"
            for row in self.different
        ]
        return "\n".join(lines)

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table("role", "Value", "in the merged Program", "shape", "bit-equal")
        table.title = Text(self._summary())
        for row in (*self.comparisons, *self.weights):
            verdict = "yes" if row.equal else f"no: {row.difference:.6g}"
            names = (Text(named(name)) for name in (row.name, row.merged))
            table.add_row(row.role, *names, Text(str(list(row.shape))), verdict)
        return table

    def _summary(self) -> str:
        weights = f" and {_counted(self.weights)} weights" if self.weights else ""
        generated = (
            f"; generated: {', '.join(map(named, self.generated))}" if self.generated else ""
        )
        equal = f"{_counted(self.comparisons)} Values{weights} are bit-equal"
        return f"{equal}{generated}{''.join(self._not_checked())}"

    def _not_checked(self) -> Iterator[str]:
        for why, count in Counter(row.why for row in self.unchecked).items():
            yield f"; not checked: {counted(count, 'weight')} ({bounded(why)})"


def _counted(rows: tuple[Comparison, ...]) -> str:
    return f"{sum(row.equal for row in rows)} of {len(rows)}"


def array_of(tensor: _Paddle) -> _Array:
    """Copy a tensor, or what else numpy takes, to an array."""
    import numpy as np

    return np.array(tensor)


def compared(
    role: str, alone: _Arrays, both: _Arrays, names: Mapping[str, str]
) -> Iterator[Comparison]:
    """Compare arrays by old and new name; what is not on both sides is left out."""
    for name, new in names.items():
        if name not in alone or new not in both:
            continue
        before, after = alone[name], both[new]
        equal = before.shape == after.shape and before.tobytes() == after.tobytes()
        yield Comparison(
            role=role,
            name=name,
            merged=new,
            shape=tuple(after.shape),
            equal=equal,
            difference=0.0 if equal else _difference(before, after),
        )


def _difference(before: _Array, after: _Array) -> float:
    import numpy as np

    if before.shape != after.shape or before.size == 0:
        return float("inf")
    apart = np.abs(_as_float(before) - _as_float(after))
    return float("inf") if np.isnan(apart).any() else float(apart.max())


def _as_float(array: _Array) -> _Array:
    import numpy as np

    if array.dtype == np.uint16:  # How numpy holds bfloat16: the upper half of a float32.
        whole = np.left_shift(array, 16, dtype=np.uint32).tobytes()
        array = np.reshape(np.frombuffer(whole, np.float32), array.shape)
    return array.astype(np.float64)
