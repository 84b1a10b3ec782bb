"""Find the losses in a merged Program that compare its teacher and student."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from graphtool.both import Both
from graphtool.graph import Graph, Operator, Origin
from graphtool.matching import Kind, Pair, PairSet
from graphtool.matching.pairs import end_of
from graphtool.matching.relations import AnalysedPair, relation_of
from graphtool.ops import CONVOLUTIONS, POOLS, PRODUCTS, RESIZES, is_training, kind_of
from graphtool.structure import Structure, analyse

__all__ = ["pairs_in_losses"]

# The name scope of one loss of `distill_loss`.
_LOSS_SCOPE = re.compile(r"/graphtool_distill(?:_\d+)?/(?P<part>[^/]+)/")
_IGNORED_ORIGINS = frozenset({Origin.PARAMETER, Origin.FEED})


def pairs_in_losses(
    teacher: Graph, student: Graph, merged: Graph, values: Mapping[str, str]
) -> PairSet:
    """Return the pairs that the losses in a merged Program compare, in program order.

    `values` maps the teacher's Values to those of `merged`; the student's keep their names.
    """
    structures = Both(analyse(teacher), analyse(student))
    finder = _LossFinder(merged, {new: old for old, new in values.items()}, student)
    comparisons = dict.fromkeys(finder.comparisons())
    pairs = tuple(
        _pair(comparison, rank, structures) for rank, comparison in enumerate(comparisons, 1)
    )
    return PairSet(teacher=teacher, student=student, pairs=pairs)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """A teacher Value and a student Value that a loss compares, and the student's adapter."""

    teacher: str
    student: str
    loss: str
    adapter: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Dependencies:
    """The Values of both networks that a Value depends on, and the student's adapter between."""

    teacher: tuple[str, ...] = ()
    student: tuple[str, ...] = ()
    adapter: tuple[str, ...] = ()

    @property
    def has_both(self) -> bool:
        return bool(self.teacher and self.student)


@dataclass(slots=True)
class _LossFinder:
    """Tracks the dependencies of the Operators that were added to a merged Program."""

    merged: Graph
    # The teacher's Values in the merged Program -> their names in the teacher.
    teacher_names: Mapping[str, str]
    student: Graph
    known: dict[str, _Dependencies] = field(default_factory=dict[str, _Dependencies])

    def comparisons(self) -> Iterator[_Comparison]:
        """Yield what added Operators compare, the first on each path to depend on both networks."""
        for operator in self.merged.operators.values():
            only_packs = operator.kind == "combine"
            if only_packs or is_training(operator) or not self._is_added(operator):
                continue
            inputs = [self._dependencies_of(name) for name in self._operands(operator)]
            total = _union(inputs)
            # An Operator that depends on neither belongs to another teacher, not to an adapter.
            if total.teacher or total.student:
                total = replace(total, adapter=(*total.adapter, *self._adapter_part(operator)))
            self.known.update(dict.fromkeys(operator.results, total))
            if total.has_both and not any(dependencies.has_both for dependencies in inputs):
                yield from _comparisons_at(operator, total)

    def _is_added(self, operator: Operator) -> bool:
        return not any(
            name in self.teacher_names or name in self.student.values for name in operator.results
        )

    def _operands(self, operator: Operator) -> Iterator[str]:
        """Yield the operands, unpacking those that PIR packs with a `combine`."""
        for name in operator.operands:
            producer = None if name is None else self.merged.producer(name)
            if producer is not None and producer.kind == "combine":
                yield from filter(None, producer.operands)
            elif name is not None:
                yield name

    def _dependencies_of(self, name: str) -> _Dependencies:
        if name in self.known:
            return self.known[name]
        if name in self.teacher_names:
            if self.merged.values[name].origin in _IGNORED_ORIGINS:
                return _Dependencies()
            return _Dependencies(teacher=(self.teacher_names[name],))
        value = self.student.values.get(name)
        if value is None or value.origin in _IGNORED_ORIGINS:
            return _Dependencies()
        return _Dependencies(student=(name,))

    def _adapter_part(self, operator: Operator) -> tuple[str, ...]:
        kind = kind_of(operator)
        has_weights = any(
            name is not None and self.merged.values[name].origin is Origin.PARAMETER
            for name in operator.operands
        )
        if has_weights and kind in CONVOLUTIONS:
            return ("conv1x1",)
        if has_weights and kind in PRODUCTS:
            return ("linear",)
        return ("resize",) if kind in RESIZES | POOLS else ()


def _union(inputs: list[_Dependencies]) -> _Dependencies:
    return _Dependencies(
        tuple(dict.fromkeys(name for dependencies in inputs for name in dependencies.teacher)),
        tuple(dict.fromkeys(name for dependencies in inputs for name in dependencies.student)),
        tuple(dict.fromkeys(part for dependencies in inputs for part in dependencies.adapter)),
    )


def _comparisons_at(operator: Operator, dependencies: _Dependencies) -> Iterator[_Comparison]:
    """Yield what an Operator compares; the loss is named in its name scope."""
    scope = operator.attributes.get("op_namescope")
    path = f"{operator.module or (scope if isinstance(scope, str) else '')}/"
    match = _LOSS_SCOPE.search(path)
    for teacher, student in zip(dependencies.teacher, dependencies.student, strict=False):
        suffix = "_" + re.sub(r"[^A-Za-z0-9_.]+", "_", student)
        loss = match["part"].removesuffix(suffix) if match else "loss"
        yield _Comparison(teacher, student, loss, dependencies.adapter)


def _pair(comparison: _Comparison, rank: int, structures: Both[Structure]) -> Pair:
    teacher, student = structures.teacher.graph, structures.student.graph
    sides = AnalysedPair(
        kind=Kind.FEATURE,
        teacher=structures.teacher,
        teacher_name=comparison.teacher,
        student=structures.student,
        student_name=comparison.student,
    )
    return Pair(
        rank=rank,
        score=1.0,
        kind=Kind.FEATURE,
        teacher=end_of(teacher, teacher.values[comparison.teacher]),
        student=end_of(student, student.values[comparison.student]),
        relation=relation_of(sides),
        adapter="+".join(comparison.adapter) or None,
        loss=comparison.loss,
        why=(),
        warnings=(),
    )
