"""The tests' own families, judged with networks that are built and analysed once."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich.table import Table

from graphtool.matching import PairSet
from graphtool.matching.suggest import pairs_of
from graphtool.structure import Structure, analyse
from tests.matching.families import Case, Verdict, cases, graph_of, judge

__all__ = ["Families", "Judged"]


@dataclass(frozen=True, slots=True)
class Judged:
    """What is suggested for each case, and how that compares with an expert's pairs."""

    pairs: Sequence[PairSet]
    verdicts: Sequence[Verdict]

    @property
    def found(self) -> int:
        """The number of expected pairs that are listed."""
        return sum(verdict.found for verdict in self.verdicts)

    @property
    def wrong(self) -> int:
        """The number of wrong pairs that are listed."""
        return sum(len(verdict.wrong) for verdict in self.verdicts)

    def moved(self, before: Judged) -> int:
        """Count the cases whose lists are other than before."""
        both = zip(self.pairs, before.pairs, strict=True)
        return sum(_ends(now) != _ends(old) for now, old in both)


def _ends(pairs: PairSet) -> list[tuple[str, str, str]]:
    return [(pair.kind.value, pair.teacher.name, pair.student.name) for pair in pairs]


class Families:
    """All cases, with the networks analysed when they are first asked for."""

    cases: Sequence[Case] = cases("tuned")

    @cached_property
    def structures(self) -> Mapping[str, Structure]:
        """All networks, analysed with the constants as they are."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._analysed()

    def _analysed(self) -> Mapping[str, Structure]:
        nets = dict.fromkeys(net for case in self.cases for net in (case.teacher, case.student))
        return {net: analyse(graph_of(net)) for net in nets}

    def judged(self, *, anew: bool = False) -> Judged:
        """Judge all cases; `anew` analyses the networks again, since a constant has changed."""
        known = self._analysed() if anew else self.structures
        pairs = [pairs_of(known[case.teacher], known[case.student]) for case in self.cases]
        return Judged(pairs, list(map(judge, self.cases, pairs)))

    def table(self) -> Table:
        """Tabulate by family what is found."""
        table = Table(title="own families")
        for head in ("family", "cases", "found", "expected", "wrong", "too long"):
            table.add_column(head)
        judged = self.judged()
        groups: defaultdict[str, list[Verdict]] = defaultdict(list)
        for verdict in judged.verdicts:
            groups[verdict.case.family].append(verdict)
        for family, verdicts in groups.items():
            table.add_row(family, *_counts(verdicts))
        table.add_section()
        table.add_row("all", *_counts(judged.verdicts))
        return table


def _counts(verdicts: Sequence[Verdict]) -> tuple[str, ...]:
    counts = (
        len(verdicts),
        sum(verdict.found for verdict in verdicts),
        sum(len(verdict.case.expected) for verdict in verdicts),
        sum(len(verdict.wrong) for verdict in verdicts),
        sum(verdict.length > verdict.case.most for verdict in verdicts),
    )
    return tuple(map(str, counts))
