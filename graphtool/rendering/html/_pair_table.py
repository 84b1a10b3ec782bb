"""Precompute the pair of any two feature maps, for the page to choose from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from graphtool.matching.candidates import common_pair_kind, pair_kind
from graphtool.matching.relations import AnalysedPair, adapter_of, loss_of, relation_of, warnings
from graphtool.structure import Structure

__all__ = ["PairTable"]

# Feature maps are one class if they agree in everything that a pair depends on. The page knows at
# most this many classes of each network; maps of further classes cannot be paired there.
_MAX_CLASSES = 120

_PairForm = tuple[str, str, str | None, str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class PairTable:
    """The classes of the feature maps of both networks, and the form of a pair of any two.

    A form is kind, relation, adapter, loss and warnings. `rows[t][s]` is the index in `forms` for
    class `t` of the teacher and class `s` of the student.
    """

    teacher_classes: Mapping[str, int]
    student_classes: Mapping[str, int]
    forms: tuple[_PairForm, ...]
    rows: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, teacher: Structure, student: Structure) -> PairTable:
        """Compare each class of the teacher with each class of the student."""
        teacher_classes, student_classes = dict(_classes(teacher)), dict(_classes(student))
        forms: dict[_PairForm, int] = {}
        rows = tuple(
            tuple(
                forms.setdefault(_form(teacher, teacher_name, student, student_name), len(forms))
                for student_name in _representatives(student_classes)
            )
            for teacher_name in _representatives(teacher_classes)
        )
        return cls(teacher_classes, student_classes, tuple(forms), rows)


def _classes(structure: Structure) -> Iterator[tuple[str, int]]:
    """Yield feature maps with their classes, the outputs of blocks first."""
    known: dict[object, int] = {}
    features = structure.flow.features
    for name in dict.fromkeys((*structure.main_line, *structure.flow.steps)):
        key = _class_key(structure, name)
        if name in features and (key in known or len(known) < _MAX_CLASSES):
            yield name, known.setdefault(key, len(known))


def _class_key(structure: Structure, name: str) -> object:
    return (
        structure.graph.values[name].shape,
        structure.channels(name),
        structure.sides(name),
        structure.scales.get(name),
        structure.role(name),
        pair_kind(structure, name),
    )


def _representatives(classes: Mapping[str, int]) -> list[str]:
    """Return the first feature map of each class, in order of class."""
    first: dict[int, str] = {}
    for name, index in classes.items():
        first.setdefault(index, name)
    return [first[index] for index in range(len(first))]


def _form(
    teacher: Structure, teacher_name: str, student: Structure, student_name: str
) -> _PairForm:
    sides = AnalysedPair(
        kind=common_pair_kind(teacher, teacher_name, student, student_name),
        teacher=teacher,
        teacher_name=teacher_name,
        student=student,
        student_name=student_name,
    )
    relation = relation_of(sides)
    return (
        sides.kind.value,
        relation.value,
        adapter_of(sides, relation),
        loss_of(sides, relation),
        tuple(warnings(sides, relation)),
    )
