"""What a pair would be of any two feature maps: worked out beforehand, as a page cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphtool.matching.candidate import kind_of, kind_of_both
from graphtool.matching.relations import Sides, adapter_of, loss_of, relation_of, warnings
from graphtool.structure import Structure

__all__ = ["Choices"]

# Maps that differ in nothing that a pair depends on are one class. A page has this many at most of
# each network; maps of others cannot be paired there.
_MOST_CLASSES = 120

_Form = tuple[str, str, str | None, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Choices:
    """Classes of the feature maps of both networks, and the form of a pair of each two.

    A form is kind, relation, adapter, loss and warnings; `table[t][s]` is its place in `forms`.
    """

    teacher: Mapping[str, int]
    student: Mapping[str, int]
    forms: tuple[_Form, ...]
    table: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, teacher: Structure, student: Structure) -> Choices:
        """Compare each class with each."""
        left, right = dict(_classes(teacher)), dict(_classes(student))
        forms: dict[_Form, int] = {}
        table = tuple(
            tuple(
                forms.setdefault(_form(teacher, ours, student, theirs), len(forms))
                for theirs in _examples(right)
            )
            for ours in _examples(left)
        )
        return cls(left, right, tuple(forms), table)


def _classes(structure: Structure) -> Iterator[tuple[str, int]]:
    """Yield feature maps with their classes, those at the ends of blocks first."""
    known: dict[object, int] = {}
    features = structure.flow.features
    for name in dict.fromkeys((*structure.main_line, *structure.flow.steps)):
        key = _class(structure, name)
        if name in features and (key in known or len(known) < _MOST_CLASSES):
            yield name, known.setdefault(key, len(known))


def _class(structure: Structure, name: str) -> object:
    return (
        structure.graph.values[name].shape,
        structure.channels(name),
        structure.sides(name),
        structure.scales.get(name),
        structure.role(name),
        kind_of(structure, name),
    )


def _examples(classes: Mapping[str, int]) -> list[str]:
    """Return one feature map of each class, in their order."""
    found: dict[int, str] = {}
    for name, index in classes.items():
        found.setdefault(index, name)
    return [found[index] for index in range(len(found))]


def _form(teacher: Structure, ours: str, student: Structure, theirs: str) -> _Form:
    sides = Sides(
        kind=kind_of_both(teacher, ours, student, theirs),
        teacher=teacher,
        teacher_name=ours,
        student=student,
        student_name=theirs,
    )
    relation = relation_of(sides)
    return (
        sides.kind.value,
        relation.value,
        adapter_of(sides, relation),
        loss_of(sides, relation),
        tuple(warnings(sides, relation)),
    )
