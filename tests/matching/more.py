"""How many pairs of further publications are suggested: `cases/more-dev.toml`, `more-held.toml`.

    python -m tests.matching.more [dev | held]

prints the recall among the first eight suggestions and among as many as were published (of the
kinds that were), by configuration and by repository, and the rank of each pair that is missed. Of
`held`, which nothing may be made with, it prints the figures by repository alone.

The family of a case is its repository, its set the domain. What counts as the same Value is what
`families` says.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from graphtool.matching import Pair, suggest_pairs
from tests.matching.families import Case, cases, graph_of, is_pair

_FIRST = 8
# Kinds that differ in name, not in what is compared.
_SAME_KINDS = {"head": "logits", "stage": "feature"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """At which rank each expected pair of a case is suggested, None where it is not.

    `places` are ranks among the suggestions of the kinds that the case expects.
    """

    case: Case
    ranks: tuple[int | None, ...]
    places: tuple[int | None, ...]
    listed: int

    @property
    def found(self) -> int:
        """The number of expected pairs among the first eight suggestions."""
        return sum(rank is not None and rank <= _FIRST for rank in self.ranks)

    @property
    def in_first(self) -> float:
        """The recall among the first eight."""
        return self.found / len(self.ranks)

    @property
    def in_published(self) -> float:
        """The recall among as many suggestions, of the kinds that were published, as were."""
        number = len(self.places)
        return sum(place is not None and place <= number for place in self.places) / number

    def __str__(self) -> str:
        lines = [
            f"  missed, {f'rank {rank}' if rank else 'not listed'}, {pair}: {pair.why}"
            for pair, rank, place in zip(self.case.expected, self.ranks, self.places)
            if rank is None or rank > _FIRST or place is None or place > len(self.places)
        ]
        head = f"{self.in_first:.2f} {self.in_published:.2f} {self.listed:4}"
        return "\n".join([f"{head}  {self.case.name} ({self.case.set})", *lines])


def score(case: Case) -> Score:
    """Compare the suggestions for the networks of a case with what it expects."""
    pairs = suggest_pairs(graph_of(case.teacher), graph_of(case.student))
    kinds = {_kind(kind) for pair in case.expected for kind in (pair.kind or "").split("|")}
    of_kinds = [pair for pair in pairs if _kind(pair.kind) in kinds]
    return Score(
        case=case, ranks=_ranks(case, pairs), places=_ranks(case, of_kinds), listed=len(pairs)
    )


def _kind(name: str) -> str:
    return _SAME_KINDS.get(name, name)


def _ranks(case: Case, pairs: Iterable[Pair]) -> tuple[int | None, ...]:
    return tuple(
        next(
            (
                rank
                for rank, pair in enumerate(pairs, 1)
                if is_pair(case, wanted, pair.teacher.name, pair.student.name)
            ),
            None,
        )
        for wanted in case.expected
    )


def _mean(scores: Iterable[Score]) -> tuple[float, float]:
    rows = [(score.in_first, score.in_published) for score in scores]
    return fmean(row[0] for row in rows), fmean(row[1] for row in rows)


def main(words: Sequence[str]) -> None:
    """Score the configurations of a table and print the result."""
    table = words[0] if words else "dev"
    scores = [score(case) for case in cases(table=f"more-{table}")]
    if table == "dev":
        print("  @8   @n list  configuration", *scores, sep="\n", end="\n\n")
    repositories: dict[str, list[Score]] = defaultdict(list)
    for one in scores:
        repositories[one.case.family].append(one)
    means = {name: _mean(several) for name, several in repositories.items()}
    print("  @8   @n  configurations  repository")
    for name, (first, published) in means.items():
        print(f"{first:.2f} {published:.2f}  {len(repositories[name]):14}  {name}")
    first, published = _mean(scores)
    print(f"\nby configuration: recall@8 {first:.3f}, @n {published:.3f} of {len(scores)}")
    first, published = (fmean(column) for column in zip(*means.values()))
    print(f"by repository:    recall@8 {first:.3f}, @n {published:.3f} of {len(means)}")


if __name__ == "__main__":
    main(sys.argv[1:])
