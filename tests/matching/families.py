"""Networks of many families, and what an expert would pair in them: `cases/`.

    python -m tests.matching.families [WORD ...]

prints how many of an expert's pairs are suggested, per family; with words, only the cases whose
name, family or set has one of them, and each of their pairs.

`cases.toml` has the pairs. `tuned` cases are what the rules were made with; `wild` and `published`
ones were written down before anything was suggested for them. `networks.tar.xz` has the networks,
as Paddle 3.3.1 saved them: small ones, re-written from the papers and toolkits that name them.
"""

from __future__ import annotations

import atexit
import functools
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from graphtool.graph import Graph, Shape
from graphtool.matching import PairSet, suggest_pairs
from graphtool.sources import read

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_CASES = Path(__file__).with_name("cases")
# What does not change which place of a network a Value stands for, as long as the shape stays.
_TAPS = {
    *("relu", "relu6", "hardswish", "swish", "silu", "gelu", "leaky_relu"),
    *("dropout", "batch_norm", "layer_norm", "scale", "assign", "cast"),
}
_RESHAPES = {"flatten", "reshape", "squeeze"}
# `stage`, `feature`, `hidden_state` and `embedding` differ in name, not in the place.
_KINDS = {"logits": "outputs", "head": "outputs", "attention": "attention"}


@dataclass(frozen=True, slots=True)
class Written:
    """A pair that is written down: each end has the names of the Values that are accepted.

    A pair that is wrong has no `kind`.
    """

    kind: str | None
    teacher: tuple[str, ...]
    student: tuple[str, ...]
    why: str

    def __str__(self) -> str:
        ends = f"{self.teacher[0]} -> {self.student[0]}"
        return f"{self.kind} {ends}" if self.kind else ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Two networks and what an expert would say; the most important pairs come first.

    Any of the first `lead` pairs may be first in a list that is at most `most` long. `finds` is how
    many of the expected pairs graphtool finds, where it does not yet find all.
    """

    name: str
    family: str
    set: str
    teacher: str
    student: str
    expected: tuple[Written, ...]
    never: tuple[Written, ...]
    most: int
    lead: int
    finds: int

    def __str__(self) -> str:
        return self.name.replace(" ", "_").replace("×", "x")


@functools.cache
def cases(*sets: str, table: str = "cases") -> tuple[Case, ...]:
    """Return the cases of some sets of a table, all of them without an argument."""
    with (_CASES / f"{table}.toml").open("rb") as file:
        read_cases = tuple(_case(data) for data in tomllib.load(file)["case"])
    return tuple(case for case in read_cases if not sets or case.set in sets)


def _case(data: dict[str, object]) -> Case:
    def written(kind: str | None, teacher: str, student: str, why: str) -> Written:
        return Written(kind, tuple(teacher.split("|")), tuple(student.split("|")), why)

    given: dict[str, object] = {"most": 8, "lead": 1, **data}
    expected = tuple(written(*row) for row in data["expected"])  # pyright: ignore
    never = tuple(written(None, *row) for row in data.get("never", ()))  # pyright: ignore
    given |= {"expected": expected, "never": never, "finds": data.get("finds", len(expected))}
    return Case(**given)  # pyright: ignore


@functools.cache
def _networks(archive: str) -> Path:
    """Unpack an archive of networks into a folder that lasts as long as the process."""
    folder = tempfile.TemporaryDirectory(prefix="families-")
    atexit.register(folder.cleanup)
    with tarfile.open(_CASES / f"{archive}.tar.xz") as archive:
        archive.extractall(folder.name, filter="data")
    return Path(folder.name)


@functools.cache
def graph_of(network: str) -> Graph:
    """Read a network, once in a process; `archive/name` is in another archive than most."""
    archive, _, name = network.rpartition("/")
    return read(_networks(archive or "networks") / f"{name}.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How a list of suggestions compares with what an expert expects.

    `ranks` holds the rank at which each expected pair is listed, None where it is not.
    """

    case: Case
    ranks: tuple[int | None, ...]
    wrong: tuple[tuple[int, Written], ...]
    first: str
    length: int

    @property
    def found(self) -> int:
        """The number of expected pairs that are listed."""
        return sum(rank is not None for rank in self.ranks)

    @property
    def leads(self) -> bool:
        """Return whether the first suggestion is one that may be first."""
        return 1 in self.ranks[: self.case.lead]

    @property
    def faults(self) -> list[str]:
        """What is wrong with the list, one line for each."""
        case = self.case
        rows = zip(case.expected, self.ranks)
        lines = [f"missed {pair}: {pair.why}" for pair, rank in rows if rank is None]
        lines += [f"#{rank} is wrong, {pair}: {pair.why}" for rank, pair in self.wrong]
        if not self.leads:
            lines.append(f"#1 is {self.first}, and should be {case.expected[0]}")
        if self.length > case.most:
            lines.append(f"{self.length} pairs are listed, at most {case.most} are wanted")
        return lines

    def __str__(self) -> str:
        case = self.case
        head = f"{case.name}: {self.found} of {len(case.expected)} found, {self.length} listed"
        rows = [f"  {rank or '-':>3}  {pair}" for pair, rank in zip(case.expected, self.ranks)]
        return "\n".join([head, *rows, *(f"  ! {fault}" for fault in self.faults)])


