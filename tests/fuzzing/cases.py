"""What is fuzzed: honest inputs, how each is spoilt, and what people then do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import TypeAlias

__all__ = ["Case", "Exercise", "Mutator", "Subject", "cases_of", "named_case"]

# Spoils honest bytes; the same Random gives the same bytes.
Mutator: TypeAlias = Callable[[Random, bytes], bytes]
# Does with the bytes what people do, in an empty folder that is the working directory: returns
# where all went right, raises GraphtoolError for a Diagnostic, and anything else is a finding.
Exercise: TypeAlias = Callable[[bytes, Path], None]


@dataclass(frozen=True, slots=True)
class Subject:
    """One kind of input: `honest` has examples by name, `mutators` the ways to spoil them."""

    name: str
    honest: Mapping[str, bytes]
    mutators: Mapping[str, Mutator]
    exercise: Exercise


@dataclass(frozen=True, slots=True)
class Case:
    """One mutated input, which its name gives again: `subject/mutator/target#seed`."""

    subject: Subject
    mutator: str
    target: str
    seed: int

    def __str__(self) -> str:
        return f"{self.subject.name}/{self.mutator}/{self.target}#{self.seed}"

    @property
    def honest(self) -> bytes:
        """The input before it is spoilt."""
        return self.subject.honest[self.target]

    def data(self) -> bytes:
        """Return the spoilt input."""
        return self.subject.mutators[self.mutator](Random(str(self)), self.honest)


def cases_of(
    subjects: Sequence[Subject], number: int, *, seed: int = 0, only: str = ""
) -> list[Case]:
    """Spread a number of cases evenly over all subjects, mutators and targets that fit `only`."""
    kinds = [
        (subject, mutator, target)
        for subject in subjects
        for mutator in subject.mutators
        for target in subject.honest
        if only in f"{subject.name}/{mutator}/{target}"
    ]
    # So that the first few cases are of all sorts.
    Random(0).shuffle(kinds)
    every = (Case(*kind, place) for place in count(seed) if kinds for kind in kinds)
    return list(islice(every, number if kinds else 0))


def named_case(subjects: Sequence[Subject], name: str) -> Case:
    """Return the case of a name that a finding was printed with.

    Raises LookupError where no subject, mutator or target has that name.
    """
    place, _, seed = name.rpartition("#")
    subject_name, mutator, target = place.split("/", 2)
    subject = {subject.name: subject for subject in subjects}[subject_name]
    if mutator not in subject.mutators or target not in subject.honest:
        raise LookupError(name)
    return Case(subject, mutator, target, int(seed))
