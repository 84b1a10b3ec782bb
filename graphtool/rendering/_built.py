"""Losses that were built into a merged Program, found where the two networks come together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from graphtool.graph import Graph, Operator, Origin
from graphtool.matching import Kind, Pair, PairSet
from graphtool.matching.pairs import end_of
from graphtool.matching.relations import Sides, relation_of
from graphtool.structure import (
    CONVOLUTIONS,
    POOLS,
    PRODUCTS,
    RESIZES,
    Structure,
    analyse,
    is_training,
    kind_of,
)

__all__ = ["built_pairs"]

# Below it lie the Operators of a part of the distillation loss.
_PART = re.compile(r"/graphtool_distill(?:_\d+)?/(?P<part>[^/]+)/")
_LEFT_OUT = frozenset({Origin.PARAMETER, Origin.FEED})


def built_pairs(
    teacher: Graph, student: Graph, merged: Graph, values: Mapping[str, str]
) -> PairSet:
    """Return what each loss in the merged Program compares, in program order.

    `values` goes from the teacher's Values to those of `merged`; the student's keep their names.
    """
    sides = analyse(teacher), analyse(student)
    search = _Search(merged, {new: old for old, new in values.items()}, student)
    pairs = tuple(
        _pair(joint, rank, *sides) for rank, joint in enumerate(dict.fromkeys(search.joints()), 1)
    )
    return PairSet(teacher=teacher, student=student, pairs=pairs)


@dataclass(frozen=True, slots=True)
class _Joint:
    """A teacher Value and a student Value that a loss compares, and what lies in between."""

    teacher: str
    student: str
    loss: str
    adapter: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Past:
    """What a Value was computed from: Values of both networks, and the student's adapter."""

    teacher: tuple[str, ...] = ()
    student: tuple[str, ...] = ()
    adapter: tuple[str, ...] = ()

    @property
    def is_joint(self) -> bool:
        return bool(self.teacher and self.student)


@dataclass(slots=True)
class _Search:
    merged: Graph
    # Values of the merged Program that are the teacher's -> their own names.
    teacher: Mapping[str, str]
    student: Graph
    pasts: dict[str, _Past] = field(default_factory=dict[str, _Past])

    def joints(self) -> Iterator[_Joint]:
        """Yield what was added to the merge and reads both networks for the first time."""
        for operator in self.merged.operators.values():
            is_packed = operator.kind == "combine"
            if is_packed or is_training(operator) or not self._is_added(operator):
                continue
            read = [self._past(name) for name in self._read(operator)]
            past = _sum(read)
            # What reads neither network is another teacher's: its layers are no adapter.
            if past.teacher or past.student:
                past = _Past(past.teacher, past.student, (*past.adapter, *self._adapter(operator)))
            self.pasts.update(dict.fromkeys(operator.results, past))
            if past.is_joint and not any(one.is_joint for one in read):
                yield from _joints(operator, past)

    def _is_added(self, operator: Operator) -> bool:
        return not any(
            name in self.teacher or name in self.student.values for name in operator.results
        )

    def _read(self, operator: Operator) -> Iterator[str]:
        """Yield what an Operator reads; PIR packs several operands into one before it."""
        for name in operator.operands:
            maker = None if name is None else self.merged.producer(name)
            if maker is not None and maker.kind == "combine":
                yield from filter(None, maker.operands)
            elif name is not None:
                yield name

    def _past(self, name: str) -> _Past:
        if name in self.pasts:
            return self.pasts[name]
        if name in self.teacher:
            own = self.teacher[name]
            return _Past() if self.merged.values[name].origin in _LEFT_OUT else _Past((own,))
        held = self.student.values.get(name)
        return _Past() if held is None or held.origin in _LEFT_OUT else _Past((), (name,))

    def _adapter(self, operator: Operator) -> tuple[str, ...]:
        kind = kind_of(operator)
        weighted = any(
            name is not None and self.merged.values[name].origin is Origin.PARAMETER
            for name in operator.operands
        )
        if weighted and kind in CONVOLUTIONS:
            return ("conv1x1",)
        if weighted and kind in PRODUCTS:
            return ("linear",)
        return ("resize",) if kind in RESIZES | POOLS else ()


def _sum(pasts: list[_Past]) -> _Past:
    return _Past(
        tuple(dict.fromkeys(name for past in pasts for name in past.teacher)),
        tuple(dict.fromkeys(name for past in pasts for name in past.student)),
        tuple(dict.fromkeys(word for past in pasts for word in past.adapter)),
    )


def _joints(operator: Operator, past: _Past) -> Iterator[_Joint]:
    scope = operator.attributes.get("op_namescope")
    place = f"{operator.module or (scope if isinstance(scope, str) else '')}/"
    part = _PART.search(place)
    for teacher, student in zip(past.teacher, past.student, strict=False):
        own = "_" + re.sub(r"[^A-Za-z0-9_.]+", "_", student)
        loss = part["part"].removesuffix(own) if part else "loss"
        yield _Joint(teacher, student, loss, past.adapter)


def _pair(joint: _Joint, rank: int, teacher: Structure, student: Structure) -> Pair:
    graphs = teacher.graph, student.graph
    sides = Sides(
        kind=Kind.FEATURE,
        teacher=teacher,
        teacher_name=joint.teacher,
        student=student,
        student_name=joint.student,
    )
    return Pair(
        rank=rank,
        score=1.0,
        kind=Kind.FEATURE,
        teacher=end_of(graphs[0], graphs[0].values[joint.teacher]),
        student=end_of(graphs[1], graphs[1].values[joint.student]),
        relation=relation_of(sides),
        adapter="+".join(joint.adapter) or None,
        loss=joint.loss,
        why=(),
        warnings=(),
    )