def judge(case: Case, pairs: PairSet) -> Verdict:
    """Look up each expected and each wrong pair of a case in a list of suggestions."""

    def ranks(written: Written) -> list[int]:
        return [
            rank
            for rank, pair in enumerate(pairs, 1)
            if written.kind is None or _KINDS.get(pair.kind) == _KINDS.get(written.kind)
            if is_pair(case, written, pair.teacher.name, pair.student.name)
        ]

    return Verdict(
        case=case,
        ranks=tuple(next(iter(ranks(wanted)), None) for wanted in case.expected),
        wrong=tuple((rank, never) for never in case.never for rank in ranks(never)),
        first=next((f"{pair.teacher.name} -> {pair.student.name}" for pair in pairs), "none"),
        length=len(pairs),
    )


def overlaps(case: Case) -> list[tuple[Written, Written]]:
    """Return the expected pairs that a case calls wrong as well; there should be none."""
    return [
        (wanted, never)
        for wanted in case.expected
        for never in case.never
        if any(is_pair(case, never, *ends) for ends in product(wanted.teacher, wanted.student))
    ]


def is_pair(case: Case, written: Written, teacher: str, student: str) -> bool:
    """Return whether two Values are those of a written pair, but for what only taps them."""
    ends = (case.teacher, teacher, written.teacher), (case.student, student, written.student)
    return all(
        any(name in _taps(network, one) or one in _taps(network, name) for one in accepted)
        for network, name, accepted in ends
    )


@functools.cache
def _taps(network: str, name: str) -> list[str]:
    """Return a Value and those that it is a tap of, nearest first."""
    graph, found = graph_of(network), [name]
    while True:
        value, operator = graph.values[found[-1]], graph.producer(found[-1])
        before = operator.operands[0] if operator and operator.operands else None
        if operator is None or before is None or value.output:
            return found
        if not _keeps_place(operator.kind, graph.values[before].shape, value.shape):
            return found
        found.append(before)


def _keeps_place(kind: str, before: Shape | None, after: Shape | None) -> bool:
    if before is None or after is None:
        return False
    if kind in _TAPS:
        return before == after
    # Only axes of size 1 differ; a pooled map of unknown size counts as 1 by 1.
    kept = [[dim for dim in shape if dim != 1] for shape in (before, after)]
    pooled = len(before) == 4 and before[:2] == after and set(before[2:]) <= {-1, 1}
    return kind in _RESHAPES and (kept[0] == kept[1] or pooled)


def main(words: Sequence[str]) -> None:
    """Judge the cases that are asked for and print the result."""
    families: dict[str, list[Verdict]] = defaultdict(list)
    for case in cases():
        text = f"{case.name} {case.family} {case.set}".lower()
        if any(word.lower() in text for word in words) if words else case.set == "tuned":
            pairs = suggest_pairs(graph_of(case.teacher), graph_of(case.student))
            families[case.family].append(judge(case, pairs))
    verdicts = [verdict for several in families.values() for verdict in several]
    if words:
        print(*verdicts, sep="\n\n", end="\n\n")
    print(f"{'family':24} cases  found       recall  first right  wrong  too long")
    for family, several in (*families.items(), ("all", verdicts)):
        found = sum(verdict.found for verdict in several)
        expected = sum(len(verdict.case.expected) for verdict in several)
        print(
            f"{family:24} {len(several):5}  {found:4} of {expected:<4} {found / expected:6.2f}"
            f"  {sum(verdict.leads for verdict in several):4} of {len(several):<4}"
            f" {sum(len(verdict.wrong) for verdict in several):5}"
            f" {sum(verdict.length > verdict.case.most for verdict in several):9}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
