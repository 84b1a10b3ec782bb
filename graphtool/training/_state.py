"""What a training Program and its optimizer keep from step to step, under names that stay."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from graphtool.checks import persistable_names
from graphtool.graph import Graph
from graphtool.merging import Merged
from graphtool.readers.tensors import digest, scope_tensors
from graphtool.training._checkpoint_file import SavedTeacher, Schedule
from graphtool.training._subject import Subject

__all__ = ["RATE", "State"]

# Optimizers, Programs and Scopes are Paddle's, which has no types for 2.6 and 3.3 alike.
_Paddle: TypeAlias = Any

# Where optimizers that wrap another one keep it: mixed precision, LookAhead, fleet.
_INNER = ("_optimizer", "inner_optimizer", "_inner_opt", "user_defined_optimizer")
# The key of the learning rate among the Variables.
RATE = ":learning_rate"
# What `CosineAnnealingWarmRestarts` goes by, and its own state leaves out.
_LEFT_OUT = ("T_cur", "T_i")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """A Program with the optimizers, the outer one first, that move its parameters."""

    subject: Subject
    optimizers: tuple[_Paddle, ...]

    @classmethod
    def of(cls, program: _Paddle, optimizer: _Paddle) -> State:
        """Look at both.

        Raises UsageError: GT248 where `program` is none.
        """
        return cls(subject=Subject.of(program), optimizers=tuple(_chain(optimizer)))

    @property
    def graph(self) -> Graph:
        """The Graph of the Program."""
        return self.subject.graph

    @property
    def optimizer(self) -> str:
        """The classes of the optimizers, the outer one first."""
        return " of ".join(type(one).__name__ for one in self.optimizers)

    @property
    def schedule(self) -> _Paddle | None:
        """The schedule of the learning rate, None where it is a number."""
        rates = (getattr(one, "_learning_rate", None) for one in self.optimizers)
        return next((rate for rate in rates if hasattr(rate, "state_dict")), None)

    @property
    def rate(self) -> float | None:
        """The learning rate where it is a number, as `get_lr` gives it; None for a schedule."""
        if self.schedule is not None:
            return None
        rates = (getattr(one, "_learning_rate", None) for one in self.optimizers)
        return next((float(rate) for rate in rates if isinstance(rate, int | float)), None)

    @property
    def minimized(self) -> bool:
        """Tell whether an optimizer has state in the Program."""
        return any(_rate(one, self.subject.program) is not None for one in self.optimizers)

    def variables(self) -> dict[str, str]:
        """Map keys that stay to names of Variables, which may be counted on, teachers left out.

        A parameter's key is its name; what an optimizer keeps of it is `name:moment1`.
        """
        theirs = {new for merged in self.subject.merges for _, new in merged.plan.weights}
        kept = dict(self._of_optimizers())
        names = [name for name in persistable_names(self.graph) if name not in theirs]
        return dict(sorted((kept.get(name, name), name) for name in names))

    def _of_optimizers(self) -> Iterator[tuple[str, str]]:
        for one in self.optimizers:
            for kind, held in getattr(one, "_accumulators", {}).items():
                yield from ((value.name, f"{name}:{kind}") for name, value in held.items())
            for name, value in getattr(one, "_master_weights", {}).items():
                yield value.name, f"{name}:master_weight"
            rate = _rate(one, self.subject.program)
            if rate is not None:
                yield rate.name, RATE

    def teachers(self, scope: _Paddle) -> tuple[SavedTeacher, ...]:
        """Refer to the merged teachers, whose weights are in the Scope."""
        return tuple(_reference(merged, scope) for merged in self.subject.merges)

    def rates(self) -> Schedule:
        """Return what the schedule keeps."""
        if self.schedule is None:
            return {}
        more = {name: getattr(self.schedule, name) for name in self._left_out()}
        return {**self.schedule.state_dict(), **more}

    def set_rates(self, rates: Schedule) -> None:
        """Give the schedule what it kept."""
        if self.schedule is None:
            return
        left_out = self._left_out()
        with warnings.catch_warnings():
            # A warm-up takes the state of the schedule inside of it for one too many.
            warnings.filterwarnings("ignore", message="There are some unused values")
            kept = {name: held for name, held in rates.items() if name not in left_out}
            self.schedule.set_state_dict(kept)
        for name in left_out:
            setattr(self.schedule, name, rates[name])

    def _left_out(self) -> tuple[str, ...]:
        return tuple(name for name in _LEFT_OUT if hasattr(self.schedule, name))

    def operators(self) -> Mapping[str, int]:
        """Count the operators by type."""
        counts = Counter(operator.type for operator in self.graph.operators.values())
        return dict(sorted(counts.items()))


def _chain(optimizer: _Paddle) -> Iterator[_Paddle]:
    yield optimizer
    inner = (getattr(optimizer, name, None) for name in _INNER)
    wrapped = next((one for one in inner if one is not None), None)
    if wrapped is not None:
        yield from _chain(wrapped)


def _rate(optimizer: _Paddle, program: _Paddle) -> _Paddle | None:
    rates: Mapping[_Paddle, _Paddle] = getattr(optimizer, "_learning_rate_map", {})
    return rates.get(program)


def _reference(merged: Merged, scope: _Paddle) -> SavedTeacher:
    weights = sorted(merged.plan.weights)
    source = merged.source.graph.source.replace("\\", "/").rpartition("/")[2]
    tensors = scope_tensors(scope, (new for _, new in weights))
    return SavedTeacher(source, digest((old for old, _ in weights), tensors))
