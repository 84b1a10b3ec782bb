"""Results of comparing the merged Program with its originals, by Value and by weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from graphtool.backend.paddle import Paddle
from graphtool.diagnostics import counted
from graphtool.graph import Shape
from graphtool.text import escaped_bounded, printed_name

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

__all__ = ["Comparison", "Unchecked", "Verification", "array_of", "compare"]

_Array: TypeAlias = "np.ndarray[Any, Any]"
_Arrays: TypeAlias = "Mapping[str, _Array]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A Value or weight of an original compared with its counterpart in the merged Program.

    `difference` is the largest absolute difference: 0.0 if all bytes are equal, infinite if the
    shapes differ or either side is NaN.
    """

    role: str
    name: str
    merged: str
    shape: Shape
    equal: bool
    difference: float


@dataclass(frozen=True, slots=True)
class Unchecked:
    """A teacher weight, by its old name, that could not be compared, and why."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of `Merged.verify`; true if everything was compared and is bit-equal.

    `comparisons` holds Values. `weights` holds the teacher's weights against their source, both as
    they are now, without the dropout state of recurrent layers. Weights that could not be compared
    are in `unchecked` and printed as not checked; they make the result false, and `equal` covers
    the rest. `generated` names the feeds that were generated.
    """

    comparisons: tuple[Comparison, ...]
    generated: tuple[str, ...] = ()
    weights: tuple[Comparison, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()

    @property
    def equal(self) -> bool:
        """Return whether everything that was compared is bit-equal."""
        return not self.different

    @property
    def different(self) -> tuple[Comparison, ...]:
        """Comparisons that are not bit-equal: Values in program order, then weights."""
        return tuple(row for row in (*self.comparisons, *self.weights) if not row.equal)

    def __bool__(self) -> bool:
        return self.equal and bool(self.comparisons) and not self.unchecked

    def __str__(self) -> str:
        lines = [self._summary()]
        lines += [
            f"  {row.role}  {printed_name(row.name)}  {list(row.shape)}  "
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
            names = (Text(printed_name(name)) for name in (row.name, row.merged))
            table.add_row(row.role, *names, Text(str(list(row.shape))), verdict)
        return table

    def _summary(self) -> str:
        weights = f" and {_equal_count(self.weights)} weights" if self.weights else ""
        generated = (
            f"; generated: {', '.join(map(printed_name, self.generated))}" if self.generated else ""
        )
        equal = f"{_equal_count(self.comparisons)} Values{weights} are bit-equal"
        return f"{equal}{generated}{''.join(self._unchecked_notes())}"

    def _unchecked_notes(self) -> Iterator[str]:
        for why, count in Counter(row.why for row in self.unchecked).items():
            yield f"; not checked: {counted(count, 'weight')} ({escaped_bounded(why)})"


def _equal_count(comparisons: tuple[Comparison, ...]) -> str:
    return f"{sum(row.equal for row in comparisons)} of {len(comparisons)}"


def array_of(tensor: Paddle) -> _Array:
    """Copy a tensor, or anything else that NumPy accepts, to an array."""
    import numpy as np

    return np.array(tensor)


def compare(
    role: str, originals: _Arrays, merged: _Arrays, names: Mapping[str, str]
) -> Iterator[Comparison]:
    """Compare arrays by pairs of old and new names; pairs without both arrays are skipped."""
    for name, new in names.items():
        if name not in originals or new not in merged:
            continue
        original, copied = originals[name], merged[new]
        equal = original.shape == copied.shape and original.tobytes() == copied.tobytes()
        yield Comparison(
            role=role,
            name=name,
            merged=new,
            shape=tuple(copied.shape),
            equal=equal,
            difference=0.0 if equal else _difference(original, copied),
        )


def _difference(original: _Array, copied: _Array) -> float:
    import numpy as np

    if original.shape != copied.shape or original.size == 0:
        return float("inf")
    difference = np.abs(_as_float(original) - _as_float(copied))
    return float("inf") if np.isnan(difference).any() else float(difference.max())


def _as_float(array: _Array) -> _Array:
    import numpy as np

    if array.dtype == np.uint16:  # NumPy holds bfloat16 as the upper half of a float32.
        data = np.left_shift(array, 16, dtype=np.uint32).tobytes()
        array = np.reshape(np.frombuffer(data, np.float32), array.shape)
    return array.astype(np.float64)
